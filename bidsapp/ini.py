"""Ini files as people edit them: each setting with its line, and whatever cannot be read named with its line."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bidsapp.errors import BadDataError
from bidsapp.files import read_text

HINT = "Mend the line, or move the file away to get a new one."


class IniSetting(NamedTuple):
    """One line: ``key = text`` in ``[section]``."""

    section: str
    key: str
    text: str
    line: int


def read_ini(path: Path) -> list[IniSetting]:
    """Read every setting in the order of the file; comments may stand behind values.

    Raises
    ------
    NoInputError
        When there is no such file, or it may not be read.
    BadDataError
        With the line: no text in UTF-8, no section, a section or a key twice, a line that is no setting. And when
        there is no setting at all: what a person chose would be lost without a word.
    """
    text = re.sub(r"\r\n?", "\n", read_text(path, "Save it as UTF-8, or move it away to get a new one."))
    parser = configparser.ConfigParser(
        interpolation=None, inline_comment_prefixes=("#", ";"), default_section="", empty_lines_in_values=False
    )
    try:
        parser.read_string(text, source=str(path))
    except configparser.Error as error:
        raise BadDataError(f"{path}, {_what_is_wrong(error)}", HINT) from None
    found = list(_settings(parser, text))
    if not found:
        raise BadDataError(f"{path} holds no setting", "Move the file away to get a new one, with every setting in it.")
    return found


def _settings(parser: configparser.ConfigParser, text: str) -> Iterator[IniSetting]:
    for section in parser.sections():
        for key, value in parser.items(section):
            yield IniSetting(section, key, value, _line_of(text, section, key))


def _what_is_wrong(error: configparser.Error) -> str:
    match error:
        case configparser.MissingSectionHeaderError():
            return f"line {error.lineno}: {error.line.strip()[:80]!r} stands above the first [section]"
        case configparser.DuplicateSectionError():
            return f"line {error.lineno}: the section [{error.section}] stands twice"
        case configparser.DuplicateOptionError():
            return f"line {error.lineno}: {error.section}.{error.option} stands twice"
        case configparser.ParsingError():
            line, content = error.errors[0]
            return f"line {line}: {content[:80]} is neither [section] nor key = value"
        case _:
            return str(error)


def _line_of(text: str, section: str, key: str) -> int:
    inside = False
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if stripped.startswith("["):
            inside = stripped.startswith(f"[{section}]")
        elif inside and re.split(r"[=:]", stripped, maxsplit=1)[0].strip().lower() == key:
            return number
    return 0
