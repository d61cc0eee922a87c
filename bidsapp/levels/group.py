"""The group level: approved labels, or pairs, in; trained, tested, exported model out.

A run completes the unfinished segment of a model, or opens one: pairs are checked, people placed, nnU-Net's
dataset written, planned and preprocessed, or plans and weights of another model taken over; the network is trained,
its weights are rounded once, and with those weights the test people are predicted and scored, the model before it is
compared, and the model is exported.
"""

from __future__ import annotations

import logging
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from bidsapp import __version__, config
from bidsapp.config import Settings
from bidsapp.errors import (
    BadDataError,
    HippoTuneError,
    InterruptedRunError,
    NoInputError,
    PartialFailureError,
    UsageError,
)
from bidsapp.files import sweep_unfinished
from bidsapp.levels.request import GroupRequest
from bidsapp.levels.segment_pairs import (
    check_segment_pairs,
    no_review_meanwhile,
    require_source,
    source_of_pairs,
)
from bidsapp.lock import folder_lock
from bidsapp.logs import add_log_file
from bidsapp.machine import usable_cores
from bidsapp.model_dir.state import SCRATCH, ModelState, read_state, write_state
from bidsapp.nnunet_environment import nnunet_environment
from bidsapp.pairs.approved import gather_approved
from bidsapp.pairs.origins import count_kinds, say_kinds
from bidsapp.pairs.share_pairs import check_destination, export_pairs
from bidsapp.printable import people_text, plural
from bidsapp.records import LabelTable
from bidsapp.training.dataset import divide

if TYPE_CHECKING:
    from bidsapp.exchange.loading import LoadedModel

from bidsapp.levels.finishing import finish_segment
from bidsapp.levels.opening import (
    check_model,
    lineage_of_request,
    match_parent_of_request,
    open_segment,
    parent_path,
    refuse_other_network,
    source_test_pairs,
)

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
    parent = _load_parent(request, state)
    others = parent or request.rehearse or request.source_test or (state and state.from_model)
    if request.label_map and request.training_dir and not others:
        raise UsageError(
            "--label-map says nothing of the pairs of --training-dir", "Their labels.tsv names the values."
        )
    if request.dry_run:
        _plan_aloud(request, state, settings, parent)
        return
    _check_machine(request)
    if state is None:
        require_source(request)
    with folder_lock(layout.lock), nnunet_environment(layout):
        sweep_unfinished(layout.root, alone=True)
        state = read_state(layout)  # another run may have ended while this one waited for nothing
        parent = None if state else parent
        _start_log(request, settings)
        if state is None or state.current is None or state.current.stage == "exported":
            if state is not None and not request.extend:
                log.info("%s is trained to iteration %d: nothing to do (--no-extend)", layout.root, state.iteration)
                return
            state = open_segment(request, state, settings, parent)
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
            f"done, without what failed a check or whose approval no longer holds ({plural(len(left_out), 'pair')}): "
            f"{', '.join(left_out)}",
            "The findings are in the log of the run that opened this segment.",
        )


def _export_pairs(request: GroupRequest, destination: Path) -> None:
    """--export-training-data: a data set for others; nothing is trained."""
    check_destination(request.output, destination)
    with no_review_meanwhile(request):
        sides = gather_approved(request.output, request.wanted, label_map=request.label_map)
        if request.dry_run:
            people = people_text(len(sides.people))
            log.info("would export %s of %s to %s", plural(len(sides.approvals), "side"), people, destination)
            return
        export_pairs(request.output, destination, sides)
    if sides.refused:
        listed = ", ".join(f"{name} ({reason})" for name, reason in sides.refused.items())
        raise PartialFailureError(
            f"exported, without labels whose approval no longer holds ({len(sides.refused)}): {listed}",
            "Approve them again: run.py BIDS_DIR OUTPUT_DIR review. Then export to a new folder.",
        )


def effective_settings(request: GroupRequest, state: ModelState | None = None) -> Settings:
    """Defaults or config.ini, then what this run asks for."""
    layout = request.layout
    from_model = state.from_model if state else request.parent not in (None, SCRATCH)
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


def _load_parent(request: GroupRequest, state: ModelState | None) -> LoadedModel | None:
    """The model that a new model starts from; None: it starts from scratch, or was begun before.

    Raises
    ------
    UsageError
        When the model was begun from scratch and another one is asked for now, or the reverse.
    """
    if request.parent in (None, SCRATCH):
        if state is not None and state.from_model and request.parent == SCRATCH:
            raise _begun_otherwise(request, "with another model")
        return None
    if state is not None and not state.from_model:
        raise _begun_otherwise(request, "from scratch")
    from bidsapp.exchange.loading import load_model

    try:
        model = load_model(parent_path(request))
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
            request.parent, request.layout.root,
        )  # fmt: skip
    return None


