"""Approved labels become pairs: flipped truthfully, renumbered by name, kept up to date, never mixed with others'."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.errors import BadDataError, NothingMatchesError
from bidsapp.labels.tables import read_label_table
from bidsapp.pairs.approved import ApprovedSides, common_modalities, gather_approved, update_training_folder
from bidsapp.pairs.check_pairs import check_pairs
from bidsapp.pairs.pairs import find_pairs
from bidsapp.records import LabelTable, LabelTrust
from bidsapp.review.selection import Wanted
from tests.approvals import AFFINE, SHAPE, ApprovedLabels


@pytest.fixture
def approved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApprovedLabels:
    return ApprovedLabels(tmp_path / "out", monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "model" / "training"


def update(approved: ApprovedLabels, folder: Path, **options: object) -> ApprovedSides:
    sides = gather_approved(approved.layout, Wanted(), **options)  # type: ignore[arg-type]
    update_training_folder(folder, sides, common_modalities(sides.approvals))
    return sides


def pair_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.nii.gz"))


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def places_mm(path: Path, value: int) -> list[tuple[float, ...]]:
    """Where in the head the voxels of a value lie, by the header."""
    image = nib.load(path)
    indices = np.argwhere(np.asanyarray(image.dataobj) == value)
    return sorted(map(tuple, np.round(nib.affines.apply_affine(image.affine, indices), 4).tolist()))


def test_a_left_crop_and_its_label_are_flipped_together_and_truthfully(approved: ApprovedLabels, folder: Path) -> None:
    given = approved.add("01", "L")
    update(approved, folder)
    image, label = folder / "sub-01_hemi-Lflip_img.nii.gz", folder / "sub-01_hemi-Lflip_lbl.nii.gz"
    assert pair_files(folder) == [image.name, label.name]
    np.testing.assert_array_equal(voxels(image), voxels(approved.crop(given, "T1w"))[::-1])
    np.testing.assert_array_equal(voxels(label), voxels(approved.label(given))[::-1])
    flipped_affine = AFFINE.copy()
    flipped_affine[0, 0], flipped_affine[0, 3] = 0.5, -2.25 - 0.5 * (SHAPE[0] - 1)
    for path in (image, label):
        np.testing.assert_allclose(nib.load(path).affine, flipped_affine)
        np.testing.assert_allclose(nib.load(path).header.get_qform(), flipped_affine, atol=1e-6)
    # voxel (1, 2, 3) of value 1 as in the head, by hand: x = -2.25 - 0.5, y = -51 + 1.5, z = -32.5 + 3.75
    assert places_mm(approved.label(given), 1)[0] == (-2.75, -49.5, -28.75)
    assert places_mm(label, 1) == places_mm(approved.label(given), 1)


def test_a_right_side_stays_as_it_is(approved: ApprovedLabels, folder: Path) -> None:
    given = approved.add("01", "R", session="a")
    update(approved, folder)
    assert pair_files(folder) == ["sub-01_ses-a_hemi-R_img.nii.gz", "sub-01_ses-a_hemi-R_lbl.nii.gz"]
    np.testing.assert_array_equal(
        voxels(folder / "sub-01_ses-a_hemi-R_img.nii.gz"), voxels(approved.crop(given, "T1w"))
    )
    np.testing.assert_allclose(nib.load(folder / "sub-01_ses-a_hemi-R_lbl.nii.gz").affine, AFFINE)


def test_the_folder_is_what_training_dir_takes(approved: ApprovedLabels, folder: Path) -> None:
    for person in ("01", "02"):
        for hemi in ("L", "R"):
            approved.add(person, hemi, session="a", modalities=("T2w", "T1w"))
    sides = update(approved, folder)
    checked = check_pairs(find_pairs(folder), table=read_label_table(folder / "labels.tsv"))
    assert checked.findings == ()
    assert [pair.case for pair in checked.pairs] == [
        f"sub-{person}_ses-a_hemi-{side}" for person in ("01", "02") for side in ("Lflip", "R")
    ]
    assert {pair.participant for pair in checked.pairs} == sides.people == {"sub-01", "sub-02"}
    assert {(pair.hemi, pair.axes) for pair in checked.pairs} == {("R", "LAS"), ("L", "RAS")}
    first = checked.pairs[1]
    np.testing.assert_array_equal(voxels(first.images[0]), voxels(approved.crop(sides.approvals[1], "T1w")))
    np.testing.assert_array_equal(voxels(first.images[1]), voxels(approved.crop(sides.approvals[1], "T2w")))


def test_integers_of_another_protocol_are_replaced_by_name_voxel_for_voxel(
    approved: ApprovedLabels, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    approved.add("01", "R", names={1: "GM", 2: "SRLM", 8: "DG"})
    other = approved.add("02", "L", names={8: "GM", 1: "SRLM", 300: "DG"}, label=label_with(8, 1, 300))
    caplog.set_level("INFO", "bidsapp")
    update(approved, folder)
    given, written = voxels(approved.label(other))[::-1], voxels(folder / "sub-02_hemi-Lflip_lbl.nii.gz")
    for before, after in ((0, 0), (8, 1), (1, 2), (300, 8)):
        np.testing.assert_array_equal(given == before, written == after)
    assert read_label_table(folder / "labels.tsv") == LabelTable({1: "GM", 2: "SRLM", 8: "DG"})
    assert "SRLM 1 -> SRLM 2, GM 8 -> GM 1, DG 300 -> DG 8): sub-02_hemi-L" in caplog.text


def label_with(*values: int) -> np.ndarray:
    label = np.zeros(SHAPE, np.int16)
    for number, value in enumerate(values):
        label[number, 1 : 3 + number, 4] = value
    return label


def test_a_label_map_file_merges_and_drops(approved: ApprovedLabels, folder: Path, tmp_path: Path) -> None:
    approved.add("01", "R", names={1: "GM", 2: "SRLM"})
    other = approved.add("02", "R", names={1: "CA1", 2: "CA2", 3: "Cyst", 4: "SRLM"})
    with pytest.raises(BadDataError, match="CA1"):
        update(approved, folder)
    names = tmp_path / "map.tsv"
    names.write_text("from_name\tto_name\nCA1\tGM\nCA2\tGM\nCyst\tn/a\n")
    update(approved, folder, label_map=names)
    given, written = voxels(approved.label(other)), voxels(folder / "sub-02_hemi-R_lbl.nii.gz")
    np.testing.assert_array_equal(written == 1, np.isin(given, (1, 2)))
    np.testing.assert_array_equal(written == 2, given == 4)


def test_the_data_sets_table_comes_first_then_the_models(approved: ApprovedLabels, folder: Path) -> None:
    approved.add("01", "R")
    model_table = LabelTable({5: "Posterior", 6: "Anterior"})
    assert update(approved, folder, model_table=model_table).table == model_table
    approved.layout.label_names.write_text("index\tname\trequired\n3\tAnterior\ttrue\n4\tPosterior\t\n")
    sides = update(approved, folder, model_table=model_table)
    assert sides.table == LabelTable({3: "Anterior", 4: "Posterior"}, frozenset({"Anterior"}))
    assert read_label_table(folder / "labels.tsv") == sides.table
    assert set(np.unique(voxels(folder / "sub-01_hemi-R_lbl.nii.gz"))) == {0, 3, 4}


def test_a_value_without_a_name_stops_everything(approved: ApprovedLabels, folder: Path) -> None:
    approved.add("01", "R", label=label_with(1, 2, 9))
    with pytest.raises(BadDataError, match="holds values without a name: 9"):
        update(approved, folder)


def test_unchanged_pairs_are_left_alone_and_others_follow_their_approval(
    approved: ApprovedLabels, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for person in ("01", "02", "03", "04"):
        approved.add(person, "L")
    update(approved, folder)
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    approved.redraw("sub-02_hemi-L", label_with(2, 1))
    approved.refuse("sub-03_hemi-L", "changed since it was approved")
    tampered = folder / "sub-04_hemi-Lflip_lbl.nii.gz"
    sound = tampered.read_bytes()
    nib.save(nib.Nifti1Image(label_with(1, 1), AFFINE), tampered)
    approved.add("05", "L")
    caplog.set_level("INFO", "bidsapp")
    update(approved, folder)
    touched = {path.name for path in folder.glob("*.nii.gz") if path.stat().st_mtime != 1}
    assert {name.split("_")[0] for name in touched} == {"sub-02", "sub-04", "sub-05"}
    assert tampered.read_bytes() == sound
    assert {name.split("_")[0] for name in pair_files(folder)} == {"sub-01", "sub-02", "sub-04", "sub-05"}
    np.testing.assert_array_equal(voxels(folder / "sub-02_hemi-Lflip_lbl.nii.gz"), label_with(2, 1)[::-1])
    assert "removed from" in caplog.text and "sub-03_hemi-Lflip" in caplog.text
    assert "changed in" in caplog.text and "sub-04_hemi-Lflip" in caplog.text
    assert "refused: sub-03_hemi-L: changed since it was approved" in caplog.text


def test_a_killed_update_is_completed(approved: ApprovedLabels, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for person in ("01", "02", "03"):
        approved.add(person, "R")
    with monkeypatch.context() as patch:
        patch.setattr("bidsapp.pairs.approved.file_sha256", lambda _path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            update(approved, folder)
    assert pair_files(folder) == ["sub-01_hemi-R_img.nii.gz", "sub-01_hemi-R_lbl.nii.gz"]
    (folder / ".7.sub-02_hemi-R_img.nii.gz").write_bytes(b"half")
    update(approved, folder)
    assert len(pair_files(folder)) == 6
    assert not list(folder.glob(".*.nii.gz"))


def test_pairs_of_others_are_never_touched(approved: ApprovedLabels, folder: Path) -> None:
    approved.add("01", "R")
    folder.mkdir(parents=True)
    (folder / "mine_img.nii.gz").write_bytes(b"precious")
    with pytest.raises(BadDataError, match=r"mine_img\.nii\.gz") as caught:
        update(approved, folder)
    assert "--training-dir" in caught.value.hint
    assert [path.name for path in folder.iterdir()] == ["mine_img.nii.gz"]


def test_nothing_approved_says_how_to_approve(approved: ApprovedLabels) -> None:
    with pytest.raises(NothingMatchesError, match="no label is approved") as caught:
        gather_approved(approved.layout, Wanted())
    assert "run.py BIDS_DIR OUTPUT_DIR review" in caught.value.hint
    approved.add("01", "R")
    approved.refuse("sub-01_hemi-R", "its crop changed")
    with pytest.raises(NothingMatchesError, match="sub-01_hemi-R: its crop changed"):
        gather_approved(approved.layout, Wanted())


def test_other_modalities_are_listed_by_name(approved: ApprovedLabels) -> None:
    approved.add("01", "R")
    approved.add("02", "R")
    approved.add("03", "L", modalities=("T1w", "T2w"))
    with pytest.raises(BadDataError, match=r"sub-03_hemi-L \(T1w and T2w\)"):
        common_modalities(approved.approvals.values())


def test_those_who_answer_are_counted_and_never_named(approved: ApprovedLabels) -> None:
    for person, rater in (("01", "Ada"), ("02", "Bob"), ("03", "Ada")):
        approved.add(person, "R", rater=rater)
    vouched = gather_approved(approved.layout, Wanted()).vouched
    assert vouched == LabelTrust("review", 3, 2)
    assert str(vouched) == "labels approved through review (3 by 2 raters)"
