"""The group level: approved labels, or pairs, in; trained, tested, exported model out.

A run completes the unfinished segment of a model, or opens one: pairs are checked, people placed, nnU-Net's
dataset written, planned and preprocessed, or plans and weights of another model taken over; the network is trained,
its weights are rounded once, and with those weights the test people are predicted and scored, the model before it is
compared, and the model is exported.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bidsapp import __version__, config
from bidsapp.bids.people import shorten_list
from bidsapp.config import Settings
from bidsapp.errors import (
    BadDataError,
    CannotWriteError,
    HippoTuneError,
    InterruptedRunError,
    NoInputError,
    PartialFailureError,
    UsageError,
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
from bidsapp.files import copy_file, sweep_unfinished
from bidsapp.images.orientation import Storage
from bidsapp.labels.tables import nnunet_values
from bidsapp.layout import ModelLayout
from bidsapp.levels.material import (
    Material,
    check_material,
    label_renames,
    no_review_meanwhile,
    others_pairs,
    source_of_pairs,
    trained_cases,
)
from bidsapp.levels.request import GroupRequest
from bidsapp.lock import folder_lock
from bidsapp.logs import add_log_file
from bidsapp.machine import usable_cores
from bidsapp.model_dir.lineage import Lineage, known_digests, lineage_of, lineage_so_far, say_leakage
from bidsapp.model_dir.nnunet_files import network_labels, read_dataset, read_plans
from bidsapp.model_dir.split import add_places, write_split
from bidsapp.model_dir.state import SCRATCH, ModelState, Segment, read_state, write_state
from bidsapp.nnunet_environment import nnunet_environment
from bidsapp.pairs.approved import gather_approved
from bidsapp.pairs.check_pairs import CheckedPairs
from bidsapp.pairs.origins import count_kinds, say_kinds
from bidsapp.pairs.pairs import say_pairs
from bidsapp.pairs.share_pairs import check_destination, export_pairs
from bidsapp.records import LabelTable, Split, SplitRow
from bidsapp.training.dataset import Parts, divide, write_raw_dataset
from bidsapp.training.rehearsal import EarlierPairs
from bidsapp.tsv import write_tsv

if TYPE_CHECKING:
    from bidsapp.exchange.loading import LoadedModel
    from bidsapp.sharing.packing import Packed
    from bidsapp.training.adoption import Source
    from bidsapp.training.testing import Contender, ScoredPair

log = logging.getLogger(__name__)


def run(request: GroupRequest) -> None:
    """Train, test and export as `request` says.

    Raises
    ------
    PartialFailureError
        When everything worked, but pairs were left out.
    HippoTuneError
        Anything else that stands in the way.
    """
    if request.export_to is not None:
        _export_pairs(request, request.export_to)
        return
    layout = request.layout
    state = read_state(layout)
    settings = effective_settings(request, state)
    base = _load_base(request, state)
    others = base or request.rehearse or request.source_test or (state and state.from_model)
    if request.label_map and request.training_dir and not others:
        raise UsageError(
            "--label-map says nothing of the pairs of --training-dir", "Their labels.tsv names the values."
        )
    if request.dry_run:
        _plan_aloud(request, state, settings, base)
        return
    _check_machine(request)
    with folder_lock(layout.lock), nnunet_environment(layout):
        sweep_unfinished(layout.root, alone=True)
        state = read_state(layout)  # another run may have ended while this one waited for nothing
        base = None if state else base
        _start_log(request, settings)
        if state is None or state.current is None or state.current.stage == "exported":
            if state is not None and not request.extend:
                log.info("%s is trained to iteration %d: nothing to do (--no-extend)", layout.root, state.iteration)
                return
            state = _open_segment(request, state, settings, base)
        else:
            settings = _take_up_unfinished(request, state, settings)
            state = state.with_settings(config.as_overrides(settings))
            write_state(layout, state)
        trouble = _complete(request, state, settings)
    if trouble is not None:
        raise trouble
    left_out = state.segments[-1].left_out
    if left_out:
        raise PartialFailureError(
            f"done, without {len(left_out)} pairs that failed a check or whose approval no longer holds: "
            f"{', '.join(left_out)}",
            "The findings are in the log of the run that opened this segment.",
        )


def _export_pairs(request: GroupRequest, destination: Path) -> None:
    """--export-training-data: a data set for others; nothing is trained."""
    check_destination(request.output, destination)
    with no_review_meanwhile(request):
        sides = gather_approved(request.output, request.wanted, label_map=request.label_map)
        if request.dry_run:
            log.info("would export %d sides of %d people to %s", len(sides.approvals), len(sides.people), destination)
            return
        export_pairs(request.output, destination, sides)
    if sides.refused:
        listed = ", ".join(f"{name} ({reason})" for name, reason in sides.refused.items())
        raise PartialFailureError(
            f"exported, without {len(sides.refused)} labels whose approval no longer holds: {listed}",
            "Approve them again: run.py BIDS_DIR OUTPUT_DIR review. Then export to a new folder.",
        )


def effective_settings(request: GroupRequest, state: ModelState | None = None) -> Settings:
    """Defaults or config.ini, then what this run asks for."""
    layout = request.layout
    from_model = state.from_model if state else request.base not in (None, SCRATCH)
    if layout.config.exists():
        settings = config.read_config(layout.config)
        if request.preset:
            settings = config.apply_overrides(
                settings,
                config.preset_overrides(request.preset, from_model=from_model),
                source=f"--preset {request.preset}",
            )
    else:
        settings = config.preset_settings(request.preset or "default", from_model=from_model)
    settings = config.apply_overrides(settings, config.parse_assignments(list(request.assignments)), source="--set")
    if request.iterations is not None:
        settings = config.apply_overrides(
            settings, {"training.iterations": str(request.iterations)}, source="--iterations"
        )
    return settings


def _load_base(request: GroupRequest, state: ModelState | None) -> LoadedModel | None:
    """The model that a new model starts from; None: it starts from scratch, or was begun before.

    Raises
    ------
    UsageError
        When the model was begun from scratch and another one is asked for now, or the reverse.
    """
    if request.base in (None, SCRATCH):
        if state is not None and state.from_model and request.base == SCRATCH:
            raise _begun_otherwise(request, "with another model")
        return None
    if state is not None and not state.from_model:
        raise _begun_otherwise(request, "from scratch")
    from bidsapp.exchange.loading import load_model

    try:
        model = load_model(_base_path(request))
    except (NoInputError, UsageError, BadDataError) as error:
        if state is None:
            raise
        log.warning("%s; the copy in %s is enough", error, request.layout.root)
        return None
    if state is None:
        return model
    if model.digest != state.base:  # a MODEL_DIR that was trained on since, or not what is meant
        log.warning(
            "--model %s is not, or no longer, the model that %s was begun with; it goes on from what it has",
            request.base, request.layout.root,
        )  # fmt: skip
    return None


def _base_path(request: GroupRequest) -> Path:
    from bidsapp.models.shelf import model_path

    return model_path(str(request.base), request.models, request.output, otherwise=SCRATCH)


def _begun_otherwise(request: GroupRequest, how: str) -> UsageError:
    return UsageError(
        f"{request.layout.root} was begun {how}, not with --model {request.base}",
        "Leave --model out to train it on, or start anew in another --model-dir.",
    )


def _plan_aloud(request: GroupRequest, state: ModelState | None, settings: Settings, base: LoadedModel | None) -> None:
    """--dry-run: check everything, write nothing."""
    start = state.iteration if state else 0
    if state and state.segments[-1].stage != "exported":
        segment = state.segments[-1]
        log.info("would complete the segment of iterations %d to %d (%s)", segment.start, segment.target, segment.stage)
        _refuse_other_network(state, settings)
        return
    if state and not request.extend:
        log.info("nothing to do (--no-extend)")
        return
    if state:
        _refuse_other_network(state, settings)
    lineage = _lineage(request, state, base)
    with source_of_pairs(request, state, base) as source:
        material = check_material(request, source, state, settings, base=base, lineage=lineage)
    checked, split = material.checked, material.split
    _source_test(request, settings, checked.table, material.channels, material.storage, split)
    log.info("model      %s", request.layout.root)
    if base is not None:
        matching = _match(request, base, material).matching
        log.info("from       %s", base.source)
        for line in (*matching.label_lines(), *matching.channel_lines()):
            log.info("           %s", line)
    parts = divide(checked.pairs, split)
    log.info("trust      %s", source.vouched)
    log.info("channels   %s", ", ".join(material.channels))
    log.info("labels     %s", ", ".join(f"{value} {name}" for value, name in checked.table.names.items()))
    for name, pairs in (("training", parts.train), ("validation", parts.validation), ("test", parts.test)):
        people = sorted({pair.participant for pair in pairs})
        log.info("%-10s %d people, %d pairs: %s", name, len(people), len(pairs), ", ".join(people))
        log.info("%-10s labels: %s", "", say_kinds(count_kinds(pair.origin for pair in pairs)))
    log.info("iterations %d to %d", start, start + settings.training.iterations)
    log.info("dry run: nothing was written")


def _check_machine(request: GroupRequest) -> None:
    """Refuse a device or a folder that cannot be, before any work."""
    from bidsapp.prediction import choose_device

    choose_device(request.device)
    root = request.layout.root
    if root.exists() and not root.is_dir():
        raise UsageError(f"--model-dir {root} is a file", "Name a folder.")


def _start_log(request: GroupRequest, settings: Settings) -> None:
    """Open this run's log and write the settings that are effective in it."""
    layout = request.layout
    run_name = datetime.now().strftime("%Y%m%d-%H%M%S")
    add_log_file(layout.run_log(run_name))
    log.debug("%s, HippoTune %s, nnU-Net %s", request.command, __version__, version("nnunetv2"))
    config.write_config(layout.run_settings(run_name), settings)


