"""Scores of the test people: one row per case and label, and what they say together."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.evaluation import metrics
from bidsapp.files import write_json
from bidsapp.printable import people_text, plural
from bidsapp.records import CaseScore, Hemi, LabelKind, LabelOrigin, LabelTable
from bidsapp.tsv import read_tsv, write_tsv

COLUMNS = tuple(field.name for field in fields(CaseScore))
MEASURES = ("dice", "hd95_mm", "assd_mm", "volume_error_mm3", "volume_error_percent")
RESAMPLES = 10_000
NOT_AVAILABLE = "n/a"
FEWEST_PEOPLE = 3
"""Below, a mean over people is no headline: the interval of two is only where they are."""
LEARNED = 0.2
"""A mean Dice below this is what an untrained network gives, or one that calls half of a crop hippocampus."""
FEW_ITERATIONS = 10_000

Values = NDArray[np.float64]


@dataclass(frozen=True)
class MeasureSummary:
    """One measure over many scores; only defined (not NaN) scores count."""

    mean: float | None
    """Mean over all defined scores, None when there is none."""
    sd: float | None
    """Standard deviation between the scores (n - 1), None below two."""
    interval_95: tuple[float, float] | None
    """Percentile bootstrap interval of the mean, people being drawn with replacement and keeping all their scores;
    None with fewer than two people."""
    people: int
    scores: int
    """How many people and scores entered."""
    undefined: int
    """How many scores were left out because the measure has no value for them, e.g. distances of an empty prediction.
    A good mean with many undefined is not good."""


@dataclass(frozen=True)
class Group:
    """Every measure over some cases, per label and over the scores of all labels; keys are `MEASURES`."""

    people: int
    cases: int
    all_labels: dict[str, MeasureSummary]
    labels: dict[str, dict[str, MeasureSummary]]

    @property
    def too_few(self) -> str:
        """Why its mean is no headline; empty where it is one."""
        people = self.all_labels["dice"].people
        if people >= FEWEST_PEOPLE:
            return ""
        sides = f"{plural(self.cases, 'side')} of {people_text(people)}"
        return f"too few to tell: {sides} with a corrected, drawn or imported label, {FEWEST_PEOPLE} people are needed"


@dataclass(frozen=True)
class Summary(Group):
    """What the test says: of the cases whose label a person corrected or drew, or that was imported."""

    seed: int
    resamples: int
    consistency: Group
    """The same of the cases whose label was approved as predicted: how far the model strays from what another one
    drew. It is no score."""

    @property
    def learned_nothing(self) -> tuple[str, ...]:
        """Labels whose mean Dice is below `LEARNED`, by the scores, or where there are none by the consistency."""
        means = {
            name: (self.labels[name]["dice"].mean, self.consistency.labels[name]["dice"].mean) for name in self.labels
        }
        found = {name: scored if scored is not None else stayed for name, (scored, stayed) in means.items()}
        return tuple(name for name, mean in found.items() if mean is not None and mean < LEARNED)


def score_case(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    spacing_mm: Sequence[float],
    labels: LabelTable,
    *,
    participant: str,
    case: str,
    hemi: Hemi,
    annotated: Collection[str] | None = None,
    label_from: LabelKind = "imported",
) -> list[CaseScore]:
    """Compare two label maps on the same grid: one score per label of `labels`, in its order.

    Values that the table does not list are ignored; a listed label that is in neither map scores NaN, and so does
    one that the reference does not annotate (`annotated`: names of those that it does; None: all).

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    return [
        _score_label(prediction == value, reference == value, spacing_mm, participant, case, hemi, name, label_from)
        if annotated is None or name in annotated
        else CaseScore(participant, case, hemi, name, *[math.nan] * len(MEASURES), label_from=label_from)
        for value, name in labels.names.items()
    ]


def write_scores(path: Path, scores: Sequence[CaseScore]) -> None:
    """Write one row per score, rounded to 6 decimals, NaN as ``n/a`` (the BIDS word)."""
    write_tsv(path, COLUMNS, ([_to_cell(value) for value in astuple(score)] for score in scores))


def read_scores(path: Path) -> list[CaseScore]:
    """Read what `write_scores` wrote; columns may be in any order and there may be more.

    Tables of older versions do not say where a label comes from: it counts as imported.

    Raises
    ------
    NoInputError
        When there is no such file.
    BadDataError
        When a column is missing, or a cell is no number or no hemisphere.
    """
    if not path.is_file():
        raise NoInputError(f"{path} does not exist", "Scores are written when the test people are predicted.")
    return [_read_row(row.cells, f"{path}, line {row.line}") for row in read_tsv(path, COLUMNS[:-1])]


def summarise(scores: Sequence[CaseScore], seed: int) -> Summary:
    """Mean, spread and bootstrap interval by person of every measure, per label and over all labels.

    Scores against labels that were approved as predicted (or of unknown origin) are summarised apart. A person's two
    sides are not independent, so people are resampled, not images (10,000 times). The same draws serve all measures.

    Raises
    ------
    ValueError
        When there are no scores.
    """
    if not scores:
        raise ValueError("there are no scores to summarise")
    labels = tuple(dict.fromkeys(score.label for score in scores))
    scored, stayed = (
        _summarise_group(
            [score for score in scores if LabelOrigin(score.label_from).is_reference == counts], labels, seed
        )
        for counts in (True, False)
    )
    return Summary(
        people=scored.people,
        cases=scored.cases,
        all_labels=scored.all_labels,
        labels=scored.labels,
        seed=seed,
        resamples=RESAMPLES,
        consistency=stayed,
    )


