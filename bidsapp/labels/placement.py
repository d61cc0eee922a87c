"""Does a mask lie as another one does? Mirror images, exchanged axes and shifts, on the grid of a crop.

Axes are those of a crop as in the head: 0 runs from right to left, 1 from back to front, 2 upwards. Overlaps are
measured on every second voxel (0.6 mm), which is fine enough for a structure of 40 x 15 x 10 mm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import fft

from bidsapp.arrays import BoolArray, FloatArray
from bidsapp.corobl.grid import SPACING_MM

Box = tuple[slice, slice, slice]

_STRIDE = 2
_MIRRORS = ("left and right", "front and back", "up and down")


@dataclass(frozen=True)
class Fit:
    """How a mask fits a reference.

    Attributes
    ----------
    dice
        Overlap as they lie; NaN when both are empty, as in `bidsapp.evaluation.metrics`.
    shift_mm
        The shift of the mask, along R to L, P to A and I to S, that overlaps best; multiples of 0.6 mm.
    shifted_dice
        Overlap after it.
    """

    dice: float
    shift_mm: tuple[float, float, float]
    shifted_dice: float

    @property
    def distance_mm(self) -> float:
        """Length of `shift_mm`."""
        return math.hypot(*self.shift_mm)


@dataclass(frozen=True)
class Mirrored:
    """The mirror image or exchange of axes that fits a reference best when the centres of mass lie together."""

    words: str
    dice: float


def bounding_box(mask: BoolArray, margin: int = 0) -> Box:
    """Smallest box that holds every voxel of `mask`, which must not be empty, and `margin` voxels around it."""
    spans = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        spans.append(slice(max(int(filled[0]) - margin, 0), min(int(filled[-1]) + 1 + margin, mask.shape[axis])))
    return spans[0], spans[1], spans[2]


def fit(mask: BoolArray, reference: BoolArray) -> Fit:
    """Overlap of two masks of one shape, neither of them empty, as they lie and after the best shift."""
    box = bounding_box(mask | reference)
    ours, theirs = (one[box][::_STRIDE, ::_STRIDE, ::_STRIDE].astype(np.float32) for one in (mask, reference))
    total = float(ours.sum() + theirs.sum())
    if total == 0:  # specks that the stride steps over
        return Fit(0.0, (0.0, 0.0, 0.0), 0.0)
    shape = [fft.next_fast_len(2 * length - 1, real=True) for length in ours.shape]
    overlap = fft.irfftn(fft.rfftn(theirs, shape) * np.conj(fft.rfftn(ours, shape)), shape)
    best = np.unravel_index(int(overlap.argmax()), overlap.shape)
    steps = [int(step) - length if step > length // 2 else int(step) for step, length in zip(best, shape, strict=True)]
    x, y, z = (step * _STRIDE * SPACING_MM for step in steps)
    return Fit(2 * float(overlap[0, 0, 0]) / total, (x, y, z), 2 * float(overlap[best]) / total)


def best_mirrored(mask: BoolArray, reference: BoolArray) -> Mirrored:
    """Compare the shape of a mask, in every orientation but its own, with a reference; neither may be empty.

    Orientations are the mirror images of all axes, each also with the first and the last axis exchanged, which
    have the same length in a crop.
    """
    half = _half_window((mask, reference))
    ours, theirs = _centred(mask, half), _centred(reference, half)
    total = max(int(np.count_nonzero(ours)) + int(np.count_nonzero(theirs)), 1)
    best = Mirrored("", -1.0)
    for exchanged, *mirrored in product((False, True), repeat=4):
        if not exchanged and not any(mirrored):
            continue
        turned = np.flip(ours, tuple(axis for axis in range(3) if mirrored[axis]))
        if exchanged:
            turned = turned.transpose(2, 1, 0)
        dice = 2 * int(np.count_nonzero(turned & theirs)) / total
        if dice > best.dice:
            best = Mirrored(_orientation_words(exchanged, mirrored), dice)
    return best


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
    """Half the edges, even, of a box around the centre of each mask that holds it in every orientation."""
    reach = np.zeros(3)
    for mask in masks:
        centre = np.rint(centre_of_mass(mask))
        for axis, span in enumerate(bounding_box(mask)):
            reach[axis] = max(reach[axis], centre[axis] - span.start, span.stop - 1 - centre[axis])
    across = max(reach[0], reach[2])
    x, y, z = (2 * math.ceil(length / 2) for length in (across, reach[1], across))
    return x, y, z


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


def _orientation_words(exchanged: bool, mirrored: Sequence[bool]) -> str:
    turns = [words for words, turned in zip(_MIRRORS, mirrored, strict=True) if turned]
    parts = [f"{', '.join(turns)} mirrored"] if turns else []
    return " and ".join(parts + (["first and last axis exchanged"] if exchanged else []))
