from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st

from bidsapp.corobl.grid import GRIDS
from bidsapp.errors import BadDataError
from bidsapp.images.grids import straighten
from bidsapp.images.volumes import VolumeError
from bidsapp.pairs.pairs import find_pairs
from bidsapp.records import Pair
from bidsapp.training.import_pairs import load_pair, write_nnunet_case
from tests.training_folder import OBLIQUE, SHAPE


def only_pair(folder) -> Pair:
    (pair,) = find_pairs(folder.path).pairs
    return pair


def test_load_pair_keeps_arrays_as_they_are_stored(folder):
    folder.pair("sub-01")
    loaded = load_pair(only_pair(folder))
    assert loaded.images.shape == (1, 5, 6, 7) and loaded.images.dtype == np.float32
    assert loaded.label.dtype == np.uint8
    assert np.argwhere(loaded.label == 1).tolist() == [[1, 2, 3]]
    assert np.argwhere(loaded.label == 2).tolist() == [[1, 2, 4], [1, 2, 5]]
    np.testing.assert_allclose(loaded.affine, OBLIQUE, atol=1e-6)


def test_channels_come_in_the_order_of_their_numbers(folder):
    for channel, value in ((1, 20), (0, 10), (2, 30)):
        image = np.full(SHAPE, value, np.int16)
        image[-1] = 0
        folder.write(f"a_img_{channel:04d}.nii.gz", image)
    folder.label("a_lbl.nii.gz")
    assert load_pair(only_pair(folder)).images[:, 0, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(("value", "dtype"), [(255, np.uint8), (256, np.int16)])
def test_labels_become_the_smallest_integers(folder, value, dtype):
    folder.image("a_img.nii.gz")
    label = np.zeros(SHAPE, np.float64)
    label[0, 0, 0] = value
    folder.write("a_lbl.nii.gz", label)
    loaded = load_pair(only_pair(folder))
    assert loaded.label.dtype == dtype and loaded.label[0, 0, 0] == value


def test_scaled_labels_are_rounded_and_not_cut(folder):
    folder.image("a_img.nii.gz")
    label = np.zeros(SHAPE, np.float32)
    label[0, 0, :2] = 0.99998, 2.00002
    folder.write("a_lbl.nii.gz", label)
    assert load_pair(only_pair(folder)).label[0, 0, :3].tolist() == [1, 2, 0]


def test_the_corobl_left_grid_is_flipped_with_a_truthful_header(folder):
    folder.pair("sub-01_hemi-L", GRIDS["L"].affine, GRIDS["L"].shape)
    stored = np.asarray(nibabel.load(folder.path / "sub-01_hemi-L_img.nii.gz").dataobj)
    loaded = load_pair(only_pair(folder))
    # FACTS 7: the flipped grid has spacing +.3 and origin -40.4 in x
    expected = np.array([[0.3, 0, 0, -40.4], [0, 0.3, 0, -51.1], [0, 0, 0.3, -32.7], [0, 0, 0, 1]])
    np.testing.assert_allclose(loaded.affine, expected, atol=1e-5)
    np.testing.assert_array_equal(loaded.images[0], stored[::-1])
    assert np.argwhere(loaded.label == 1).tolist() == [[126, 2, 3]]


@pytest.mark.parametrize("flip", [False, True])
def test_written_cases_keep_every_voxel_where_it_is_in_the_head(folder, tmp_path, flip):
    case = "sub-01_hemi-L" if flip else "sub-01"
    folder.pair(case)
    (pair,) = find_pairs(folder.path, left_is="as-in-head").pairs
    write_nnunet_case(pair, tmp_path / "imagesTr", tmp_path / "labelsTr")
    label_file = tmp_path / "labelsTr" / f"{pair.case}.nii.gz"
    written = sitk.ReadImage(str(label_file))
    array = sitk.GetArrayFromImage(written).transpose()
    first = np.argwhere(array == 1)[0].tolist()
    assert first == ([3, 2, 3] if flip else [1, 2, 3])
    # voxel (1, 2, 3) of the stored file lies at OBLIQUE @ (1, 2, 3, 1) RAS: x 9.7, y -20.83, z 8.19
    left, posterior, superior = written.TransformIndexToPhysicalPoint(first)
    np.testing.assert_allclose([-left, -posterior, superior], [9.7, -20.83, 8.19], atol=1e-4)
    np.testing.assert_allclose(written.GetSpacing(), (0.8, 1.1, 1.3), atol=1e-6)

    image = nibabel.load(tmp_path / "imagesTr" / f"{pair.case}_0000.nii.gz")
    sform, sform_code = image.get_sform(coded=True)
    qform, qform_code = image.get_qform(coded=True)
    assert (sform_code, qform_code) == (1, 1)
    np.testing.assert_allclose(sform, qform, atol=1e-5)
    assert image.get_data_dtype() == np.float32


def test_noise_in_spacings_is_gone_when_simpleitk_reads(folder, tmp_path):
    folder.pair("a", np.diag([0.3, 0.3000002, 0.2999999, 1]))
    write_nnunet_case(only_pair(folder), tmp_path, tmp_path)
    spacing = sitk.ReadImage(str(tmp_path / "a_0000.nii.gz")).GetSpacing()
    assert spacing == (float(np.float32(0.3)),) * 3


def test_a_rounded_affine_is_straightened_so_that_simpleitk_reads_it(folder, tmp_path):
    folder.pair("a", np.round(OBLIQUE @ np.diag([0.37, 0.37, 0.37, 1]), 3))
    write_nnunet_case(only_pair(folder), tmp_path, tmp_path)
    direction = np.array(sitk.ReadImage(str(tmp_path / "a.nii.gz")).GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-6)


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_else(folder, tmp_path):
    folder.pair("a")
    written: list[dict[str, bytes]] = []
    for name in ("first", "second"):
        write_nnunet_case(only_pair(folder), tmp_path / name, tmp_path / name)
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1] and set(written[0]) == {"a.nii.gz", "a_0000.nii.gz"}


