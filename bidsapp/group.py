"""The group level: approved labels, or pairs, in; trained, tested, exported model out.

A run completes the unfinished segment of a model, or opens one: pairs are checked, people placed, nnU-Net's
dataset written, planned and preprocessed; the network is trained, its weights are rounded once, and with those
weights the test people are predicted and scored and the model is exported.
"""

from __future__ import annotations

import glob
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bidsapp import __version__, config
from bidsapp.bids.people import shorten_list
from bidsapp.config import Settings
from bidsapp.errors import BadDataError, InterruptedRunError, NoInputError, PartialFailureError, UsageError
from bidsapp.evaluation.scores import MeasureSummary, Summary, score_case, summarise, write_scores, write_summary
from bidsapp.files import copy_file, read_json
from bidsapp.labels.label_map import read_label_map
from bidsapp.labels.selection import Wanted
from bidsapp.labels.tables import nnunet_values, read_label_table
from bidsapp.layout import ModelLayout, ModelPlaces, OutputLayout, annotation_file, label_table_file
from bidsapp.lock import folder_lock
from bidsapp.logs import add_log_file
from bidsapp.machine import usable_cores
from bidsapp.progress import progress_over
from bidsapp.records import CaseScore, LabelTable, LeftIs, Split, Vouched
from bidsapp.training.annotated import read_annotated
from bidsapp.training.approved import (
    ApprovedSides,
    common_modalities,
    gather_approved,
    update_training_folder,
)
from bidsapp.training.check_pairs import CheckedPairs, check_pairs
from bidsapp.training.dataset import Parts, default_channel_names, divide, write_raw_dataset
from bidsapp.training.environment import nnunet_environment
from bidsapp.training.pairs import find_pairs
from bidsapp.training.share_pairs import check_destination, export_pairs
from bidsapp.training.shared_split import decide_shared_split
from bidsapp.training.split import decide_split, write_split
from bidsapp.training.state import SCRATCH, ModelState, Segment, TrainedCase, read_state, write_state
from bidsapp.training.volumes import read_volume

if TYPE_CHECKING:
    from bidsapp.models.loading import LoadedModel
    from bidsapp.prediction import Predictor
    from bidsapp.training.adoption import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroupRequest:
    """What the command line asks of the group level.

    Attributes
    ----------
    output
        OUTPUT_DIR, where approved labels are.
    training_dir
        Pairs that the user vouches for; None: approved labels.
    wanted
        Which approved labels.
    label_map
        Table of other names for labels, of approved label maps and of the model that is started from.
    export_to
        Write the approved pairs there for others, and train nothing.
    base
        ``scratch``, or the model to start from; None: what the model was begun with, else scratch.
    iterations, preset, assignments
        Choices of this run that win over config.ini.
    extend
        False: complete what is unfinished and never open a further segment.
    models
        Where models are looked up by name; None: nowhere.
    """

    layout: ModelLayout
    output: OutputLayout
    training_dir: Path | None = None
    wanted: Wanted = field(default_factory=Wanted)
    label_map: Path | None = None
    export_to: Path | None = None
    base: str | None = None
    device: str = "auto"
    cores: int | None = None
    iterations: int | None = None
    preset: str | None = None
    assignments: Iterable[str] = ()
    extend: bool = True
    skip_bad_pairs: bool = False
    left_is: LeftIs | None = None
    participant_pattern: str | None = None
    dry_run: bool = False
    command: str = "group"
    models: ModelPlaces | None = None


