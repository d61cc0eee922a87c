from __future__ import annotations

import errno
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest

from bidsapp.corobl.grid import GRIDS
from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.images.grids import Grid
from bidsapp.images.orientation import axes_of, turned_grid
from bidsapp.pairs.pairs import find_pairs
from tests.training_folder import SHAPE

COROBL_RIGHT = np.array([[-0.3, 0, 0, 41.5], [0, 0.3, 0, -50.5], [0, 0, 0.3, -31.5], [0, 0, 0, 1]])
AXIS_0_RUNS_FORWARD = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)


def problems(found) -> list[tuple[str, str]]:
    return [(finding.file.name, finding.problem) for finding in found.findings]


@pytest.mark.parametrize(
    ("case", "participant", "hemi"),
    [
        ("sub-01", "sub-01", "n/a"),
        ("sub-01_hemi-R", "sub-01", "R"),
        ("sub-01_ses-2_hemi-Lflip_T1w", "sub-01", "L"),
        ("sub-A1b_run-1", "sub-A1b", "n/a"),
        ("img_sub-01", "sub-01", "n/a"),
        ("sub-02_img", "sub-02", "n/a"),
        ("sub-03_lbl", "sub-03", "n/a"),
        ("a.sub-04", "sub-04", "n/a"),
        ("hippocampus_003", "hippocampus_003", "n/a"),
        ("subject-7", "subject-7", "n/a"),
        ("img", "img", "n/a"),
        ("patient 7", "patient 7", "n/a"),
        ("patient_hemi-R", "patient", "R"),
        ("hemi-Lflip", "hemi-Lflip", "L"),
        ("chemi-L", "chemi-L", "n/a"),
    ],
)
def test_the_id_says_whose_pair_it_is_and_which_side(folder, case, participant, hemi):
    folder.pair(case)
    found = find_pairs(folder.path)
    (pair,) = found.pairs
    assert (pair.case, pair.participant, pair.hemi) == (case, participant, hemi)
    assert pair.images == (folder.path / f"{case}_img.nii.gz",)
    assert pair.label == folder.path / f"{case}_lbl.nii.gz"
    assert found.findings == ()


def test_images_may_be_compressed_or_not_and_have_channels_in_the_order_of_their_numbers(folder):
    for number in (10, 2, 1, 0, 3, 4, 5, 6, 7, 8, 9):
        folder.image(f"sub-01_img_{number:04d}.nii")
    folder.label("sub-01_lbl.nii.gz")
    (pair,) = find_pairs(folder.path).pairs
    assert [path.name for path in pair.images] == [f"sub-01_img_{number:04d}.nii" for number in range(11)]


def test_other_files_are_ignored(folder, caplog):
    folder.pair("sub-01")
    for name in ("README", "labels.tsv", "annotated.tsv", "._sub-01_img.nii.gz", "img.txt", "sub-09_img.png"):
        (folder.path / name).write_bytes(b"\0")
    (folder.path / "sub-02").mkdir()
    (folder.path / "sub-02" / "sub-02_img.nii.gz").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        found = find_pairs(folder.path)
    assert [pair.case for pair in found.pairs] == ["sub-01"]
    assert found.findings == () and caplog.text == ""


@pytest.mark.parametrize("name", ["sub-01_T1w.nii.gz", "_img.nii.gz", "sub-01_IMG.nii.gz", "sub-1-img.nii", "imgs.NII"])
def test_nifti_files_with_other_names_are_mentioned(folder, caplog, name):
    folder.pair("sub-01")
    (folder.path / name).write_bytes(b"")
    assert len(find_pairs(folder.path).pairs) == 1
    assert name in caplog.text


@pytest.mark.parametrize("misspelt", ["sub-01_label.nii.gz", "sub-01_lbl.nii.gz.nii.gz", "sub-01_LBL.nii.gz"])
def test_a_missing_label_is_found_under_its_misspelt_name(folder, misspelt):
    folder.image("sub-01_img.nii.gz")
    folder.label(misspelt)
    (finding,) = find_pairs(folder.path).findings
    assert (finding.file.name, finding.problem) == ("sub-01_lbl.nii.gz", "is missing")
    assert misspelt in finding.hint


