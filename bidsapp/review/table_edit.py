"""Write one decision into ``labels/review.tsv`` as a person would: its own cells change, every other byte stays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bidsapp.errors import CannotWriteError
from bidsapp.records import SideKey
from bidsapp.review.spreadsheet import SheetLine, Spreadsheet, column_name, read_spreadsheet
from bidsapp.review.table import (
    COLUMNS,
    NOT_AVAILABLE,
    REQUIRED_COLUMNS,
    ReviewRow,
    ReviewTable,
    Status,
    parse_review_table,
    read_header,
)
from bidsapp.tsv import cell_text


@dataclass(frozen=True)
class Decision:
    """What one person says of one side, on its way into the table."""

    key: SideKey
    status: Status
    rater: str
    date: str
    """With the time of day, so that no two decisions are the same one."""
    accept: frozenset[str] = frozenset()
    """Guards that the person overrules."""
    comment: str = ""

    @property
    def cells(self) -> dict[str, str]:
        """Column -> content, of the columns that a person fills in."""
        written = {
            "status": self.status,
            "rater": self.rater,
            "date": self.date,
            "accept": ", ".join(sorted(self.accept)),
            "comment": self.comment,
        }
        return {column: cell_text(" ".join(cell.split())) or NOT_AVAILABLE for column, cell in written.items()}


def decide_in_table(path: Path, table: ReviewTable, decision: Decision) -> ReviewTable:
    """The table with a decision in it; nothing is written.

    It goes into the person's own row, else into the side's pending one that names nobody. Where another person decided
    after that row, or there is none, it becomes the last row, for the last one counts.

    Parameters
    ----------
    path
        For messages.
    table
        With a header; see `bidsapp.review.table.add_rows`.

    Raises
    ------
    BadDataError
        When the table is damaged.
    CannotWriteError
        When the table cannot hold it: a letter that its encoding has not.
    """
    content = table.content or b""
    sheet = read_spreadsheet(path, content, REQUIRED_COLUMNS)
    cells = decision.cells
    columns = list(read_header(path, sheet.lines[0]))
    added = [column for column in COLUMNS if column not in map(column_name, columns)]
    added = [column for column in added if cells.get(column, NOT_AVAILABLE) != NOT_AVAILABLE]
    edits: list[tuple[int, int, str]] = []
    if added:
        edits.append(_edit(sheet, sheet.lines[0], dict(enumerate(added, start=len(columns)))))
        columns += added
    positions = {column_name(column): index for index, column in reversed(list(enumerate(columns))) if column}
    row, counts = _row_of(table, decision)
    if row is not None and counts:
        line = next(one for one in sheet.lines if one.number == row.line)
        edits.append(_edit(sheet, line, {positions[name]: cell for name, cell in cells.items() if name in positions}))
    else:
        kept: list[str] = []  # what the person noted in columns of their own
        if row is not None:
            line = next(one for one in sheet.lines if one.number == row.line)
            kept = [sheet.text[begin:end] for begin, end in line.spans]
            edits.append(_removal(sheet, line))
        edits.append((len(sheet.text), len(sheet.text), _new_line(sheet, columns, decision.key, cells, kept)))
    return _checked(path, parse_review_table(path, _spliced(sheet, content, edits)), decision)


def _row_of(table: ReviewTable, decision: Decision) -> tuple[ReviewRow | None, bool]:
    """The row that the decision replaces, and whether one in its place counts."""
    rows = [row for row in table.rows if row.key == decision.key]
    rater = decision.rater.lower()
    own = next((row for row in rows if row.rater.lower() == rater), None)
    row = own or next((row for row in rows if row.status == "pending" and not row.rater), None)
    if row is None:
        return None, False
    later = rows[rows.index(row) + 1 :]
    return row, not any(one.status != "pending" for one in later)


def _edit(sheet: Spreadsheet, line: SheetLine, cells: Mapping[int, str]) -> tuple[int, int, str]:
    """Put cells, by position, into a line; what stood in the others stays as it was written."""
    written = [sheet.text[begin:end] for begin, end in line.spans]
    written += [""] * (max(cells) + 1 - len(written))
    for position, cell in cells.items():
        written[position] = _quoted(cell, sheet.separator)
    return line.spans[0][0], line.spans[-1][1], sheet.separator.join(written)


def _removal(sheet: Spreadsheet, line: SheetLine) -> tuple[int, int, str]:
    begin, end = line.spans[0][0], line.spans[-1][1]
    newline = re.compile(r"\r\n|\n|\r").match(sheet.text, end)
    return begin, newline.end() if newline else end, ""


def _new_line(
    sheet: Spreadsheet, columns: Sequence[str], key: SideKey, cells: Mapping[str, str], kept: Sequence[str]
) -> str:
    participant, session, hemi = key
    known = {
        **cells,
        "participant_id": f"sub-{participant}",
        "session_id": f"ses-{session}" if session else NOT_AVAILABLE,
        "hemi": hemi,
    }
    empty = [NOT_AVAILABLE if column else "" for column in columns]
    written = [*kept, *empty[len(kept) :]]
    for position, column in enumerate(columns):
        if column_name(column) in known:
            written[position] = _quoted(known[column_name(column)], sheet.separator)
    line = sheet.separator.join(written) + sheet.newline
    return line if sheet.ends_with_newline else sheet.newline + line


def _quoted(cell: str, separator: str) -> str:
    if separator in cell or cell.lstrip().startswith('"'):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _spliced(sheet: Spreadsheet, content: bytes, edits: Sequence[tuple[int, int, str]]) -> bytes:
    """Replace spans of the text in the bytes of the file, so that what no edit touches stays byte for byte."""
    whole = sheet.text.encode(sheet.encoding, "replace")
    mark = len(content) - len(whole)  # a byte order mark, or nothing

    def place(index: int) -> int:
        return mark + len(sheet.text[:index].encode(sheet.encoding, "replace"))

    for begin, end, text in sorted(edits, reverse=True):
        content = content[: place(begin)] + text.encode(sheet.encoding, "replace") + content[place(end) :]
    return content


def _checked(path: Path, table: ReviewTable, decision: Decision) -> ReviewTable:
    """Make sure that review will read from the new table what was decided."""
    row = table.deciding_rows().get(decision.key)
    own = [one for one in table.rows if one.key == decision.key and one.rater.lower() == decision.rater.lower()]
    said = own[0] if own else row
    if said is None or (said.status, said.accept, said.rater, said.comment) != (
        decision.status,
        decision.accept,
        decision.rater,
        _as_read(decision.comment),
    ):
        raise CannotWriteError(
            f"{path} cannot hold this decision: its rater or comment has letters that its encoding ({path.name} is not "
            "UTF-8) or its layout lacks",
            "Save the table as UTF-8, or use other words.",
        )
    return table


def _as_read(comment: str) -> str:
    words = " ".join(comment.split())
    return "" if words.lower() == NOT_AVAILABLE else words