@dataclass(frozen=True)
class PairSource:
    """Where the pairs of a segment come from.

    Attributes
    ----------
    folder
        Laid out as `bidsapp.training.pairs.find_pairs` wants it.
    vouched
        Who answers for the labels.
    channels
        What the images are; empty when nobody says.
    table
        Names of the label values; None: what the folder or the model says.
    refused
        Labels whose approval no longer holds -> why.
    """

    folder: Path
    vouched: Vouched
    channels: tuple[str, ...] = ()
    table: LabelTable | None = None
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """What a segment is trained on: pairs that passed all checks, and everybody's place."""

    source: PairSource
    checked: CheckedPairs
    split: Split
    channels: tuple[str, ...]

    @property
    def left_out(self) -> list[str]:
        """Pairs and approvals that a user expects and that are not used."""
        return [*self.checked.left_out, *(f"{name} ({reason})" for name, reason in self.source.refused.items())]


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
    if request.label_map and request.training_dir and base is None and not (state and state.from_model):
        raise UsageError(
            "--label-map says nothing of the pairs of --training-dir", "Their labels.tsv names the values."
        )
    if request.dry_run:
        _plan_aloud(request, state, settings, base)
        return
    _check_machine(request)
    with folder_lock(layout.lock), nnunet_environment(layout):
        state = read_state(layout)  # another run may have ended while this one waited for nothing
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
        _complete(request, state, settings)
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
        When the model was begun with another one than is asked for now.
    """
    if request.base in (None, SCRATCH):
        if state is not None and state.from_model and request.base == SCRATCH:
            raise _begun_otherwise(request, "with another model")
        return None
    if state is not None and not state.from_model:
        raise _begun_otherwise(request, "from scratch")
    from bidsapp.models.loading import load_model

    try:
        model = load_model(Path(str(request.base)))
    except NoInputError:
        if state is None:
            raise
        return None  # it was moved since; the copy in MODEL_DIR is enough
    if state is None:
        return model
    if model.digest != state.base:
        raise _begun_otherwise(request, "with another model")
    return None


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
    with _source_of_pairs(request, state, base) as source:
        material = _check_material(request, source, state, settings, base)
    checked, split = material.checked, material.split
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
    with _source_of_pairs(request, state, base) as source:
        log.info("%s", source.vouched)
        material = _check_material(request, source, state, settings, base)
    checked, split = material.checked, material.split
    begin = _match(request, base, material) if base is not None else None
    if state:
        _log_changes(state, checked)
    write_split(layout.split, split)
    parts = divide(checked.pairs, split)
    _log_parts(parts)
    values = nnunet_values(checked.table)
    if any(value != position for value, position in values.items()):
        log.info("in the network, and so in test/ and the export, labels are numbered without gaps: %s",
                 ", ".join(f"{checked.table.names[value]} {values[value]}" for value in sorted(values)))  # fmt: skip
    reader = begin.model.reader if begin else _reader(layout, state)
    write_raw_dataset(layout, parts, checked.content, checked.table, material.channels, reader=reader)
    if begin is not None:
        _begin_from(layout, begin, settings)
    else:
        _plan(layout, settings)
    if not layout.config.exists():
        config.write_config(layout.config, settings)
        log.info("the settings of this first run are now the model's: %s", layout.config)
    segment = Segment(
        start, target, "training", config.as_overrides(settings), material.left_out, vouched=source.vouched
    )
    new_state = ModelState(
        base=state.base if state else begin.model.digest if begin else SCRATCH,
        labels=checked.table.names,
        required_labels=tuple(sorted(checked.table.required)),
        channels=material.channels,
        split=split,
        segments=(*(state.segments if state else ()), segment),
        cases=_trained_cases(parts, checked, split),
        image_people=(state.image_people if state else {}) | _image_people(checked),
        versions={"hippotune": __version__, "nnunetv2": version("nnunetv2"), "torch": version("torch")},
        parents=state.parents if state else genealogy(begin.model) if begin else (),
        new_labels=state.new_labels if state else begin.matching.new_labels if begin else (),
    )
    write_state(layout, new_state)
    return new_state


@contextmanager
def _source_of_pairs(request: GroupRequest, state: ModelState | None, base: LoadedModel | None) -> Iterator[PairSource]:
    """The user's folder, or MODEL_DIR/training brought up to date; for a dry run, in a place that vanishes."""
    if request.training_dir is not None:
        yield PairSource(_existing_folder(request.training_dir), Vouched("user"))
        return
    model_table = LabelTable(state.labels, frozenset(state.required_labels)) if state else None
    sides = gather_approved(
        request.output,
        request.wanted,
        label_map=request.label_map,
        model_table=model_table,
        source_labels=base.labels.values() if base is not None else (),
    )
    if request.dry_run:
        with tempfile.TemporaryDirectory(prefix="hippotune-") as folder:
            yield _write_approved(Path(folder), sides)
    else:
        yield _write_approved(request.layout.training, sides)


def _existing_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise NoInputError(f"--training-dir {folder} does not exist", "Name the folder that holds the pairs.")
    return folder


def _write_approved(folder: Path, sides: ApprovedSides) -> PairSource:
    modalities = common_modalities(sides.approvals)
    update_training_folder(folder, sides, modalities)
    return PairSource(folder, sides.vouched, modalities, sides.table, sides.refused)


