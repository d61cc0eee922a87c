"""Earlier pairs that are mixed into a training, so that a new scanner does not erase the old ones."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bidsapp.bids.people import shorten_list
from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.images.orientation import NETWORK_SPACE, Storage
from bidsapp.labels.tables import nnunet_values, read_label_table
from bidsapp.layout import ModelLayout, annotation_file, label_table_file, origins_file
from bidsapp.model_dir.nnunet_files import network_labels
from bidsapp.model_dir.state import ModelState, read_state
from bidsapp.pairs.annotated import read_annotated
from bidsapp.pairs.channels import default_channel_names
from bidsapp.pairs.check_pairs import CheckedPairs, choose_pairs, examine_pairs
from bidsapp.pairs.left_headers import true_headers
from bidsapp.pairs.names import read_names
from bidsapp.pairs.origins import judge_corrections, read_origins, with_origins
from bidsapp.pairs.pairs import FoundPairs, find_pairs, turn_pairs_of_model
from bidsapp.pairs.pairs_table import PairRow, read_pairs_tables
from bidsapp.printable import people_text, plural
from bidsapp.records import Hemi, LabelTable, LeftIs, Pair, Split, SplitName

logger = logging.getLogger(__name__)

PREFIX = "rehearsal-"
"""Of the ids of such pairs, so that they never collide with the model's own."""


@dataclass(frozen=True)
class EarlierPairs:
    """Pairs of an earlier training, with its names."""

    checked: CheckedPairs
    """What its pairs annotate is given with the names of this training."""
    values: Mapping[int, int] = field(default_factory=dict)
    """Value in their label maps -> value that the network learns; 0 for what is not learned any more."""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """In the order of their ids."""
        return self.checked.pairs

    @property
    def left_out(self) -> tuple[str, ...]:
        """Ids of the pairs that are not fit for use."""
        return self.checked.left_out

    def without(self, cases: Collection[str]) -> EarlierPairs:
        """The same without some pairs."""
        return replace(
            self,
            checked=replace(self.checked, pairs=tuple(pair for pair in self.pairs if pair.case not in cases)),
        )


def earlier_pairs(
    folder: Path,
    table: LabelTable,
    channels: tuple[str, ...],
    renames: Mapping[str, str | None],
    *,
    part: SplitName,
    storage: Storage = NETWORK_SPACE,
    people: Collection[str] = (),
    participant_pattern: str | None = None,
    left_is: LeftIs | None = None,
    least_changed: float = 0.0,
    rows: Mapping[str, PairRow] | None = None,
    skip_bad_pairs: bool = False,
) -> EarlierPairs:
    """Read the pairs of a MODEL_DIR (those of one `part`) or of a folder of pairs (all).

    They are checked, and compared with each other and the template, as this training's own pairs are.

    Parameters
    ----------
    table, channels
        What the network learns, and from which images.
    renames
        Name in the earlier training -> name in `table`, None for background.
    storage, people
        Of this training: what pairs are turned to, and who has a place.
    participant_pattern, left_is
        Of a folder of pairs, as `bidsapp.pairs.pairs.find_pairs` takes them.
    least_changed
        Of a folder of pairs: see `bidsapp.pairs.origins.judge_corrections`.
    rows
        What a person accepts, by case; what was accepted of the pairs of a MODEL_DIR there, stays so.
    skip_bad_pairs
        Leave out pairs that are not fit for use.

    Raises
    ------
    NoInputError
        When there is no such folder, or nothing in it.
    UsageError
        When the channels are others, or no label has a known name.
    BadDataError
        When a pair cannot be used.
    """
    if not folder.is_dir():
        raise NoInputError(f"{folder} does not exist", "Name a MODEL_DIR, or a folder of <id>_img and <id>_lbl.")
    layout = ModelLayout(folder)
    state = read_state(layout)
    if state is not None:
        found, own_table = _pairs_of_model(layout, state, part, storage, people), network_labels(layout)
        drawn = {case: frozenset(known.annotated) for case, known in state.cases.items() if known.annotated is not None}
    else:
        found = find_pairs(
            folder,
            participant_pattern=participant_pattern,
            left_is=left_is,
            known_people=people,
            storage=storage,
        )
        own_table, partly = _table_of_folder(folder, found), annotation_file(folder)
        cases = {*(pair.case for pair in found.pairs), *(finding.case for finding in found.findings)}
        drawn = read_annotated(partly, cases, own_table) if partly.exists() else {}
        stated = origins_file(folder)
        if stated.exists():
            with_origin = with_origins(found.pairs, read_origins(stated, cases))
            found = replace(found, pairs=judge_corrections(with_origin, least_changed))
    if not found.pairs:
        raise NoInputError(f"{folder} has no pairs{f' in {part}' if state else ''}", "Name another one.")
    _refuse_other_channels(folder, found, state, channels)
    learned = dict(zip(table.names.values(), nnunet_values(table).values(), strict=True))
    targets = {value: renames.get(name, name) for value, name in own_table.names.items()}
    values = {value: learned.get(name, 0) if name else 0 for value, name in targets.items()}
    if not any(values.values()):
        raise UsageError(
            f"no label of {folder} ({', '.join(own_table.names.values())}) is one of {', '.join(learned)}",
            "--label-map FILE says which is which.",
        )
    accepted = dict(rows or {}) | (_accepted_there(layout, state) if state is not None else {})
    seen = examine_pairs(found, table=own_table, annotated=drawn, guarded=True, rows=accepted)
    checked = choose_pairs(seen, skip_bad_pairs=skip_bad_pairs)
    annotated = {pair.case: _annotates(own_table, targets, pair.annotated, learned) for pair in checked.pairs}
    partly_drawn = {case: names for case, names in annotated.items() if names != frozenset(learned)}
    pairs = tuple(replace(pair, annotated=partly_drawn.get(pair.case)) for pair in checked.pairs)
    return EarlierPairs(replace(checked, pairs=pairs), values)


