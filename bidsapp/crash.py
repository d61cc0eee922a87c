"""A file about a bug of ours: what a report needs, beside the log."""

from __future__ import annotations

import platform
import shlex
import sys
import traceback
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bidsapp import __version__
from bidsapp.files import write_text

_LIBRARIES = ("nnunetv2", "torch", "numpy", "scipy", "nibabel", "SimpleITK", "pybids", "matplotlib")


def write_crash(path: Path, error: BaseException) -> None:
    """Write command, versions and traceback of `error`, those of other processes included.

    Raises
    ------
    CannotWriteError
        When the disk is full or permission is missing.
    """
    lines = [
        f"HippoTune stopped at {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}. This is a bug, please report it.",
        "Look this file through before you send it: paths and ids of people may stand in it.",
        "",
        f"command     {shlex.join(sys.argv)}",
        f"HippoTune   {__version__}",
        f"Python      {platform.python_version()} on {platform.platform()}",
        *(f"{name:11} {_version(name)}" for name in _LIBRARIES),
        "",
        "".join(traceback.format_exception(error)),
    ]
    write_text(path, "\n".join(lines))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
