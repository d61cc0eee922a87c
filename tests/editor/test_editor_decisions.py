"""Painting, saving and deciding on the page: what lies on the disk, and that it is what `review` would write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bidsapp.content import file_sha256
from bidsapp.corobl.grid import SHAPE, crop_image
from bidsapp.editor import deciding
from bidsapp.editor.drafts import Drafts
from bidsapp.editor.sides import Sides
from bidsapp.errors import CannotWriteError
from bidsapp.layout import OutputLayout, label_names, sidecar
from bidsapp.levels import review
from bidsapp.records import Approval
from bidsapp.review.events import read_events
from bidsapp.review.imports import import_labels
from bidsapp.review.ledger import find_approvals
from bidsapp.review.snapshots import ImageSnapshots
from bidsapp.review.table import read_review_table
from tests.drawn import draw
from tests.editor.conftest import Page, add_a_rim, open_table, write_side

SECOND = "sub-01_hemi-R"


def on_disk(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


TINY = (6, 7, 8)
OBLIQUE = np.array([[0.8, -0.36, 0.1, 3.0], [0.42, 0.9, -0.05, -20.0], [-0.08, 0.09, 1.1, 5.0], [0, 0, 0, 1]])
GRIDS = {
    "RAS": np.diag([0.3, 0.3, 0.3, 1.0]),
    "LAS": np.diag([-0.3, 0.3, 0.3, 1.0]),
    "LPS": np.diag([-0.3, -0.3, 0.3, 1.0]),
    "PIR": np.array([[0, 0, 0.3, 1.0], [-0.3, 0, 0, 2.0], [0, -0.3, 0, 3.0], [0, 0, 0, 1]]),
    "oblique": OBLIQUE,
    "anisotropic": np.array([[-0.5, 0, 0, -2.25], [0, 0.75, 0, -51.0], [0, 0, 1.25, -32.5], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_what_is_painted_lies_on_the_disk_voxel_for_voxel(
    tmp_path: Path, visit: Callable[[OutputLayout], Page], grid: str
) -> None:
    layout, affine = OutputLayout(tmp_path / "out"), GRIDS[grid]
    rng = np.random.default_rng(7)
    predicted = rng.integers(0, 3, TINY).astype(np.uint8)
    crop = rng.normal(size=TINY).astype(np.float32)
    write_side(layout, "01", "L", nib.Nifti1Image(crop, affine), nib.Nifti1Image(predicted, affine))
    open_table(layout, ("01", None, "L"))
    page = visit(layout)
    page.hold()
    side = page.side()
    assert tuple(side["grid"]["shape"]) == TINY
    np.testing.assert_allclose(side["grid"]["affine"], affine, atol=1e-6)
    np.testing.assert_array_equal(page.labels(side["prediction"]), predicted)

    painted = predicted.astype(np.uint16)
    painted[1, 2, 3], painted[5, 6, 7], painted[0, 0, 0] = 2, 1, 300
    assert page.put_draft(painted).status_code == 204
    np.testing.assert_array_equal(page.labels(page.side()["draft"]), painted)
    saved = page.save()
    assert saved.status_code == 200, saved.text
    image = nib.load(layout.manual_label("01", None, "L"))
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), painted)
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert page.side()["draft"] is None
    np.testing.assert_array_equal(page.labels(page.side()["correction"]), painted)


def test_a_crop_with_turned_axes_is_judged_and_pointed_at_in_its_own_voxels(
    study: OutputLayout, visit: Callable[[OutputLayout], Page]
) -> None:
    """Stored as PIR, the same places in the head: guards see the crop's grid, the page its own."""
    to_pir = nib.orientations.axcodes2ornt("PIR")
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("LAS"), to_pir)
    labels = draw("L")
    crop = crop_image(np.where(labels > 0, 2.0, 1.0).astype(np.float32), "L").as_reoriented(turn)
    write_side(study, "01", "L", crop, crop_image(labels, "L"))
    page = visit(study)
    page.hold()
    painted = page.labels(page.side()["prediction"]).copy()
    assert painted.shape == (256, 128, 128)
    painted[4, 5, 6] = 2
    page.put_draft(painted)
    (finding,) = page.save().json()["findings"]
    assert finding["guard"] == "pieces"
    assert finding["place"] == [4, 5, 6]
    assert (finding["label"], finding["acceptable"]) == ("Posterior", True)


