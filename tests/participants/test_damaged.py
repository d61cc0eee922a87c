"""A damaged file under a person's label: made again where that gives the same, else named with a way out that works."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.bids.facts import is_changed_by_hand, read_facts
from bidsapp.content import file_sha256
from bidsapp.corobl.grid import GRIDS, crop_image
from bidsapp.corobl.transforms import write_transform
from bidsapp.errors import BadDataError
from bidsapp.layout import OutputLayout, sidecar
from bidsapp.participants.crops import prepare_session
from bidsapp.participants.job import CropOptions, Job
from bidsapp.participants.publish import publish
from bidsapp.records import SIDES, Modality, Scan, SessionScans, Side

MODALITIES: tuple[Modality, ...] = ("T1w", "T2w")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Ready-made crops of both modalities, taken; then a person corrected the left side."""
    crops: dict[Side, dict[Modality, Scan]] = {}
    transforms: dict[Modality, Path] = {}
    for modality in MODALITIES:
        transforms[modality] = tmp_path / f"{modality}.txt"
        write_transform(transforms[modality], np.diag([1.1, 1, 1, 1]))
        for side in SIDES:
            path = tmp_path / f"hemi-{side}_{modality}.nii.gz"
            noise = np.random.default_rng(len(path.name)).normal(size=GRIDS[side].shape).astype(np.float32)
            nib.save(crop_image(np.round(noise), side), path)
            crops.setdefault(side, {})[modality] = Scan(path, modality, f"bids:tool:{path.name}")
    scans = SessionScans("01", None, {}, crops=crops, transforms=transforms)
    job = Job(scans, OutputLayout(tmp_path / "out"), tmp_path / "log", CropOptions(MODALITIES, SIDES))
    assert prepare_session(job).crops == dict.fromkeys(SIDES, job.unfinished)
    publish(job, date="first")
    label = job.layout.manual_label("01", None, "L")
    label.parent.mkdir(parents=True)
    label.touch()
    return replace(job, persons_work={"L": "has a corrected label"})


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


Damage = Callable[[Job, Side, Modality], None]


def cut_off_crop(job: Job, side: Side, modality: Modality) -> None:
    cut_off(job.done.crop(side, modality))


def remove_crop(job: Job, side: Side, modality: Modality) -> None:
    job.done.crop(side, modality).unlink()


def cut_off_sidecar(job: Job, side: Side, modality: Modality) -> None:
    cut_off(sidecar(job.done.crop(side, modality)))


def cut_off_both(job: Job, side: Side, modality: Modality) -> None:
    for other in SIDES:
        cut_off_crop(job, other, modality)


@pytest.mark.parametrize(
    ("damage", "side", "modality"),
    [
        (cut_off_crop, "L", "T1w"),
        (cut_off_crop, "R", "T2w"),
        (remove_crop, "L", "T2w"),
        (cut_off_sidecar, "L", "T1w"),
        (cut_off_both, "L", "T2w"),
    ],
)
def test_a_damaged_crop_is_made_again_as_it_was(job: Job, damage: Damage, side: Side, modality: Modality) -> None:
    before = {one: facts["crop_sha256"] for one in SIDES if (facts := read_facts(job.done.crop(one, modality)))}
    damage(job, side, modality)
    prepared = prepare_session(job)
    for one, layout in prepared.crops.items():  # what segmenting reads
        assert all(layout.crop(one, channel).exists() for channel in MODALITIES)
    assert prepared.crops[side] == job.unfinished
    publish(job, date="second")
    for one in SIDES:
        facts = read_facts(job.done.crop(one, modality))
        assert facts is not None
        assert facts["crop_sha256"] == before[one]
    assert job.layout.manual_label("01", None, "L").exists()
    assert prepare_session(job).crops == dict.fromkeys(SIDES, job.done)


def test_a_crop_that_cannot_be_told_is_refused_with_a_way_out(job: Job) -> None:
    """Crop and sidecar are both damaged: nobody knows what was drawn on."""
    cut_off_crop(job, "L", "T1w")
    cut_off_sidecar(job, "L", "T1w")
    for _ in range(2):
        prepare_session(job)
        with pytest.raises(BadDataError) as refused:
            publish(job, date="second")
        assert "missing or damaged" in refused.value.message
        assert "--replace-crops" in (refused.value.hint or "")
    job = replace(job, replace_crops=True)
    prepare_session(job)
    publish(job, date="third")
    assert read_facts(job.done.crop("L", "T1w")) is not None
    moved = job.layout.superseded("third") / job.layout.manual_label("01", None, "L").relative_to(job.layout.labels)
    assert moved.exists()


def test_a_damaged_transform_is_refused_with_a_way_out(job: Job) -> None:
    cut_off(job.done.transform("T2w"))
    for _ in range(2):
        with pytest.raises(BadDataError) as refused:
            prepare_session(job)
        assert "T2w transform of sub-01" in refused.value.message
        assert "--replace-crops" in (refused.value.hint or "")


def test_a_crop_that_is_no_longer_offered_stays_as_it_is(job: Job) -> None:
    """Ready-made crops of one side alone: the other is there already."""
    job = replace(job, scans=replace(job.scans, crops={"R": job.scans.crops["R"]}))
    assert prepare_session(job).crops == dict.fromkeys(SIDES, job.done)
    cut_off_crop(job, "L", "T1w")
    assert prepare_session(job).sides == ("R",)


def test_a_label_map_that_was_cut_off_is_not_changed_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "dseg.nii.gz"
    nib.save(crop_image(np.arange(128 * 256 * 128, dtype=np.int32).reshape(128, 256, 128) % 97, "L"), path)
    sidecar(path).write_text('{"HippoTune": {"file_sha256": "another"}}')
    assert is_changed_by_hand(path)
    cut_off(path)
    assert not is_changed_by_hand(path)
    for content in ("[]", '{"HippoTune": []}', "{", "[" * 100_000):
        sidecar(path).write_text(content)
        assert not is_changed_by_hand(path)
        assert read_facts(path) is None


@pytest.mark.parametrize("unreadable", [False, True])
@pytest.mark.parametrize("native", [False, True])
def test_a_label_map_that_somebody_edited_in_the_wrong_place_is_kept_when_it_is_made_anew(
    job: Job, native: bool, unreadable: bool
) -> None:
    """Also where its sidecar is there and cannot be read, so that nobody can tell."""
    new, old = (
        layout.native_prediction("R", "T1w") if native else layout.prediction("R")
        for layout in (job.unfinished, job.done)
    )
    new.parent.mkdir(parents=True)
    for path, content in ((old, "edited, in a way of its own"), (new, "made anew")):
        path.write_text(content)
        facts = {"file_sha256": file_sha256(new) if path == new else "", "native_sha256": None, "crop_sha256": {}}
        sidecar(path).write_text(json.dumps({"HippoTune": facts}))
    if unreadable:
        sidecar(old).write_text('{"HippoTune": {')
    publish(job, date="second")
    assert old.read_text() == "made anew"
    kept = job.layout.superseded("second") / old.relative_to(job.layout.root)
    assert kept.read_text() == "edited, in a way of its own"
