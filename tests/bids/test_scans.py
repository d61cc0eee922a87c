from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from bidsapp.bids.scans import find_sessions
from bidsapp.errors import BadDataError, NoInputError, NothingMatchesError, UsageError


def chosen(found) -> dict[str, dict[str, str]]:
    """Session -> modality -> name of the file."""
    return {session.name: {m: scan.path.name for m, scan in session.scans.items()} for session in found.sessions}


def crop_names(session) -> dict[str, dict[str, str]]:
    return {side: {m: crop.path.name for m, crop in crops.items()} for side, crops in session.crops.items()}


# --- one scan per session and modality -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["sub-01_T1w.nii.gz"], "sub-01_T1w.nii.gz"),
        (["sub-01_T1w.nii"], "sub-01_T1w.nii"),
        (["sub-01_T1w.nii", "sub-01_T1w.nii.gz"], "sub-01_T1w.nii.gz"),
        (["sub-01_run-2_T1w.nii.gz", "sub-01_run-10_T1w.nii.gz"], "sub-01_run-10_T1w.nii.gz"),
        (["sub-01_run-02_T1w.nii.gz", "sub-01_run-1_T1w.nii.gz"], "sub-01_run-02_T1w.nii.gz"),
        (["sub-01_acq-a_run-2_T1w.nii.gz", "sub-01_acq-b_run-1_T1w.nii.gz"], "sub-01_acq-b_run-1_T1w.nii.gz"),
        (["sub-01_rec-a_run-2_T1w.nii.gz", "sub-01_rec-b_T1w.nii.gz"], "sub-01_rec-b_T1w.nii.gz"),
        (["sub-01_echo-9_T1w.nii.gz", "sub-01_echo-10_T1w.nii.gz"], "sub-01_echo-10_T1w.nii.gz"),
        (["sub-01_acq-z_ce-gad_T1w.nii.gz", "sub-01_acq-a_T1w.nii.gz"], "sub-01_acq-a_T1w.nii.gz"),
        (["sub-01_part-mag_T1w.nii.gz"], "sub-01_part-mag_T1w.nii.gz"),
    ],
)
def test_the_last_run_counts_and_the_others_are_left_aside(raw, names, expected):
    paths = raw.add(*names)
    found = find_sessions(raw.root, modalities=["T1w"])
    assert chosen(found) == {"sub-01": {"T1w": expected}}
    assert found.sessions[0].left_aside == tuple(sorted(path for path in paths if path.name != expected))
    assert found.left_out == {}


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_part-phase_T1w.nii.gz",
        "sub-01_part-real_T1w.nii.gz",
        "sub-01_part-imag_T1w.nii.gz",
        "sub-01_space-MNI_T1w.nii.gz",
        "sub-01_desc-defaced_T1w.nii.gz",
        "sub-01_hemi-L_T1w.nii.gz",
        "sub-01_label-brain_T1w.nii.gz",
        "sub-01_T2w.nii.gz",
        "sub-01_inplaneT1.nii.gz",
        "sub-01_T1w.mgz",
        "sub-01_T1w.json",
        "._sub-01_T1w.nii.gz",
    ],
)
def test_other_files_are_no_scans(raw, name):
    raw.add("sub-02_T1w.nii.gz")
    (raw.root / "sub-01" / "anat").mkdir(parents=True)
    (raw.root / "sub-01" / "anat" / name).write_bytes(b"")
    found = find_sessions(raw.root, modalities=["T1w"])
    assert list(chosen(found)) == ["sub-02"]
    assert list(found.left_out) == ["sub-01"]
    assert found.left_out["sub-01"].startswith("no T1w image; there is: ")


