from __future__ import annotations

import errno
import gzip
import logging
import struct
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from bidsapp.errors import BadDataError
from bidsapp.pairs.check_pairs import (
    BadPairsError,
    check_pairs,
    choose_pairs,
    examine_pairs,
    format_findings,
    image_digest,
)
from bidsapp.pairs.pairs import find_pairs, pair_finding
from bidsapp.records import LabelTable
from bidsapp.training.import_pairs import load_pair
from tests.training_folder import OBLIQUE, SHAPE, TrainingFolder

TABLE = LabelTable({1: "CA1", 2: "DG"})


def check(folder: TrainingFolder, **options):
    return check_pairs(find_pairs(folder.path), **options)


def labelled(*values: float, dtype=np.float32) -> np.ndarray:
    array = np.zeros(SHAPE, dtype)
    array[1, 2, : len(values)] = values
    return array


def shifted(mm: float) -> np.ndarray:
    affine = OBLIQUE.copy()
    affine[1, 3] += mm
    return affine


def spoil_image(folder, voxel):
    array = np.ones(SHAPE, np.float64)
    array[0, 0, 0] = voxel
    folder.write("sub-02_img.nii.gz", array)


def truncate(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * keep)])


def patch_header(folder, name, offset, packed):
    path = folder.path / name
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[offset : offset + len(packed)] = packed
    path.write_bytes(gzip.compress(bytes(content)))


def break_checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(bytes(content))