def _say_overrides(layout: ModelLayout, settings: Settings) -> None:
    """Name what this run does otherwise than config.ini says."""
    if layout.config.exists():
        standing_settings = config.read_config(layout.config)
        for name, (standing, used) in config.differing(standing_settings, settings).items():
            log.info("for this run: %s = %s (config.ini: %s)", name, used, standing)


def _take_up_unfinished(request: GroupRequest, state: ModelState, settings: Settings) -> Settings:
    """Say what is completed and with which changes; the segment's length stays what it was."""
    segment = state.segments[-1]
    log.info(
        "completing the segment of iterations %d to %d (%s), with the pairs that it began with",
        segment.start, segment.target, segment.stage,
    )  # fmt: skip
    length = segment.target - segment.start
    if request.iterations not in (None, length):
        log.warning("--iterations %s has no effect on it; give the command again afterwards", request.iterations)
    settings = config.apply_overrides(settings, {"training.iterations": str(length)}, source="segment")
    _refuse_other_network(state, settings)
    table = LabelTable(state.labels, frozenset(state.required_labels))
    _source_test(request, settings, table, state.channels, state.storage, state.split)
    for name, text in config.as_overrides(settings).items():
        if segment.settings.get(name, text) != text:
            log.info("changed since the segment began: %s = %s (was %s)", name, text, segment.settings[name])
    return settings