def choose_rehearsal(
    earlier: EarlierPairs, places: Split, known_images: Mapping[str, str], own: CheckedPairs
) -> EarlierPairs:
    """Leave out people who are held out here or by an ancestor, and images that are here already; prefix the ids.

    Parameters
    ----------
    places
        Of this training and of all models before it.
    known_images
        Digest of every image that this model and those before it were ever given -> its person.
    own
        This training's own pairs.

    Raises
    ------
    BadDataError
        When nothing is left, or two ids would be the same.
    """
    held_out = places.people_in("validation") | places.people_in("test")
    images = earlier.checked.images

    def is_away(pair: Pair) -> bool:
        people = {known_images[image] for image in images[pair.case] if image in known_images}
        return pair.participant in held_out or bool(people & held_out)

    here = {image for of_case in own.images.values() for image in of_case}
    away = [pair.case for pair in earlier.pairs if is_away(pair) or set(images[pair.case]) & here]
    if away:
        logger.info("not rehearsed, since held out or here already: %s", shorten_list(sorted(away)))
    kept = earlier.without(away)
    if not kept.pairs:
        raise BadDataError(
            "--rehearse: nothing is left to rehearse", "Everybody there is held out here, or here already."
        )
    renamed = {pair.case: PREFIX + re.sub(r"[^A-Za-z0-9_.-]", "-", pair.case) for pair in kept.pairs}
    if len(set(renamed.values())) < len(renamed) or set(renamed.values()) & set(own.content):
        raise BadDataError(f"--rehearse: ids collide once they begin with {PREFIX}", "Rename these pairs.")
    people = people_text(len({pair.participant for pair in kept.pairs}))
    logger.info("rehearsing %s of %s", plural(len(renamed), "pair"), people)
    checked = kept.checked
    return replace(
        kept,
        checked=CheckedPairs(
            pairs=tuple(replace(pair, case=renamed[pair.case]) for pair in kept.pairs),
            table=checked.table,
            content={new: f"{checked.content[old]} {sorted(earlier.values.items())}" for old, new in renamed.items()},
            images={new: checked.images[old] for old, new in renamed.items()},
            findings=tuple(replace(one, case=PREFIX + one.case) for one in checked.findings),
            values={new: checked.values[old] for old, new in renamed.items() if old in checked.values},
        ),
    )


def _annotates(
    own_table: LabelTable,
    targets: Mapping[int, str | None],
    drawn: frozenset[str] | None,
    learned: Collection[str],
) -> frozenset[str]:
    """Which labels of this training a case draws: of a merged one, every part must be drawn."""
    parts: dict[str, list[bool]] = {}
    for value, target in targets.items():
        if target in learned:
            parts.setdefault(str(target), []).append(drawn is None or own_table.names[value] in drawn)
    return frozenset(name for name, of_parts in parts.items() if all(of_parts))


def _accepted_there(layout: ModelLayout, state: ModelState) -> dict[str, PairRow]:
    """Rows of a model's own pairs.tsv that accept findings, without fingerprints: nnU-Net's copies have others."""
    return {
        case: replace(row, content="")
        for case, row in read_pairs_tables(layout.pairs_table).items()
        if case in state.cases and row.accepts(state.cases[case].content)
    }


def _refuse_other_channels(
    folder: Path, found: FoundPairs, state: ModelState | None, channels: tuple[str, ...]
) -> None:
    counts = {len(pair.images) for pair in found.pairs}
    named = state.channels if state else ()
    unnamed = default_channel_names(len(channels))
    if counts != {len(channels)} or (named and unnamed not in (named, channels) and named != channels):
        theirs = ", ".join(named) or " or ".join(f"{count} channels" for count in sorted(counts))
        raise UsageError(
            f"{folder} has pairs of {theirs}, this training is of {', '.join(channels)}",
            "Earlier pairs need the same channels in the same order.",
        )


def _table_of_folder(folder: Path, found: FoundPairs) -> LabelTable:
    path = label_table_file(folder)
    return found.table if found.table is not None and not path.exists() else read_label_table(path)


def _pairs_of_model(
    layout: ModelLayout, state: ModelState, part: SplitName, storage: Storage, people: Collection[str]
) -> FoundPairs:
    """The pairs of the last training of a model, as nnU-Net has them; what it rehearsed itself is not passed on.

    A person whom this training knows by another name than that model did is called as here.
    """
    names = read_names(state.cases)
    folder = "Ts" if part == "test" else "Tr"
    pairs = []
    for case, known in sorted(state.cases.items()):
        if known.split == part and not known.rehearsal:
            label = layout.raw_labels(folder) / f"{case}.nii.gz"
            images = layout.raw_case(folder, case, len(state.channels))
            by_sense = names[case].participant
            participant = by_sense if by_sense in people else known.participant
            pairs.append(Pair(case, participant, known.hemi, images, label, origin=known.origin))
    turned = turn_pairs_of_model(pairs, storage, true_headers)
    without_side: dict[Hemi, str] = {pair.hemi: pair.axes for pair in turned if pair.hemi == "n/a"}
    return FoundPairs(tuple(turned), (), {**storage, **without_side})
