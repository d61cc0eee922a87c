"""nnU-Net reads its folders and its number of workers from the environment: ours for the time of a run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from bidsapp.layout import ModelLayout
from bidsapp.machine import usable_cores


@contextlib.contextmanager
def nnunet_environment(layout: ModelLayout) -> Iterator[None]:
    """Point nnU-Net at `layout`; the user's own nnUNet_* variables are removed before and restored afterwards."""
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
