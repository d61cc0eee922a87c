"""Scans of one session become crops, with the transform and a picture of the head; runs in any process."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from bidsapp import __version__
from bidsapp.bids.facts import read_facts, recorded_facts
from bidsapp.bids.sidecars import crop_sidecar
from bidsapp.content import file_sha256, image_sha256, settings_sha256
from bidsapp.corobl.grid import GRIDS
from bidsapp.corobl.preprocessing import (
    PREPROCESSING_VERSION,
    is_skull_stripped,
    make_crops,
    register_scans,
    view_in_template,
)
from bidsapp.corobl.quality import judge_registration, worst_level
from bidsapp.corobl.registration import Registration
from bidsapp.corobl.template import TEMPLATE
from bidsapp.corobl.transforms import read_transform, write_transform
from bidsapp.errors import BadDataError, HippoTuneError
from bidsapp.files import copy_file, write_bytes, write_json
from bidsapp.images.nifti import require_content
from bidsapp.images.volumes import FileVolume, Volume, read_volume
from bidsapp.images.writing import new_image, write_image
from bidsapp.layout import SessionLayout, sidecar
from bidsapp.logs import log_to
from bidsapp.participants.job import Job, Prepared, crop_facts, crop_key, has_its_transform, require_short_name
from bidsapp.participants.publish import complete_publishing, with_sidecar
from bidsapp.pictures.heads import head_picture, template_landmarks
from bidsapp.records import SIDES, Modality, Scan, Side

log = logging.getLogger(__name__)

_GRID_TOLERANCE_MM = 0.01
_SHOWN_METADATA = ("Manufacturer", "ManufacturersModelName", "MagneticFieldStrength", "SeriesDescription")


_KEPT = {"key", "scan_sha256", "crop_sha256", "transform_sha256"}
_OF_ONE_FILE = ("version", "simpleitk", "file_sha256", "crop_sha256", "transform_sha256")


def prepare_session(job: Job) -> Prepared:
    """Make the crops of a session below `Job.unfinished`, unless they are there already.

    Raises
    ------
    HippoTuneError
        When a scan cannot be used, or changed although a person worked on its crop.
    """
    began = time.monotonic()
    with log_to(job.log):
        try:
            prepared = _prepare(job)
        except HippoTuneError as error:
            error.seconds = time.monotonic() - began
            raise
    return replace(prepared, seconds=time.monotonic() - began)


def _prepare(job: Job) -> Prepared:
    require_short_name(job.scans)
    complete_publishing(job)
    inputs = _fingerprint_scans(job)
    if job.persons_work and not job.replace_crops and _has_crops(job):
        return _keep(job, inputs)
    if job.scans.crops:
        return _take_ready_made(job)
    for layout in (job.done, job.unfinished):
        if not job.force and _are_made(job, layout, inputs):
            log.info("%s: the crops are there already", job.name)
            if layout == job.done:
                _clear(job)
            return Prepared(dict.fromkeys(job.options.sides, layout))
    _clear(job)
    return _make(job, inputs)


def _clear(job: Job) -> None:
    """Remove what a killed run left: it may have been made with other settings."""
    shutil.rmtree(job.unfinished.root, ignore_errors=True)


def _fingerprint_scans(job: Job) -> dict[Modality, str]:
    for scan in job.scans.scans.values():
        require_content(scan.path)
    return {modality: file_sha256(scan.path) for modality, scan in job.scans.scans.items()}


def _are_made(job: Job, layout: SessionLayout, inputs: dict[Modality, str]) -> bool:
    for side in job.options.sides:
        facts = crop_facts(layout, side, job.options.modalities)
        if facts is None:
            return False
        for modality, one in zip(job.options.modalities, facts, strict=True):
            if one["key"] != crop_key(job.options, modality, inputs) or not has_its_transform(layout, modality, one):
                return False
    return True


def _make(job: Job, inputs: dict[Modality, str]) -> Prepared:
    """Register the scans and make all crops anew."""
    options = job.options
    volumes = {modality: read_volume(scan.path, "scan") for modality, scan in job.scans.scans.items()}
    for modality, volume in volumes.items():
        for warning in volume.file.warnings:
            log.warning("%s, %s: %s", job.name, modality, warning)
    started = time.monotonic()
    registrations = register_scans(volumes, options.modalities, rigid=options.rigid)
    sides = _sides_to_make(job, inputs)
    for modality, registration in registrations.items():
        volume, scan = volumes[modality], job.scans.scans[modality]
        view = view_in_template(volume, registration)
        picture = head_picture(view, template_landmarks(GRIDS))
        write_bytes(job.unfinished.head_picture(modality), picture.png)
        said = scan.metadata.get("SkullStripped")
        stripped = said if isinstance(said, bool) else is_skull_stripped(view)
        registered = _registration_facts(registration, skull_stripped=stripped)
        _say_registration(job, modality, registered, time.monotonic() - started)
        write_transform(job.unfinished.transform(modality), registration.native_from_corobl)
        facts = {
            "key": crop_key(options, modality, inputs),
            **_scan_facts(job, scan, inputs[modality]),
            **_header_facts(volume),
            "registration": registered,
            "rigid": options.rigid,
            "bias_correction": options.bias_correction,
        }
        _write_crops(job, modality, volume, sides, facts)
    return Prepared(dict.fromkeys(sides, job.unfinished))


def _say_registration(job: Job, modality: Modality, facts: dict[str, Any], seconds: float) -> None:
    log.info("%s: %s registered to the template in %.0f s: %s", job.name, modality, seconds, facts["level"])
    for judgement in facts["judgements"]:
        if judgement["level"] != "green":
            log.warning("%s, %s: %s: %s", job.name, modality, judgement["level"], judgement["words"])


def _has_crops(job: Job) -> bool:
    """Whether there is a crop of a wanted modality that somebody may have drawn on."""
    return any(job.done.crop(side, modality).exists() for side in SIDES for modality in job.options.modalities)


def _keep(job: Job, inputs: dict[Modality, str]) -> Prepared:
    """Take the crops that a person worked on; make those that are missing with the same transform."""
    _clear(job)
    options = job.options
    whole_sides = [side for side in options.sides if crop_facts(job.done, side, options.modalities)]
    sides = _ready_made_sides(job, whole_sides) if job.scans.crops else options.sides
    again = [side for side in sides if side not in whole_sides]
    for modality in options.modalities:
        facts = _kept_facts(job, modality, inputs)
        if facts["key"] != crop_key(options, modality, inputs) and not job.scans.crops:
            log.warning("%s: its crops are kept as they are, made with other settings", job.name)
        whole = [side for side in again if read_facts(job.done.crop(side, modality))]
        wanted = [side for side in again if side not in whole]
        if again and facts["transform_sha256"] is not None:
            copy_file(job.done.transform(modality), job.unfinished.transform(modality))
        for side in whole:  # all channels of a side lie together
            for path in with_sidecar(job.done.crop(side, modality)):
                copy_file(path, job.unfinished.root / path.relative_to(job.done.root))
        if wanted and job.scans.crops:
            for side in wanted:
                _copy_crop(job, modality, side, _fingerprint_crop(job, side, modality))
        elif wanted:
            shared = {name: value for name, value in facts.items() if name not in _OF_ONE_FILE}
            _write_crops(job, modality, read_volume(job.scans.scans[modality].path, "scan"), wanted, shared)
    log.info("%s: the crops are kept: %s", job.name, job.work_in_words)
    return Prepared({side: job.unfinished if side in again else job.done for side in sides})


def _kept_facts(job: Job, modality: Modality, inputs: dict[Modality, str]) -> dict[str, Any]:
    """The facts of a kept crop, which itself may be damaged; refuses to go on where the crops are not of this scan."""
    way_out = "or give --replace-crops to move the labels away and make new crops."
    recorded = {side: recorded_facts(job.done.crop(side, modality)) for side in SIDES}
    found = {side: facts for side, facts in recorded.items() if facts and facts.keys() >= _KEPT}
    if not found or not all(has_its_transform(job.done, modality, facts) for facts in found.values()):
        raise BadDataError(
            f"{job.work_in_words}, but the {modality} transform of {job.name}, or the sidecar of its crop, is missing "
            "or was changed",
            f"Restore {job.done.transform(modality)} and {sidecar(job.done.crop('L', modality)).name}, {way_out}",
        )
    for side, facts in found.items():
        offered = modality in job.scans.crops.get(side, {})
        now = _fingerprint_crop(job, side, modality) if offered else inputs.get(modality)
        if now not in (None, facts["scan_sha256"]):
            raise BadDataError(
                f"{job.work_in_words}, but the {modality} scan of {job.name} changed since the crop was made",
                f"Restore the scan, {way_out}",
            )
    return next(iter(found.values()))


def _sides_to_make(job: Job, inputs: dict[Modality, str]) -> tuple[Side, ...]:
    """The sides asked for, and one that would be left with a transform that is no longer its own."""
    options = job.options
    stale = {
        side
        for side in SIDES
        for modality in options.modalities
        if job.done.crop(side, modality).exists()
        and [one["key"] for one in crop_facts(job.done, side, (modality,)) or ()]
        != [crop_key(options, modality, inputs)]
    }
    return tuple(side for side in SIDES if side in stale or side in options.sides)


def _write_crops(
    job: Job, modality: Modality, volume: FileVolume, sides: Iterable[Side], facts: dict[str, Any]
) -> None:
    """Resample one scan by its transform in `Job.unfinished`, and write crops, each before its sidecar."""
    native_from_corobl = read_transform(job.unfinished.transform(modality))
    grids = {side: GRIDS[side] for side in sides}
    crops, corrected = make_crops(volume, native_from_corobl, grids, bias_correction=facts["bias_correction"])
    for side, crop in crops.items():
        _write_crop(job, modality, side, crop, facts | {"bias_corrected": corrected})


def _write_crop(job: Job, modality: Modality, side: Side, crop: Volume, facts: dict[str, Any]) -> None:
    image, path = new_image(crop.data, crop.affine), job.unfinished.crop(side, modality)
    image.header["descrip"] = f"CorObl of CIT168, HippoTune {__version__}".encode()
    write_image(path, image)
    transform = job.unfinished.transform(modality)
    own = {
        "version": __version__,
        "simpleitk": version("simpleitk"),
        "template": TEMPLATE,
        "file_sha256": file_sha256(path),
        "crop_sha256": image_sha256(crop.data, crop.affine),
        "transform": transform.name if transform.exists() else None,
        "transform_sha256": file_sha256(transform) if transform.exists() else None,
    }
    stripped = bool(facts["registration"].get("skull_stripped", False))
    write_json(sidecar(path), crop_sidecar(sources=[facts["scan"]], skull_stripped=stripped, facts=facts | own))


def _header_facts(volume: FileVolume) -> dict[str, Any]:
    return {"affine_source": volume.file.source, "warnings": list(volume.file.warnings)}


def _scan_facts(job: Job, scan: Scan, digest: str) -> dict[str, Any]:
    return {
        "scan": scan.uri,
        "scan_sha256": digest,
        "left_aside": [path.name for path in job.scans.left_aside],
        "scanner": {name: str(scan.metadata[name]) for name in _SHOWN_METADATA if name in scan.metadata},
    }


def _registration_facts(registration: Registration, *, skull_stripped: bool) -> dict[str, Any]:
    judgements = judge_registration(registration.quality)
    return {
        "skull_stripped": skull_stripped,
        "rigid": registration.rigid,
        "search": registration.search,
        "determinant": float(np.linalg.det(registration.native_from_corobl[:3, :3])),
        "level": worst_level(judgements),
        "judgements": [asdict(judgement) for judgement in judgements],
    }


def _ready_made_sides(job: Job, there: Collection[Side] = ()) -> tuple[Side, ...]:
    """The sides of which there are ready-made crops of all modalities asked for, and those that are there already."""
    options = job.options
    offered = {side for side in SIDES if set(options.modalities) <= set(job.scans.crops.get(side, {}))}
    sides = tuple(side for side in options.sides if side in offered or side in there)
    if not sides:
        raise BadDataError(
            f"{job.name}: the ready-made crops lack {', '.join(options.modalities)} of {', '.join(options.sides)}",
            "Choose another --modality or --hemi, or leave --derivatives out.",
        )
    return sides


def _take_ready_made(job: Job) -> Prepared:
    """Take crops of another tool as they are: their grid must be CorObl's."""
    options, sides = job.options, _ready_made_sides(job)
    if not job.force and all(_is_taken(job, side) for side in sides):
        log.info("%s: the crops are there already", job.name)
        _clear(job)
        return Prepared(dict.fromkeys(sides, job.done))
    _clear(job)
    for modality in options.modalities:
        source = job.scans.transforms.get(modality)
        if source is not None:
            write_transform(job.unfinished.transform(modality), read_transform(source))
        for side in sides:
            _copy_crop(job, modality, side, _fingerprint_crop(job, side, modality))
    log.info("%s: ready-made crops were taken", job.name)
    return Prepared(dict.fromkeys(sides, job.unfinished))


