"""What the report of a training says, gathered from the model's folder and its run."""

from __future__ import annotations

import hashlib
import math
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bidsapp.errors import BadDataError
from bidsapp.evaluation.comparison import Comparison, comparison_from_json
from bidsapp.layout import ModelLayout
from bidsapp.pairs.origins import count_kinds, say_kinds
from bidsapp.records import CaseScore, Hemi, LabelOrigin

if TYPE_CHECKING:
    from bidsapp.config import Settings
    from bidsapp.evaluation.scores import Summary
    from bidsapp.model_dir.state import ModelState, Segment

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class PartSize:
    """How much one part of the split holds, and how its labels came about, in words."""

    name: str
    people: int
    pairs: int
    labels: str


@dataclass(frozen=True)
class HistoryPoint:
    """One validation during the training; `iteration` counts over all segments.

    `dice` and `consistency` are by label name, see `bidsapp.training.trainer.Validation`.
    """

    iteration: int
    training_loss: float
    validation_loss: float
    dice: dict[str, float]
    learning_rate: float
    consistency: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentFacts:
    """One stretch of training."""

    start: int
    target: int
    peak_learning_rate: str
    changed: dict[str, tuple[str, str]]
    """The settings that differ from the segment before: name -> (before, now)."""


@dataclass(frozen=True)
class GenerationFacts:
    """What came out of one segment."""

    iterations: int
    generation: int
    people: dict[str, int]
    """Part -> how many; earlier pairs that were rehearsed are counted in `rehearsed`."""
    rehearsed: int
    test_dice: tuple[float | None, float | None, float | None]
    """Mean, lower and upper end of its 95 % interval; None where there is none."""
    test_people: int
    """How many the mean is over."""
    consistency: float | None
    """Mean Dice with the test labels that were approved as predicted; None where there are none."""
    comparisons: dict[str, Comparison]
    """``validation`` and ``source test`` -> how it compares with the model before."""
    accepted: bool
    """Whether it became the current export, as far as the comparison had to say."""


@dataclass(frozen=True)
class ScoredCase:
    """A test case with its files, all on one grid, and its scores in the order of the labels."""

    case: str
    participant: str
    hemi: Hemi
    image: Path
    reference: Path
    prediction: Path
    scores: tuple[CaseScore, ...]
    origin: LabelOrigin = field(default_factory=LabelOrigin)

    @property
    def mean_dice(self) -> float:
        """Mean over the labels whose Dice is defined, NaN when there is none."""
        defined = [score.dice for score in self.scores if not math.isnan(score.dice)]
        return sum(defined) / len(defined) if defined else math.nan


@dataclass(frozen=True)
class UsedPair:
    """A pair that the model was given, with the hash of its voxels and geometry."""

    case: str
    participant: str
    hemi: Hemi
    part: str
    content: str
    origin: LabelOrigin = field(default_factory=LabelOrigin)


@dataclass(frozen=True)
class ExportFacts:
    """The model as a file to share."""

    archive: str
    """Path relative to the model's folder."""
    sha256: str
    dataset: str
    """``Dataset<NNN>_<name>`` that nnU-Net installs it as."""

    @property
    def dataset_id(self) -> str:
        """The number that nnU-Net's ``-d`` takes."""
        return self.dataset.removeprefix("Dataset").partition("_")[0]


@dataclass(frozen=True)
class TrainingReport:
    """Everything on the page."""

    model: str
    base: str
    """What the training began with: ``scratch``, or the hash of a model."""
    labels: dict[int, str]
    """Value in the label maps of `cases` -> name."""
    channels: tuple[str, ...]
    labels_from: str
    """Who answers for the labels."""
    approved: bool
    """Whether the last segment was trained on labels that passed review, not on a folder of pairs."""
    parts: tuple[PartSize, ...]
    segments: tuple[SegmentFacts, ...]
    generations: tuple[GenerationFacts, ...]
    leakage: str
    """What is known of leakage against the models before; empty where there are none."""
    history: tuple[HistoryPoint, ...]
    source_dice: dict[str, float]
    """Validation Dice by label of the weights that a training from a model began with; empty from scratch."""
    summary: Summary
    cases: tuple[ScoredCase, ...]
    settings: dict[str, str]
    defaults: dict[str, str]
    """`section.key` -> text."""
    pairs: tuple[UsedPair, ...]
    imported: tuple[str, ...]
    """How the pairs of the last segment were grouped, stored and turned."""
    versions: dict[str, str]
    export: ExportFacts
    files: tuple[tuple[str, str], ...]
    """(path relative to the model's folder, what it is)."""
    written: str
    """Date and time as the page shows it."""


