"""What many tests share: the real test data beside the repository, and the command line as a user meets it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from bidsapp.cli import main

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


@contextlib.contextmanager
def _logging_as_before() -> Iterator[None]:
    logger = logging.getLogger("bidsapp")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    for handler in logger.handlers:
        if handler not in handlers:
            handler.close()
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """`bidsapp.cli.main` sends messages to the screen of its test; the next test has another one."""
    with _logging_as_before():
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the repository; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no ../shared/data beside the repository")
    return SHARED_DATA


def run_py(*arguments: object, cwd: Path | None = None) -> Finished:
    """Run the command line of `run.py` in this process, which imports torch and nnU-Net once for all tests."""
    output = io.StringIO()
    with (
        _logging_as_before(),
        patch.dict(os.environ),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        try:
            code = main([str(word) for word in arguments])
        except SystemExit as ended:  # --help and --version
            code = int(ended.code or 0)
    return Finished(code, output.getvalue())


def run_py_alone(*arguments: object, cwd: Path | None = None) -> Finished:
    """Run `run.py` as a user does, in a process of its own."""
    process = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Finished(process.returncode, process.stdout)