def _open_segment(
    request: GroupRequest, state: ModelState | None, settings: Settings, base: LoadedModel | None
) -> ModelState:
    """Check pairs, place people, prepare nnU-Net's data, and record the new segment."""
    layout = request.layout
    start = state.iteration if state else 0
    target = start + settings.training.iterations
    if state:
        log.info("opening a new segment: iterations %d to %d of %s", start, target, layout.root)
        _refuse_other_network(state, settings)
    else:
        log.info("training a new model in %s: %d iterations", layout.root, target)
        log.info("starting from %s", "scratch" if base is None else base.source)
    _say_overrides(layout, settings)
    lineage = _lineage(request, state, base)
    with source_of_pairs(request, state, base) as source:
        log.info("%s", source.vouched)
        material = check_material(request, source, state, settings, base=base, lineage=lineage)
    checked, split = material.checked, material.split
    _source_test(
        request, settings, checked.table, material.channels, material.storage, split
    )  # before hours of training
    if said := say_leakage(lineage):
        log.log(logging.WARNING if lineage.unchecked else logging.INFO, "%s", said)
    begin = _match(request, base, material) if base is not None else None
    if state:
        if layout.current_export.exists():
            _check_model(layout.current_export)
        _log_changes(state, checked)
    write_split(layout.split, split)
    parts = divide(checked.pairs, split)
    _log_parts(parts)
    values = nnunet_values(checked.table)
    if any(value != position for value, position in values.items()):
        log.info("in the network, and so in the export and in test/ (see its labels.tsv), values have no gaps: %s",
                 ", ".join(f"{checked.table.names[value]} {values[value]}" for value in sorted(values)))  # fmt: skip
    reader = begin.model.reader if begin else _reader(layout, state)
    write_raw_dataset(
        layout, parts, checked.content, checked.table, material.channels, reader=reader, rehearsal=material.rehearsal
    )
    if begin is not None:
        _begin_from(layout, begin, settings)
    else:
        if state is None:  # what a killed start from another model left
            for path in (layout.checkpoint, layout.previous_checkpoint, layout.parent_model, layout.transfer):
                path.unlink(missing_ok=True)
        _plan(layout, settings)
    if not layout.config.exists():
        config.write_config(layout.config, settings)
        log.info("the settings of this first run are now the model's: %s", layout.config)
    rehearsed_images = material.rehearsal.checked.image_people if material.rehearsal else {}
    rehearsed = Split(tuple(SplitRow(person, "train") for person in sorted(set(rehearsed_images.values()))))
    segment = Segment(
        start, target, "training", config.as_overrides(settings), material.left_out, vouched=source.vouched,
        pairs=say_pairs(material.found),
    )  # fmt: skip
    new_state = ModelState(
        base=state.base if state else begin.model.digest if begin else SCRATCH,
        labels=checked.table.names,
        required_labels=tuple(sorted(checked.table.required)),
        channels=material.channels,
        split=split,
        segments=(*(state.segments if state else ()), segment),
        cases=trained_cases(parts, material),
        image_people=dict(lineage.image_people) | rehearsed_images | checked.image_people,
        versions={"hippotune": __version__, "nnunetv2": version("nnunetv2"), "torch": version("torch")},
        parents=lineage.parents,
        new_labels=state.new_labels if state else begin.matching.new_labels if begin else (),
        inherited=add_places(lineage.inherited, rehearsed),
        unchecked=lineage.unchecked,
        fingerprints=dict(lineage.fingerprints),
        ancestors=lineage.ancestors,
        storage=material.storage,
        **_parent(layout, state, begin, values),
    )
    write_state(layout, new_state)
    return new_state


