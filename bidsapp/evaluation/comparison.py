"""Is a new model better or worse than the one before: paired by person, on labels that neither of them drew."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from bidsapp.evaluation.scores import bootstrap_interval, draw_people
from bidsapp.printable import people_text, plural
from bidsapp.records import CaseScore, LabelOrigin

FEWEST_PEOPLE = 6
"""Below, no interval of a mean deserves its name; six people is the least at which a sign test can reach 0.05."""

MARGIN = 0.01
"""A loss of mean Dice up to this much is no loss: raters differ by more."""

Verdict = Literal["better", "no difference shown", "worse", "too few to tell"]


@dataclass(frozen=True)
class Difference:
    """Dice of the new model less Dice of the one before, over people."""

    before: float
    after: float
    mean: float
    interval_95: tuple[float, float] | None
    """Percentile bootstrap interval of the mean over people; None with fewer than two."""
    people: int
    p_adjusted: float | None = None
    """Of a Wilcoxon signed-rank test, Holm-adjusted over the labels; None where nothing was tested."""


@dataclass(frozen=True)
class Comparison:
    """What two models' scores of the same people say."""

    verdict: Verdict
    overall: Difference | None
    """Of each person's mean over labels. None where nothing could be compared."""
    labels: dict[str, Difference]
    """Label name -> the same of this label alone."""
    sides: int = 0
    """How many sides were compared."""
    drawn_sides: int = 0
    drawn_people: int = 0
    """Sides that were left out, since one of the models (or one before it) drew their label and nobody corrected it;
    and people who have no other side."""

    def __str__(self) -> str:
        """The verdict in words."""
        if self.verdict != "too few to tell":
            return self.verdict
        people = self.overall.people if self.overall else 0
        if not self.drawn_sides:
            return f"{self.verdict}: {people_text(people)}, {FEWEST_PEOPLE} are needed"
        missing = FEWEST_PEOPLE - people
        sides = f"{plural(self.sides, 'side was', 'sides were')} corrected"
        more = f"{self.verdict}: {sides}; correct {missing} more, each of another person"
        return more if missing <= self.drawn_people else f"{more} (there are {self.drawn_people}: add people)"

    def to_json(self) -> dict[str, Any]:
        """As `comparison_from_json` reads it."""
        return asdict(self)


def drawn_by(origin: LabelOrigin, models: Collection[str]) -> bool:
    """Whether a label says nothing of who of `models` (digests of contenders and all before them) is better.

    That is a prediction that nobody corrected, where one of them made it or nobody knows which model did.
    """
    return not origin.is_reference and (origin.model_sha256 is None or origin.model_sha256 in models)


def compare(
    before: Sequence[CaseScore], after: Sequence[CaseScore], *, seed: int, drawn: Mapping[str, str] | None = None
) -> Comparison | None:
    """Compare the Dice of two models on the same cases; None where there is no case at all.

    `drawn` (case -> person) names further cases, which are not compared (see `drawn_by`). A person's value is the mean
    over their cases (sides, sessions) with a Dice in both, so that sides do not count as people. ``worse`` needs a mean
    below -`MARGIN` and an interval below 0; ``better`` an interval above 0.
    """
    values, left_out = _paired(before, after), drawn or {}
    if not values and not left_out:
        return None
    counted = {
        "sides": len({one.case for one in before} & {one.case for one in after}),
        "drawn_sides": len(left_out),
        "drawn_people": len(set(left_out.values()) - {person for person, _ in values}),
    }
    if not values:
        return Comparison("too few to tell", None, {}, **counted)
    people = sorted({person for person, _ in values})
    labels = sorted({label for _, label in values})
    of_label = {label: [two for (_, name), two in sorted(values.items()) if name == label] for label in labels}
    of_person = [_mean([two for (name, _), two in values.items() if name == person]) for person in people]
    p_values = _holm({label: _wilcoxon_p(pairs) for label, pairs in of_label.items()})
    overall = _difference(of_person, seed)
    return Comparison(
        _verdict(overall),
        overall,
        {label: replace(_difference(pairs, seed), p_adjusted=p_values[label]) for label, pairs in of_label.items()},
        **counted,
    )


def comparison_from_json(content: dict[str, Any]) -> Comparison:
    """Take back what `Comparison.to_json` gave."""
    return Comparison(
        content["verdict"],
        _difference_from_json(content["overall"]) if content["overall"] else None,
        {label: _difference_from_json(one) for label, one in content["labels"].items()},
        **{name: content.get(name, 0) for name in ("sides", "drawn_sides", "drawn_people")},
    )


def _difference_from_json(content: dict[str, Any]) -> Difference:
    interval = content["interval_95"]
    return Difference(**content | {"interval_95": tuple(interval) if interval else None})


_Two = tuple[float, float]
"""Dice before and after."""


def _paired(before: Sequence[CaseScore], after: Sequence[CaseScore]) -> dict[tuple[str, str], _Two]:
    """(person, label) -> mean Dice before and after over the cases where both are defined."""
    old = {(score.case, score.label): score.dice for score in before}
    both: dict[tuple[str, str], list[_Two]] = {}
    for score in after:
        was = old.get((score.case, score.label), math.nan)
        if not (math.isnan(was) or math.isnan(score.dice)):
            both.setdefault((score.participant_id, score.label), []).append((was, score.dice))
    return {key: _mean(pairs) for key, pairs in both.items()}


def _mean(pairs: Sequence[_Two]) -> _Two:
    before, after = np.mean(pairs, axis=0)
    return float(before), float(after)


def _difference(pairs: Sequence[_Two], seed: int) -> Difference:
    before, after = np.transpose(pairs)
    gained = after - before
    interval = bootstrap_interval(gained, np.arange(len(gained)), draw_people(len(gained), seed))
    return Difference(float(before.mean()), float(after.mean()), float(gained.mean()), interval, len(gained))


def _verdict(overall: Difference) -> Verdict:
    if overall.people < FEWEST_PEOPLE or overall.interval_95 is None:
        return "too few to tell"
    low, high = overall.interval_95
    if overall.mean < -MARGIN and high < 0:
        return "worse"
    return "better" if low > 0 else "no difference shown"


def _wilcoxon_p(pairs: Sequence[_Two]) -> float | None:
    from scipy.stats import wilcoxon

    gained = [after - before for before, after in pairs]
    if len(gained) < FEWEST_PEOPLE:
        return None
    return float(wilcoxon(gained).pvalue) if any(gained) else 1.0


def _holm(p_values: dict[str, float | None]) -> dict[str, float | None]:
    """Holm 1979: the k-th smallest of n times n - k + 1, never below the one before."""
    tested = sorted((p, label) for label, p in p_values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    largest = 0.0
    for rank, (p, label) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        adjusted[label] = largest
    return adjusted