def test_a_damaged_prediction_is_a_finding_and_the_drawing_is_saved(page: Page, study: OutputLayout) -> None:
    page.hold()
    page.put_draft(draw("L"))
    prediction = study.session("01", None).prediction("L")
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)), prediction)
    facts = json.loads(sidecar(prediction).read_text())
    facts["HippoTune"]["file_sha256"] = file_sha256(prediction)
    sidecar(prediction).write_text(json.dumps(facts))
    (finding,) = page.save().json()["findings"]
    assert (finding["guard"], finding["acceptable"]) == ("file", False)
    assert "a file of this side is damaged" in finding["message"]
    np.testing.assert_array_equal(on_disk(study.manual_label("01", None, "L")), draw("L"))
    assert not page.decide("approved").json()["recorded"]


def test_a_flipped_label_is_refused_and_the_table_stays(page: Page, study: OutputLayout) -> None:
    page.hold()
    before = study.review_table.read_bytes()
    page.put_draft(draw("L")[::-1])
    findings = page.save().json()["findings"]
    flip = next(one for one in findings if one["guard"] == "flip")
    assert not flip["acceptable"]
    answer = page.decide("approved", accept=[one["guard"] for one in findings]).json()
    assert not answer["recorded"]
    assert answer["status"] == "pending"
    assert answer["message"].startswith("flip: with ")
    assert study.review_table.read_bytes() == before
    assert read_events(study.ledger) == []


def plain(event: Approval) -> dict[str, Any]:
    return {name: value for name, value in vars(event).items() if name not in ("when", "work")}


def test_a_decision_writes_what_review_writes_by_the_table(
    page: Page, study: OutputLayout, finished_study: Path, tmp_path: Path
) -> None:
    """The same people, once on the page and once with spreadsheet and `review`."""
    corrected = add_a_rim(draw("L"))
    page.hold()
    page.put_draft(corrected)
    page.save(seconds=40, changed={"Anterior": 12})
    assert page.decide("approved", comment="rim, moved", seconds=2.5, changed={"Anterior": 3}).json()["recorded"]
    page.hold(SECOND)
    assert page.decide("rejected", SECOND, comment="the subject moved").json()["recorded"]
    third, fourth = "sub-02_hemi-L", "sub-02_hemi-R"
    page.hold(third)
    assert page.decide("needs_edit", third).json()["recorded"]
    page.hold(fourth)
    spoilt = draw("R").astype(np.uint16)
    spoilt[100, 200, 100] = 2
    page.put_draft(spoilt, fourth)
    page.save(fourth)
    refused = page.decide("approved", fourth).json()
    assert (refused["recorded"], [one["guard"] for one in refused["findings"]]) == (False, ["pieces"])
    assert page.decide("approved", fourth, accept=["pieces"]).json()["recorded"]

    shutil.copytree(finished_study, tmp_path / "by-hand")
    hand = OutputLayout(tmp_path / "by-hand")
    dates = {(row.key, row.status): row.date for row in read_review_table(study.review_table).rows}
    rows = [
        ("01", "L", "approved", "n/a", "rim, moved"),
        ("01", "R", "rejected", "n/a", "the subject moved"),
        ("02", "L", "needs_edit", "n/a", "n/a"),
        ("02", "R", "approved", "pieces", "n/a"),
    ]
    header = "participant_id\tsession_id\themi\tstatus\trater\tdate\taccept\tcomment\n"
    lines = [
        f"sub-{person}\tn/a\t{hemi}\t{status}\tAda\t{dates[(person, None, hemi), status]}\t{accept}\t{comment}\n"
        for person, hemi, status, accept, comment in rows
    ]
    hand.review_table.write_text(header + "".join(lines))
    for participant, hemi, labels in (("01", "L", corrected), ("02", "R", spoilt)):
        path = hand.manual_label(participant, None, hemi)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(study.manual_label(participant, None, hemi), path)
        np.testing.assert_array_equal(on_disk(path), labels)
    review.run(review.ReviewRequest(layout=hand))

    assert study.review_table.read_bytes() == hand.review_table.read_bytes()
    ours, theirs = read_events(study.ledger), read_events(hand.ledger)
    assert [plain(event) for event in ours] == [plain(event) for event in theirs]
    for key in (("01", None, "L"), ("02", None, "R")):
        np.testing.assert_array_equal(on_disk(study.approved_label(*key)), on_disk(hand.approved_label(*key)))
        facts = [json.loads(sidecar(layout.approved_label(*key)).read_text()) for layout in (study, hand)]
        for one in facts:
            one["HippoTune"].pop("when")
            one["HippoTune"].pop("work", None)
        assert facts[0] == facts[1]
    assert json.loads(study.shown.read_text()).items() <= json.loads(hand.shown.read_text()).items()
    assert len(find_approvals(study).valid) == 2

    assert ours[0].work is not None
    assert (ours[0].work.seconds, dict(ours[0].work.painted)) == (42.5, {"Anterior": 15})
    assert '"work"' not in hand.ledger.read_text()
    assert page.side()["seconds_spent"] == 42.5

    review.run(review.ReviewRequest(layout=study))  # and review finds nothing left to do
    assert read_events(study.ledger) == ours