def gather_training_report(
    layout: ModelLayout,
    state: ModelState,
    settings: Settings,
    *,
    history: Sequence[Mapping[str, Any]],
    source_dice: Mapping[str, float],
    scores: Sequence[CaseScore],
    summary: Summary,
    archive: Path,
    written: str,
) -> TrainingReport:
    """Collect what the page says of a model that was just tested and exported.

    Parameters
    ----------
    settings
        What this run used.
    history
        The trainer's list of validations; may be empty.
    source_dice
        As the trainer measured it before its first step; empty where it began from scratch.
    scores
        Of the test cases, all labels of a case.
    archive
        The exported model.
    written
        Date and time as the page shows it.

    Raises
    ------
    BadDataError
        When `archive` is not an exported model.
    """
    from bidsapp import config
    from bidsapp.model_dir.lineage import lineage_so_far, say_leakage
    from bidsapp.model_dir.nnunet_files import network_labels
    from bidsapp.sharing.packing import say_trust

    vouched = [segment.vouched for segment in state.segments]
    return TrainingReport(
        model=layout.root.name or layout.name,
        base=state.base,
        labels=dict(network_labels(layout).names),
        channels=state.channels,
        labels_from=str(say_trust(vouched)["statement"]),
        approved=vouched[-1].by == "review",
        parts=tuple(_part_size(state, name) for name in _PARTS),
        segments=_segment_facts(state),
        generations=tuple(_generation_facts(segment) for segment in state.segments if segment.result),
        leakage=say_leakage(lineage_so_far(state)),
        history=tuple(HistoryPoint(**point) for point in history),
        source_dice=dict(source_dice),
        summary=summary,
        cases=_tested_cases(layout, state, scores),
        settings=config.as_overrides(settings),
        defaults=config.as_overrides(config.Settings()),
        pairs=tuple(
            UsedPair(case, known.participant, known.hemi, known.split, known.content, known.origin)
            for case, known in sorted(state.cases.items())
        ),
        imported=tuple(state.segments[-1].pairs),
        versions=state.versions | {"python": platform.python_version()},
        export=_export_facts(layout, archive),
        files=_files(layout, archive),
        written=written,
    )


def _part_size(state: ModelState, name: str) -> PartSize:
    cases = [known for known in state.cases.values() if known.split == name and not known.rehearsal]
    labels = say_kinds(count_kinds(known.origin for known in cases))
    return PartSize(name, len({known.participant for known in cases}), len(cases), labels)


def _segment_facts(state: ModelState) -> tuple[SegmentFacts, ...]:
    facts = []
    before: dict[str, str] = {}
    for segment in state.segments:
        now = segment.settings
        changed = {name: (before[name], now[name]) for name in now if name in before and before[name] != now[name]}
        peak = _peak_learning_rate(segment.start, now, from_model=state.from_model)
        facts.append(SegmentFacts(segment.start, segment.target, peak, changed))
        before = now
    return tuple(facts)


def _generation_facts(segment: Segment) -> GenerationFacts:
    result = segment.result
    dice = result["test_dice"]
    low, high = dice["interval_95"] or (None, None)
    return GenerationFacts(
        iterations=segment.target,
        generation=result["generation"],
        people=result["people"],
        rehearsed=result["rehearsed"],
        test_dice=(dice["mean"], low, high),
        test_people=dice["people"],
        consistency=result.get("consistency", {}).get("mean"),
        comparisons={what: comparison_from_json(one) for what, one in result["comparisons"].items()},
        accepted=result["accepted"],
    )


def _peak_learning_rate(start: int, settings: Mapping[str, str], *, from_model: bool) -> str:
    """As in `bidsapp.training.schedule`: later segments begin lower, and so do those that go on from a model."""
    try:
        factor = float(settings["optimizer.next_peak"]) if start else 1.0
        if from_model and not start:
            factor = float(settings["finetuning.peak"])
        return f"{float(settings['optimizer.learning_rate']) * factor:g}"
    except (KeyError, ValueError):
        return "n/a"


def _tested_cases(layout: ModelLayout, state: ModelState, scores: Sequence[CaseScore]) -> tuple[ScoredCase, ...]:
    by_case: dict[str, list[CaseScore]] = {}
    for score in scores:
        by_case.setdefault(score.case, []).append(score)
    return tuple(
        ScoredCase(
            case=case,
            participant=state.cases[case].participant,
            hemi=state.cases[case].hemi,
            image=layout.raw_images("Ts") / f"{case}_0000.nii.gz",
            reference=layout.raw_labels("Ts") / f"{case}.nii.gz",
            prediction=layout.test_prediction(case),
            scores=tuple(rows),
            origin=state.cases[case].origin,
        )
        for case, rows in sorted(by_case.items())
    )


def _export_facts(layout: ModelLayout, archive: Path) -> ExportFacts:
    try:
        with zipfile.ZipFile(archive) as packed:
            folders = {name.partition("/")[0] for name in packed.namelist()}
        (dataset,) = folders
    except (zipfile.BadZipFile, ValueError) as error:
        raise BadDataError(f"{archive} is not an exported model", "Test and export it again.") from error
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return ExportFacts(_relative(layout, archive), digest, dataset)


def _files(layout: ModelLayout, archive: Path) -> tuple[tuple[str, str], ...]:
    from_folder = layout.pairs_table.exists()
    described = (
        (layout.current_export, "the newest model that was accepted, to share and to use"),
        (archive, "the model of this page"),
        (layout.scores, "one row per test case and label"),
        (layout.summary, "means with intervals"),
        (layout.test, "predictions of the test cases, <case>_dseg.nii.gz"),
        (layout.config, "the settings, to edit before the next training"),
        (layout.split, "who is in which part"),
        *([(layout.pairs_table, "what pairs were taken for, and what you say of them")] if from_folder else []),
        *([(layout.pairs_page, "every pair, with outlines and what was found")] if layout.pairs_page.exists() else []),
        (layout.state, "segments, pairs and versions; written by HippoTune only"),
        (layout.logs, "a log and the effective settings of every run"),
        (layout.tensorboard, "event files for TensorBoard"),
        (layout.nnunet_raw.parent, "nnU-Net's raw, preprocessed and results folders"),
    )
    return tuple((_relative(layout, path) + ("" if path.suffix else "/"), what) for path, what in described)


def _relative(layout: ModelLayout, path: Path) -> str:
    return path.relative_to(layout.root).as_posix()
