"""Where voxels of one array lie beside those of another, and arrays brought to the axes of another."""

from __future__ import annotations

from itertools import product

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

from bidsapp.arrays import FloatArray


def greatest_distance_mm(shape: tuple[int, ...], first: FloatArray, second: FloatArray) -> float:
    """Greatest distance between the places of one corner voxel of an array of `shape` under two (4, 4) matrices."""
    corners = np.array(list(product(*((0, length - 1) for length in shape))), dtype=float)
    apart = corners @ (first - second)[:3, :3].T + (first - second)[:3, 3]
    return float(np.linalg.norm(apart, axis=1).max())


def bring_to_grid(
    values: np.ndarray, affine: FloatArray, shape: tuple[int, ...], target: FloatArray, *, tolerance_mm: float
) -> np.ndarray | None:
    """Reorder and reverse axes so that every voxel keeps its place in the head and lies on another grid.

    Nothing is interpolated: where corner voxels would lie farther than `tolerance_mm` from the grid's, the result is
    None. Voxels that lie on the grid already are returned as they are.

    Parameters
    ----------
    values, affine
        (i, j, k) and its (4, 4) matrix from voxel indices to RAS mm.
    shape, target
        Of the grid to be on.
    """
    if values.shape == shape and greatest_distance_mm(shape, affine, target) <= tolerance_mm:
        return values
    turn = ornt_transform(io_orientation(affine), io_orientation(target))
    if np.isnan(turn).any():
        return None
    turned_affine = affine @ inv_ornt_aff(turn, values.shape)
    turned = apply_orientation(values, turn)
    if turned.shape != shape or greatest_distance_mm(shape, turned_affine, target) > tolerance_mm:
        return None
    return turned
