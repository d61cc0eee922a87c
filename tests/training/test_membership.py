"""Whether the training knew somebody: people by id, images by voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from training_folder import OBLIQUE, TrainingFolder

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.layout import ModelLayout
from bidsapp.models_cli import main
from bidsapp.records import Split, SplitRow
from bidsapp.training.check_pairs import check_pairs
from bidsapp.training.membership import Membership, find_in_training, known_training
from bidsapp.training.pairs import find_pairs
from bidsapp.training.state import ModelState, Segment, write_state
from bidsapp.training.volumes import read_volume

PARTS = {"sub-01": "train", "sub-02": "validation", "sub-03": "test", "sub-04": "train"}


@pytest.fixture
def folder(tmp_path: Path) -> TrainingFolder:
    """Three people's pairs; the left side of sub-01 lies there as in the head, and is flipped for the network."""
    folder = TrainingFolder(tmp_path / "pairs")
    for case in ("sub-01_hemi-L", "sub-01_hemi-R", "sub-02_hemi-R", "sub-03_hemi-Lflip"):
        folder.pair(case)
    return folder


@pytest.fixture
def model_dir(folder: TrainingFolder, tmp_path: Path) -> Path:
    """What `group` notes of them; sub-04 has a place, and nothing of theirs was ever given."""
    return write_model(folder, tmp_path / "model")


def write_model(folder: TrainingFolder, model_dir: Path, base: str = "scratch") -> Path:
    checked = check_pairs(find_pairs(folder.path, left_is="as-in-head"))
    state = ModelState(
        base=base,
        labels=checked.table.names,
        required_labels=(),
        channels=("T1w",),
        split=Split(tuple(SplitRow(person, part, 1) for person, part in PARTS.items())),  # type: ignore[arg-type]
        segments=(Segment(0, 10, "exported"),),
        unchecked=() if base == "scratch" else ("theirs",),
        image_people=checked.image_people,
    )
    model_dir.mkdir()
    write_state(ModelLayout(model_dir), state)
    return model_dir


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("sub-01", Membership("sub-01", "train")),
        ("02", Membership("sub-02", "validation")),
        ("sub-03", Membership("sub-03", "test")),
        ("sub-04", Membership()),
        ("sub-1", Membership()),
        ("{pairs}/sub-01_hemi-R_img.nii.gz", Membership("sub-01", "train")),
        ("{pairs}/sub-01_hemi-L_img.nii.gz", Membership("sub-01", "train", flipped=True)),
        ("{pairs}/sub-03_hemi-Lflip_img.nii.gz", Membership("sub-03", "test")),
        ("{pairs}/sub-02_hemi-R_lbl.nii.gz", Membership()),
    ],
)
def test_people_by_id_and_images_by_voxels(
    what: str, found: Membership, folder: TrainingFolder, model_dir: Path
) -> None:
    assert find_in_training(what.format(pairs=folder.path), known_training(model_dir)) == found


def test_a_name_and_a_header_say_nothing_and_another_grid_is_not_recognised(
    folder: TrainingFolder, model_dir: Path
) -> None:
    state = known_training(model_dir)
    voxels = read_volume(folder.path / "sub-02_hemi-R_img.nii.gz").array
    same = folder.write("copy.nii", voxels.astype(np.float64), np.diag([1.0, 1.0, 1.0, 1.0]))
    assert find_in_training(str(same), state) == Membership("sub-02", "validation")
    cropped = folder.write("cropped.nii.gz", voxels[1:], OBLIQUE)
    assert find_in_training(str(cropped), state) == Membership()


def test_what_is_no_image_is_said(folder: TrainingFolder, model_dir: Path) -> None:
    state = known_training(model_dir)
    with pytest.raises(NoInputError, match="does not exist"):
        find_in_training(str(folder.path / "missing.nii.gz"), state)
    (folder.path / "bad.nii.gz").write_bytes(b"")
    with pytest.raises(BadDataError, match="is empty"):
        find_in_training(str(folder.path / "bad.nii.gz"), state)
    with pytest.raises(BadDataError, match="is a folder"):
        find_in_training(f"{folder.path.parent}/pairs", state)


def test_the_command_answers(
    folder: TrainingFolder, model_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.path)
    (folder.path / "sub-01").mkdir()  # in a BIDS data set a person is a folder too
    left, label = "sub-01_hemi-L_img.nii.gz", "sub-02_hemi-R_lbl.nii.gz"
    assert main(["contains", str(model_dir), "sub-01", "sub-04", left]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "sub-01: contained, train",
        "sub-04: not contained",
        f"{left}: contained, train of sub-01, flipped",
    ]
    assert main(["contains", str(model_dir), label]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{label}: not contained"
    assert "resampled in another way is not recognised" in second


@pytest.mark.parametrize("kind", ["missing", "file", "folder"])
def test_without_the_model_dir_nobody_is_called_new(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "export"
    if kind == "file":
        path.write_bytes(b"PK\x03\x04")
    elif kind == "folder":
        path.mkdir()
    assert main(["contains", str(path), "sub-01"]) == 66
    said = capsys.readouterr().out
    assert "could not be checked" in said
    assert "ask those who trained the model" in said
    assert "contained" not in said


def test_whom_the_parent_knew_could_not_be_checked(
    folder: TrainingFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = write_model(folder, tmp_path / "tuned", base="ab" * 32)
    assert main(["contains", str(tuned), "sub-01"]) == 0
    assert main(["contains", str(tuned), "sub-02", "sub-09"]) == 66
    said = capsys.readouterr().out
    assert "sub-02: contained, validation" in said
    assert "could not be checked: sub-09; the training began with theirs" in said
    assert "not contained" not in said