def test_only_anat_folders_of_people_are_looked_at(raw):
    raw.add("sub-01_T1w.nii.gz")
    for folder in ("derivatives/tool/sub-05/anat", "code", "sourcedata/sub-06/anat", "sub-01/labels", "stuff/sub-7"):
        raw.write(f"{folder}/sub-05_T1w.nii.gz", "")
    raw.add("sub-01_run-9_T1w.nii.gz", folder="func")
    assert chosen(find_sessions(raw.root, modalities=["T1w"])) == {"sub-01": {"T1w": "sub-01_T1w.nii.gz"}}


def test_sub_1_and_sub_01_are_different_people_and_sessions_are_in_order(raw):
    raw.add("sub-1_T1w.nii.gz", "sub-01_ses-2_T1w.nii.gz", "sub-01_ses-1_T1w.nii.gz")
    found = find_sessions(raw.root, modalities=["T1w"])
    assert list(chosen(found)) == ["sub-01_ses-1", "sub-01_ses-2", "sub-1"]
    assert [(s.participant, s.session) for s in found.sessions] == [("01", "1"), ("01", "2"), ("1", None)]


@pytest.mark.parametrize("above", ["sub-99/ses-7", "run-3_desc-x", "a b/hemi-L_space-MNI_acq-z", "derivatives/anat"])
def test_folders_above_the_data_set_say_nothing(tmp_path, raw, above):
    raw.add("sub-01_T1w.nii.gz")
    root = tmp_path / above / "bids"
    root.parent.mkdir(parents=True)
    raw.root.rename(root)
    (session,) = find_sessions(root, modalities=["T1w"]).sessions
    assert (session.name, session.scans["T1w"].uri) == ("sub-01", "bids:raw:sub-01/anat/sub-01_T1w.nii.gz")
    assert session.scans["T1w"].path == root / "sub-01" / "anat" / "sub-01_T1w.nii.gz"


def test_links_are_files_wherever_they_lead(raw, tmp_path):
    (present,) = raw.add("sub-01_T1w.nii.gz")
    for name, target in (("sub-02_T1w.nii.gz", present), ("sub-03_T1w.nii.gz", Path("../.git/annex/gone"))):
        path = raw.root / name.split("_")[0] / "anat" / name
        path.parent.mkdir(parents=True)
        path.symlink_to(target)
    elsewhere = tmp_path / "elsewhere"
    raw.add("sub-04_T1w.nii.gz")
    (raw.root / "sub-04").rename(elsewhere)
    (raw.root / "sub-04").symlink_to(elsewhere)
    found = find_sessions(raw.root, modalities=["T1w"])
    assert list(chosen(found)) == ["sub-01", "sub-02", "sub-03", "sub-04"]


def test_a_file_in_another_persons_folder_is_nobodys(raw, caplog):
    raw.add("sub-01_T1w.nii.gz")
    raw.write("sub-01/anat/sub-02_T1w.nii.gz", "")
    raw.write("sub-02/ses-1/anat/sub-02_ses-2_T1w.nii.gz", "")
    found = find_sessions(raw.root, modalities=["T1w"])
    assert chosen(found) == {"sub-01": {"T1w": "sub-01_T1w.nii.gz"}}
    assert list(found.left_out) == ["sub-02"]
    assert "sub-01/anat/sub-02_T1w.nii.gz" in caplog.text and "sub-02_ses-2_T1w.nii.gz" in caplog.text


def test_a_folder_that_names_nobody_is_reported(raw):
    raw.add("sub-01_T1w.nii.gz", "sub-A-1_T1w.nii.gz", "sub-A-2_T1w.nii.gz")
    found = find_sessions(raw.root, modalities=["T1w"])
    assert list(chosen(found)) == ["sub-01"]
    assert list(found.left_out) == ["sub-A-1", "sub-A-2"]


# --- what is required, what helps, what is left out ------------------------------------------------------------------


def test_helpers_are_taken_along_and_not_required(raw):
    raw.add("sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz", "sub-02_T2w.nii.gz", "sub-03_T1w.nii.gz")
    found = find_sessions(raw.root, modalities=["T2w"], helpers=["T1w"])
    assert chosen(found) == {
        "sub-01": {"T2w": "sub-01_T2w.nii.gz", "T1w": "sub-01_T1w.nii.gz"},
        "sub-02": {"T2w": "sub-02_T2w.nii.gz"},
    }
    assert found.left_out == {"sub-03": "no T2w image; there is: T1w"}


