"""What people wrote, drew or own survives every run of participant; what is stale does not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.bids.facts import read_facts
from bidsapp.content import file_sha256
from bidsapp.layout import OutputLayout, sidecar
from tests.conftest import ROOT, Finished, run_py
from tests.integration.test_participant import make_data_set, participant, times

CROPS = ("--model", "none", "--no-bias-correction")
HEADER = "participant_id\tsession_id\themi\tstatus\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OutputLayout]:
    """One person, segmented."""
    folder = tmp_path_factory.mktemp("finished")
    data, layout = make_data_set(folder / "data", "sub-01_T1w"), OutputLayout(folder / "out")
    done = participant(data, layout, "--model", "default")
    assert done.code == 0, done.output
    return data, layout


@pytest.fixture
def own(finished: tuple[Path, OutputLayout], tmp_path: Path) -> tuple[Path, OutputLayout]:
    """A copy that a test may spoil."""
    data, layout = finished
    shutil.copytree(layout.root, tmp_path / "out")
    return data, OutputLayout(tmp_path / "out")


def decide(layout: OutputLayout, row: str) -> None:
    layout.labels.mkdir(exist_ok=True)
    layout.review_table.write_text(HEADER + row + "\n")


def outputs(layout: OutputLayout) -> dict[Path, int]:
    """When the files of people's folders were written."""
    return {path: when for path, when in times(layout).items() if path.is_relative_to(layout.root / "sub-01")}


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_work_dir_costs_anybody_a_file(own: tuple[Path, OutputLayout], tmp_path: Path) -> None:
    data, layout = own
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    before, results = everything(copy), times(layout)
    inside = participant(copy, layout, "--model", "none", "--work-dir", copy)
    assert inside.code == 2, inside.output
    scratch = tmp_path / "scratch"
    (scratch / "sub-01").mkdir(parents=True)
    (scratch / "sub-01" / "theirs").write_text("x")
    for work_dir in (layout.root, scratch):
        done = participant(copy, layout, "--model", "none", "--force", "--work-dir", work_dir)
        assert done.code == 0, done.output
    assert everything(copy) == before
    assert (scratch / "sub-01" / "theirs").exists()
    assert times(layout).keys() == results.keys()


def test_a_work_dir_on_another_disk_works(own: tuple[Path, OutputLayout]) -> None:
    data, layout = own
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == layout.root.stat().st_dev:
        pytest.skip("there is no second disk")
    old = layout.session("01", None).crop("L", "T1w").read_bytes()
    done = participant(data, layout, *CROPS, "--rigid", "--work-dir", memory)
    assert done.code == 0, done.output
    assert layout.session("01", None).crop("L", "T1w").read_bytes() != old
    assert not list(memory.glob("hippotune-*/participant/sub-*"))


def test_a_prediction_changed_by_hand_or_just_approved_stays(own: tuple[Path, OutputLayout]) -> None:
    data, layout = own
    edited, approved = (layout.session("01", None).prediction(side) for side in ("L", "R"))
    image = nib.load(edited)
    labels = np.asanyarray(image.dataobj).copy()
    labels[60:64, 100:104, 60:64] = 1
    nib.save(nib.Nifti1Image(labels, image.affine, image.header), edited)
    decide(layout, "sub-01\tn/a\tR\tapproved")
    before = {path: path.read_bytes() for path in (edited, approved)}
    done = participant(data, layout, "--model", "default", "--force")
    assert done.code == 0, done.output
    assert "the label map of hemi-L stays: it was changed by hand" in done.output
    assert "the label map of hemi-R stays: it is approved" in done.output
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("row", ["sub-01\tN/A\tleft\trejected", "01\tn/a\tL\tApproved", "sub-01\tn/a\tL\tdone"])
def test_every_way_to_write_a_decision_protects(row: str, own: tuple[Path, OutputLayout]) -> None:
    data, layout = own
    decide(layout, row)
    before = times(layout)
    done = participant(data, layout, "--model", "none", "--rigid")
    assert done.code == 0, done.output
    assert "the crops are kept" in done.output
    assert times(layout) == before


def test_an_uncompressed_correction_protects(own: tuple[Path, OutputLayout]) -> None:
    data, layout = own
    manual = layout.manual_label("01", None, "R").with_suffix("")
    manual.parent.mkdir(parents=True)
    nib.save(nib.load(layout.session("01", None).prediction("R")), manual)
    before = times(layout)
    assert participant(data, layout, "--model", "none", "--rigid").code == 0
    assert times(layout) == before


