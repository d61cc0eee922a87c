"""What a person is told of a label map before looking."""

from __future__ import annotations

import numpy as np
import pytest

from bidsapp.corobl.grid import GRIDS, SHAPE
from bidsapp.corobl.quality import Judgement, worst_level
from bidsapp.corobl.template import load_hippocampus
from bidsapp.guards.judgement import judge_label_map, judge_symmetry
from bidsapp.images.volumes import Volume
from bidsapp.records import Side


def judge(labels: np.ndarray, side: Side, hippocampal: set[int], volume_mm3: float | None) -> tuple[Judgement, ...]:
    return judge_label_map(Volume(labels, GRIDS[side].affine), side, hippocampal, volume_mm3)


def by_measure(judgements: tuple[Judgement, ...]) -> dict[str, Judgement]:
    return {judgement.measure: judgement for judgement in judgements}


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_templates_own_hippocampus_is_green(side: Side) -> None:
    mask = load_hippocampus(side)
    judgements = judge(mask.astype(np.uint8), side, {1}, None)
    assert worst_level(judgements) == "green"
    found = by_measure(judgements)
    assert found["template_dice"].value == 1.0
    assert found["volume_mm3"].value == pytest.approx(mask.sum() * 0.027)


def test_an_empty_map_is_red_and_says_which_side() -> None:
    (only,) = judge(np.zeros(SHAPE, np.uint8), "L", {1}, None)
    assert (only.level, only.words) == ("red", "there is no left hippocampus in the label map")


def test_labels_beside_the_hippocampus_do_not_count() -> None:
    labels = load_hippocampus("R").astype(np.uint8)
    labels[:2] = 7  # a cyst at the border of the crop
    assert worst_level(judge(labels, "R", {1}, None)) == "green"
    assert worst_level(judge(labels, "R", {1, 7}, None)) == "red"


def test_a_hippocampus_at_the_border_names_side_and_border() -> None:
    labels = np.roll(load_hippocampus("R"), -(np.argwhere(load_hippocampus("R"))[:, 0].min()), axis=0).astype(np.uint8)
    found = by_measure(judge(labels, "R", {1}, None))["margin_mm"]
    assert found.level == "red"
    assert found.words == "the right hippocampus touches the lateral edge of the crop"


@pytest.mark.parametrize(
    ("volume_mm3", "level"),
    [(500, "red"), (1000, "amber"), (1600, "green"), (5900, "green"), (7000, "amber"), (9500, "red")],
)
def test_volumes_of_no_adult_are_flagged(volume_mm3: float, level: str) -> None:
    labels = load_hippocampus("L").astype(np.uint8)
    assert by_measure(judge(labels, "L", {1}, volume_mm3))["volume_mm3"].level == level


def test_scattered_and_misplaced_labels_are_flagged() -> None:
    mask = load_hippocampus("L")
    halves = mask.copy()
    halves[:, np.argwhere(mask)[:, 1].mean().astype(int), :] = False
    pieces = by_measure(judge(halves.astype(np.uint8), "L", {1}, None))["largest_piece"]
    assert pieces.level == "red"
    assert "in 2 pieces" in pieces.words
    elsewhere = np.roll(mask, 70, axis=1).astype(np.uint8)
    assert by_measure(judge(elsewhere, "L", {1}, None))["template_dice"].level == "red"


@pytest.mark.parametrize(
    ("left", "right", "level", "larger"),
    [(3000, 2900, "green", "left"), (2000, 3000, "amber", "right"), (6100, 3000, "red", "left")],
)
def test_sides_are_compared(left: float, right: float, level: str, larger: str) -> None:
    (judgement,) = judge_symmetry({"L": left, "R": right})
    assert judgement.level == level
    assert judgement.words.startswith(f"the {larger} hippocampus is")


def test_one_side_alone_has_no_symmetry() -> None:
    assert judge_symmetry({"L": 3000}) == judge_symmetry({"L": 3000, "R": 0}) == ()
