"""nnU-Net finds its folders and its number of workers in the environment: ours for the time of a run."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator

from bidsapp.layout import ModelLayout
from bidsapp.machine import usable_cores

log = logging.getLogger(__name__)


@contextlib.contextmanager
def nnunet_environment(layout: ModelLayout) -> Iterator[None]:
    """Point nnU-Net at `layout`; the user's own nnUNet_* variables are put aside and restored afterwards."""
    users = {name: value for name, value in os.environ.items() if name.lower().startswith("nnunet_")}
    ours = {
        "nnUNet_raw": str(layout.nnunet_raw),
        "nnUNet_preprocessed": str(layout.nnunet_preprocessed),
        "nnUNet_results": str(layout.nnunet_results),
        "nnUNet_def_n_proc": str(usable_cores()),
        "nnUNet_n_proc_DA": "1",  # 0 crashes nnU-Net's planner; our trainer has workers of its own
    }
    for name in users:
        del os.environ[name]
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update(users)


@contextlib.contextmanager
def prints_to_log() -> Iterator[None]:
    """Send what nnU-Net prints to the log file, line by line."""
    with contextlib.redirect_stdout(_LogStream()):
        yield


class _LogStream(io.TextIOBase):
    """A text stream whose lines become debug records."""

    def __init__(self) -> None:
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if line.strip():
                log.debug("nnU-Net: %s", line.rstrip())
        return len(text)