def test_missing_images_are_findings(folder):
    folder.pair("sub-01")
    folder.label("sub-02_lbl.nii.gz")
    found = find_pairs(folder.path)
    assert [pair.case for pair in found.pairs] == ["sub-01"]
    assert problems(found) == [("sub-02_img.nii.gz", "is missing")]


def test_channels_missing_in_some_cases_are_findings(folder):
    for case in ("a", "b", "c", "d"):
        folder.label(f"{case}_lbl.nii.gz")
        folder.image(f"{case}_img_0000.nii.gz")
    for case in ("a", "b", "d"):
        folder.image(f"{case}_img_0001.nii.gz")
    folder.image("d_img_0002.nii.gz")
    found = find_pairs(folder.path)
    assert [pair.case for pair in found.pairs] == ["a", "b"]
    assert problems(found) == [
        ("c_img_0001.nii.gz", "is missing: other pairs have the channels 0000 0001"),
        ("d_img_0002.nii.gz", "is one channel too many: other pairs have 0000 0001"),
    ]


def test_a_single_numbered_channel_is_the_same_as_none(folder):
    folder.pair("a")
    folder.image("b_img_0000.nii.gz")
    folder.label("b_lbl.nii.gz")
    assert [pair.case for pair in find_pairs(folder.path).pairs] == ["a", "b"]


def test_gaps_in_channels_are_findings(folder):
    for number in (0, 2):
        folder.image(f"a_img_{number:04d}.nii.gz")
    folder.label("a_lbl.nii.gz")
    assert [name for name, _ in problems(find_pairs(folder.path))] == ["a_img_0001.nii.gz"]


@pytest.mark.parametrize("case", ["=cmd", "+1", "-1", "@SUM(1)", "hemi-R_=cmd"])
def test_people_whom_a_spreadsheet_would_run_are_findings(folder, case):
    folder.pair(case)
    (finding,) = find_pairs(folder.path).findings
    assert "formula" in finding.problem and finding.hint


@pytest.mark.parametrize(
    ("extra", "file", "problem"),
    [
        ("a_img.nii", "a_img.nii.gz", "stands beside a_img.nii: which one counts?"),
        ("a_lbl.nii", "a_lbl.nii.gz", "stands beside a_lbl.nii: which one counts?"),
        ("a_img_0000.nii.gz", "a_img.nii.gz", "stands beside a_img_0000.nii.gz: which is channel 0000?"),
    ],
)
def test_two_files_for_one_role_are_a_finding(folder, extra, file, problem):
    folder.pair("a")
    folder.pair("b")
    folder.image(extra)
    found = find_pairs(folder.path)
    assert [pair.case for pair in found.pairs] == ["b"]
    assert [finding.case for finding in found.findings] == ["a"]
    assert problems(found) == [(file, problem)]


@pytest.mark.parametrize("case", ["tab\tinside", "end ", "new\nline"])
def test_ids_that_a_table_cannot_hold_are_findings(folder, case):
    folder.pair(case)
    (finding,) = find_pairs(folder.path).findings
    assert repr(case) in finding.problem


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), ("file", "is a file"), ("empty", "no training pairs"), ("else", "img.nii.gz")],
)
def test_no_input_says_which_names_are_looked_for(tmp_path, content, message):
    folder = tmp_path / "pairs"
    if content == "file":
        folder.write_text("")
    elif content:
        folder.mkdir()
    if content == "else":
        (folder / "img.nii.gz").write_bytes(b"")
    with pytest.raises(NoInputError) as caught:
        find_pairs(folder)
    assert str(folder) in caught.value.message
    assert message in caught.value.message + caught.value.hint
    assert "<id>_img.nii.gz" in caught.value.hint and "<id>_lbl.nii.gz" in caught.value.hint


