"""What can be said about labels in a crop: volumes in the person's millimetres, room to the border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bidsapp.arrays import BoolArray, FloatArray, IntArray
from bidsapp.corobl.grid import GRIDS, SPACING_MM, VOXEL_VOLUME_MM3
from bidsapp.corobl.transforms import apply
from bidsapp.records import Side

Border = Literal["lateral", "medial", "posterior", "anterior", "inferior", "superior"]

_BORDERS: dict[Side, tuple[tuple[Border, Border], ...]] = {
    "L": (("medial", "lateral"), ("posterior", "anterior"), ("inferior", "superior")),
    "R": (("lateral", "medial"), ("posterior", "anterior"), ("inferior", "superior")),
}


@dataclass(frozen=True)
class Containment:
    """How a structure fits into the crop of its side.

    Attributes
    ----------
    margin_mm
        Least distance, in CorObl millimetres, from the structure to a border of the crop: 0 when it touches,
        negative when it reaches out.
    border
        That border.
    share
        Share of the structure's voxels that lie in the crop.
    """

    margin_mm: float
    border: Border
    share: float


def volumes_mm3(labels: IntArray, native_from_corobl: FloatArray) -> dict[int, float]:
    """Return the volume in the scan of each label of a crop except 0, in mm3, by ascending value.

    Voxels x 0.027 mm3 x the determinant of the map to the scan: a count in the scan's own grid would lose
    labels that are thinner than its voxels.
    """
    voxel_mm3 = VOXEL_VOLUME_MM3 * abs(float(np.linalg.det(native_from_corobl[:3, :3])))
    values, counts = np.unique(labels, return_counts=True)
    return {int(v): int(n) * voxel_mm3 for v, n in zip(values, counts, strict=True) if v}


def contain_crop_mask(mask: BoolArray, side: Side) -> Containment | None:
    """Measure a mask on the grid of a crop, as in the head; None when it is empty."""
    return _contain(_voxel_corners(mask), 1.0, side) if mask.any() else None


def contain_native_mask(
    mask: BoolArray, affine: FloatArray, native_from_corobl: FloatArray, side: Side
) -> Containment | None:
    """Measure a mask on a scan's grid (`affine`) against the crop of a side; None when it is empty."""
    if not mask.any():
        return None
    crop_from_native = np.linalg.inv(native_from_corobl @ GRIDS[side].affine) @ affine
    centres = apply(crop_from_native, np.argwhere(mask).astype(float))
    inside = ((centres >= -0.5) & (centres <= np.array(GRIDS[side].shape) - 0.5)).all(axis=1)
    return _contain(apply(crop_from_native, _voxel_corners(mask)), float(inside.mean()), side)


def _contain(corners: FloatArray, share: float, side: Side) -> Containment:
    """Measure points, shape (n, 3) in voxels of the crop, on the surface of a structure."""
    low = corners.min(axis=0) + 0.5
    high = np.array(GRIDS[side].shape) - 0.5 - corners.max(axis=0)
    rooms = np.stack([low, high], axis=1)
    axis, end = np.unravel_index(int(rooms.argmin()), rooms.shape)
    return Containment(
        round(float(rooms[axis, end]) * SPACING_MM, 6),
        _BORDERS[side][int(axis)][int(end)],
        share,
    )


def _voxel_corners(mask: BoolArray) -> FloatArray:
    """Return the corners, in voxel indices, of all voxels on the surface of the mask."""
    from scipy import ndimage

    surface = mask & ~ndimage.binary_erosion(mask)
    offsets = np.array(list(np.ndindex(2, 2, 2))) - 0.5
    return (np.argwhere(surface)[:, None, :] + offsets).reshape(-1, 3)