def test_incomplete_sessions_are_left_out_and_empty_ones_are_none(raw):
    raw.add(
        "sub-01_ses-1_T1w.nii.gz", "sub-01_ses-1_T2w.nii.gz", "sub-01_ses-2_T1w.nii.gz", "sub-01_ses-3_FLAIR.nii.gz"
    )
    raw.add("sub-02_ses-1_FLAIR.nii.gz")
    found = find_sessions(raw.root, modalities=["T1w", "T2w"])
    assert list(chosen(found)) == ["sub-01_ses-1"]
    assert found.left_out == {
        "sub-01_ses-2": "no T2w image; there is: T1w",
        "sub-02": "no T1w and no T2w image; there is: FLAIR",
    }


@pytest.mark.parametrize("labels", [["sub-01", "03"], ["01,sub-03"], ["01 03"], ["01", "01", "sub-03,"]])
def test_labels_with_and_without_prefix(raw, labels):
    raw.add("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz", "sub-03_T1w.nii.gz")
    assert list(chosen(find_sessions(raw.root, modalities=["T1w"], participants=labels))) == ["sub-01", "sub-03"]
    assert list(chosen(find_sessions(raw.root, modalities=["T1w"], exclude=labels))) == ["sub-02"]


def test_sessions_asked_for(raw):
    raw.add("sub-01_ses-1_T1w.nii.gz", "sub-01_ses-2_T1w.nii.gz", "sub-02_ses-2_T1w.nii.gz", "sub-03_T1w.nii.gz")
    found = find_sessions(raw.root, modalities=["T1w"], sessions=["ses-1"])
    assert (list(chosen(found)), found.left_out) == (["sub-01_ses-1"], {})
    asked = find_sessions(raw.root, modalities=["T1w"], sessions=["1"], participants=["01", "02"])
    assert asked.left_out == {"sub-02": "no T1w image in ses-1; there is: none"}


@pytest.mark.parametrize(
    ("question", "message", "hint"),
    [
        ({"participants": ["01", "99", "98"]}, "there is no sub-99 and no sub-98 in ", "There is: sub-01, sub-02."),
        ({"exclude": ["99"]}, "there is no sub-99 in ", "There is: sub-01, sub-02."),
        ({"sessions": ["3"]}, "there is no ses-3 in ", "There is: ses-1."),
        ({"sessions": ["1"], "participants": ["02"]}, "there is no ses-1 in ", "There is: none."),
        ({"participants": ["02"]}, "no T1w of sub-02 in ", "sub-02: no T1w image; there is: T2w"),
        ({"exclude": ["01", "02"]}, "no T1w of anybody in ", "Nobody is left to look at."),
    ],
)
def test_nothing_matches(raw, question, message, hint):
    raw.add("sub-01_ses-1_T1w.nii.gz", "sub-02_T2w.nii.gz")
    with pytest.raises(NothingMatchesError) as caught:
        find_sessions(raw.root, modalities=["T1w"], **question)
    assert (caught.value.message, caught.value.hint) == (message + str(raw.root), hint)
    assert caught.value.exit_code == 18


def test_at_most_twenty_labels_are_listed(raw):
    raw.add(*(f"sub-{number:02d}_T1w.nii.gz" for number in range(23)))
    with pytest.raises(NothingMatchesError) as caught:
        find_sessions(raw.root, modalities=["T1w"], participants=["x"])
    assert caught.value.hint.endswith("sub-18, sub-19 ... and 3 more.")