IMG, LBL = "sub-02_img.nii.gz", "sub-02_lbl.nii.gz"
SHEARED = OBLIQUE @ np.array([[1, 0.02, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])

FINDINGS = {
    "label missing": (lambda f: (f.path / LBL).unlink(), LBL, "is missing"),
    "shape": (
        lambda f: f.label(LBL, shape=(5, 6, 8)),
        LBL,
        "is 5 x 6 x 8 voxels, and the image is 5 x 6 x 7",
    ),
    "shifted": (lambda f: f.label(LBL, shifted(0.01)), LBL, "is up to 0.01 mm from the image"),
    "rotated": (lambda f: f.label(LBL, OBLIQUE @ np.diag([-1, -1, 1, 1])), LBL, "mm from the image"),
    "interpolated": (lambda f: f.write(LBL, labelled(1, 0.5, 1.25)), LBL, "(2 voxels): 0.5, 1.25"),
    "not in table": (lambda f: f.write(LBL, labelled(1, 2, 7, 7)), LBL, "does not name: 7 (2 voxels)"),
    "negative": (lambda f: f.write(LBL, labelled(1, -3)), LBL, "holds the value -3"),
    "too large": (lambda f: f.write(LBL, labelled(1, 40000)), LBL, "holds the value 40000"),
    "label NaN": (lambda f: f.write(LBL, labelled(1, np.nan)), LBL, "holds 1 NaN or infinite voxels"),
    "empty label": (lambda f: f.write(LBL, labelled()), LBL, "holds no label: all voxels are 0"),
    "NaN": (lambda f: spoil_image(f, np.nan), IMG, "holds 1 NaN or infinite voxels"),
    "infinite": (lambda f: spoil_image(f, -np.inf), IMG, "holds 1 NaN or infinite voxels"),
    "beyond float32": (lambda f: spoil_image(f, 1e300), IMG, "holds 1 NaN or infinite voxels"),
    "4D": (lambda f: f.image(IMG, shape=(*SHAPE, 2)), IMG, "holds several volumes (5 x 6 x 7 x 2)"),
    "one value": (lambda f: f.write(IMG, np.full(SHAPE, 7, np.int16)), IMG, "holds one value only: 7"),
    "micrometres": (
        lambda f: f.pair("sub-02", np.diag([300, 300, 300, 1])),
        IMG,
        "has voxels of 300 x 300 x 300 mm: from 0.05 to 10 mm can be used",
    ),
    "nowhere": (lambda f: patch_header(f, IMG, 280, struct.pack("<f", 1e30)), IMG, "that cannot be used"),
    "infinite scale": (lambda f: patch_header(f, LBL, 112, struct.pack("<f", np.inf)), LBL, "scaled by inf"),
    "terabytes": (lambda f: patch_header(f, LBL, 40, struct.pack("<4h", 3, 9999, 9999, 9999)), LBL, "asks for 9999 x"),
    "device": (
        lambda f: ((f.path / LBL).unlink(), (f.path / LBL).symlink_to("/dev/zero")),
        LBL,
        "is a pipe or a device",
    ),
    "2D": (lambda f: f.image(IMG, shape=(5, 6)), IMG, "is 2D (5 x 6), not 3D"),
    "complex": (lambda f: f.write(IMG, np.ones(SHAPE, np.complex64)), IMG, "complex64"),
    "sheared": (lambda f: f.pair("sub-02", SHEARED), IMG, "sheared affine: two axes meet at 89.2 degrees"),
    "flat voxels": (lambda f: patch_header(f, IMG, 280, bytes(48)), IMG, "sform or qform that cannot be used"),
    "NaN affine": (
        lambda f: patch_header(f, IMG, 280, struct.pack("<f", np.nan)),
        IMG,
        "sform or qform that cannot be used",
    ),
    "unknown type": (lambda f: patch_header(f, IMG, 70, struct.pack("<h", 999)), IMG, "damaged header"),
    "truncated": (lambda f: truncate(f.path / IMG, 0.6), IMG, "damaged or truncated gzip"),
    "last bytes missing": (lambda f: truncate(f.path / IMG, 0.995), IMG, "damaged or truncated gzip"),
    "checksum": (lambda f: break_checksum(f.path / IMG), IMG, "damaged or truncated gzip"),
    "short inside gzip": (
        lambda f: (f.path / LBL).write_bytes(gzip.compress(gzip.decompress((f.path / LBL).read_bytes())[:-9])),
        LBL,
        "is damaged or truncated",
    ),
    "git-LFS": (
        lambda f: (f.path / LBL).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        LBL,
        "is a git-LFS pointer",
    ),
    "not gzip": (
        lambda f: (f.path / IMG).write_bytes(gzip.decompress((f.path / IMG).read_bytes())),
        IMG,
        "is not compressed with gzip",
    ),
    "not NIfTI": (
        lambda f: (f.path / IMG).write_bytes(gzip.compress(b"P6 500 500")),
        IMG,
        "is not a NIfTI file",
    ),
    "0 bytes": (lambda f: (f.path / IMG).write_bytes(b""), IMG, "is empty (0 bytes)"),
    "folder": (lambda f: ((f.path / IMG).unlink(), (f.path / IMG).mkdir()), IMG, "is a folder"),
    "dead link": (
        lambda f: ((f.path / IMG).unlink(), (f.path / IMG).symlink_to(f.path / "gone")),
        IMG,
        "is a link to nothing",
    ),
}


@pytest.mark.parametrize(("spoil", "file", "problem"), FINDINGS.values(), ids=FINDINGS.keys())
def test_every_finding_names_pair_file_and_value(folder, spoil, file, problem):
    folder.pair("sub-01")
    folder.pair("sub-02")
    spoil(folder)
    with pytest.raises(BadPairsError) as caught:
        check(folder, table=TABLE)
    lines = [line for line in caught.value.message.splitlines() if file in line and problem in line]
    assert lines and lines[0].split()[0] == "sub-02"
    assert caught.value.exit_code == 65
    assert "--skip-bad-pairs" in caught.value.hint
    assert {finding.case for finding in caught.value.findings} == {"sub-02"}

    rest = check(folder, table=TABLE, skip_bad_pairs=True)
    assert [pair.case for pair in rest.pairs] == list(rest.content) == ["sub-01"]
    assert rest.left_out == ("sub-02",) and rest.findings == caught.value.findings


def test_a_file_without_permission_is_a_finding(folder, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    folder.pair("sub-01")
    monkeypatch.setattr("bidsapp.files.os.open", refuse)
    with pytest.raises(BadPairsError, match=r"sub-01_img\.nii\.gz +cannot be read: Permission denied"):
        check(folder)


def test_a_compressed_file_without_gz_is_a_finding(folder):
    folder.pair("sub-01")
    (folder.path / "sub-01_img.nii.gz").rename(folder.path / "sub-01_img.nii")
    with pytest.raises(BadPairsError, match="is compressed with gzip"):
        check(folder)


@pytest.mark.parametrize("left_is", [None, "flipped", "as-in-head"])
def test_a_left_image_that_cannot_be_read_is_one_finding(folder, left_is):
    folder.pair("sub-01_hemi-L")
    truncate(folder.path / "sub-01_hemi-L_img.nii.gz", 0.5)
    with pytest.raises(BadPairsError, match="damaged or truncated gzip") as caught:
        check_pairs(find_pairs(folder.path, left_is=left_is))
    assert len(caught.value.findings) == 1


def test_all_findings_of_all_pairs_come_at_once(folder):
    for case in ("a", "b", "c", "d"):
        folder.pair(case)
    (folder.path / "a_img.nii.gz").write_bytes(b"")
    folder.write("b_img.nii.gz", np.full(SHAPE, np.nan))
    folder.write("b_lbl.nii.gz", labelled(0.5), shifted(1))
    (folder.path / "c_lbl.nii.gz").unlink()
    with pytest.raises(BadPairsError, match=r"3 of 4 pairs in .*training set cannot be used") as caught:
        check(folder)
    assert [(one.case, one.file.name) for one in caught.value.findings] == [
        ("a", "a_img.nii.gz"),
        ("b", "b_img.nii.gz"),
        ("b", "b_lbl.nii.gz"),
        ("b", "b_lbl.nii.gz"),
        ("c", "c_lbl.nii.gz"),
    ]


def test_nothing_left_is_an_error_even_when_bad_pairs_are_skipped(folder):
    folder.image("a_img.nii.gz")
    with pytest.raises(BadDataError, match="No pair is fit for use"):
        check(folder, skip_bad_pairs=True)


@pytest.mark.parametrize("mm", [0, 0.0005])
def test_grids_may_differ_by_header_noise(folder, mm):
    folder.image("a_img.nii.gz")
    folder.label("a_lbl.nii.gz", shifted(mm))
    assert len(check(folder).pairs) == 1


@pytest.mark.parametrize(
    "label",
    [
        labelled(1, 2),
        labelled(1, 2, dtype=np.float64),
        labelled(1, 2, dtype=np.int16),
        labelled(1, 2, dtype=np.uint16),
        labelled(1.00002, 1.99998),
    ],
    ids=["float32", "float64", "int16", "uint16", "scaled"],
)
def test_whole_numbers_may_be_stored_in_any_type(folder, label):
    folder.image("a_img.nii.gz")
    folder.write("a_lbl.nii.gz", label)
    assert check(folder, table=TABLE).pairs[0].case == "a"


def test_scaled_and_big_endian_and_nifti2_files_are_read(folder):
    folder.label("a_lbl.nii.gz")
    scaled = nibabel.Nifti1Image(np.arange(210, dtype=np.int16).reshape(SHAPE), OBLIQUE)
    scaled.header.set_slope_inter(0.5, 3)
    scaled.to_filename(folder.path / "a_img.nii.gz")
    folder.image("b_img.nii")
    big = nibabel.Nifti1Header(endianness=">")
    nibabel.Nifti1Image(labelled(1).astype(">i2"), OBLIQUE, big).to_filename(folder.path / "b_lbl.nii")
    nibabel.Nifti2Image(labelled(3, 4), OBLIQUE).to_filename(folder.path / "c_img.nii.gz")
    folder.label("c_lbl.nii.gz")
    assert len(check(folder).pairs) == 3


def test_without_a_table_labels_are_named_after_their_values(folder, caplog):
    folder.image("a_img.nii.gz")
    folder.write("a_lbl.nii.gz", labelled(3, 12))
    folder.pair("b")
    checked = check(folder)
    assert checked.table == LabelTable({1: "label-1", 2: "label-2", 3: "label-3", 12: "label-12"})
    assert "label-1, label-2, label-3, label-12" in caplog.text


def test_an_image_in_the_place_of_a_label_is_recognised(folder):
    folder.pair("a")
    array = np.zeros((8, 8, 8), np.int16)
    array.flat[:300] = np.arange(300)
    folder.write("a_lbl.nii.gz", array)
    folder.image("a_img.nii.gz", shape=(8, 8, 8))
    with pytest.raises(BadPairsError, match="holds 299 different values: is it an image"):
        check(folder)


def test_required_labels_must_be_there_and_unused_ones_are_mentioned(folder, caplog):
    folder.pair("a")
    folder.pair("b")
    folder.write("b_lbl.nii.gz", labelled(1))
    with pytest.raises(BadPairsError, match=r"b_lbl\.nii\.gz +lacks the required labels DG \(2\)"):
        check(folder, table=LabelTable({1: "CA1", 2: "DG"}, frozenset({"DG"})))
    check(folder, table=LabelTable({1: "CA1", 2: "DG", 3: "CA3"}))
    assert "No pair holds the labels CA3" in caplog.text


def test_one_image_under_two_people_is_found_by_content(folder):
    folder.pair("sub-01")
    folder.pair("sub-02")
    voxels = np.arange(210, dtype=np.int16).reshape(SHAPE)
    folder.write("sub-01_img.nii.gz", voxels)
    folder.label("sub-03_lbl.nii.gz", shifted(5))
    folder.write("sub-03_img.nii.gz", voxels.astype(np.float64), shifted(5))
    with pytest.raises(BadPairsError) as caught:
        check(folder)
    assert [(one.file.name, one.problem) for one in caught.value.findings] == [
        ("sub-01_img.nii.gz", "of sub-01 is the same image as sub-03_img.nii.gz of sub-03"),
        ("sub-03_img.nii.gz", "of sub-03 is the same image as sub-01_img.nii.gz of sub-01"),
    ]
    assert [pair.case for pair in check(folder, skip_bad_pairs=True).pairs] == ["sub-02"]


def test_one_image_twice_under_one_person_is_fine(folder):
    for run in (1, 2):
        folder.write(f"sub-01_run-{run}_img.nii.gz", np.arange(210, dtype=np.uint8).reshape(SHAPE))
        folder.label(f"sub-01_run-{run}_lbl.nii.gz")
    assert len(check(folder).pairs) == 2


def content(folder) -> str:
    return check(folder, table=TABLE).content["a"]


def test_the_content_hash_tells_changes_from_other_ways_to_store_the_same(folder):
    voxels = np.arange(210, dtype=np.int16).reshape(SHAPE)
    folder.write("a_img.nii.gz", voxels)
    folder.write("a_lbl.nii.gz", labelled(1, 2))
    first = content(folder)
    folder.write("a_img.nii.gz", voxels.astype(np.float64))
    folder.write("a_lbl.nii.gz", labelled(1, 2, dtype=np.uint8))
    assert content(folder) == first
    folder.write("a_lbl.nii.gz", labelled(1, 1))
    assert content(folder) != first
    folder.write("a_lbl.nii.gz", labelled(1, 2), shifted(0.5))
    folder.write("a_img.nii.gz", voxels, shifted(0.5))
    assert content(folder) != first
    folder.write("a_lbl.nii.gz", labelled(1, 2))
    folder.write("a_img.nii.gz", voxels + 1)
    assert content(folder) != first
    folder.write("a_img.nii.gz", voxels)
    assert content(folder) == first


def test_findings_are_aligned():
    findings = [pair_finding("a", Path("x/a_img.nii"), "is empty"), pair_finding("long", Path("b.nii"), "is a folder")]
    assert format_findings(findings) == (
        "  pair  file       problem\n  a     a_img.nii  is empty\n  long  b.nii      is a folder"
    )


def test_real_pairs_pass(folder, shared_data, caplog):
    caplog.set_level(logging.WARNING)
    msd = shared_data / "msd_hippocampus"
    for number in ("003", "243", "004", "075"):  # the first two labels are stored as float32
        name = f"hippocampus_{number}"
        (folder.path / f"{name}_img.nii.gz").symlink_to(msd / "imagesTr" / f"{name}.nii.gz")
        (folder.path / f"{name}_lbl.nii.gz").symlink_to(msd / "labelsTr" / f"{name}.nii.gz")
    checked = check(folder, table=LabelTable({1: "Anterior", 2: "Posterior"}))
    assert len(checked.pairs) == 4 and caplog.text == ""


AXES = ["LPS", "RAS", "SRA", "PIL", "ASR"]


def reoriented(name: str, folder: TrainingFolder, axes: str) -> None:
    """Store a file with other axes, every voxel where it was in the head."""
    image = nibabel.load(folder.path / name)
    now = nibabel.orientations.io_orientation(image.affine)
    turn = nibabel.orientations.ornt_transform(now, nibabel.orientations.axcodes2ornt(axes))
    nibabel.save(image.as_reoriented(turn), folder.path / name)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("case", ["sub-01", "sub-01_hemi-L"])
def test_a_label_with_other_axes_is_brought_to_those_of_its_image(folder, axes, case):
    folder.pair(case)
    pairs = find_pairs(folder.path, left_is="as-in-head")
    before, loaded = check_pairs(pairs), load_pair(pairs.pairs[0])
    reoriented(f"{case}_lbl.nii.gz", folder, axes)
    assert check_pairs(pairs).content == before.content
    np.testing.assert_array_equal(load_pair(pairs.pairs[0]).label, loaded.label)


def test_a_channel_with_other_axes_is_brought_to_those_of_the_first(folder):
    folder.image("sub-01_img_0000.nii.gz")
    folder.image("sub-01_img_0001.nii.gz")
    folder.label("sub-01_lbl.nii.gz")
    before = check(folder).content
    reoriented("sub-01_img_0001.nii.gz", folder, "SRA")
    assert check(folder).content == before


def test_one_volume_in_four_dimensions_is_the_same_pair(folder):
    folder.pair("sub-01")
    before = check(folder).content
    for name in (IMG, LBL):
        image = nibabel.load(folder.path / name.replace("02", "01"))
        folder.write(name.replace("02", "01"), np.asanyarray(image.dataobj)[..., None])
    assert check(folder).content == before


@pytest.mark.parametrize("scale", [10, 0.1])
def test_a_pair_of_another_scale_is_a_finding(folder, scale):
    for number in (1, 2, 3):
        folder.pair(f"sub-0{number}", np.diag([0.5, 0.5, 0.5, 1]))
    folder.pair("sub-04", np.diag([0.5 * scale, 0.5 * scale, 0.5 * scale, 1]))
    with pytest.raises(BadPairsError, match=rf"voxels of {0.5 * scale:.3g} mm, other pairs of 0\.5 mm") as caught:
        check(folder)
    assert {finding.case for finding in caught.value.findings} == {"sub-04"}


def test_other_resolutions_are_no_other_scale(folder):
    for number, spacing in enumerate((0.3, 0.3, 1.0, 2.0)):
        folder.pair(f"sub-0{number}", np.diag([spacing, spacing, spacing, 1]))
    assert not check(folder).findings


def test_a_pair_that_a_model_was_trained_on_turned_is_told_and_stays(folder, caplog):
    folder.pair("a")
    folder.pair("b")
    seen = examine_pairs(find_pairs(folder.path))
    turned = [
        replace(pair_finding(pair.case, pair.label, "lies mirrored", "Turn it."), guard="flip")
        for pair in seen.found.pairs
    ]
    with pytest.raises(BadPairsError, match="2 of 2 pairs"):
        choose_pairs(replace(seen, findings=tuple(turned)))
    with pytest.raises(BadPairsError, match="1 of 2 pairs"):
        choose_pairs(replace(seen, findings=tuple(turned)), kept={"a"})
    checked = choose_pairs(replace(seen, findings=tuple(turned)), kept={"a", "b"})
    assert [pair.case for pair in checked.pairs] == ["a", "b"] and checked.left_out == ()
    assert "as this model was trained on them" in caplog.text and caplog.text.count("lies mirrored") == 3
    broken = replace(turned[0], guard="swapped")
    with pytest.raises(BadPairsError):
        choose_pairs(replace(seen, findings=(broken,)), kept={"a"})


@pytest.mark.parametrize("axes", ["LAS", "RAS", "PSR", "LPI"])
def test_an_image_is_known_as_it_is_stored_and_with_axis_0_reversed(folder: TrainingFolder, axes: str) -> None:
    """Whatever it is turned to: HippoTune 0.1.0 took it as it lay, and left sides reversed."""
    stored = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    affine = inv_ornt_aff(ornt_transform(axcodes2ornt(axes), axcodes2ornt("RAS")), SHAPE)
    folder.pair("sub-01_hemi-R", affine=affine)
    folder.write("sub-01_hemi-R_img.nii.gz", stored, affine)
    known = check(folder).images["sub-01_hemi-R"]
    assert {image_digest(stored), image_digest(stored[::-1])} <= set(known)
