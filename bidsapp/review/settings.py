"""review.ini: the limits of the guards, each with its reason, for a data set whose people are unlike others."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from bidsapp.config import about_commas, format_value
from bidsapp.errors import BadDataError
from bidsapp.files import create_once
from bidsapp.guards.label_guards import GuardLimits
from bidsapp.ini import read_ini

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
        When there is no such file, or it may not be read.
    BadDataError
        With line, key and value: no ini file, no setting in it, a key or section that does not exist, a value that is
        no number in its range.
    """
    known = {limit.name: limit.metadata["allowed"] for limit in fields(GuardLimits)}
    changed = {}
    for section, key, text, line in read_ini(path):
        where = f"{path}, line {line}"
        if section != SECTION or key not in known:
            raise BadDataError(f"{where}: there is no setting {section}.{key} (= {text!r})", _one_of(known))
        changed[key] = _parse(where, key, text, known[key])
    return GuardLimits(**changed)


def _parse(where: str, key: str, text: str, allowed: tuple[float, float]) -> float:
    least, greatest = allowed
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= greatest:
        hint = f"It takes a number from {least:g} to {greatest:g}{about_commas(text)}."
        raise BadDataError(f"{where}: {SECTION}.{key} = {text!r} does not fit", hint)
    return value


def _one_of(names: dict[str, tuple[float, float]]) -> str:
    return f"Section [{SECTION}] has {', '.join(names)}."