@pytest.mark.parametrize("labels", [[""], [","], ["sub-"], ["", " "]])
def test_an_empty_label_does_not_mean_everybody(raw, labels):
    raw.add("sub-01_T1w.nii.gz")
    with pytest.raises(UsageError, match="empty label"):
        find_sessions(raw.root, modalities=["T1w"], participants=labels)


# --- data sets that are none -----------------------------------------------------------------------------------------


def test_no_data_set(tmp_path, raw):
    with pytest.raises(NoInputError, match="does not exist"):
        find_sessions(tmp_path / "missing", modalities=["T1w"])
    with pytest.raises(NoInputError, match=r"has no dataset_description\.json") as caught:
        find_sessions(tmp_path, modalities=["T1w"])
    assert caught.value.hint.endswith(f"did you mean {raw.root}?")
    with pytest.raises(NoInputError, match=r"has no dataset_description\.json"):
        find_sessions(raw.root, modalities=["T1w"], derivatives=[tmp_path])


@pytest.mark.parametrize("content", ["{", "", "[1]", '"x"', "\x00"])
def test_a_damaged_description(raw, content):
    raw.add("sub-01_T1w.nii.gz")
    raw.write("dataset_description.json", content)
    with pytest.raises(BadDataError, match=r"dataset_description\.json"):
        find_sessions(raw.root, modalities=["T1w"])


def test_what_pybids_trips_over_is_bad_data(raw):
    raw.add("sub-01_T1w.nii.gz")
    raw.write("dataset_description.json", {"Name": "x", "DatasetType": "derivative", "GeneratedBy": None})
    with pytest.raises(BadDataError, match="cannot be indexed by pybids") as caught:
        find_sessions(raw.root, modalities=["T1w"])
    assert "GeneratedBy" in caught.value.hint


def test_an_incomplete_description_is_no_obstacle(raw):
    raw.add("sub-01_T1w.nii.gz")
    raw.write("dataset_description.json", "\ufeff{}")
    assert list(chosen(find_sessions(raw.root, modalities=["T1w"]))) == ["sub-01"]


# --- metadata --------------------------------------------------------------------------------------------------------


def test_sidecars_inherit(raw):
    raw.add("sub-01_ses-1_acq-a_T1w.nii.gz", "sub-01_ses-1_T2w.nii.gz")
    raw.write("T1w.json", {"A": 1, "B": 1, "C": 1, "D": 1})
    raw.write("acq-b_T1w.json", {"A": 9})
    raw.write("T2w.json", {"A": 7})
    raw.write("sub-01/sub-01_T1w.json", {"B": 2, "C": 2, "D": 2})
    raw.write("sub-01/ses-1/sub-01_ses-1_T1w.json", {"C": 3, "D": 3})
    raw.write("sub-01/ses-1/anat/sub-01_ses-1_acq-a_T1w.json", {"D": 4, "run": 9, "subject": "other"})
    (session,) = find_sessions(raw.root, modalities=["T1w"], helpers=["T2w"]).sessions
    assert session.scans["T1w"].metadata == {"A": 1, "B": 2, "C": 3, "D": 4, "run": 9, "subject": "other"}
    assert session.scans["T2w"].metadata == {"A": 7}


@pytest.mark.parametrize("content", ["{", "[1]", "null", "[" * 100_000])
def test_a_damaged_sidecar_costs_the_metadata_only(raw, caplog, content):
    raw.add("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz")
    raw.write("T1w.json", {"A": 1})
    damaged = raw.write("sub-01/anat/sub-01_T1w.json", content)
    with caplog.at_level(logging.WARNING):
        first, second = find_sessions(raw.root, modalities=["T1w"]).sessions
    assert (first.scans["T1w"].metadata, second.scans["T1w"].metadata) == ({}, {"A": 1})
    assert str(damaged) in caplog.text


def test_a_sidecar_that_was_not_fetched_costs_the_metadata_only(raw, caplog):
    raw.add("sub-01_T1w.nii.gz")
    (raw.root / "sub-01/anat/sub-01_T1w.json").symlink_to("gone")
    (session,) = find_sessions(raw.root, modalities=["T1w"]).sessions
    assert session.scans["T1w"].metadata == {} and "sub-01_T1w.json" in caplog.text


