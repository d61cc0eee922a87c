"""One process per folder: a lock that ends with its holder, and that two can never hold.

The lock is a file that tells who holds it. Its holder also has the kernel's lock (flock) on that file, which ends with
the process, whatever the process's number and whatever container it is in. So a contender on the same machine that
gets the kernel's lock knows that the holder is dead, and while it has it, nobody else can put another file there.

Where no kernel sees both (another node, another mount, a disk without flock), the holder's heartbeat tells: every
`HEARTBEAT_SECONDS` the file gets a new time. A contender watches that time, by its own clock that only counts on; it
never compares the clocks of two machines.

What is assumed: making a hard link and renaming are done by one alone, as on local disks and NFS; a new time of a file
is seen within `STALE_SECONDS` (NFS caches it for a minute at most, and asks again when the file is opened); a holder
that was suspended for longer than that is given up on another machine, and says so when it wakes. Two machines without
a common flock may both see that a holder is dead: they look again after `SETTLE_SECONDS`, and the later one has it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from bidsapp.errors import CannotWriteError
from bidsapp.files import NO_HARD_LINKS, create_beside, explain_write_errors, has_kernel_lock, is_at, kernel_of

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 300.0  # without a heartbeat; file systems of clusters can be slow
LONG_AGO_SECONDS = 24 * 3600.0
"""A heartbeat that is so old by the disk's clock is nobody's: no two clocks of a cluster differ by so much."""

SETTLE_SECONDS = 2.0
RETRY_SECONDS = 0.1
LEAST_PATIENCE_SECONDS = 0.5
"""For a moment a contender, too, has the kernel's lock on the file that it looks at."""

_Verdict = Literal["ours", "held", "again", "unknown"]

_open_files: set[int] = set()
_seen: dict[Path, tuple[tuple[int, int], float]] = {}
"""Lock -> which file it was and the time it bore, and since when by our clock we see it so."""


@contextmanager
def folder_lock(path: Path, *, patience_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock file at `path`, which stands for its folder, renewed by a heartbeat.

    A holder of this machine that died is followed at once, one of another when it gave no sign of life for five
    minutes; that is waited for, whatever `patience_seconds`.

    Parameters
    ----------
    patience_seconds
        How long to wait for a holder that lives.

    Raises
    ------
    CannotWriteError
        When another process holds it, and still does after `patience_seconds`; names host and process.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path, patience_seconds)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, descriptor, stop), daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        if is_at(path, descriptor):
            path.unlink(missing_ok=True)
        _close(descriptor)


def _acquire(path: Path, patience_seconds: float) -> int:
    """Put a file of our own, which the kernel has locked for us, at `path`; returns its descriptor."""
    own, descriptor = create_beside(path)
    _open_files.add(descriptor)
    try:
        os.write(descriptor, _own_content(descriptor))
        os.fsync(descriptor)
        _wait_for(path, own, descriptor, patience_seconds)
    except BaseException:
        _close(descriptor)
        raise
    finally:
        own.unlink(missing_ok=True)
    return descriptor


def _wait_for(path: Path, own: Path, descriptor: int, patience_seconds: float) -> None:
    began, told = time.monotonic(), False
    while True:
        verdict = "ours" if _claim(path, own, descriptor) else _follow_dead(path, own, descriptor)
        if verdict == "ours":
            return
        waited = time.monotonic() - began
        if verdict == "held" and waited >= max(patience_seconds, LEAST_PATIENCE_SECONDS):
            raise _held_by_another(path)
        if not told and (verdict == "unknown" or (verdict == "held" and waited >= LEAST_PATIENCE_SECONDS)):
            told = True
            minutes = max(STALE_SECONDS if verdict == "unknown" else 0.0, patience_seconds) / 60
            what = "a sign of life, or its end" if verdict == "unknown" else "it to end"
            log.warning("%s: waiting for %s, at most %.0f minutes", _who_holds(path), what, max(minutes, 1))
        time.sleep(1.0 if verdict == "unknown" and STALE_SECONDS > 60 else RETRY_SECONDS)


