"""Choose what a segment of a training learns from: check all pairs, place all people, and choose earlier pairs."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bidsapp.bids.people import shorten_list
from bidsapp.config import Settings
from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.images.orientation import NETWORK_SPACE, Storage, axes_of, mirrored_axes, network_axes
from bidsapp.images.volumes import read_grid
from bidsapp.labels.label_map import read_label_map
from bidsapp.labels.tables import nnunet_values
from bidsapp.layout import ModelLayout, label_table_file, origins_file
from bidsapp.levels.pair_folder import ShownPairs, are_mirrored, examine_folder, labels_of_folder
from bidsapp.levels.request import GroupRequest
from bidsapp.model_dir.lineage import Lineage, parts_by_fingerprint, places_by_image, refuse_leaks
from bidsapp.model_dir.nnunet_files import read_plans
from bidsapp.model_dir.shared_split import decide_shared_split
from bidsapp.model_dir.split import add_places, decide_split, read_split
from bidsapp.model_dir.state import ModelState, TrainedCase
from bidsapp.nnunet_names import TURNS_TO_RAS
from bidsapp.pairs.approved import ApprovedSides, common_modalities, gather_approved, update_training_folder
from bidsapp.pairs.channels import default_channel_names
from bidsapp.pairs.check_pairs import CheckedPairs, ExaminedPairs, choose_pairs, examine_pairs
from bidsapp.pairs.left_headers import true_headers
from bidsapp.pairs.names import people_kept_apart
from bidsapp.pairs.origins import judge_corrections, read_origins, with_origins
from bidsapp.pairs.pairs import ByContent, FoundPairs, find_pairs, is_kept_otherwise, say_pairs
from bidsapp.pairs.pairs_table import read_pairs_tables
from bidsapp.printable import plural
from bidsapp.records import Hemi, LabelTable, LabelTrust, Pair, Split, SplitName
from bidsapp.review.ledger import labels_lock
from bidsapp.training.dataset import Parts, divide
from bidsapp.training.rehearsal import EarlierPairs, choose_rehearsal, earlier_pairs

if TYPE_CHECKING:
    from bidsapp.exchange.loading import LoadedModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairSource:
    """Where the pairs of a segment come from."""

    folder: Path
    """Laid out as `bidsapp.pairs.pairs.find_pairs` wants it."""
    vouched: LabelTrust
    """Who answers for the labels."""
    channels: tuple[str, ...] = ()
    """What the images are; empty when neither the folder nor review tells."""
    table: LabelTable | None = None
    """Names of the label values; None: those of the folder or the model."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Labels whose approval no longer holds -> why."""


@dataclass(frozen=True)
class SegmentPairs:
    """What a segment is trained on: pairs that passed all checks, the split of people, and earlier pairs, if any."""

    source: PairSource
    found: FoundPairs
    checked: CheckedPairs
    split: Split
    channels: tuple[str, ...]
    rehearsal: EarlierPairs | None = None

    @property
    def storage(self) -> dict[Hemi, str]:
        """What the pairs are turned to in this model from now on; without an entry for sides that no pair shows."""
        sideless = any(pair.hemi == "n/a" for pair in self.checked.pairs)
        return {side: axes for side, axes in self.found.storage.items() if side != "n/a" or sideless}

    @property
    def left_out(self) -> list[str]:
        """Pairs and approvals that a user expects and that are not used."""
        refused = (f"{name} ({reason})" for name, reason in self.source.refused.items())
        return [*self.checked.left_out, *refused, *(self.rehearsal.left_out if self.rehearsal else ())]


@contextmanager
def source_of_pairs(
    request: GroupRequest, state: ModelState | None, parent: LoadedModel | None
) -> Iterator[PairSource]:
    """The user's folder, or MODEL_DIR/training brought up to date; a dry run writes it to a temporary folder."""
    if request.training_dir is not None:
        yield PairSource(_existing_folder(request.training_dir), LabelTrust("user"))
        return
    model_table = LabelTable(state.labels, frozenset(state.required_labels)) if state else None
    with tempfile.TemporaryDirectory(prefix="hippotune-") as aside:
        with no_review_meanwhile(request):
            sides = gather_approved(
                request.output,
                request.wanted,
                label_map=request.label_map,
                model_table=model_table,
                parent_labels=parent.labels.values() if parent is not None else (),
            )
            source = _write_approved(Path(aside) if request.dry_run else request.layout.training, sides)
        yield source