def say_unlearned(summary: Summary, iterations: int) -> str:
    """That a network has not learned yet, for log, report and card; empty where it has."""
    names = summary.learned_nothing
    if not names:
        return ""
    what = "has not learned yet" if len(names) == len(summary.labels) else f"has not learned {', '.join(names)} yet"
    if iterations < FEW_ITERATIONS:
        return f"{what}: {iterations:,} iterations are few; see the curve"
    return f"{what}, after {iterations:,} iterations: see the curve, the labels and the settings"


def _summarise_group(scores: Sequence[CaseScore], labels: Sequence[str], seed: int) -> Group:
    people = sorted({score.participant_id for score in scores})
    draws = draw_people(len(people), seed)
    return Group(
        people=len(people),
        cases=len({score.case for score in scores}),
        all_labels=_summarise_measures(scores, people, draws),
        labels={
            label: _summarise_measures([score for score in scores if score.label == label], people, draws)
            for label in labels
        },
    )


def write_summary(path: Path, summary: Summary, *, iterations: int) -> None:
    """Write `summary` as JSON, None as null, with what must be said of it (`say_of_scores`)."""
    notes = say_of_scores(summary, iterations)
    write_json(path, {**asdict(summary), "too_few": bool(summary.too_few), "notes": notes})


def say_of_scores(summary: Summary, iterations: int) -> list[str]:
    """What log, report and card must say with the scores, or in their place: each without capital and full stop."""
    stayed = summary.consistency
    notes = [f"test scores: {summary.too_few}"] if summary.too_few else []
    dice = stayed.all_labels["dice"].mean
    if dice is not None:
        sides = f"{plural(stayed.cases, 'side')} of {people_text(stayed.people)}"
        notes.append(
            f"consistency with {sides} whose label was approved as predicted: Dice {dice:.3f}, which is no score"
        )
    unlearned = say_unlearned(summary, iterations)
    return [*notes, f"the network {unlearned}"] if unlearned else notes


def _score_label(
    prediction: metrics.Mask,
    reference: metrics.Mask,
    spacing_mm: Sequence[float],
    participant: str,
    case: str,
    hemi: Hemi,
    label: str,
    label_from: LabelKind,
) -> CaseScore:
    distances = metrics.surface_distances(prediction, reference, spacing_mm)
    return CaseScore(
        participant_id=participant,
        case=case,
        hemi=hemi,
        label=label,
        dice=metrics.dice(prediction, reference),
        hd95_mm=metrics.hausdorff_mm(distances),
        assd_mm=metrics.average_symmetric_surface_distance_mm(distances),
        volume_error_mm3=metrics.volume_error_mm3(prediction, reference, spacing_mm),
        volume_error_percent=metrics.volume_error_percent(prediction, reference),
        label_from=label_from,
    )


def _to_cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return NOT_AVAILABLE if math.isnan(value) else repr(round(float(value), 6))


def _read_row(row: dict[str, str], where: str) -> CaseScore:
    if row["hemi"] not in get_args(Hemi):
        raise BadDataError(f"{where}: hemi is {row['hemi']!r}", "It must be L, R or n/a.")
    label_from = row.get("label_from") or "imported"
    if label_from not in get_args(LabelKind):
        kinds = ", ".join(get_args(LabelKind))
        raise BadDataError(f"{where}: label_from is {label_from!r}", f"It must be one of {kinds}.")
    return CaseScore(
        row["participant_id"],
        row["case"],
        cast(Hemi, row["hemi"]),
        row["label"],
        *(_read_number(row[measure], f"{where}, {measure}") for measure in MEASURES),
        label_from=cast(LabelKind, label_from),
    )


def _read_number(cell: str | None, where: str) -> float:
    if cell == NOT_AVAILABLE:
        return math.nan
    try:
        return float(cell or "")
    except ValueError:
        raise BadDataError(f"{where}: {cell!r} is neither a number nor {NOT_AVAILABLE}") from None


def draw_people(count: int, seed: int) -> Values:
    """How often each person is drawn in each resample, shape (RESAMPLES, count)."""
    if not count:
        return np.zeros((RESAMPLES, 0))
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    cells = drawn + count * np.arange(RESAMPLES)[:, None]
    return np.bincount(cells.ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count).astype(float)


def _summarise_measures(scores: Sequence[CaseScore], people: Sequence[str], draws: Values) -> dict[str, MeasureSummary]:
    rank = {person: index for index, person in enumerate(people)}
    person = np.array([rank[score.participant_id] for score in scores], dtype=np.int_)
    return {
        measure: _summarise_values(np.array([getattr(score, measure) for score in scores], dtype=float), person, draws)
        for measure in MEASURES
    }


def _summarise_values(values: Values, person: NDArray[np.int_], draws: Values) -> MeasureSummary:
    """Summarise `values`, shape (scores,), of the people with the indices `person`, same shape."""
    defined = ~np.isnan(values)
    kept, owner = values[defined], person[defined]
    return MeasureSummary(
        mean=float(kept.mean()) if kept.size else None,
        sd=float(kept.std(ddof=1)) if kept.size > 1 else None,
        interval_95=bootstrap_interval(kept, owner, draws),
        people=len(np.unique(owner)),
        scores=int(kept.size),
        undefined=int(values.size - kept.size),
    )


def bootstrap_interval(values: Values, person: NDArray[np.int_], draws: Values) -> tuple[float, float] | None:
    """2.5th and 97.5th percentile of the mean under `draws`; None with fewer than two people."""
    if len(np.unique(person)) < 2:
        return None
    totals = draws @ np.bincount(person, weights=values, minlength=draws.shape[1])
    counts = draws @ np.bincount(person, minlength=draws.shape[1])
    drawn = counts > 0  # a resample may hold nobody for whom the measure is defined
    low, high = np.percentile(totals[drawn] / counts[drawn], [2.5, 97.5])
    return float(low), float(high)
