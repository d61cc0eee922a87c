"""What was approved counts as long as it is what was approved, and nothing that people made is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.content import file_sha256, image_sha256
from bidsapp.corobl.grid import GRIDS, crop_image
from bidsapp.errors import BadDataError, NoInputError
from bidsapp.images.writing import write_image
from bidsapp.labels.tables import read_label_table
from bidsapp.layout import OutputLayout, label_names, sidecar
from bidsapp.records import Approval, LabelDifference
from bidsapp.review import approval, events
from bidsapp.review.agreement import agreement
from bidsapp.review.approval import approve, withdraw
from bidsapp.review.events import WithdrawnEvent, read_events
from bidsapp.review.labels_dataset import describe_labels_dataset
from bidsapp.review.ledger import find_approvals
from bidsapp.review.snapshots import ImageSnapshots
from tests.reviewed_person import KEY, NAMES, Person, block, day
from tests.validation import errors_of

NAME = "sub-01_hemi-L"


def approve_block(person: Person, first: int = 42, rater: str = "ana", on: int = 1):
    return approve(person.layout, KEY, person.label(block(first)), rater=rater, when=day(on))


def superseded(layout: OutputLayout) -> list[str]:
    files = sorted(layout.all_superseded.rglob("*_dseg.nii.gz"))
    return [path.relative_to(layout.all_superseded).parts[0] for path in files]


def only_refusal(layout: OutputLayout) -> str:
    found = find_approvals(layout)
    assert found.valid == ()
    assert list(found.refused) == [NAME]
    return found.refused[NAME]


def test_an_approval_is_recorded_with_all_that_it_rests_on(person: Person) -> None:
    layout, label = person.layout, person.label(block(42) + block(60, 300))
    approved = approve(
        layout, KEY, label, rater=" ana ", when=day(1), accepted={"volume", "pieces"}, comment="head is hard"
    )
    image = nib.load(layout.approved_label(*KEY))
    assert image.get_data_dtype() == np.uint16
    assert np.array_equal(np.asanyarray(image.dataobj), label.labels.data)
    assert np.allclose(image.affine, GRIDS["L"].affine)
    assert read_label_table(label_names(layout.approved_label(*KEY))).names == NAMES

    (event,) = read_events(layout.ledger)
    assert isinstance(event, Approval)
    crop = layout.session("01", None).crop("L", "T2w")
    assert event.rater == "ana"
    assert event.source_sha256 == file_sha256(label.file)
    assert event.file_sha256 == file_sha256(layout.approved_label(*KEY))
    assert event.label_sha256 == image_sha256(label.labels.data, image.affine)
    assert event.crop_sha256["T2w"] == image_sha256(nib.load(crop).get_fdata(), nib.load(crop).affine)
    assert event.transform_sha256 == {
        "T1w": file_sha256(layout.session("01", None).transform("T1w")),
        "T2w": None,
    }
    assert (event.model, event.model_sha256, event.accepted) == ("a-model", "abc", ("pieces", "volume"))
    # the prediction's CA1 is a block from plane 40 to 49 (there with value 2), the approved one from 42 to 51
    assert event.effort == (
        LabelDifference("CA1", 0.8, 400, 1200),
        LabelDifference("DG", None, 0, 0),
        LabelDifference("cyst", 0.0, 1000, 1000),
    )
    assert (approved.voxels_changed, approved.share_changed) == (1400, 1400 / 2200)

    said = json.loads(sidecar(layout.approved_label(*KEY)).read_text())
    assert said["Manual"] is True
    assert said["Sources"] == [
        "bids::sub-01/anat/sub-01_hemi-L_space-corobl_desc-manual_dseg.nii.gz",
        "bids:hippotune:sub-01/anat/sub-01_hemi-L_space-corobl_desc-preproc_T1w.nii.gz",
        "bids:hippotune:sub-01/anat/sub-01_hemi-L_space-corobl_desc-preproc_T2w.nii.gz",
    ]
    assert said["HippoTune"]["label_sha256"] == event.label_sha256
    assert said["HippoTune"]["effort"][0] == {
        "name": "CA1",
        "dice": 0.8,
        "voxels_changed": 400,
        "voxels_united": 1200,
    }

    assert find_approvals(layout).valid == (approved,)
    assert find_approvals(layout).refused == {}
    assert (approved.when, approved.labels) == ("2026-01-01T12:00:00+00:00", NAMES)


def test_a_prediction_kept_as_it_is_is_not_manual(person: Person) -> None:
    approve(person.layout, KEY, person.label(block(42), "prediction"), rater="ana", when=day(1))
    said = json.loads(sidecar(person.layout.approved_label(*KEY)).read_text())
    assert said["Manual"] is False
    assert said["Sources"][0].startswith("bids:hippotune:sub-01/anat/sub-01_hemi-L_space-corobl_desc-nnunet")


def test_the_same_approval_again_adds_nothing(person: Person) -> None:
    first = approve_block(person)
    before = {path: path.stat().st_mtime_ns for path in person.layout.labels.rglob("*approved*")}
    newer = replace(person.label(block(42)), prediction=None)
    assert approve(person.layout, KEY, newer, rater="ana", when=day(2)) == first
    assert {path: path.stat().st_mtime_ns for path in person.layout.labels.rglob("*approved*")} == before


@pytest.mark.parametrize(
    ("change", "rater", "words"),
    [
        ({}, " ", "sub-01_hemi-L is approved by nobody"),
        ({"names": {2: "DG"}}, "ana", "holds values without a name: [1]"),
    ],
)
def test_what_cannot_be_vouched_for_is_refused(person: Person, change: dict, rater: str, words: str) -> None:
    with pytest.raises(BadDataError) as caught:
        approve(person.layout, KEY, replace(person.label(block(42)), **change), rater=rater, when=day(1))
    assert words in caught.value.message
    assert not person.layout.approved_label(*KEY).exists()


def test_without_its_crop_a_label_cannot_be_approved(person: Person) -> None:
    person.layout.session("01", None).crop("L", "T2w").unlink()
    with pytest.raises(NoInputError, match="T2w"):
        approve_block(person)


# Tampering


def change_label(layout: OutputLayout) -> None:
    write_image(layout.approved_label(*KEY), crop_image(block(43).astype(np.uint8), "L"))


def shift_label(layout: OutputLayout) -> None:
    path = layout.approved_label(*KEY)
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 0.3
    write_image(path, nib.Nifti1Image(np.asanyarray(image.dataobj), affine))


def change_crop(layout: OutputLayout) -> None:
    path = layout.session("01", None).crop("L", "T2w")
    image = nib.load(path)
    data = image.get_fdata(dtype=np.float32)
    data[40, 20, 20] += 0.5
    write_image(path, crop_image(data, "L"))


def change_transform(layout: OutputLayout) -> None:
    layout.session("01", None).transform("T1w").write_text("#Insight Transform File V1.0\n\n")


def add_transform(layout: OutputLayout) -> None:
    layout.session("01", None).transform("T2w").write_text("#Insight Transform File V1.0\n")


def remove_transform(layout: OutputLayout) -> None:
    layout.session("01", None).transform("T1w").unlink()


def remove_crop(layout: OutputLayout) -> None:
    layout.session("01", None).crop("L", "T1w").unlink()


def remove_label(layout: OutputLayout) -> None:
    layout.approved_label(*KEY).unlink()


def damage_label(layout: OutputLayout) -> None:
    path = layout.approved_label(*KEY)
    path.write_bytes(path.read_bytes()[:-200])


def empty_label(layout: OutputLayout) -> None:
    layout.approved_label(*KEY).write_bytes(b"")


def damage_crop(layout: OutputLayout) -> None:
    layout.session("01", None).crop("L", "T1w").write_bytes(b"no image")


def pipe_for_label(layout: OutputLayout) -> None:
    remove_label(layout)
    os.mkfifo(layout.approved_label(*KEY))


def pipe_for_crop(layout: OutputLayout) -> None:
    remove_crop(layout)
    os.mkfifo(layout.session("01", None).crop("L", "T1w"))


def pipe_for_transform(layout: OutputLayout) -> None:
    remove_transform(layout)
    os.mkfifo(layout.session("01", None).transform("T1w"))


def lose_ledger(layout: OutputLayout) -> None:
    layout.ledger.unlink()


LABEL, CROP = "_desc-approved_dseg.nii.gz", "_desc-preproc_"


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (change_label, f"{LABEL} was changed after ana approved it on 2026-01-01"),
        (shift_label, f"{LABEL} was changed after ana"),
        (remove_label, f"{LABEL}, approved by ana on 2026-01-01T12:00:00+00:00, is missing"),
        (damage_label, f"{LABEL} is a damaged or truncated gzip file"),
        (empty_label, f"{LABEL} is empty (0 bytes)"),
        (change_crop, f"{CROP}T2w.nii.gz is not the one that it was drawn on"),
        (remove_crop, f"{CROP}T1w.nii.gz that it was drawn on is missing"),
        (damage_crop, f"{CROP}T1w.nii.gz is not a NIfTI file"),
        (change_transform, "sub-01_from-T1w_to-corobl_mode-image_xfm.txt is not the one"),
        (add_transform, "sub-01_from-T2w_to-corobl_mode-image_xfm.txt is not the one"),
        (remove_transform, "sub-01_from-T1w_to-corobl_mode-image_xfm.txt is not the one"),
        (pipe_for_label, f"{LABEL} cannot be read: it is a pipe or a device"),
        (pipe_for_crop, f"{CROP}T1w.nii.gz cannot be read: it is a pipe or a device"),
        (pipe_for_transform, "_xfm.txt cannot be read: it is a pipe or a device"),
        (lose_ledger, f"{LABEL} was not approved through review"),
    ],
)
def test_what_is_no_longer_what_was_approved_is_refused(
    person: Person, tamper: Callable[[OutputLayout], None], words: str
) -> None:
    approve_block(person)
    tamper(person.layout)
    assert words in only_refusal(person.layout)


@pytest.mark.parametrize("number_type", [np.int16, np.float32, np.float64, np.uint16])
def test_a_save_that_keeps_voxels_and_affine_stays_approved(person: Person, number_type: type) -> None:
    approved = approve_block(person)
    data = np.asanyarray(nib.load(person.layout.approved_label(*KEY)).dataobj).astype(number_type)
    if number_type is np.float64:
        data = data[..., None]
    image = nib.Nifti1Image(data, GRIDS["L"].affine)
    image.header["descrip"] = b"saved by another program"
    nib.save(image, person.layout.approved_label(*KEY))
    assert find_approvals(person.layout).valid == (approved,)


def test_a_crop_that_is_saved_again_stays_the_crop(person: Person) -> None:
    approve_block(person)
    path = person.layout.session("01", None).crop("L", "T1w")
    nib.save(nib.Nifti1Image(nib.load(path).get_fdata(), nib.load(path).affine), path)
    assert len(find_approvals(person.layout).valid) == 1


def test_a_label_that_never_passed_review_does_not_count(person: Person) -> None:
    layout = person.layout
    approve_block(person)
    for key in (("02", "1", "R"), ("01", None, "R")):
        write_image(layout.approved_label(*key), crop_image(block(42).astype(np.uint8), "R"))
    strange = layout.approved_label(*KEY).with_name("sub-01_acq-x_hemi-L_space-corobl_desc-approved_dseg.nii.gz")
    strange.write_bytes(layout.approved_label(*KEY).read_bytes())
    found = find_approvals(layout)
    assert [one.name for one in found.valid] == [NAME]
    assert set(found.refused) == {"sub-02_ses-1_hemi-R", "sub-01_hemi-R", "sub-01_acq-x_hemi-L"}
    assert "was not approved through review" in found.refused["sub-01_hemi-R"]
    assert "a name that review never gives" in found.refused["sub-01_acq-x_hemi-L"]


def test_without_anything_nothing_is_approved(tmp_path: Path) -> None:
    found = find_approvals(OutputLayout(tmp_path / "nowhere"))
    assert (found.valid, found.refused) == ((), {})


# History


def test_two_raters_are_both_kept_and_compared(person: Person) -> None:
    layout = person.layout
    approve_block(person, 42, "ana", 1)
    assert agreement(layout, read_events(layout.ledger), KEY, ImageSnapshots()) is None
    later = approve_block(person, 45, "bo", 2)
    events = read_events(layout.ledger)
    assert [event.rater for event in events] == ["ana", "bo"]
    assert superseded(layout) == ["2026-01-02"]
    assert find_approvals(layout).valid == (later,)
    both = agreement(layout, events, KEY, ImageSnapshots())
    assert both is not None
    assert (both.earlier, both.later) == ("ana", "bo")
    assert both.labels[0] == LabelDifference("CA1", 0.7, 600, 1300)
    kept = layout.superseded("2026-01-02") / layout.approved_label(*KEY).relative_to(layout.labels)
    assert sidecar(kept).exists()
    assert label_names(kept).exists()


def test_two_raters_of_the_same_voxels_agree(person: Person) -> None:
    approve_block(person, 42, "ana", 1)
    approve_block(person, 42, "bo", 2)
    both = agreement(person.layout, read_events(person.layout.ledger), KEY, ImageSnapshots())
    assert both is not None
    assert both.labels[0] == LabelDifference("CA1", 1.0, 0, 1000)
    assert superseded(person.layout) == []


def test_labels_on_different_crops_are_not_compared(person: Person) -> None:
    approve_block(person, 42, "ana", 1)
    change_crop(person.layout)
    approve_block(person, 45, "bo", 2)
    assert agreement(person.layout, read_events(person.layout.ledger), KEY, ImageSnapshots()) is None


def test_every_version_of_one_day_is_kept(person: Person) -> None:
    for first in (42, 45, 48):
        approve_block(person, first, "ana", 3)
    change_label(person.layout)
    last = approve_block(person, 48, "ana", 3)
    assert superseded(person.layout) == ["2026-01-03", "2026-01-03-2", "2026-01-03-3"]
    assert find_approvals(person.layout).valid == (last,)


def test_withdrawn_and_approved_again_keeps_the_history(person: Person) -> None:
    layout = person.layout
    approve_block(person, 42, "ana", 1)
    assert withdraw(layout, KEY, rater="bo", when=day(2), reason="cut off in front") is True
    assert not list(layout.persons_labels("01", None).anat.glob("*desc-approved*"))
    words = only_refusal(layout)
    assert "the approval was withdrawn by bo on 2026-01-02T12:00:00+00:00: cut off in front" in words
    assert withdraw(layout, KEY, rater="bo", when=day(3)) is False
    again = approve_block(person, 42, "ana", 4)
    assert find_approvals(layout).valid == (again,)
    assert find_approvals(layout).refused == {}
    assert [type(event) for event in read_events(layout.ledger)] == [Approval, WithdrawnEvent, Approval]
    assert superseded(layout) == ["2026-01-02"]


def test_a_withdrawn_approval_is_not_compared(person: Person) -> None:
    approve_block(person, 42, "ana", 1)
    withdraw(person.layout, KEY, rater="ana", when=day(2))
    approve_block(person, 45, "bo", 3)
    assert agreement(person.layout, read_events(person.layout.ledger), KEY, ImageSnapshots()) is None


def test_what_was_never_approved_cannot_be_withdrawn(person: Person) -> None:
    assert withdraw(person.layout, KEY, rater="ana", when=day(1)) is False
    assert not person.layout.ledger.exists()


# Kills


class Killed(BaseException):
    pass


def kill_in(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def killed(*_: object, **__: object) -> None:
        raise Killed

    module = events if step == "append_event" else approval
    monkeypatch.setattr(module, step, killed)


STEPS = ["keep_superseded", "write_image", "write_label_table", "append_event", "write_json"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("had_one", [True, False])
def test_killed_at_any_step_the_ledger_decides_and_the_same_call_completes_it(
    person: Person, monkeypatch: pytest.MonkeyPatch, step: str, had_one: bool
) -> None:
    layout = person.layout
    if had_one:
        approve_block(person, 42, "ana", 1)
    elif step == "keep_superseded":
        return
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_in(patched, step)
        approve_block(person, 45, "bo", 2)
    in_ledger = step == STEPS[-1]
    assert ("bo" in [one.rater for one in find_approvals(layout).valid]) == in_ledger
    later = approve_block(person, 45, "bo", 3)
    assert find_approvals(layout).valid == (later,)
    assert [event.rater for event in read_events(layout.ledger)] == (["ana", "bo"] if had_one else ["bo"])
    assert len(superseded(layout)) == had_one
    assert label_names(layout.approved_label(*KEY)).exists()
    assert json.loads(sidecar(layout.approved_label(*KEY)).read_text())["HippoTune"]["when"] == later.when


@pytest.mark.parametrize("step", ["append_event", "keep_superseded"])
def test_killed_while_withdrawing_the_same_call_completes_it(
    person: Person, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    approve_block(person)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_in(patched, step)
        withdraw(person.layout, KEY, rater="bo", when=day(2))
    assert len(find_approvals(person.layout).valid) == (step == "append_event")
    withdraw(person.layout, KEY, rater="bo", when=day(3))
    assert "withdrawn by bo" in only_refusal(person.layout)
    assert not person.layout.approved_label(*KEY).exists()
    assert len(superseded(person.layout)) == 1
    assert len(read_events(person.layout.ledger)) == 2


# BIDS


def test_labels_are_a_valid_data_set_of_their_own(person: Person, tmp_path: Path) -> None:
    layout = person.layout
    describe_labels_dataset(layout)
    before = {path: path.stat() for path in layout.labels.iterdir()}
    describe_labels_dataset(layout)
    assert {path: path.stat() for path in layout.labels.iterdir()} == before
    approve_block(person, 42, "ana", 1)
    approve_block(person, 45, "bo", 2)
    others = (layout.review_table, layout.people_split, layout.label_names, layout.review_settings, layout.review_page)
    for path in (*others, layout.labels / "review.tsv.bak", layout.labels / "review.xlsx"):
        path.write_text("participant_id\n")
    manual = layout.manual_label(*KEY)
    manual.with_name(f"{manual.name}.orig").write_bytes(manual.read_bytes())
    write_image(layout.imported_label(*KEY), crop_image(block(42).astype(np.uint8), "L"))

    assert errors_of(layout.labels) == (0, [])
    # the same with sidecars checked: BIDS does not know `hemi` in names of volumes, and nothing else is passed over
    ignore = layout.labels_bidsignore
    ignore.write_text(ignore.read_text().replace("*_hemi-[LR]_*\n", "*_desc-manual_*\n*_desc-imported_*\n"))
    config = tmp_path / "config.json"
    rule = {"code": "ALL_FILENAME_RULES_HAVE_ISSUES", "location": "*_hemi-*"}
    config.write_text(json.dumps({"ignore": [rule]}))
    assert errors_of(layout.labels, "-c", str(config)) == (0, [])
