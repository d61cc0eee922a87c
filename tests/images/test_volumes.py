"""Headers and files of real life."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.images.volumes import read_grid, read_volume
from bidsapp.images.writing import label_image_like

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
    volume = read_volume(save(image, tmp_path, name), "scan")
    assert "".join(nib.aff2axcodes(volume.affine)) == axes
    np.testing.assert_array_equal(volume.data, np.asarray(image.dataobj))
    assert (volume.file.source, volume.file.warnings) == ("sform", ())


def test_qform_against_sform_is_measured_at_the_farthest_corner(tmp_path: Path) -> None:
    image = make()
    moved = image.affine.copy()
    moved[:3, 3] += (3, 4, 0)
    image.set_sform(moved, 2)
    image.set_qform(np.diag([2.0, 2, 2, 1]), 1)
    volume = read_volume(save(image, tmp_path), "scan")
    np.testing.assert_allclose(volume.affine, moved)
    assert volume.file.disagreement_mm == pytest.approx(5.0, abs=1e-4)
    assert volume.file.warnings == ("qform and sform disagree by 5.0 mm; the sform was used",)


def test_small_disagreement_is_measured_and_not_mentioned(tmp_path: Path) -> None:
    image = make()
    moved = image.affine.copy()
    moved[0, 3] += 0.5
    image.set_sform(moved, 1)
    image.set_qform(np.diag([2.0, 2, 2, 1]), 1)
    volume = read_volume(save(image, tmp_path), "scan")
    assert volume.file.disagreement_mm == pytest.approx(0.5, abs=1e-4)
    assert volume.file.warnings == ()


def test_without_an_sform_the_qform_is_used(tmp_path: Path) -> None:
    image = make(affine=np.array([[0, 0, -2.0, 5], [2, 0, 0, 6], [0, -2, 0, 7], [0, 0, 0, 1]]))
    image.set_qform(image.affine, 1)
    image.set_sform(None, 0)
    volume = read_volume(save(image, tmp_path), "scan")
    assert volume.file.source == "qform"
    np.testing.assert_allclose(volume.affine, image.affine, atol=1e-5)
    assert volume.file.disagreement_mm is None


def test_without_both_the_sides_are_a_guess(tmp_path: Path) -> None:
    image = make()
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    volume = read_volume(save(image, tmp_path), "scan")
    assert volume.file.source == "pixdim"
    assert "left and right are a guess" in volume.file.warnings[0]


def test_a_sheared_sform_is_used_to_the_letter(tmp_path: Path) -> None:
    sheared = np.array([[2.0, 0.3, 0, -10], [0, 2.1, 0.2, -20], [0.1, 0, 1.9, -30], [0, 0, 0, 1]])
    image = make()
    image.set_sform(sheared, 4)
    volume = read_volume(save(image, tmp_path), "scan")
    np.testing.assert_allclose(volume.affine, sheared, atol=1e-6)
    assert volume.file.source == "sform"


def test_a_singular_sform_gives_way_to_the_qform(tmp_path: Path) -> None:
    path = save(make(), tmp_path, "scan.nii")
    content = bytearray(path.read_bytes())
    content[252:256] = np.array([1, 1], "<i2").tobytes()
    content[280:328] = bytes(48)
    path.write_bytes(content)
    volume = read_volume(path, "scan")
    assert volume.file.source == "qform"
    assert volume.file.warnings == ("the sform of the header cannot be used",)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_type_of_number_becomes_float32(tmp_path: Path, dtype: type) -> None:
    data = (np.arange(np.prod(SHAPE)) % 200).reshape(SHAPE).astype(dtype)
    volume = read_volume(save(make(data), tmp_path), "scan")
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data, data)


def test_scaling_is_applied(tmp_path: Path) -> None:
    path = save(make(np.full(SHAPE, 7, dtype=np.int16)), tmp_path, "scan.nii")
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([0.5, 10], "<f4").tobytes()
    path.write_bytes(content)
    assert np.unique(read_volume(path, "scan").data).tolist() == [13.5]


def test_numbers_that_are_none_become_background_and_are_counted(tmp_path: Path) -> None:
    data = np.ones(SHAPE, dtype=np.float32)
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    volume = read_volume(save(make(data), tmp_path), "scan")
    assert volume.data[0, 0].tolist() == [0, 0, 0] + [1] * 13
    assert volume.file.warnings == ("3 voxels are not numbers (NaN or infinite) and were set to 0",)


def test_one_volume_in_four_dimensions_is_accepted(tmp_path: Path) -> None:
    assert read_volume(save(make(np.ones((*SHAPE, 1), np.int16)), tmp_path), "scan").data.shape == SHAPE


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
        (truncate, "damaged or truncated"),
        (empty, "empty"),
        (point, "git-LFS pointer"),
        (scribble, "is not a NIfTI file"),
        (several, r"several volumes \(20 x 24 x 16 x 3\)"),
        (flat, "not 3D"),
        (coloured, "holds values of type"),
        (in_metres, "voxels of 0.002 x 0.002 x 0.002 mm"),
    ],
)
def test_a_bad_file_is_named_with_a_way_out(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = save(make(np.random.default_rng(0).integers(0, 999, SHAPE, np.int16)), tmp_path)
    damage(path)
    with pytest.raises(BadDataError, match=message) as caught:
        read_volume(path, "scan")
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_missing_file_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(NoInputError):
        read_volume(tmp_path / "none.nii.gz", "scan")


def test_a_label_image_has_exactly_the_grid_and_codes_of_the_scan(tmp_path: Path) -> None:
    affine = np.array([[0, 0.1, -2.0, 5], [2, 0, 0, 6], [0, -2, 0.1, 7], [0, 0, 0, 1]])
    image = make(np.ones((*SHAPE, 1), np.float32), affine)
    image.set_sform(affine, 2)
    image.set_qform(np.diag([2.0, 2, 2, 1]), 1)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"the person's name"))
    scan = read_grid(save(image, tmp_path), "scan")
    labels = np.zeros(SHAPE, dtype=np.int32)
    labels[1, 2, 3] = 8
    read = nib.load(save(label_image_like(labels, scan), tmp_path, "labels.nii.gz"))
    np.testing.assert_array_equal(np.asanyarray(read.dataobj), labels)
    assert read.get_data_dtype() == np.uint8
    for field in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x"):
        np.testing.assert_array_equal(read.header[field], scan.header[field])
    assert not read.header.extensions


def header_bytes(path: Path, *fields: tuple[int, bytes]) -> Path:
    content = bytearray(path.read_bytes())
    for offset, packed in fields:
        content[offset : offset + len(packed)] = packed
    path.write_bytes(content)
    return path


LONGER = (256, np.array([0.8004, 0.6, 0], "<f4").tobytes())
TWO_CODES = (252, np.array([1, 1], "<i2").tobytes())
ONLY_QFORM = (252, np.array([1, 0], "<i2").tobytes())
NO_SFORM = (280, bytes(48))
MICROMETRES, METRES = (123, b"\x03"), (123, b"\x01")


def test_a_quaternion_that_is_not_needed_stops_nobody(tmp_path: Path) -> None:
    path = header_bytes(save(make(), tmp_path, "scan.nii"), TWO_CODES, LONGER)
    with pytest.raises(ValueError, match="w2 should be positive"):
        nib.load(path).get_qform()
    volume = read_volume(path, "scan")
    assert volume.file.source == "sform"
    np.testing.assert_array_equal(volume.affine, np.diag([2.0, 2, 2, 1]))


def test_a_quaternion_a_hair_too_long_is_shortened(tmp_path: Path) -> None:
    volume = read_volume(header_bytes(save(make(), tmp_path, "scan.nii"), ONLY_QFORM, LONGER), "scan")
    assert volume.file.source == "qform"
    # half a turn about (0.8, 0.6, 0): x' = (2 * .8 * .8 - 1) x + 2 * .8 * .6 y, and so on
    turn = np.array([[0.28, 0.96, 0], [0.96, -0.28, 0], [0, 0, -1]])
    np.testing.assert_allclose(volume.affine[:3, :3], 2 * turn, atol=2e-3)
    twice = header_bytes(save(make(), tmp_path, "far.nii"), ONLY_QFORM, (256, np.array([2, 0, 0], "<f4").tobytes()))
    assert read_volume(twice, "scan").file.source == "pixdim"


@pytest.mark.parametrize(("unit", "millimetres"), [(MICROMETRES, 1e-3), (METRES, 1e3)])
def test_lengths_are_in_the_unit_of_the_header(tmp_path: Path, unit: tuple[int, bytes], millimetres: float) -> None:
    affine = np.diag([2 / millimetres, 2 / millimetres, 2 / millimetres, 1])
    affine[:3, 3] = 5 / millimetres
    path = header_bytes(save(make(affine=affine), tmp_path, "scan.nii"), unit)
    volume = read_volume(path, "scan")
    np.testing.assert_allclose(volume.affine, [[2, 0, 0, 5], [0, 2, 0, 5], [0, 0, 2, 5], [0, 0, 0, 1]], rtol=1e-6)
    assert volume.file.warnings == ()
    label = label_image_like(np.ones(SHAPE, np.uint8), read_grid(path, "scan"))
    assert label.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(label.header.get_sform(), volume.affine, rtol=1e-6)


@pytest.mark.parametrize(("unit", "name"), [(MICROMETRES, "micron"), (METRES, "meter")])
def test_a_unit_that_cannot_be_is_not_believed(tmp_path: Path, unit: tuple[int, bytes], name: str) -> None:
    volume = read_volume(header_bytes(save(make(), tmp_path, "scan.nii"), unit), "scan")
    np.testing.assert_array_equal(volume.affine, np.diag([2.0, 2, 2, 1]))
    assert f"unit of length is {name}, which cannot be" in volume.file.warnings[0]


@pytest.mark.parametrize("voxel_mm", [0.04, 11.0, 300.0])
def test_voxels_that_cannot_be_are_refused(tmp_path: Path, voxel_mm: float) -> None:
    path = save(make(affine=np.diag([2.0, 2, voxel_mm, 1])), tmp_path)
    with pytest.raises(BadDataError, match=rf"2 x 2 x {voxel_mm:g} mm: from 0\.05 to 10 mm"):
        read_volume(path, "scan")
    with pytest.raises(BadDataError, match=r"from 0\.05 to 10 mm"):
        read_grid(path, "scan")


def test_a_place_that_is_nowhere_is_passed_over(tmp_path: Path) -> None:
    nowhere = np.diag([2.0, 2, 2, 1])
    nowhere[0, 3] = 1e30
    path = save(make(affine=nowhere), tmp_path, "scan.nii")
    volume = read_volume(header_bytes(path, TWO_CODES, (256, bytes(24))), "scan")
    assert volume.file.source == "qform"
    assert volume.file.warnings == ("the sform of the header cannot be used",)


def saved_forms(scan: Path, folder: Path) -> nib.Nifti1Header:
    labels = np.ones(SHAPE, np.uint8)
    return nib.load(save(label_image_like(labels, read_grid(scan, "scan")), folder, "labels.nii.gz")).header


def test_a_label_image_holds_the_geometry_that_was_used_in_both_forms(tmp_path: Path) -> None:
    image = make(affine=np.array([[0, 0, -2.0, 5], [2, 0, 0, 6], [0, -2, 0, 7], [0, 0, 0, 1]]))
    image.set_qform(image.affine, 3)
    path = header_bytes(save(image, tmp_path, "scan.nii"), NO_SFORM)
    assert not nib.load(path).affine[:3].any()
    header = saved_forms(path, tmp_path)
    for matrix, code in (header.get_sform(coded=True), header.get_qform(coded=True)):
        np.testing.assert_allclose(matrix, image.affine, atol=1e-5)
        assert code == 3

    crooked = header_bytes(save(image, tmp_path, "scan.nii"), (256, np.array([1, 1, 1], "<f4").tobytes()))
    header = saved_forms(crooked, tmp_path)
    np.testing.assert_allclose(header.get_qform(), image.affine, atol=1e-5)

    neither = header_bytes(save(image, tmp_path, "scan.nii"), NO_SFORM, (256, np.array([9, 0, 0], "<f4").tobytes()))
    header = saved_forms(neither, tmp_path)
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    np.testing.assert_array_equal(header.get_sform(), read_volume(neither, "scan").affine)


def test_a_label_image_of_a_scan_without_codes_has_none(tmp_path: Path) -> None:
    image = make()
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    header = saved_forms(save(image, tmp_path), tmp_path)
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
