"""Kills a run, or fills its disk, at every operation on files in turn; then the same command must mend everything.

The run is a forked process whose operations below a folder are counted (Python's audit events, and `os.write`, which
has none). At the n-th it dies as from SIGKILL, or the disk is full from there on. A dying or full write leaves half.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np

Mode = Literal["killed", "disk full"]
MODES: tuple[Mode, ...] = ("killed", "disk full")

KILLED = 137
_NEEDS_ROOM = {"open", "os.mkdir", "os.link", "os.rename", "os.write"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_EVENTS = {"open", "os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.truncate"}
_TIMES = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{4,8}(?:[+-][0-9:]{5}|-[0-9]+)?|[0-9]{8}-[0-9]{6}|\b[0-9]{19}\b"
)
_NOT_COMPARED = {"logs", "work", "tensorboard"}
_NNUNETS_LOG = "training_log_"


def run_disturbed(
    command: Callable[[], int], root: Path, *, at: int | None = None, mode: Mode = "killed", trace: Path | None = None
) -> int:
    """Run `command` in a forked process that is disturbed at its `at`-th operation below `root`; gives its exit code.

    Parameters
    ----------
    trace
        Where the operations are listed, one a line.
    """
    child = os.fork()
    if child == 0:
        code = 99
        try:
            _disturb(root, at, mode, trace)
            code = command()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 99
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def operations(command: Callable[[], int], root: Path, trace: Path) -> list[str]:
    """The operations of an undisturbed run, each as ``event path``."""
    assert run_disturbed(command, root, trace=trace) == 0
    return trace.read_text().splitlines()


def choose(listed: Sequence[str], *, every: bool, sample: int, always: str = "approvals.jsonl") -> list[int]:
    """Numbers of the operations to disturb: all, or `sample` of them, and the first two about the file `always`."""
    if every:
        return list(range(1, len(listed) + 1))
    spread = {round(number) for number in np.linspace(1, len(listed), sample + 2)[1:-1]}
    first = next((number for number, line in enumerate(listed, 1) if line.startswith("os.write") and always in line), 0)
    near = {first, first + 1} if first else set()
    return sorted(spread | near)


def content_of(root: Path) -> dict[str, Any]:
    """What the files below a folder say, whenever they were written; logs and unfinished work left aside."""
    found: dict[str, Any] = {}
    folders = {name: f"date {number}" for number, name in enumerate(_dates(root), 1)}
    for path in sorted(root.rglob("*")):
        place = path.relative_to(root)
        if not path.is_file() or place.parts[0] in _NOT_COMPARED or path.name.startswith(_NNUNETS_LOG):
            continue
        found["/".join(folders.get(part, part) for part in place.parts)] = _say(path)
    return found


def leftovers(root: Path) -> list[str]:
    """Files that a killed writer left, locks included."""
    known = {".bidsignore", ".nojekyll"}
    return [str(path.relative_to(root)) for path in root.rglob(".*") if path.is_file() and path.name not in known]


def copy_tree(source: Path, target: Path) -> Path:
    """A copy; images, which nobody changes in place, are linked."""

    def copy(one: str, other: str) -> None:
        (os.link if one.endswith(".nii.gz") else shutil.copy2)(one, other)

    shutil.copytree(source, target, copy_function=copy)
    return target


def _dates(root: Path) -> list[str]:
    folder = root / "labels" / "superseded"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _say(path: Path) -> str:
    if path.name.endswith(".nii.gz"):
        image = nib.load(path)
        return hashlib.sha256(np.asanyarray(image.dataobj).tobytes() + image.affine.tobytes()).hexdigest()
    if path.suffix in (".pth", ".zip", ".png", ".b2nd", ".pkl", ".npy"):
        return "there"
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".html":
        return "there"
    if path.suffix in (".json", ".jsonl"):
        text = "\n".join(json.dumps(_without_bytes(json.loads(line))) for line in _documents(path, text))
    return _TIMES.sub("<time>", text)


def _documents(path: Path, text: str) -> list[str]:
    """Lines of a ledger, less those that were cut off and marked so; else the one document."""
    if path.suffix == ".json":
        return [text]
    return [line for line in text.splitlines() if line.strip() and "# cut off" not in line]


def _without_bytes(content: Any) -> Any:
    """Leave out fingerprints of files that hold the time of their writing, as gzip has it."""
    if isinstance(content, dict):
        hidden = {"file_sha256", "crop_file_sha256", "native_sha256"}
        return {key: _without_bytes(value) for key, value in content.items() if key not in hidden}
    return [_without_bytes(one) for one in content] if isinstance(content, list) else content


def _disturb(root: Path, at: int | None, mode: Mode, trace: Path | None) -> None:
    """Count what this process does to files from here on, and stand in its way."""
    done, log = 0, os.open(trace, os.O_WRONLY | os.O_CREAT) if trace else None
    below, really_write = str(root), os.write

    def concerns(path: object) -> bool:
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        return name.startswith(below) or (bool(name) and not name.startswith("/"))

    def count(event: str, what: object, before: Callable[[], object] = lambda: None) -> None:
        nonlocal done
        done += 1
        if log is not None:
            really_write(log, f"{event} {what}\n".encode())
        if at is None or done < at:
            return
        if mode == "killed" and done == at:
            before()
            os._exit(KILLED)
        if mode == "disk full" and event in _NEEDS_ROOM:
            before()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(what))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or not concerns(arguments[0]):
            return
        if event == "open" and not (arguments[2] or 0) & _WRITES:
            return
        count(event, arguments[0])

    def write(descriptor: int, content: Any) -> int:
        where = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if concerns(where) and where.startswith(below):
            count("os.write", where, lambda: really_write(descriptor, bytes(content)[: len(content) // 2]))
        return really_write(descriptor, content)

    sys.addaudithook(hook)
    os.write = write
