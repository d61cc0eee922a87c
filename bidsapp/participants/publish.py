"""Finished files take their place in OUTPUT_DIR; what people made is moved away before, never written over."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

from bidsapp.files import explain_write_errors, replace_atomically
from bidsapp.labels.protection import persons_files
from bidsapp.layout import OutputLayout, label_names, sidecar
from bidsapp.participants.job import Job, read_facts
from bidsapp.records import SIDES, Side

log = logging.getLogger(__name__)

_LAST = "anat"
"""Sidecars there say that all is done, so this folder and these files come last."""


def publish(job: Job, layout: OutputLayout, *, date: str) -> None:
    """Move the finished files of a session to OUTPUT_DIR and tidy up behind.

    A session that had no files yet appears at once, by one rename. Crops that people worked on, when they
    are replaced at all, go to ``labels/superseded/<date>/`` with everything that was drawn on them.

    Raises
    ------
    CannotWriteError
        When the disk is full or a folder cannot be written; what is missing is made by the next run.
    """
    unfinished = job.unfinished.root
    with explain_write_errors(job.done.root):
        if unfinished.exists():
            for side in SIDES:
                _supersede(job, layout, side, date)
            for left_by_a_killed_writer in unfinished.rglob(".*"):
                left_by_a_killed_writer.unlink()
            staged = _on_the_same_disk(unfinished, job.done.root)
            _merge(staged, job.done.root)
            shutil.rmtree(staged, ignore_errors=True)
            shutil.rmtree(unfinished, ignore_errors=True)
        for side in SIDES:
            _remove_stale_prediction(job, side)
    layout.failure(job.name).unlink(missing_ok=True)


def _merge(source: Path, target: Path) -> None:
    """Move a tree into another, images before their sidecars, whole folders where there was none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists() or not source.is_dir():
        source.replace(target)
        return
    for entry in sorted(source.iterdir(), key=lambda path: (path.name == _LAST, path.suffix == ".json", path.name)):
        _merge(entry, target / entry.name)


def _on_the_same_disk(source: Path, target: Path) -> Path:
    """Where `source` can be renamed from: itself, or a copy beside `target`."""
    probe = target / f".{os.getpid()}.probe"
    try:
        (source / ".probe").touch()
        (source / ".probe").replace(probe)
        probe.unlink()
        return source
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    copy = target / f".{os.getpid()}.{source.name}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)
    return copy


def _supersede(job: Job, layout: OutputLayout, side: Side, date: str) -> None:
    """Move a person's labels of a side away, with copies of crop and transform, before another crop comes."""
    scans = job.scans
    labels = persons_files(layout, scans.participant, scans.session, side)
    if not labels or not _crop_changes(job, side):
        return
    away = layout.superseded(date)
    crops = [path for modality in job.options.modalities for path in _with_sidecar(job.done.crop(side, modality))]
    crops += [job.done.transform(modality) for modality in job.options.modalities]
    for path in crops:
        if path.exists():
            _copy(path, away / path.relative_to(layout.root))
    for path in labels:
        _copy(path, away / path.relative_to(layout.labels))
        path.unlink()
    log.warning("%s: the labels of hemi-%s and the crop that they were drawn on are now in %s", job.name, side, away)


def _crop_changes(job: Job, side: Side) -> bool:
    for modality in job.options.modalities:
        old, new = (read_facts(layout.crop(side, modality)) for layout in (job.done, job.unfinished))
        if new and (not old or any(old[key] != new[key] for key in ("crop_sha256", "transform_sha256"))):
            return True
    return False


def _remove_stale_prediction(job: Job, side: Side) -> None:
    """A label map that was predicted on an earlier crop must not stand beside a new one."""
    path = job.done.prediction(side)
    facts = read_facts(path)
    if facts is None:
        return
    crops = {modality: read_facts(job.done.crop(side, modality)) for modality in facts["crop_sha256"]}
    if facts["crop_sha256"] == {modality: crop and crop["crop_sha256"] for modality, crop in crops.items()}:
        return
    natives = [job.done.native_prediction(side, modality) for modality in crops]
    for stale in [*(file for one in (path, *natives) for file in _with_sidecar(one)), label_names(path)]:
        stale.unlink(missing_ok=True)
    log.warning("%s: the label map of hemi-%s was removed: it belonged to an earlier crop", job.name, side)


def _with_sidecar(image: Path) -> tuple[Path, Path]:
    return image, sidecar(image)


def _copy(source: Path, target: Path) -> None:
    replace_atomically(target, lambda temporary: shutil.copyfile(source, temporary))
