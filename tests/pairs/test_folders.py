"""Folders of pairs as other tools leave them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.pairs.check_pairs import check_pairs
from bidsapp.pairs.folders import open_pair_folder
from bidsapp.pairs.pairs import find_pairs
from bidsapp.records import LabelTable
from tests.training_folder import TrainingFolder

V2 = {"channel_names": {"0": "T1w", "1": "T2w"}, "labels": {"background": 0, "CA1": 1, "DG/CA4": 2}}
V1 = {"modality": {"0": "T1w", "1": "T2w"}, "labels": {"0": "background", "1": "CA1", "2": "DG/CA4"}}


def nnunet(folder: TrainingFolder, description: object, *, cases: tuple[str, ...] = ("case_1", "case_2")) -> None:
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder.path / name).mkdir()
    for case in cases:
        for channel in (0, 1):
            folder.image(f"imagesTr/{case}_{channel:04d}.nii.gz")
        folder.label(f"labelsTr/{case}.nii.gz")
    folder.image("imagesTs/secret_0000.nii.gz")
    (folder.path / "dataset.json").write_text(json.dumps(description))


@pytest.mark.parametrize("description", [V2 | {"file_ending": ".nii.gz"}, V1], ids=["v2", "v1"])
def test_nnunets_raw_data_bring_names_of_labels_and_channels(folder, description, caplog):
    nnunet(folder, description)
    with caplog.at_level(logging.INFO):
        found = find_pairs(folder.path)
    assert found.table == LabelTable({1: "CA1", 2: "DG-CA4"}) and found.channels == ("T1w", "T2w")
    assert [[path.name for path in pair.images] for pair in found.pairs] == [
        ["case_1_0000.nii.gz", "case_1_0001.nii.gz"],
        ["case_2_0000.nii.gz", "case_2_0001.nii.gz"],
    ]
    assert [pair.label.name for pair in found.pairs] == ["case_1.nii.gz", "case_2.nii.gz"]
    assert "imagesTs is not trained on" in caplog.text and found.findings == ()
    assert len(check_pairs(found, table=found.table).pairs) == 2


def test_the_decathlons_images_have_no_number(folder):
    nnunet(folder, {"labels": {"0": "background", "1": "Anterior", "2": "Posterior"}}, cases=())
    folder.image("imagesTr/hippocampus_003.nii.gz")
    folder.label("labelsTr/hippocampus_003.nii.gz")
    (pair,) = find_pairs(folder.path).pairs
    assert (pair.case, pair.participant) == ("hippocampus_003",) * 2


def test_what_nnunet_lacks_or_has_too_much_is_told(folder, caplog):
    nnunet(folder, V2, cases=("case_1", "case_2", "case_3"))
    (folder.path / "labelsTr" / "case_2.nii.gz").unlink()
    folder.image("imagesTr/case_1_0002.nii.gz")
    (folder.path / "imagesTr" / "case_1.txt").write_text("")
    found = find_pairs(folder.path)
    assert [(one.file.name, one.problem) for one in found.findings] == [
        ("case_1_0002.nii.gz", "is one channel too many: other pairs have 0000 0001"),
        ("case_2.nii.gz", "is missing"),
    ]
    assert "imagesTr/case_1.txt" in caplog.text


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("[]", "is no description"),
        ("{", "dataset.json"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, r"whole is \[1, 2\], not one value"),
        ({"labels": {"background": 0, "ignore": 3}}, "'ignore' cannot be the name of a label"),
        ({"labels": {"background": 0, "a b": 1, "a/b": 2}}, "'a-b' cannot be the name"),
        ({"labels": {"background": 0, "CA1": "one"}}, "labels cannot be used"),
        ({"labels": {"background": 0, "CA1": 99999}}, "CA1 is 99999"),
        ({"labels": ["CA1"]}, "labels cannot be used"),
        ({"channel_names": {"first": "T1w"}}, "channel_names is"),
        ({"channel_names": ["T1w"]}, "channel_names is"),
        ({"file_ending": ".mha"}, "file_ending is '.mha'"),
    ],
)
def test_a_description_that_cannot_be_meant_is_refused(folder, description, message):
    nnunet(folder, description)
    if isinstance(description, str):
        (folder.path / "dataset.json").write_text(description)
    with pytest.raises(BadDataError, match=message) as caught:
        find_pairs(folder.path)
    assert str(folder.path / "dataset.json") in caught.value.message and caught.value.exit_code == 65


def autotop(folder: TrainingFolder, subject: str, side: str, *labels: str) -> None:
    (folder.path / subject / side).mkdir(parents=True)
    folder.image(f"{subject}/{side}/img.nii.gz")
    for label in labels:
        folder.label(f"{subject}/{side}/{label}.nii.gz")


def test_autotops_tree_is_taken_and_a_persons_label_first(folder, caplog):
    autotop(folder, "sub-01", "hemi-L", "niftynet_lbl")
    autotop(folder, "sub-01", "hemi-R", "niftynet_lbl", "manual_lbl")
    autotop(folder, "sub-02", "hemi-R", "lbl", "niftynet_lbl")
    autotop(folder, "sub-03", "hemi-R")
    found = find_pairs(folder.path)
    assert {pair.case: (pair.label.name, pair.participant, pair.hemi) for pair in found.pairs} == {
        "sub-01_hemi-Lflip": ("niftynet_lbl.nii.gz", "sub-01", "L"),
        "sub-01_hemi-R": ("manual_lbl.nii.gz", "sub-01", "R"),
        "sub-02_hemi-R": ("lbl.nii.gz", "sub-02", "R"),
    }
    assert [one.case for one in found.findings] == ["sub-03_hemi-R"]
    assert "sub-02/hemi-R/niftynet_lbl.nii.gz" in caplog.text
    # flipped in its voxels under the header of before (LAS): it looks like a right side as it lies
    left = next(pair for pair in found.pairs if pair.hemi == "L")
    assert (left.axes, left.truthful) == ("LAS", False)
    as_in_head = find_pairs(folder.path, left_is="as-in-head")
    assert next(pair for pair in as_in_head.pairs if pair.hemi == "L").axes == "RAS"


@pytest.mark.parametrize(
    ("files", "cases"),
    [
        ({"one": ["P1", "P2"], "two": ["P3"]}, ["P1", "P2", "P3"]),
        ({"P1": ["scan"], "P2": ["scan"]}, ["P1_scan", "P2_scan"]),
        ({"left": ["1"], "right": ["1"]}, ["left_1", "right_1"]),
        ({"left": ["1"], "right": ["2"]}, ["left_1", "right_2"]),
        ({"a": ["x"], "b": ["y"]}, ["a_x", "b_y"]),
    ],
)
def test_pairs_one_level_deeper(folder, files, cases):
    for inside, ids in files.items():
        (folder.path / inside).mkdir()
        for case in ids:
            folder.pair(f"{inside}/{case}")
    assert sorted(open_pair_folder(folder.path).cases) == cases


def test_pairs_in_the_folder_itself_come_alone(folder):
    folder.pair("sub-01")
    autotop(folder, "sub-02", "hemi-R", "lbl")
    assert list(open_pair_folder(folder.path).cases) == ["sub-01"]


def test_a_folder_of_folders_without_pairs_says_what_is_looked_for(folder):
    (folder.path / "deep" / "deeper").mkdir(parents=True)
    folder.pair("deep/deeper/sub-01")
    with pytest.raises(NoInputError) as caught:
        find_pairs(folder.path)
    for word in ("imagesTr", "niftynet_lbl", "<id>_img.nii.gz"):
        assert word in caught.value.hint


def test_the_real_decathlon_is_taken_as_it_lies(shared_data: Path):
    found = find_pairs(shared_data / "msd_hippocampus")
    assert len(found.pairs) == 200 and found.findings == ()
    assert found.table == LabelTable({1: "Anterior", 2: "Posterior"})
    assert {pair.axes for pair in found.pairs} == {"RAS"} == set(found.stored.values())