def no_review_meanwhile(request: GroupRequest) -> AbstractContextManager[None]:
    """Hold the lock of the labels, so that no decision is half recorded; a dry run writes nothing and takes none."""
    there = request.output.labels.is_dir() and not request.dry_run
    return labels_lock(request.output) if there else nullcontext()


def require_source(request: GroupRequest) -> None:
    """Refuse to begin a model where nothing at all can be learned from, before a folder is made for it."""
    if request.training_dir is not None:
        _existing_folder(request.training_dir)
    elif not request.output.ledger.exists():  # nothing is approved; this raises the error that says how
        gather_approved(request.output, request.wanted)


def _existing_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise NoInputError(f"--training-dir {folder} does not exist", "Name the folder that holds the pairs.")
    return folder


def _write_approved(folder: Path, sides: ApprovedSides) -> PairSource:
    modalities = common_modalities(sides.approvals)
    update_training_folder(folder, sides, modalities)
    return PairSource(folder, sides.vouched, modalities, sides.table, sides.refused)


def check_segment_pairs(
    request: GroupRequest,
    source: PairSource,
    state: ModelState | None,
    settings: Settings,
    *,
    parent: LoadedModel | None,
    lineage: Lineage,
) -> SegmentPairs:
    """Check every pair, and that they match the model so far and its parent, and place all people in the split.

    Raises
    ------
    HippoTuneError
        For everything that prevents the training; the split is unchanged then.
    """
    found = _find(request, source, state, lineage)
    seen = _examine(request, source, state, found)
    if state is None and are_mirrored(seen):
        log.warning("%s; nothing tells which side they show, so they are mirrored", seen.turned)
        found = _find(request, source, state, lineage, without_side=mirrored_axes(found.storage["n/a"]))
        seen = _examine(request, source, state, found)
    kept = {pair.case for pair in found.pairs if is_kept_otherwise(pair, found.storage)}
    checked = choose_pairs(seen, skip_bad_pairs=request.skip_bad_pairs, begun=state is not None, kept=kept)
    checked = _judge_corrections(checked, settings.training.least_changed)
    channels = _channel_names(checked, source.channels or found.channels, state, settings)
    if parent is not None:
        from bidsapp.training.adoption import channel_names, refuse_other_network

        refuse_other_network(parent, settings.training)
        channels = channel_names(parent, channels)
    if state is not None:
        _refuse_renamed_people(state, checked)
        _refuse_other_labels(state, checked.table, channels, request.layout)
    people = {pair.participant for pair in checked.pairs} | lineage.inherited.people
    earlier = (
        others_pairs(
            request, request.rehearse, checked.table, channels,
            part="train", storage=found.storage, people=people | (state.split.people if state else set()),
            settings=settings,
        )
        if request.rehearse
        else None
    )  # fmt: skip
    if parent is not None and source.vouched.by == "user":
        from bidsapp.training.parent_fit import refuse_pairs_mirrored_to_parent

        refuse_pairs_mirrored_to_parent(
            parent, checked.pairs, checked.table.names, channels, device=request.device, cores=request.cores
        )  # fmt: skip
    judged: list[EarlierPairs | None] = []

    def judge(split: Split) -> None:
        refuse_leaks(lineage, split, checked.pairs, checked.images)
        judged.append(_rehearsal(earlier, checked, split, lineage) if earlier else None)

    split = _place(request, source, checked, state, settings, lineage, judge)
    (rehearsal,) = judged
    if request.participant_pattern is None:
        _warn_of_people_kept_apart(found, split)
    _say_absent_labels(checked, split, rehearsal)
    return SegmentPairs(source, found, checked, split, channels, rehearsal)


def _examine(request: GroupRequest, source: PairSource, state: ModelState | None, found: FoundPairs) -> ExaminedPairs:
    """Check the pairs; those of a user's folder are also compared with each other, and listed in a table and a page."""
    table = source.table
    if table is None and state is not None and not label_table_file(source.folder).exists() and found.table is None:
        table = LabelTable(state.labels, frozenset(state.required_labels))
    if source.vouched.by != "user":
        table, annotated = labels_of_folder(source.folder, found, table)
        return examine_pairs(found, table=table, annotated=annotated)
    layout = request.layout
    shown = ShownPairs(layout.pairs_table, layout.pairs_page, back=("report.html", "The model"))
    rows = read_pairs_tables(layout.pairs_table, request.output.pairs_table)
    return examine_folder(source.folder, found, rows, table=table, shown=None if request.dry_run else shown)


