"""review.ini: the limits of the guards, each with its reason, for a data set whose people are unlike others."""

from __future__ import annotations

import configparser
from dataclasses import fields
from pathlib import Path

from bidsapp.config import format_value
from bidsapp.errors import BadDataError, NoInputError
from bidsapp.files import create_once
from bidsapp.labels.guards import GuardLimits

SECTION = "guards"

_HEAD = """\
# HippoTune: when a returned label map is refused. Edit a value and give the review command again.
# To let a single label pass, name the guard in the accept column of review.tsv instead.
"""


def write_limits(path: Path, limits: GuardLimits) -> bool:
    """Write an explained ini file unless there is one; tell whether it was written.

    Raises
    ------
    CannotWriteError
        When the disk is full or the folder cannot be written.
    """
    return create_once(path, render_limits(limits))


def render_limits(limits: GuardLimits) -> str:
    """The file's text: each limit below its reason."""
    lines = [_HEAD, f"[{SECTION}]"]
    for limit in fields(GuardLimits):
        lines += [f"# {line}" for line in limit.metadata["comment"].splitlines()]
        lines += [f"{limit.name} = {format_value(getattr(limits, limit.name))}", ""]
    return "\n".join(lines)


def read_limits(path: Path) -> GuardLimits:
    """Read an edited file; what it leaves out has its default.

    Raises
    ------
    NoInputError
        When there is no such file.
    BadDataError
        With key and value: a key or section that does not exist, a value that is no number in its range.
    """
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#", ";"))
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"), source=str(path))
    except FileNotFoundError as error:
        raise NoInputError(f"{path} does not exist") from error
    except (configparser.Error, UnicodeDecodeError) as error:
        raise BadDataError(f"{path}: {error}", "Mend the line, or move the file away to get a new one.") from None
    known = {limit.name: limit.metadata["allowed"] for limit in fields(GuardLimits)}
    changed = {}
    for section in parser.sections():
        for key, text in parser.items(section):
            if section != SECTION or key not in known:
                raise BadDataError(f"{path}: there is no setting {section}.{key} (= {text!r})", _one_of(known))
            changed[key] = _parse(path, key, text, known[key])
    return GuardLimits(**changed)


def _parse(path: Path, key: str, text: str, allowed: tuple[float, float]) -> float:
    least, greatest = allowed
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= greatest:
        hint = f"It takes a number from {least:g} to {greatest:g}."
        raise BadDataError(f"{path}: {SECTION}.{key} = {text!r} does not fit", hint)
    return value


def _one_of(names: dict[str, tuple[float, float]]) -> str:
    return f"Section [{SECTION}] has {', '.join(names)}."
