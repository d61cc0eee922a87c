"""What many tests share: the real test data beside the repository, and the command line as a user meets it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest_plugins = ["tests.boxes", "tests.reviewed_person", "tests.tiny_model", "tests.training_folder"]

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_configure() -> None:
    """Give each of several test processes a core of its own: trainings would wait for each other."""
    cache = Path.home() / ".cache"  # every OUTPUT_DIR would build a font cache of its own
    os.environ.setdefault("XDG_CACHE_HOME", str(cache))
    os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    output: str


RunPy = Callable[..., Finished]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """`bidsapp.cli.main` sends messages to the screen of its test; the next test has another one."""
    logger = logging.getLogger("bidsapp")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    for handler in logger.handlers:
        if handler not in handlers:
            handler.close()
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the repository; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no ../shared/data beside the repository")
    return SHARED_DATA


def run_py(*arguments: object, cwd: Path | None = None, **environment: str) -> Finished:
    """Run `run.py` in a process of its own."""
    process = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *map(str, arguments)],
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Finished(process.returncode, process.stdout)
