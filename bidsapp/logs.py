"""Where messages go: the screen, and a log file that also keeps what is too much for a screen."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from bidsapp.files import explain_write_errors

ROOT = "bidsapp"


class _Console(logging.Handler):
    """Plain messages on standard output, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        if record.levelno >= logging.WARNING:
            message = f"{record.levelname.lower()}: {message}"
        try:
            if "tqdm" in sys.modules:
                from tqdm import tqdm

                tqdm.write(message, file=sys.stdout)
            else:
                print(message)
            sys.stdout.flush()
        except OSError:  # a closed pipe or a full disk behind it must not end a training
            self.handleError(record)


def start_logging(*, verbose: bool) -> None:
    """Send our messages to the screen; with `verbose`, the details too."""
    logger = logging.getLogger(ROOT)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    console = _Console(logging.DEBUG if verbose else logging.INFO)
    logger.addHandler(console)
    logging.raiseExceptions = False  # a full disk must not bury the message in tracebacks
    logging.captureWarnings(True)
    warnings = logging.getLogger("py.warnings")
    warnings.handlers = [logging.NullHandler()]
    warnings.propagate = False


def add_log_file(path: Path) -> None:
    """Append everything from here on to `path`, with times, captured Python warnings included."""
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.getLogger(ROOT).addHandler(handler)
    logging.getLogger("py.warnings").addHandler(handler)


def log_files() -> list[Path]:
    """The log files of this run."""
    handlers = logging.getLogger(ROOT).handlers
    return [Path(handler.baseFilename) for handler in handlers if isinstance(handler, logging.FileHandler)]
