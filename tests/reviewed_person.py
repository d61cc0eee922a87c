"""One person with crops, a prediction and a transform, as the participant level leaves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bidsapp.corobl.grid import GRIDS, SHAPE, crop_image
from bidsapp.images.volumes import Volume
from bidsapp.images.writing import write_image
from bidsapp.layout import OutputLayout
from bidsapp.records import LabelSource, SideKey
from bidsapp.review.approval import ReviewedLabel, ShownPrediction

NAMES = {1: "CA1", 2: "DG", 300: "cyst"}
MODEL_NAMES = {1: "DG", 2: "CA1"}
KEY: SideKey = ("01", None, "L")


def day(number: int) -> datetime:
    return datetime(2026, 1, number, 12, tzinfo=UTC)


def block(first: int, value: int = 1) -> np.ndarray:
    """A label map with a block of 10 x 10 x 10 voxels that begins at plane `first`."""
    labels = np.zeros(SHAPE, np.int64)
    labels[first : first + 10, 20:30, 20:30] = value
    return labels


@dataclass(frozen=True)
class Person:
    """Whose files are there; `label` saves a correction and hands it over."""

    layout: OutputLayout
    label: Callable[..., ReviewedLabel]


@pytest.fixture
def person(tmp_path: Path) -> Person:
    # folders above must not be taken for entities
    layout = OutputLayout(tmp_path / "sub-99" / "run-2")
    session = layout.session("01", None)
    crop = np.zeros(SHAPE, np.float32)
    crop[30:60, 10:40, 10:40] = 7.5
    for modality in ("T1w", "T2w"):
        write_image(session.crop("L", modality), crop_image(crop, "L"))
    session.transform("T1w").write_text("#Insight Transform File V1.0\n")

    def label(labels: np.ndarray, source: LabelSource = "manual", *, predicted: bool = True) -> ReviewedLabel:
        path = session.prediction("L") if source == "prediction" else layout.manual_label(*KEY)
        write_image(path, crop_image(labels.astype(np.int16), "L"))
        shown = ShownPrediction(block(40, 2), MODEL_NAMES, "a-model", "abc") if predicted else None
        return ReviewedLabel(path, source, Volume(labels, GRIDS["L"].affine), NAMES, ("T1w", "T2w"), shown)

    return Person(layout, label)