def test_a_replaced_crop_leaves_copies_of_what_was_judged(own: tuple[Path, OutputLayout]) -> None:
    data, layout = own
    decide(layout, "sub-01\tn/a\tL\tapproved")
    session = layout.session("01", None)
    judged = {path.name: path.read_bytes() for path in (session.crop("L", "T1w"), session.prediction("L"))}
    done = participant(data, layout, *CROPS, "--rigid", "--replace-crops")
    assert done.code == 0, done.output
    (away,) = layout.superseded("").glob("*/sub-01/anat")
    assert {name: (away / name).read_bytes() for name in judged} == judged
    assert not session.prediction("L").exists()


def test_a_missing_side_is_made_with_the_kept_transform(own: tuple[Path, OutputLayout]) -> None:
    data, layout = own
    session = layout.session("01", None)
    crop, native = session.crop("R", "T1w"), session.native_prediction("R", "T1w")
    voxels = nib.load(crop).get_fdata(), nib.load(native).get_fdata()
    for path in session.anat.glob("*hemi-R*"):
        path.unlink()
    decide(layout, "sub-01\tn/a\tL\tapproved")
    done = participant(data, layout, "--model", "default", "--rigid")
    assert done.code == 0, done.output
    np.testing.assert_array_equal(nib.load(crop).get_fdata(), voxels[0])
    np.testing.assert_array_equal(nib.load(native).get_fdata(), voxels[1])
    facts = read_facts(crop)
    assert facts is not None
    assert facts["rigid"] is False


def test_a_transform_that_is_not_the_crops_is_never_used(own: tuple[Path, OutputLayout]) -> None:
    data, layout = own
    transform = layout.session("01", None).transform("T1w")
    transform.write_text(transform.read_text().replace("Parameters: ", "Parameters: 1", 1))
    decide(layout, "sub-01\tn/a\tL\tapproved")
    before = times(layout)
    kept = participant(data, layout, "--model", "default", "--force")
    assert kept.code == 1, kept.output
    assert "is missing or was changed" in kept.output
    assert times(layout) == before
    layout.review_table.unlink()
    assert participant(data, layout, "--model", "default").code == 0
    facts = read_facts(layout.session("01", None).crop("L", "T1w"))
    assert facts is not None
    assert facts["transform_sha256"] == file_sha256(transform)


def test_ready_made_crops_without_a_transform_leave_none_behind(own: tuple[Path, OutputLayout], tmp_path: Path) -> None:
    data, layout = own
    tool = tmp_path / "tool"
    shutil.copytree(layout.root, tool, ignore=shutil.ignore_patterns("*_xfm.txt", "labels", "work", "logs"))
    done = participant(data, layout, "--model", "default", "--derivatives", tool)
    assert done.code == 0, done.output
    session = layout.session("01", None)
    assert not session.transform("T1w").exists()
    assert session.prediction("L").exists()
    assert not list(session.anat.glob("*space-T1w*"))


def test_what_a_killed_run_left_is_not_mixed_with_other_settings(
    own: tuple[Path, OutputLayout], tmp_path: Path
) -> None:
    data, layout = own
    staged = layout.unfinished("01", None)
    shutil.copytree(layout.root / "sub-01", staged.folder)
    sidecar(staged.prediction("L")).unlink()
    fresh = OutputLayout(tmp_path / "fresh")
    shutil.copytree(staged.root, fresh.unfinished("01", None).root)
    done = participant(data, fresh, *CROPS, "--rigid", "--hemi", "L")
    assert done.code == 0, done.output
    session = fresh.session("01", None)
    assert {path.name for path in session.anat.iterdir()} == {
        *(path.name for path in (session.crop("L", "T1w"), sidecar(session.crop("L", "T1w")))),
        session.transform("T1w").name,
    }


def test_publishing_can_be_killed_anywhere(own: tuple[Path, OutputLayout], monkeypatch: pytest.MonkeyPatch) -> None:
    """The moves of a new run over an old one are stopped after the first, the second, ... file."""
    data, layout = own
    session = layout.session("01", None)
    make = ("--model", "default", "--no-bias-correction")
    wanted = everything(session.anat)
    assert participant(data, layout, *make).code == 0
    changed = everything(session.anat)
    assert {name for name in wanted if wanted[name] != changed[name]} >= {session.crop("L", "T1w").name}
    for name in list(changed)[::3]:  # a state between: some files new, some old, and the marker there
        staged = layout.unfinished("01", None)
        staged.anat.mkdir(parents=True)
        (staged.anat / name).write_bytes(changed[name])
        (session.anat / name).write_bytes(wanted[name])
        layout.publishing("sub-01").touch()
        again = participant(data, layout, *CROPS)
        assert again.code == 0, again.output
        assert everything(session.anat) == changed
        assert not staged.root.exists()


