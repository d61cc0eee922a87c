"""The real validator on small data sets with real and injected faults: what stops a run, what is only told."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from bidsapp.bids import validation
from bidsapp.bids.validation import Complaint, shorten, validate_input
from bidsapp.cli import main
from bidsapp.errors import BidsValidationError, NoInputError
from tests.conftest import ROOT

HEAD = ROOT / "demo" / "data" / "colin27" / "sub-colin27" / "anat" / "sub-colin27_T1w.nii.gz"
SCAN = "sub-01/anat/sub-01_T1w.nii.gz"


def data_set(root: Path, *scans: str, **description: object) -> Path:
    """Real images under the names `scans`."""
    for name in (SCAN, *scans):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HEAD, root / name)
    content = {"Name": "test", "BIDSVersion": "1.10.0", **description}
    (root / "dataset_description.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def codes(complaints: tuple[Complaint, ...]) -> set[tuple[str, str]]:
    return {(one.code, one.location) for one in complaints}


def test_a_real_valid_data_set_has_warnings_that_do_not_stop_it(caplog: pytest.LogCaptureFixture) -> None:
    found = validate_input(ROOT / "demo" / "data" / "colin27")
    assert (found.errors, found.passed_over) == ((), ())
    assert "SIDECAR_KEY_RECOMMENDED" in {one.code for one in found.warnings}
    with caplog.at_level(logging.INFO, "bidsapp"):
        found.require_valid(ROOT)
    assert f"no errors that stop us, {len(found.warnings)} warnings" in caplog.text


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("sub-01/anat/sub-01_T1.nii.gz", "NOT_INCLUDED"),
        ("sub-01/anat/sub-02_T1w.nii.gz", "INVALID_LOCATION"),
        ("notes.docx", "NOT_INCLUDED"),
        ("results/x.nii.gz", "NOT_INCLUDED"),
    ],
)
def test_names_that_are_not_bids_stop(extra: str, expected: str, tmp_path: Path) -> None:
    found = validate_input(data_set(tmp_path / "data", extra))
    assert (expected, f"/{extra}") in codes(found.errors)
    with pytest.raises(BidsValidationError, match=f"(?s)not valid BIDS.*{expected}.*{extra}") as caught:
        found.require_valid(tmp_path / "data")
    assert caught.value.exit_code == 16
    assert "--skip-bids-validation" in caught.value.hint


def test_a_missing_version_of_bids_stops(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    (root / "dataset_description.json").write_text('{"Name": "test"}')
    (error,) = validate_input(root).errors
    assert (error.code, error.about) == ("JSON_KEY_REQUIRED", "BIDSVersion")


def test_fields_that_tell_nothing_of_a_scan_are_passed_over(tmp_path: Path) -> None:
    found = validate_input(data_set(tmp_path, ReferencesAndLinks="a paper"))
    assert found.errors == ()
    assert {one.place for one in found.passed_over} == {"/dataset_description.json (ReferencesAndLinks)"}


@pytest.mark.parametrize("damage", ["empty", "pointer", "link"])
def test_a_damaged_image_costs_one_person_so_it_does_not_stop_here(damage: str, tmp_path: Path) -> None:
    other = "sub-02/anat/sub-02_T1w.nii.gz"
    root = data_set(tmp_path / "data", other)
    (root / other).unlink()
    if damage == "link":
        (root / other).symlink_to("../../.git/annex/objects/x")
    else:
        (root / other).write_text("" if damage == "empty" else "version https://git-lfs.github.com/spec/v1\n")
    found = validate_input(root)
    assert found.errors == ()
    assert {one.location for one in found.passed_over} == {f"/{other}"}


def test_errors_of_people_who_were_not_asked_for_do_not_stop(tmp_path: Path) -> None:
    bad = "sub-02/anat/sub-02_T1.nii.gz"
    root = data_set(tmp_path / "data", bad)
    fault = {("NOT_INCLUDED", f"/{bad}")}
    assert codes(validate_input(root).errors) == fault
    assert codes(validate_input(root, participants=["sub-02"]).errors) == fault
    for chosen in (validate_input(root, participants=["01"]), validate_input(root, exclude=["sub-02"])):
        assert (chosen.errors, codes(chosen.passed_over)) == ((), fault)


def test_our_own_folders_in_the_input_are_not_part_of_it(tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", "results/x.nii.gz", "derivatives/tool/x.nii.gz")
    assert validate_input(root).errors
    assert validate_input(root, ours=(root / "results", tmp_path)).errors == ()


def test_names_of_derivatives_are_not_held_against_bids(tmp_path: Path) -> None:
    crop = "sub-01/anat/sub-01_hemi-L_space-corobl_desc-preproc_T1w.nii.gz"
    root = data_set(tmp_path, crop, DatasetType="derivative", GeneratedBy=[{"Name": "HippUnfold"}])
    assert validate_input(root).errors == ()


def test_a_folder_without_description_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match=r"no dataset_description\.json"):
        validate_input(tmp_path)


@pytest.mark.parametrize(
    "command",
    [["/no/such/validator"], ["false"], ["echo", "out of memory"], ["sh", "-c", "echo 'Fatal: no memory' >&2; exit 1"]],
)
def test_a_validator_that_does_not_run_is_told_and_stops_nobody(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(validation, "_command", lambda: command)
    with caplog.at_level(logging.WARNING, "bidsapp"):
        assert validate_input(data_set(tmp_path)) == validation.Validation()
    assert "the input was not checked" in caplog.text
    assert ("no memory" in caplog.text) == (command[0] == "sh")


def test_many_files_are_shown_short() -> None:
    complaints = [Complaint("NOT_INCLUDED", "error", f"/f{n}", words="Not in BIDS. More.") for n in range(5)]
    assert shorten(complaints) == ["NOT_INCLUDED: /f0, /f1, /f2 and 2 more - Not in BIDS"]


def test_the_run_stops_with_16_and_the_whole_is_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = [f"sub-01/anat/sub-01_run-{n}_T1.nii.gz" for n in range(1, 6)]
    data, out = data_set(tmp_path / "data", *bad), tmp_path / "out"
    words = [str(data), str(out), "participant", "--model", "none"]
    assert main([*words, "--dry-run"]) == 16
    assert not out.exists()
    assert main(words) == 16
    said = capsys.readouterr().out
    assert bad[0] in said
    assert bad[4] not in said
    (log,) = out.glob("logs/*/participant.log")
    assert all(name in log.read_text() for name in bad)
    assert main([*words, "--dry-run", "--skip-bids-validation"]) == 0


def test_another_tools_folder_gets_no_log_of_ours(tmp_path: Path) -> None:
    data, out = data_set(tmp_path / "data", "sub-01/anat/sub-01_T1.nii.gz"), tmp_path / "out"
    out.mkdir()
    tool = {"Name": "x", "BIDSVersion": "1.8.0", "DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]}
    (out / "dataset_description.json").write_text(json.dumps(tool))
    assert main([str(data), str(out), "participant", "--model", "none"]) == 2
    assert [path.name for path in out.iterdir()] == ["dataset_description.json"]
