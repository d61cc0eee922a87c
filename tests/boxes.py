"""Run a command as containers do: a user without a name, no home, no network, nothing writable but what is given.

With bwrap all of that; without it, where we are root, a child of another user id, which can write nowhere but into what
is given to it and the world's temporary folders. Where neither works there is nothing to test with: that is a skip at a
developer's desk and a failure in continuous integration, so that it cannot go unseen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, Finished

USER = 12345
PREFIX = Path(sys.prefix).resolve()


@dataclass(frozen=True)
class Box:
    """Where commands run.

    Attributes
    ----------
    folder
        Made for the test; only ``folder/out`` can be written to from inside.
    sealed
        Whether the file system is read-only and the network is gone, not only the user's rights.
    """

    folder: Path
    sealed: bool

    def run(self, *words: object, **environment: str) -> Finished:
        """Run our run.py inside."""
        command = [sys.executable, str(ROOT / "run.py"), *map(str, words)]
        clean = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", **environment}
        process = subprocess.run(
            [*self._bwrap(), *command] if self.sealed else command,
            env=clean,
            cwd="/",
            user=None if self.sealed else USER,
            group=None if self.sealed else USER,
            extra_groups=None if self.sealed else (),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Finished(process.returncode, process.stdout)

    def _bwrap(self) -> list[str]:
        out = str(self.folder / "out")
        shown = [part for path in (ROOT, PREFIX, self.folder) for part in ("--ro-bind", str(path), str(path))]
        return [
            *("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"),
            *(*shown, "--bind", out, out, "--chdir", "/"),
            *("--unshare-user", "--uid", str(USER), "--gid", str(USER), "--unshare-net", "--die-with-parent"),
        ]


@contextmanager
def box() -> Iterator[Box]:
    """An empty box; skips the test where there can be none, and fails it in continuous integration."""
    folder = Path(tempfile.mkdtemp(prefix="hippotune-box-", dir="/tmp"))
    try:
        (folder / "out").mkdir()
        folder.chmod(0o755)
        one = Box(folder, sealed=True)
        if _runs([*one._bwrap(), "true"]):
            yield one
        elif os.geteuid() == 0 and _can_read_us():
            os.chown(folder / "out", USER, USER)
            yield Box(folder, sealed=False)
        elif os.environ.get("CI"):
            pytest.fail("neither bwrap nor root: the contract of BIDS Apps is not tested; install bubblewrap")
        else:
            pytest.skip("needs bubblewrap (apt-get install bubblewrap) or root")
    finally:
        shutil.rmtree(folder)


def _can_read_us() -> bool:
    return _runs([sys.executable, str(ROOT / "run.py"), "--version"], user=USER)


def _runs(command: list[str], user: int | None = None) -> bool:
    try:
        return subprocess.run(command, user=user, cwd="/", capture_output=True, check=False).returncode == 0
    except OSError:
        return False