def test_a_folder_without_permission(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(BadDataError, match="training set cannot be listed: Permission denied"):
        find_pairs(folder.path)


def test_relative_folders_give_absolute_files(folder, monkeypatch):
    folder.pair("sub-01")
    monkeypatch.chdir(folder.path.parent)
    (pair,) = find_pairs(Path(folder.path.name)).pairs
    assert pair.label == folder.path / "sub-01_lbl.nii.gz"


def test_a_pattern_names_people_in_other_schemes(folder):
    folder.pair("P7-old-scan1")
    folder.pair("nobody")
    found = find_pairs(folder.path, participant_pattern=r"^(P\d+)-")
    assert found.pairs[0].participant == "P7"
    (finding,) = found.findings
    assert finding.case == "nobody" and r"'^(P\\d+)-'" in finding.problem


@pytest.mark.parametrize(("pattern", "message"), [("(", "not a regular"), ("P", "0 groups"), ("(a)(b)", "2 groups")])
def test_a_pattern_has_one_group(folder, pattern, message):
    with pytest.raises(UsageError, match=message):
        find_pairs(folder.path, participant_pattern=pattern)


def turned(pair) -> bool:
    return pair.axes != axes_of(nibabel.load(pair.images[0]).affine)


def left_pair(folder, affine, shape, left_is=None):
    for suffix in ("img", "lbl"):
        folder.write(f"sub-01_ses-1_hemi-L_T1w_{suffix}.nii.gz", np.zeros(shape, np.uint8), affine)
    found = find_pairs(folder.path, left_is=left_is)
    return found.pairs[0], found.findings


def test_a_left_crop_as_in_the_head_is_flipped_and_renamed(folder):
    pair, findings = left_pair(folder, GRIDS["L"].affine, GRIDS["L"].shape)
    assert (pair.case, pair.hemi, pair.axes) == ("sub-01_ses-1_hemi-Lflip_T1w", "L", "RAS")
    assert findings == ()


@pytest.mark.parametrize(
    ("affine", "shape"),
    [
        (GRIDS["L"].affine, (128, 256, 127)),
        (GRIDS["L"].affine + np.diag([0, 0, 0.001, 0]), GRIDS["L"].shape),
        (np.diag([-1.0, 1, 1, 1]) @ GRIDS["L"].affine, GRIDS["L"].shape),
        (COROBL_RIGHT, GRIDS["L"].shape),
        (np.eye(4), (5, 6, 7)),
    ],
)
def test_any_other_left_is_not_guessed(folder, affine, shape):
    pair, findings = left_pair(folder, affine, shape)
    assert pair.case == "sub-01_ses-1_hemi-Lflip_T1w"
    (finding,) = findings
    assert finding.case == pair.case and finding.file.name == "sub-01_ses-1_hemi-L_T1w_img.nii.gz"
    assert "--left-is flipped" in finding.hint and "--left-is as-in-head" in finding.hint


@pytest.mark.parametrize(("left_is", "flip"), [("flipped", False), ("as-in-head", True)])
def test_the_user_says_what_left_files_are(folder, left_is, flip):
    pair, findings = left_pair(folder, np.diag([-1.0, 1, 1, 1]), (5, 6, 7), left_is)
    assert (pair.case, pair.hemi, turned(pair), findings) == ("sub-01_ses-1_hemi-Lflip_T1w", "L", flip, ())


def test_the_users_word_counts_for_the_corobl_grid_too_and_is_repeated(folder, caplog):
    pair, _ = left_pair(folder, GRIDS["L"].affine, GRIDS["L"].shape, "flipped")
    assert not turned(pair) and "left CorObl grid" in caplog.text


def test_a_left_side_with_exchanged_axes_is_turned_too(folder):
    pair, findings = left_pair(folder, AXIS_0_RUNS_FORWARD, (5, 6, 7), "as-in-head")
    assert (pair.axes, findings) == ("RAS", ())


def sided_folder(folder, right: str, left: dict[str, str], x_mm: float = -20):
    """Right sides stored as `right`, left ones called and stored as `left` says."""
    for case, axes, center in [
        ("sub-1_hemi-R", right, 20),
        ("sub-2_hemi-R", right, 20),
        *((*one, x_mm) for one in left.items()),
    ]:
        grid = turned_grid(Grid(SHAPE, np.array([[1.0, 0, 0, center], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])), axes)
        folder.pair(case, grid.affine, grid.shape)


@pytest.mark.parametrize("right", ["LAS", "RPI", "RAS"])
def test_a_left_header_unlike_those_of_right_sides_is_true_whoever_flipped(folder, right):
    other = {"LAS": "RAS", "RPI": "LPI", "RAS": "LAS"}[right]
    sided_folder(folder, right, {"sub-1_hemi-Lflip": other, "sub-2_hemi-L": other})
    found = find_pairs(folder.path)
    assert found.findings == ()
    assert {pair.case: (pair.axes, pair.truthful) for pair in found.pairs} == {
        "sub-1_hemi-R": ("LAS", True),
        "sub-2_hemi-R": ("LAS", True),
        "sub-1_hemi-Lflip": ("RAS", True),
        "sub-2_hemi-Lflip": ("RAS", True),
    }


def test_left_sides_flipped_under_the_old_header_become_right_ones(folder):
    sided_folder(folder, "RAS", {"sub-1_hemi-L": "RAS"})
    (left,) = [pair for pair in find_pairs(folder.path, left_is="flipped").pairs if pair.hemi == "L"]
    assert (left.axes, left.truthful) == ("LAS", False)


@pytest.mark.parametrize("case", ["sub-1_hemi-L", "sub-1_hemi-Lflip"])
def test_what_names_and_headers_cannot_tell_the_content_may(folder, case):
    sided_folder(folder, "LAS", {case: "LAS"})
    (finding,) = find_pairs(folder.path).findings
    assert "--left-is" in finding.hint
    asked = []

    def tell(undecided, pairs):
        asked.append(([pair.case for pair in undecided], len(pairs)))
        return {"sub-1_hemi-Lflip": False}

    found = find_pairs(folder.path, by_content=tell)
    assert asked == [(["sub-1_hemi-Lflip"], 3)] and found.findings == ()
    assert [(pair.axes, pair.truthful) for pair in found.pairs if pair.hemi == "L"] == [("LAS", False)]


def test_a_left_side_on_the_right_of_the_head_lies_in_a_mirrored_world(folder):
    sided_folder(folder, "LAS", {"sub-1_hemi-Lflip": "LAS"}, x_mm=20)
    assert {pair.axes for pair in find_pairs(folder.path).pairs} == {"LAS"}


@pytest.mark.parametrize(
    ("stored", "axes"),
    [
        (("LAS", "RAS", "RPI", "ASR", "LIP"), "RAS"),  # one of five is mirrored against the others
        (("LAS", "LAS", "RAS"), "LAS"),
        (("LAS", "RAS"), "RAS"),
        (("SAR",), "LAS"),
    ],
)
def test_pairs_of_unknown_sides_follow_the_majority(folder, stored, axes):
    for number, one in enumerate(stored):
        grid = turned_grid(Grid(SHAPE, np.eye(4)), one)
        folder.pair(f"block{number}", grid.affine, grid.shape)
    found = find_pairs(folder.path)
    assert {pair.axes for pair in found.pairs} == {axes} and found.storage["n/a"] == axes
    kept = find_pairs(folder.path, storage={"R": "LAS", "L": "RAS", "n/a": "LPI"})
    assert {pair.axes for pair in kept.pairs} == {"LPI"}


def test_other_sides_are_findings(folder):
    folder.pair("sub-01_hemi-B")
    assert problems(find_pairs(folder.path)) == [
        ("sub-01_hemi-B_img.nii.gz", "has hemi-B in its id, not hemi-R, hemi-L or hemi-Lflip")
    ]


def test_renaming_must_not_make_two_pairs_one(folder):
    folder.pair("sub-01_hemi-L")
    folder.pair("sub-01_hemi-Lflip")
    found = find_pairs(folder.path, left_is="flipped")
    assert sorted(name for name, _ in problems(found)) == [
        "sub-01_hemi-L_img.nii.gz",
        "sub-01_hemi-Lflip_img.nii.gz",
    ]
    assert {finding.case for finding in found.findings} == {"sub-01_hemi-Lflip"}


def test_an_id_too_long_for_the_names_made_of_it_is_a_finding(folder):
    folder.pair("sub-01")
    folder.pair("sub-" + "x" * 200)
    found = find_pairs(folder.path)
    assert [finding.problem for finding in found.findings] == [
        "has an id of 204 bytes, and 180 leave room for the names made of it"
    ]
    assert [pair.case for pair in found.pairs] == ["sub-01"]
