"""Scans of one session become crops, with the transform and a picture of the head; runs in any process."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from bidsapp import __version__
from bidsapp.arrays import FloatArray
from bidsapp.bids.sidecars import crop_sidecar
from bidsapp.content import file_sha256, image_sha256
from bidsapp.corobl.grid import GRIDS, crop_image
from bidsapp.corobl.preprocessing import is_skull_stripped, make_crops, register_scans, view_in_template
from bidsapp.corobl.quality import judge_registration, worst_level
from bidsapp.corobl.registration import Registration
from bidsapp.corobl.template import TEMPLATE
from bidsapp.corobl.transforms import read_transform, write_transform
from bidsapp.corobl.volumes import FileVolume, read_volume
from bidsapp.errors import BadDataError
from bidsapp.files import write_bytes, write_image, write_json
from bidsapp.layout import SessionLayout, sidecar
from bidsapp.logs import log_to
from bidsapp.participants.job import Job, Prepared, crop_facts, crop_key
from bidsapp.records import SIDES, Modality, Scan, Side
from bidsapp.report.head_pictures import head_picture, template_landmarks

log = logging.getLogger(__name__)

_GRID_TOLERANCE_MM = 0.01
_SHOWN_METADATA = ("Manufacturer", "ManufacturersModelName", "MagneticFieldStrength", "SeriesDescription")


@dataclass(frozen=True, eq=False)
class _Placement:
    """Where CorObl lies in a scan, and what is known of how that was found.

    Attributes
    ----------
    native_from_corobl
        (4, 4), RAS millimetres.
    registration
        For the sidecar: measures and judgements.
    """

    native_from_corobl: FloatArray
    registration: dict[str, Any]


def prepare_session(job: Job) -> Prepared:
    """Make the crops of a session below `Job.unfinished`, unless they are there already.

    Raises
    ------
    HippoTuneError
        When a scan cannot be used, or changed although a person worked on its crop.
    """
    with log_to(job.log):
        inputs = {modality: file_sha256(scan.path) for modality, scan in job.scans.scans.items()}
        if job.scans.crops:
            return _take_ready_made(job)
        if job.persons_work:
            return _keep(job, inputs)
        for layout in (job.done, job.unfinished):
            if not job.force and _are_made(job, layout, inputs):
                log.info("%s: the crops are there already", job.name)
                return Prepared(layout, job.options.sides)
        return _make(job, inputs)


def _are_made(job: Job, layout: SessionLayout, inputs: dict[Modality, str]) -> bool:
    for side in job.options.sides:
        facts = crop_facts(layout, side, job.options.modalities)
        if facts is None:
            return False
        for modality, one in zip(job.options.modalities, facts, strict=True):
            transform = layout.transform(modality)
            if one["key"] != crop_key(job.options, modality, inputs) or not transform.exists():
                return False
            if one["transform_sha256"] != file_sha256(transform):
                return False
    return True


def _make(job: Job, inputs: dict[Modality, str]) -> Prepared:
    """Register the scans and make all crops anew."""
    options = job.options
    volumes = {modality: read_volume(scan.path) for modality, scan in job.scans.scans.items()}
    for modality, volume in volumes.items():
        for warning in volume.warnings:
            log.warning("%s, %s: %s", job.name, modality, warning)
    started = time.monotonic()
    registrations = register_scans(volumes, options.modalities, rigid=options.rigid)
    sides = _sides_to_make(job, inputs)
    for modality, registration in registrations.items():
        volume, scan = volumes[modality], job.scans.scans[modality]
        view = view_in_template(volume, registration)
        picture = head_picture(view.data, view.affine.astype(np.float64), template_landmarks())
        write_bytes(job.unfinished.head_picture(modality), picture.png)
        said = scan.metadata.get("SkullStripped")
        stripped = said if isinstance(said, bool) else is_skull_stripped(view)
        facts = _registration_facts(registration, skull_stripped=stripped)
        _say_registration(job, modality, facts, time.monotonic() - started)
        _write_crops(job, modality, volume, _Placement(registration.native_from_corobl, facts), sides, inputs)
    return Prepared(job.unfinished, sides)


def _say_registration(job: Job, modality: Modality, facts: dict[str, Any], seconds: float) -> None:
    log.info("%s: %s registered to the template in %.0f s: %s", job.name, modality, seconds, facts["level"])
    for judgement in facts["judgements"]:
        if judgement["level"] != "green":
            log.warning("%s, %s: %s: %s", job.name, modality, judgement["level"], judgement["words"])


def _keep(job: Job, inputs: dict[Modality, str]) -> Prepared:
    """Take the crops that a person worked on; make those that are missing with the same transform."""
    options = job.options
    missing: dict[Modality, list[Side]] = {}
    for modality in options.modalities:
        known = {side: crop_facts(job.done, side, (modality,)) for side in SIDES}
        facts = next((one[0] for one in known.values() if one), None)
        transform = job.done.transform(modality)
        if facts is None or (facts["transform_sha256"] and not transform.exists()):
            raise BadDataError(
                f"{job.name} {job.persons_work}, but its {modality} crop or transform is missing or damaged",
                "Restore the file, or give --replace-crops to move the label away and make a new crop.",
            )
        if facts["scan_sha256"] != inputs.get(modality):
            raise BadDataError(
                f"{job.name} {job.persons_work}, but its {modality} scan changed since the crop was made",
                "Restore the scan, or give --replace-crops to move the label away and make a new crop.",
            )
        if facts["key"] != crop_key(options, modality, inputs):
            log.warning("%s: its crops are kept as they are, made with other settings", job.name)
        missing[modality] = [side for side in options.sides if not known[side]]
        if missing[modality]:
            volume = read_volume(job.scans.scans[modality].path)
            placement = _Placement(read_transform(transform), facts["registration"])
            _write_crops(job, modality, volume, placement, missing[modality], inputs)
    log.info("%s: the crops are kept: it %s", job.name, job.persons_work)
    return Prepared(job.unfinished if any(missing.values()) else job.done, options.sides)


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
    job: Job,
    modality: Modality,
    volume: FileVolume,
    placement: _Placement,
    sides: Iterable[Side],
    inputs: dict[Modality, str],
) -> None:
    """Resample one scan and write its crops, its transform, and last the sidecars."""
    options, scan = job.options, job.scans.scans[modality]
    crops = make_crops(volume, placement.native_from_corobl, sides, bias_correction=options.bias_correction)
    write_transform(job.unfinished.transform(modality), placement.native_from_corobl)
    facts = {
        "key": crop_key(options, modality, inputs),
        **_scan_facts(job, scan, inputs[modality]),
        "affine_source": volume.affine_source,
        "warnings": list(volume.warnings),
        "registration": placement.registration,
        "rigid": options.rigid,
        "bias_corrected": crops.bias_corrected,
    }
    for side, array in crops.arrays.items():
        _write_crop(job, modality, side, array, facts)


def _write_crop(job: Job, modality: Modality, side: Side, array: FloatArray, facts: dict[str, Any]) -> None:
    image, path = crop_image(array, side), job.unfinished.crop(side, modality)
    image.header["descrip"] = f"CorObl of CIT168, HippoTune {__version__}".encode()
    write_image(path, image)
    transform = job.unfinished.transform(modality)
    own = {
        "version": __version__,
        "simpleitk": version("simpleitk"),
        "template": TEMPLATE,
        "file_sha256": file_sha256(path),
        "crop_sha256": image_sha256(array, image.affine),
        "transform": transform.name if transform.exists() else None,
        "transform_sha256": file_sha256(transform) if transform.exists() else None,
    }
    stripped = bool(facts["registration"].get("skull_stripped", False))
    write_json(sidecar(path), crop_sidecar(sources=[facts["scan"]], skull_stripped=stripped, facts=own | facts))


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


def _take_ready_made(job: Job) -> Prepared:
    """Take crops of another tool as they are: their grid must be CorObl's."""
    options = job.options
    sides = tuple(side for side in options.sides if set(options.modalities) <= set(job.scans.crops.get(side, {})))
    if not sides:
        raise BadDataError(
            f"{job.name}: the ready-made crops lack {', '.join(options.modalities)} of {', '.join(options.sides)}",
            "Choose another --modality or --hemi, or leave --derivatives out.",
        )
    inputs = {
        (side, modality): file_sha256(job.scans.crops[side][modality].path)
        for side in sides
        for modality in options.modalities
    }
    if not job.force and _holds(job.done, inputs):
        log.info("%s: the crops are there already", job.name)
        return Prepared(job.done, sides)
    if job.persons_work:
        raise BadDataError(
            f"{job.name} {job.persons_work}, but the ready-made crops are others",
            "Restore them, or give --replace-crops to move the label away.",
        )
    for modality in options.modalities:
        _copy_transform(job, modality)
        for side in sides:
            _copy_crop(job, modality, side, inputs[side, modality])
    log.info("%s: ready-made crops were taken", job.name)
    return Prepared(job.unfinished, sides)


