"""How much two label maps differ, on numbers counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bidsapp.records import Approval, LabelDifference
from bidsapp.review.effort import label_differences

PREDICTED = np.array([[1, 1, 1, 0], [2, 2, 0, 0]])
CORRECTED = np.array([[1, 1, 0, 0], [1, 2, 2, 0]])
NAMES = {1: "CA1", 2: "DG"}


def share_changed(effort: tuple[LabelDifference, ...]) -> float | None:
    hashes = {"label_sha256": "", "crop_sha256": {}, "transform_sha256": {}}
    side = {"participant": "01", "session": None, "hemi": "L"}
    return Approval(when="", rater="", source="manual", labels={}, effort=effort, **side, **hashes).share_changed  # type: ignore[arg-type]


def test_a_voxel_that_goes_from_label_to_label_counts_for_both() -> None:
    """CA1: one voxel lost, one won, of four; DG: one lost, one won, of three."""
    effort = label_differences(CORRECTED, NAMES, PREDICTED, NAMES)
    assert effort == (LabelDifference("CA1", 2 * 2 / 6, 2, 4), LabelDifference("DG", 2 * 1 / 4, 2, 3))
    assert share_changed(effort) == pytest.approx(4 / 7)


def test_one_voxel_of_a_thousand() -> None:
    predicted = np.ones((10, 10, 10), int)
    predicted[0, 0, 0] = 0
    assert share_changed(label_differences(np.ones_like(predicted), NAMES, predicted, NAMES)) == 0.001


def test_nothing_has_no_share() -> None:
    empty = np.zeros((2, 2), int)
    assert share_changed(label_differences(empty, NAMES, empty, NAMES)) is None
    assert share_changed(()) is None
