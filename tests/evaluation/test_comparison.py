"""Verdicts on scores that are written down by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest

from bidsapp.evaluation.comparison import _holm, compare, comparison_from_json, drawn_by
from bidsapp.records import CaseScore, LabelKind, LabelOrigin


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


OURS, THEIRS = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("kind", "model", "drawn"),
    [
        ("as_predicted", OURS, True),
        ("as_predicted", THEIRS, False),  # neither model: both are held to the same
        ("as_predicted", None, True),  # nobody knows which model
        ("unknown", None, True),
        ("corrected", OURS, False),
        ("drawn", None, False),
        ("imported", None, False),
    ],
)
def test_who_drew_a_label(kind: LabelKind, model: str | None, drawn: bool) -> None:
    assert drawn_by(LabelOrigin(kind, model_sha256=model), {OURS}) == drawn


@pytest.mark.parametrize(
    ("compared", "drawn_people", "said"),
    [
        (0, 8, "0 sides were corrected; correct 6 more, each of another person"),
        (1, 5, "1 side was corrected; correct 5 more, each of another person"),
        (2, 2, "2 sides were corrected; correct 4 more, each of another person (there are 2: add people)"),
    ],
)
def test_too_few_corrected_sides_are_never_worse(compared: int, drawn_people: int, said: str) -> None:
    """The new model loses by far, and is not called worse: what was compared is too little."""
    drawn = {f"drawn-{number}": f"sub-d{number}" for number in range(drawn_people)}
    found = compare(scores(BEFORE[:compared]), scores([0.1] * compared), seed=1, drawn=drawn)
    assert found is not None
    assert found.verdict == "too few to tell"
    assert str(found) == f"too few to tell: {said}"
    assert (found.overall is None) == (compared == 0)
    assert comparison_from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_second_side_that_was_corrected_makes_a_person_count() -> None:
    drawn = {"sub-00_L": "sub-00", "sub-09_L": "sub-09"}
    found = compare(scores(BEFORE[:3]), scores(BEFORE[:3]), seed=1, drawn=drawn)
    assert found is not None
    assert (found.sides, found.drawn_sides, found.drawn_people) == (3, 2, 1)


def test_six_corrected_people_tell_whatever_else_was_drawn() -> None:
    drawn = {f"drawn-{number}": f"sub-d{number}" for number in range(20)}
    found = compare(scores(BEFORE), scores([dice - 0.1 for dice in BEFORE]), seed=1, drawn=drawn)
    assert found is not None
    assert str(found) == found.verdict == "worse"


def test_few_people_and_nothing_drawn() -> None:
    found = compare(scores(BEFORE[:4]), scores(BEFORE[:4]), seed=1)
    assert str(found) == "too few to tell: 4 people, 6 are needed"


def test_what_an_older_version_noted_is_read() -> None:
    found = compare(scores(BEFORE), scores(BEFORE), seed=1)
    assert found is not None
    noted = {name: value for name, value in found.to_json().items() if name in ("verdict", "overall", "labels")}
    assert comparison_from_json(noted).overall == found.overall
