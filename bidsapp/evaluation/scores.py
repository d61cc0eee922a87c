"""Scores of the test people: one row per case and label, and what they say together."""

from __future__ import annotations

import csv
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
from bidsapp.records import CaseScore, Hemi, LabelTable
from bidsapp.tsv import write_tsv

COLUMNS = tuple(field.name for field in fields(CaseScore))
MEASURES = ("dice", "hd95_mm", "assd_mm", "volume_error_mm3", "volume_error_percent")
RESAMPLES = 10_000
NOT_AVAILABLE = "n/a"

Values = NDArray[np.float64]


@dataclass(frozen=True)
class MeasureSummary:
    """One measure over many scores; only defined (not NaN) scores count.

    Attributes
    ----------
    mean
        Mean over all defined scores, None when there is none.
    sd
        Standard deviation between the scores (n - 1), None below two.
    interval_95
        Percentile bootstrap interval of the mean, people being drawn with replacement and keeping all their
        scores; None with fewer than two people.
    people, scores
        How many people and scores entered.
    undefined
        How many scores were left out because the measure has no value for them, e.g. distances of an empty
        prediction. A good mean with many undefined is not good.
    """

    mean: float | None
    sd: float | None
    interval_95: tuple[float, float] | None
    people: int
    scores: int
    undefined: int


@dataclass(frozen=True)
class Summary:
    """Every measure, per label and over the scores of all labels; keys are `MEASURES`."""

    people: int
    cases: int
    seed: int
    resamples: int
    all_labels: dict[str, MeasureSummary]
    labels: dict[str, dict[str, MeasureSummary]]


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
        _score_label(prediction == value, reference == value, spacing_mm, participant, case, hemi, name)
        if annotated is None or name in annotated
        else CaseScore(participant, case, hemi, name, *[math.nan] * len(MEASURES))
        for value, name in labels.names.items()
    ]


def write_scores(path: Path, scores: Sequence[CaseScore]) -> None:
    """Write one row per score, rounded to 6 decimals, NaN as ``n/a`` (the BIDS word)."""
    write_tsv(path, COLUMNS, ([_to_cell(value) for value in astuple(score)] for score in scores))


def read_scores(path: Path) -> list[CaseScore]:
    """Read what `write_scores` wrote; columns may be in any order and there may be more.

    Raises
    ------
    NoInputError
        When there is no such file.
    BadDataError
        When a column is missing, or a cell is no number or no hemisphere.
    """
    if not path.is_file():
        raise NoInputError(f"{path} does not exist", "Scores are written when the test people are predicted.")
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise BadDataError(f"{path} has no column {', '.join(missing)}")
        return [_read_row(row, f"{path}, line {reader.line_num}") for row in reader]


def summarise(scores: Sequence[CaseScore], seed: int) -> Summary:
    """Mean, spread and bootstrap interval by person of every measure, per label and over all labels.

    A person's two sides are not independent, so people are resampled, not images (10,000 times). The same
    draws serve all measures.

    Raises
    ------
    ValueError
        When there are no scores.
    """
    if not scores:
        raise ValueError("there are no scores to summarise")
    people = sorted({score.participant_id for score in scores})
    draws = draw_people(len(people), seed)
    labels = dict.fromkeys(score.label for score in scores)
    return Summary(
        people=len(people),
        cases=len({score.case for score in scores}),
        seed=seed,
        resamples=RESAMPLES,
        all_labels=_summarise_measures(scores, people, draws),
        labels={
            label: _summarise_measures([score for score in scores if score.label == label], people, draws)
            for label in labels
        },
    )


def write_summary(path: Path, summary: Summary) -> None:
    """Write `summary` as JSON, None as null."""
    write_json(path, asdict(summary))


def _score_label(
    prediction: metrics.Mask,
    reference: metrics.Mask,
    spacing_mm: Sequence[float],
    participant: str,
    case: str,
    hemi: Hemi,
    label: str,
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
    )


def _to_cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return NOT_AVAILABLE if math.isnan(value) else repr(round(float(value), 6))


def _read_row(row: dict[str, str], where: str) -> CaseScore:
    if row["hemi"] not in get_args(Hemi):
        raise BadDataError(f"{where}: hemi is {row['hemi']!r}", "It must be L, R or n/a.")
    return CaseScore(
        row["participant_id"],
        row["case"],
        cast(Hemi, row["hemi"]),
        row["label"],
        *(_read_number(row[measure], f"{where}, {measure}") for measure in MEASURES),
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
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    cells = drawn + count * np.arange(RESAMPLES)[:, None]
    return np.bincount(cells.ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count).astype(float)


def _summarise_measures(scores: Sequence[CaseScore], people: Sequence[str], draws: Values) -> dict[str, MeasureSummary]:
    rank = {person: index for index, person in enumerate(people)}
    person = np.array([rank[score.participant_id] for score in scores])
    return {
        measure: _summarise_values(np.array([getattr(score, measure) for score in scores]), person, draws)
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
