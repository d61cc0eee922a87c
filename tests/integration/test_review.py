"""The loop: crops and predictions, what people return, what passes the door, and what reaches nnU-Net."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.content import file_sha256
from bidsapp.layout import ModelLayout, OutputLayout, label_names, sidecar
from bidsapp.records import SIDES, Side, SideKey
from bidsapp.review.events import read_events
from demo.recorded_review import DESCRIPTION
from demo.simulate import simulate_side
from tests.conftest import Finished, run_py
from tests.drawn import run_drawn
from tests.flip import reverse_axis_0
from tests.integration.test_participant import make_data_set
from tests.validation import complaints, errors_of

PEOPLE = ("A", "B", "C", "D", "E")
CHEAP = ("--no-bias-correction", "--device", "cpu", "--skip-bids-validation", "--model", "default")
REAL = "A"
"""The person whose crops come from a head; the others' were made elsewhere."""
HEADER = "participant_id\tsession_id\themi\tstatus\trater\tdate\taccept\tcomment\n"


@pytest.fixture(scope="module")
def first_pass(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OutputLayout]:
    folder = tmp_path_factory.mktemp("loop")
    data = make_data_set(folder / "data", *(f"sub-{person}_T1w" for person in PEOPLE))
    crops = OutputLayout(folder / "crops")
    others = [person for person in PEOPLE if person != REAL]
    for number, person in enumerate(others):
        for side in SIDES:
            path = crops.session(person, None).crop(side, "T1w")
            path.parent.mkdir(parents=True, exist_ok=True)
            image = simulate_side(number, side, 3, ("T1w",), 0.3)[0][0]
            nib.save(reverse_axis_0(image) if side == "L" else image, path)
    crops.dataset_description.write_text(json.dumps(DESCRIPTION))
    layout = OutputLayout(folder / "out")
    for options in (
        ("--participant-label", REAL),
        ("--participant-label", *others, "--derivatives", crops.root),
    ):
        done = run_drawn(data, layout.root, "participant", *options, *CHEAP)
        assert done.code == 0, done.output
    return data, layout


@pytest.fixture
def loop(first_pass: tuple[Path, OutputLayout], tmp_path: Path) -> tuple[Path, OutputLayout]:
    """A copy that a test may write its decisions into."""
    data, layout = first_pass
    shutil.copytree(layout.root, tmp_path / "out")
    return data, OutputLayout(tmp_path / "out")


def review(loop: tuple[Path, OutputLayout], *options: object) -> Finished:
    return run_py(loop[0], loop[1].root, "review", *options)


def decide(
    layout: OutputLayout, decisions: dict[SideKey, str], *, date: str = "2026-11-01", comment: str = "n/a"
) -> None:
    rows = [
        f"sub-{person}\t{f'ses-{session}' if session else 'n/a'}\t{hemi}\t{status}\tAda\t{date}\tn/a\t{comment}\n"
        for (person, session, hemi), status in decisions.items()
    ]
    layout.labels.mkdir(exist_ok=True)
    layout.review_table.write_text(HEADER + "".join(rows))


def everybody(status: str) -> dict[SideKey, str]:
    return {(person, None, side): status for person in PEOPLE for side in SIDES}


def returned(layout: OutputLayout, person: str, side: Side, change) -> Path:
    """Save a changed copy of a prediction where corrections belong."""
    image = nib.load(layout.session(person, None).prediction(side))
    path = layout.manual_label(person, None, side)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(change(np.asanyarray(image.dataobj).copy()), image.affine, image.header), path)
    return path


def add_a_rim(labels: np.ndarray) -> np.ndarray:
    """A small honest correction: the upper border of label 1 one voxel further out."""
    raised = np.roll(labels == 1, 1, axis=2) & (labels == 0)
    labels[raised] = 1
    return labels