def _judge_corrections(checked: CheckedPairs, least_changed: float) -> CheckedPairs:
    """Apply `bidsapp.pairs.origins.judge_corrections`, and log whose correction is too small to count."""
    judged = judge_corrections(checked.pairs, least_changed)
    small = [new.case for new, old in zip(judged, checked.pairs, strict=True) if new.origin != old.origin]
    if small:
        log.info(
            "corrected in less than %g %% of their voxels (training.least_changed), so they count as approved as "
            "predicted: %s", 100 * least_changed, shorten_list(small),
        )  # fmt: skip
    return replace(checked, pairs=judged)


def _find(
    request: GroupRequest,
    source: PairSource,
    state: ModelState | None,
    lineage: Lineage,
    *,
    without_side: str = "",
) -> FoundPairs:
    """Find the pairs, turned as this model needs them, and log how they are grouped, stored and turned."""
    layout = request.layout
    own = read_split(layout.split) if layout.split.exists() else state.split if state else Split()
    by_user = source.vouched.by == "user"
    before = _axes_in_raw(layout, state, source.folder) if state else {}
    kept = before if state and not state.storage else {}
    if state and state.storage:
        kept = {case: known.axes for case, known in state.cases.items() if known.axes}
    found = find_pairs(
        source.folder,
        participant_pattern=request.participant_pattern,
        left_is=request.left_is,
        rows=read_pairs_tables(layout.pairs_table, request.output.pairs_table) if by_user else {},
        known_people=own.people | lineage.inherited.people,
        storage=state.storage if state else {"n/a": without_side} if without_side else None,
        kept=kept,
        by_content=_headers_as_before(before, state.storage) if state and state.storage else true_headers,
    )
    stated = origins_file(source.folder)
    if stated.exists():
        cases = {*(pair.case for pair in found.pairs), *(finding.case for finding in found.findings)}
        found = replace(found, pairs=with_origins(found.pairs, read_origins(stated, cases)))
    for line in say_pairs(found, example=True):
        log.info("%s", line)
    again = [pair.case for pair in found.pairs if before.get(pair.case, pair.axes) != pair.axes]
    if again:
        log.warning(
            "turned otherwise than when this model was trained, because ids or tables changed: %s: %s",
            plural(len(again), "pair"), shorten_list(again),
        )  # fmt: skip
    otherwise = [pair for pair in found.pairs if is_kept_otherwise(pair, found.storage)]
    if otherwise:
        log.warning(
            "%s (%s) as this model was trained on, not in network space, where side and side look "
            "alike: HippoTune 0.1.0 turned nothing. Train anew in another --model-dir to mend it",
            plural(len(otherwise), "pair stays", "pairs stay"), ", ".join(sorted({pair.axes for pair in otherwise})),
        )  # fmt: skip
    if found.storage["R"] != NETWORK_SPACE["R"]:
        log.warning(
            "this model was begun by HippoTune 0.1.0 with right sides stored %s, so new pairs are turned to that; "
            "participant gives crops stored %s: train anew in another --model-dir",
            found.storage["R"], NETWORK_SPACE["R"],
        )  # fmt: skip
    return found


def _headers_as_before(before: Mapping[str, str], storage: Storage) -> ByContent:
    """Keep for known left sides what was decided when the model was begun; decide by shape for the others."""

    def decide(lefts: Sequence[Pair], pairs: Sequence[Pair]) -> dict[str, bool]:
        ends = {network_axes("L", truthful=truthful, storage=storage): truthful for truthful in (True, False)}
        known = {pair.case: ends[before[pair.case]] for pair in lefts if before.get(pair.case) in ends}
        others = [pair for pair in lefts if pair.case not in known]
        return known | (true_headers(others, pairs) if others else {})

    return decide


