"""Whether the training knew somebody: people by id, images by voxels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.exchange.export import write_zip
from bidsapp.exchange.loading import MANIFEST
from bidsapp.images.volumes import read_volume
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.fingerprints import FINGERPRINTS, describe_fingerprints, fingerprint
from bidsapp.model_dir.state import ModelState, Segment, write_state
from bidsapp.models_cli import main
from bidsapp.pairs.check_pairs import check_pairs, image_digest
from bidsapp.pairs.membership import Membership, find_in_training, known_training
from bidsapp.pairs.pairs import find_pairs
from bidsapp.records import Split, SplitName, SplitRow
from bidsapp.sharing.share import read_export
from tests.conftest import ROOT
from tests.training_folder import OBLIQUE, TrainingFolder

BUILT_IN = ROOT / "bidsapp" / "models" / "default.zip"
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
    voxels = read_volume(folder.path / "sub-02_hemi-R_img.nii.gz", "pair").data
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


@pytest.mark.parametrize("kind", ["missing", "export", "folder"])
def test_without_the_model_dir_nobody_is_called_new(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "export"
    if kind == "export":
        export(path)
    elif kind == "folder":
        path.mkdir()
    assert main(["contains", str(path), "sub-01"]) == 66
    said = capsys.readouterr().out
    assert "could not be checked" in said
    assert "ask those who trained the model" in said
    assert "contained" not in said


def export(path: Path, fingerprints: object = None) -> Path:
    """The built-in model, with other fingerprints or none."""
    packed = read_export(BUILT_IN)
    stated = {} if fingerprints is None else {FINGERPRINTS: fingerprints}
    manifest = {name: value for name, value in packed.manifest.items() if name != FINGERPRINTS} | stated
    files = packed.files | {MANIFEST: json.dumps(manifest).encode()}
    with path.open("wb") as stream:
        write_zip(stream, ((f"{packed.dataset}/{name}", content) for name, content in files.items()))
    return path


def test_an_export_with_fingerprints_knows_images_and_no_ids(
    folder: TrainingFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known, new = folder.path / "sub-03_hemi-Lflip_img.nii.gz", folder.path / "sub-02_hemi-R_img.nii.gz"
    parts: dict[str, SplitName] = {
        fingerprint(image_digest(read_volume(known, "pair").data)): "test",
        "a" * 64: "train",
    }
    model = export(tmp_path / "theirs.zip", describe_fingerprints(parts))
    assert main(["contains", str(model), str(known), str(new)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [f"{known}: contained, test", f"{new}: not among 2 fingerprints"]
    assert "resampled in another way is not recognised" in said[2]

    assert main(["contains", str(model), "sub-03", str(known)]) == 66
    out = capsys.readouterr().out
    assert f"{known}: contained, test" in out
    assert "could not be checked: sub-03; an export has fingerprints of images and no ids" in out
    assert "not among" not in out

    older = export(tmp_path / "tuned.zip", describe_fingerprints(parts, ["older"]))
    assert main(["contains", str(older), str(known), str(new)]) == 66
    assert f"could not be checked: {new}; the training began with older" in capsys.readouterr().out


def test_bad_exports_are_bad_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04")
    assert main(["contains", str(tmp_path / "cut.zip"), "sub-01"]) == 65
    damaged = export(tmp_path / "damaged.zip", {"train": ["sub-01"]})
    for command in (["contains", str(damaged), "sub-01"], ["check", str(damaged)]):
        assert main(command) == 65
        assert f"the fingerprints in {damaged} cannot be used" in capsys.readouterr().out


def test_the_built_in_model_knows_its_images(folder: TrainingFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contains", "default", str(folder.path / "sub-02_hemi-R_img.nii.gz")]) == 0
    assert "not among 200 fingerprints" in capsys.readouterr().out
    assert main(["contains", "default", "sub-msd001"]) == 66
    assert main(["check", "default"]) == 0
    assert "of 200 images" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["sub-09", "{pairs}/sub-02_hemi-R_lbl.nii.gz", "{pairs}/sub-01_hemi-R_img.nii.gz"])
def test_a_model_that_began_with_such_an_export(
    what: str, folder: TrainingFolder, model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own people have names; of the export's, images alone are known."""
    state = known_training(model_dir)
    assert isinstance(state, ModelState)
    label = image_digest(read_volume(folder.path / "sub-02_hemi-R_lbl.nii.gz", "pair").data)
    write_state(ModelLayout(model_dir), replace(state, fingerprints={fingerprint(label): "validation"}))
    code = main(["contains", str(model_dir), what.format(pairs=folder.path)])
    out = capsys.readouterr().out
    if what == "sub-09":
        assert code == 66
        assert "could not be checked: sub-09" in out
    else:
        assert code == 0
        assert ("contained, validation" if "lbl" in what else "contained, train of sub-01") in out


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
