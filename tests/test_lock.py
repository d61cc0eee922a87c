from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bidsapp import lock
from bidsapp.errors import CannotWriteError
from bidsapp.files import kernel_of
from bidsapp.lock import folder_lock
from tests.conftest import ROOT

HOLD = """
import sys, time
from pathlib import Path
from bidsapp.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(600)
"""

FORK_AND_HOLD = """
import os, sys, time
from pathlib import Path
from bidsapp.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    if os.fork() == 0:
        print("holds", os.getpid(), flush=True)
    time.sleep(600)
"""

RACE = """
import os, sys
from pathlib import Path
from bidsapp import lock
path, inside, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if mode == "no hard links":
    def refuse(self, target):
        raise PermissionError(1, "no hard links here")
    Path.hardlink_to = refuse
lock.RETRY_SECONDS = 0.001
gate = sys.stdin.readline
while gate().strip():
    try:
        with lock.folder_lock(path, patience_seconds=60):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            os.sched_yield()
            inside.unlink()
        print("held", flush=True)
    except FileExistsError:
        print("TWO", flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""


def start(script: str, *arguments: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def holder() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that hold a lock until they are killed."""
    started: list[subprocess.Popen[str]] = []

    def hold(path: Path, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        process = start(HOLD, path, before=before)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def leave_behind(path: Path, *, seconds_ago: float = 1, **content: object) -> None:
    """What a holder of another machine leaves."""
    path.write_text(json.dumps({"host": "another-node", "process": 1} | content))
    then = time.time() - seconds_ago
    os.utime(path, (then, then))


def test_a_second_training_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "model" / ".lock"
    with folder_lock(path):
        with (
            pytest.raises(CannotWriteError, match=f"process {os.getpid()} on {socket.gethostname()}"),
            folder_lock(path),
        ):
            pass
        assert [one.name for one in path.parent.iterdir()] == [".lock"]
    assert list(path.parent.iterdir()) == []


def test_a_killed_holder_is_followed_at_once(tmp_path: Path, holder: Callable[..., subprocess.Popen[str]]) -> None:
    path = tmp_path / ".lock"
    process = holder(path)
    with pytest.raises(CannotWriteError, match=f"process {process.pid} on"), folder_lock(path):
        pass
    process.kill()
    process.wait()
    assert path.exists()
    with folder_lock(path):
        assert json.loads(path.read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_suspended_holder_is_still_a_holder(tmp_path: Path, holder: Callable[..., subprocess.Popen[str]]) -> None:
    path = tmp_path / ".lock"
    process = holder(path)
    process.send_signal(signal.SIGSTOP)
    os.utime(path, (0, 0))
    with pytest.raises(CannotWriteError), folder_lock(path):
        pass


def test_a_process_number_that_is_used_again_keeps_no_lock(
    tmp_path: Path, holder: Callable[..., subprocess.Popen[str]]
) -> None:
    path = tmp_path / ".lock"
    process = holder(path)
    process.kill()
    process.wait()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"process": os.getpid()}))
    with folder_lock(path):
        pass


@pytest.mark.parametrize("content", [b"", b'{"host": "a', b"[1]", b"\xff\xfe"])
def test_a_lock_that_was_cut_off_holds_up_nobody(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ".lock"
    path.write_bytes(content)
    with folder_lock(path):
        assert json.loads(path.read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_holder_in_another_process_space_is_alive(
    tmp_path: Path, holder: Callable[..., subprocess.Popen[str]]
) -> None:
    """Two containers of one machine: the other's number says nothing here, and may be ours."""
    space = ("unshare", *(() if os.getuid() == 0 else ("--user", "--map-root-user")), "--pid", "--fork", "--mount-proc")
    try:
        permitted = subprocess.run([*space, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        permitted = False
    if not permitted:
        pytest.skip("no process space of one's own can be made here")
    path = tmp_path / ".lock"
    process = holder(path, before=space)
    with pytest.raises(CannotWriteError, match="process 1 on"), folder_lock(path):
        pass
    subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=True)
    process.wait()
    with folder_lock(path):
        pass


def test_a_forked_process_that_lives_on_keeps_no_lock(tmp_path: Path) -> None:
    """As workers do whose training was killed."""
    path = tmp_path / ".lock"
    process = start(FORK_AND_HOLD, path)
    assert process.stdout is not None
    worker = int(process.stdout.readline().split()[1])
    try:
        process.kill()
        process.wait()
        os.kill(worker, 0)
        with folder_lock(path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("mode", ["as usual", "no hard links"])
@pytest.mark.parametrize("before", ["a dead holder's lock", "a cut-off lock", "no lock"])
def test_of_many_who_race_one_holds_it(tmp_path: Path, mode: str, before: str) -> None:
    path, inside = tmp_path / ".lock", tmp_path / "inside"
    racers = [start(RACE, path, inside, mode) for _ in range(6)]
    answers = []
    for _ in range(40):
        if before == "a dead holder's lock":
            with path.open("w") as stream:
                stream.write(json.dumps({"process": 1, "kernel": kernel_of(path.stat())}))
        elif before == "a cut-off lock":
            path.touch()
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        answers += [racer.stdout.readline().strip() for racer in racers if racer.stdout is not None]
    for racer in racers:
        racer.communicate("\n")
    assert set(answers) == {"held"}
    assert list(tmp_path.iterdir()) == []


def test_another_machines_holder_that_shows_no_life_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Requeued to another node: the dead one's heartbeat ages by our own clock, whatever its time is."""
    monkeypatch.setattr(lock, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.05)
    path = tmp_path / ".lock"
    for seconds_ago in (3600, -3600):
        leave_behind(path, seconds_ago=seconds_ago, kernel="another")
        began = time.monotonic()
        with caplog.at_level(logging.WARNING, logger="bidsapp"), folder_lock(path):
            assert time.monotonic() - began >= 1
        assert "process 1 on another-node: waiting for a sign of life, or its end, at most 1 minutes" in caplog.text
        assert list(tmp_path.iterdir()) == []


def test_another_machines_holder_that_shows_life_keeps_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its clock is an hour behind."""
    path = tmp_path / ".lock"
    leave_behind(path, seconds_ago=3600, kernel="another")

    def beat(seconds: float) -> None:
        then = path.stat().st_mtime + 1
        os.utime(path, (then, then))

    monkeypatch.setattr(lock.time, "sleep", beat)
    with pytest.raises(CannotWriteError, match="another-node"), folder_lock(path):
        pass
    assert path.exists()


def test_a_lock_of_the_day_before_yesterday_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.0)
    path = tmp_path / ".lock"
    leave_behind(path, seconds_ago=2 * 24 * 3600)
    with folder_lock(path):
        pass


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".lock").symlink_to(victim)
    with pytest.raises(CannotWriteError, match=r"\.lock"), folder_lock(tmp_path / ".lock"):
        pass
    assert victim.read_text() == "precious"


def test_a_fifo_in_place_of_a_lock_holds_up_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    with folder_lock(tmp_path / ".lock"):
        pass


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    path = tmp_path / ".lock"
    with folder_lock(path):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 60
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert time.time() - path.stat().st_mtime < 60


def test_who_lost_the_lock_is_told_and_leaves_the_other_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    path = tmp_path / ".lock"
    with caplog.at_level(logging.ERROR, logger="bidsapp"), folder_lock(path):
        path.unlink()
        path.write_text("another's")
        deadline = time.monotonic() + 60
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.02)
    assert "is no longer ours" in caplog.text
    assert path.read_text() == "another's"
