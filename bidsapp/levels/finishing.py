"""Finish a segment of a training: test the people who were held out, compare with the parent, export, report."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bidsapp.bids.people import shorten_list
from bidsapp.config import Settings
from bidsapp.errors import (
    CannotWriteError,
    HippoTuneError,
    NoInputError,
    PartialFailureError,
    WorseModelError,
)
from bidsapp.evaluation.comparison import Comparison
from bidsapp.evaluation.scores import (
    MeasureSummary,
    Summary,
    say_of_scores,
    summarise,
    write_scores,
    write_summary,
)
from bidsapp.files import copy_file
from bidsapp.labels.tables import nnunet_values
from bidsapp.layout import ModelLayout
from bidsapp.levels.request import GroupRequest
from bidsapp.model_dir.lineage import known_digests, lineage_of
from bidsapp.model_dir.nnunet_files import network_labels, read_dataset, read_plans
from bidsapp.model_dir.state import ModelState
from bidsapp.printable import people_text
from bidsapp.records import LabelTable, Pair
from bidsapp.tsv import write_tsv

if TYPE_CHECKING:
    from bidsapp.training.testing import ScoredModel

from bidsapp.levels.opening import reader_of, source_test_pairs

log = logging.getLogger(__name__)


def finish_segment(
    request: GroupRequest, state: ModelState, settings: Settings
) -> tuple[ModelState, HippoTuneError | None]:
    """Round the weights once; predict, score, compare and pack with exactly those weights."""
    from bidsapp.exchange.export import build_model_folder, round_weights
    from bidsapp.exchange.loading import load_model
    from bidsapp.prediction import Predictor, choose_device
    from bidsapp.report.training_facts import gather_training_report
    from bidsapp.report.training_report import write_training_report
    from bidsapp.sharing.packing import pack_model, public_facts
    from bidsapp.training.checkpoints import load_checkpoint
    from bidsapp.training.testing import ScoredModel, pairs_of_part, predict_and_score

    layout = request.layout
    checkpoint = load_checkpoint(layout)
    if checkpoint is None:
        raise NoInputError(f"{layout.checkpoint} is gone", "Restore it, or train anew in another --model-dir.")
    iteration = checkpoint["iteration"]
    folder = build_model_folder(
        layout.export_staging,
        name=layout.name,
        weights=round_weights(checkpoint["network_weights"], half=_rounds(settings, iteration)),
        plans=read_plans(layout),
        dataset_json=read_dataset(layout),
        facts=public_facts(layout, state, iteration),
    )
    model = ScoredModel(Predictor(load_model(folder), choose_device(request.device), cores=request.cores))
    tested = pairs_of_part(layout, state, "test")
    scores = predict_and_score(
        tested, network_labels(layout), model, layout.test, what="predicting and scoring test pairs"
    )
    summary = summarise(scores, seed=settings.training.seed)
    write_tsv(
        layout.test_labels,
        ("index", "name", "training_index"),
        [
            (learned, state.labels[value], value)
            for value, learned in nnunet_values(LabelTable(state.labels, frozenset(state.required_labels))).items()
        ],
    )
    write_scores(layout.scores, scores)
    write_summary(layout.summary, summary, iterations=iteration)
    comparisons = _compare_with_parent(request, state, settings, model)
    archive, leaks = pack_model(layout, state, folder, iteration)
    shutil.rmtree(layout.export_staging)
    gate = comparisons.get("validation")
    worse = gate is not None and gate.verdict == "worse" and not request.accept_worse
    if not leaks and not worse:
        copy_file(archive, layout.current_export)
    digest = model.predictor.digest
    state = state.with_result(_result(state, summary, comparisons, accepted=not worse, digest=digest))
    report = gather_training_report(
        layout,
        state,
        settings,
        history=checkpoint["history"],
        source_dice=checkpoint.get("source_dice", {}),
        scores=scores,
        summary=summary,
        archive=archive,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    try:
        write_training_report(layout.report, report)
    except CannotWriteError as error:  # only for looking; the model is there
        log.warning("%s; --iterations 0 writes it again", error.message)
    _show_scores(layout, summary, archive, iteration)
    return state, _trouble(layout, archive, leaks, gate if worse else None)


def _trouble(
    layout: ModelLayout, archive: Path, leaks: Sequence[str], worse: Comparison | None
) -> HippoTuneError | None:
    """The error that a finished run ends with: its model may not be exported, or is worse than its parent."""
    if leaks:
        return PartialFailureError(
            f"the model is trained and tested, but not exported: it holds what must not leave: {shorten_list(leaks)}",
            f"It lies in {archive}: look there, do not share it. Where the name of a model or label is at "
            "fault, change it (a MODEL_DIR may be renamed), then give the same command again; the training is safe.",
        )
    if worse is not None:
        stays = f"{layout.current_export} stays what it was" if layout.current_export.exists() else "it is not current"
        return WorseModelError(
            f"the new model is worse than the one before on the validation people: {_say_difference(worse)}; {stays}",
            f"It lies in {archive}. Look at the report and at the new labels. To take it all the same, give the "
            "command with --iterations 0 --accept-worse.",
        )
    return None


def _compare_with_parent(
    request: GroupRequest, state: ModelState, settings: Settings, model: ScoredModel
) -> dict[str, Comparison]:
    """Compare the new model with its parent on the validation people, and on the people of --source-test."""
    layout = request.layout
    if not state.parent_labels or not layout.parent_model.exists():
        if state.from_model or request.source_test:
            log.warning(
                "nothing was compared: there is no parent, or none whose labels and channels are among those here"
            )
        return {}
    from bidsapp.exchange.loading import load_model
    from bidsapp.prediction import Predictor, choose_device
    from bidsapp.training.testing import ScoredModel, compare_models, pairs_of_others, pairs_of_part

    parent = load_model(layout.parent_model)
    predictor = Predictor(parent, choose_device(request.device), cores=request.cores)
    scored_parent = ScoredModel(predictor, state.parent_labels, state.parent_channels)
    both = set(state.parent_labels.values())  # the parent has no answer for new labels
    labels = LabelTable({value: name for value, name in network_labels(layout).names.items() if value in both})
    seed = settings.training.seed
    ancestors = {*known_digests(layout, state), *lineage_of(parent, layout.parent_model).ancestors}
    pairs = {"validation": pairs_of_part(layout, state, "validation")}
    found: dict[str, Comparison] = {}
    with tempfile.TemporaryDirectory(prefix="hippotune-") as folder:
        table = LabelTable(state.labels, frozenset(state.required_labels))
        others = source_test_pairs(request, settings, table, state.channels, state.storage, state.split)
        if others is not None:
            reader = reader_of(layout, state)
            pairs["source test"] = pairs_of_others(others, state, Path(folder), reader=reader)
        for what, of_part in pairs.items():
            comparison = compare_models(
                of_part, labels, scored_parent, model, ancestors=ancestors, what=f"{what} people", seed=seed
            )
            if comparison is not None:
                found[what] = comparison
                _say_drawn(of_part, comparison, what)
                log.info("compared with the parent, on the %s people: %s", what, _say_difference(comparison))
    return found


def _say_difference(comparison: Comparison) -> str:
    """``better; Dice 0.840 -> 0.851, +0.011 (0.004 to 0.018), 12 people; Anterior +0.010 (p 0.03), ...``."""
    overall = comparison.overall
    if overall is None:
        return str(comparison)
    interval = f" ({overall.interval_95[0]:+.3f} to {overall.interval_95[1]:+.3f})" if overall.interval_95 else ""
    labels = ", ".join(
        f"{name} {one.mean:+.3f}" + (f" (p {one.p_adjusted:.2g})" if one.p_adjusted is not None else "")
        for name, one in comparison.labels.items()
    )
    return (
        f"{comparison}; Dice {overall.before:.3f} -> {overall.after:.3f}, {overall.mean:+.3f}{interval}, "
        f"{people_text(overall.people)}; {labels}"
    )


def _say_drawn(pairs: Sequence[Pair], comparison: Comparison, what: str) -> None:
    """Log how many sides are left out because a model drew their label: such a label favours that model."""
    if comparison.drawn_sides:
        log.info(
            "%d of %d sides of the %s people are not compared: one of the models, or an ancestor of theirs, drew "
            "their label, and nobody corrected it",
            comparison.drawn_sides, len(pairs), what,
        )  # fmt: skip


def _result(
    state: ModelState, summary: Summary, comparisons: dict[str, Comparison], *, accepted: bool, digest: str
) -> dict[str, Any]:
    """What state.json keeps of a segment: see `Segment.result`."""
    dice, consistency = summary.all_labels["dice"], summary.consistency.all_labels["dice"]
    own = [known for known in state.cases.values() if not known.rehearsal]
    return {
        "generation": max((row.generation for row in state.split.rows), default=1),
        "people": {part: len({known.participant for known in own if known.split == part})
                   for part in ("train", "validation", "test")},
        "rehearsed": len([known for known in state.cases.values() if known.rehearsal]),
        "test_dice": {"mean": dice.mean, "interval_95": dice.interval_95, "people": dice.people},
        "consistency": {"mean": consistency.mean, "people": consistency.people},
        "digest": digest,
        "comparisons": {what: comparison.to_json() for what, comparison in comparisons.items()},
        "accepted": accepted,
    }  # fmt: skip


def _rounds(settings: Settings, iteration: int) -> bool:
    """Whether weights are rounded. Untrained ones are not, so that the model answers as its parent, voxel for voxel."""
    return settings.export.precision == "half" and iteration > 0


def _show_scores(layout: ModelLayout, summary: Summary, archive: Path, iteration: int) -> None:
    if not summary.too_few:
        log.info("test scores (mean over people and sides, 95 % interval by person):")
        for name, measures in (*summary.labels.items(), ("all labels", summary.all_labels)):
            dice, distance = (_with_interval(measures[key]) for key in ("dice", "hd95_mm"))
            log.info("  %-20s Dice %s   HD95 %s mm", name, dice, distance)
    for note in say_of_scores(summary, iteration):
        log.warning("%s", note)
    log.info("scores: %s", layout.scores)
    log.info("report: %s", layout.report)
    log.info("model:  %s", archive)


def _with_interval(measure: MeasureSummary) -> str:
    if measure.mean is None:
        return "n/a"
    interval = measure.interval_95
    return f"{measure.mean:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