def test_only_what_passed_the_door_reaches_nnunet(loop: tuple[Path, OutputLayout], tmp_path: Path) -> None:
    data, layout = loop
    opened = review(loop)
    assert opened.code == 0, opened.output
    assert "10 new rows, pending" in opened.output
    assert "10 sides: 10 open" in opened.output

    returned(layout, "A", "L", lambda labels: labels[::-1])
    returned(layout, "B", "L", lambda labels: np.roll(labels, 20, axis=1))
    corrected = returned(layout, "A", "R", add_a_rim)
    decide(layout, everybody("approved") | {("D", None, "L"): "pending", ("E", None, "R"): "rejected"})
    checked = review(loop)
    assert checked.code == 1, checked.output
    assert "refused    sub-A_hemi-L: correction by Ada (flip:" in checked.output
    assert "refused    sub-B_hemi-L: correction by Ada (shift:" in checked.output
    assert "10 sides: 2 refused, 1 open, 1 rejected, 6 approved" in checked.output
    before = layout.ledger.read_bytes()
    again = review(loop)
    assert layout.ledger.read_bytes() == before
    assert "6 approved" in again.output

    tampered = layout.approved_label("C", None, "L")
    image = nib.load(tampered)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[:, ::-1], image.affine, image.header), tampered)
    model = ModelLayout(tmp_path / "model")
    trained = run_py(
        *(data, layout.root, "group", "--model-dir", model.root, "--preset", "tiny", "--iterations", "2"),
        *("--set", "training.validation_batches=1", "--device", "cpu"),
    )
    assert trained.code == 1, trained.output
    assert "desc-approved_dseg.nii.gz was changed after Ada approved it" in trained.output
    labels = {path.name: path for part in ("Tr", "Ts") for path in model.raw_labels(part).glob("*.nii.gz")}
    reached = {name.removesuffix(".nii.gz") for name in labels}
    assert reached == {f"sub-{person}_hemi-R" for person in "ABCD"} | {"sub-E_hemi-Lflip"}
    np.testing.assert_array_equal(nib.load(labels["sub-A_hemi-R.nii.gz"]).get_fdata(), nib.load(corrected).get_fdata())
    approved = nib.load(layout.approved_label("E", None, "L"))
    np.testing.assert_array_equal(nib.load(labels["sub-E_hemi-Lflip.nii.gz"]).get_fdata()[::-1], approved.get_fdata())

    assert errors_of(layout.root) == (0, [])
    assert errors_of(layout.labels) == (0, [])
    assert complaints(layout.root) == {("warning", "TOO_FEW_AUTHORS")}


def test_a_decision_is_about_what_was_seen(loop: tuple[Path, OutputLayout]) -> None:
    """A correction that changes, a row that is withdrawn, and a crop that is made anew each need a new decision."""
    data, layout = loop
    side: SideKey = ("A", None, "L")
    path = returned(layout, "A", "L", add_a_rim)
    decide(layout, {side: "approved"})
    assert "1 approved" in review(loop).output
    returned(layout, "A", "L", lambda labels: add_a_rim(add_a_rim(labels)))
    changed = review(loop)
    assert changed.code == 1
    assert "changed after it was approved by Ada on" in changed.output
    assert "saved last on" in changed.output
    assert "edit the row" in changed.output
    decide(layout, {side: "approved"}, comment="looked again")
    assert "1 approved" in review(loop).output
    assert len(read_events(layout.ledger)) == 2

    decide(layout, {side: "rejected"})
    assert "1 rejected" in review(loop).output
    assert not layout.approved_label(*side).exists()
    decide(layout, {side: "approved"}, date="2026-11-03")
    assert "1 approved" in review(loop).output
    assert [type(event).__name__ for event in read_events(layout.ledger)[-2:]] == ["WithdrawnEvent", "Approval"]

    options = ("participant", "--participant-label", REAL, *CHEAP)
    assert "the crops are kept" in run_drawn(data, layout.root, *options, "--rigid").output
    replaced = run_drawn(data, layout.root, *options, "--rigid", "--replace-crops")
    assert replaced.code == 0, replaced.output
    assert not path.exists()
    void = review(loop)
    assert void.code == 1, void.output
    assert "took the place of what was judged" in void.output
    decide(layout, {side: "approved"}, date="2026-11-04")
    assert "1 approved" in review(loop).output


