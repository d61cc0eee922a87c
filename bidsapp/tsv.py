"""Tab-separated tables as BIDS writes them: one header line, no quotes, UTF-8."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bidsapp.errors import BadDataError
from bidsapp.files import read_text, write_text

_BEGINS_A_FORMULA = frozenset("=+-@")
_NUMBER = r"[+-]?[0-9.]+(e[+-]?[0-9]+)?"


@dataclass(frozen=True)
class TsvRow:
    """One line of a table."""

    line: int
    """Its number in the file; the header is line 1."""
    cells: dict[str, str]
    """column -> content without surrounding blanks, ``""`` where the line ends early."""


def read_tsv(path: Path, required_columns: Sequence[str]) -> list[TsvRow]:
    """Read a table; blank lines, a byte order mark, any line ending and blanks around cells are tolerated.

    Raises
    ------
    NoInputError
        When there is no such file.
    BadDataError
        When it is not UTF-8 text, a required column is missing, a column is named twice, or a line holds
        more cells than the header.
    """
    lines = [(number, cells) for number, cells in _split_lines(path) if any(cells)]
    header = lines[0][1] if lines else []
    while header and not header[-1]:
        header.pop()
    _check_header(path, header, required_columns)
    return [TsvRow(number, _name_cells(path, number, header, cells)) for number, cells in lines[1:]]


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table atomically; raises `CannotWriteError`.

    What a spreadsheet would run as a formula gets a blank in front, which `read_tsv` takes away.
    """
    lines = [columns, *rows]
    write_text(path, "".join("\t".join(map(cell_text, line)) + "\n" for line in lines))


def cell_text(content: object) -> str:
    """What a cell holds of `content`: one line without tabs.

    Spreadsheets take text that begins with ``=`` for a formula, but not behind a blank.
    """
    text = re.sub(r"[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+", " ", str(content))
    return f" {text}" if text[:1] in _BEGINS_A_FORMULA and not re.fullmatch(_NUMBER, text) else text


def _split_lines(path: Path) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise BadDataError(f"{path}, line {reader.line_num}: {error}") from error


def _check_header(path: Path, header: list[str], required_columns: Sequence[str]) -> None:
    hint = f"The first line names the columns, separated by tabs: {', '.join(required_columns)}."
    for column in required_columns:
        if column not in header:
            raise BadDataError(f"{path}, line 1: no column {column!r} in {header}", hint)
    for column in header:
        if header.count(column) > 1:
            raise BadDataError(f"{path}, line 1: column {column!r} stands twice", hint)


def _name_cells(path: Path, line: int, header: list[str], cells: list[str]) -> dict[str, str]:
    surplus = [cell for cell in cells[len(header) :] if cell]
    if surplus:
        raise BadDataError(f"{path}, line {line}: {surplus[0]!r} has no column", "Remove the extra tab.")
    padded = cells + [""] * (len(header) - len(cells))
    return dict(zip(header, padded, strict=False))
