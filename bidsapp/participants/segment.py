"""Crops of one session become label maps: in CorObl, and on the grid of the scan."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bidsapp import __version__
from bidsapp.arrays import IntArray
from bidsapp.bids.facts import read_facts
from bidsapp.bids.sidecars import native_prediction_sidecar, prediction_sidecar
from bidsapp.content import file_sha256, settings_sha256
from bidsapp.corobl.grid import read_crop
from bidsapp.corobl.quality import worst_level
from bidsapp.corobl.resampling import labels_to_native
from bidsapp.corobl.transforms import read_transform
from bidsapp.files import write_bytes, write_json, write_text
from bidsapp.guards.judgement import judge_label_map
from bidsapp.images.orientation import NETWORK_SPACE, axes_of, turn_volume
from bidsapp.images.volumes import Volume, read_grid
from bidsapp.images.writing import label_image_like, new_image, write_image
from bidsapp.labels.itksnap import itksnap_label_file
from bidsapp.labels.tables import hippocampal_values
from bidsapp.layout import SessionLayout, label_names, sidecar
from bidsapp.participants.job import Job, Prepared, crop_facts, has_its_transform
from bidsapp.pictures.outlines import PLANES, coronal_slices_picture, outline_pictures, thumbnail_picture
from bidsapp.records import Modality, Side
from bidsapp.tsv import write_tsv

if TYPE_CHECKING:
    from bidsapp.prediction import Predictor

log = logging.getLogger(__name__)

PREDICTION_VERSION = 1
"""Raised whenever the same crop and model give another label map."""

NOT_AVAILABLE = "n/a"


@dataclass(frozen=True)
class Segmenter:
    """A model, ready to run."""

    predictor: Predictor
    name: str
    digest: str
    """What sidecars say of the model."""
    tta: bool

    @property
    def labels(self) -> dict[int, str]:
        """value -> name."""
        return self.predictor.labels


def segment_session(job: Job, prepared: Prepared, segmenter: Segmenter) -> None:
    """Predict the label maps of a session below `Job.unfinished`; those that are there already are left."""
    for side in prepared.sides:
        if side in job.kept_predictions and not job.replace_crops:
            log.warning("%s: the label map of hemi-%s stays: %s", job.name, side, job.kept_predictions[side])
            continue
        key = _prediction_key(job, prepared, side, segmenter)
        if not job.force and any(_is_predicted(job, layout, side, key) for layout in (job.done, job.unfinished)):
            log.info("%s: the label map of hemi-%s is there already", job.name, side)
            continue
        started = time.monotonic()
        crops = _read_crops(job, prepared.crops[side], side)
        labels = segment_crop(segmenter.predictor, list(crops.values()), side)
        write_side_pictures(job, crops, side, labels.data, segmenter.labels)
        _write_prediction(job, prepared, side, labels, segmenter, key)
        log.info("%s: hemi-%s segmented in %.0f s", job.name, side, time.monotonic() - started)


def segment_crop(predictor: Predictor, crops: Sequence[Volume], side: Side) -> Volume:
    """Segment the channels of one crop, all on one grid and as in the head; the label map is on the same grid.

    The network sees them turned to network space. A crop without anything in it has no labels.
    """
    grid = crops[0].grid
    if all(crop.data.min() == crop.data.max() for crop in crops):
        return Volume(np.zeros(grid.shape, dtype=np.uint8), grid.affine)
    turned = [turn_volume(crop, NETWORK_SPACE[side]) for crop in crops]
    channels = np.ascontiguousarray(np.stack([crop.data for crop in turned]))
    labels = predictor.predict_array(channels, turned[0].spacing_mm.tolist())
    back = turn_volume(Volume(labels, turned[0].affine), axes_of(grid.affine))
    return Volume(np.ascontiguousarray(back.data), grid.affine)


def _prediction_key(job: Job, prepared: Prepared, side: Side, segmenter: Segmenter) -> str:
    facts = crop_facts(prepared.crops[side], side, job.options.modalities) or []
    return settings_sha256(
        {
            "crops": [[one["crop_sha256"], one["transform_sha256"], one["scan_sha256"]] for one in facts],
            "model": segmenter.digest,
            "tta": segmenter.tta,
            "version": PREDICTION_VERSION,
        }
    )


def _is_predicted(job: Job, layout: SessionLayout, side: Side, key: str) -> bool:
    facts = read_facts(layout.prediction(side))
    if facts is None or facts["key"] != key or not label_names(layout.prediction(side)).exists():
        return False
    native = read_facts(_native(job, layout, side))
    return facts["native_sha256"] == (native and native["file_sha256"])


def _native(job: Job, layout: SessionLayout, side: Side) -> Path:
    return layout.native_prediction(side, job.options.modalities[0])


def _read_crops(job: Job, layout: SessionLayout, side: Side) -> dict[Modality, Volume]:
    return {modality: read_crop(layout.crop(side, modality)) for modality in job.options.modalities}


def _write_prediction(job: Job, prepared: Prepared, side: Side, labels: Volume, segmenter: Segmenter, key: str) -> None:
    """Write the label map in both spaces and its table, and last its sidecar."""
    target, modality = job.unfinished, job.options.modalities[0]
    crops = crop_facts(prepared.crops[side], side, job.options.modalities) or []
    facts = crops[0]
    determinant = facts["registration"].get("determinant")
    path = target.prediction(side)
    write_image(path, new_image(labels.data, labels.affine))
    columns = ("index", "name", "voxels", "volume_mm3")
    rows = volume_rows(labels, segmenter.labels, determinant)
    write_tsv(label_names(path), columns, rows)
    native_sha256 = _write_native(job, prepared, side, labels, segmenter)
    if native_sha256:
        write_tsv(label_names(_native(job, target, side)), columns, rows)
    hippocampal = hippocampal_values(segmenter.labels)
    whole = float(np.isin(labels.data, list(hippocampal)).sum()) * labels.grid.voxel_mm3
    volume_mm3 = whole * abs(determinant) if determinant else None
    judgements = judge_label_map(labels, side, hippocampal, volume_mm3)
    for judgement in judgements:
        if judgement.level != "green":
            log.warning("%s: %s: %s", job.name, judgement.level, judgement.words)
    own = {
        "version": __version__,
        "key": key,
        "file_sha256": file_sha256(path),
        "native_sha256": native_sha256,
        "crop_sha256": {
            modality: one["crop_sha256"] for modality, one in zip(job.options.modalities, crops, strict=True)
        },
        "transform_sha256": facts["transform_sha256"],
        "model": segmenter.name,
        "model_sha256": segmenter.digest,
        "tta": segmenter.tta,
        "nnunetv2": version("nnunetv2"),
        "torch": version("torch"),
        "labels": {str(value): name for value, name in segmenter.labels.items()},
        "hippocampus_mm3": volume_mm3,
        "level": worst_level(judgements),
        "judgements": [asdict(judgement) for judgement in judgements],
    }
    source = job.done.crop(side, modality).relative_to(job.done.root).as_posix()
    write_json(sidecar(path), prediction_sidecar(sources=[f"bids::{source}"], facts=own))


def _write_native(job: Job, prepared: Prepared, side: Side, labels: Volume, segmenter: Segmenter) -> str | None:
    """Bring a label map to the scan's grid; None where scan or transform are not known."""
    modality, crops = job.options.modalities[0], prepared.crops[side]
    scan, transform = job.scans.scans.get(modality), crops.transform(modality)
    path = _native(job, job.unfinished, side)
    facts = read_facts(crops.crop(side, modality)) or {}
    if scan is None or not facts.get("transform_sha256") or not has_its_transform(crops, modality, facts):
        log.warning("%s: no transform to a scan: hemi-%s stays in CorObl space", job.name, side)
        return None
    grid = read_grid(scan.path, "scan")
    native = labels_to_native(labels, read_transform(transform), grid)
    write_image(path, label_image_like(native, grid))
    digest = file_sha256(path)
    source = job.done.prediction(side).relative_to(job.done.root).as_posix()
    made_by = {"file_sha256": digest, "model": segmenter.name, "model_sha256": segmenter.digest}
    content = native_prediction_sidecar(sources=[f"bids::{source}", scan.uri], scan=scan.uri, facts=made_by)
    write_json(sidecar(path), content)
    return digest


