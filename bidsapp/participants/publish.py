"""Finished files take their place in OUTPUT_DIR; what people made is moved away before, never written over."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from datetime import datetime
from pathlib import Path

from bidsapp.bids.facts import is_changed_by_hand, is_whole_image, read_facts, recorded_facts
from bidsapp.content import file_sha256
from bidsapp.errors import BadDataError, HippoTuneError
from bidsapp.files import copy_file, create_beside, explain_write_errors, sweep_unfinished, write_text
from bidsapp.images.fingerprints import read_image_sha256
from bidsapp.layout import SessionLayout, label_names, sidecar
from bidsapp.participants.job import Job, has_its_transform
from bidsapp.records import MODALITIES, SIDES, Side
from bidsapp.review.events import WithdrawnEvent, append_event, last_events, read_events
from bidsapp.review.ledger import labels_lock
from bidsapp.review.protection import awaits_record, persons_files, persons_work
from bidsapp.review.superseded import keep_copy
from bidsapp.review.table import read_review_table

log = logging.getLogger(__name__)

_LAST = "anat"
"""Sidecars there say that all is done, so this folder and these files come last."""


def publish(job: Job, *, date: str) -> None:
    """Move the finished files of a session to OUTPUT_DIR and tidy up behind.

    A session that had no files yet appears at once, by one rename. Crops that people worked on, when they
    are replaced at all, go to ``labels/superseded/<date>/`` with everything that was drawn on them.

    Raises
    ------
    CannotWriteError
        When the disk is full or a folder cannot be written; what is missing is made by the next run.
    BadDataError
        When a person began to work on a crop while another was being made.
    """
    unfinished = job.unfinished.root
    with explain_write_errors(job.layout.root):
        if unfinished.exists():
            _drop_incomplete(job)
            for side in SIDES:
                _keep_unrecorded(job, side)
                _refuse_under_labels(job, side)
            write_text(job.layout.publishing(job.name), date)
            complete_publishing(job)
        for side in SIDES:
            _remove_stale_prediction(job, side)
        _remove_stale_transforms(job)
    job.layout.failure(job.name).unlink(missing_ok=True)


def complete_publishing(job: Job) -> None:
    """Move what is to be moved, also after a run that was killed in between: what it began has its date."""
    marker, unfinished = job.layout.publishing(job.name), job.unfinished.root
    if not marker.exists():
        return
    if unfinished.exists():
        date = marker.read_text(encoding="utf-8") or f"{datetime.now():%Y-%m-%dT%H%M%S}"
        if any(_work_in_words(job, side) for side in SIDES):
            with labels_lock(job.layout):
                sweep_unfinished(job.layout.superseded(date), alone=False)
                for side in SIDES:
                    _supersede(job, side, date)
        for side in SIDES:
            _keep_edited(job, side, date)
        sweep_unfinished(unfinished, alone=True)
        _merge(_on_the_same_disk(job), job.layout.root)
    shutil.rmtree(job.layout.publishing_copy(job.name), ignore_errors=True)
    shutil.rmtree(unfinished, ignore_errors=True)
    marker.unlink()


def _drop_incomplete(job: Job) -> None:
    """Remove what a killed writer left, and label maps without the sidecar that is written last."""
    for left in job.unfinished.root.rglob(".*"):
        if not left.is_dir():
            left.unlink()
    for side in SIDES:
        if job.unfinished.prediction(side).exists() and read_facts(job.unfinished.prediction(side)) is None:
            _remove_prediction(job.unfinished, side)


def _merge(source: Path, target: Path) -> None:
    """Move a tree into another, images before their sidecars, whole folders where there was none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        source.replace(target)
        return
    if not target.is_dir():  # OUTPUT_DIR itself may be where a disk is mounted, which nothing can be renamed to
        try:
            source.rename(target)
            return
        except OSError as error:  # another session of the person came first
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    for entry in sorted(source.iterdir(), key=lambda path: (path.name == _LAST, path.suffix == ".json", path.name)):
        _merge(entry, target / entry.name)


