"""One process per folder: a lock that says who holds it and that a dead holder cannot keep."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bidsapp.errors import CannotWriteError
from bidsapp.files import explain_write_errors

HEARTBEAT_SECONDS = 20.0
_TOKEN = uuid.uuid4().hex
"""Of this process: in containers with a process space of their own, everybody has the same number."""

RETRY_SECONDS = 0.1
STALE_SECONDS = 300.0  # without a heartbeat; file systems of clusters can be slow


@contextmanager
def folder_lock(path: Path, *, patience_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock file at `path`, which stands for its folder, renewed by a heartbeat.

    A lock of this host is stale when its process is gone; another host's, when it had no heartbeat for five
    minutes.

    Raises
    ------
    CannotWriteError
        When another process holds it, and still does after `patience_seconds`; names host and process.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire_patiently(path, patience_seconds)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        if _read(path).get("token") == _TOKEN:
            path.unlink(missing_ok=True)


def _acquire_patiently(path: Path, patience_seconds: float) -> None:
    end = time.monotonic() + patience_seconds
    while True:
        try:
            return _acquire(path)
        except CannotWriteError:
            if time.monotonic() >= end:
                raise
        time.sleep(RETRY_SECONDS)


def _acquire(path: Path) -> None:
    content = json.dumps(
        {"host": socket.gethostname(), "process": os.getpid(), "token": _TOKEN, "started": time.time()}
    )
    for _ in range(2):
        try:
            with path.open("x", encoding="utf-8") as stream:
                stream.write(content)
            return
        except FileExistsError:
            if not _is_stale(path):
                break
            _remove_stale(path)
    holder = _read(path)
    raise CannotWriteError(
        f"{path.parent} is being worked on by process {holder.get('process', '?')} on {holder.get('host', '?')}",
        f"Wait for it, or stop it. If it no longer exists, the lock ends {STALE_SECONDS / 60:.0f} minutes after "
        f"its last sign of life; or delete {path}.",
    )


def _read(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_stale(path: Path) -> bool:
    holder = _read(path)
    process = holder.get("process")
    if holder.get("host") == socket.gethostname() and isinstance(process, int):
        if process == os.getpid():
            return holder.get("token") != _TOKEN
        return not _runs(process)  # a suspended holder is still a holder
    try:
        return _now_there(path) - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return True


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now_there(path: Path) -> float:
    """The present by the clock that stamps the lock, which may be a file server's."""
    probe = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}")
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    """Take the lock out of the way; of several processes that try, one rename succeeds."""
    grave = path.with_name(f"{path.name}.stale.{socket.gethostname()}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(grave)
        grave.unlink()


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)
