"""``labels/review.tsv``: what people decided. Read however they saved it; rows are added, cells never touched."""

from __future__ import annotations

import itertools
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from bidsapp.bids.people import LABEL
from bidsapp.content import settings_sha256
from bidsapp.errors import BadDataError, CannotWriteError
from bidsapp.files import create_bytes_once, explain_write_errors, read_bytes, sync, temporary_beside, write_bytes
from bidsapp.lock import folder_lock
from bidsapp.records import SIDE_WORDS, SIDES, Side, SideKey
from bidsapp.review.spreadsheet import SheetLine, Spreadsheet, column_name, read_spreadsheet

Status = Literal["pending", "approved", "rejected", "needs_edit"]
STATUSES: tuple[Status, ...] = get_args(Status)

COLUMNS = ("participant_id", "session_id", "hemi", "status", "rater", "date", "accept", "comment")
REQUIRED_COLUMNS = COLUMNS[:4]
NOT_AVAILABLE = "n/a"

_MOST_LINES = 20
"""Of one rater about one side, in a message."""

_HINT = f"The first line names the columns, separated by tabs: {', '.join(COLUMNS)}."


@dataclass(frozen=True)
class ReviewRow:
    """What one person says of one side."""

    participant: str
    session: str | None
    """Labels without ``sub-`` and ``ses-``."""
    hemi: Side
    status: Status
    rater: str
    date: str
    accept: frozenset[str]
    """Guards that the person overrules, in lower case."""
    comment: str
    """`rater` and `date` and `comment`: as the person wrote them; ``""`` for nothing and for ``n/a``."""
    line: int
    """Where the row begins in the file; the header is line 1."""
    other: Mapping[str, str] = field(default_factory=dict)
    """Columns that we do not know -> content."""

    @property
    def key(self) -> SideKey:
        """The side that it is about."""
        return self.participant, self.session, self.hemi

    @property
    def decision(self) -> str:
        """Fingerprint of what the person decided: any edit makes it another decision, another spelling does not."""
        comment = " ".join(self.comment.split())
        return self._fingerprint({"comment": comment} if comment else {})

    def is_decision(self, recorded: str, comment: str | None = None) -> bool:
        """Whether the ledger's fingerprint, and comment where it holds one, are of this row as it is now."""
        # the ledgers of 0.1.0 have comments beside fingerprints, not in them
        beside = comment is not None and comment.split() == self.comment.split() and recorded == self._fingerprint({})
        return recorded == self.decision or beside

    def _fingerprint(self, more: Mapping[str, str]) -> str:
        date = sorted(int(number) for number in re.findall(r"[0-9]{1,18}", self.date)) or self.date.lower()
        cells = {"status": self.status, "rater": self.rater.strip().lower(), "date": date}
        return settings_sha256({**cells, "accept": sorted(self.accept), **more})


@dataclass(frozen=True)
class RowProblem:
    """A row that cannot be used."""

    line: int
    """Where it begins in the file."""
    words: str
    """What is wrong with it, with the value that was met."""
    key: SideKey | None = None
    """The side that it is about, where that can be told."""


@dataclass(frozen=True)
class ReviewTable:
    """The table, and everything that is needed to add to it."""

    rows: tuple[ReviewRow, ...] = ()
    """Those that can be used, in the order of the file."""
    problems: tuple[RowProblem, ...] = ()
    """Those that cannot, in the order of the file."""
    columns: tuple[str, ...] = ()
    """The header as it stands; empty when there is no table yet."""
    content: bytes | None = None
    """The bytes of the file; None when there is none."""
    sheet: Spreadsheet = field(default_factory=Spreadsheet)
    """How it is written; its `notes` are for people."""

    @property
    def keys(self) -> frozenset[SideKey]:
        """Every side that has a row, usable or not."""
        return frozenset(row.key for row in self.rows) | {one.key for one in self.problems if one.key}

    def rows_of_sides(self) -> dict[SideKey, list[ReviewRow]]:
        """All usable rows of each side, in the order of the file."""
        found: dict[SideKey, list[ReviewRow]] = {}
        for row in self.rows:
            found.setdefault(row.key, []).append(row)
        return found

    def deciding_rows(self) -> dict[SideKey, ReviewRow]:
        """The row that counts for each side: its last that is not pending, else its last."""
        found: dict[SideKey, ReviewRow] = {}
        for row in self.rows:
            if row.key not in found or row.status != "pending" or found[row.key].status == "pending":
                found[row.key] = row
        return found