def _claim(path: Path, own: Path, descriptor: int) -> bool:
    """Give our file its place if there is none."""
    try:
        path.hardlink_to(own)
    except FileExistsError:
        return os.fstat(descriptor).st_nlink > 1  # a file server did it, and its answer was lost on the way
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        return _claim_without_links(path, own)
    return True


def _claim_without_links(path: Path, own: Path) -> bool:
    """Hold the place with an empty file that we have locked, and rename ours over it."""
    try:
        held = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return False
    try:
        if has_kernel_lock(held) is False or not is_at(path, held):
            return False
        own.replace(path)
    finally:
        _close(held)
    return True


def _follow_dead(path: Path, own: Path, descriptor: int) -> _Verdict:
    """Take the place of a holder that is dead."""
    try:
        other = _open_for_lock(path)
    except FileNotFoundError:
        return "again"
    try:
        locked = has_kernel_lock(other)
        if locked is False:
            return "held"
        if not is_at(path, other):
            return "again"
        holder = _read(other)
        dead = bool(locked) and (not holder or holder.get("kernel") == kernel_of(os.fstat(other)))
        if not dead:
            verdict = _watch(path, os.fstat(other), os.fstat(descriptor).st_mtime)
            if verdict != "again":
                return verdict
        own.replace(path)
    finally:
        _close(other)
    if not dead:
        time.sleep(SETTLE_SECONDS)
    return "ours" if is_at(path, descriptor) else "again"


def _watch(path: Path, there: os.stat_result, present: float) -> _Verdict:
    """Tell by its heartbeat whether a holder lives: held, not known yet, or again, for it does not."""
    mark, now = (there.st_ino, there.st_mtime_ns), time.monotonic()
    if present - there.st_mtime > LONG_AGO_SECONDS:
        return "again"
    if path not in _seen or _seen[path][0] != mark:
        beats = path in _seen and _seen[path][0][0] == there.st_ino
        _seen[path] = mark, now
        return "held" if beats else "unknown"
    return "again" if now - _seen[path][1] >= STALE_SECONDS else "unknown"


def _open_for_lock(path: Path) -> int:
    """Open another's lock, to write where we may: NFS locks nothing else. A link or a device is none of ours."""
    for mode in (os.O_RDWR, os.O_RDONLY):
        with suppress(PermissionError):
            return _open(path, mode | os.O_NONBLOCK)
    raise _held_by_another(path)


def _open(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    _open_files.add(descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    if descriptor in _open_files:
        _open_files.discard(descriptor)
        os.close(descriptor)


def _close_in_child() -> None:
    """A forked process that outlives us must not keep our locks."""
    for descriptor in list(_open_files):
        _close(descriptor)


os.register_at_fork(after_in_child=_close_in_child)


def _own_content(descriptor: int) -> bytes:
    content = {"host": socket.gethostname(), "process": os.getpid(), "kernel": kernel_of(os.fstat(descriptor))}
    return json.dumps(content).encode()


def _read(descriptor: int) -> dict[str, object]:
    """What a lock says of its holder; nothing where it was cut off."""
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _who_holds(path: Path) -> str:
    holder: dict[str, object] = {}
    with suppress(OSError):
        descriptor = _open(path, os.O_RDONLY | os.O_NONBLOCK)
        holder = _read(descriptor)
        _close(descriptor)
    return f"{path.parent} is being worked on by process {holder.get('process', '?')} on {holder.get('host', '?')}"


def _held_by_another(path: Path) -> CannotWriteError:
    return CannotWriteError(
        _who_holds(path),
        f"Wait for it, or stop it. If its machine is gone, the lock ends {STALE_SECONDS / 60:.0f} minutes after its "
        f"last sign of life; or delete {path}.",
    )


def _beat(path: Path, descriptor: int, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):
            os.utime(descriptor)
        if not is_at(path, descriptor):
            log.error("%s is no longer ours: another process took over, or somebody deleted it. Stop this run.", path)
            return
