"""Checkpoints that survive a kill and a full disk: written aside, synced, renamed, with the previous one kept.

At every moment one whole checkpoint has its final name. The new one is complete on the disk before the last one becomes
the previous one. Between these two renames only the previous one is there, and `load_checkpoint` takes it. A checkpoint
can still be damaged later (a bad disk, an interrupted copy of the folder): then the previous one is loaded, and the
damaged file is put aside, because the next save would otherwise make it the previous one in place of the good file.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from bidsapp.errors import BadDataError, CannotWriteError
from bidsapp.exchange.weights import read_checkpoint
from bidsapp.files import check_values, replace_atomically, sync
from bidsapp.layout import ModelLayout

log = logging.getLogger(__name__)

Checkpoint = dict[str, Any]
_KINDS = {
    "iteration": int,
    "loss_sum": float,
    "loss_count": int,
    "history": list[dict[str, Any]],
    "optimizer": str,
    "source_dice": dict[str, float],
}
_POINT = {
    "iteration": int,
    "training_loss": float,
    "validation_loss": float,
    "dice": dict[str, float],
    "learning_rate": float,
    "consistency": dict[str, float],
}
"""One entry of the history; older versions wrote no consistency."""
_STATES: dict[str, type | tuple[type, ...]] = {"optimizer_state": dict, "grad_scaler_state": (dict, type(None))}


def save_checkpoint(layout: ModelLayout, checkpoint: Checkpoint) -> None:
    """Make `checkpoint` the newest one; the newest before becomes the previous one.

    Raises
    ------
    CannotWriteError
        When there is no room; the last good checkpoint is still there.
    """

    def write(temporary: Path) -> None:
        _save(checkpoint, temporary)
        sync(temporary)
        if layout.checkpoint.exists():
            layout.checkpoint.replace(layout.previous_checkpoint)

    replace_atomically(layout.checkpoint, write)


def _save(checkpoint: Checkpoint, path: Path) -> None:
    try:
        torch.save(checkpoint, path)
    except RuntimeError as error:  # torch hides the operating system's reason
        raise CannotWriteError(
            f"{path.parent} has no room for a checkpoint: {error}",
            "Free some space and give the same command again; the last good checkpoint is kept.",
        ) from error


def load_checkpoint(layout: ModelLayout) -> Checkpoint | None:
    """The newest readable checkpoint, on the CPU; None when there never was one.

    Raises
    ------
    BadDataError
        When there are checkpoints and none can be read.
    """
    candidates = [path for path in (layout.checkpoint, layout.previous_checkpoint) if path.is_file()]
    damaged: list[Path] = []
    for path in candidates:
        try:
            checkpoint = _read(path)
        except BadDataError as error:
            log.warning("%s cannot be read (%s); the previous checkpoint is tried", path, error)
            damaged.append(path)
            continue
        for torn in damaged:
            torn.replace(torn.with_suffix(".damaged"))
        return checkpoint
    if candidates:
        raise BadDataError(
            f"no checkpoint in {layout.fold} can be read", "Restore the folder, or train anew in another --model-dir."
        )
    return None


def _read(path: Path) -> Checkpoint:
    """Read one checkpoint: no code in it is run, its checksums are verified, and its values have the right types.

    Raises
    ------
    BadDataError
        When it is damaged, or not what `save_checkpoint` writes.
    """
    try:
        checkpoint = read_checkpoint(path.read_bytes(), str(path), path)
    except OSError as error:
        raise BadDataError(f"{path} cannot be read: {error.strerror}") from error
    if not all(isinstance(one, torch.Tensor) for one in checkpoint["network_weights"].values()):
        raise BadDataError(f"{path} holds something else than tensors in network_weights")
    for name, kind in _STATES.items():
        if not isinstance(checkpoint.get(name), kind):
            raise BadDataError(f"{path}: {name} is {ascii(checkpoint.get(name))[:80]}")
    try:
        check_values(checkpoint, _KINDS, needed=_KINDS.keys() - {"source_dice"})
        for point in checkpoint["history"]:
            check_values(point, _POINT, needed=_POINT.keys() - {"consistency"})
    except (ValueError, TypeError, RecursionError) as error:  # of tensors, and of lists that hold themselves
        raise BadDataError(f"{path} cannot be used: {error}") from error
    if checkpoint["iteration"] < 0:
        raise BadDataError(f"{path}: iteration is {checkpoint['iteration']}")
    return checkpoint