def read_review_table(path: Path) -> ReviewTable:
    """Read the table; one that does not exist or is blank has no rows.

    Tolerated: any line ends, byte order marks, UTF-16, quotes, commas or semicolons instead of tabs, blanks, blank
    lines, columns in any order and case, further columns. A row that cannot be used is a problem and hides no other.

    Two rows about one side must have different raters. When a row of a side is a problem, so are the side's others:
    nobody can tell what was decided.

    Raises
    ------
    BadDataError
        When it is no text, a column is missing or stands twice.
    """
    return parse_review_table(path, read_bytes(path)) if path.exists() else ReviewTable()


def parse_review_table(path: Path, content: bytes) -> ReviewTable:
    """Do the same with the bytes of a table; `path` is for messages."""
    sheet = read_spreadsheet(path, content, REQUIRED_COLUMNS)
    if not sheet.lines:
        return ReviewTable(content=content, sheet=sheet)
    columns = read_header(path, sheet.lines[0])
    read = [_read_row(columns, line) for line in sheet.lines[1:]]
    rows = [one for one in read if isinstance(one, ReviewRow)]
    problems = [one for one in read if isinstance(one, RowProblem)]
    conflicts = {one.line: one for one in _find_conflicts(rows, problems)}
    return ReviewTable(
        rows=tuple(row for row in rows if row.line not in conflicts),
        problems=tuple(sorted([*problems, *conflicts.values()], key=lambda problem: problem.line)),
        columns=columns,
        content=content,
        sheet=replace(sheet, lines=()),
    )


def add_rows(path: Path, table: ReviewTable, keys: Sequence[SideKey]) -> int:
    """Add a pending row per side at the end of the file, and tell how many; sides that have a row get none.

    Every byte that stood there stays. What was there before is kept beside it as ``.bak``. Nothing is written when
    there is nothing to add.

    Parameters
    ----------
    table
        What `read_review_table` gave for `path`.

    Raises
    ------
    CannotWriteError
        When the file is no longer what was read, another process is adding rows, or it cannot be written.
    """
    known = table.keys
    new = [key for key in dict.fromkeys(keys) if key not in known]
    if not new:
        return 0
    with folder_lock(path.with_name(f".{path.name}.lock")):
        _require_unchanged(path, table.content)
        if table.content is None:
            if not create_bytes_once(path, _added_bytes(table, new)):
                raise _changed(path)
            return len(new)
        _keep_and_replace(path, table.content, table.content + _added_bytes(table, new))
    return len(new)


def replace_table(path: Path, table: ReviewTable, new: ReviewTable) -> None:
    """Put another version of the table in its place; what was there before is kept beside it as ``.bak``.

    Parameters
    ----------
    table, new
        What `read_review_table` gave for `path`, and what is to be there.

    Raises
    ------
    CannotWriteError
        When the file is no longer what was read, another process is adding rows, or it cannot be written.
    """
    if table.content is None or new.content is None:
        raise ValueError("a table is replaced by a table")
    with folder_lock(path.with_name(f".{path.name}.lock")):
        _keep_and_replace(path, table.content, new.content)


def read_header(path: Path, line: SheetLine) -> tuple[str, ...]:
    """The columns that a table has; raises `BadDataError` when one is missing or stands twice."""
    columns = list(line.cells)
    while columns and not columns[-1]:
        columns.pop()
    names = [column_name(column) for column in columns]
    for column in COLUMNS:
        if names.count(column) > 1:
            raise BadDataError(f"{path}, line {line.number}: column {column!r} stands twice", _HINT)
        if column in REQUIRED_COLUMNS and column not in names:
            raise BadDataError(f"{path}, line {line.number}: no column {column!r} in {columns}", _HINT)
    return tuple(columns)


def _read_row(columns: tuple[str, ...], line: SheetLine) -> ReviewRow | RowProblem:
    cells = {column: "" if cell.lower() == NOT_AVAILABLE else cell for column, cell in _name_cells(columns, line)}
    participant, session = _label(cells["participant_id"], "sub-"), _label(cells["session_id"], "ses-")
    hemi = SIDE_WORDS.get(cells["hemi"].lower())
    if participant is None:
        return RowProblem(line.number, f"participant_id is {cells['participant_id']!r}: it needs letters and digits")
    if cells["session_id"] and session is None:
        return RowProblem(line.number, f"session_id is {cells['session_id']!r}: it needs letters and digits, or n/a")
    if hemi is None:
        return RowProblem(line.number, f"hemi is {cells['hemi']!r}: it can be {' or '.join(SIDES)}")
    key = (participant, session, hemi)
    surplus = [cell for name, cell in _name_cells(columns, line) if not name and cell]
    if surplus:
        return RowProblem(line.number, f"{surplus[0]!r} has no column: remove the extra separator", key)
    status = _read_status(cells["status"])
    if status is None:
        return RowProblem(line.number, f"status is {cells['status']!r}: it can be {', '.join(STATUSES)}", key)
    return ReviewRow(
        *key,
        status=status,
        rater=cells.get("rater", ""),
        date=cells.get("date", ""),
        accept=frozenset(re.findall(r"[^\s,;]+", cells.get("accept", "").lower())),
        comment=cells.get("comment", ""),
        line=line.number,
        other={name: cell for name, cell in _name_cells(columns, line) if name and name not in COLUMNS},
    )


