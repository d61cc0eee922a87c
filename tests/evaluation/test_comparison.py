"""Verdicts on scores that are written down by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest

from bidsapp.evaluation.comparison import _holm, compare, comparison_from_json
from bidsapp.records import CaseScore


def scores(values: Sequence[float], *, label: str = "Hippocampus", sides: int = 1) -> list[CaseScore]:
    """One person per value; a second side scores 0.1 less."""
    return [
        CaseScore(f"sub-{number:02d}", f"sub-{number:02d}_{side}", "R", label, dice - 0.1 * side, 1, 1, 1, 1)
        for number, dice in enumerate(values)
        for side in range(sides)
    ]


BEFORE = [0.80, 0.82, 0.78, 0.85, 0.81, 0.79]


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.02, 0.03, 0.01, 0.02, 0.04, 0.02], "better"),
        ([-0.02, -0.03, -0.01, -0.02, -0.04, -0.02], "worse"),
        ([-0.005] * 6, "no difference shown"),  # surely less, but no loss that counts
        ([-0.2, 0.1, 0.1, -0.1, 0.05, 0.0], "no difference shown"),
        ([0.0] * 6, "no difference shown"),
        ([-0.3] * 5, "too few to tell"),
    ],
)
def test_verdicts(gains: list[float], verdict: str) -> None:
    before = BEFORE[: len(gains)]
    after = [dice + gain for dice, gain in zip(before, gains, strict=True)]
    found = compare(scores(before), scores(after), seed=1)
    assert found is not None
    assert found.verdict == verdict
    assert found.overall.mean == pytest.approx(sum(gains) / len(gains))
    assert found.overall.before == pytest.approx(sum(before) / len(before))
    assert found.overall.people == len(gains)


def test_sides_are_not_people() -> None:
    found = compare(scores(BEFORE[:5], sides=2), scores(BEFORE[:5], sides=2), seed=1)
    assert found is not None
    assert found.overall.people == 5
    assert found.verdict == "too few to tell"


def test_labels_count_alike_and_are_shown_alone() -> None:
    before = [*scores(BEFORE, label="A"), *scores(BEFORE, label="B")]
    after = [*scores([dice + 0.02 for dice in BEFORE], label="A"), *scores([d - 0.06 for d in BEFORE], label="B")]
    found = compare(before, after, seed=1)
    assert found is not None
    assert found.overall.mean == pytest.approx(-0.02)
    assert found.verdict == "worse"
    assert found.labels["A"].mean == pytest.approx(0.02)
    assert found.labels["B"].mean == pytest.approx(-0.06)
    # six of six signs: the exact p of Wilcoxon's test is 2 / 2**6; two labels double it
    assert found.labels["A"].p_adjusted == pytest.approx(2 * 2 / 64)
    assert comparison_from_json(json.loads(json.dumps(found.to_json()))) == found


def test_what_is_not_defined_in_both_is_left_out() -> None:
    found = compare(scores([math.nan, *BEFORE]), scores([0.9, *BEFORE]), seed=1)
    assert found is not None
    assert found.overall.people == 6
    assert compare(scores([math.nan]), scores([0.9]), seed=1) is None


def test_holm_by_hand() -> None:
    assert _holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None}) == {"a": 0.03, "b": 0.06, "c": 0.06, "d": None}