def _on_the_same_disk(job: Job) -> Path:
    """Where the finished files can be renamed from: where they were made, or a copy in OUTPUT_DIR."""
    made, copy = job.unfinished.root, job.layout.publishing_copy(job.name)
    copy.parent.mkdir(parents=True, exist_ok=True)
    if _can_be_renamed(made, copy.parent):
        return made
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(made, copy)
    return copy


def _can_be_renamed(source: Path, target: Path) -> bool:
    """Whether a folder's files can be renamed into another: not across mounts, even of one disk, as containers have."""
    probe, descriptor = create_beside(source / "probe")
    os.close(descriptor)
    moved = target / probe.name
    try:
        probe.rename(moved)
    except OSError as error:
        probe.unlink()
        if error.errno != errno.EXDEV:
            raise
        return False
    moved.unlink()
    return True


def _keep_unrecorded(job: Job, side: Side) -> None:
    """Give up a new prediction where a person approved the old one while it was made."""
    if job.replace_crops or not is_whole_image(job.done.prediction(side)):
        return
    if not job.unfinished.prediction(side).exists():
        return
    key = (job.scans.participant, job.scans.session, side)
    row = read_review_table(job.layout.review_table).deciding_rows().get(key)
    if row and awaits_record(row, last_events(read_events(job.layout.ledger)).get(key)):
        _remove_prediction(job.unfinished, side)
        log.warning("%s: the new label map of hemi-%s is given up: the old one was approved meanwhile", job.name, side)


def _work_in_words(job: Job, side: Side) -> str | None:
    """What a person did with a side, as it is now; None when nobody touched it."""
    if is_changed_by_hand(job.done.prediction(side)):
        return "has a prediction that was changed by hand"
    where = (job.scans.participant, job.scans.session, side)
    return persons_work(job.layout, read_review_table(job.layout.review_table), *where)


def _refuse_under_labels(job: Job, side: Side) -> None:
    """Keep a crop that a person worked on, unless the new one is the same, or is to take its place."""
    work = _work_in_words(job, side)
    if work is None or job.replace_crops or not _crop_changes(job, side):
        return
    if side in job.persons_work:
        raise BadDataError(
            f"hemi-{side} {work}, its crop is missing or damaged, and the one made now differs from what it was",
            "Restore the crop and its sidecar, or give --replace-crops to move the labels away.",
        )
    raise BadDataError(
        f"hemi-{side} {work}: a person worked on it while a new crop was being made",
        "Give the same command again: the crop will be kept. --replace-crops replaces it.",
    )


def _supersede(job: Job, side: Side, date: str) -> None:
    """Move a person's labels of a side away, with copies of what they judged, before something else comes.

    Done again after a run that was stopped, it leaves what is away already.
    """
    layout, where = job.layout, (job.scans.participant, job.scans.session, side)
    work = _work_in_words(job, side)
    crop_changes = _crop_changes(job, side)
    if work is None or not (crop_changes or job.unfinished.prediction(side).exists()):
        return
    if not crop_changes and not job.replace_crops:
        return
    away = layout.superseded(date)
    judged = [path for modality in MODALITIES for path in with_sidecar(job.done.crop(side, modality))]
    judged += [job.done.transform(modality) for modality in MODALITIES]
    judged += [*with_sidecar(job.done.prediction(side)), label_names(job.done.prediction(side))]
    for path in judged:
        copy = away / path.relative_to(layout.root)
        if path.exists() and not copy.exists():
            copy_file(path, copy)
    _void_decision(job, side, f"another crop or prediction took the place of what was judged; that is in {away.name}")
    for path in persons_files(layout, *where) if crop_changes else ():
        keep_copy(path, away, path.relative_to(layout.labels))
        path.unlink()
    log.warning("%s: hemi-%s %s: that and what it was about is now in %s", job.name, side, work, away)