def _axes_in_raw(layout: ModelLayout, state: ModelState, folder: Path) -> dict[str, str]:
    """Case -> axes that its array has in this model, by the headers in nnU-Net's raw data, where they say it."""
    found = {}
    for case, known in state.cases.items():
        label = layout.raw_labels("Ts" if known.split == "test" else "Tr") / f"{case}.nii.gz"
        if known.rehearsal or not label.exists():
            continue
        found[case] = axes_of(read_grid(label, "pair").affine)
    if not layout.plans.exists() or read_plans(layout)["image_reader_writer"] != TURNS_TO_RAS:
        return found
    stored = {} if state.storage else find_pairs(folder).stored
    seen = {case: _axes_as_seen(axes, stored.get(case, "")) for case, axes in found.items()}
    return {case: axes for case, axes in seen.items() if axes}


def _axes_as_seen(written: str, stored: str) -> str:
    """LAS or RAS: what a reader that turns voxels to RAS by their headers sees as it saw the pair; ``""``: unknown.

    HippoTune 0.1.0 wrote pairs as they were stored, and let headers whose first axis ran to the right say that it
    runs to the left (`write_nnunet_case`).
    """
    if not written.startswith("L") or stored == written:
        return "LAS"
    return "RAS" if stored == f"R{written[1:]}" else ""


def _warn_of_people_kept_apart(found: FoundPairs, split: Split) -> None:
    """Warn where names of one person are in different parts: splits of older versions took ids as names, and stay."""
    places = {row.participant_id: row.split for row in split.rows}
    parts = {people: {places[person] for person in people if person in places}
             for people in people_kept_apart(found.names)}  # fmt: skip
    for part, others in (("test", {"train", "validation"}), ("validation", {"train"})):
        divided = ["/".join(people) for people, held in parts.items() if part in held and held & others]
        if divided:
            log.warning(
                "several names of one person are in %s as well as in %s: %s. The %s scores are too good; "
                "a new --model-dir keeps such people together",
                part, " or ".join(sorted(others)), shorten_list(divided), part,
            )  # fmt: skip


def _say_absent_labels(checked: CheckedPairs, split: Split, rehearsal: EarlierPairs | None) -> None:
    """Warn of labels that a part lacks: those that only test people have are not learned, others are not scored."""
    parts, values = divide(checked.pairs, split), nnunet_values(checked.table)
    rehearsed = {rehearsal.values.get(value, 0) for pair in rehearsal.pairs
                 for value in rehearsal.checked.values.get(pair.case, ())} if rehearsal else set()  # fmt: skip
    consequences = (
        ("training", parts.train, rehearsed, "cannot be learned"),
        ("validation", parts.validation, set[int](), "does not count in the validation Dice"),
        ("test", parts.test, set[int](), "gets no test score"),
    )
    everywhere = {value for pair in checked.pairs for value in checked.values[pair.case]}
    for part, pairs, further, consequence in consequences:
        held = {value for pair in pairs for value in checked.values[pair.case]}
        absent = [name for value, name in checked.table.names.items()
                  if value in everywhere - held and values[value] not in further]  # fmt: skip
        for name in absent:
            log.warning(
                "nobody in %s has the label %s: it %s. Add people who have it; before the first training split.tsv may "
                "also be edited", part, name, consequence,
            )  # fmt: skip


def label_renames(request: GroupRequest) -> dict[str, str | None]:
    """Name of a label in --label-map -> its name here, None for background."""
    return dict(read_label_map(request.label_map)) if request.label_map else {}


def others_pairs(
    request: GroupRequest,
    folder: Path,
    table: LabelTable,
    channels: tuple[str, ...],
    *,
    part: SplitName,
    storage: Storage,
    people: Collection[str],
    settings: Settings,
) -> EarlierPairs:
    """The pairs of --rehearse and --source-test; raises as `bidsapp.training.rehearsal.earlier_pairs` does."""
    if folder.resolve() == request.layout.root.resolve():
        raise UsageError(
            f"{folder} is the model's own folder", "Its people are trained and tested on as it is; name another one."
        )
    return earlier_pairs(
        folder, table, channels, label_renames(request),
        part=part, storage=storage, people=people,
        participant_pattern=request.participant_pattern, left_is=request.left_is,
        least_changed=settings.training.least_changed,
        rows=read_pairs_tables(request.layout.pairs_table, request.output.pairs_table),
        skip_bad_pairs=request.skip_bad_pairs,
    )  # fmt: skip


