"""Where the voxels of an array are in space, and how far the voxels of two arrays are apart."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from nibabel.affines import from_matvec

from bidsapp.arrays import FloatArray

SPACING_DECIMALS = 5
"""Spacings are rounded to 1e-5 mm: noise of 1e-7 between axes changes nnU-Net's choice of axis order."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an array are."""

    shape: tuple[int, ...]
    """Number of voxels along i, j and k."""
    affine: FloatArray
    """(4, 4) matrix from voxel indices (centres) to RAS millimetres."""

    @property
    def spacing_mm(self) -> FloatArray:
        """Distance between neighbouring voxel centres along each axis of the array, shape (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return abs(float(np.linalg.det(self.affine[:3, :3])))

    @property
    def centre_mm(self) -> FloatArray:
        """RAS coordinates of the middle of the field of view."""
        return self.affine[:3, :3] @ ((np.array(self.shape) - 1) / 2) + self.affine[:3, 3]

    def distance_mm(self, other: Grid) -> float:
        """Greatest distance between the same corner voxel of both grids; infinite when their shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        corners = np.array(list(product(*((0, length - 1) for length in self.shape))), dtype=float)
        difference = self.affine - other.affine
        apart = corners @ difference[:3, :3].T + difference[:3, 3]
        return float(np.linalg.norm(apart, axis=1).max())


def straighten(affine: FloatArray) -> FloatArray:
    """Give a (4, 4) affine spacings rounded to 1e-5 mm and the nearest orthonormal directions; the origin stays.

    Headers store single precision, and SimpleITK refuses directions that are not orthonormal.
    """
    norms = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / norms)
    scaled = (left @ right) * np.round(norms, SPACING_DECIMALS)
    return from_matvec(scaled + 0.0, affine[:3, 3])
