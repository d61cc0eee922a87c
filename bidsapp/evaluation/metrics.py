"""How far a predicted mask is from a reference mask: overlap, surface distances in mm, volume error.

Arrays and their voxel spacing only, no files. What the words mean here:

surface
    The voxels of a mask with at least one face neighbour outside it. Beyond the array everything is outside,
    so a mask that touches the border of the array has a surface there. Distances run between voxel centres.
95th percentile Hausdorff distance
    The larger of the two directed 95th percentiles (linear interpolation), not the percentile of the pooled
    distances: the convention of Metrics Reloaded (Maier-Hein et al., Nature Methods 2024).
average symmetric surface distance
    The mean of all distances of both surfaces taken together (same source).
empty masks
    Both empty: there was nothing to find, Dice and distances are NaN. Exactly one empty: Dice is 0, distances
    are NaN because they have no finite value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm from every surface voxel of one mask to the nearest surface voxel of the other.

    Both arrays are one-dimensional and unordered; both are empty when either mask is empty.
    """

    from_prediction: Distances
    from_reference: Distances


def dice(prediction: Mask, reference: Mask) -> float:
    """Overlap 2|P and R| / (|P| + |R|), 0 to 1; NaN when both masks are empty (Dice 1945)."""
    _require_same_shape(prediction, reference)
    size = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    return 2.0 * int(np.count_nonzero(prediction & reference)) / size if size else math.nan


def volume_error_mm3(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> float:
    """Predicted minus true volume in mm3; negative when the prediction is too small."""
    _require_same_shape(prediction, reference)
    voxels = int(np.count_nonzero(prediction)) - int(np.count_nonzero(reference))
    return voxels * math.prod(spacing_mm)


def volume_error_percent(prediction: Mask, reference: Mask) -> float:
    """Predicted minus true volume in per cent of the true one; NaN when the reference is empty."""
    _require_same_shape(prediction, reference)
    true = int(np.count_nonzero(reference))
    return 100.0 * (int(np.count_nonzero(prediction)) - true) / true if true else math.nan


def surface_distances(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Measure both surfaces against each other, inside the box that holds both masks.

    Parameters
    ----------
    prediction, reference
        Boolean arrays of one shape, any number of dimensions.
    spacing_mm
        Distance between voxel centres along each axis of the arrays.

    Raises
    ------
    ValueError
        When the shapes differ, or `spacing_mm` does not hold one positive number per axis.
    """
    _require_same_shape(prediction, reference)
    if len(spacing_mm) != prediction.ndim or min(spacing_mm) <= 0:
        raise ValueError(f"{prediction.ndim} positive spacings are needed, got {tuple(spacing_mm)}")
    if not (prediction.any() and reference.any()):
        nothing = np.empty(0)
        return SurfaceDistances(nothing, nothing)
    box = _bounding_box(prediction | reference)
    predicted, true = surface(prediction[box]), surface(reference[box])
    return SurfaceDistances(
        from_prediction=_distance_to(true, spacing_mm)[predicted],
        from_reference=_distance_to(predicted, spacing_mm)[true],
    )


def hausdorff_mm(distances: SurfaceDistances, percentile: float = 95.0) -> float:
    """Return the larger of the two directed percentiles, in mm; NaN when a mask is empty.

    `percentile=100` is the classical Hausdorff distance between the two surfaces.
    """
    directed = (distances.from_prediction, distances.from_reference)
    if any(one.size == 0 for one in directed):
        return math.nan
    return max(float(np.percentile(one, percentile)) for one in directed)


def average_symmetric_surface_distance_mm(distances: SurfaceDistances) -> float:
    """Mean over the surface voxels of both masks together, in mm; NaN when a mask is empty."""
    both = np.concatenate([distances.from_prediction, distances.from_reference])
    return float(both.mean()) if both.size else math.nan


def surface(mask: Mask) -> Mask:
    """Voxels of `mask` with a face neighbour outside it; what lies beyond the array is outside."""
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask, border_value=0)


def _distance_to(mask: Mask, spacing_mm: Sequence[float]) -> Distances:
    """Distance in mm from every voxel to the nearest voxel of `mask`, which must not be empty."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(~mask, sampling=spacing_mm)


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Smallest box that holds every voxel of `mask`, which must not be empty."""
    axes = range(mask.ndim)
    filled = [np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    return tuple(slice(int(one[0]), int(one[-1]) + 1) for one in filled)


def _require_same_shape(prediction: Mask, reference: Mask) -> None:
    """Refuse two masks that cannot be compared voxel by voxel."""
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape")
