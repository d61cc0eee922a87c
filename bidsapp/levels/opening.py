"""Open a segment of a training: check pairs, place people, prepare nnU-Net's data, and record it in state.json."""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bidsapp import __version__, config
from bidsapp.config import Settings
from bidsapp.errors import (
    BadDataError,
    NoInputError,
    UsageError,
)
from bidsapp.files import copy_file
from bidsapp.images.orientation import Storage
from bidsapp.labels.tables import nnunet_values
from bidsapp.layout import ModelLayout
from bidsapp.levels.request import GroupRequest
from bidsapp.levels.segment_pairs import (
    SegmentPairs,
    check_segment_pairs,
    label_renames,
    others_pairs,
    source_of_pairs,
    trained_cases,
)
from bidsapp.model_dir.lineage import Lineage, lineage_of, lineage_so_far, say_leakage
from bidsapp.model_dir.nnunet_files import read_plans
from bidsapp.model_dir.split import add_places, write_split
from bidsapp.model_dir.state import SCRATCH, ModelState, Segment, read_state, write_state
from bidsapp.pairs.check_pairs import CheckedPairs
from bidsapp.pairs.origins import count_kinds, say_kinds
from bidsapp.pairs.pairs import say_pairs
from bidsapp.printable import people_text, plural
from bidsapp.records import LabelTable, Split, SplitRow
from bidsapp.training.dataset import Parts, divide, write_raw_dataset
from bidsapp.training.rehearsal import EarlierPairs

if TYPE_CHECKING:
    from bidsapp.exchange.loading import LoadedModel
    from bidsapp.training.adoption import MatchedParent

log = logging.getLogger(__name__)


def open_segment(
    request: GroupRequest, state: ModelState | None, settings: Settings, parent: LoadedModel | None
) -> ModelState:
    """Check pairs, place people, prepare nnU-Net's data, and record the new segment."""
    layout = request.layout
    start = state.iteration if state else 0
    target = start + settings.training.iterations
    if state:
        log.info("opening a new segment: iterations %d to %d of %s", start, target, layout.root)
        refuse_other_network(state, settings)
    else:
        log.info("training a new model in %s: %d iterations", layout.root, target)
        log.info("starting from %s", "scratch" if parent is None else parent.source)
    _say_overrides(layout, settings)
    lineage = lineage_of_request(request, state, parent)
    with source_of_pairs(request, state, parent) as source:
        log.info("%s", source.vouched)
        chosen = check_segment_pairs(request, source, state, settings, parent=parent, lineage=lineage)
    checked, split = chosen.checked, chosen.split
    # everything that can be refused is refused before anything is written, and before hours of training
    others = source_test_pairs(request, settings, checked.table, chosen.channels, chosen.storage, split)
    if leakage := say_leakage(lineage):
        log.log(logging.WARNING if lineage.unchecked else logging.INFO, "%s", leakage)
    matched = match_parent_of_request(request, parent, chosen) if parent is not None else None
    if state:
        if layout.current_export.exists():
            check_model(layout.current_export)
        _log_changes(state, checked)
    write_split(layout.split, split)
    parts = divide(checked.pairs, split)
    _log_parts(parts)
    _prepare_data(layout, state, settings, chosen, parts, matched)
    segment = Segment(
        start, target, "training", config.as_overrides(settings),
        [*chosen.left_out, *(f"{case} (--source-test)" for case in (others.left_out if others else ()))],
        vouched=source.vouched, pairs=say_pairs(chosen.found),
    )  # fmt: skip
    new_state = _state_with(segment, layout, state, chosen, parts, lineage, matched)
    write_state(layout, new_state)
    return new_state


def _prepare_data(
    layout: ModelLayout,
    state: ModelState | None,
    settings: Settings,
    chosen: SegmentPairs,
    parts: Parts,
    matched: MatchedParent | None,
) -> None:
    """Write nnU-Net's raw data set, and plans and first weights where the model is new."""
    checked, values = chosen.checked, nnunet_values(chosen.checked.table)
    if any(value != position for value, position in values.items()):
        log.info("the network, and so the export and test/ (see its labels.tsv), numbers labels without gaps: %s",
                 ", ".join(f"{checked.table.names[value]} {values[value]}" for value in sorted(values)))  # fmt: skip
    reader = matched.model.reader if matched else reader_of(layout, state)
    write_raw_dataset(
        layout, parts, checked.content, checked.table, chosen.channels, reader=reader, rehearsal=chosen.rehearsal
    )
    if matched is not None:
        _adopt(layout, matched, settings)
    else:
        if state is None:  # what a killed start from another model left
            for path in (layout.checkpoint, layout.previous_checkpoint, layout.parent_model, layout.transfer):
                path.unlink(missing_ok=True)
        _plan(layout, settings)
    if not layout.config.exists():
        config.write_config(layout.config, settings)
        log.info("the settings of this first run are now the model's: %s", layout.config)


