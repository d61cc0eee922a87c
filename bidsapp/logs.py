"""Where messages go: the screen, and a log file that also keeps what is too much for a screen."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import datetime
from pathlib import Path

from bidsapp.files import explain_write_errors
from bidsapp.printable import printable

ROOT = "bidsapp"

_log = logging.getLogger(__name__)


class _Readable(logging.Formatter):
    """Lines in which ids, file names and comments of others are only text."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t")


class _Console(logging.Handler):
    """Plain messages on the standard output of the start, above a progress bar if there is one."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.setFormatter(_Readable())
        self._stream = sys.stdout  # others put it aside for a while (`prints_to_log`), in any thread

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        if record.levelno >= logging.WARNING:
            message = f"{record.levelname.lower()}: {message}"
        colour = getattr(record, "colour", "")
        if colour and self._stream.isatty():
            message = f"\033[{colour}m{message}\033[0m"
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        message = message.encode(encoding, "backslashreplace").decode(encoding)
        try:
            if "tqdm" in sys.modules:
                from tqdm import tqdm

                tqdm.write(message, file=self._stream)
            else:
                print(message, file=self._stream)
            self._stream.flush()
        except OSError:  # a closed pipe or a full disk behind it must not end a training
            self.handleError(record)


def start_logging(*, verbose: bool) -> None:
    """Send our messages to the screen; with `verbose`, the details too."""
    stop_logging()
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(_Console(logging.DEBUG if verbose else logging.INFO))
    logging.raiseExceptions = False  # a full disk must not bury the message in tracebacks
    logging.captureWarnings(True)
    warnings = logging.getLogger("py.warnings")
    warnings.handlers = [logging.NullHandler()]
    warnings.propagate = False


def stop_logging() -> None:
    """Close the screen and all log files."""
    logger = logging.getLogger(ROOT)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logging.getLogger("py.warnings").handlers = [logging.NullHandler()]


def add_log_file(path: Path) -> logging.Handler:
    """Append everything from here on to `path`, with times, captured Python warnings included.

    What is marked as `secret` (``extra={"secret": True}``) is for the screen alone.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    handler.addFilter(lambda record: not getattr(record, "secret", False))
    handler.setFormatter(_Readable("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.getLogger(ROOT).addHandler(handler)
    logging.getLogger("py.warnings").addHandler(handler)
    return handler


def new_run(logs: Path) -> str:
    """Make the folder of a run in `logs` and return its name: the time, made unique where many start at once."""
    name = started = f"{datetime.now():%Y-%m-%dT%H%M%S}"
    number = 1
    with explain_write_errors(logs):
        logs.mkdir(parents=True, exist_ok=True)
    while True:
        with explain_write_errors(logs / name), suppress(FileExistsError):
            (logs / name).mkdir()
            return name
        number += 1
        name = f"{started}-{number}"


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what is said inside the block to `path` too."""
    handler = add_log_file(path)
    try:
        yield
    finally:
        for name in (ROOT, "py.warnings"):
            logging.getLogger(name).removeHandler(handler)
        handler.close()


def log_files() -> list[Path]:
    """The log files of this run."""
    handlers = logging.getLogger(ROOT).handlers
    return [Path(handler.baseFilename) for handler in handlers if isinstance(handler, logging.FileHandler)]


@contextmanager
def prints_to_log() -> Iterator[None]:
    """Send what nnU-Net prints to the log file, line by line."""
    with redirect_stdout(_LogStream()):
        yield


class _LogStream(io.TextIOBase):
    """A text stream whose lines become debug records."""

    def __init__(self) -> None:
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if line.strip():
                _log.debug("nnU-Net: %s", line.rstrip())
        return len(text)