def _rehearsal(earlier: EarlierPairs, checked: CheckedPairs, split: Split, lineage: Lineage) -> EarlierPairs:
    known = dict(lineage.image_people) | checked.image_people
    held_out = [case for case, images in earlier.checked.images.items()
                if parts_by_fingerprint(lineage, images) - {"train"}]  # fmt: skip
    if held_out:
        log.info(
            "not rehearsed, since an ancestor of this model was tested on them: %s", shorten_list(sorted(held_out))
        )
        earlier = earlier.without(held_out)
    return choose_rehearsal(earlier, add_places(split, lineage.inherited), known, checked)


def _place(
    request: GroupRequest,
    source: PairSource,
    checked: CheckedPairs,
    state: ModelState | None,
    settings: Settings,
    lineage: Lineage,
    judge: Callable[[Split], None],
) -> Split:
    """Approved people have one place in all models of a data set; people of a user's folder only in this one.

    People whom an ancestor of the model knows, by id or by an image, keep their place. `judge` may refuse the split
    before anything is written.
    """
    people = {pair.participant for pair in checked.pairs}
    judges = {pair.participant for pair in checked.pairs if pair.origin.is_reference}
    inherited = add_places(lineage.inherited, places_by_image(lineage, checked.pairs, checked.images))
    seed, locked = settings.training.seed, state.split if state else None
    validation, test = settings.split.validation_fraction, settings.split.test_fraction
    if source.vouched.by == "user":
        split = decide_split(
            request.layout.split, people, judges=judges, seed=seed, locked=locked, known=inherited,
            validation_fraction=validation, test_fraction=test,
        )  # fmt: skip
        judge(split)
        return split
    return decide_shared_split(
        request.output, request.layout.split, people, judges=judges, seed=seed, locked=locked,
        inherited=inherited, validation_fraction=validation, test_fraction=test,
        write=not request.dry_run, judge=judge,
    )  # fmt: skip


def _refuse_renamed_people(state: ModelState, checked: CheckedPairs) -> None:
    """The same image under another person would be placed anew, and a test person could enter the training."""
    renamed = [
        f"{pair.case} belongs to {pair.participant}, before to {state.image_people[image]}"
        for pair in checked.pairs
        for image in checked.images[pair.case]  # also as stored: HippoTune 0.1.0 knew them so
        if state.image_people.get(image, pair.participant) != pair.participant
    ]
    if renamed:
        raise BadDataError(
            f"images that this model knows changed their person: {'; '.join(dict.fromkeys(renamed))}",
            "Use the ids and the --participant-pattern of the first run, or train anew in another --model-dir.",
        )


def _channel_names(
    checked: CheckedPairs, given: tuple[str, ...], state: ModelState | None, settings: Settings
) -> tuple[str, ...]:
    """The setting, else the names that come with the pairs (`given`), else those that the model began with."""
    count = len(checked.pairs[0].images)
    unnamed = default_channel_names(count)
    names = settings.training.channels or given or unnamed
    if len(names) != count:
        raise UsageError(
            f"{len(names)} channels are named ({', '.join(names)}), the pairs have {count}",
            "Give one name per channel in training.channels.",
        )
    same_count = state is not None and len(state.channels) == count
    if state is not None and same_count and unnamed in (names, state.channels):
        return state.channels
    return names


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


def trained_cases(parts: Parts, chosen: SegmentPairs) -> dict[str, TrainedCase]:
    """What state.json keeps of every pair, the rehearsed ones included."""
    checked, places = chosen.checked, {row.participant_id: row.split for row in chosen.split.rows}
    cases = {
        pair.case: TrainedCase(
            pair.participant,
            pair.hemi,
            places[pair.participant],
            checked.content[pair.case],
            _names(pair.annotated),
            origin=pair.origin,
            axes=pair.axes if is_kept_otherwise(pair, chosen.found.storage) else "",
        )
        for pair in (*parts.seen_in_training, *parts.test)
    }
    earlier = chosen.rehearsal
    if earlier is None:
        return cases
    return cases | {
        pair.case: TrainedCase(
            pair.participant,
            pair.hemi,
            "train",
            earlier.checked.content[pair.case],
            _names(pair.annotated),
            rehearsal=True,
            origin=pair.origin,
        )
        for pair in earlier.pairs
    }


def _names(annotated: frozenset[str] | None) -> tuple[str, ...] | None:
    return None if annotated is None else tuple(sorted(annotated))