def _refuse_other_network(state: ModelState, settings: Settings) -> None:
    began, now = state.segments[0].settings, config.as_overrides(settings)
    changed = [
        f"{name} = {now[name]} (trained with {began[name]})"
        for name in config.FIXED_BY_THE_MODEL
        if name in began and now[name] != began[name]
    ]
    if changed:
        raise UsageError(
            f"this model cannot continue with {'; '.join(changed)}",
            "Set the old value again, or train a new model in another --model-dir.",
        )


def _log_changes(state: ModelState, checked: CheckedPairs) -> None:
    """Say which pairs are new, changed or gone since the segment before."""
    before = {case: known.content for case, known in state.cases.items() if not known.rehearsal}
    now = checked.content
    for what, cases in (
        ("new", now.keys() - before.keys()),
        ("gone", before.keys() - now.keys()),
        ("changed", {case for case in now.keys() & before.keys() if now[case] != before[case]}),
    ):
        if cases:
            log.info("%d pairs are %s: %s", len(cases), what, ", ".join(sorted(cases)))


def _log_parts(parts: Parts) -> None:
    for name, pairs in (("training", parts.train), ("validation", parts.validation), ("test", parts.test)):
        people, kinds = len({pair.participant for pair in pairs}), count_kinds(pair.origin for pair in pairs)
        log.info("%s: %d people, %d pairs; labels: %s", name, people, len(pairs), say_kinds(kinds))


def _lineage(request: GroupRequest, state: ModelState | None, base: LoadedModel | None) -> Lineage:
    """Where the model comes from."""
    if state is not None:
        return lineage_so_far(state)
    if base is None:
        return Lineage()
    return lineage_of(base, _base_path(request), licence=_registry_licence(request))


def _registry_licence(request: GroupRequest) -> str | None:
    from bidsapp.models.registry import load_registry

    entry = load_registry(request.models).get(str(request.base)) if request.models else None
    return entry.licence if entry else None


def _check_model(path: Path) -> None:
    """Refuse a model that cannot be compared with."""
    from bidsapp.exchange.loading import load_model

    try:
        load_model(path)
    except (BadDataError, NoInputError) as error:
        raise BadDataError(
            f"{error.message}; the new model is to be compared with it",
            "Restore the file from a backup, or move it away: then there is no comparison.",
        ) from error


