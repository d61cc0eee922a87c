"""Affine maps and their ITK file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bidsapp.corobl.transforms import apply, lps_from_ras, nearest_rotation, read_transform, write_transform
from bidsapp.errors import BadDataError


@pytest.fixture
def affine() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3] = np.random.default_rng(3).normal(size=(3, 4))
    return matrix


def test_lps_turns_the_first_two_axes() -> None:
    ras = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [0, 0, 0, 1]])
    lps = [[1, 2, -3, -4], [5, 6, -7, -8], [-9, -10, 11, 12], [0, 0, 0, 1]]
    np.testing.assert_array_equal(lps_from_ras(ras), lps)


def test_the_file_keeps_every_bit(tmp_path: Path, affine: np.ndarray) -> None:
    write_transform(tmp_path / "xfm.txt", affine)
    np.testing.assert_array_equal(read_transform(tmp_path / "xfm.txt"), affine)


def test_itk_maps_corobl_points_to_the_scan_with_it(tmp_path: Path, affine: np.ndarray) -> None:
    sitk = pytest.importorskip("SimpleITK")
    write_transform(tmp_path / "xfm.txt", affine)
    to_lps = np.array([-1, -1, 1])
    corobl = np.array([10.0, -20.0, 30.0])
    mapped = sitk.ReadTransform(str(tmp_path / "xfm.txt")).TransformPoint((corobl * to_lps).tolist())
    np.testing.assert_allclose(np.array(mapped) * to_lps, apply(affine, corobl), atol=1e-9)


def test_a_file_of_hippunfold_with_a_centre_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "xfm.txt"
    path.write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: MatrixOffsetTransformBase_double_3_3\n"
        "Parameters: 2 0 0 0 2 0 0 0 2 1 0 0\nFixedParameters: 10 0 0\n"
    )
    # LPS x -> 2 (x - 10) + 10 + 1 = 2 x - 9, so RAS x -> 2 x + 9.
    np.testing.assert_allclose(apply(read_transform(path), np.array([1.0, 1, 1])), [11, 2, 2])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "Transform: Euler3DTransform_double_3_3\nParameters: 0 0 0 0 0 0\nFixedParameters: 0 0 0\n",
        "Transform: AffineTransform_double_3_3\nParameters: 1 0 zero\nFixedParameters: 0 0 0\n",
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "xfm.txt").write_text(content)
    with pytest.raises(BadDataError, match=r"xfm\.txt is not an ITK text file with one affine"):
        read_transform(tmp_path / "xfm.txt")


def test_the_nearest_rotation_keeps_sizes_and_the_centre(affine: np.ndarray) -> None:
    centre = np.array([1.0, 2, 3])
    rigid = nearest_rotation(affine, centre)
    np.testing.assert_allclose(rigid[:3, :3] @ rigid[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rigid[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(apply(rigid, centre), apply(affine, centre))


def test_the_nearest_rotation_of_a_scaled_rotation_is_the_rotation() -> None:
    quarter = np.array([[0.0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    stretched = quarter.copy()
    stretched[:3, :3] *= 1.3
    np.testing.assert_allclose(nearest_rotation(stretched, np.zeros(3)), quarter, atol=1e-12)