def test_an_approval_is_taken_back_and_given_again(page: Page, study: OutputLayout) -> None:
    page.hold()
    assert page.decide("approved").json()["recorded"]
    assert page.side()["recorded"]
    taken = page.decide("pending").json()
    assert (taken["recorded"], taken["status"]) == (True, "pending")
    assert "its approval was withdrawn" in taken["notes"]
    assert not study.approved_label("01", None, "L").exists()
    assert page.decide("approved").json()["recorded"]
    assert [type(event).__name__ for event in read_events(study.ledger)] == [
        "Approval",
        "WithdrawnEvent",
        "Approval",
    ]


def test_a_second_rater_gets_a_row_of_their_own_that_counts(page: Page, study: OutputLayout) -> None:
    page.hold()
    page.decide("rejected", rater="Bob")
    assert page.decide("approved", rater="Ada").json()["recorded"]
    rows = read_review_table(study.review_table).rows_of_sides()["01", None, "L"]
    assert [(row.rater, row.status) for row in rows] == [("Bob", "rejected"), ("Ada", "approved")]
    answer = page.decide("needs_edit", rater="bob").json()
    rows = read_review_table(study.review_table).rows_of_sides()["01", None, "L"]
    assert [(row.rater, row.status) for row in rows] == [("Ada", "approved"), ("bob", "needs_edit")]
    assert "its approval was withdrawn" in answer["notes"]


@pytest.mark.parametrize("what", ["table", "crop", "prediction", "correction"])
def test_what_another_program_changed_is_noticed_and_stays(page: Page, study: OutputLayout, what: str) -> None:
    page.hold()
    version = page.side()["version"]
    painted = add_a_rim(draw("L"))
    page.put_draft(painted)
    session, manual = study.session("01", None), study.manual_label("01", None, "L")
    paths = {
        "table": study.review_table,
        "crop": session.crop("L", "T1w"),
        "prediction": session.prediction("L"),
        "correction": manual,
    }
    if what == "table":
        text = study.review_table.read_text().replace(
            "L\tpending\tn/a\tn/a\tn/a\tn/a", "L\tpending\tBob\tn/a\tn/a\tmine", 1
        )
        study.review_table.write_text(text)
    elif what == "correction":
        manual.parent.mkdir(parents=True, exist_ok=True)
        nib.save(crop_image(draw("L"), "L"), manual)
    else:
        shutil.copy(paths[what], study.root / "copy")
        (study.root / "copy").replace(paths[what])
    before = {path: path.read_bytes() for path in paths.values() if path.exists()}
    for answer in (page.save(version=version), page.decide("rejected", version=version)):
        assert answer.status_code == 409, answer.text
        assert answer.json()["version"] == page.side()["version"] != version
    assert {path: path.read_bytes() for path in paths.values() if path.exists()} == before
    np.testing.assert_array_equal(page.labels(page.side()["draft"]), painted)
    assert page.side()["draft_outdated"]


def test_a_correction_that_stood_there_is_kept_before_it_is_replaced(page: Page, study: OutputLayout) -> None:
    manual = study.manual_label("01", None, "L")
    manual.parent.mkdir(parents=True, exist_ok=True)
    uncompressed = manual.with_suffix("")
    nib.save(crop_image(draw("L"), "L"), uncompressed)
    page.hold()
    page.put_draft(add_a_rim(draw("L")))
    assert page.save().status_code == 200
    np.testing.assert_array_equal(on_disk(uncompressed), add_a_rim(draw("L")))
    assert not manual.exists()
    kept = list(study.all_superseded.rglob(uncompressed.name))
    assert len(kept) == 1
    np.testing.assert_array_equal(on_disk(kept[0]), draw("L"))


