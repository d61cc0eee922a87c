"""A head at coarse resolutions, on grids whose axes are R, A and S whatever the scanner did."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage

from bidsapp.arrays import BoolArray, FloatArray
from bidsapp.corobl.transforms import apply
from bidsapp.images.volumes import Volume

FINEST_MM = 2.0
_BRIGHTEST_PERCENTILE = 99.5
_DARKEST_PERCENTILE = 0.5
_NEGATIVE_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Pyramid:
    """One head at 2, 4, 6 and 8 mm; axis-aligned in RAS, background 0."""

    at_2_mm: Volume
    at_4_mm: Volume
    at_6_mm: Volume
    at_8_mm: Volume


def make_pyramid(volume: Volume) -> Pyramid:
    """Bring a head of any grid to 2, 4, 6 and 8 mm, intensities cut to [background, 99.5th percentile]."""
    finest = cut_intensities(to_isotropic(volume, FINEST_MM))
    half = average_blocks(finest, (2, 2, 2))
    return Pyramid(finest, half, average_blocks(finest, (3, 3, 3)), average_blocks(half, (2, 2, 2)))


def to_isotropic(volume: Volume, spacing_mm: float) -> Volume:
    """Resample to a grid along R, A and S that holds the whole field of view.

    Whole blocks of voxels are averaged first, so that nothing aliases and memory stays small; beyond the
    field of view the least value of the image continues.
    """
    factors = np.maximum(1, np.floor(spacing_mm / volume.spacing_mm + 1e-3)).astype(int)
    averaged = average_blocks(volume, tuple(factors))
    corners = np.array(list(product(*((-0.5, size - 0.5) for size in averaged.data.shape))))
    places = apply(averaged.affine, corners)
    low, high = places.min(axis=0), places.max(axis=0)
    shape = np.maximum(1, np.ceil((high - low) / spacing_mm - 1e-3)).astype(int)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = (low + high - (shape - 1) * spacing_mm) / 2
    source_from_target = np.linalg.inv(averaged.affine) @ affine
    data = ndimage.affine_transform(
        averaged.data,
        source_from_target[:3, :3],
        source_from_target[:3, 3],
        tuple(shape),
        order=1,
        mode="grid-constant",
        cval=float(averaged.data.min()),
    )
    return Volume(data, affine)


def average_blocks(volume: Volume, factors: tuple[int, ...]) -> Volume:
    """Average blocks of `factors` voxels; an incomplete block at the end is filled with its last layer."""
    data = volume.data
    for axis, factor in enumerate(factors):
        data = _average_axis(data, axis, factor)
    affine = volume.affine.copy()
    affine[:3, :3] *= factors
    affine[:3, 3] = apply(volume.affine, (np.array(factors) - 1) / 2)
    return Volume(data, affine)


def cut_intensities(volume: Volume) -> Volume:
    """Cut intensities above the 99.5th percentile and below the background, and move the background to 0.

    The background is 0, unless the image goes far below (CT, z-scores): then it is the commonest value on
    the faces of the field of view.
    """
    low, high = np.percentile(volume.data, [_DARKEST_PERCENTILE, _BRIGHTEST_PERCENTILE])
    if not has_negative_signal(volume):
        return Volume(np.clip(volume.data, 0, max(high, 0)), volume.affine)
    background = np.median(np.concatenate([face.ravel() for face in _faces(volume.data)]))
    return Volume(np.clip(volume.data, low, high) - np.clip(background, low, high), volume.affine)


def has_negative_signal(volume: Volume) -> bool:
    """Tell whether the image goes below 0 by more than ringing does: 5 % of its brightest values."""
    low, high = np.percentile(volume.data, [_DARKEST_PERCENTILE, _BRIGHTEST_PERCENTILE])
    return bool(low < -_NEGATIVE_SHARE * high)


def field_of_view(volume: Volume, grid: Volume) -> BoolArray:
    """Tell which voxels of `grid` have their centre in the field of view of `volume`."""
    voxel_from_grid = np.linalg.inv(volume.affine) @ grid.affine
    inside = np.ones(grid.data.shape, dtype=bool)
    indices = np.ogrid[tuple(slice(size) for size in grid.data.shape)]
    for axis, size in enumerate(volume.data.shape):
        row = voxel_from_grid[axis]
        voxel = row[0] * indices[0] + row[1] * indices[1] + row[2] * indices[2] + row[3]
        inside &= (voxel >= -0.5) & (voxel <= size - 0.5)
    return inside


def pad(volume: Volume, margin_mm: float) -> Volume:
    """Surround a volume with background on all sides."""
    widths = np.ceil(margin_mm / volume.spacing_mm).astype(int)
    affine = volume.affine.copy()
    affine[:3, 3] = apply(volume.affine, -widths.astype(float))
    return Volume(np.pad(volume.data, [(width, width) for width in widths]), affine)


def _average_axis(data: FloatArray, axis: int, factor: int) -> FloatArray:
    if factor == 1:
        return data
    missing = -data.shape[axis] % factor
    if missing:
        widths = [(0, missing if axis == padded else 0) for padded in range(3)]
        data = np.pad(data, widths, mode="edge")
    shape = [*data.shape[:axis], data.shape[axis] // factor, factor, *data.shape[axis + 1 :]]
    return data.reshape(shape).mean(axis=axis + 1, dtype=np.float32)


def _faces(data: FloatArray) -> list[FloatArray]:
    return [np.take(data, index, axis) for axis in range(3) for index in (0, -1)]
