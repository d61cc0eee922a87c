"""origins.tsv: how the labels of a training folder came about; what is not listed was imported."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast, get_args

from bidsapp.errors import BadDataError
from bidsapp.records import LabelKind, LabelOrigin, Pair
from bidsapp.tsv import read_tsv, write_tsv

_COLUMNS = ("id", "label_from", "voxels_changed", "model_sha256", "share_changed")
_NOT_KNOWN = ("", "n/a")
KIND_WORDS: Mapping[LabelKind, str] = {
    "corrected": "corrected",
    "drawn": "drawn",
    "imported": "imported",
    "as_predicted": "approved as predicted",
    "unknown": "of unknown origin",
}


def read_origins(path: Path, cases: Collection[str]) -> dict[str, LabelOrigin]:
    """Read a table with the columns id and label_from, and perhaps voxels_changed, model_sha256 and share_changed.

    ``n/a`` in one of the latter: it is not known.

    Parameters
    ----------
    cases
        Ids that there are.

    Raises
    ------
    BadDataError
        With file, line and value: an id without a pair or that stands twice, or a cell that does not fit.
    """
    found: dict[str, LabelOrigin] = {}
    for row in read_tsv(path, _COLUMNS[:2]):
        where, case = f"{path}, line {row.line}", row.cells["id"]
        if case not in cases:
            raise BadDataError(f"{where}: there is no pair {case!r}", "An id is the file name before _img and _lbl.")
        if case in found:
            raise BadDataError(f"{where}: {case} stands twice")
        found[case] = _parse(row.cells, where)
    return found


def write_origins(path: Path, origins: Mapping[str, LabelOrigin]) -> None:
    """Write what `read_origins` reads, in the order of ids."""
    rows = (
        (case, *("n/a" if one is None else one for one in asdict(origins[case]).values())) for case in sorted(origins)
    )
    write_tsv(path, _COLUMNS, rows)


def with_origins(pairs: Iterable[Pair], origins: Mapping[str, LabelOrigin]) -> tuple[Pair, ...]:
    """The pairs, each with what `origins` says of its label."""
    return tuple(replace(pair, origin=origins.get(pair.case, pair.origin)) for pair in pairs)


def judge_corrections(pairs: Iterable[Pair], least_changed: float) -> tuple[Pair, ...]:
    """The pairs; labels corrected in less than this share of their voxels are still the model's own drawing."""
    return tuple(replace(pair, origin=_judge(pair.origin, least_changed)) for pair in pairs)


def _judge(origin: LabelOrigin, least_changed: float) -> LabelOrigin:
    small = origin.share_changed is not None and origin.share_changed < least_changed
    return replace(origin, kind="as_predicted") if origin.kind == "corrected" and small else origin


def count_kinds(origins: Iterable[LabelOrigin]) -> dict[LabelKind, int]:
    """How many labels there are of each kind, in the order of `LabelKind`, without those of which there are none."""
    kinds = [origin.kind for origin in origins]
    return {kind: kinds.count(kind) for kind in get_args(LabelKind) if kind in kinds}


def say_kinds(counts: Mapping[LabelKind, int]) -> str:
    """``3 corrected, 21 approved as predicted``."""
    return ", ".join(f"{count} {KIND_WORDS[kind]}" for kind, count in counts.items())


def _parse(cells: Mapping[str, str], where: str) -> LabelOrigin:
    kind, changed, model, share = (cells.get(column, "") for column in _COLUMNS[1:])
    if kind not in get_args(LabelKind):
        raise BadDataError(f"{where}: label_from is {kind!r}", f"Write one of {', '.join(get_args(LabelKind))}.")
    if changed not in _NOT_KNOWN and not re.fullmatch(r"[0-9]{1,9}", changed):
        raise BadDataError(
            f"{where}: voxels_changed is {changed!r}, not a whole number", "Write n/a where nobody counted."
        )
    if model not in _NOT_KNOWN and not re.fullmatch(r"[!-~]{1,100}", model):
        raise BadDataError(
            f"{where}: model_sha256 is {model[:100]!r}, which is no digest", "Write n/a where it is not known."
        )
    return LabelOrigin(
        cast(LabelKind, kind),
        None if changed in _NOT_KNOWN else int(changed),
        None if model in _NOT_KNOWN else model,
        None if share in _NOT_KNOWN else _share(share, where),
    )


def _share(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise BadDataError(
            f"{where}: share_changed is {text[:100]!r}, not a number from 0 to 1", "Write n/a where nobody counted."
        )
    return value