def test_values_keep_the_names_of_the_tool_that_drew_them(
    study: OutputLayout, visit: Callable[..., Page], tmp_path: Path
) -> None:
    other = OutputLayout(tmp_path / "other")
    name = "sub-01_hemi-L_space-corobl_desc-subfields_dseg"
    folder = other.session("01", None).anat
    folder.mkdir(parents=True)
    other.dataset_description.write_text(json.dumps({"Name": "x", "BIDSVersion": "1.10.0"}))
    nib.save(crop_image(draw("L"), "L"), folder / f"{name}.nii.gz")
    (folder / f"{name}.tsv").write_text("index\tname\n1\tSubiculum\n2\tCA1\n")
    assert import_labels(study, other.root, [("01", None, "L")], ImageSnapshots()) == []
    page = visit(study)
    page.hold()
    assert page.side()["source"] == "imported"
    assert [one["name"] for one in page.side()["labels"]] == ["Subiculum", "CA1"]
    page.put_draft(add_a_rim(draw("L")))
    page.save()
    assert page.side()["source"] == "manual"
    assert [one["name"] for one in page.side()["labels"]] == ["Subiculum", "CA1"]
    assert label_names(study.manual_label("01", None, "L")).exists()
    assert page.decide("approved").json()["recorded"]
    (event,) = read_events(study.ledger)
    assert dict(event.labels) == {1: "Subiculum", 2: "CA1"}


def test_decisions_that_cannot_be_meant_are_refused(page: Page, study: OutputLayout) -> None:
    page.hold()
    before = study.review_table.read_bytes()
    for more in ({"rater": " "}, {"rater": "n/a"}, {"accept": ["luck"]}, {"status": "maybe"}, {"seconds": -1}):
        assert page.decide(**({"status": "approved"} | more)).status_code == 422
    page.put_draft(draw("L"))
    unsaved = page.decide("approved")
    assert unsaved.status_code == 422
    assert "not saved" in unsaved.json()["message"]
    assert study.review_table.read_bytes() == before


def test_a_damaged_label_map_is_said_and_harms_nothing(page: Page, study: OutputLayout) -> None:
    manual = study.manual_label("01", None, "L")
    manual.parent.mkdir(parents=True, exist_ok=True)
    manual.write_bytes(study.session("01", None).prediction("L").read_bytes()[:900])
    side = page.side()
    assert side["correction"] is None
    assert "damaged or truncated" in side["notes"][0]
    assert page.get("/api/sides/sub-01_hemi-L/files/correction.nii.gz").status_code == 422
    manual.unlink()
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)), manual)
    assert "does not lie on the grid" in page.side()["notes"][0]
    page.hold()
    answer = page.decide("approved").json()
    assert not answer["recorded"]
    assert "geometry: its shape is 3 x 3 x 3" in answer["message"]


def test_a_row_that_cannot_be_used_is_named(page: Page, study: OutputLayout) -> None:
    study.review_table.write_text(study.review_table.read_text().replace("pending", "maybe", 1))
    page.hold()
    assert "line 2" in page.side()["reasons"][-1]
    answer = page.decide("rejected")
    assert answer.status_code == 422
    assert "status is 'maybe'" in answer.json()["message"]


def test_a_disk_that_fills_between_table_and_ledger_loses_nothing(
    page: Page, study: OutputLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise CannotWriteError("the ledger cannot be written: No space left on device")

    page.hold()
    with monkeypatch.context() as patched:
        patched.setattr("bidsapp.review.decisions.approve", full)
        answer = page.decide("approved", seconds=9).json()
    assert (answer["recorded"], answer["status"]) == (False, "approved")
    assert "No space left" in answer["message"]
    assert not page.side()["recorded"]
    assert page.decide("approved").json()["recorded"]
    (event,) = read_events(study.ledger)
    assert isinstance(event, Approval) and event.work is not None
    assert event.work.seconds == 9


def test_dates_make_each_decision_one_of_its_own(page: Page, study: OutputLayout) -> None:
    page.hold()
    for _ in range(3):
        page.decide("needs_edit", comment="same")
    (row,) = read_review_table(study.review_table).rows_of_sides()["01", None, "L"]
    assert datetime.fromisoformat(row.date)
    assert tuple(page.side()["grid"]["shape"]) == SHAPE


def test_a_name_is_not_longer_than_a_name(page: Page, study: OutputLayout) -> None:
    before = study.review_table.read_bytes()
    assert page.hold(rater="A" * 101).status_code == 422
    page.hold()
    assert page.decide("rejected", rater="A" * 101).status_code == 422
    assert study.review_table.read_bytes() == before
    assert page.decide("rejected", rater="A" * 100).json()["recorded"]


def test_who_waits_too_long_for_the_editor_itself_is_told(
    page: Page, study: OutputLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "PATIENCE_SECONDS", 0.01)
    desk = deciding.Deciding(Sides(study), Drafts(study))
    with desk._labels(), pytest.raises(deciding.BusyError, match="still saving"), desk._labels():
        pass
    with desk._labels():
        pass
