"""Stray pieces and holes that a mask has and a reference has not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bidsapp.arrays import BoolArray, IntArray
from bidsapp.guards.placement import bounding_box

_TOUCHING = np.ones((3, 3, 3))
_KNOWN_SHARE = 0.5
"""Share of a piece or hole that must lie in one of the reference's to be the same one."""


@dataclass(frozen=True)
class Piece:
    """A piece apart from the largest, or a hole."""

    voxel: tuple[int, int, int]
    """Voxel indices of one of its voxels, where a person can go and look."""
    volume_mm3: float
    distance_mm: float = 0.0
    """Gap to the largest piece; 0 for a hole."""


def new_pieces(mask: BoolArray, reference: BoolArray | None, spacing_mm: Sequence[float]) -> tuple[Piece, ...]:
    """Pieces, connected by faces, edges or corners, that are apart from the largest, the greatest first.

    A piece is known, and left out, when half of it lies in pieces of `reference` that are apart as well.
    """
    if not mask.any():
        return ()
    box = bounding_box(mask, margin=1)
    apart, count = _apart(mask[box])
    if not count:
        return ()
    known = _apart(reference[box])[0] > 0 if reference is not None else None
    main = mask[box] & (apart == 0)
    return _describe(apart, count, box, known, ndimage.distance_transform_edt(~main, sampling=spacing_mm), spacing_mm)


def new_holes(mask: BoolArray, reference: BoolArray | None, spacing_mm: Sequence[float]) -> tuple[Piece, ...]:
    """Background that faces of the mask enclose; known holes of `reference` are left out as in `new_pieces`."""
    if not mask.any():
        return ()
    box = bounding_box(mask, margin=1)
    holes, count = _enclosed(mask[box])
    if not count:
        return ()
    known = _enclosed(reference[box])[0] > 0 if reference is not None else None
    return _describe(holes, count, box, known, None, spacing_mm)


def _apart(mask: BoolArray) -> tuple[IntArray, int]:
    """Number all pieces but the largest."""
    pieces, count = ndimage.label(mask, structure=_TOUCHING)
    if count < 2:
        return np.zeros_like(pieces), 0
    pieces[pieces == np.bincount(pieces.ravel())[1:].argmax() + 1] = 0
    return ndimage.label(pieces > 0, structure=_TOUCHING)


def _enclosed(mask: BoolArray) -> tuple[IntArray, int]:
    """Number the background components that do not reach the faces of the array."""
    background, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    inner = background[1:-1, 1:-1, 1:-1]
    return ndimage.label((inner > 0) & (inner != background[0, 0, 0]))


def _describe(
    pieces: IntArray,
    count: int,
    box: tuple[slice, slice, slice],
    known: BoolArray | None,
    distances_mm: np.ndarray | None,
    spacing_mm: Sequence[float],
) -> tuple[Piece, ...]:
    found = []
    for number, span in enumerate(ndimage.find_objects(pieces, count), start=1):
        voxels = pieces[span] == number
        size = int(np.count_nonzero(voxels))
        if known is not None and np.count_nonzero(voxels & known[span]) >= _KNOWN_SHARE * size:
            continue
        first = np.argwhere(voxels)[0]
        x, y, z = (int(f + s.start + b.start) for f, s, b in zip(first, span, box, strict=True))
        gap = float(distances_mm[span][voxels].min()) - min(spacing_mm) if distances_mm is not None else 0.0
        found.append(Piece((x, y, z), size * float(np.prod(spacing_mm)), gap))
    return tuple(sorted(found, key=lambda piece: -piece.volume_mm3))
