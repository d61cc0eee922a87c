"""What people save comes back onto the crop's grid, or is refused in words; never a crash."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.corobl.grid import GRIDS, SHAPE, crop_image
from bidsapp.corobl.template import load_hippocampus
from bidsapp.errors import BadDataError
from bidsapp.images.grids import Grid
from bidsapp.review.label_file import fix_header, read_label_file
from tests.flip import LEFT_FLIPPED_AFFINE


@pytest.fixture(scope="module")
def good() -> np.ndarray:
    labels = load_hippocampus("L").astype(np.uint8)
    labels[:, 128:] *= 2
    return labels


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, GRIDS["L"].affine if affine is None else affine), path)
    return path


def guards(path: Path) -> list[str]:
    return [finding.guard for finding in read_label_file(path, "L", GRIDS).findings]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_every_number_type_gives_the_same_labels(tmp_path: Path, good: np.ndarray, kind: type) -> None:
    read = read_label_file(save(tmp_path / "a.nii.gz", good.astype(kind)), "L", GRIDS)
    assert read.findings == ()
    assert read.labels is not None and np.array_equal(read.labels, good)
    assert np.issubdtype(read.labels.dtype, np.integer)
    assert bool(read.normalised) == (np.dtype(kind).kind == "f")


def test_a_fourth_dimension_of_one_volume_is_dropped(tmp_path: Path, good: np.ndarray) -> None:
    read = read_label_file(save(tmp_path / "a.nii.gz", good[..., None]), "L", GRIDS)
    assert read.findings == () and read.normalised == ("its shape was 128 x 256 x 128 x 1",)
    assert read.labels is not None and np.array_equal(read.labels, good)


@pytest.mark.parametrize(("name", "packed"), [("a.nii", True), ("a.nii.gz", False)])
def test_compression_may_disagree_with_the_name(tmp_path: Path, good: np.ndarray, name: str, packed: bool) -> None:
    content = crop_image(good, "L").to_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if packed else content)
    read = read_label_file(tmp_path / name, "L", GRIDS)
    assert read.findings == () and len(read.normalised) == 1
    assert read.labels is not None and np.array_equal(read.labels, good)


def test_scaling_is_applied(tmp_path: Path, good: np.ndarray) -> None:
    image = crop_image(good, "L")
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([2.0, 0.0], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    read = read_label_file(tmp_path / "a.nii", "L", GRIDS)
    assert read.labels is not None and np.array_equal(read.labels, 2 * good.astype(int))
    assert "its values are scaled by 2 and 0" in read.normalised


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("reverse", [False, True])
def test_other_axes_with_a_truthful_header_are_reordered(
    tmp_path: Path, good: np.ndarray, axes: tuple[int, int, int], reverse: bool
) -> None:
    array, affine = good, GRIDS["L"].affine
    if reverse:
        array, affine = good[::-1], LEFT_FLIPPED_AFFINE
    turn = np.eye(4)[:, [*axes, 3]]
    read = read_label_file(save(tmp_path / "a.nii.gz", array.transpose(axes), affine @ turn), "L", GRIDS)
    assert read.findings == ()
    assert read.labels is not None and np.array_equal(read.labels, good)


def test_single_precision_is_no_other_place(tmp_path: Path, good: np.ndarray) -> None:
    affine = GRIDS["L"].affine.copy()
    affine[:3, 3] += 0.002
    assert guards(save(tmp_path / "a.nii.gz", good, affine)) == []


@pytest.mark.parametrize("name", ["identity", "sign of x", "origin", "other side"])
def test_only_the_header_differs_and_can_be_mended(tmp_path: Path, good: np.ndarray, name: str) -> None:
    affine = GRIDS["L"].affine.copy()
    if name == "identity":
        affine = np.eye(4)
    if name == "sign of x":
        affine[0, 0] = 0.3
    if name == "origin":
        affine[:3, 3] = 0
    if name == "other side":
        affine = GRIDS["R"].affine
    path = save(tmp_path / "sub-01_desc-manual_dseg.nii.gz", good, affine)
    before = path.read_bytes()
    assert guards(path) == ["header"]
    original = fix_header(path, GRIDS["L"])
    assert original.name == "sub-01_desc-manual_dseg.nii.gz.orig" and original.read_bytes() == before
    read = read_label_file(path, "L", GRIDS)
    assert read.findings == () and read.labels is not None and np.array_equal(read.labels, good)
    assert fix_header(path, GRIDS["L"]).name == "sub-01_desc-manual_dseg.nii.gz.2.orig"
    assert original.read_bytes() == before


def test_the_words_say_how_far_off_a_header_is(tmp_path: Path, good: np.ndarray) -> None:
    affine = GRIDS["L"].affine.copy()
    affine[1, 3] += 7
    (finding,) = read_label_file(save(tmp_path / "a.nii.gz", good, affine), "L", GRIDS).findings
    assert "off by 7.0 mm" in finding.problem


def test_a_label_of_another_place_is_not_only_a_header(tmp_path: Path) -> None:
    elsewhere = np.zeros(SHAPE, np.uint8)
    elsewhere[5:20, 5:20, 5:20] = 1
    assert guards(save(tmp_path / "a.nii.gz", elsewhere, np.eye(4))) == ["geometry"]


def test_a_mirrored_label_is_not_only_a_header(tmp_path: Path, good: np.ndarray) -> None:
    assert guards(save(tmp_path / "a.nii.gz", good[::-1], np.eye(4))) == ["geometry"]


def test_the_file_of_the_other_side_is_named(tmp_path: Path) -> None:
    right = load_hippocampus("R").astype(np.uint8)
    (finding,) = read_label_file(save(tmp_path / "a.nii.gz", right, GRIDS["R"].affine), "L", GRIDS).findings
    assert finding.guard == "flip" and "right crop" in finding.problem


def test_another_shape_gives_no_labels(tmp_path: Path, good: np.ndarray) -> None:
    read = read_label_file(save(tmp_path / "a.nii.gz", good[:, 1:]), "L", GRIDS)
    assert read.labels is None
    assert [f.problem for f in read.findings] == ["its shape is 128 x 255 x 128, the crop's is 128 x 256 x 128"]
    with pytest.raises(BadDataError, match="128 x 255 x 128"):
        fix_header(read.path, GRIDS["L"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("value", [0.5, -1.0, np.nan, np.inf, 1e9])
def test_values_that_are_no_labels(tmp_path: Path, good: np.ndarray, value: float) -> None:
    array = good.astype(np.float32)
    array[60, 60, 60] = value
    read = read_label_file(save(tmp_path / "a.nii.gz", array), "L", GRIDS)
    assert [finding.guard for finding in read.findings] == ["values"] and read.labels is None


def _rgb(path: Path) -> None:
    array = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def _series(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.uint8), np.eye(4)), path)


def _cut(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.random.default_rng(0).integers(0, 99, (40, 40, 40), np.uint8), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-5000])


def _cut_plain(path: Path) -> None:
    path.write_bytes(nib.Nifti1Image(np.zeros((40, 40, 40), np.uint8), np.eye(4)).to_bytes()[:5000])


def _cut_header(path: Path) -> None:
    path.write_bytes(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)).to_bytes()[:200])


@pytest.mark.parametrize(
    "spoil",
    [
        _rgb,
        _series,
        _cut,
        _cut_plain,
        _cut_header,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        lambda path: path.write_text("no image at all, but some text"),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("nowhere"),
        lambda path: None,
    ],
)
def test_what_cannot_be_read_is_a_finding(tmp_path: Path, spoil) -> None:
    path = tmp_path / "a.nii.gz"
    spoil(path)
    read = read_label_file(path, "L", GRIDS)
    assert [finding.guard for finding in read.findings] == ["file"] and read.labels is None
    assert str(path) not in read.findings[0].problem


def test_a_label_map_belongs_on_the_grid_of_its_crop_wherever_that_is(tmp_path: Path, good: np.ndarray) -> None:
    affine = GRIDS["L"].affine.copy()
    affine[:3, 3] += (0, 3.0, -1.5)
    moved = Grid((128, 240, 128), affine)
    labels = np.roll(good[:, 10:250], 5, axis=2)
    path = save(tmp_path / "a.nii.gz", labels, affine)
    assert guards(path) == ["geometry"]
    read = read_label_file(path, "L", {**GRIDS, "L": moved})
    assert read.findings == ()
    np.testing.assert_array_equal(read.labels, labels)