def _is_taken(job: Job, side: Side) -> bool:
    facts = crop_facts(job.done, side, job.options.modalities)
    return facts is not None and all(
        one["key"] == _ready_made_key(job, side, modality) and has_its_transform(job.done, modality, one)
        for modality, one in zip(job.options.modalities, facts, strict=True)
    )


def _ready_made_key(job: Job, side: Side, modality: Modality) -> str:
    transform = job.scans.transforms.get(modality)
    return settings_sha256(
        {
            "crop": _fingerprint_crop(job, side, modality),
            "transform": file_sha256(transform) if transform else None,
            "version": PREPROCESSING_VERSION,
        }
    )


def _fingerprint_crop(job: Job, side: Side, modality: Modality) -> str:
    path = job.scans.crops[side][modality].path
    require_content(path)
    return file_sha256(path)


def _copy_crop(job: Job, modality: Modality, side: Side, digest: str) -> None:
    scan = job.scans.crops[side][modality]
    volume, grid = read_volume(scan.path, "scan"), GRIDS[side]
    if volume.data.shape != grid.shape or np.abs(volume.affine - grid.affine).max() > _GRID_TOLERANCE_MM:
        raise BadDataError(
            f"{scan.path} is not on the CorObl grid of hemi-{side}: shape {volume.data.shape}, origin "
            f"{np.round(volume.affine[:3, 3], 2).tolist()}; expected {grid.shape} at {grid.affine[:3, 3].tolist()}",
            "Give the whole scan instead: leave --derivatives out.",
        )
    transform = job.unfinished.transform(modality)
    determinant = float(np.linalg.det(read_transform(transform)[:3, :3])) if transform.exists() else None
    facts = {
        "key": _ready_made_key(job, side, modality),
        **_scan_facts(job, scan, digest),
        **_header_facts(volume),
        "registration": {"determinant": determinant} if determinant else {},
        "ready_made": True,
    }
    _write_crop(job, modality, side, Volume(volume.data, grid.affine), facts)
