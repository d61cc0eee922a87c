"""report.html: what a training did, how well the test people were predicted, and how to go on."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bidsapp.evaluation.scores import FEWEST_PEOPLE, say_of_scores
from bidsapp.files import write_text
from bidsapp.images.volumes import read_volume
from bidsapp.labels.colours import LABEL_COLOURS, label_colours
from bidsapp.nnunet_names import NNUNET_CONFIGURATION
from bidsapp.pairs.origins import KIND_WORDS
from bidsapp.pictures.drawing import ORIENTATION, SIDE_COLOURS
from bidsapp.pictures.outlines import (
    DARK,
    LIGHT,
    Curve,
    Dot,
    SlicePicture,
    ThemedPicture,
    curve_picture,
    dots_picture,
    outline_pictures,
)
from bidsapp.printable import people_text, plural
from bidsapp.records import CaseScore
from bidsapp.report.pages import NOT_AVAILABLE, number_text, render_page
from bidsapp.report.training_facts import GenerationFacts, HistoryPoint, ScoredCase, TrainingReport

if TYPE_CHECKING:
    from bidsapp.evaluation.comparison import Comparison, Difference
    from bidsapp.evaluation.scores import Group, MeasureSummary, Summary

SHORT_HASH = 12
TRAINING_COLOUR, VALIDATION_COLOUR, RATE_COLOUR = "#56B4E9", "#D55E00", "#009E73"

_NAMES_OF_PARTS = {"train": "training", "validation": "validation", "test": "test"}
_NAMES_OF_SIDES = {"L": "left", "R": "right", "n/a": "side not known"}


@dataclass(frozen=True)
class Measure:
    """How a measure is called and rounded on the page."""

    key: str
    title: str
    decimals: int
    explanation: str


MEASURES = (
    Measure("dice", "Dice", 3, "Overlap: 0 is none, 1 is perfect."),
    Measure("hd95_mm", "HD95 [mm]", 2, "95th percentile of the distances between the surfaces."),
    Measure("assd_mm", "ASSD [mm]", 2, "Mean distance between the surfaces."),
    Measure("volume_error_mm3", "Volume error [mm³]", 0, "Predicted minus reference."),
    Measure("volume_error_percent", "Volume error [%]", 1, "Predicted minus reference, in percent of the reference."),
)


@dataclass(frozen=True)
class ShownCase:
    """A case whose pictures are on the page; `role` says why: best, median, worst."""

    role: str
    case: ScoredCase
    slices: tuple[SlicePicture, ...]


@dataclass(frozen=True)
class Command:
    """Something to do next: why, and the shell line."""

    title: str
    line: str
    note: str


def write_training_report(path: Path, report: TrainingReport) -> None:
    """Write the page; opens offline, loads nothing.

    Raises
    ------
    VolumeError
        When image, label or prediction of a pictured case is missing or damaged.
    CannotWriteError
        When `path` cannot be written.
    """
    write_text(path, render_training_report(report))


def render_training_report(report: TrainingReport) -> str:
    """The page as HTML."""
    defined = [case.mean_dice for case in report.cases if not math.isnan(case.mean_dice)]
    return render_page(
        "training.html.j2",
        {
            "report": report,
            "base": "from scratch" if report.base == "scratch" else f"from the model {report.base[:SHORT_HASH]}",
            "parts": [(_NAMES_OF_PARTS[part.name], part) for part in report.parts],
            "iterations": report.segments[-1].target if report.segments else 0,
            "headline": _headline(report.summary),
            "notes": say_of_scores(report.summary, report.segments[-1].target if report.segments else 0),
            "words": KIND_WORDS,
            "colours": dict(zip(report.labels.values(), label_colours(report.labels).values(), strict=True)),
            "tables": [(measure, _score_rows(report.summary, measure)) for measure in MEASURES],
            "consistency_rows": _score_rows(report.summary.consistency, MEASURES[0]),
            "plots": _score_plots(report),
            "sides": _sides(report),
            "shown": [_show(role, case, report) for role, case in cases_to_show(report.cases)],
            "score_texts": _score_texts(report),
            "orientation": ORIENTATION,
            "all_cases": _case_rows(report),
            "nothing_defined": not defined,
            "curves": _curves(report),
            "generations": [_generation_row(number, one) for number, one in enumerate(report.generations, start=1)],
            "generation_plot": _generation_plot(report),
            "label_changes": _label_changes(report),
            "loss_colours": (TRAINING_COLOUR, VALIDATION_COLOUR),
            "changed_settings": [name for name, text in report.settings.items() if report.defaults.get(name) != text],
            "commands": _commands(report),
            "short_hash": SHORT_HASH,
            "many_colours": len(report.labels) > len(LABEL_COLOURS),
        },
    )


def cases_to_show(cases: Sequence[ScoredCase]) -> list[tuple[str, ScoredCase]]:
    """Best, median and worst case by mean Dice, a case with several roles once; the lower median of two.

    Of those whose label was corrected, drawn or imported, if there are any. Cases without any defined Dice are only
    shown where there is no other: then the first one.
    """
    cases = [case for case in cases if case.origin.is_reference] or cases
    ranked = sorted((case for case in cases if not math.isnan(case.mean_dice)), key=lambda case: case.mean_dice)
    if not ranked:
        return [("no Dice is defined", case) for case in cases[:1]]
    roles: dict[str, list[str]] = {}
    chosen = {"best": ranked[-1], "median": ranked[(len(ranked) - 1) // 2], "worst": ranked[0]}
    for role, case in chosen.items():
        roles.setdefault(case.case, []).append(role)
    by_name = {case.case: case for case in ranked}
    if len(ranked) == 1:
        return [("the only scored case", ranked[0])]
    return [(" and ".join(names), by_name[case]) for case, names in roles.items()]


def _show(role: str, case: ScoredCase, report: TrainingReport) -> ShownCase:
    image, reference, prediction = (read_volume(path, "pair") for path in (case.image, case.reference, case.prediction))
    slices = outline_pictures(image, reference.data, prediction.data, report.labels)
    return ShownCase(role, case, slices)


def _headline(summary: Summary) -> dict[str, str]:
    dice, too_few = summary.all_labels["dice"], bool(summary.too_few)
    return {
        "mean": "too few to tell" if too_few else number_text(dice.mean, 3),
        "interval": "" if too_few else _interval(dice, 3),
        "people": people_text(dice.people),
        "scores": plural(dice.scores, "score"),
        "undefined": str(dice.undefined) if dice.undefined else "",
    }


def _score_rows(group: Group, measure: Measure) -> list[dict[str, str]]:
    named = [*group.labels.items(), ("all labels", group.all_labels)]
    rows = []
    for position, (name, measures) in enumerate(named):
        found = measures[measure.key]
        rows.append(
            {
                "label": name,
                "colour_of": name if position < len(named) - 1 else "",
                "mean": number_text(found.mean, measure.decimals),
                "sd": number_text(found.sd, measure.decimals),
                "interval": _interval(found, measure.decimals),
                "people": str(found.people),
                "scores": str(found.scores),
                "undefined": str(found.undefined),
            }
        )
    return rows


def _score_texts(report: TrainingReport) -> dict[tuple[str, str], list[str]]:
    """(case, label) -> every measure as the page shows it."""
    return {
        (score.case, score.label): [number_text(getattr(score, measure.key), measure.decimals) for measure in MEASURES]
        for case in report.cases
        for score in case.scores
    }


def _case_rows(report: TrainingReport) -> list[dict[str, Any]]:
    rows = []
    for case in report.cases:
        dice = {score.label: score.dice for score in case.scores}
        rows.append(
            {
                "case": case,
                "side": _NAMES_OF_SIDES[case.hemi] if case.hemi != "n/a" else NOT_AVAILABLE,
                "label": KIND_WORDS[case.origin.kind],
                "mean": _cell(case.mean_dice, 3),
                "dice": [_cell(dice.get(name, math.nan), 3) for name in report.summary.labels],
                "hd95": _cell(_mean_of_defined([score.hd95_mm for score in case.scores]), 2),
                "volume": _cell(_mean_of_defined([abs(score.volume_error_percent) for score in case.scores]), 1),
            }
        )
    return rows


def _cell(value: float, decimals: int) -> tuple[str, str]:
    """What a cell shows, and what it is sorted by."""
    return number_text(value, decimals), "" if math.isnan(value) else repr(float(value))


def _mean_of_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _score_plots(report: TrainingReport) -> list[tuple[str, ThemedPicture]]:
    """One plot for each of the first two measures that is defined at all; of the cases that can be scored."""
    scores = [score for case in report.cases if case.origin.is_reference for score in case.scores]
    plots = []
    for measure in MEASURES[:2]:
        finite = [value for value in (getattr(score, measure.key) for score in scores) if math.isfinite(value)]
        if finite:
            limits = _dice_limits(finite) if measure.key == "dice" else (0.0, 1.05 * max(finite) or 1.0)
            rows = {name: _dots(name, scores, measure) for name in report.summary.labels}
            alt = f"{measure.title} of every test case, one row per label"
            light, dark = (dots_picture(rows, theme=theme, limits=limits, alt=alt) for theme in (LIGHT, DARK))
            plots.append((measure.title, ThemedPicture(light, dark)))
    return plots


def _dice_limits(values: Sequence[float]) -> tuple[float, float]:
    """From the tenth below the lowest value to 1."""
    return max(0.0, math.floor(min(values) * 10 - 0.2) / 10), 1.0


def _dots(name: str, scores: Sequence[CaseScore], measure: Measure) -> list[Dot]:
    return [Dot(getattr(one, measure.key), one.hemi) for one in scores if one.label == name]


def _sides(report: TrainingReport) -> list[tuple[str, str, str]]:
    """(side, its name, its colour) of the sides that were tested."""
    present = {case.hemi for case in report.cases}
    return [(side, _NAMES_OF_SIDES[side], colour) for side, colour in SIDE_COLOURS.items() if side in present]


def _curves(report: TrainingReport) -> dict[str, ThemedPicture]:
    history, segments = report.history, report.segments
    if not history:
        return {}
    boundaries = [segments[0].start, *(segment.target for segment in segments)] if segments else []
    colours = label_colours(report.labels)
    losses = [
        _curve(history, [point.training_loss for point in history], TRAINING_COLOUR),
        _curve(history, [point.validation_loss for point in history], VALIDATION_COLOUR),
    ]
    dice, consistency = (
        [
            _curve(
                history,
                [of_labels.get(name, math.nan) for of_labels in measured],
                colours[value],
                dashed=number >= len(LABEL_COLOURS),
            )
            for number, (value, name) in enumerate(report.labels.items())
        ]
        for measured in ([point.dice for point in history], [point.consistency for point in history])
    )
    end = history[-1].iteration
    dice += [
        Curve((0, end), (report.source_dice[name],) * 2, colours[value], dashed=True)
        for value, name in report.labels.items()
        if name in report.source_dice
    ]
    rates = [_curve(history, [point.learning_rate for point in history], RATE_COLOUR)]
    both = {}
    if any(point.dice for point in history):
        alt = "Validation Dice of every label over iterations"
        both["dice"] = _themed_curves(dice, boundaries, alt, y_limits=(0.0, 1.0))
    if any(point.consistency for point in history):
        alt = "Consistency with labels approved as predicted over iterations"
        both["consistency"] = _themed_curves(consistency, boundaries, alt, y_limits=(0.0, 1.0))
    return {
        "loss": _themed_curves(losses, boundaries, "Training and validation loss over iterations"),
        **both,
        "rate": _themed_curves(rates, boundaries, "Learning rate over iterations", y_limits=(0.0, None)),
    }


def _curve(history: Sequence[HistoryPoint], values: Sequence[float], colour: str, *, dashed: bool = False) -> Curve:
    return Curve(tuple(point.iteration for point in history), tuple(values), colour, dashed)


def _themed_curves(
    curves: Sequence[Curve],
    boundaries: Sequence[float],
    alt: str,
    *,
    y_limits: tuple[float | None, float | None] = (None, None),
) -> ThemedPicture:
    light, dark = (
        curve_picture(curves, theme=theme, boundaries=boundaries, alt=alt, y_limits=y_limits) for theme in (LIGHT, DARK)
    )
    return ThemedPicture(light, dark)


def _generation_row(number: int, one: GenerationFacts) -> dict[str, str]:
    mean, low, high = one.test_dice
    interval = f" ({number_text(low, 3)} to {number_text(high, 3)})" if low is not None else ""
    return {
        "number": str(number),
        "iterations": f"{one.iterations:,}",
        "generation": str(one.generation),
        "people": " / ".join(str(one.people.get(part, 0)) for part in _NAMES_OF_PARTS),
        "rehearsed": str(one.rehearsed),
        "test": f"{number_text(mean, 3)}{interval}" if one.test_people >= FEWEST_PEOPLE else "too few",
        "consistency": number_text(one.consistency, 3),
        "validation": _change(one.comparisons.get("validation")),
        "source": _change(one.comparisons.get("source test")),
        "current": "yes" if one.accepted else "no: worse",
    }


def _change(comparison: Comparison | None) -> str:
    if comparison is None:
        return NOT_AVAILABLE
    overall = comparison.overall
    if overall is None:
        return str(comparison)
    return f"{comparison}; {_gain(overall)}, {plural(overall.people, 'person', 'people')}"


def _gain(difference: Difference) -> str:
    interval = difference.interval_95
    return f"{difference.mean:+.3f}" + (f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else "")


def _label_changes(report: TrainingReport) -> list[dict[str, str]]:
    """Per label, how the last segment compares with the model before."""
    if not report.generations:
        return []
    return [
        {
            "people": what,
            "label": label,
            "before": number_text(one.before, 3),
            "after": number_text(one.after, 3),
            "gain": _gain(one),
            "p": NOT_AVAILABLE if one.p_adjusted is None else f"{one.p_adjusted:.2g}",
        }
        for what, comparison in report.generations[-1].comparisons.items()
        for label, one in comparison.labels.items()
    ]


def _generation_plot(report: TrainingReport) -> ThemedPicture | None:
    """Test Dice after each segment with its interval; nothing to see with one."""
    tested = [one for one in report.generations if one.test_people >= FEWEST_PEOPLE and one.test_dice[0] is not None]
    if len(tested) < 2:
        return None
    x = tuple(float(one.iterations) for one in tested)
    mean, low, high = (
        tuple(math.nan if value is None else value for value in values)
        for values in zip(*(one.test_dice for one in tested), strict=True)
    )
    curves = [
        Curve(x, mean, VALIDATION_COLOUR),
        Curve(x, low, VALIDATION_COLOUR, dashed=True),
        Curve(x, high, VALIDATION_COLOUR, dashed=True),
    ]
    return _themed_curves(curves, [], "Test Dice after each segment, with its 95 % interval")


def _commands(report: TrainingReport) -> list[Command]:
    """What to do next, to be typed in the model's folder."""
    export = report.export
    pairs = "" if report.approved else "--training-dir TRAINING_DIR "
    return [
        Command(
            "Train on",
            f"hippotune BIDS_DIR OUTPUT_DIR group {pairs}--model-dir MODEL_DIR",
            "The command that made this model, given again, opens a further segment of training.iterations "
            "(config.ini), with new people if there are any. --iterations 0 only tests and exports.",
        ),
        Command(
            "Watch the training",
            "tensorboard --logdir tensorboard",
            "Then open the address that it prints.",
        ),
        Command(
            "Install the model in plain nnU-Net",
            f"nnUNetv2_install_pretrained_model_from_zip {shlex.quote(export.archive)}",
            "nnUNet_results must name the folder that models are installed in.",
        ),
        Command(
            "Predict with plain nnU-Net",
            f"nnUNetv2_predict -d {shlex.quote(export.dataset_id)} -c {NNUNET_CONFIGURATION} -f 0 "
            "-i IMAGES -o PREDICTIONS",
            "IMAGES holds <case>_0000.nii.gz (one file per channel, numbered) as the network was trained: "
            "crops in its space, left hemispheres flipped along the first axis. Without a GPU add -device cpu.",
        ),
    ]


def _interval(measure: MeasureSummary, decimals: int) -> str:
    if measure.interval_95 is None:
        return NOT_AVAILABLE
    return " to ".join(number_text(end, decimals) for end in measure.interval_95)
