"""Label tables: what the values of a label map mean."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from bidsapp.errors import BadDataError
from bidsapp.records import LabelTable
from bidsapp.tsv import TsvRow, read_tsv, write_tsv

logger = logging.getLogger(__name__)

LARGEST_VALUE = 32767
"""Largest label value: label maps are stored as 8 or 16 bit integers, which every NIfTI reader knows."""

NEIGHBOURS = frozenset({"mtlc", "pial", "hata", "indgris", "cyst", "cysts", "ec", "phc", "prc"})
"""Labels of hippocampal protocols (HippUnfold, ASHS; in lower case) that are not hippocampus."""

_TISSUE = {1: "GM", 2: "SRLM", 3: "MTLC", 4: "Pial", 5: "HATA", 6: "IndGris", 8: "DG"}
_FREESURFER = {17: "Left-Hippocampus", 53: "Right-Hippocampus"}
_WELL_KNOWN = (
    ("HippUnfold's tissue labels", _TISSUE),
    ("FreeSurfer's hippocampus", _FREESURFER),
    *(("FreeSurfer's hippocampus", {value: name}) for value, name in _FREESURFER.items()),
)
"""Protocols whose label maps hold exactly these values, and no other known one's do."""

_BOUNDARIES = frozenset(range(20, 24))

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_RESERVED = {"background", "ignore"}
_TRUE = {"true", "yes", "1"}
_FALSE = {"false", "no", "0", "n/a", ""}


def read_label_table(path: Path) -> LabelTable:
    """Read ``labels.tsv``: columns index, name and, if there is one, required; other columns are ignored.

    A row for value 0, the background, is allowed and left out.

    Raises
    ------
    NoInputError
        When there is no such file.
    BadDataError
        With file, line and value: an index that is not a whole number from 0 to 32767, a name with other
        characters than letters, digits, ``-`` and ``_`` or one that nnU-Net reserves, an index or a name
        that stands twice, a `required` that is neither true nor false, or no label at all.
    """
    names: dict[int, str] = {}
    required: set[str] = set()
    for row in read_tsv(path, ("index", "name")):
        value = _parse_index(path, row)
        if value == 0:
            continue
        name = parse_label_name(path, row)
        if value in names:
            raise BadDataError(f"{path}, line {row.line}: index {value} stands twice")
        if name in names.values():
            raise BadDataError(f"{path}, line {row.line}: name {name!r} stands twice")
        names[value] = name
        if _parse_required(path, row):
            required.add(name)
    if not names:
        raise BadDataError(f"{path} names no label", "Add one line per label value: index, tab, name.")
    return LabelTable(dict(sorted(names.items())), frozenset(required))


def write_label_table(path: Path, table: LabelTable) -> None:
    """Write `table` as ``labels.tsv``, atomically; `read_label_table` gives it back unchanged."""
    if not table.required:
        write_tsv(path, ("index", "name"), table.names.items())
        return
    rows = [(value, name, str(name in table.required).lower()) for value, name in table.names.items()]
    write_tsv(path, ("index", "name", "required"), rows)


def label_table_from_values(values: Iterable[int]) -> LabelTable:
    """Name the values met in label maps ``label-1``, ``label-2``, ...; 0 is the background.

    Without any value but 0 the table is empty.
    """
    return LabelTable({value: f"label-{value}" for value in sorted(set(values) - {0})})


def well_known_table(values: Collection[int]) -> LabelTable | None:
    """The label table of a protocol whose values can be told from all others'; None: these could be anybody's.

    Values without gaps (1 to 5, 1 to 8) are never told: several protocols and many tables of one's own have them.

    Raises
    ------
    BadDataError
        For HippUnfold's hand-drawn boundary labels with values that have no known names (20 to 23).
    """
    present = frozenset(values) - {0}
    for protocol, names in _WELL_KNOWN:
        if present == names.keys():
            named = ", ".join(f"{value} {name}" for value, name in names.items())
            logger.warning("There is no labels.tsv: the values are taken for those of %s: %s", protocol, named)
            return LabelTable(dict(names))
    if present & _BOUNDARIES and present <= _BOUNDARIES | set(range(1, 9)):
        listed = ", ".join(map(str, sorted(present & _BOUNDARIES)))
        raise BadDataError(
            f"The label maps hold the values {listed}, as hand-drawn boundary labels do, and their names are not known",
            "Write labels.tsv into the folder of the pairs: one line per value, index, tab, name.",
        )
    return None


def hippocampal_values(names: Mapping[int, str]) -> frozenset[int]:
    """Values of the labels that make up the hippocampus: all but known neighbours and cysts."""
    return frozenset(value for value, name in names.items() if name.lower() not in NEIGHBOURS)


def nnunet_values(table: LabelTable) -> dict[int, int]:
    """Map each value of `table` to the one that nnU-Net trains on: 1, 2, 3, ... without gaps.

    nnU-Net refuses label values with gaps, such as 17 and 53 (nnunetv2, ``verify_dataset_integrity``).
    """
    return {value: position for position, value in enumerate(table.names, start=1)}


def is_label_name(name: str) -> bool:
    """Tell whether a name can stand in a label table: letters, digits, ``-`` and ``_``, not reserved by nnU-Net."""
    return bool(_NAME.fullmatch(name)) and name.lower() not in _RESERVED


def parse_label_name(path: Path, row: TsvRow, column: str = "name") -> str:
    """Take a label name from a row of a table; raises `BadDataError`."""
    name = row.cells[column]
    if not _NAME.fullmatch(name):
        raise BadDataError(
            f"{path}, line {row.line}: {name!r} is not a label name", "Use letters, digits, '-' and '_'."
        )
    if not is_label_name(name):
        raise BadDataError(
            f"{path}, line {row.line}: nnU-Net keeps the name {name!r} for itself", "Choose another name."
        )
    return name


def _parse_index(path: Path, row: TsvRow) -> int:
    text = row.cells["index"]
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > LARGEST_VALUE:
        raise BadDataError(f"{path}, line {row.line}: index {text!r} is not a whole number from 0 to {LARGEST_VALUE}")
    return int(text)


def _parse_required(path: Path, row: TsvRow) -> bool:
    text = row.cells.get("required", "")
    if text.lower() not in _TRUE | _FALSE:
        raise BadDataError(f"{path}, line {row.line}: required is {text!r}", "Write true or false.")
    return text.lower() in _TRUE
