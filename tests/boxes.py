"""Run a command as containers do: a user without a name, no home, no network, nothing writable but what is given.

With bubblewrap, or with the namespaces of util-linux where it is missing. Where the kernel allows neither, nothing can
be tested: that is a skip whose reason pytest prints, and in continuous integration a warning too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, Finished

USER = 12345
PREFIX = Path(sys.prefix).resolve()
NOT_TESTED = "NOT TESTED HERE: the contract of BIDS Apps; neither bwrap nor unshare can make a container"

_UNSHARE = """
set -e
mount --make-rprivate /
for place in "$1"/*/; do mount --bind "$place" "$place"; done
mount -t tmpfs tmpfs /var/tmp
mount -o remount,bind,ro /
shift
exec unshare --user --map-user="$USER_ID" --map-group="$USER_ID" -- env --unset=USER_ID "$@"
"""


@dataclass(frozen=True)
class Box:
    """Where commands run.

    Attributes
    ----------
    folder
        Made for the test; only ``out`` and ``scratch`` in ``folder/disks`` can be written to from inside, and both are
        where a disk is mounted.
    tool
        ``bwrap`` or ``unshare``.
    """

    folder: Path
    tool: str

    @property
    def out(self) -> Path:
        """For an OUTPUT_DIR."""
        return self.folder / "disks" / "out"

    @property
    def scratch(self) -> Path:
        """For what else is written."""
        return self.folder / "disks" / "scratch"

    def run(self, *words: object, **environment: str) -> Finished:
        """Run our run.py inside."""
        return self.run_program(sys.executable, ROOT / "run.py", *words, **environment)

    def run_program(self, *words: object, **environment: str) -> Finished:
        """Run any command inside."""
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", **environment}
        process = subprocess.run(
            [*(self._bwrap() if self.tool == "bwrap" else self._unshare()), *map(str, words)],
            env=clean if self.tool == "bwrap" else clean | {"USER_ID": str(USER)},
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Finished(process.returncode, process.stdout)

    def _bwrap(self) -> list[str]:
        disks = [part for one in (self.out, self.scratch) for part in ("--bind", str(one), str(one))]
        shown = [part for path in (ROOT, PREFIX, self.folder) for part in ("--ro-bind", str(path), str(path))]
        return [
            *("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"),
            *(*shown, *disks, "--chdir", "/"),
            *("--unshare-user", "--uid", str(USER), "--gid", str(USER), "--unshare-net", "--die-with-parent"),
        ]

    def _unshare(self) -> list[str]:
        make = ("unshare", "--map-root-user", "--mount", "--net", "--", "sh", "-c", _UNSHARE, "sh")
        return [*make, str(self.folder / "disks")]


@contextmanager
def box() -> Iterator[Box]:
    """An empty box; skips the test where there can be none."""
    folder = Path(tempfile.mkdtemp(prefix="hippotune-box-", dir="/tmp"))
    try:
        boxes = [Box(folder, "bwrap"), Box(folder, "unshare")]
        for disk in (boxes[0].out, boxes[0].scratch):
            disk.mkdir(parents=True)
        possible = [one for one in boxes if _works(one)]
        if not possible:
            if os.environ.get("CI"):
                warnings.warn(NOT_TESTED, stacklevel=2)
            pytest.skip(NOT_TESTED)
        yield possible[0]
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def container() -> Iterator[Box]:
    """An empty box for the tests of a module."""
    with box() as one:
        yield one


def _works(one: Box) -> bool:
    if shutil.which(one.tool) is None:
        return False
    return one.run_program("sh", "-c", f"id -u; touch {one.folder}/beside 2>/dev/null || echo sealed").output == (
        f"{USER}\nsealed\n"
    )
