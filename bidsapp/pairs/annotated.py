"""annotated.tsv: which labels a training pair annotates, where it is not all of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from bidsapp.errors import BadDataError
from bidsapp.pairs.pairs_table import network_case
from bidsapp.records import LabelTable
from bidsapp.tsv import read_tsv, write_tsv

Annotated = Mapping[str, frozenset[str]]
"""Case -> names of the labels that were drawn in it; cases that are not listed annotate all."""

_COLUMNS = ("id", "labels")


def read_annotated(path: Path, cases: Collection[str], table: LabelTable | None) -> dict[str, frozenset[str]]:
    """Read a table with the columns id and labels (names separated by commas or blanks).

    Parameters
    ----------
    cases
        Ids that there are.
    table
        Names that there are.

    Returns
    -------
    dict
        Without the cases that annotate every label.

    Raises
    ------
    BadDataError
        With file, line and value: an id without a pair or that stands twice, a name that `table` lacks, no name, or
        no table at all.
    """
    if table is None:
        raise BadDataError(f"{path} names labels, and no labels.tsv beside it says what they are", "Write one.")
    names = frozenset(table.names.values())
    found: dict[str, frozenset[str]] = {}
    for row in read_tsv(path, _COLUMNS):
        where, case = f"{path}, line {row.line}", network_case(row.cells["id"])
        listed = frozenset(name for name in re.split(r"[,\s]+", row.cells["labels"]) if name)
        if case not in cases:
            raise BadDataError(f"{where}: there is no pair {case!r}", "An id is the file name before _img and _lbl.")
        if case in found:
            raise BadDataError(f"{where}: {case} stands twice")
        if not listed or not listed <= names:
            wrong = ", ".join(sorted(listed - names)) or "nothing"
            raise BadDataError(f"{where}: {wrong} is no label of this training", f"Labels: {', '.join(sorted(names))}.")
        found[case] = listed
    return {case: listed for case, listed in found.items() if listed != names}


def write_annotated(path: Path, annotated: Annotated) -> None:
    """Write what `read_annotated` reads, or remove the file where every case annotates all."""
    if annotated:
        write_tsv(path, _COLUMNS, ((case, ",".join(sorted(names))) for case, names in sorted(annotated.items())))
    else:
        path.unlink(missing_ok=True)


def table_of_case(table: LabelTable, annotated: frozenset[str] | None) -> LabelTable:
    """The part of `table` that a case annotates; None: all of it."""
    if annotated is None:
        return table
    return LabelTable(
        {value: name for value, name in table.names.items() if name in annotated}, table.required & annotated
    )
