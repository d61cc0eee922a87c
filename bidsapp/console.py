"""What our two commands have in common: both spellings of a flag, messages, exit codes, the way an error is shown."""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import NoReturn

from bidsapp.crash import write_crash
from bidsapp.errors import CannotWriteError, HippoTuneError, InterruptedRunError, UsageError, explain
from bidsapp.layout import crash_file
from bidsapp.logs import log_files, start_logging, stop_logging
from bidsapp.machine import STOP_SIGNALS

EXIT_OUR_BUG = 70


log = logging.getLogger(__name__)


class Parser(argparse.ArgumentParser):
    """Mistakes on the command line are errors like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError`."""
        raise UsageError(message, f"{self.prog} --help explains every option.")


def add_flag(group: argparse._ActionsContainer, name: str, **options: object) -> None:
    """Add a flag in both spellings: --model-dir and --model_dir."""
    names = [name, name.replace("-", "_").replace("__", "--", 1)]
    group.add_argument(*dict.fromkeys(names), **options)  # type: ignore[arg-type]


def run_command(work: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Do `work` with `arguments`; returns the exit code, and is the only place that shows an error to a user."""
    start_logging(verbose="-v" in arguments or "--verbose" in arguments)
    previous = {one: signal.signal(one, _interrupt) for one in STOP_SIGNALS if one != signal.SIGINT}
    try:
        work(arguments)
    except HippoTuneError as error:
        return _report(error)
    except KeyboardInterrupt:
        return _report(InterruptedRunError("interrupted", "Give the same command again to continue."))
    except Exception as error:
        explained = explain(error)
        if explained is not None:
            return _report(explained)
        log.exception("this is a bug in HippoTune, please report it with the log")
        _show_logs()
        _write_crash(error)
        return EXIT_OUR_BUG
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)
        stop_logging()
    return 0


def _report(error: HippoTuneError) -> int:
    log.error(error.message)
    if error.hint:
        log.info("  what to do: %s", error.hint)
    log.debug("exit code %d", error.exit_code, exc_info=error)
    _show_logs()
    return error.exit_code


def _show_logs() -> None:
    for path in log_files():
        log.info("  log: %s", path)


def _write_crash(error: Exception) -> None:
    """Beside the log, where the run came far enough to have one."""
    for path in log_files()[:1]:
        with contextlib.suppress(CannotWriteError):
            write_crash(crash_file(path), error)
            log.info("  versions and traceback: %s", crash_file(path))


def _interrupt(number: int, _frame: object) -> None:
    if multiprocessing.parent_process() is not None:  # a child that inherited this handler just ends
        os._exit(128 + number)
    raise KeyboardInterrupt  # no `except Exception` on the way may take it for a damaged file