def _holds(layout: SessionLayout, inputs: dict[tuple[Side, Modality], str]) -> bool:
    facts = {key: crop_facts(layout, key[0], (key[1],)) for key in inputs}
    return all(one and one[0]["scan_sha256"] == inputs[key] for key, one in facts.items())


def _copy_transform(job: Job, modality: Modality) -> None:
    source, target = job.scans.transforms.get(modality), job.unfinished.transform(modality)
    target.unlink(missing_ok=True)
    if source is not None:
        write_transform(target, read_transform(source))


def _copy_crop(job: Job, modality: Modality, side: Side, digest: str) -> None:
    scan = job.scans.crops[side][modality]
    volume, grid = read_volume(scan.path), GRIDS[side]
    if volume.data.shape != grid.shape or np.abs(volume.affine - grid.affine).max() > _GRID_TOLERANCE_MM:
        raise BadDataError(
            f"{scan.path} is not on the CorObl grid of hemi-{side}: shape {volume.data.shape}, origin "
            f"{np.round(volume.affine[:3, 3], 2).tolist()}; expected {grid.shape} at {list(grid.origin_mm)}",
            "Give the whole scan instead: leave --derivatives out.",
        )
    transform = job.unfinished.transform(modality)
    determinant = float(np.linalg.det(read_transform(transform)[:3, :3])) if transform.exists() else None
    facts = {
        "key": "",
        **_scan_facts(job, scan, digest),
        "affine_source": volume.affine_source,
        "warnings": list(volume.warnings),
        "registration": {"determinant": determinant} if determinant else {},
        "ready_made": True,
    }
    _write_crop(job, modality, side, volume.data, facts)