def _begun_otherwise(request: GroupRequest, how: str) -> UsageError:
    return UsageError(
        f"{request.layout.root} was begun {how}, not with --model {request.parent}",
        "Leave --model out to train it on, or start anew in another --model-dir.",
    )


def _plan_aloud(
    request: GroupRequest, state: ModelState | None, settings: Settings, parent: LoadedModel | None
) -> None:
    """--dry-run: check everything, write nothing."""
    start = state.iteration if state else 0
    if state and state.segments[-1].stage != "exported":
        segment = state.segments[-1]
        log.info("would complete the segment of iterations %d to %d (%s)", segment.start, segment.target, segment.stage)
        refuse_other_network(state, settings)
        return
    if state and not request.extend:
        log.info("nothing to do (--no-extend)")
        return
    if state:
        refuse_other_network(state, settings)
    lineage = lineage_of_request(request, state, parent)
    with source_of_pairs(request, state, parent) as source:
        chosen = check_segment_pairs(request, source, state, settings, parent=parent, lineage=lineage)
    checked, split = chosen.checked, chosen.split
    source_test_pairs(request, settings, checked.table, chosen.channels, chosen.storage, split)
    log.info("model      %s", request.layout.root)
    if parent is not None:
        matching = match_parent_of_request(request, parent, chosen).matching
        log.info("from       %s", parent.source)
        for line in (*matching.label_lines(), *matching.channel_lines()):
            log.info("           %s", line)
    parts = divide(checked.pairs, split)
    log.info("trust      %s", source.vouched)
    log.info("channels   %s", ", ".join(chosen.channels))
    log.info("labels     %s", ", ".join(f"{value} {name}" for value, name in checked.table.names.items()))
    for name, pairs in (("training", parts.train), ("validation", parts.validation), ("test", parts.test)):
        people = sorted({pair.participant for pair in pairs})
        size = f"{people_text(len(people))}, {plural(len(pairs), 'pair')}"
        log.info("%-10s %s: %s", name, size, ", ".join(people))
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
    refuse_other_network(state, settings)
    table = LabelTable(state.labels, frozenset(state.required_labels))
    source_test_pairs(request, settings, table, state.channels, state.storage, state.split)
    for name, text in config.as_overrides(settings).items():
        if segment.settings.get(name, text) != text:
            log.info("changed since the segment began: %s = %s (was %s)", name, text, segment.settings[name])
    return settings


def _complete(request: GroupRequest, state: ModelState, settings: Settings) -> HippoTuneError | None:
    """Train what is left of the last segment, then test and export; gives what the run must end with."""
    if state.parent_labels and request.layout.parent_model.exists():
        check_model(request.layout.parent_model)  # before hours of training
    _train(request, state, settings)  # also when testing: the newest checkpoint may have been damaged since
    state = state.with_stage("testing")
    write_state(request.layout, state)
    state, trouble = finish_segment(request, state, settings)
    if not isinstance(trouble, PartialFailureError):  # what was not exported for its name is tested again
        write_state(request.layout, state.with_stage("exported"))
    return trouble


def _train(request: GroupRequest, state: ModelState, settings: Settings) -> None:
    from bidsapp.prediction import choose_device
    from bidsapp.training.planning import preprocess_cases
    from bidsapp.training.trainer import Hardware, inputs_of, make_trainer
    from bidsapp.training.watch import watch_training

    layout, segment = request.layout, state.segments[-1]
    hardware = Hardware(choose_device(request.device), request.cores or usable_cores())
    content = {case: known.content for case, known in state.cases.items() if known.split != "test"}
    preprocess_cases(layout, content, processes=hardware.cores)
    trainer = make_trainer(layout, settings, list(state.segments), hardware, inputs_of(state))
    start = trainer.progress.iteration
    if start == segment.target and not trainer.validation_is_due:
        if not layout.checkpoint.exists():
            trainer.save()
        return
    log.info("training on %s from iteration %d to %d", hardware.device, start, segment.target)
    log.info("watch it with: tensorboard --logdir %s", layout.tensorboard)
    slow = hardware.device.type == "cpu"
    with watch_training(layout, start=start, target=segment.target, slow_device=slow) as watcher:
        trainer.run_training(watcher)
        stopped = watcher.stop_requested()
    if stopped:
        raise InterruptedRunError(
            f"stopped at iteration {trainer.progress.iteration} of {segment.target}; a checkpoint was saved",
            "Give the same command again to continue.",
        )
