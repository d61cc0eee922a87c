"""Earlier pairs that are mixed into a training, so that a new scanner does not erase the old ones."""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bidsapp.bids.people import shorten_list
from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.files import read_json
from bidsapp.labels.tables import nnunet_values, read_label_table
from bidsapp.layout import ModelLayout, label_table_file
from bidsapp.records import LabelTable, LeftIs, Pair, Split, SplitName
from bidsapp.training.check_pairs import CheckedPairs, check_pairs
from bidsapp.training.pairs import FoundPairs, find_pairs
from bidsapp.training.state import read_state

logger = logging.getLogger(__name__)

PREFIX = "rehearsal-"
"""Of the ids of such pairs, so that they never collide with the model's own."""


@dataclass(frozen=True)
class EarlierPairs:
    """Pairs of an earlier training, with its names.

    Attributes
    ----------
    values
        Value in their label maps -> value that the network learns; 0 for what is not learned any more.
    annotated
        Names of this training that they annotate; None: all.
    """

    checked: CheckedPairs
    values: Mapping[int, int] = field(default_factory=dict)
    annotated: frozenset[str] | None = None

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """In the order of their ids."""
        return self.checked.pairs


def earlier_pairs(
    folder: Path,
    table: LabelTable,
    channels: int,
    renames: Mapping[str, str | None],
    *,
    part: SplitName,
    participant_pattern: str | None = None,
    left_is: LeftIs | None = None,
) -> EarlierPairs:
    """Read the pairs of a MODEL_DIR (those of one `part`) or of a folder of pairs (all).

    Parameters
    ----------
    table
        What the network learns.
    channels
        How many images a pair must have.
    renames
        Name in the earlier training -> name in `table`, None for background.
    participant_pattern, left_is
        Of a folder of pairs, as `bidsapp.training.pairs.find_pairs` takes them.

    Raises
    ------
    NoInputError
        When there is no such folder, or nothing in it.
    UsageError
        When the number of channels differs, or no label has a known name.
    BadDataError
        When a pair cannot be used.
    """
    if not folder.is_dir():
        raise NoInputError(f"{folder} does not exist", "Name a MODEL_DIR, or a folder of <id>_img and <id>_lbl.")
    layout = ModelLayout(folder)
    is_model = layout.state.is_file()
    found = (
        _pairs_of_model(layout, part)
        if is_model
        else find_pairs(folder, participant_pattern=participant_pattern, left_is=left_is)
    )
    if not found.pairs:
        raise NoInputError(f"{folder} has no pairs{f' in {part}' if is_model else ''}", "Name another one.")
    if any(len(pair.images) != channels for pair in found.pairs):
        raise UsageError(
            f"{folder} has pairs of {len(found.pairs[0].images)} channels, this training {channels}",
            "Earlier pairs need the same channels in the same order.",
        )
    own_table = _table_of_model(layout) if is_model else read_label_table(label_table_file(folder))
    checked = check_pairs(found, table=own_table)
    learned = dict(zip(table.names.values(), nnunet_values(table).values(), strict=True))
    targets = {value: renames.get(name, name) for value, name in own_table.names.items()}
    values = {value: learned.get(name, 0) if name else 0 for value, name in targets.items()}
    drawn = frozenset(name for name in targets.values() if name in learned)
    if not drawn:
        raise UsageError(
            f"no label of {folder} ({', '.join(own_table.names.values())}) is one of {', '.join(learned)}",
            "--label-map FILE says which is which.",
        )
    return EarlierPairs(checked, values, None if drawn == frozenset(learned) else drawn)


def choose_rehearsal(earlier: EarlierPairs, split: Split, known_images: Collection[str]) -> EarlierPairs:
    """Leave out whoever is in validation or test of this training, and images that it has; ids get a prefix.

    Raises
    ------
    BadDataError
        When nothing is left.
    """
    held_out = split.people_in("validation") | split.people_in("test")
    checked = earlier.checked
    away = [pair for pair in checked.pairs
            if pair.participant in held_out or set(checked.images[pair.case]) & set(known_images)]  # fmt: skip
    if away:
        logger.info(
            "not rehearsed, since held out or here already: %s", shorten_list(sorted(pair.case for pair in away))
        )
    kept = [pair for pair in checked.pairs if pair not in away]
    if not kept:
        raise BadDataError(
            "--rehearse: nothing is left to rehearse", "Everybody there is held out here, or here already."
        )
    renamed = {pair.case: PREFIX + re.sub(r"[^A-Za-z0-9_.-]", "-", pair.case) for pair in kept}
    return replace(
        earlier,
        checked=CheckedPairs(
            pairs=tuple(replace(pair, case=renamed[pair.case]) for pair in kept),
            table=checked.table,
            content={renamed[case]: f"{checked.content[case]} {sorted(earlier.values.items())}" for case in renamed},
            images={renamed[case]: checked.images[case] for case in renamed},
            findings=(),
            annotated={} if earlier.annotated is None else dict.fromkeys(renamed.values(), earlier.annotated),
        ),
    )


def _pairs_of_model(layout: ModelLayout, part: SplitName) -> FoundPairs:
    """The pairs of the last training of a model, as nnU-Net has them; what it rehearsed itself is not passed on."""
    state = read_state(layout)
    folder = "Ts" if part == "test" else "Tr"
    pairs = []
    for case, known in sorted(state.cases.items()) if state else ():
        if known.split == part and not known.rehearsal:
            images = sorted(layout.raw_images(folder).glob(f"{glob.escape(case)}_[0-9][0-9][0-9][0-9].nii.gz"))
            label = layout.raw_labels(folder) / f"{case}.nii.gz"
            pairs.append(Pair(case, known.participant, known.hemi, tuple(images), label))
    return FoundPairs(tuple(pairs), ())


def _table_of_model(layout: ModelLayout) -> LabelTable:
    labels = read_json(layout.raw_dataset / "dataset.json")["labels"]
    return LabelTable({value: name for name, value in sorted(labels.items(), key=lambda item: item[1]) if value})