def _keep_edited(job: Job, side: Side, date: str) -> None:
    """Keep label maps whose place is taken and that are not what was written there.

    Edited in the space of the scan, where nobody looks for corrections; cut off; or saved in a way that nobody reads.
    Where their sidecar is there and does not tell, they may have been edited.
    """
    away = job.layout.superseded(date)
    for path in (job.done.prediction(side), *job.done.native_predictions(side)):
        recorded = (recorded_facts(path) or {}).get("file_sha256")
        new = job.unfinished.root / path.relative_to(job.done.root)
        if not (sidecar(path).exists() and path.exists() and new.exists()):
            continue
        if file_sha256(path) not in (recorded, file_sha256(new)):
            keep_copy(path, away, path.relative_to(job.layout.root))
            changed = "was changed" if recorded else "may have been changed"
            log.warning("%s: %s %s, and is made anew; as it was, it is in %s", job.name, path.name, changed, away)


def _void_decision(job: Job, side: Side, reason: str) -> None:
    """Write into the ledger, once, that a row of the review table is about something that is no longer there."""
    layout, key = job.layout, (job.scans.participant, job.scans.session, side)
    row = read_review_table(layout.review_table).deciding_rows().get(key)
    last = last_events(read_events(layout.ledger)).get(key)
    said = isinstance(last, WithdrawnEvent) and row is not None and last.decision == row.decision
    if row and row.status != "pending" and not said:
        when = datetime.now().astimezone().replace(microsecond=0)
        append_event(layout.ledger, WithdrawnEvent(when.isoformat(), row.rater, *key, reason, decision=row.decision))


def _crop_changes(job: Job, side: Side) -> bool:
    """Whether a new crop is another than the one that a person may have seen, which may be damaged by now."""
    for modality in MODALITIES:
        new, path = read_facts(job.unfinished.crop(side, modality)), job.done.crop(side, modality)
        if new is None:
            continue
        old = recorded_facts(path)
        if old is None and not path.exists():
            continue
        if old is None:  # without its sidecar, the voxels tell
            if not _shows(path, new["crop_sha256"]) or not has_its_transform(job.done, modality, new):
                return True
        elif any(old.get(key) != new[key] for key in ("crop_sha256", "transform_sha256")):
            return True
    return False


def _shows(path: Path, crop_sha256: str) -> bool:
    try:
        return read_image_sha256(path) == crop_sha256
    except HippoTuneError:
        return False


def _remove_stale_prediction(job: Job, side: Side) -> None:
    """A label map that was predicted on an earlier crop must not stand beside a new one, nor in an old scan."""
    path = job.done.prediction(side)
    facts = read_facts(path)
    if facts is None:
        return
    for native in job.done.native_predictions(side):
        if native.exists() and file_sha256(native) != facts["native_sha256"]:
            _remove_with_table(native)
    crops = {modality: read_facts(job.done.crop(side, modality)) for modality in facts["crop_sha256"]}
    if all(crop and crop["crop_sha256"] == facts["crop_sha256"][modality] for modality, crop in crops.items()):
        return
    _remove_prediction(job.done, side)
    log.warning("%s: the label map of hemi-%s was removed: it belonged to an earlier crop", job.name, side)


def _remove_prediction(session: SessionLayout, side: Side) -> None:
    for image in (session.prediction(side), *session.native_predictions(side)):
        _remove_with_table(image)
    session.label_colours(side).unlink(missing_ok=True)


def _remove_with_table(image: Path) -> None:
    for path in (*with_sidecar(image), label_names(image)):
        path.unlink(missing_ok=True)


def _remove_stale_transforms(job: Job) -> None:
    """A transform that no crop came by would bring labels to the wrong place."""
    for modality in MODALITIES:
        crops = [facts for side in SIDES if (facts := read_facts(job.done.crop(side, modality)))]
        if crops and all(facts["transform_sha256"] is None for facts in crops):
            job.done.transform(modality).unlink(missing_ok=True)


def with_sidecar(image: Path) -> tuple[Path, Path]:
    """An image and its JSON file."""
    return image, sidecar(image)
