"""Every error that a user can meet: a message, a way out, and the exit code that belongs to it.

`bidsapp.console` is the only place that prints them.
"""

from __future__ import annotations


class HippoTuneError(Exception):
    """Base of all errors that we raise on purpose.

    Parameters
    ----------
    message
        What is wrong, with the file and the value that were met.
    hint
        What to do next.
    """

    exit_code = 70
    seconds: float | None = None
    """How long the work on a session took until this came up, where that is known."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(HippoTuneError):
    """The command line asks for something that does not exist or cannot be."""

    exit_code = 2


class WorseModelError(HippoTuneError):
    """The new model is worse than the one that it started from."""

    exit_code = 3


class BidsValidationError(HippoTuneError):
    """The BIDS validator found errors in the input data set."""

    exit_code = 16


class NothingMatchesError(HippoTuneError):
    """The data set is fine, but nothing in it passes the filters."""

    exit_code = 18


class BadDataError(HippoTuneError):
    """A file exists and its content cannot be used: images, tables, config.ini, review.ini, JSON."""

    exit_code = 65


class NoInputError(HippoTuneError):
    """A file or folder that we were told to read does not exist, or may not be read."""

    exit_code = 66


class CannotWriteError(HippoTuneError):
    """A file cannot be written: no permission, a full disk, or changed by someone else meanwhile."""

    exit_code = 73


class InterruptedRunError(HippoTuneError):
    """The run was stopped from outside after saving its work; the same command continues it."""

    exit_code = 75


class PartialFailureError(HippoTuneError):
    """The run ended, and some people or pairs failed or were left out."""

    exit_code = 1
