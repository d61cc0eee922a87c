"""What TensorBoard is told: scores and consistency apart."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bidsapp.training.trainer import HippoTuneTrainer, Validation
from bidsapp.training.watch import _say_measured, _tagged


def validation(**measured: dict[str, float]) -> Validation:
    return Validation(10, 0.5, 0.4, learning_rate=0.01, **{"dice": {}} | measured)  # type: ignore[arg-type]


def test_patches_of_either_kind_are_pooled_alone() -> None:
    """Two patches, two labels behind the background; Dice is 2 tp / (2 tp + fp + fn) over all voxels of both."""
    counts = np.array(
        [
            [[90, 4, 0], [1, 1, 0], [1, 1, 0]],  # tp, fp, fn of background, A, B
            [[90, 2, 3], [1, 3, 1], [1, 0, 1]],
        ],
        dtype=float,
    )
    trainer: Any = SimpleNamespace(label_names={1: "A", 2: "B"})
    assert HippoTuneTrainer._pooled_dice(trainer, counts) == pytest.approx({"A": 12 / 17, "B": 6 / 8})
    assert HippoTuneTrainer._pooled_dice(trainer, counts[:0]) == {}


def test_tensorboard_has_no_curve_of_what_there_is_not() -> None:
    found = validation(dice={"A": 0.5, "B": 0.7})
    assert _tagged("dice", found.dice, found.mean_dice) == pytest.approx(
        {"dice/mean": 0.6, "dice/A": 0.5, "dice/B": 0.7}
    )
    assert _tagged("consistency", found.consistency, found.mean_consistency) == {}


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ({"dice": {"A": 0.5}, "consistency": {"A": 0.9}}, "validation Dice 0.500"),
        ({"consistency": {"A": 0.9}}, "consistency 0.900 with labels approved as predicted"),
    ],
)
def test_the_progress_names_what_it_shows(measured: dict[str, dict[str, float]], said: str) -> None:
    assert _say_measured(validation(**measured)) == said


def test_both_kinds_reach_the_event_file(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from bidsapp.layout import ModelLayout
    from bidsapp.training.trainer import ValidationPicture
    from bidsapp.training.watch import watch_training

    layout = ModelLayout(tmp_path)
    flat = np.zeros((4, 4))
    with watch_training(layout, start=0, target=10, slow_device=False) as watcher:
        watcher.validated(validation(dice={"A": 0.5}, consistency={"A": 0.9}), ValidationPicture(flat, flat, flat))
    events = EventAccumulator(str(layout.tensorboard))
    events.Reload()
    shown = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"] if "/" in tag and tag[0] in "dc"}
    assert shown == pytest.approx({"dice/mean": 0.5, "dice/A": 0.5, "consistency/mean": 0.9, "consistency/A": 0.9})
