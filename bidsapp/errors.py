"""Every error that a user can meet: a message, a way out, and the exit code that belongs to it.

`bidsapp.console` is the only place that prints them.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM}
_NO_FILE = {errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENOTDIR, errno.EIO, errno.ESTALE}


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


def explain(error: Exception) -> HippoTuneError | None:
    """Say of any other error what is no bug of ours; None: it is one.

    That is where the system refuses a file and nobody on the way expected it, or where it has no memory left.
    """
    if isinstance(error, MemoryError):
        words = f"there is not enough memory for what the input asks for: {error}".rstrip(": ")
        return _caused(
            BadDataError(words, "Look at the sizes of the images, or use a machine with more memory."), error
        )
    if not isinstance(error, OSError) or not isinstance(error.filename, str | bytes):
        return None
    path = Path(os.fsdecode(error.filename2 or error.filename))
    could_be_read = os.access(path, os.R_OK) or (not os.path.lexists(path) and os.access(path.parent, os.X_OK))
    if error.errno in _NO_ROOM or (error.errno in _REFUSED and could_be_read):
        words = f"{path} cannot be written: {error.strerror}"
        return _caused(CannotWriteError(words, way_to_write(error)), error)
    if error.errno in _REFUSED | _NO_FILE:
        return _caused(NoInputError(f"{path} cannot be read: {error.strerror}", way_to_read(error)), error)
    return None


def way_to_write(error: OSError) -> str:
    """What to do where the system refused to write."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return "Free some space, or choose another folder."
        case errno.EACCES | errno.EPERM:
            return "Look at the permissions of the file and its folder, or choose another folder."
        case errno.EROFS:
            return "That disk can only be read: choose another folder."
        case errno.ENAMETOOLONG:
            return "Choose a shorter name."
        case errno.ENOENT | errno.ENOTDIR | errno.EEXIST | errno.EISDIR | errno.ELOOP:
            return "A folder on the way is missing, or something else is in its place: look there, or choose another."
    return "Look at the disk, or choose another folder."


def way_to_read(error: OSError) -> str:
    """What to do where the system refused to read."""
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return "Look at its permissions."
        case errno.ENAMETOOLONG:
            return "Choose a shorter name."
        case errno.EIO | errno.ESTALE:
            return "Look at the disk."
    return "Move away what is in its place, or put the file there."


def _caused(explained: HippoTuneError, error: Exception) -> HippoTuneError:
    explained.__cause__ = error
    return explained