def _name_cells(columns: tuple[str, ...], line: SheetLine) -> Iterator[tuple[str, str]]:
    """Column -> content; the names of columns that we know are normalised, cells without column have ``""``."""
    for position in range(max(len(columns), len(line.cells))):
        column = columns[position] if position < len(columns) else ""
        known = column_name(column)
        cell = line.cells[position] if position < len(line.cells) else ""
        yield known if known in COLUMNS else column, cell


def _label(cell: str, prefix: str) -> str | None:
    label = cell[len(prefix) :] if cell.lower().startswith(prefix) else cell
    return label if re.fullmatch(LABEL, label) else None


def _read_status(cell: str) -> Status | None:
    word = re.sub(r"[\s_-]+", "_", cell.lower()) or "pending"
    return next((status for status in STATUSES if status == word), None)


def _find_conflicts(rows: Sequence[ReviewRow], problems: Sequence[RowProblem]) -> Iterator[RowProblem]:
    broken = {problem.key: problem.line for problem in problems if problem.key}
    lines_of: defaultdict[tuple[SideKey, str], list[int]] = defaultdict(list)
    for row in rows:
        lines_of[_side_and_rater(row)].append(row.line)
    for row in rows:
        if row.key in broken:
            yield RowProblem(row.line, f"line {broken[row.key]} is about the same side and cannot be used", row.key)
            continue
        of_same_rater = lines_of[_side_and_rater(row)]
        if len(of_same_rater) > 1:
            twins = _join(line for line in of_same_rater[: _MOST_LINES + 1] if line != row.line)
            words = f"line {twins} is about the same side by the same rater ({row.rater or 'nobody'}): keep one"
            yield RowProblem(row.line, words, row.key)


def _side_and_rater(row: ReviewRow) -> tuple[SideKey, str]:
    return row.key, row.rater.lower()


def _join(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in itertools.islice(numbers, _MOST_LINES))


def _added_bytes(table: ReviewTable, keys: Sequence[SideKey]) -> bytes:
    sheet, columns = table.sheet, table.columns or COLUMNS
    header = [] if table.columns else [columns]
    lines = [*header, *(_pending_cells(columns, *key) for key in keys)]
    text = "".join(sheet.separator.join(cells) + sheet.newline for cells in lines)
    return (text if sheet.ends_with_newline else sheet.newline + text).encode(sheet.encoding)


def _pending_cells(columns: Sequence[str], participant: str, session: str | None, hemi: Side) -> list[str]:
    known = {
        "participant_id": f"sub-{participant}",
        "session_id": f"ses-{session}" if session else NOT_AVAILABLE,
        "hemi": hemi,
        "status": "pending",
    }
    return [known.get(column_name(column), NOT_AVAILABLE if column else "") for column in columns]


def _keep_and_replace(path: Path, expected: bytes, content: bytes) -> None:
    _require_unchanged(path, expected)
    write_bytes(path.with_name(f"{path.name}.bak"), expected)
    _replace(path, expected, content)


def _replace(path: Path, expected: bytes, content: bytes) -> None:
    """Replace a file that is still what it was, keeping its permissions; a link stays a link."""
    target = path.resolve()
    with explain_write_errors(path), temporary_beside(target) as temporary:
        try:
            temporary.write_bytes(content)
            shutil.copymode(target, temporary)
            sync(temporary)
            _require_unchanged(path, expected)
            temporary.replace(target)
        except FileNotFoundError as error:
            raise _changed(path) from error


def _require_unchanged(path: Path, expected: bytes | None) -> None:
    if (read_bytes(path) if path.exists() else None) != expected:
        raise _changed(path)


def _changed(path: Path) -> CannotWriteError:
    return CannotWriteError(
        f"{path} was changed while it was being read; nothing was added to it",
        "Save it, close it, and run the same command again.",
    )