# --- filters ---------------------------------------------------------------------------------------------------------

SCANS = (
    "sub-01_ses-1_acq-hires_run-1_T1w.nii.gz",
    "sub-01_ses-1_acq-hires_run-02_T1w.nii.gz",
    "sub-01_ses-1_T1w.nii.gz",
    "sub-01_ses-2_acq-lowres_T1w.nii.gz",
)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"acquisition": "hires"}, {"sub-01_ses-1": "sub-01_ses-1_acq-hires_run-02_T1w.nii.gz"}),
        ({"acquisition": "hires", "run": 1}, {"sub-01_ses-1": "sub-01_ses-1_acq-hires_run-1_T1w.nii.gz"}),
        ({"run": 2}, {"sub-01_ses-1": "sub-01_ses-1_acq-hires_run-02_T1w.nii.gz"}),
        ({"run": "02"}, {"sub-01_ses-1": "sub-01_ses-1_acq-hires_run-02_T1w.nii.gz"}),
        ({"acquisition": None}, {"sub-01_ses-1": "sub-01_ses-1_T1w.nii.gz"}),
        (
            {"acquisition": "*", "run": None},
            {"sub-01_ses-2": "sub-01_ses-2_acq-lowres_T1w.nii.gz"},
        ),
        (
            {"acquisition": [None, "lowres"], "session": ["ses-1", "2"]},
            {"sub-01_ses-1": "sub-01_ses-1_T1w.nii.gz", "sub-01_ses-2": "sub-01_ses-2_acq-lowres_T1w.nii.gz"},
        ),
        ({"session": 2}, {"sub-01_ses-2": "sub-01_ses-2_acq-lowres_T1w.nii.gz"}),
    ],
)
@pytest.mark.parametrize("key", ["T1w", "t1w"])
def test_filters(raw, tmp_path, key, rules, expected):
    raw.add(*SCANS)
    file = tmp_path / "filters.json"
    file.write_text(json.dumps({key: rules, "bold": {"task": "rest"}}))
    found = find_sessions(raw.root, modalities=["T1w"], filters=file)
    assert {name: scans["T1w"] for name, scans in chosen(found).items()} == expected


def test_a_filter_may_ask_for_what_is_otherwise_no_scan(raw, tmp_path):
    raw.add("sub-01_T1w.nii.gz", "sub-01_desc-denoised_T1w.nii.gz")
    file = tmp_path / "filters.json"
    file.write_text('{"T1w": {"desc": "denoised"}}')
    found = find_sessions(raw.root, modalities=["T1w"], filters=file)
    assert chosen(found) == {"sub-01": {"T1w": "sub-01_desc-denoised_T1w.nii.gz"}}


def test_a_filter_that_nothing_passes(raw, tmp_path):
    raw.add("sub-01_acq-lowres_T1w.nii.gz")
    file = tmp_path / "filters.json"
    file.write_text('{"T1w": {"acquisition": "hires"}}')
    with pytest.raises(NothingMatchesError) as caught:
        find_sessions(raw.root, modalities=["T1w"], filters=file)
    assert caught.value.message == f"no T1w of anybody that passes {file} in {raw.root}"
    assert caught.value.hint == f"sub-01: no T1w image that passes {file}; there is: sub-01_acq-lowres_T1w.nii.gz"


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (None, NoInputError, ["does not exist"]),
        ("{", BadDataError, ["not JSON"]),
        ("[]", BadDataError, ["list"]),
        ('{"PDw": {}}', BadDataError, ["'PDw'", "T1w and T2w"]),
        ('{"T1w": {}, "t1w": {}}', BadDataError, ["twice", "'t1w'"]),
        ('{"T1w": "hires"}', BadDataError, ['"hires"']),
        ('{"T1w": {"acq": "hires"}}', BadDataError, ["'acq'", "Did you mean 'acquisition'?"]),
        ('{"T1w": {"colour": "red"}}', BadDataError, ["'colour'", "acquisition, "]),
        ('{"T1w": {"run": true}}', BadDataError, ["'run'", "true"]),
        ('{"T1w": {"run": 1.5}}', BadDataError, ["'run'", "1.5"]),
        ('{"T1w": {"run": {"a": 1}}}', BadDataError, ["'run'", '{"a": 1}']),
        ('{"T1w": {"run": []}}', BadDataError, ["'run'", "empty list"]),
    ],
)
def test_unusable_filters(raw, tmp_path, content, error, words):
    raw.add("sub-01_T1w.nii.gz")
    file = tmp_path / "filters.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(error) as caught:
        find_sessions(raw.root, modalities=["T1w"], filters=file)
    assert str(file) in caught.value.message
    for word in words:
        assert word in caught.value.message + caught.value.hint


