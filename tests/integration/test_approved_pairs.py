"""From approved labels to a trained model and to a data set for others, as a user gives the commands."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.cli import main
from bidsapp.corobl.grid import GRIDS, SHAPE
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.split import read_split
from bidsapp.models_cli import main as hippotune_models
from tests.approvals import ApprovedLabels
from tests.flip import LEFT_FLIPPED_AFFINE
from tests.validation import errors_of

PEOPLE = 6
TINY = ("--preset", "tiny", "--iterations", "2", "--set", "training.validation_batches=1", "--device", "cpu")


@pytest.fixture
def approved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApprovedLabels:
    """Six simulated people, both sides, at 1 mm."""
    approved = ApprovedLabels(tmp_path / "out", monkeypatch)
    approved.simulate(PEOPLE)
    return approved


def group(approved: ApprovedLabels, *options: object) -> int:
    bids = approved.layout.root.parent
    return main([str(word) for word in (bids, approved.layout.root, "group", *options)])


def model(tmp_path: Path, name: str) -> ModelLayout:
    return ModelLayout(tmp_path / name)


def facts_of(layout: ModelLayout) -> dict[str, object]:
    with zipfile.ZipFile(layout.current_export) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith("hippotune.json"))
        return json.loads(packed.read(name))


def test_approved_labels_become_a_model_that_says_so(
    approved: ApprovedLabels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approved.refuse("sub-P06_hemi-R", "the label changed after its approval")
    layout = model(tmp_path, "first")
    assert group(approved, "--model-dir", layout.root, *TINY) == 1
    said = capsys.readouterr().out
    assert "labels approved through review (11 by 1 rater)" in said
    assert "no longer holds (1 pair)" in said
    assert "sub-P06_hemi-R (the label changed after its approval)" in said

    cases = {path.name[: -len("_lbl.nii.gz")] for path in layout.training.glob("*_lbl.nii.gz")}
    assert len(cases) == 2 * PEOPLE - 1
    assert "sub-P06_hemi-R" not in cases
    for part in ("Tr", "Ts"):
        for path in layout.raw_labels(part).glob("*.nii.gz"):
            given = nib.load(layout.training / path.name.replace(".nii.gz", "_lbl.nii.gz"))
            np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), np.asarray(given.dataobj))
    dataset = json.loads((layout.raw_dataset / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "T1w"}
    facts = facts_of(layout)
    assert facts["labels_from"] == {
        "statement": "labels approved through review (11 by 1 rater)",
        "approvals": 11,
        "raters": 1,
    }
    assert facts["channels"] == ["T1w"]
    crops = [str(approved.layout.session("P01", None).crop(side, "T1w")) for side in ("L", "R")]
    assert hippotune_models(["contains", str(layout.root), *crops]) == 0
    said = capsys.readouterr().out
    assert [f"of sub-P01{flipped}\n" in said for flipped in (", flipped", "")] == [True, True]
    assert "Ada" not in json.dumps(facts)
    assert "P0" not in json.dumps(facts)
    assert read_split(approved.layout.people_split) == read_split(layout.split)

    # the same model with the same pairs as a folder that the user vouches for
    assert group(approved, "--model-dir", layout.root, "--training-dir", layout.training, *TINY) == 0
    assert "labels vouched for by the user" in capsys.readouterr().out
    facts = facts_of(layout)
    assert facts["labels_from"] == {"statement": "labels vouched for by the user"}
    assert facts["channels"] == ["T1w"]


def test_two_models_share_their_test_people(approved: ApprovedLabels, tmp_path: Path) -> None:
    """A preparation is enough: people are placed before anything is trained."""
    first, second = model(tmp_path, "first"), model(tmp_path, "second")
    few = (*TINY, "--set", "training.seed=1")
    assert group(approved, "--model-dir", first.root, "--exclude-participant-label", "P01", *few) == 0
    assert group(approved, "--model-dir", second.root, *TINY, "--set", "training.seed=2") == 0
    one, two = ({row.participant_id: row.split for row in read_split(model.split).rows} for model in (first, second))
    assert set(two) - set(one) == {"sub-P01"}
    assert {person: two[person] for person in one} == one
    assert {row.participant_id: row.split for row in read_split(approved.layout.people_split).rows} == two


def test_a_dry_run_checks_approved_labels_and_writes_nothing(
    approved: ApprovedLabels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert group(approved, "--model-dir", tmp_path / "model", "--dry-run", "--session-label", "a") == 18
    assert "there is no ses-a" in capsys.readouterr().out
    assert group(approved, "--model-dir", tmp_path / "model", "--dry-run", "--participant-label", *people(1, 4)) == 0
    said = capsys.readouterr().out
    assert "left out: sub-P05_hemi-L (not in --participant-label)" in said
    assert "channels   T1w" in said
    assert "labels approved through review (8 by 1 rater)" in said
    assert sorted(tmp_path.rglob("*")) == before


def people(first: int, last: int) -> list[str]:
    return [f"P{number:02d}" for number in range(first, last + 1)]


def test_a_split_that_contradicts_the_data_set_is_refused(
    approved: ApprovedLabels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = model(tmp_path, "model")
    layout.root.mkdir()
    layout.split.write_text("participant_id\tsplit\nsub-P01\ttrain\nsub-P02\tvalidation\nsub-P03\ttest\n")
    approved.layout.people_split.write_text("participant_id\tsplit\nsub-P01\ttest\n")
    assert group(approved, "--model-dir", layout.root, "--dry-run") == 65
    assert "sub-P01 (test in the data set, train in the model)" in capsys.readouterr().out


def test_nothing_approved_points_to_the_review(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    approved = ApprovedLabels(tmp_path / "out", monkeypatch)
    assert group(approved) == 18
    assert "run.py BIDS_DIR OUTPUT_DIR review" in capsys.readouterr().out


def test_real_size_crops_are_exported_on_their_grids_and_flipped_for_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    approved = ApprovedLabels(tmp_path / "out", monkeypatch)
    approved.simulate(1, spacing_mm=0.3)
    shared = tmp_path / "shared"
    assert group(approved, "--export-training-data", shared, "--dry-run") == 0
    assert not shared.exists()
    assert group(approved, "--export-training-data", shared) == 0
    assert not (approved.layout.models).exists()
    assert errors_of(shared) == (0, [])
    for path in shared.rglob("*.nii.gz"):
        image = nib.load(path)
        assert image.shape == SHAPE
        np.testing.assert_allclose(image.affine, GRIDS["L" if "_hemi-L_" in path.name else "R"].affine, atol=1e-5)
    assert len(list(shared.rglob("*.nii.gz"))) == 4

    from bidsapp.pairs.approved import gather_approved, update_training_folder
    from bidsapp.review.selection import Wanted

    update_training_folder(tmp_path / "training", gather_approved(approved.layout, Wanted()), ("T1w",))
    for kind in ("img", "lbl"):
        image = nib.load(tmp_path / "training" / f"sub-P01_hemi-Lflip_{kind}.nii.gz")
        np.testing.assert_allclose(image.affine, LEFT_FLIPPED_AFFINE, atol=1e-5)


def test_an_export_without_a_refused_label_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    approved = ApprovedLabels(tmp_path / "out", monkeypatch)
    approved.add("01", "L")
    approved.add("02", "L")
    approved.refuse("sub-02_hemi-L", "its crop is another one")
    assert group(approved, "--export-training-data", tmp_path / "shared") == 1
    assert "sub-02_hemi-L (its crop is another one)" in capsys.readouterr().out
    assert len(list((tmp_path / "shared").glob("sub-*"))) == 1
