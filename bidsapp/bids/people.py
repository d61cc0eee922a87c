"""Labels of people and sessions: read as users write them, and checked against what exists."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bidsapp.errors import NoInputError, NothingMatchesError, UsageError

LABEL = "[A-Za-z0-9+]+"
"""What may stand behind ``sub-`` and ``ses-``, as a regular expression."""

_MOST_LISTED = 20


@dataclass(frozen=True)
class Folders:
    """The folders of people in one data set."""

    labels: frozenset[str]
    """Without ``sub-``."""
    misnamed: tuple[str, ...] = ()
    """Folders that begin with ``sub-`` and hold other characters than letters and digits behind it."""


def clean_labels(arguments: Sequence[str], prefix: str) -> tuple[str, ...]:
    """Take the prefix (``sub-`` or ``ses-``) from labels and split them at commas and blanks, without repeats.

    Raises `UsageError` when labels were given and nothing remains, so that "nobody" never means "everybody".
    """
    parts = [part for argument in arguments for part in re.split(r"[,\s]+", str(argument))]
    labels = [part.removeprefix(prefix) for part in parts]
    if arguments and not any(labels):
        raise UsageError(f"an empty label was given: {' '.join(map(repr, arguments))}", f"Give one like {prefix}01.")
    return tuple(dict.fromkeys(label for label in labels if label))


def list_folders(root: Path, prefix: str) -> Folders:
    """List the folders (or links to folders) directly in `root` that begin with `prefix`.

    Raises `NoInputError` when `root` cannot be listed.
    """
    try:
        names = [entry.name for entry in root.iterdir() if entry.name.startswith(prefix) and entry.is_dir()]
    except OSError as error:
        raise NoInputError(f"{root} cannot be read: {error.strerror}") from error
    labels = {name.removeprefix(prefix) for name in names}
    good = frozenset(label for label in labels if re.fullmatch(LABEL, label))
    return Folders(good, tuple(sorted(prefix + label for label in labels - good)))


def check_labels(asked: Iterable[str], existing: Collection[str], *, prefix: str, roots: Sequence[Path]) -> None:
    """Raise `NothingMatchesError` that names the labels which do not exist and lists those which do."""
    unknown = [prefix + label for label in asked if label not in existing]
    if unknown:
        where = ", ".join(map(str, roots))
        there = shorten_list(prefix + label for label in existing)
        raise NothingMatchesError(f"there is no {' and no '.join(unknown)} in {where}", f"There is: {there}.")


def choose_labels(
    existing: Collection[str], wanted: Sequence[str], exclude: Sequence[str], *, root: Path
) -> tuple[str, ...]:
    """Take the people that are asked for out of those that exist, in order; nobody asked for means everybody.

    Raises `NothingMatchesError` when a label does not exist or nobody is left.
    """
    asked, without = clean_labels(wanted, "sub-"), clean_labels(exclude, "sub-")
    check_labels([*asked, *without], existing, prefix="sub-", roots=[root])
    chosen = tuple(label for label in sorted(existing) if label in (asked or existing) and label not in without)
    if not chosen:
        raise NothingMatchesError(f"everybody in {root} is excluded", "Exclude fewer people.")
    return chosen


def shorten_list(names: Iterable[str]) -> str:
    """Write the first 20 names in order and say how many more there are; ``none`` for an empty list."""
    ordered = sorted(names)
    more = len(ordered) - _MOST_LISTED
    listed = ", ".join(ordered[:_MOST_LISTED]) or "none"
    return f"{listed} ... and {more} more" if more > 0 else listed
