"""Scans to crops, and labels there and back."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from bidsapp.corobl.bias import divide_by_bias, estimate_bias
from bidsapp.corobl.grid import GRIDS, TEMPLATE_FROM_COROBL
from bidsapp.corobl.resampling import labels_to_native, resample_labels, resample_to_crop
from bidsapp.corobl.template import load_hippocampus
from bidsapp.corobl.transforms import apply
from bidsapp.images.grids import Grid
from bidsapp.images.volumes import Volume, read_volume
from bidsapp.records import SIDES, Side

OBLIQUE = np.array([[0, 0.1, 1.0, -60], [-1.0, 0.1, 0, 80], [0.1, 1.0, -0.1, -60], [0, 0, 0, 1]])
"""A 1 mm grid whose axes run to P, S and R, slightly oblique and sheared."""
SCAN = Grid((150, 160, 150), OBLIQUE)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * np.sum(first & second) / (np.sum(first) + np.sum(second)))


def test_a_ramp_is_sampled_exactly_through_an_oblique_grid() -> None:
    voxels = np.moveaxis(np.indices((90, 90, 130), dtype=float), 0, -1)
    ramp = apply(OBLIQUE, voxels) @ [1.0, 2.0, 3.0] + 1000
    crop = resample_to_crop(Volume(ramp.astype(np.float32), OBLIQUE), np.eye(4), GRIDS["L"])
    inside = voxels_inside(OBLIQUE, (90, 90, 130), "L", margin=6)
    expected = apply(GRIDS["L"].affine, np.argwhere(inside).astype(float)) @ [1.0, 2.0, 3.0] + 1000
    assert inside.sum() > 500_000
    np.testing.assert_allclose(crop[inside], expected, atol=0.1)


def voxels_inside(affine: np.ndarray, shape: tuple[int, ...], side: Side, margin: float) -> np.ndarray:
    centres = np.moveaxis(np.indices(GRIDS[side].shape, dtype=float), 0, -1)
    voxels = apply(np.linalg.inv(affine) @ GRIDS[side].affine, centres)
    return ((voxels >= margin) & (voxels <= np.array(shape) - 1 - margin)).all(axis=-1)


def test_a_bright_voxel_on_the_left_lands_in_the_left_crop_only() -> None:
    data = np.zeros((90, 90, 130), dtype=np.float32)
    # CorObl RAS (-20, 0, -10) by hand: voxel (j, k, l) with OBLIQUE @ v = (-20, 0, -10), near (83, 42, 36).
    voxel = np.rint(apply(np.linalg.inv(OBLIQUE), np.array([-20.0, 0, -10]))).astype(int)
    data[tuple(voxel)] = 100
    left = resample_to_crop(Volume(data, OBLIQUE), np.eye(4), GRIDS["L"])
    assert resample_to_crop(Volume(data, OBLIQUE), np.eye(4), GRIDS["R"]).max() == 0
    found = apply(GRIDS["L"].affine, np.array(np.unravel_index(left.argmax(), left.shape), dtype=float))
    np.testing.assert_allclose(found, apply(OBLIQUE, voxel.astype(float)), atol=0.3)


def test_the_spline_neither_overshoots_nor_leaks_into_the_background() -> None:
    data = np.zeros((60, 100, 60), dtype=np.float32)
    data[20:40, 30:70, 20:40] = 100
    affine = np.array([[-1.0, 0, 0, 8], [0, 1, 0, -60], [0, 0, 1, -45], [0, 0, 0, 1]])
    crop = resample_to_crop(Volume(data, affine), np.eye(4), GRIDS["L"])
    assert (crop.min(), crop.max()) == (0, 100)
    assert np.unique(crop[:30]).tolist() == [0]
    middle = np.rint(apply(np.linalg.inv(GRIDS["L"].affine), np.array([-20.0, -10, -15]))).astype(int)
    assert crop[tuple(middle)] == pytest.approx(100, abs=0.5)


def test_a_crop_beyond_the_field_of_view_is_empty_there() -> None:
    data = np.full((30, 30, 30), 50, dtype=np.float32)
    near = np.array([[1.0, 0, 0, -30], [0, 1, 0, -15], [0, 0, 1, -25], [0, 0, 0, 1]])
    crop = resample_to_crop(Volume(data, near), np.eye(4), GRIDS["L"])
    inside = voxels_inside(near, data.shape, "L", margin=0)
    np.testing.assert_allclose(crop[inside], 50, atol=1e-3)
    outside = ~voxels_inside(near, data.shape, "L", margin=-0.6)
    assert not crop[outside].any()
    far = near.copy()
    far[0, 3] = 500
    assert not resample_to_crop(Volume(data, far), np.eye(4), GRIDS["L"]).any()


def test_the_crop_of_the_template_looks_like_hippunfolds(template_scan: Volume) -> None:
    for side in SIDES:
        crop = resample_to_crop(template_scan, TEMPLATE_FROM_COROBL, GRIDS[side])
        hippocampus = load_hippocampus(side)
        rim = ndimage.binary_dilation(hippocampus, iterations=8) & ~ndimage.binary_dilation(hippocampus)
        # Grey matter inside, white matter and fluid around: even, and between the two.
        assert 110 < np.median(crop[hippocampus]) < 150
        assert crop[hippocampus].std() < 0.7 * crop[rim].std()


def test_the_crop_agrees_with_the_reference(shared_data: Path, template_scan: Volume) -> None:
    reference = nib.load(shared_data / "citi168_corobl" / "T2w_300umCoronalOblique_hemi-L.nii.gz")
    crop = resample_to_crop(template_scan, TEMPLATE_FROM_COROBL, GRIDS["L"])
    t2w = ndimage.gaussian_filter(np.asarray(reference.dataobj, dtype=np.float32), 3)
    here = np.corrcoef(crop.ravel(), t2w.ravel())[0, 1]
    moved = [np.corrcoef(np.roll(crop, 10, axis).ravel(), t2w.ravel())[0, 1] for axis in range(3)]
    mirrored = np.corrcoef(crop[::-1].ravel(), t2w.ravel())[0, 1]
    # T2w is dark where T1w is bright, and most so where the two lie on each other.
    assert here < -0.2
    assert here < min([*moved, mirrored]) - 0.05


@pytest.mark.parametrize("side", SIDES)
def test_labels_survive_the_way_to_one_millimetre_and_back(side: Side) -> None:
    hippocampus = load_hippocampus(side)
    halves = hippocampus.astype(np.uint8) * 3
    halves[:, :128][hippocampus[:, :128]] = 7
    native = labels_to_native(Volume(halves, GRIDS[side].affine), np.eye(4), SCAN)
    assert np.unique(native).tolist() == [0, 3, 7]
    back = resample_labels(native, np.linalg.inv(OBLIQUE) @ GRIDS[side].affine, GRIDS[side].shape)
    assert dice(back > 0, hippocampus) > 0.92
    native_mm3 = np.sum(native > 0) * abs(np.linalg.det(OBLIQUE[:3, :3]))
    assert np.count_nonzero(back) * 0.027 == pytest.approx(native_mm3, rel=0.015)
    assert native_mm3 == pytest.approx(np.count_nonzero(hippocampus) * 0.027, rel=0.03)
    again = labels_to_native(Volume(back, GRIDS[side].affine), np.eye(4), SCAN)
    assert dice(again > 0, native > 0) >= 0.9995


def test_labels_in_native_space_are_those_of_a_dense_majority_vote() -> None:
    hippocampus = load_hippocampus("R")
    affine = np.array([[-0.9, 0, 0.1, 42], [0, 1.0, 0, -42], [0, 0.1, 1.2, -26], [0, 0, 0, 1]])
    shape = (36, 60, 26)
    labels = Volume(hippocampus.astype(np.uint8), GRIDS["R"].affine)
    native = labels_to_native(labels, np.eye(4), Grid(shape, affine)) > 0
    votes = np.zeros(shape)
    for place in np.ndindex(9, 9, 9):
        centres = np.moveaxis(np.indices(shape, dtype=float), 0, -1) + (np.array(place) + 0.5) / 9 - 0.5
        voxels = apply(np.linalg.inv(GRIDS["R"].affine) @ affine, centres)
        votes += ndimage.map_coordinates(hippocampus.astype(np.uint8), np.moveaxis(voxels, -1, 0), order=0)
    majority = votes > 364
    assert dice(native, majority) > 0.995
    assert np.sum(native) == pytest.approx(np.sum(majority), rel=0.01)


def test_a_left_label_stays_left_in_the_scan() -> None:
    native = labels_to_native(Volume(load_hippocampus("L").astype(np.uint8), GRIDS["L"].affine), np.eye(4), SCAN)
    x_mm = apply(OBLIQUE, np.argwhere(native).astype(float))[:, 0]
    assert x_mm.size > 2000
    assert x_mm.max() < 0


def test_resampling_to_the_same_grid_changes_nothing() -> None:
    labels = np.random.default_rng(0).integers(0, 5, (12, 13, 14)).astype(np.uint8)
    np.testing.assert_array_equal(resample_labels(labels, np.eye(4), labels.shape), labels)


def test_no_labels_give_no_labels() -> None:
    assert not resample_labels(np.zeros((5, 5, 5), np.uint8), np.eye(4), (7, 7, 7)).any()


def test_a_label_outside_the_target_is_left_out() -> None:
    labels = np.zeros((9, 9, 9), dtype=np.uint8)
    labels[1, 1, 1] = 2
    away = np.eye(4)
    away[:3, 3] = 5
    assert not resample_labels(labels, away, (4, 4, 4)).any()


def test_a_real_label_returns_unchanged(shared_data: Path) -> None:
    path = next((shared_data / "aomic_piop2").glob("derivatives/*/*/anat/*_dseg.nii.gz"))
    volume = read_volume(path, "scan")
    rotation = np.array([[0.98, -0.17, 0, 2], [0.17, 0.98, 0, -21], [0, 0, 1.02, 18], [0, 0, 0, 1]])
    native = np.where(volume.data == 1, 1, 0).astype(np.uint8)
    native_from_corobl = rotation.copy()
    centre = apply(volume.affine, np.argwhere(native).mean(axis=0))
    middle = apply(GRIDS["L"].affine, (np.array(GRIDS["L"].shape) - 1) / 2)
    native_from_corobl[:3, 3] = centre - rotation[:3, :3] @ middle
    native_from_crop = np.linalg.inv(volume.affine) @ native_from_corobl @ GRIDS["L"].affine
    crop = resample_labels(native, native_from_crop, GRIDS["L"].shape)
    voxel_mm3 = 0.027 * abs(np.linalg.det(native_from_corobl[:3, :3]))
    assert crop.sum() * voxel_mm3 == pytest.approx(native.sum(), rel=0.01)
    back = labels_to_native(Volume(crop, GRIDS["L"].affine), native_from_corobl, volume.grid)
    assert dice(back > 0, native > 0) >= 0.9995


def test_n4_flattens_a_field_that_was_put_in(template_scan: Volume) -> None:
    x = np.linspace(-1, 1, template_scan.data.shape[0])[:, None, None]
    field = np.exp(0.4 * x + np.zeros(template_scan.data.shape)).astype(np.float32)
    log_bias = estimate_bias(Volume(template_scan.data * field, template_scan.affine))
    assert log_bias is not None
    flat = divide_by_bias(template_scan.data * field, template_scan.affine, log_bias)
    own_bias = estimate_bias(template_scan)
    assert own_bias is not None
    own_flat = divide_by_bias(template_scan.data, template_scan.affine, own_bias)
    bright = template_scan.data > 150
    assert np.log(field[bright]).std() > 0.15
    assert np.log(flat[bright] / own_flat[bright]).std() < 0.03


def test_n4_leaves_z_scores_and_constants_alone() -> None:
    affine = np.diag([4.0, 4, 4, 1])
    scores = np.random.default_rng(0).normal(size=(30, 30, 30)).astype(np.float32)
    assert estimate_bias(Volume(scores, affine)) is None
    assert estimate_bias(Volume(np.full((30, 30, 30), 5, np.float32), affine)) is None
