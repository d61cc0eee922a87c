from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bidsapp import lock
from bidsapp.errors import CannotWriteError
from bidsapp.lock import folder_lock


def write_lock(path: Path, *, host: str, process: int, seconds_ago: float) -> None:
    path.write_text(json.dumps({"host": host, "process": process, "started": 0}))
    then = time.time() - seconds_ago
    os.utime(path, (then, then))


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_second_training_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "model" / ".lock"
    with folder_lock(path):
        with (
            pytest.raises(CannotWriteError, match=f"process {os.getpid()} on {socket.gethostname()}"),
            folder_lock(path),
        ):
            pass
        assert path.exists()
    assert not path.exists()


@pytest.mark.parametrize(
    ("host", "process", "seconds_ago"),
    [(socket.gethostname(), None, 1), ("another-node", 1, lock.STALE_SECONDS + 5)],
    ids=["its process is gone", "no sign of life for long"],
)
def test_a_stale_lock_is_taken_over(tmp_path: Path, host: str, process: int | None, seconds_ago: float) -> None:
    path = tmp_path / ".lock"
    write_lock(path, host=host, process=process or dead_process(), seconds_ago=seconds_ago)
    with folder_lock(path):
        assert json.loads(path.read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_another_host_with_a_recent_heartbeat_keeps_its_lock(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    write_lock(path, host="another-node", process=dead_process(), seconds_ago=lock.STALE_SECONDS / 2)
    with pytest.raises(CannotWriteError, match="another-node"), folder_lock(path):
        pass


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    path = tmp_path / ".lock"
    with folder_lock(path):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 5
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert time.time() - path.stat().st_mtime < 60
