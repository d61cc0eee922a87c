"""Normalised mutual information (Studholme et al. 1999): how well one image tells the other's intensities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bidsapp.arrays import BoolArray, FloatArray, IntArray
from bidsapp.corobl.transforms import apply
from bidsapp.images.volumes import Volume


@dataclass(frozen=True, eq=False)
class Samples:
    """Points of the fixed image: RAS millimetres of shape (n, 3), and their intensity bins of shape (n,)."""

    points: FloatArray
    bins: IntArray
    n_bins: int


def take_samples(fixed: Volume, inside: BoolArray, n_bins: int) -> Samples:
    """Take the voxels of `fixed` where the mask, of the same shape, is true."""
    points = apply(fixed.affine, np.argwhere(inside).astype(float))
    return Samples(points, to_bins(fixed.data, n_bins)[inside], n_bins)


def normalised_mutual_information(samples: Samples, moving: Volume, moving_from_fixed: FloatArray) -> float:
    """Return (H(fixed) + H(moving)) / H(fixed, moving): 1 when unrelated, 2 when one decides the other.

    The moving image is interpolated linearly, and is 0 outside its field of view. When either is constant the
    result is 1.
    """
    voxels = apply(np.linalg.inv(moving.affine) @ moving_from_fixed, samples.points)
    values = ndimage.map_coordinates(moving.data, voxels.T, order=1, mode="grid-constant", cval=0.0)
    joint = np.bincount(
        samples.bins * samples.n_bins + to_bins(values, samples.n_bins, _limits(moving.data)),
        minlength=samples.n_bins**2,
    ).reshape(samples.n_bins, samples.n_bins)
    marginals = _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))
    together = _entropy(joint.ravel())
    return marginals / together if together > 0 else 1.0


def to_bins(values: FloatArray, n_bins: int, limits: tuple[float, float] | None = None) -> IntArray:
    """Sort values into equal bins between `limits` (default: least and greatest value)."""
    low, high = limits or _limits(values)
    if high <= low:
        return np.zeros(values.shape, dtype=np.int64)
    return np.clip((values - low) * (n_bins / (high - low)), 0, n_bins - 1).astype(np.int64)


def _limits(values: FloatArray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _entropy(counts: IntArray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
