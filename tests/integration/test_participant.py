"""The participant level as a user meets it: a real head, the built-in model, damaged files, kills, people's work."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bidsapp.corobl.grid import GRIDS, SHAPE
from bidsapp.corobl.transforms import read_transform
from bidsapp.exchange.loading import load_model
from bidsapp.layout import ModelPlaces, OutputLayout, SessionLayout, label_names, sidecar
from bidsapp.models.shelf import locate_model
from bidsapp.prediction import Predictor
from bidsapp.records import SIDES, Side
from bidsapp.tsv import read_tsv
from tests.conftest import ROOT, Finished, run_py, run_py_alone
from tests.flip import reverse_axis_0
from tests.validation import errors_of

HEAD = ROOT / "demo" / "data" / "colin27" / "sub-colin27" / "anat" / "sub-colin27_T1w.nii.gz"
HIPPOCAMPI_MNI: dict[Side, tuple[float, float, float]] = {"L": (-28.0, -18.0, -17.0), "R": (29.0, -17.0, -17.0)}
"""Points in the bodies of the hippocampi of Colin27, whose affine is that of MNI space."""
NASTY = "<script>alert(1)</script> $(touch hacked) \"quoted\" 'it'"


@dataclass(frozen=True)
class FirstPass:
    """A finished run: sub-01 is well (two runs of one scan), sub-02 is truncated."""

    data: Path
    layout: OutputLayout
    model: str
    run: Finished

    @property
    def session(self) -> SessionLayout:
        return self.layout.session("01", None)


def make_data_set(root: Path, *names: str) -> Path:
    """A BIDS data set in which every named scan is Colin27."""
    root.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "test", "BIDSVersion": "1.10.0"}')
    for name in names:
        person, *rest = name.split("_")
        folder = root / person / (rest[0] if rest[0].startswith("ses-") else "") / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HEAD, folder / f"{name}.nii.gz")
    return root


def participant(data: Path, layout: OutputLayout, *options: object) -> Finished:
    """Run the level on a data set whose names were validated elsewhere: half a second each."""
    return run_py(data, layout.root, "participant", "--device", "cpu", "--skip-bids-validation", *options)


def times(layout: OutputLayout) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in layout.root.rglob("*anat/*") if path.is_file()}


@pytest.fixture(scope="module")
def first_pass(tmp_path_factory: pytest.TempPathFactory) -> FirstPass:
    folder = tmp_path_factory.mktemp("first $(touch hacked) <b>pass")
    data = make_data_set(folder / "data", "sub-01_run-1_T1w", "sub-01_run-2_T1w", "sub-02_T1w")
    (data / "sub-01" / "anat" / "sub-01_run-2_T1w.json").write_text(json.dumps({"SeriesDescription": NASTY}))
    broken = data / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:100_000])
    layout = OutputLayout(data / "derivatives" / "hippotune")
    options = ("--device", "cpu", "--model", "default", "--nprocs", 2)
    run = run_py_alone(data, layout.root, "participant", *options)
    return FirstPass(data, layout, "default", run)


def test_one_broken_scan_costs_one_person(first_pass: FirstPass) -> None:
    output = first_pass.run.output
    assert first_pass.run.code == 1, output
    assert re.search(r"sub-02_T1w.nii.gz is (a )?damaged or truncated", output)
    assert "sub-01_run-1_T1w.nii.gz was left aside" in output
    assert "BIDS validation: no errors that stop us" in output
    assert "1 of 2 sessions are done" in output
    assert re.search(r"^  ok       sub-01 +[1-9]\d* s$", output, re.MULTILINE)
    assert re.search(r"^  failed   sub-02 +\d+ s$", output, re.MULTILINE)
    assert not (first_pass.layout.root / "sub-02").exists()
    failure = json.loads(first_pass.layout.failure("sub-02").read_text())
    assert "truncated" in failure["reason"]
    assert "truncated" in (first_pass.layout.root / failure["log"]).read_text()
    assert "truncated" in first_pass.layout.index.read_text()


def test_all_files_are_there_and_nothing_else(first_pass: FirstPass) -> None:
    session = first_pass.session
    expected = {session.transform("T1w")}
    for side in SIDES:
        images = (session.crop(side, "T1w"), session.prediction(side), session.native_prediction(side, "T1w"))
        expected |= {*images, *map(sidecar, images), *map(label_names, images[1:])}
    assert set(session.anat.iterdir()) == expected
    assert not list(first_pass.layout.root.rglob(".*.nii.gz"))
    assert first_pass.layout.page("01").exists()


def test_crops_say_what_they_are(first_pass: FirstPass) -> None:
    for side in SIDES:
        crop = nib.load(first_pass.session.crop(side, "T1w"))
        assert crop.shape == SHAPE
        assert crop.header.get_xyzt_units()[0] == "mm"
        content = json.loads(sidecar(first_pass.session.crop(side, "T1w")).read_text())
        assert content["Sources"] == ["bids:raw:sub-01/anat/sub-01_run-2_T1w.nii.gz"]
        assert content["SkullStripped"] is False
        assert content["HippoTune"]["registration"]["level"] == "green"
        assert content["HippoTune"]["scanner"]["SeriesDescription"] == NASTY


def test_native_label_maps_lie_on_the_scan_and_on_their_side(first_pass: FirstPass) -> None:
    scan = nib.load(HEAD)
    maps = {}
    for side in SIDES:
        image = nib.load(first_pass.session.native_prediction(side, "T1w"))
        assert image.shape == scan.shape
        np.testing.assert_array_equal(image.affine, scan.affine)
        for field in ("sform_code", "qform_code", "pixdim"):
            np.testing.assert_array_equal(image.header[field], scan.header[field])
        maps[side] = np.asanyarray(image.dataobj)
    for side, point in HIPPOCAMPI_MNI.items():
        i, j, k = np.rint(nib.affines.apply_affine(np.linalg.inv(scan.affine), point)).astype(int)
        assert maps[side][i, j, k] > 0
        assert maps["R" if side == "L" else "L"][i, j, k] == 0
    assert not np.any((maps["L"] > 0) & (maps["R"] > 0))
    x_mm = nib.affines.apply_affine(scan.affine, np.argwhere(maps["L"]))[:, 0]
    assert np.mean(x_mm < 0) > 0.99


def test_volumes_are_those_of_the_head(first_pass: FirstPass) -> None:
    session = first_pass.session
    determinant = abs(np.linalg.det(read_transform(session.transform("T1w"))[:3, :3]))
    scan_voxel_mm3 = abs(np.linalg.det(nib.load(HEAD).affine[:3, :3]))
    for side in SIDES:
        labels = np.asanyarray(nib.load(session.prediction(side)).dataobj)
        native = np.asanyarray(nib.load(session.native_prediction(side, "T1w")).dataobj)
        rows = read_tsv(label_names(session.prediction(side)), ("index", "name", "voxels", "volume_mm3"))
        assert [row.cells["name"] for row in rows] == ["Anterior", "Posterior"]
        for row in rows:
            count = int(np.sum(labels == int(row.cells["index"])))
            assert int(row.cells["voxels"]) == count
            assert float(row.cells["volume_mm3"]) == pytest.approx(count * GRIDS["L"].voxel_mm3 * determinant, abs=0.01)
        whole = sum(float(row.cells["volume_mm3"]) for row in rows)
        assert np.sum(native > 0) * scan_voxel_mm3 == pytest.approx(whole, rel=0.03)
    table = read_tsv(first_pass.layout.volumes, ("participant_id", "hemi", "label", "volume_mm3"))
    assert [(row.cells["hemi"], row.cells["label"]) for row in table] == [
        (side, label) for side in SIDES for label in ("Anterior", "Posterior")
    ]


def test_the_same_label_maps_as_by_files_flipped_by_hand(first_pass: FirstPass, tmp_path: Path) -> None:
    model = load_model(locate_model(first_pass.model, ModelPlaces(None, tmp_path)))
    predictor = Predictor(model, torch.device("cpu"))
    for side in SIDES:
        crop = nib.load(first_pass.session.crop(side, "T1w"))
        nib.save(reverse_axis_0(crop) if side == "L" else crop, tmp_path / f"{side}_0000.nii.gz")
        predictor.predict_files([tmp_path / f"{side}_0000.nii.gz"], tmp_path / f"{side}.nii.gz")
        by_file = nib.load(tmp_path / f"{side}.nii.gz")
        by_file = reverse_axis_0(by_file) if side == "L" else by_file
        ours = nib.load(first_pass.session.prediction(side))
        np.testing.assert_array_equal(np.asanyarray(by_file.dataobj), np.asanyarray(ours.dataobj))
        np.testing.assert_allclose(by_file.affine, ours.affine, atol=1e-4)


def test_pages_escape_what_came_from_files_and_load_nothing(first_pass: FirstPass) -> None:
    page, index = first_pass.layout.page("01").read_text(), first_pass.layout.index.read_text()
    for html in (page, index):
        assert "<script>alert" not in html
        assert "<b>pass" not in html
        assert 'src="http' not in html
        assert "<link" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "itksnap -g sub-01/anat/sub-01_hemi-L_space-corobl_desc-preproc_T1w.nii.gz" in page
    assert page.count("data:image/png") >= 9
    assert not list(Path.cwd().glob("hacked"))


def test_outputs_are_valid_bids(first_pass: FirstPass) -> None:
    assert errors_of(first_pass.layout.root) == (0, [])


def test_what_is_done_is_not_done_again_until_asked(first_pass: FirstPass, tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path / "out")
    shutil.copytree(first_pass.layout.root, layout.root)
    before = times(layout)
    options = ("--model", first_pass.model, "--participant-label", "sub-01")
    again = participant(first_pass.data, layout, *options)
    assert again.code == 0, again.output
    assert "0 ok, 1 skipped, 0 failed" in again.output
    assert times(layout) == before
    forced = participant(first_pass.data, layout, *options, "--hemi", "R", "--model", "none", "--force")
    assert forced.code == 0, forced.output
    changed = {path for path, when in times(layout).items() if before[path] != when}
    session = layout.session("01", None)
    crop = session.crop("R", "T1w")
    assert changed == {crop, sidecar(crop), session.transform("T1w")}  # the same crop: its label map stays


def test_ready_made_crops_of_another_tool_are_taken(first_pass: FirstPass, tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path / "out")
    done = participant(
        *(first_pass.data, layout, "--model", first_pass.model, "--participant-label", "01"),
        *("--derivatives", first_pass.layout.root),
    )
    assert done.code == 0, done.output
    ours, theirs = layout.session("01", None), first_pass.session
    for side in SIDES:
        for path in (ours.crop(side, "T1w"), ours.prediction(side), ours.native_prediction(side, "T1w")):
            other = theirs.anat / path.name
            np.testing.assert_array_equal(nib.load(path).get_fdata(), nib.load(other).get_fdata())


def test_crops_under_a_persons_label_stay(first_pass: FirstPass, tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path / "out")
    shutil.copytree(first_pass.layout.root, layout.root)
    session, manual = layout.session("01", None), layout.manual_label("01", None, "L")
    manual.parent.mkdir(parents=True)
    shutil.copy(session.prediction("L"), manual)
    before = times(layout)
    options = ("--participant-label", "01", "--rigid", "--no-bias-correction", "--model", "none")
    kept = participant(first_pass.data, layout, *options)
    assert kept.code == 0, kept.output
    assert "the crops are kept: hemi-L has a corrected label" in kept.output
    assert times(layout) == before

    old = session.crop("L", "T1w").read_bytes()
    replaced = participant(first_pass.data, layout, *options, "--replace-crops")
    assert replaced.code == 0, replaced.output
    assert "is now in" in replaced.output
    assert not manual.exists()
    (moved,) = layout.labels.rglob("superseded/*/sub-01/anat/*desc-manual_dseg.nii.gz")
    assert moved.read_bytes() == (first_pass.session.prediction("L")).read_bytes()
    assert (moved.parent / session.crop("L", "T1w").name).read_bytes() == old
    assert session.crop("L", "T1w").read_bytes() != old
    assert not session.prediction("L").exists()  # it belonged to the old crop


@pytest.mark.parametrize("until", ["work/participant/*/*", "sub-01/anat"])
def test_a_killed_run_leaves_all_or_nothing_and_continues(until: str, tmp_path: Path) -> None:
    data, layout = make_data_set(tmp_path / "data", "sub-01_T1w", "sub-02_T1w"), OutputLayout(tmp_path / "out")
    options = ["--model", "none", "--nprocs", "2", "--no-bias-correction"]
    command = [sys.executable, ROOT / "run.py", data, layout.root, "participant", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(layout.root.glob(until)) and process.poll() is None:
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):  # a fast machine may be done
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for person in ("01", "02"):
        session = layout.session(person, None)
        assert not session.folder.exists() or len(list(session.anat.iterdir())) == 5
    again = participant(data, layout, *options)
    assert again.code == 0, again.output
    for person in ("01", "02"):
        assert len(list(layout.session(person, None).anat.iterdir())) == 5
        assert layout.page(person).exists()


def test_sigterm_ends_at_once_and_says_how_to_go_on(tmp_path: Path) -> None:
    data, layout = make_data_set(tmp_path / "data", "sub-01_T1w", "sub-02_T1w"), OutputLayout(tmp_path / "out")
    command = [sys.executable, ROOT / "run.py", data, layout.root, "participant", "--model", "none", "--nprocs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not list(layout.logs.glob("*/sub-0*.log")):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    output, _ = process.communicate()
    assert process.returncode == 75
    assert "Give the same command again to continue." in output


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--model", "nobodys"), 2, "--model none (crops alone)"),
        (("--model", "nowhere.zip"), 66, "nowhere.zip: there is no such file"),
        (("--model", "none", "--participant-label", "99"), 18, "01"),
        (("--model", "none", "--modality", "T2w"), 18, "T2w"),
        (("--model", "none", "--iterations", "3"), 2, "--iterations belongs to the group level"),
        (("--model", "none", "--reports-only"), 66, "has no finished people"),
    ],
)
def test_mistakes_are_named_and_write_nothing(options: tuple[str, ...], code: int, words: str, tmp_path: Path) -> None:
    data, layout = make_data_set(tmp_path / "data", "sub-01_T1w"), OutputLayout(tmp_path / "out")
    done = participant(data, layout, *options)
    assert done.code == code, done.output
    assert words in done.output
    assert not layout.root.exists()


def test_a_model_of_other_channels_is_refused(first_pass: FirstPass, tmp_path: Path) -> None:
    data = make_data_set(tmp_path / "data", "sub-01_T1w", "sub-01_T2w")
    done = participant(data, OutputLayout(tmp_path / "out"), "--model", first_pass.model, "--modality", "T1w+T2w")
    assert done.code == 2, done.output
    assert "takes 1 channels" in done.output


def test_another_tools_folder_is_left_alone(tmp_path: Path) -> None:
    data = make_data_set(tmp_path / "data", "sub-01_T1w")
    layout = OutputLayout(tmp_path / "out")
    layout.root.mkdir()
    tool = {"Name": "x", "BIDSVersion": "1.8.0", "DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]}
    layout.dataset_description.write_text(json.dumps(tool))
    done = participant(data, layout, "--model", "none")
    assert done.code == 2, done.output
    assert "fMRIPrep" in done.output
    assert [path.name for path in layout.root.iterdir()] == ["dataset_description.json"]