# --- derivatives -----------------------------------------------------------------------------------------------------


def test_ready_made_crops_with_the_scan_and_the_transform(raw, deriv):
    raw.add("sub-01_T1w.nii.gz")
    deriv.add(
        "sub-01_hemi-L_space-corobl_desc-preproc_T1w.nii.gz",
        "sub-01_hemi-L_space-corobl_desc-zoom_T1w.nii.gz",
        "sub-01_hemi-L_space-corobl_T1w.nii.gz",
        "sub-01_hemi-R_space-corobl_T1w.nii.gz",
        "sub-01_hemi-Lflip_space-corobl_desc-preproc_T1w.nii.gz",
        "sub-01_desc-preproc_T1w.nii.gz",
    )
    (transform, *_) = deriv.add(
        "sub-01_from-T1w_to-corobl_desc-affine_type-itk_xfm.txt",
        "sub-01_from-T1w_to-corobl_desc-affine_type-ras_xfm.txt",
        "sub-01_from-T2w_to-corobl_desc-affine_type-itk_xfm.txt",
        "sub-01_from-corobl_to-T1w_mode-image_xfm.txt",
        folder="warps",
    )
    (session,) = find_sessions(raw.root, modalities=["T1w"], derivatives=[deriv.root]).sessions
    assert crop_names(session) == {
        "L": {"T1w": "sub-01_hemi-L_space-corobl_desc-preproc_T1w.nii.gz"},
        "R": {"T1w": "sub-01_hemi-R_space-corobl_T1w.nii.gz"},
    }
    assert session.crops["R"]["T1w"].uri == "bids:deriv1:sub-01/anat/sub-01_hemi-R_space-corobl_T1w.nii.gz"
    assert session.scans["T1w"].uri == "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"
    assert session.transforms == {"T1w": transform}
    assert {path.name for path in session.left_aside} == {
        "sub-01_hemi-L_space-corobl_desc-zoom_T1w.nii.gz",
        "sub-01_hemi-L_space-corobl_T1w.nii.gz",
        "sub-01_desc-preproc_T1w.nii.gz",
    }


def test_our_own_transforms_are_known(raw, deriv):
    raw.add("sub-01_T1w.nii.gz")
    deriv.add("sub-01_hemi-R_space-corobl_desc-preproc_T1w.nii.gz")
    (transform,) = deriv.add("sub-01_from-T1w_to-corobl_mode-image_xfm.txt")
    (session,) = find_sessions(raw.root, modalities=["T1w"], derivatives=[deriv.root]).sessions
    assert session.transforms == {"T1w": transform}