def test_values_are_mapped_for_nnunet(folder, tmp_path):
    folder.image("a_img.nii.gz")
    label = np.zeros(SHAPE, np.int16)
    label[0, 0, :3] = 17, 53, 17
    folder.write("a_lbl.nii.gz", label)
    write_nnunet_case(only_pair(folder), tmp_path, tmp_path, values={17: 1, 53: 2})
    mapped = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj)
    assert mapped[0, 0, :4].tolist() == [1, 2, 1, 0] and mapped.sum() == 4
    with pytest.raises(BadDataError, match=r"a_lbl\.nii\.gz holds the value 53"):
        write_nnunet_case(only_pair(folder), tmp_path, tmp_path, values={17: 1})


@pytest.mark.parametrize(
    ("name", "array", "problem"),
    [
        ("a_img.nii.gz", np.full(SHAPE, np.nan, np.float32), "NaN"),
        ("a_lbl.nii.gz", np.full(SHAPE, 0.5, np.float32), "not whole"),
        ("a_lbl.nii.gz", np.ones((4, 4, 4), np.uint8), "4 x 4 x 4"),
    ],
)
def test_files_that_changed_since_the_check_are_refused(folder, name, array, problem):
    folder.pair("a")
    pair = only_pair(folder)
    folder.write(name, array)
    with pytest.raises(VolumeError, match=problem) as caught:
        load_pair(pair)
    assert str(folder.path / name) in caught.value.message


@given(
    st.tuples(*[st.floats(0.2, 3)] * 3),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
)
def test_straighten_moves_no_corner_and_is_idempotent(spacing_mm, angles, order, signs):
    rotation = nibabel.eulerangles.euler2mat(*angles)[:, order] * signs
    affine = nibabel.affines.from_matvec(rotation * spacing_mm, [1, 2, 3])
    straight = straighten(affine.astype(np.float32).astype(float))
    np.testing.assert_allclose(straight, affine, atol=1e-5)
    np.testing.assert_allclose(straighten(straight), straight, atol=1e-12)
    norms = np.linalg.norm(straight[:3, :3], axis=0)
    np.testing.assert_allclose(norms, np.round(norms, 5), atol=1e-12)


def test_a_real_left_crop_is_imported(folder, shared_data, tmp_path: Path):
    source = shared_data / "citi168_corobl"
    for name, suffix in (("T2w", "img"), ("Mask", "lbl")):
        stored = source / f"{name}_300umCoronalOblique_hemi-L.nii.gz"
        (folder.path / f"sub-CIT168_hemi-L_{suffix}.nii.gz").symlink_to(stored)
    write_nnunet_case(only_pair(folder), tmp_path, tmp_path)
    image = sitk.ReadImage(str(tmp_path / "sub-CIT168_hemi-Lflip_0000.nii.gz"))
    assert len(set(image.GetSpacing())) == 1
    np.testing.assert_allclose(image.GetOrigin(), (40.4, 51.1, -32.7), atol=1e-4)


def test_a_reader_that_turns_to_ras_turns_both_sides_alike(folder, tmp_path):
    """By their headers, LAS and RAS, only one of a right crop and a flipped left one would be turned."""
    from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient

    rising = np.arange(5, dtype=np.float32)[:, None, None] * np.ones(SHAPE, np.float32)
    for case, direction in (("sub-01_hemi-R", -1), ("sub-01_hemi-Lflip", 1)):
        affine = np.diag([direction * 0.3, 0.3, 0.3, 1])
        folder.write(f"{case}_img.nii.gz", rising, affine)
        folder.label(f"{case}_lbl.nii.gz", affine)
    for pair in find_pairs(folder.path).pairs:
        write_nnunet_case(pair, tmp_path, tmp_path, as_las=True)
        data, _ = NibabelIOWithReorient().read_images([str(tmp_path / f"{pair.case}_0000.nii.gz")])
        np.testing.assert_array_equal(data[0, 0, 0], [4, 3, 2, 1, 0])  # (z, y, x), as predict_array gives it
        stored = nibabel.load(tmp_path / f"{pair.case}_0000.nii.gz")
        np.testing.assert_array_equal(np.asarray(stored.dataobj), rising)
        assert nibabel.aff2axcodes(stored.affine) == ("L", "A", "S")