def _state_with(
    segment: Segment,
    layout: ModelLayout,
    state: ModelState | None,
    chosen: SegmentPairs,
    parts: Parts,
    lineage: Lineage,
    matched: MatchedParent | None,
) -> ModelState:
    """The state with a new segment, as state.json will keep it."""
    checked = chosen.checked
    rehearsed_images = chosen.rehearsal.checked.image_people if chosen.rehearsal else {}
    rehearsed = Split(tuple(SplitRow(person, "train") for person in sorted(set(rehearsed_images.values()))))
    return ModelState(
        base=state.base if state else matched.model.digest if matched else SCRATCH,
        labels=checked.table.names,
        required_labels=tuple(sorted(checked.table.required)),
        channels=chosen.channels,
        split=chosen.split,
        segments=(*(state.segments if state else ()), segment),
        cases=trained_cases(parts, chosen),
        image_people=dict(lineage.image_people) | rehearsed_images | checked.image_people,
        versions={"hippotune": __version__, "nnunetv2": version("nnunetv2"), "torch": version("torch")},
        parents=lineage.parents,
        new_labels=state.new_labels if state else matched.matching.new_labels if matched else (),
        inherited=add_places(lineage.inherited, rehearsed),
        unchecked=lineage.unchecked,
        fingerprints=dict(lineage.fingerprints),
        ancestors=lineage.ancestors,
        storage=chosen.storage,
        **_parent(layout, state, matched, nnunet_values(checked.table)),
    )


def refuse_other_network(state: ModelState, settings: Settings) -> None:
    """Refuse settings that would need another network than the one that was trained so far; raises `UsageError`."""
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
    """Log which pairs are new, changed or gone since the previous segment."""
    before = {case: known.content for case, known in state.cases.items() if not known.rehearsal}
    now = checked.content
    for what, cases in (
        ("new", now.keys() - before.keys()),
        ("gone", before.keys() - now.keys()),
        ("changed", {case for case in now.keys() & before.keys() if now[case] != before[case]}),
    ):
        if cases:
            log.info("%s %s: %s", plural(len(cases), "pair is", "pairs are"), what, ", ".join(sorted(cases)))


def _log_parts(parts: Parts) -> None:
    for name, pairs in (("training", parts.train), ("validation", parts.validation), ("test", parts.test)):
        people, kinds = len({pair.participant for pair in pairs}), count_kinds(pair.origin for pair in pairs)
        size = f"{people_text(people)}, {plural(len(pairs), 'pair')}"
        log.info("%s: %s; labels: %s", name, size, say_kinds(kinds))


def _say_overrides(layout: ModelLayout, settings: Settings) -> None:
    """Log the settings of this run that differ from config.ini."""
    if layout.config.exists():
        standing_settings = config.read_config(layout.config)
        for name, (standing, used) in config.differing(standing_settings, settings).items():
            log.info("for this run: %s = %s (config.ini: %s)", name, used, standing)


def lineage_of_request(request: GroupRequest, state: ModelState | None, parent: LoadedModel | None) -> Lineage:
    """What is known of the models that this one comes from."""
    if state is not None:
        return lineage_so_far(state)
    if parent is None:
        return Lineage()
    return lineage_of(parent, parent_path(request), licence=_registry_licence(request))


def _registry_licence(request: GroupRequest) -> str | None:
    from bidsapp.models.registry import load_registry

    entry = load_registry(request.models).get(str(request.parent)) if request.models else None
    return entry.licence if entry else None


def parent_path(request: GroupRequest) -> Path:
    """Where the model of ``--model`` is on disk; raises as `bidsapp.models.shelf.model_path`."""
    from bidsapp.models.shelf import model_path

    return model_path(str(request.parent), request.models, request.output, otherwise=SCRATCH)


def check_model(path: Path) -> None:
    """Refuse a model that cannot be loaded and thus not be compared with; raises `BadDataError`."""
    from bidsapp.exchange.loading import load_model

    try:
        load_model(path)
    except (BadDataError, NoInputError) as error:
        raise BadDataError(
            f"{error.message}; the new model is to be compared with it",
            "Restore the file from a backup, or move it away: then there is no comparison.",
        ) from error


def _parent(
    layout: ModelLayout, state: ModelState | None, matched: MatchedParent | None, values: dict[int, int]
) -> dict[str, Any]:
    """How the segment's parent answers: the model it starts from, or a copy of the current export."""
    if matched is not None:
        return {"parent_labels": matched.values, "parent_channels": matched.channels}
    if state is None:
        return {}
    if not layout.current_export.exists():  # the first export was worse than its parent, which stays the parent
        return {"parent_labels": state.parent_labels, "parent_channels": state.parent_channels}
    copy_file(layout.current_export, layout.parent_model)
    return {
        "parent_labels": {position: position for position in values.values()},
        "parent_channels": tuple(range(len(state.channels))),
    }


def source_test_pairs(
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


def match_parent_of_request(request: GroupRequest, parent: LoadedModel, chosen: SegmentPairs) -> MatchedParent:
    """Match the labels and channels of the parent with those to train."""
    from bidsapp.training.adoption import match_parent

    return match_parent(parent, chosen.checked.table, chosen.channels, label_renames(request))


def _adopt(layout: ModelLayout, matched: MatchedParent, settings: Settings) -> None:
    """Take over plans and weights of the parent, and keep a copy of it."""
    from bidsapp.training.adoption import adopt_plans, keep_parent, write_start_weights

    adopt_plans(layout, matched, settings.training)
    keep_parent(layout, matched.model)
    write_start_weights(layout, matched, settings)


def reader_of(layout: ModelLayout, state: ModelState | None) -> str:
    """nnU-Net's reader: the one in the plans of a model that was begun before, else the one that turns no image."""
    return str(read_plans(layout)["image_reader_writer"]) if state else "SimpleITKIO"


def _plan(layout: ModelLayout, settings: Settings) -> None:
    """Plan a new model; one that was begun keeps its plans."""
    from bidsapp.training.planning import extract_fingerprint, make_plans

    if not layout.plans.exists() or read_state(layout) is None:
        log.info("planning with nnU-Net")
        extract_fingerprint(layout)
        make_plans(layout, settings.training)