def _parent(
    layout: ModelLayout, state: ModelState | None, begin: Source | None, values: dict[int, int]
) -> dict[str, Any]:
    """What the segment will be compared with: what it is started from, or the model's current export, kept aside."""
    if begin is not None:
        return {"parent_labels": begin.parent_values, "parent_channels": begin.parent_channels}
    if state is None:
        return {}
    if not layout.current_export.exists():  # the first model was worse than its parent, which stays the measure
        return {"parent_labels": state.parent_labels, "parent_channels": state.parent_channels}
    copy_file(layout.current_export, layout.parent_model)
    return {
        "parent_labels": {position: position for position in values.values()},
        "parent_channels": tuple(range(len(state.channels))),
    }


def _source_test(
    request: GroupRequest,
    settings: Settings,
    table: LabelTable,
    channels: tuple[str, ...],
    storage: Storage,
    split: Split,
) -> EarlierPairs | None:
    """The pairs of --source-test, checked."""
    if request.source_test is None:
        return None
    return others_pairs(
        request, request.source_test, table, channels,
        part="test", storage=storage, people=split.people, settings=settings,
    )  # fmt: skip


def _match(request: GroupRequest, base: LoadedModel, material: Material) -> Source:
    """Hold the model that is started from against what is to be trained."""
    from bidsapp.training.adoption import match_source

    return match_source(base, material.checked.table, material.channels, label_renames(request))


def _begin_from(layout: ModelLayout, begin: Source, settings: Settings) -> None:
    """Take up plans and weights of another model, and keep a copy of it."""
    from bidsapp.training.adoption import adopt_plans, begin_from, keep_parent

    adopt_plans(layout, begin, settings.training)
    keep_parent(layout, begin.model)
    begin_from(layout, begin, settings)


def _reader(layout: ModelLayout, state: ModelState | None) -> str:
    """nnU-Net's reader: of a model that was begun before, what its plans say; else the one that turns nothing."""
    return str(read_plans(layout)["image_reader_writer"]) if state else "SimpleITKIO"


def _plan(layout: ModelLayout, settings: Settings) -> None:
    """Plan a new model; one that was begun keeps its plans."""
    from bidsapp.training.planning import extract_fingerprint, make_plans

    if not layout.plans.exists() or read_state(layout) is None:
        log.info("planning with nnU-Net")
        extract_fingerprint(layout)
        make_plans(layout, settings.training)


def _complete(request: GroupRequest, state: ModelState, settings: Settings) -> HippoTuneError | None:
    """Train what is left of the last segment, then test and export; gives what the run must end with."""
    if state.parent_labels and request.layout.parent_model.exists():
        _check_model(request.layout.parent_model)  # before hours of training
    _train(request, state, settings)  # also when testing: the newest checkpoint may have been damaged since
    state = state.with_stage("testing")
    write_state(request.layout, state)
    state, trouble = _test_and_export(request, state, settings)
    if not isinstance(trouble, PartialFailureError):  # what was not exported for its name is tested again
        write_state(request.layout, state.with_stage("exported"))
    return trouble


def _train(request: GroupRequest, state: ModelState, settings: Settings) -> None:
    from bidsapp.prediction import choose_device
    from bidsapp.training.planning import preprocess_cases
    from bidsapp.training.trainer import Machine, make_trainer, start_of
    from bidsapp.training.watch import watch_training

    layout, segment = request.layout, state.segments[-1]
    machine = Machine(choose_device(request.device), request.cores or usable_cores())
    content = {case: known.content for case, known in state.cases.items() if known.split != "test"}
    preprocess_cases(layout, content, processes=machine.cores)
    trainer = make_trainer(layout, settings, list(state.segments), machine, start_of(state))
    start = trainer.progress.iteration
    if start == segment.target and not trainer.validation_is_due:
        if not layout.checkpoint.exists():
            trainer.save()
        return
    log.info("training on %s from iteration %d to %d", machine.device, start, segment.target)
    log.info("watch it with: tensorboard --logdir %s", layout.tensorboard)
    slow = machine.device.type == "cpu"
    with watch_training(layout, start=start, target=segment.target, slow_device=slow) as watcher:
        trainer.run_training(watcher)
        stopped = watcher.stop_requested()
    if stopped:
        raise InterruptedRunError(
            f"stopped at iteration {trainer.progress.iteration} of {segment.target}; a checkpoint was saved",
            "Give the same command again to continue.",
        )


