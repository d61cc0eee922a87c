"""Bring label maps of different protocols together by the names of their labels, never by their integers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bidsapp.arrays import IntArray
from bidsapp.bids.people import shorten_list
from bidsapp.errors import BadDataError
from bidsapp.labels.tables import is_label_name, parse_label_name
from bidsapp.records import Approval, LabelTable
from bidsapp.tsv import TsvRow, read_tsv

BACKGROUND = None
"""What a name becomes that is not to be learned."""

_BACKGROUND_WORDS = {"", "n/a", "background"}
_MAP_HINT = (
    "Say what they become with --label-map FILE: a table with the columns from_name and to_name; "
    "to_name n/a makes a label background."
)


LabelMap = Mapping[str, str | None]
"""A protocol's name of a label -> the name to learn, or `BACKGROUND`; names that it does not list stay."""


def read_label_map(path: Path) -> LabelMap:
    """Read a table with the columns from_name and to_name; other columns are ignored.

    An empty to_name, ``n/a`` and ``background`` all mean background. Several names may become one.

    Raises
    ------
    NoInputError
        When there is no such file.
    BadDataError
        With file, line and value: a missing column, an empty from_name or one that stands twice, a to_name that no
        label can have, or no row at all.
    """
    names: dict[str, str | None] = {}
    for row in read_tsv(path, ("from_name", "to_name")):
        name = row.cells["from_name"]
        if not name:
            raise BadDataError(f"{path}, line {row.line}: no from_name")
        if name in names:
            raise BadDataError(f"{path}, line {row.line}: from_name {name!r} stands twice")
        names[name] = _parse_target(path, row)
    if not names:
        raise BadDataError(f"{path} maps no label", "Add one line per label: from_name, tab, to_name.")
    return names


def common_table(approvals: Sequence[Approval], label_map: LabelMap, *, standing: LabelTable | None) -> LabelTable:
    """Choose the table that all label maps are brought to.

    Parameters
    ----------
    approvals
        At least one; without `standing` the first one's names and integers count.
    standing
        The table of the data set or of the model that is trained on.

    Raises
    ------
    BadDataError
        When a label map has names that are not in that table, naming them and whose they are.
    """
    table = standing or _table_of(approvals[0], label_map)
    known = set(table.names.values())
    whose: dict[str, list[str]] = {}
    for approval in approvals:
        for name in sorted(_targets(approval.labels, label_map) - known):
            whose.setdefault(name, []).append(approval.name)
    if whose:
        listed = "; ".join(f"{name} ({shorten_list(sides)})" for name, sides in sorted(whose.items()))
        where = "the label table" if standing else f"the label table of {approvals[0].name}, the first approval"
        raise BadDataError(
            f"labels that {where} does not name: {listed}. It names: {', '.join(sorted(known))}",
            f"{_MAP_HINT} Or name all labels in OUTPUT_DIR/labels/labels.tsv (columns index, name).",
        )
    return table


def value_map(labels: Mapping[int, str], table: LabelTable, label_map: LabelMap) -> dict[int, int]:
    """Value in a label map -> value in `table`, 0 for what becomes background.

    Parameters
    ----------
    labels
        value -> name of the label map, all in `table` by name (see `common_table`).
    """
    values = {name: value for value, name in table.names.items()}
    targets = {value: label_map.get(name, name) for value, name in labels.items() if value != 0}
    return {value: 0 if target is BACKGROUND else values[target] for value, target in sorted(targets.items())}


def unused_names(label_map: LabelMap, approvals: Iterable[Approval]) -> tuple[str, ...]:
    """From-names that no approval has: perhaps misspelled."""
    met = {name for approval in approvals for name in approval.labels.values()}
    return tuple(sorted(name for name in label_map if name not in met))


def renumber(label: IntArray, values: Mapping[int, int], *, file: Path) -> IntArray:
    """Replace the values of a label map, all at once.

    Parameters
    ----------
    label
        Whole numbers of at least 0, any shape.
    values
        Value -> new value; 0 stays 0.
    file
        Where the label map comes from, to be named in errors.

    Returns
    -------
    Unsigned bytes, or 16 bit integers where a new value is above 255.

    Raises
    ------
    BadDataError
        When the label map holds a value that `values` does not have.
    """
    present = [int(value) for value in np.unique(label) if value]
    unnamed = [str(value) for value in present if value not in values]
    if unnamed:
        raise BadDataError(f"{file} holds values without a name: {', '.join(unnamed)}", "Approve it again.")
    lookup = np.zeros(max(present, default=0) + 1, dtype=np.int64)
    for value in present:
        lookup[value] = values[value]
    largest = max(values.values(), default=0)
    return lookup[label].astype(np.uint8 if largest <= np.iinfo(np.uint8).max else np.int16)


def _parse_target(path: Path, row: TsvRow) -> str | None:
    if row.cells["to_name"].lower() in _BACKGROUND_WORDS:
        return BACKGROUND
    return parse_label_name(path, row, "to_name")


def _targets(labels: Mapping[int, str], label_map: LabelMap) -> set[str]:
    targets = {label_map.get(name, name) for value, name in labels.items() if value != 0}
    return {target for target in targets if target is not BACKGROUND}


def _table_of(approval: Approval, label_map: LabelMap) -> LabelTable:
    """Names and integers of one approval; names that become one keep the smallest integer."""
    names: dict[str, int] = {}
    for value, name in sorted(approval.labels.items()):
        target = label_map.get(name, name)
        if value != 0 and target is not BACKGROUND:
            names.setdefault(target, value)
    unfit = sorted(name for name in names if not is_label_name(name))
    if unfit:
        raise BadDataError(
            f"no names for labels, in {approval.name}: {', '.join(map(repr, unfit))}",
            f"Names are letters, digits, '-' and '_'. {_MAP_HINT}",
        )
    if not names:
        raise BadDataError(f"{approval.name} has no label but background", _MAP_HINT)
    return LabelTable({value: name for name, value in names.items()})