def volume_rows(labels: Volume, names: dict[int, str], determinant: float | None) -> list[tuple[int, str, int, str]]:
    """Index, name, voxels and volume in the scan of every label, those that are not there included.

    Parameters
    ----------
    determinant
        Of the map from CorObl to the scan; None: the volume in the scan is not known.
    """
    counts = np.bincount(labels.data.ravel(), minlength=max(names, default=0) + 1)
    voxel_mm3 = labels.grid.voxel_mm3 * abs(determinant) if determinant else None
    return [
        (value, name, int(counts[value]), f"{counts[value] * voxel_mm3:.2f}" if voxel_mm3 else NOT_AVAILABLE)
        for value, name in names.items()
    ]


def write_side_pictures(
    job: Job, crops: Mapping[Modality, Volume], side: Side, labels: IntArray | None, names: dict[int, str]
) -> None:
    """Draw a crop with its label map; without one, the crop alone."""
    target = job.unfinished
    for modality, crop in crops.items():
        shown = np.zeros(crop.data.shape, np.uint8) if labels is None else labels
        for plane, picture in zip(PLANES, outline_pictures(crop, shown, None, names), strict=True):
            write_bytes(target.plane_picture(side, modality, plane), picture.picture.png)
        slices = coronal_slices_picture(crop, labels, names)
        write_bytes(target.slices_picture(side, modality), slices.png)
    first = crops[job.options.modalities[0]]
    write_bytes(target.thumbnail(side), thumbnail_picture(first, labels, names).png)
    if names:
        write_text(target.label_colours(side), itksnap_label_file(names))


def draw_crops(job: Job, prepared: Prepared) -> None:
    """Draw newly made crops that get no label map."""
    for side, crops in prepared.crops.items():
        if crops == job.unfinished:
            write_side_pictures(job, _read_crops(job, crops, side), side, None, {})