def test_a_label_saved_meanwhile_is_not_taken_away(own: tuple[Path, OutputLayout]) -> None:
    data, layout = own
    command = [sys.executable, ROOT / "run.py", data, layout.root, "participant", *CROPS, "--rigid"]
    before, logs = outputs(layout), set(layout.logs.glob("*/sub-01.log"))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while set(layout.logs.glob("*/sub-01.log")) == logs and process.poll() is None:
        time.sleep(0.02)  # it has looked at the labels that there are, and begins to register
    manual = layout.manual_label("01", None, "L")
    manual.parent.mkdir(parents=True)
    shutil.copy(layout.session("01", None).prediction("L"), manual)
    output, _ = process.communicate()
    assert process.returncode == 1, output
    assert "worked on it while a new crop was being made" in output
    assert manual.exists()
    assert outputs(layout) == before


def test_another_modality_leaves_the_first_ones_labels_alone(own: tuple[Path, OutputLayout], tmp_path: Path) -> None:
    _, layout = own
    data = make_data_set(tmp_path / "data", "sub-01_T2w")
    manual = layout.manual_label("01", None, "L")
    manual.parent.mkdir(parents=True)
    shutil.copy(layout.session("01", None).prediction("L"), manual)
    before = times(layout)
    done = participant(data, layout, *CROPS, "--modality", "T2w")
    assert done.code == 0, done.output
    after = times(layout)
    assert {path: after[path] for path in before} == before
    assert layout.session("01", None).crop("L", "T2w").exists()


def test_a_killed_process_costs_one_person_at_most(tmp_path: Path) -> None:
    data = make_data_set(tmp_path / "data", *(f"sub-0{number}_T1w" for number in range(1, 4)))
    layout = OutputLayout(tmp_path / "out")
    command = [sys.executable, ROOT / "run.py", data, layout.root, "participant", *CROPS, "--nprocs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not list(layout.logs.glob("*/sub-0*.log")):
        assert process.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(workers[0], signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "3 of 3 sessions are done" in output


@pytest.mark.parametrize("name", ["link", "folder", "pointer"])
def test_content_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    data, layout = make_data_set(tmp_path / "data", "sub-01_T1w"), OutputLayout(tmp_path / "out")
    scan = data / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    scan.unlink()
    if name == "link":
        scan.symlink_to("../../.git/annex/objects/nowhere")
    elif name == "pointer":
        scan.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    else:
        scan.mkdir()
    done = participant(data, layout, "--model", "none")
    assert done.code in (1, 18), done.output
    assert "bug" not in done.output
    assert {"link": "datalad get", "pointer": "git-LFS pointer", "folder": "no T1w image"}[name] in done.output


def test_pages_survive_damaged_outputs(own: tuple[Path, OutputLayout]) -> None:
    data, layout = own
    shutil.copytree(layout.root / "sub-01", layout.root / "sub-02")
    for path in list((layout.root / "sub-02").rglob("*sub-01*")):
        path.rename(path.with_name(path.name.replace("sub-01", "sub-02")))
    layout.failure("sub-09").parent.mkdir(parents=True, exist_ok=True)
    layout.failure("sub-09").write_text("{")
    crop = sidecar(layout.session("02", None).crop("L", "T1w"))
    content = json.loads(crop.read_text())
    del content["HippoTune"]["warnings"]
    crop.write_text(json.dumps(content))
    sidecar(layout.session("02", None).crop("R", "T1w")).write_text("{")

    def rebuild() -> Finished:
        return run_py(data, layout.root, "participant", "--reports-only")

    damaged = rebuild()
    assert damaged.code == 1, damaged.output
    assert "damaged sessions, shown as failed: sub-02" in damaged.output
    assert "sub-01" in layout.index.read_text()
    assert "damaged" in layout.page("02").read_text()
    chosen = run_py(data, layout.root, "participant", "--reports-only", "--participant-label", "sub-01,02", "--dry-run")
    assert chosen.code == 0, chosen.output
    assert "2 people" in chosen.output
