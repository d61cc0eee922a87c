"""review.ini: the limits of the guards, each with its reason, for a data set whose people are unlike others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bidsapp.config import about_commas, format_value
from bidsapp.errors import BadDataError
from bidsapp.files import create_once, typed_json
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
    for name, limit in GuardLimits.model_fields.items():
        lines += [f"# {line}" for line in (limit.description or "").splitlines()]
        lines += [f"{name} = {format_value(getattr(limits, name))}", ""]
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
    known: dict[str, dict[str, Any]] = GuardLimits.model_json_schema()["properties"]
    changed: dict[str, float] = {}
    for section, key, text, line in read_ini(path):
        where = f"{path}, line {line}"
        if section != SECTION or key not in known:
            hint = f"Section [{SECTION}] has {', '.join(known)}."
            raise BadDataError(f"{where}: there is no setting {section}.{key} (= {text!r})", hint)
        try:
            changed |= typed_json(GuardLimits, {key: float(text)}).model_dump(include={key})
        except ValueError as error:
            allowed = known[key]
            hint = f"It takes a number from {allowed['minimum']:g} to {allowed['maximum']:g}{about_commas(text)}."
            raise BadDataError(f"{where}: {SECTION}.{key} = {text!r} does not fit", hint) from error
    return GuardLimits(**changed)
