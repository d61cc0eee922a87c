"""Place people into train, validation and test: by person, once, and for good."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from bidsapp.errors import BadDataError, UsageError
from bidsapp.printable import is_control
from bidsapp.records import Pair, Split, SplitName, SplitRow
from bidsapp.tsv import TsvRow, read_tsv, write_tsv

logger = logging.getLogger(__name__)

SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)
FEWEST_PEOPLE = 3
"""One each for training, validation and test."""

_COLUMNS = ("participant_id", "split", "generation")
_TIES_GO_TO: tuple[SplitName, ...] = ("test", "validation", "train")


def place_people(
    split: Split,
    people: Collection[str],
    *,
    seed: int,
    judges: Collection[str] | None = None,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    generation: int = 1,
) -> Split:
    """Add a row for everybody in `people` who has none; rows that exist are kept as they are.

    Newcomers are ordered by the SHA-256 of ``f"{seed}:{participant}"``. One after another they go to the part
    that has nobody, and then to the one with the largest deficit: its fraction of the people present so far,
    the newcomer included, minus those present in it. Only `people` count, not rows of those who left, so that
    what is trained and tested now keeps the fractions. Ties go to test, then to validation.

    Where some of `people` are `judges` (a person corrected or drew a label of theirs, so that models can be scored on
    it) and others are not, the judges among the newcomers come first, and go by the places of the judges alone: to
    test or validation where no judge is, then to training where none is, and then to the largest deficit of judges.
    No part stays empty for that.

    Parameters
    ----------
    judges
        None: everybody is.

    Raises
    ------
    UsageError
        When a fraction is negative or nothing is left for training.
    BadDataError
        When there are fewer than 3 people, or a part has nobody.
    """
    fractions = _complete_fractions(validation_fraction, test_fraction)
    present = set(people)
    if len(present) < FEWEST_PEOPLE:
        parts = ", ".join(SPLIT_NAMES)
        raise BadDataError(
            f"A split into {parts} needs {FEWEST_PEOPLE} people, not {len(present)}: {sorted(present)}",
            "Add pairs of other people. A person is the sub-<label> in the id, or see --participant-pattern.",
        )
    counts = Counter(row.split for row in split.rows if row.participant_id in present)
    rows = list(split.rows)
    spread = present if judges is None else present & set(judges)
    spread = spread if spread < present else set()
    of_judges = Counter(row.split for row in split.rows if row.participant_id in spread)
    newcomers = sorted(present - split.people, key=lambda person: (person not in spread, _digest(seed, person)))
    for number, person in enumerate(newcomers):
        if person in spread:
            name = _part_of_judge(counts, of_judges, fractions, waiting=len(newcomers) - number)
        else:
            name = _neediest(counts, fractions)
        counts[name] += 1
        of_judges[name] += person in spread
        rows.append(SplitRow(person, name, generation))
    for name in SPLIT_NAMES:
        if not counts[name]:
            numbers = ", ".join(f"{counts[other]} in {other}" for other in SPLIT_NAMES)
            raise BadDataError(
                f"Nobody who has pairs is in {name}: of {len(present)} people, {numbers}",
                "Add people; before the first training split.tsv may also be edited.",
            )
    return Split(tuple(rows))


def check_locked(locked: Split, current: Split) -> None:
    """Refuse a split in which somebody moved or vanished since the training that `locked` describes.

    A test person who was trained on makes every score a lie; a train person whose row is gone could be placed
    anew, in test. New rows are welcome, wherever a person puts them.

    Raises
    ------
    BadDataError
        Naming everybody concerned.
    """
    now = {row.participant_id: row.split for row in current.rows}
    changes = [
        f"{row.participant_id}: {row.split} -> {now.get(row.participant_id, 'no row')}"
        for row in locked.rows
        if now.get(row.participant_id) != row.split
    ]
    if changes:
        raise BadDataError(
            f"split.tsv is locked since the first training, and people were moved: {'; '.join(changes)}",
            "Put the rows back, or train a new model in another --model-dir.",
        )


def decide_split(
    path: Path,
    people: Collection[str],
    *,
    seed: int,
    judges: Collection[str] | None = None,
    locked: Split | None = None,
    known: Split | None = None,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
) -> Split:
    """Read ``split.tsv`` if there is one, hold it against the lock, and place everybody who is new.

    Nothing is written: the caller does that with `write_split`.

    Parameters
    ----------
    path
        ``split.tsv``, perhaps written by hand.
    people
        Everybody who has pairs now.
    seed
        Orders the newcomers.
    judges
        As in `place_people`.
    locked
        The split as it was last trained with; None before the first training.
    known
        Places that people have elsewhere: whoever is new here and known there gets the same one.
    validation_fraction, test_fraction
        Of the people who are present.

    Raises
    ------
    BadDataError
        As `read_split`, `check_locked` and `place_people` do, and when a row spells a person otherwise than
        the pairs do.
    UsageError
        When the fractions leave nothing for training.
    """
    current = read_split(path) if path.exists() else locked or Split()
    if locked is not None:
        check_locked(locked, current)
    _check_people(path, current, set(people))
    generation = 1 if locked is None else next_generation(locked)
    return place_people(
        add_known(current, known or Split(), people, generation=generation),
        people,
        seed=seed,
        judges=judges,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        generation=generation,
    )


def add_known(split: Split, known: Split, people: Collection[str], *, generation: int) -> Split:
    """Add those of `people` who have no row yet and have a place in `known`, in the order of `known`."""
    new = [row for row in known.rows if row.participant_id in people and row.participant_id not in split.people]
    return Split((*split.rows, *(replace(row, generation=generation) for row in new)))


def add_places(split: Split, further: Split) -> Split:
    """`split`, and of `further` those whom it does not know."""
    return Split((*split.rows, *(row for row in further.rows if row.participant_id not in split.people)))


def next_generation(split: Split) -> int:
    """The number of the people who come next; 1 for the first."""
    return 1 + max((row.generation for row in split.rows), default=0)


def pairs_in(split: Split, name: SplitName, pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """Choose the pairs of everybody in one part, in their order."""
    people = split.people_in(name)
    return tuple(pair for pair in pairs if pair.participant in people)


def read_split(path: Path) -> Split:
    """Read ``split.tsv``: participant_id, split and, if there is one, generation (else 1).

    Raises
    ------
    NoInputError
        When there is no such file.
    BadDataError
        With file, line and value: a missing column, no participant, a participant that stands twice, a split
        that is not train, validation or test, or a generation that is not 1 or more.
    """
    rows: dict[str, SplitRow] = {}
    for line in read_tsv(path, _COLUMNS[:2]):
        row = _parse_row(path, line)
        if row.participant_id in rows:
            raise BadDataError(f"{path}, line {line.line}: {row.participant_id!r} stands twice")
        rows[row.participant_id] = row
    return Split(tuple(rows.values()))


def write_split(path: Path, split: Split) -> None:
    """Write ``split.tsv`` atomically; raises `CannotWriteError`."""
    write_tsv(path, _COLUMNS, ((row.participant_id, row.split, row.generation) for row in split.rows))


def split_to_json(split: Split) -> list[dict[str, Any]]:
    """Rows as JSON knows them, to be kept where no one edits them."""
    return [
        {"participant_id": row.participant_id, "split": row.split, "generation": row.generation} for row in split.rows
    ]


def _complete_fractions(validation_fraction: float, test_fraction: float) -> dict[SplitName, float]:
    train_fraction = 1 - validation_fraction - test_fraction
    if validation_fraction < 0 or test_fraction < 0 or train_fraction <= 0:
        raise UsageError(
            f"validation {validation_fraction} and test {test_fraction} leave nothing for training",
            "Both are 0 or more, and their sum is below 1.",
        )
    return {"train": train_fraction, "validation": validation_fraction, "test": test_fraction}


def _digest(seed: int, participant: str) -> str:
    return hashlib.sha256(f"{seed}:{participant}".encode()).hexdigest()


def _neediest(counts: Mapping[SplitName, int], fractions: Mapping[SplitName, float]) -> SplitName:
    total = sum(counts.values()) + 1
    empty = [name for name in _TIES_GO_TO if not counts[name]]
    deficits = {name: round(fractions[name] * total - counts[name], 9) for name in empty or _TIES_GO_TO}
    return max(deficits, key=lambda name: deficits[name])


def _part_of_judge(
    counts: Mapping[SplitName, int],
    of_judges: Mapping[SplitName, int],
    fractions: Mapping[SplitName, float],
    *,
    waiting: int,
) -> SplitName:
    """Where no judge is, held-out parts first, else what the judges lack; `waiting` people are to fill empty parts."""
    empty = [name for name in _TIES_GO_TO if not counts[name]]
    open_parts = _TIES_GO_TO if waiting > len(empty) else empty
    without = [name for name in open_parts if not of_judges[name]]
    return without[0] if without else _neediest(of_judges, fractions)


def _parse_row(path: Path, line: TsvRow) -> SplitRow:
    participant, name = line.cells["participant_id"], line.cells["split"]
    generation = line.cells.get("generation", "")
    if not participant:
        raise BadDataError(f"{path}, line {line.line}: no participant_id")
    if any(map(is_control, participant)):  # a table cannot hold it: it would be somebody else when read again
        raise BadDataError(
            f"{path}, line {line.line}: {ascii(participant)[:80]} holds control characters",
            "Spell people as their pairs do.",
        )
    if name not in SPLIT_NAMES:
        raise BadDataError(
            f"{path}, line {line.line}: split is {name!r} for {participant}",
            f"Write one of {', '.join(SPLIT_NAMES)}.",
        )
    if generation in ("", "n/a"):
        generation = "1"
    if not re.fullmatch(r"0{0,9}[1-9][0-9]{0,5}", generation):  # a number of any length would take its time
        shown = generation if len(generation) <= 20 else f"{generation[:20]}..."
        raise BadDataError(
            f"{path}, line {line.line}: generation {shown!r} is not a whole number from 1 to 999999",
            "Write 1 for the first people.",
        )
    return SplitRow(participant, name, int(generation))


def _check_people(path: Path, split: Split, people: set[str]) -> None:
    absent = [row.participant_id for row in split.rows if row.participant_id not in people]
    for participant in absent:
        for spelled in (f"sub-{participant}", participant.removeprefix("sub-")):
            if spelled in people:
                raise BadDataError(
                    f"{path} names {participant!r}, and the pairs call this person {spelled!r}",
                    "Spell people alike; --participant-pattern must stay what it was.",
                )
    if absent:
        logger.warning("Without pairs now, rows kept in %s: %s", path.name, ", ".join(absent))
