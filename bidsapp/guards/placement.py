"""Does a mask lie as another one does? Mirror images, exchanged axes and shifts, on the grid of a crop.

Axes are those of a crop as in the head: 0 runs from right to left, 1 from back to front, 2 upwards. Overlaps are
measured on every second voxel (0.6 mm), which is fine enough for a structure of 40 x 15 x 10 mm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from bidsapp.arrays import BoolArray, FloatArray
from bidsapp.guards.likeness import ORIENTATIONS, orientation_words, turn

Box = tuple[slice, slice, slice]

_STRIDE = 2


@dataclass(frozen=True)
class Fit:
    """How a mask fits a reference."""

    dice: float
    """Overlap as they lie; NaN when both are empty, as in `bidsapp.evaluation.metrics`."""
    shift_mm: tuple[float, float, float]
    """The shift of the mask, along R to L, P to A and I to S, that overlaps best; multiples of two voxels."""
    shifted_dice: float
    """Overlap after it."""

    @property
    def distance_mm(self) -> float:
        """Length of `shift_mm`."""
        return math.hypot(*self.shift_mm)


def bounding_box(mask: BoolArray, margin: int = 0) -> Box:
    """Smallest box that holds every voxel of `mask`, which must not be empty, and `margin` voxels around it."""
    spans = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        spans.append(slice(max(int(filled[0]) - margin, 0), min(int(filled[-1]) + 1 + margin, mask.shape[axis])))
    return spans[0], spans[1], spans[2]


def fit(mask: BoolArray, reference: BoolArray, spacing_mm: FloatArray) -> Fit:
    """Overlap of two masks on one grid, neither of them empty, as they lie and after the best shift."""
    box = bounding_box(mask | reference)
    ours, theirs = (one[box][::_STRIDE, ::_STRIDE, ::_STRIDE].astype(np.float32) for one in (mask, reference))
    total = float(ours.sum() + theirs.sum())
    if total == 0:  # specks that the stride steps over
        return Fit(0.0, (0.0, 0.0, 0.0), 0.0)
    shape = [fft.next_fast_len(2 * length - 1, real=True) for length in ours.shape]
    overlap = fft.irfftn(fft.rfftn(theirs, shape) * np.conj(fft.rfftn(ours, shape)), shape)
    best = np.unravel_index(int(overlap.argmax()), overlap.shape)
    steps = [int(step) - length if step > length // 2 else int(step) for step, length in zip(best, shape, strict=True)]
    x, y, z = (float(step * _STRIDE * edge) for step, edge in zip(steps, spacing_mm, strict=True))
    return Fit(2 * float(overlap[0, 0, 0]) / total, (x, y, z), 2 * float(overlap[best]) / total)


def best_mirrored(mask: BoolArray, reference: BoolArray) -> tuple[float, str]:
    """Compare the shape of a mask, in all 47 orientations but its own, with a reference; neither may be empty.

    Returns
    -------
    The greatest Dice with the centres of mass laid on each other, and its mirror image or exchange of axes in words.
    """
    half = _half_window((mask, reference))
    ours, theirs = _centred(mask, half), _centred(reference, half)
    total = max(int(np.count_nonzero(ours)) + int(np.count_nonzero(theirs)), 1)
    dices = [2 * int(np.count_nonzero(turn(ours, one) & theirs)) / total for one in ORIENTATIONS[1:]]
    best = int(np.argmax(dices))
    return dices[best], orientation_words(ORIENTATIONS[best + 1])


def aligned_dice(mask: BoolArray, reference: BoolArray) -> float:
    """Overlap of two masks, neither empty, when their centres of mass lie together."""
    half = _half_window((mask, reference))
    ours, theirs = _centred(mask, half), _centred(reference, half)
    total = max(int(np.count_nonzero(ours)) + int(np.count_nonzero(theirs)), 1)
    return 2 * int(np.count_nonzero(ours & theirs)) / total


def centre_of_mass(mask: BoolArray) -> FloatArray:
    """Voxel indices of the middle of a mask that is not empty."""
    box = bounding_box(mask)
    return np.argwhere(mask[box]).mean(axis=0) + [span.start for span in box]


def _half_window(masks: Sequence[BoolArray]) -> tuple[int, int, int]:
    """Half the edges, even, of a cube around the centre of each mask that holds it in every orientation."""
    reach = 0.0
    for mask in masks:
        centre = np.rint(centre_of_mass(mask))
        for middle, span in zip(centre, bounding_box(mask), strict=True):
            reach = max(reach, middle - span.start, span.stop - 1 - middle)
    half = 2 * math.ceil(reach / 2)
    return half, half, half


def _centred(mask: BoolArray, half: tuple[int, int, int]) -> BoolArray:
    """Every second voxel of the box around the centre of mass; what lies beyond the array is empty."""
    centre = np.rint(centre_of_mass(mask)).astype(int)
    window = np.zeros([2 * length + 1 for length in half], dtype=bool)
    box = bounding_box(mask)
    place = tuple(
        slice(span.start - middle + length, span.stop - middle + length)
        for span, middle, length in zip(box, centre, half, strict=True)
    )
    window[place] = mask[box]
    return window[::_STRIDE, ::_STRIDE, ::_STRIDE]
