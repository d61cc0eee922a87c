"""How much two label maps of one crop differ, label by label, matched by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bidsapp.arrays import BoolArray, IntArray
from bidsapp.evaluation.metrics import dice

Names = Mapping[int, str]


@dataclass(frozen=True)
class LabelDifference:
    """One label."""

    name: str
    dice: float | None
    """Overlap, 0 to 1; None when neither label map has the label."""
    voxels_changed: int
    """Voxels that have the label in one of both only."""
    voxels_united: int
    """Voxels that have the label in either."""


def share_changed(effort: Iterable[LabelDifference]) -> float | None:
    """Changed voxels as a part of the union, 0 to 1, both summed over labels; None where no label has a voxel."""
    of_labels = list(effort)
    united = sum(one.voxels_united for one in of_labels)
    return sum(one.voxels_changed for one in of_labels) / united if united else None


def label_differences(
    first: IntArray, first_names: Names, second: IntArray, second_names: Names
) -> tuple[LabelDifference, ...]:
    """Compare two label maps of one shape; every name of either, in order of `first_names`, then the others.

    Raises `ValueError` when the shapes differ.
    """
    names = dict.fromkeys([*first_names.values(), *second_names.values()])
    return tuple(
        _difference(name, _mask(first, first_names, name), _mask(second, second_names, name)) for name in names
    )


def _difference(name: str, first: BoolArray, second: BoolArray) -> LabelDifference:
    overlap = dice(first, second)
    changed, united = (int(np.count_nonzero(mask)) for mask in (first ^ second, first | second))
    return LabelDifference(name, None if math.isnan(overlap) else overlap, changed, united)


def _mask(labels: IntArray, names: Names, name: str) -> BoolArray:
    return np.isin(labels, [value for value, other in names.items() if other == name])
