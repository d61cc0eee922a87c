"""How much room a structure has to the borders of a crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bidsapp.arrays import BoolArray, FloatArray
from bidsapp.corobl.transforms import apply
from bidsapp.images.grids import Grid
from bidsapp.images.orientation import axes_of
from bidsapp.images.volumes import Volume
from bidsapp.records import Side

Border = Literal["lateral", "medial", "posterior", "anterior", "inferior", "superior"]

_OPPOSITE = str.maketrans("LRPAIS", "RLAPSI")
_ENDS: dict[str, Border] = {"P": "posterior", "A": "anterior", "I": "inferior", "S": "superior"}


@dataclass(frozen=True)
class Containment:
    """How a structure fits into the crop of its side."""

    margin_mm: float
    """Least distance, in CorObl millimetres, from the structure to a border of the crop: 0 when it touches, negative
    when it reaches out."""
    border: Border
    """That border."""
    share: float
    """Share of the structure's voxels that lie in the crop."""


def contain_crop_mask(mask: BoolArray, grid: Grid, side: Side) -> Containment | None:
    """Measure a mask on the grid of a crop, as in the head; None when it is empty."""
    return _contain(_voxel_corners(mask), 1.0, grid, side) if mask.any() else None


def contain_native_mask(mask: Volume, native_from_corobl: FloatArray, grid: Grid, side: Side) -> Containment | None:
    """Measure a mask on a scan's grid against a crop on `grid`; None when it is empty."""
    if not mask.data.any():
        return None
    crop_from_native = np.linalg.inv(native_from_corobl @ grid.affine) @ mask.affine
    centres = apply(crop_from_native, np.argwhere(mask.data).astype(float))
    inside = ((centres >= -0.5) & (centres <= np.array(grid.shape) - 0.5)).all(axis=1)
    return _contain(apply(crop_from_native, _voxel_corners(mask.data)), float(inside.mean()), grid, side)


def _contain(corners: FloatArray, share: float, grid: Grid, side: Side) -> Containment:
    """Measure points, shape (n, 3) in voxels of the crop, on the surface of a structure."""
    low = corners.min(axis=0) + 0.5
    high = np.array(grid.shape) - 0.5 - corners.max(axis=0)
    rooms_mm = np.stack([low, high]) * grid.spacing_mm
    end, axis = np.unravel_index(int(rooms_mm.argmin()), rooms_mm.shape)
    to_the = axes_of(grid.affine)[axis]
    letter = to_the if end else to_the.translate(_OPPOSITE)
    return Containment(round(float(rooms_mm[end, axis]), 6), _border(letter, side), share)


def _border(letter: str, side: Side) -> Border:
    """Name the end of an axis that runs to L, R, P, A, I or S."""
    return _ENDS.get(letter, "lateral" if letter == side else "medial")


def _voxel_corners(mask: BoolArray) -> FloatArray:
    """Return the corners, in voxel indices, of all voxels on the surface of the mask."""
    from scipy import ndimage

    surface = mask & ~ndimage.binary_erosion(mask)
    offsets = np.array(list(np.ndindex(2, 2, 2))) - 0.5
    return (np.argwhere(surface)[:, None, :] + offsets).reshape(-1, 3)
