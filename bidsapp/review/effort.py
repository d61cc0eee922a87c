"""How much two label maps of one crop differ, label by label, matched by name."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bidsapp.arrays import BoolArray, IntArray
from bidsapp.evaluation.metrics import dice
from bidsapp.records import LabelDifference

Names = Mapping[int, str]


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
