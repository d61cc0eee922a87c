"""The CorObl grids against numbers worked out by hand, and against HippUnfold's own files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.corobl.grid import GRIDS, TEMPLATE_FROM_COROBL, crop_image, read_crop, read_crop_grid
from bidsapp.corobl.template import hippocampus_on, hippocampus_points, load_hippocampus
from bidsapp.corobl.transforms import apply
from bidsapp.images.grids import Grid
from bidsapp.images.writing import new_image, write_image
from bidsapp.records import SIDES, Side


@pytest.mark.parametrize(
    ("side", "voxel", "expected_mm"),
    [
        ("L", (0, 0, 0), (-2.3, -51.1, -32.7)),
        ("L", (127, 255, 127), (-40.4, 25.4, 5.4)),
        ("R", (0, 0, 0), (41.5, -50.5, -31.5)),
        ("R", (127, 255, 127), (3.4, 26.0, 6.6)),
    ],
)
def test_corners_of_the_crops(side: Side, voxel: tuple[int, ...], expected_mm: tuple[float, ...]) -> None:
    assert apply(GRIDS[side].affine, np.array(voxel, dtype=float)) == pytest.approx(expected_mm, abs=1e-9)


def test_the_pitch_is_36_degrees_about_the_left_right_axis() -> None:
    # CorObl A (0, 1, 0) points forward and down in CIT168: (0, cos 36, -sin 36).
    forward = TEMPLATE_FROM_COROBL[:3, :3] @ [0, 1, 0]
    assert forward == pytest.approx([0, np.cos(np.radians(36)), -np.sin(np.radians(36))], abs=1e-6)
    assert apply(TEMPLATE_FROM_COROBL, np.zeros(3)) == pytest.approx([0, -4.36795, -9.04318])
    assert np.linalg.det(TEMPLATE_FROM_COROBL) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("side", "sign"), [("L", -1), ("R", 1)])
def test_the_left_crop_holds_the_left_of_the_head(side: Side, sign: int) -> None:
    assert np.all(sign * hippocampus_points(side)[:, 0] > 0)


def test_a_crop_survives_the_disk_and_simpleitk_sees_the_same_place(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    data = np.zeros(GRIDS["L"].shape, dtype=np.uint8)
    data[5, 6, 7] = 1
    nib.save(crop_image(data, "L"), tmp_path / "crop.nii.gz")
    read = nib.load(tmp_path / "crop.nii.gz")
    np.testing.assert_allclose(read.affine, GRIDS["L"].affine, atol=1e-6)
    image = sitk.ReadImage(str(tmp_path / "crop.nii.gz"))
    place = image.TransformIndexToPhysicalPoint((5, 6, 7))
    # By hand: RAS (-2.3 - 1.5, -51.1 + 1.8, -32.7 + 2.1), in LPS.
    assert place == pytest.approx((3.8, 49.3, -30.6), abs=1e-4)


def test_a_crop_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not \(3, 4, 5\)"):
        crop_image(np.zeros((3, 4, 5)), "L")


def test_the_grid_is_that_of_the_reference(shared_data: Path) -> None:
    reference = nib.load(shared_data / "citi168_corobl" / "Mask_300umCoronalOblique_hemi-L.nii.gz")
    assert reference.shape == GRIDS["L"].shape
    np.testing.assert_allclose(reference.affine, GRIDS["L"].affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(reference.dataobj) > 0.5, load_hippocampus("L"))


@pytest.mark.parametrize("side", SIDES)
def test_the_grid_of_a_crop_is_its_header_without_the_noise_of_single_precision(tmp_path: Path, side: Side) -> None:
    path = tmp_path / "crop.nii.gz"
    write_image(path, crop_image(np.zeros(GRIDS[side].shape, np.uint8), side))
    grid = read_crop_grid(path)
    assert grid.shape == GRIDS[side].shape
    np.testing.assert_array_equal(grid.affine, GRIDS[side].affine)
    np.testing.assert_array_equal(read_crop(path).affine, GRIDS[side].affine)


def test_a_crop_that_was_moved_is_where_its_header_says(tmp_path: Path) -> None:
    moved = Grid((100, 200, 110), GRIDS["L"].affine.copy())
    moved.affine[:3, 3] += (-3.0, 6.0, 1.5)  # 10, 20 and 5 voxels further
    path = tmp_path / "crop.nii.gz"
    write_image(path, new_image(np.zeros(moved.shape, np.uint8), moved.affine))
    np.testing.assert_allclose(read_crop_grid(path).affine, moved.affine, atol=1e-12)
    expected = load_hippocampus("L")[10:110, 20:220, 5:115]
    np.testing.assert_array_equal(hippocampus_on(read_crop_grid(path), "L"), expected)
    elsewhere = Grid((9, 9, 9), np.diag([1.0, 1, 1, 1]) + 500 * np.eye(4, k=3))
    assert not hippocampus_on(elsewhere, "L").any()


def test_sides_are_left_then_right() -> None:
    assert SIDES == ("L", "R")