def test_another_tools_labels_come_in_as_pending_rows(loop: tuple[Path, OutputLayout], tmp_path: Path) -> None:
    _, layout = loop
    tool = tmp_path / "hippunfold"
    anat = tool / "sub-A" / "anat"
    anat.mkdir(parents=True)
    (tool / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0", "DatasetType": "derivative"}')
    theirs = anat / "sub-A_hemi-L_space-corobl_desc-subfields_atlas-bigbrain_dseg.nii.gz"
    image = nib.load(layout.session("A", None).prediction("L"))
    values = np.asanyarray(image.dataobj).astype(np.int16) * 4
    nib.save(nib.Nifti1Image(values, image.affine), theirs)
    label_names(theirs).write_text("index\tname\n4\tHead\n8\tTail\n")
    done = review(loop, "--derivatives", tool)
    assert done.code == 0, done.output
    assert "open       sub-A_hemi-L: another tool's label map" in done.output
    assert not layout.approved_label("A", None, "L").exists()
    decide(layout, {("A", None, "L"): "approved"})
    approved = review(loop)
    assert approved.code == 0, approved.output
    (event,) = read_events(layout.ledger)
    assert event.labels == {4: "Head", 8: "Tail"}
    assert event.source == "imported"
    crop = nib.load(layout.session("A", None).crop("R", "T1w"))
    other = nib.load(layout.session("A", None).prediction("R"))
    moved = nib.Nifti1Image(np.roll(crop.get_fdata(dtype=np.float32), 3, axis=1), crop.affine)
    nib.save(moved, anat / "sub-A_hemi-R_space-corobl_desc-preproc_T1w.nii.gz")
    nib.save(other, anat / "sub-A_hemi-R_space-corobl_dseg.nii.gz")
    assert review(loop, "--derivatives", tool).code == 0
    decide(layout, {("A", None, "L"): "approved", ("A", None, "R"): "approved"})
    on_another_crop = review(loop)
    assert on_another_crop.code == 1, on_another_crop.output
    assert "sub-A_hemi-R: another tool's label map by Ada (stale:" in on_another_crop.output


def test_no_word_lets_a_flipped_label_pass(loop: tuple[Path, OutputLayout]) -> None:
    _, layout = loop
    path = returned(layout, "A", "L", lambda labels: labels[::-1])
    image = nib.load(path)
    affine = image.affine.copy()
    affine[1, 3] += 20
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), path)
    layout.review_table.write_text(f"{HEADER}sub-A\tn/a\tL\tapproved\tAda\t1\tgeometry header flip stale shift\tn/a\n")
    done = review(loop)
    assert done.code == 1, done.output
    assert "flip:" in done.output
    assert not layout.approved_label("A", None, "L").exists()


def test_what_nobody_saw_is_not_approved(loop: tuple[Path, OutputLayout], tmp_path: Path) -> None:
    """A prediction that changed after the review, a correction that cannot be read, a row that is gone."""
    data, layout = loop
    review(loop)
    decide(layout, {("A", None, "L"): "approved", ("B", None, "R"): "approved"})
    assert "2 approved" in review(loop).output
    for side in ("L", "R"):
        prediction = layout.session("A" if side == "L" else "B", None).prediction(side)
        image = nib.load(prediction)
        nib.save(nib.Nifti1Image(add_a_rim(np.asanyarray(image.dataobj).copy()), image.affine), prediction)
        facts = json.loads(sidecar(prediction).read_text())
        facts["HippoTune"]["file_sha256"] = file_sha256(prediction)
        sidecar(prediction).write_text(json.dumps(facts))
    reformatted = layout.review_table.read_text().replace("2026-11-01", "01/11/2026")
    layout.review_table.write_text(reformatted)
    before = layout.ledger.read_bytes()
    assert "2 approved" in review(loop).output
    assert layout.ledger.read_bytes() == before

    manual = layout.manual_label("C", None, "L")
    manual.parent.mkdir(parents=True)
    manual.symlink_to(tmp_path / "nowhere")
    (manual.parent / "sub-C_hemi-R_space-corobl_desc-mine_dseg.nii.gz").touch()
    decide(layout, {("C", None, "L"): "approved", ("C", None, "R"): "approved"})
    lost = review(loop)
    assert lost.code == 1, lost.output
    assert "and nobody looks for it there or under that name" in lost.output
    assert "Ada approved it on" in lost.output
    assert not layout.approved_label("C", None, "L").exists()
    assert layout.ledger.read_bytes() == before

    layout.review_table.write_text(reformatted.replace("sub-A\tn/a\tL\tapproved", "sub-A\tn/a\tL\trejected"))
    shared = run_py(data, layout.root, "group", "--export-training-data", tmp_path / "shared")
    assert shared.code == 1, shared.output
    assert "changed to 'rejected' since" in shared.output
    assert len(list((tmp_path / "shared").glob("sub-*"))) == 1


def test_a_table_that_is_damaged_is_named_and_left(loop: tuple[Path, OutputLayout]) -> None:
    _, layout = loop
    decide(layout, {("A", None, "L"): "approved"})
    spoiled = layout.review_table.read_text() + "sub-B\tn/a\tL\tmaybe\tAda\tn/a\tn/a\tn/a\n"
    layout.review_table.write_bytes(spoiled.replace("\n", "\r\n").encode("utf-16"))
    done = review(loop)
    assert done.code == 1, done.output
    assert "line 3: status is 'maybe'" in done.output
    assert layout.review_table.read_bytes().startswith(spoiled.replace("\n", "\r\n").encode("utf-16"))
    assert layout.approved_label("A", None, "L").exists()


def test_nothing_to_review_says_what_to_do(tmp_path: Path) -> None:
    done = run_py(tmp_path, tmp_path / "derivatives" / "out", "review")
    assert done.code == 66, done.output
    assert "participant --model" in done.output