def _test_and_export(
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
    from bidsapp.training.testing import Contender, pairs_of_part, predict_and_score

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
    model = Contender(Predictor(load_model(folder), choose_device(request.device), cores=request.cores))
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
    packed = pack_model(layout, state, folder, iteration)
    shutil.rmtree(layout.export_staging)
    gate = comparisons.get("validation")
    worse = gate is not None and gate.verdict == "worse" and not request.accept_worse
    if not packed.leaks and not worse:
        copy_file(packed.archive, layout.current_export)
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
        archive=packed.archive,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    try:
        write_training_report(layout.report, report)
    except CannotWriteError as error:  # only for looking; the model is there
        log.warning("%s; --iterations 0 writes it again", error.message)
    _show_scores(layout, summary, packed.archive, iteration)
    return state, _trouble(layout, packed, gate if worse else None)


def _trouble(layout: ModelLayout, packed: Packed, worse: Comparison | None) -> HippoTuneError | None:
    """What a finished run must still say: kept back for what it holds, or for being worse than the one before."""
    if packed.leaks:
        return PartialFailureError(
            "the model is trained and tested, but not exported: it holds what must not leave: "
            f"{shorten_list(packed.leaks)}",
            f"It lies in {packed.archive}: look there, do not share it. Where the name of a model or label is at "
            "fault, change it (a MODEL_DIR may be renamed), then give the same command again; the training is safe.",
        )
    if worse is not None:
        stays = f"{layout.current_export} stays what it was" if layout.current_export.exists() else "it is not current"
        return WorseModelError(
            f"the new model is worse than the one before on the validation people: {_say_difference(worse)}; {stays}",
            f"It lies in {packed.archive}. Look at the report and at the new labels. To take it all the same, give the "
            "command with --iterations 0 --accept-worse.",
        )
    return None


def _compare_with_parent(
    request: GroupRequest, state: ModelState, settings: Settings, model: Contender
) -> dict[str, Comparison]:
    """Hold the new model against the one before: on the validation people, and on those of --source-test."""
    layout = request.layout
    if not state.parent_labels or not layout.parent_model.exists():
        if state.from_model or request.source_test:
            log.warning(
                "there is no model before, or none whose labels and channels are among those here, to compare with"
            )
        return {}
    from bidsapp.exchange.loading import load_model
    from bidsapp.prediction import Predictor, choose_device
    from bidsapp.training.testing import Contender, compare_models, pairs_of_others, pairs_of_part

    parent = load_model(layout.parent_model)
    predictor = Predictor(parent, choose_device(request.device), cores=request.cores)
    before = Contender(predictor, state.parent_labels, state.parent_channels)
    both = set(state.parent_labels.values())  # a label that is new has nothing to be compared with
    labels = LabelTable({value: name for value, name in network_labels(layout).names.items() if value in both})
    seed = settings.training.seed
    ancestors = {*known_digests(layout, state), *lineage_of(parent, layout.parent_model).ancestors}
    pairs = {"validation": pairs_of_part(layout, state, "validation")}
    found: dict[str, Comparison] = {}
    with tempfile.TemporaryDirectory(prefix="hippotune-") as folder:
        table = LabelTable(state.labels, frozenset(state.required_labels))
        others = _source_test(request, settings, table, state.channels, state.storage, state.split)
        if others is not None:
            reader = _reader(layout, state)
            pairs["source test"] = pairs_of_others(others, state, Path(folder), reader=reader)
        for what, of_part in pairs.items():
            comparison = compare_models(
                of_part, labels, before, model, ancestors=ancestors, what=f"{what} people", seed=seed
            )
            if comparison is not None:
                found[what] = comparison
                _say_drawn(of_part, comparison, what)
                log.info("against the model before, on the %s people: %s", what, _say_difference(comparison))
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
        f"{overall.people} people; {labels}"
    )


def _say_drawn(pairs: Sequence[ScoredPair], comparison: Comparison, what: str) -> None:
    """Say how many sides cannot tell the models apart."""
    if comparison.drawn_sides:
        log.info(
            "%d of %d sides of the %s people are not compared: a model compared here, or one before it, drew their "
            "label, and nobody corrected it",
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
    """Weights that were never trained are passed on as they came: the answers are the source's, voxel for voxel."""
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