def _check_material(
    request: GroupRequest,
    source: PairSource,
    state: ModelState | None,
    settings: Settings,
    base: LoadedModel | None = None,
) -> Material:
    """Check every pair and the match with the model so far, and place everybody."""
    found = find_pairs(source.folder, participant_pattern=request.participant_pattern, left_is=request.left_is)
    labels = label_table_file(source.folder)
    table = source.table or (read_label_table(labels) if labels.exists() else None)
    if table is None and state is not None:
        table = LabelTable(state.labels, frozenset(state.required_labels))
    partly = annotation_file(source.folder)
    cases = {*(pair.case for pair in found.pairs), *(finding.case for finding in found.findings)}
    annotated = read_annotated(partly, cases, table) if partly.exists() else {}
    checked = check_pairs(found, table=table, annotated=annotated, skip_bad_pairs=request.skip_bad_pairs)
    channels = _channel_names(checked, source, state, settings)
    if base is not None:
        from bidsapp.training.adoption import channel_names, refuse_other_network

        refuse_other_network(base, settings.training)
        channels = channel_names(base, channels)
    if state is not None:
        _refuse_renamed_people(state, checked)
        _refuse_other_labels(state, checked.table, channels, request.layout)
    return Material(source, checked, _place(request, source, checked, state, settings), channels)


def _place(
    request: GroupRequest, source: PairSource, checked: CheckedPairs, state: ModelState | None, settings: Settings
) -> Split:
    """Approved people have one place in all models of a data set; people of a user's folder only in this one."""
    people = {pair.participant for pair in checked.pairs}
    seed, locked = settings.training.seed, state.split if state else None
    validation, test = settings.split.validation_fraction, settings.split.test_fraction
    if source.vouched.by == "user":
        return decide_split(
            request.layout.split, people, seed=seed, locked=locked,
            validation_fraction=validation, test_fraction=test,
        )  # fmt: skip
    return decide_shared_split(
        request.output, request.layout.split, people, seed=seed, locked=locked,
        validation_fraction=validation, test_fraction=test, write=not request.dry_run,
    )  # fmt: skip


def _refuse_renamed_people(state: ModelState, checked: CheckedPairs) -> None:
    """The same image under another person would be placed anew, and a test person could enter the training."""
    renamed = [
        f"{pair.case} belongs to {pair.participant}, before to {state.image_people[image]}"
        for pair in checked.pairs
        for image in checked.images[pair.case][:1]
        if state.image_people.get(image, pair.participant) != pair.participant
    ]
    if renamed:
        raise BadDataError(
            f"images that this model knows changed their person: {'; '.join(renamed)}",
            "Use the ids and the --participant-pattern of the first run, or train anew in another --model-dir.",
        )


def _channel_names(
    checked: CheckedPairs, source: PairSource, state: ModelState | None, settings: Settings
) -> tuple[str, ...]:
    """The setting, else the modalities of the approved labels; where nobody says, what the model began with."""
    count = len(checked.pairs[0].images)
    unnamed = default_channel_names(count)
    names = settings.training.channels or source.channels or unnamed
    if len(names) != count:
        raise UsageError(
            f"training.channels names {len(names)} channels ({', '.join(names)}), the pairs have {count}",
            "Give one name per channel.",
        )
    same_count = state is not None and len(state.channels) == count
    if state is not None and same_count and unnamed in (names, state.channels):
        return state.channels
    return names


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


def _refuse_other_labels(state: ModelState, table: LabelTable, channels: tuple[str, ...], layout: ModelLayout) -> None:
    if table.names != state.labels:
        raise BadDataError(
            f"the label table changed: {_spell(state.labels)} became {_spell(table.names)}",
            f"{layout.root} was trained with the former; train the latter in another --model-dir.",
        )
    if channels != state.channels:
        raise BadDataError(
            f"the image channels changed: {', '.join(state.channels)} became {', '.join(channels)}",
            f"{layout.root} was trained with the former; train the latter in another --model-dir.",
        )


def _spell(labels: dict[int, str]) -> str:
    return ", ".join(f"{value} {name}" for value, name in sorted(labels.items()))


def _log_changes(state: ModelState, checked: CheckedPairs) -> None:
    """Say which pairs are new, changed or gone since the segment before."""
    before = {case: known.content for case, known in state.cases.items()}
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
        log.info("%s: %d people, %d pairs", name, len({pair.participant for pair in pairs}), len(pairs))


