"""pairs.tsv: what a person says of training pairs, beside what was found in them. Their cells are never touched.

It lies in MODEL_DIR, or in OUTPUT_DIR after ``review --training-dir``: a folder of pairs is read and never written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast, get_args

from bidsapp.errors import BadDataError, CannotWriteError
from bidsapp.files import read_bytes
from bidsapp.printable import is_control
from bidsapp.records import SIDE_WORDS, Hemi, LeftIs
from bidsapp.review.spreadsheet import SheetLine, column_name, read_spreadsheet
from bidsapp.tsv import write_tsv

PEOPLES_COLUMNS = ("id", "participant", "hemi", "left", "accept")
"""What a person fills in; ``n/a`` and nothing say that the program decides."""

CONTENT = "content"
"""Begins the fingerprint of the pair that `accept` was written for, or that was met last."""

NOT_AVAILABLE = "n/a"
_CONTENT_DIGITS = 12
_HINT = f"The first line names the columns, separated by tabs: {', '.join(PEOPLES_COLUMNS)}."


@dataclass(frozen=True)
class PairRow:
    """What is written of one pair."""

    case: str
    """The pair, by the id that nnU-Net uses: ``hemi-L`` in the table is ``hemi-Lflip`` here."""
    participant: str = ""
    """Whose it is; ``""`` when the table does not say."""
    hemi: Hemi | None = None
    left: LeftIs | None = None
    """The side, and whether a left one is flipped already; None when the table does not say."""
    accept: frozenset[str] = frozenset()
    """Checks that the person overrules, in lower case."""
    content: str = ""
    """See `CONTENT`."""
    cells: Mapping[str, str] = field(default_factory=dict)
    """All cells, by column, as they stand."""

    def accepts(self, content: str) -> frozenset[str]:
        """What is overruled for a pair with this fingerprint: nothing once it is another than the person saw."""
        return self.accept if not self.content or content.startswith(self.content) else frozenset()


def network_case(case: str) -> str:
    """The id in network space: ``hemi-L`` becomes ``hemi-Lflip``, everything else stays."""
    return re.sub(r"(?<![A-Za-z0-9])hemi-L(?![A-Za-z0-9])", "hemi-Lflip", case)


def read_pairs_tables(*paths: Path) -> dict[str, PairRow]:
    """Read tables by case; a cell of an earlier table wins over those of later ones, tables may be missing.

    Raises
    ------
    NoInputError
        When a table may not be read.
    BadDataError
        With file, line and value: no text, no column `id`, a column or an id that stands twice, a row without an id,
        a side or a word for left sides that is none.
    """
    rows: dict[str, PairRow] = {}
    for path in paths:
        for case, row in _read(path)[2].items():
            first = rows.get(case, PairRow(case))
            rows[case] = replace(
                first,
                participant=first.participant or row.participant,
                hemi=first.hemi or row.hemi,
                left=first.left or row.left,
                accept=first.accept or row.accept,
                content=first.content if first.accept else row.content or first.content,
                cells={**row.cells, **first.cells},
            )
    return rows


def update_pairs_table(path: Path, found: Mapping[str, Mapping[str, str]]) -> None:
    """Write what was found into the table, in the order of `found`; rows of other pairs follow.

    Cells and columns of a person stay as they are, and `content` stays what an `accept` was written for.

    Parameters
    ----------
    found
        Case -> column -> text, of columns that are not a person's.

    Raises
    ------
    BadDataError
        As `read_pairs_tables` does.
    CannotWriteError
        When somebody saved the table at the same moment, or it cannot be written.
    """
    before, columns, rows = _read(path)
    ours = dict.fromkeys(column for cells in found.values() for column in cells)
    columns = tuple(dict.fromkeys([*PEOPLES_COLUMNS, *columns, *ours]))
    lines = [_line(columns, rows.get(case, PairRow(case)), cells) for case, cells in found.items()]
    lines += [_line(columns, row, {}) for case, row in rows.items() if case not in found]
    if (read_bytes(path) if path.exists() else None) != before:
        raise CannotWriteError(f"{path} was changed while it was being read", "Save it, close it, and run again.")
    write_tsv(path, columns, lines)


def _line(columns: Sequence[str], row: PairRow, found: Mapping[str, str]) -> list[str]:
    cells = dict(row.cells) | {column: text for column, text in found.items() if column not in PEOPLES_COLUMNS}
    if CONTENT in found:
        cells[CONTENT] = row.content if row.accept and row.content else found[CONTENT][:_CONTENT_DIGITS]
    cells["id"] = row.cells.get("id", row.case)
    return [re.sub(r"\s+", " ", cells.get(column, "")).strip() or NOT_AVAILABLE for column in columns]


def _read(path: Path) -> tuple[bytes | None, tuple[str, ...], dict[str, PairRow]]:
    """The bytes of a table, its columns, and its rows by case."""
    if not path.exists():
        return None, (), {}
    content = read_bytes(path)
    lines = read_spreadsheet(path, content, PEOPLES_COLUMNS[:1]).lines
    if not lines:
        return content, (), {}
    columns = _columns(path, lines[0])
    rows: dict[str, PairRow] = {}
    for line in lines[1:]:
        row = _row(path, columns, line)
        if row.case in rows:
            raise BadDataError(f"{path}, line {line.number}: {row.case} stands twice", "Keep one row per pair.")
        rows[row.case] = row
    return content, columns, rows


def _columns(path: Path, line: SheetLine) -> tuple[str, ...]:
    known = (*PEOPLES_COLUMNS, CONTENT)
    columns = [column_name(cell) if column_name(cell) in known else cell for cell in line.cells]
    while columns and not columns[-1]:
        columns.pop()
    if "id" not in columns:
        raise BadDataError(f"{path}, line {line.number}: no column 'id' in {columns}", _HINT)
    double = next((column for column in columns if columns.count(column) > 1), None)
    if double is not None:
        raise BadDataError(f"{path}, line {line.number}: column {double!r} stands twice", _HINT)
    return tuple(columns)


def _row(path: Path, columns: Sequence[str], line: SheetLine) -> PairRow:
    where = f"{path}, line {line.number}"
    surplus = [cell for cell in line.cells[len(columns) :] if cell]
    if surplus:
        raise BadDataError(f"{where}: {surplus[0]!r} has no column", "Remove the extra separator.")
    cells = dict(zip(columns, line.cells, strict=False))
    said = {column: "" if cell.lower() == NOT_AVAILABLE else cell for column, cell in cells.items()}
    if not said["id"]:
        raise BadDataError(f"{where}: no id", "An id is the file name before _img and _lbl.")
    if any(map(is_control, said["id"])):  # a table cannot hold it: it would be another pair when read again
        raise BadDataError(f"{where}: the id {ascii(said['id'])[:80]} holds control characters", "Remove them.")
    return PairRow(
        network_case(said["id"]),
        participant=said.get("participant", ""),
        hemi=_side(where, said.get("hemi", "")),
        left=_left(where, said.get("left", "")),
        accept=frozenset(re.findall(r"[^\s,;]+", said.get("accept", "").lower())),
        content=said.get(CONTENT, ""),
        cells=cells,
    )


def _side(where: str, cell: str) -> Hemi | None:
    if not cell:
        return None
    if cell.lower() not in SIDE_WORDS:
        raise BadDataError(f"{where}: hemi is {cell!r}", "Write L or R, or n/a where the program decides.")
    return SIDE_WORDS[cell.lower()]


def _left(where: str, cell: str) -> LeftIs | None:
    words = get_args(LeftIs)
    word = re.sub(r"[\s_-]+", "-", cell.lower())
    if word and word not in words:
        raise BadDataError(f"{where}: left is {cell!r}", f"Write {' or '.join(words)}, or n/a.")
    return cast(LeftIs, word) if word else None
