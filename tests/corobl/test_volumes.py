"""Headers and files of real life."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.corobl.volumes import as_labels, label_image_like, read_volume
from bidsapp.errors import BadDataError, NoInputError

SHAPE = (20, 24, 16)


def make(data: np.ndarray | None = None, affine: np.ndarray | None = None) -> nib.Nifti1Image:
    if data is None:
        data = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    return nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1]) if affine is None else affine)


def save(image: nib.Nifti1Image, folder: Path, name: str = "scan.nii.gz") -> Path:
    nib.save(image, folder / name)
    return folder / name


@pytest.mark.parametrize("axes", ["RAS", "LAS", "PIR", "LIA", "ASL"])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_every_axis_order_is_kept_as_it_is(tmp_path: Path, axes: str, name: str) -> None:
    orientation = nib.orientations.axcodes2ornt(axes)
    canonical = make()
    image = canonical.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.io_orientation(canonical.affine), orientation)
    )
    volume = read_volume(save(image, tmp_path, name))
    assert "".join(nib.aff2axcodes(volume.affine)) == axes
    np.testing.assert_array_equal(volume.data, np.asarray(image.dataobj))
    assert (volume.affine_source, volume.warnings) == ("sform", ())


def test_qform_against_sform_is_measured_at_the_farthest_corner(tmp_path: Path) -> None:
    image = make()
    moved = image.affine.copy()
    moved[:3, 3] += (3, 4, 0)
    image.set_sform(moved, 2)
    image.set_qform(np.diag([2.0, 2, 2, 1]), 1)
    volume = read_volume(save(image, tmp_path))
    np.testing.assert_allclose(volume.affine, moved)
    assert volume.disagreement_mm == pytest.approx(5.0, abs=1e-4)
    assert volume.warnings == ("qform and sform disagree by 5.0 mm; the sform was used",)


def test_small_disagreement_is_measured_and_not_mentioned(tmp_path: Path) -> None:
    image = make()
    moved = image.affine.copy()
    moved[0, 3] += 0.5
    image.set_sform(moved, 1)
    image.set_qform(np.diag([2.0, 2, 2, 1]), 1)
    volume = read_volume(save(image, tmp_path))
    assert volume.disagreement_mm == pytest.approx(0.5, abs=1e-4)
    assert volume.warnings == ()


def test_without_an_sform_the_qform_is_used(tmp_path: Path) -> None:
    image = make(affine=np.array([[0, 0, -2.0, 5], [2, 0, 0, 6], [0, -2, 0, 7], [0, 0, 0, 1]]))
    image.set_qform(image.affine, 1)
    image.set_sform(None, 0)
    volume = read_volume(save(image, tmp_path))
    assert volume.affine_source == "qform"
    np.testing.assert_allclose(volume.affine, image.affine, atol=1e-5)
    assert volume.disagreement_mm is None


def test_without_both_the_sides_are_a_guess(tmp_path: Path) -> None:
    image = make()
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    volume = read_volume(save(image, tmp_path))
    assert volume.affine_source == "pixdim"
    assert "left and right are a guess" in volume.warnings[0]


def test_a_sheared_sform_is_used_to_the_letter(tmp_path: Path) -> None:
    sheared = np.array([[2.0, 0.3, 0, -10], [0, 2.1, 0.2, -20], [0.1, 0, 1.9, -30], [0, 0, 0, 1]])
    image = make()
    image.set_sform(sheared, 4)
    volume = read_volume(save(image, tmp_path))
    np.testing.assert_allclose(volume.affine, sheared, atol=1e-6)
    assert volume.affine_source == "sform"


def test_a_singular_sform_gives_way_to_the_qform(tmp_path: Path) -> None:
    path = save(make(), tmp_path, "scan.nii")
    content = bytearray(path.read_bytes())
    content[252:256] = np.array([1, 1], "<i2").tobytes()
    content[280:328] = bytes(48)
    path.write_bytes(content)
    volume = read_volume(path)
    assert volume.affine_source == "qform"
    assert volume.warnings == ("the sform of the header cannot be used",)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_type_of_number_becomes_float32(tmp_path: Path, dtype: type) -> None:
    data = (np.arange(np.prod(SHAPE)) % 200).reshape(SHAPE).astype(dtype)
    volume = read_volume(save(make(data), tmp_path))
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data, data)


def test_scaling_is_applied(tmp_path: Path) -> None:
    path = save(make(np.full(SHAPE, 7, dtype=np.int16)), tmp_path, "scan.nii")
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([0.5, 10], "<f4").tobytes()
    path.write_bytes(content)
    assert np.unique(read_volume(path).data).tolist() == [13.5]


def test_numbers_that_are_none_become_background_and_are_counted(tmp_path: Path) -> None:
    data = np.ones(SHAPE, dtype=np.float32)
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    volume = read_volume(save(make(data), tmp_path))
    assert volume.data[0, 0].tolist() == [0, 0, 0] + [1] * 13
    assert volume.warnings == ("3 voxels are not numbers (NaN or infinite) and were set to 0",)


def test_one_volume_in_four_dimensions_is_accepted(tmp_path: Path) -> None:
    assert read_volume(save(make(np.ones((*SHAPE, 1), np.int16)), tmp_path)).data.shape == SHAPE


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:700])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def point(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")


def scribble(path: Path) -> None:
    path.write_bytes(gzip.compress(b"this is not an image" * 100))


def several(path: Path) -> None:
    nib.save(make(np.ones((*SHAPE, 3), np.int16)), path)


def flat(path: Path) -> None:
    nib.save(make(np.ones(SHAPE[:2], np.int16)), path)


def coloured(path: Path) -> None:
    nib.save(make(np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])), path)


def in_metres(path: Path) -> None:
    nib.save(make(affine=np.diag([0.002, 0.002, 0.002, 1])), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "truncated or damaged"),
        (empty, "empty"),
        (point, "git-LFS pointer"),
        (scribble, "cannot be read as NIfTI"),
        (several, r"\(20, 24, 16, 3\): several volumes"),
        (flat, "not three dimensions"),
        (coloured, "holds values of type"),
        (in_metres, "0.0 x 0.0 x 0.0 mm large"),
    ],
)
def test_a_bad_file_is_named_with_a_way_out(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = save(make(np.random.default_rng(0).integers(0, 999, SHAPE, np.int16)), tmp_path)
    damage(path)
    with pytest.raises(BadDataError, match=message) as caught:
        read_volume(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_missing_file_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(NoInputError):
        read_volume(tmp_path / "none.nii.gz")


def test_labels_may_be_stored_as_numbers_of_any_kind_but_not_as_fractions(tmp_path: Path) -> None:
    labels = (np.arange(np.prod(SHAPE)) % 9).reshape(SHAPE)
    volume = read_volume(save(make(labels.astype(np.float64)), tmp_path))
    np.testing.assert_array_equal(as_labels(volume), labels)
    with pytest.raises(BadDataError, match=r"holds the value 0\.5"):
        as_labels(read_volume(save(make(labels + 0.5), tmp_path)))


def test_a_label_image_has_exactly_the_grid_and_codes_of_the_scan(tmp_path: Path) -> None:
    affine = np.array([[0, 0.1, -2.0, 5], [2, 0, 0, 6], [0, -2, 0.1, 7], [0, 0, 0, 1]])
    image = make(np.ones((*SHAPE, 1), np.float32), affine)
    image.set_sform(affine, 2)
    image.set_qform(np.diag([2.0, 2, 2, 1]), 1)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"the person's name"))
    scan = read_volume(save(image, tmp_path))
    labels = np.zeros(SHAPE, dtype=np.int32)
    labels[1, 2, 3] = 8
    read = nib.load(save(label_image_like(labels, scan.header), tmp_path, "labels.nii.gz"))
    np.testing.assert_array_equal(np.asanyarray(read.dataobj), labels)
    assert read.get_data_dtype() == np.uint8
    for field in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x"):
        np.testing.assert_array_equal(read.header[field], scan.header[field])
    assert not read.header.extensions
