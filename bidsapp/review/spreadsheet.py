"""A table as spreadsheets really leave it: encodings, line ends, quotes and separators are found out, not assumed."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bidsapp.errors import BadDataError

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons"}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How files of Excel (new and old) and LibreOffice begin."""

_LEAST_TABS_OF_A_ROW = 3
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class SheetLine:
    """One row."""

    number: int
    """Line of the file that it begins on; the first is 1."""
    cells: tuple[str, ...]
    """Contents, without quotes and without blanks around."""
    spans: tuple[tuple[int, int], ...] = ()
    """Where each stands in `Spreadsheet.text`, quotes and blanks included: from, to."""


@dataclass(frozen=True)
class Spreadsheet:
    """The cells of a table, and how to write more of them in the same manner."""

    encoding: str = "utf-8"
    """For bytes behind a byte order mark, if there is one."""
    separator: str = "\t"
    newline: str = "\n"
    """Between cells, and at the end of lines."""
    lines: tuple[SheetLine, ...] = ()
    """Those that are not blank, the header first."""
    ends_with_newline: bool = True
    """Whether more lines can be appended as they are."""
    notes: tuple[str, ...] = ()
    """What was tolerated that a person may want to know."""
    text: str = ""
    """The whole of it, without a byte order mark."""


def read_spreadsheet(path: Path, content: bytes, required_columns: Collection[str]) -> Spreadsheet:
    """Make cells of the bytes of a file.

    Parameters
    ----------
    path
        For messages only.
    required_columns
        Normalised names (`column_name`); the separator is the one that makes these columns of the header.

    Raises
    ------
    BadDataError
        When it is a workbook or no text.
    """
    text, encoding, notes = _decode(path, content)
    separator = _find_separator(text, required_columns)
    if separator != "\t":
        notes = (*notes, f"{path.name} is separated by {_SEPARATORS[separator]}, not tabs; it was read all the same")
    lines = tuple(line for line in _split(text, separator) if any(line.cells))
    return Spreadsheet(encoding, separator, _find_newline(text), lines, not text or text[-1] in "\r\n", notes, text)


@lru_cache
def column_name(cell: str) -> str:
    """Normalise the title of a column: ``Participant ID`` is ``participant_id``."""
    return re.sub(r"[\s-]+", "_", cell.strip().lower())


def _decode(path: Path, content: bytes) -> tuple[str, str, tuple[str, ...]]:
    if content.startswith(_WORKBOOKS):
        raise BadDataError(f"{path} is a workbook, not a text file", 'Save it as "Text (tab delimited)", in UTF-8.')
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            try:
                return content[len(mark) :].decode(encoding), encoding, ()
            except UnicodeDecodeError as error:
                raise BadDataError(f"{path} is damaged at byte {error.start}", "Save it as UTF-8.") from error
    if b"\0" in content:
        raise BadDataError(f"{path} is not text: byte {content.index(0)} is zero", "Save it as UTF-8.")
    try:
        return content.decode("utf-8"), "utf-8", ()
    except UnicodeDecodeError:
        note = f"{path.name} is not UTF-8; it was read as Windows-1252, check letters with accents"
        return content.decode("cp1252", errors="replace"), "cp1252", (note,)


def _find_newline(text: str) -> str:
    match = _LINE_END.search(text.lstrip("\r\n"))
    return match.group() if match else "\n"


def _find_separator(text: str, required_columns: Collection[str]) -> str:
    for separator in _SEPARATORS:
        header: tuple[str, ...] = next((line.cells for line in _split(text, separator) if any(line.cells)), ())
        if set(required_columns) <= {column_name(cell) for cell in header}:
            return separator
    return "\t"


def _split(text: str, separator: str) -> Iterator[SheetLine]:
    """Split into rows; a quote that nobody closes is an ordinary character and hides no row."""
    quoted = re.compile(rf' *"((?:[^"]++|"")*+)" *(?={separator}|[\r\n]|\Z)')
    plain = re.compile(rf"[^{separator}\r\n]*")
    position, number, columns = 0, 1, 0
    while position < len(text):
        begun, cells, spans = number, [], []
        while True:
            match, first = quoted.match(text, position), position
            if match and not _swallows_rows(match[1], separator, columns):
                cells.append(match[1].replace('""', '"').strip())
                number += len(_LINE_END.findall(match[1]))
            else:
                match = plain.match(text, position)
                cells.append(match.group().strip() if match else "")
            position = match.end() if match else position
            spans.append((first, position))
            if text[position : position + 1] != separator:
                break
            position += 1
        end = _LINE_END.match(text, position)
        position, number = (end.end(), number + 1) if end else (len(text), number)
        columns = columns or (len(cells) if any(cells) else 0)
        yield SheetLine(begun, tuple(cells), tuple(spans))


def _swallows_rows(quoted: str, separator: str, columns: int) -> bool:
    """Tell whether a line inside quotes is a row of its own: then a quote is missing further up.

    Prose has commas, hardly tabs. A header stands on one line.
    """
    inner = _LINE_END.split(quoted)[1:]
    if not columns:
        return bool(inner)
    least = min(_LEAST_TABS_OF_A_ROW, columns - 1) if separator == "\t" else columns - 1
    return any(line.count(separator) >= max(1, least) for line in inner)
