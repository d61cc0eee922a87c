"""Expectations are computed by hand, or by brute force over all pairs of surface voxels."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from bidsapp.evaluation.metrics import (
    SurfaceDistances,
    average_symmetric_surface_distance_mm,
    dice,
    hausdorff_mm,
    surface,
    surface_distances,
    volume_error_mm3,
    volume_error_percent,
)

EMPTY = np.zeros((6, 7, 8), bool)


def box(x, y, z, shape=EMPTY.shape):
    mask = np.zeros(shape, bool)
    mask[slice(*x), slice(*y), slice(*z)] = True
    return mask


def blob(seed, shape=(18, 15, 12)):
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2) > 0.03


CUBE = box((1, 4), (1, 4), (1, 4))
SHIFTED = box((2, 5), (1, 4), (1, 4))
POINT = box((0, 1), (0, 1), (0, 1))
OTHER_POINT = box((1, 2), (2, 3), (0, 1))
PLANE = box((0, 6), (0, 7), (2, 3))
OTHER_PLANE = box((0, 6), (0, 7), (4, 5))

# prediction, reference, spacing_mm, hd95_mm, assd_mm
DISTANCES = {
    "identical": (CUBE, CUBE, (1, 2, 3), 0.0, 0.0),
    "two single voxels: sqrt(1^2 + 4^2)": (POINT, OTHER_POINT, (1, 2, 0.5), 4.1231056, 4.1231056),
    "planes two voxels of 0.3 mm apart": (PLANE, OTHER_PLANE, (1, 2, 0.3), 0.6, 0.6),
    # Of the 26 surface voxels of each, the 9 of the far face and the 1 inside the other cube are 1 mm off.
    "cubes one voxel of 1 mm apart": (CUBE, SHIFTED, (1, 2, 3), 1.0, 10 / 26),
}


@pytest.mark.parametrize(("prediction", "reference", "spacing", "hd95", "assd"), DISTANCES.values(), ids=DISTANCES)
def test_distances_in_mm(prediction, reference, spacing, hd95, assd):
    distances = surface_distances(prediction, reference, spacing)
    assert hausdorff_mm(distances) == pytest.approx(hd95)
    assert average_symmetric_surface_distance_mm(distances) == pytest.approx(assd)


# prediction, reference, dice, volume error at 1 x 2 x 0.5 mm, the same in per cent
OVERLAPS = {
    "identical": (CUBE, CUBE, 1.0, 0.0, 0.0),
    "disjoint, as large": (POINT, OTHER_POINT, 0.0, 0.0, 0.0),
    "18 of 27 shared": (CUBE, SHIFTED, 36 / 54, 0.0, 0.0),
    "42 voxels for 27, 9 shared": (PLANE, CUBE, 18 / 69, 15.0, 100 * 15 / 27),
    "too small": (POINT, PLANE, 0.0, -41.0, -100 * 41 / 42),
    "nothing predicted": (EMPTY, CUBE, 0.0, -27.0, -100.0),
    "nothing to find": (CUBE, EMPTY, 0.0, 27.0, math.nan),
    "both empty": (EMPTY, EMPTY, math.nan, 0.0, math.nan),
}


@pytest.mark.parametrize(("prediction", "reference", "overlap", "mm3", "percent"), OVERLAPS.values(), ids=OVERLAPS)
def test_overlap_and_volume(prediction, reference, overlap, mm3, percent):
    assert dice(prediction, reference) == pytest.approx(overlap, nan_ok=True)
    assert volume_error_mm3(prediction, reference, (1, 2, 0.5)) == pytest.approx(mm3)
    assert volume_error_percent(prediction, reference) == pytest.approx(percent, nan_ok=True)


@pytest.mark.parametrize(("prediction", "reference"), [(EMPTY, CUBE), (CUBE, EMPTY), (EMPTY, EMPTY)])
def test_distances_of_an_empty_mask_are_undefined(prediction, reference):
    distances = surface_distances(prediction, reference, (1, 1, 1))
    assert math.isnan(hausdorff_mm(distances))
    assert math.isnan(average_symmetric_surface_distance_mm(distances))


def test_the_percentile_is_taken_in_each_direction_and_interpolated():
    """22 voxels against 20: distances 20 x 0, 1, 2; rank .95 * 21 = 19.95 gives .95 (pooled gives 0)."""
    line, reference = box((0, 22), (0, 1), (0, 1), (22, 1, 1)), box((0, 20), (0, 1), (0, 1), (22, 1, 1))
    for distances in (
        surface_distances(line, reference, (1, 1, 1)),
        surface_distances(reference, line, (1, 1, 1)),
    ):
        assert hausdorff_mm(distances) == pytest.approx(0.95)
        assert hausdorff_mm(distances, percentile=100) == 2.0
        assert average_symmetric_surface_distance_mm(distances) == pytest.approx(3 / 42)


def test_the_surface_is_the_outermost_layer_of_voxels():
    assert np.array_equal(CUBE & ~surface(CUBE), box((2, 3), (2, 3), (2, 3)))


def test_a_mask_at_the_border_of_the_array_has_its_surface_there():
    assert np.count_nonzero(surface(np.ones((3, 3, 3), bool))) == 26


@pytest.mark.parametrize("seed", range(4))
def test_empty_space_around_the_masks_changes_nothing(seed):
    prediction, reference = blob(seed), blob(seed + 10)
    padded = surface_distances(np.pad(prediction, 3), np.pad(reference, 3), (0.3, 0.7, 1.1))
    tight = surface_distances(prediction, reference, (0.3, 0.7, 1.1))
    assert np.array_equal(padded.from_prediction, tight.from_prediction)
    assert np.array_equal(padded.from_reference, tight.from_reference)


def by_brute_force(prediction, reference, spacing):
    ends = [np.argwhere(surface(mask)) * spacing for mask in (prediction, reference)]
    between = cdist(*ends)
    return SurfaceDistances(between.min(axis=1), between.min(axis=0))


@pytest.mark.parametrize("seed", range(4))
def test_agreement_with_brute_force(seed):
    prediction, reference, spacing = blob(seed), blob(seed + 10), (0.3, 0.7, 1.1)
    ours, expected = (
        surface_distances(prediction, reference, spacing),
        by_brute_force(prediction, reference, spacing),
    )
    assert ours.from_prediction == pytest.approx(expected.from_prediction)
    assert ours.from_reference == pytest.approx(expected.from_reference)


@pytest.mark.parametrize("seed", range(4))
def test_agreement_with_simpleitk(seed):
    sitk = pytest.importorskip("SimpleITK")
    prediction, reference, spacing = blob(seed), blob(seed + 10), (0.3, 0.7, 1.1)
    images = []
    for mask in (prediction, reference):
        images.append(sitk.GetImageFromArray(surface(mask).astype(np.uint8).T))
        images[-1].SetSpacing(spacing)
    judge = sitk.HausdorffDistanceImageFilter()
    judge.Execute(*images)
    ours = surface_distances(prediction, reference, spacing)
    assert hausdorff_mm(ours, percentile=100) == pytest.approx(judge.GetHausdorffDistance(), rel=1e-5)


@pytest.mark.parametrize(
    ("other", "spacing"),
    [(CUBE[1:], (1, 1, 1)), (CUBE, (1, 1)), (CUBE, (1, 0, 1))],
    ids=["shape", "two spacings", "zero spacing"],
)
def test_what_cannot_be_compared_is_refused(other, spacing):
    with pytest.raises(ValueError):
        surface_distances(CUBE, other, spacing)