def test_a_side_without_all_modalities_is_not_used(raw, deriv, deriv2):
    raw.add("sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz")
    deriv.add("sub-01_hemi-L_space-corobl_T1w.nii.gz")
    deriv2.add(*(f"sub-01_hemi-{pair}.nii.gz" for pair in ("L_space-corobl_T1w", "L_space-corobl_T2w")))
    deriv2.add("sub-01_hemi-R_space-corobl_T2w.nii.gz")
    found = find_sessions(raw.root, modalities=["T1w", "T2w"], derivatives=[deriv.root, deriv2.root])
    (session,) = found.sessions
    assert list(session.crops) == ["L"]
    assert {crop.uri.split(":")[1] for crop in session.crops["L"].values()} == {"deriv2"}
    assert len(session.left_aside) == 2


@pytest.mark.parametrize(
    ("name", "used"),
    [
        ("sub-01_desc-preproc_T1w.nii.gz", True),
        ("sub-01_space-T1w_desc-preproc_T1w.nii.gz", True),
        ("sub-01_space-T2w_desc-preproc_T1w.nii.gz", True),
        ("sub-01_space-orig_desc-preproc_T1w.nii", True),
        ("sub-01_space-MNI152NLin6Asym_desc-preproc_T1w.nii.gz", False),
        ("sub-01_space-MNI152NLin6Asym_res-2_desc-preproc_T1w.nii.gz", False),
        ("sub-01_desc-brain_T1w.nii.gz", False),
        ("sub-01_T1w.nii.gz", False),
        ("sub-01_hemi-L_space-cropT1w_desc-preproc_T1w.nii.gz", False),
    ],
)
def test_preprocessed_scans_go_before_raw_ones(raw, deriv, deriv2, name, used):
    (original,) = raw.add("sub-01_T1w.nii.gz")
    deriv2.add(name)
    found = find_sessions(raw.root, modalities=["T1w"], derivatives=[deriv.root, deriv2.root])
    (session,) = found.sessions
    expected = f"bids:deriv2:sub-01/anat/{name}" if used else "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"
    assert session.scans["T1w"].uri == expected
    assert session.left_aside == ((original,) if used else ())


def test_people_who_are_only_in_the_derivatives_count(raw, deriv):
    raw.add("sub-01_T1w.nii.gz")
    deriv.add("sub-02_desc-preproc_T1w.nii.gz", "sub-03_hemi-L_space-corobl_T1w.nii.gz", "sub-04_T1w.nii.gz")
    found = find_sessions(raw.root, modalities=["T1w"], derivatives=[deriv.root])
    assert list(chosen(found)) == ["sub-01", "sub-02", "sub-03"]
    assert chosen(found)["sub-03"] == {}
    assert found.left_out == {"sub-04": "no T1w image; there is: sub-04_T1w.nii.gz"}
    asked = find_sessions(raw.root, modalities=["T1w"], derivatives=[deriv.root], participants=["02"])
    assert list(chosen(asked)) == ["sub-02"]


def test_an_average_over_sessions_is_no_further_session(raw, deriv):
    raw.add("sub-01_ses-1_T1w.nii.gz", "sub-01_ses-2_T1w.nii.gz", "sub-02_ses-1_FLAIR.nii.gz")
    deriv.add("sub-01_desc-preproc_T1w.nii.gz", "sub-02_desc-preproc_T1w.nii.gz")
    found = find_sessions(raw.root, modalities=["T1w"], derivatives=[deriv.root])
    assert list(chosen(found)) == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]


# --- real data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "people"),
    [("ds000011", ["01", "02", "03"]), ("ds002748", ["01", "21"]), ("aomic_piop2", ["0001"])],
)
def test_real_data_sets(shared_data, name, people):
    found = find_sessions(shared_data / name, modalities=["T1w"], helpers=["T2w"])
    assert [session.participant for session in found.sessions] == people
    assert all(session.scans["T1w"].path.stat().st_size > 10_000 for session in found.sessions)
    assert found.left_out == {}


def test_a_real_data_set_without_the_modality(shared_data):
    with pytest.raises(NothingMatchesError) as caught:
        find_sessions(shared_data / "ds000011", modalities=["T2w"])
    assert "sub-01: no T2w image; there is: T1w, inplaneT2." in caught.value.hint