def _trained_cases(parts: Parts, checked: CheckedPairs, split: Split) -> dict[str, TrainedCase]:
    places = {row.participant_id: row.split for row in split.rows}
    return {
        pair.case: TrainedCase(
            pair.participant,
            pair.hemi,
            places[pair.participant],
            checked.content[pair.case],
            tuple(sorted(checked.annotated[pair.case])) if pair.case in checked.annotated else None,
        )
        for pair in (*parts.seen_in_training, *parts.test)
    }


def _image_people(checked: CheckedPairs) -> dict[str, str]:
    return {image: pair.participant for pair in checked.pairs for image in checked.images[pair.case]}


def _match(request: GroupRequest, base: LoadedModel, material: Material) -> Source:
    """Hold the model that is started from against what is to be trained."""
    from bidsapp.training.adoption import match_source

    renames = read_label_map(request.label_map).names if request.label_map else {}
    return match_source(base, material.checked.table, material.channels, renames)


def _begin_from(layout: ModelLayout, begin: Source, settings: Settings) -> None:
    """Take up plans and weights of another model, and keep a copy of it."""
    from bidsapp.training.adoption import adopt_plans, begin_from, keep_parent

    adopt_plans(layout, begin, settings.training)
    keep_parent(layout, begin.model)
    begin_from(layout, begin, settings)


def _reader(layout: ModelLayout, state: ModelState | None) -> str:
    """nnU-Net's reader: of a model that was begun before, what its plans say; else the one that turns nothing."""
    return str(read_json(layout.plans)["image_reader_writer"]) if state else "SimpleITKIO"


def _plan(layout: ModelLayout, settings: Settings) -> None:
    """Plan a new model; one that was begun keeps its plans."""
    from bidsapp.training.planning import extract_fingerprint, make_plans

    if not layout.plans.exists() or read_state(layout) is None:
        log.info("planning with nnU-Net")
        extract_fingerprint(layout)
        make_plans(layout, settings.training)


def _complete(request: GroupRequest, state: ModelState, settings: Settings) -> None:
    """Train what is left of the last segment, then test and export."""
    _train(request, state, settings)  # also when testing: the newest checkpoint may have been damaged since
    state = state.with_stage("testing")
    write_state(request.layout, state)
    _test_and_export(request, state, settings)
    write_state(request.layout, state.with_stage("exported"))


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
    if start == segment.target:
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


def _test_and_export(request: GroupRequest, state: ModelState, settings: Settings) -> None:
    """Round the weights once; predict, score and pack with exactly those weights."""
    from bidsapp.models.export import build_model_folder, round_weights
    from bidsapp.models.loading import load_model
    from bidsapp.prediction import Predictor, choose_device
    from bidsapp.report.training_facts import gather_training_report
    from bidsapp.report.training_report import write_training_report
    from bidsapp.training.checkpoints import load_checkpoint

    layout = request.layout
    checkpoint = load_checkpoint(layout)
    if checkpoint is None:
        raise NoInputError(f"{layout.checkpoint} is gone", "Restore it, or train anew in another --model-dir.")
    folder = build_model_folder(
        layout.export_staging,
        name=layout.name,
        weights=round_weights(checkpoint["network_weights"], half=_rounds(settings, checkpoint["iteration"])),
        plans=read_json(layout.plans),
        dataset_json=read_json(layout.raw_dataset / "dataset.json"),
        facts=_public_facts(state, checkpoint["iteration"]),
    )
    predictor = Predictor(load_model(folder), choose_device(request.device), cores=request.cores)
    scores = predict_and_score(layout, state, predictor)
    summary = summarise(scores, seed=settings.training.seed)
    write_scores(layout.scores, scores)
    write_summary(layout.summary, summary)
    archive, leaks = _pack(layout, state, folder, checkpoint["iteration"])
    shutil.rmtree(layout.export_staging)
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
    write_training_report(layout.report, report)
    _show_scores(layout, summary, archive)
    if leaks:
        raise PartialFailureError(
            f"the model is trained and tested, but not exported: it holds what must not leave: {shorten_list(leaks)}",
            f"It lies in {archive}: look there, do not share it. Where the name of a model or label is at fault, "
            "change it (a MODEL_DIR may be renamed), then give the same command again; the training is safe.",
        )


def _rounds(settings: Settings, iteration: int) -> bool:
    """Weights that were never trained are passed on as they came: the answers are the source's, voxel for voxel."""
    return settings.export.precision == "half" and iteration > 0


def _pack(layout: ModelLayout, state: ModelState, folder: Path, iteration: int) -> tuple[Path, list[str]]:
    """Pack the model in `folder` and search it; becomes the newest export only when nothing was found.

    Returns
    -------
    tuple
        The archive, and what it holds that must not leave, with the places.
    """
    from bidsapp.models.export import zip_model
    from bidsapp.models.privacy import known_secrets, scan_archive

    staged = layout.staged_export(iteration)
    zip_model(folder, staged)
    leaks = [str(leak) for leak in scan_archive(staged, known_secrets(layout, state))]
    if leaks:
        for leak in leaks:
            log.debug("must not leave: %s", leak)
        archive = layout.refused_export(iteration, datetime.now().strftime("%Y-%m-%d"))
        copy_file(staged, archive)
        return archive, leaks
    archive = layout.exported_model(iteration)
    for target in (archive, layout.current_export):
        copy_file(staged, target)
    return archive, leaks


def genealogy(model: LoadedModel) -> tuple[dict[str, Any], ...]:
    """What is known of a model and of those that it came from, the nearest first; see `ModelState.parents`."""
    from bidsapp.models.licences import stated_licence

    facts = model.facts
    own = {
        "name": model.name,
        "license": stated_licence(facts.get("license")),
        "digest": model.digest,
        "people": facts.get("people"),
        "labels": list(model.labels.values()),
        "channels": list(model.channels),
    }
    before = facts.get("parents")
    return (own, *(dict(one) for one in before if isinstance(one, dict))) if isinstance(before, list) else (own,)


def _public_facts(state: ModelState, iteration: int) -> dict[str, object]:
    """What an export says of its training: numbers, never people."""
    people = {part: len({case.participant for case in state.cases.values() if case.split == part})
              for part in ("train", "validation", "test")}  # fmt: skip
    return {
        "iterations": iteration,
        "people": people,
        "labels": list(state.labels.values()),
        "channels": list(state.channels),
        "labels_from": _say_trust([segment.vouched for segment in state.segments]),
        "space": "network space: left hemispheres are flipped along the first axis",
        "parents": list(state.parents),
    }


def _say_trust(vouched: list[Vouched]) -> dict[str, object]:
    """Who answers for the labels of all segments: the user as soon as one segment took their word; numbers."""
    last = vouched[-1]
    in_part = any(one.by == "user" for one in vouched)
    statement = Vouched("user") if in_part else last
    facts: dict[str, object] = {"statement": str(statement)}
    if last.by == "review":
        facts |= {"approvals": last.approvals, "raters": last.raters}
    return facts


def predict_and_score(layout: ModelLayout, state: ModelState, predictor: Predictor) -> list[CaseScore]:
    """Predict every test case and compare it with its label."""
    labels = LabelTable(predictor.labels)
    scores: list[CaseScore] = []
    tested = [(case, known) for case, known in sorted(state.cases.items()) if known.split == "test"]
    for case, known in progress_over(tested, "predicting and scoring test pairs"):
        images = sorted(layout.raw_images("Ts").glob(f"{glob.escape(case)}_[0-9][0-9][0-9][0-9].nii.gz"))
        predictor.predict_files(images, layout.test_prediction(case))
        prediction, reference = (
            read_volume(path) for path in (layout.test_prediction(case), layout.raw_labels("Ts") / f"{case}.nii.gz")
        )
        scores += score_case(
            prediction.array,
            reference.array,
            reference.grid.spacing_mm,
            labels,
            participant=known.participant,
            case=case,
            hemi=known.hemi,
            annotated=known.annotated,
        )
    return scores


def _show_scores(layout: ModelLayout, summary: Summary, archive: Path) -> None:
    log.info("test scores (mean over people and sides, 95 % interval by person):")
    for name, measures in (*summary.labels.items(), ("all labels", summary.all_labels)):
        log.info(
            "  %-20s Dice %s   HD95 %s mm", name, _with_interval(measures["dice"]), _with_interval(measures["hd95_mm"])
        )
    log.info("scores: %s", layout.scores)
    log.info("report: %s", layout.report)
    log.info("model:  %s", archive)


def _with_interval(measure: MeasureSummary) -> str:
    if measure.mean is None:
        return "n/a"
    interval = measure.interval_95
    return f"{measure.mean:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
