"""Faults that label maps come back with, injected into good ones (27 kinds), each written as the file it would be."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from benchmarks.good_labels import GoodCase, ball_at, random_voxel
from bidsapp.arrays import FloatArray, IntArray
from bidsapp.corobl.grid import GRIDS, SPACING_MM, crop_image
from bidsapp.guards.label_guards import Finding, GuardLimits, check_label
from bidsapp.guards.placement import bounding_box
from bidsapp.records import LabelSource
from bidsapp.review.label_file import read_label_file

Spoil = Callable[[GoodCase, np.random.Generator], bytes]


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes
    ----------
    guards
        Any of these has to speak.
    spoil
        Makes the file's content, compressed.
    """

    name: str
    guards: frozenset[str]
    spoil: Spoil


def check_file(
    path: Path, case: GoodCase, source: LabelSource = "manual", limits: GuardLimits | None = None
) -> tuple[Finding, ...]:
    """Everything that the guards say of a returned file, as a review asks them."""
    read = read_label_file(path, case.side, GRIDS)
    if read.labels is None:
        return read.findings
    return read.findings + check_label(
        read.labels,
        side=case.side,
        grid=GRIDS[case.side],
        table=case.table,
        prediction=case.prediction,
        other_side=case.other_side,
        approved_volumes_mm3=case.approved_volumes_mm3,
        volume_factor=1.0,
        source=source,
        limits=limits or GuardLimits(),
    )


def check_fault(fault: Fault, case: GoodCase, folder: Path, rng: np.random.Generator) -> frozenset[str]:
    """Return the guards that keep a spoiled label from being approved."""
    path = folder / "label.nii.gz"
    path.write_bytes(fault.spoil(case, rng))
    return frozenset(finding.guard for finding in check_file(path, case) if finding.blocks)


def good_file(case: GoodCase) -> bytes:
    """The label map without a fault."""
    return _on_crop(case.labels, case)


def _on_crop(labels: np.ndarray, case: GoodCase) -> bytes:
    kind = np.float32 if labels.dtype.kind == "f" else np.uint8
    return gzip.compress(crop_image(np.ascontiguousarray(labels, dtype=kind), case.side).to_bytes(), 1)


def _under(affine: FloatArray, labels: np.ndarray) -> bytes:
    image = nib.Nifti1Image(np.ascontiguousarray(labels, dtype=np.uint8), affine)
    return gzip.compress(image.to_bytes(), 1)


def _of_labels(change: Callable[[IntArray, np.random.Generator], np.ndarray]) -> Spoil:
    return lambda case, rng: _on_crop(change(case.labels.copy(), rng), case)


def _of_affine(change: Callable[[FloatArray], FloatArray]) -> Spoil:
    return lambda case, rng: _under(change(GRIDS[case.side].affine.copy()), case.labels)


def _moved(labels: IntArray, steps: tuple[int, int, int]) -> IntArray:
    return ndimage.shift(labels, steps, order=0)


def _shift_3_mm(labels: IntArray, rng: np.random.Generator) -> IntArray:
    direction = rng.normal(size=3)
    steps = np.rint(3.0 / SPACING_MM * direction / np.linalg.norm(direction)).astype(int)
    return _moved(labels, (int(steps[0]), int(steps[1]), int(steps[2])))


def _resized(labels: IntArray, factor: float) -> IntArray:
    """Dilate or erode until the volume has changed by a factor."""
    wanted = factor * np.count_nonzero(labels)
    box = bounding_box(labels > 0, margin=15)
    part = labels[box]
    outside, nearest = ndimage.distance_transform_edt(part == 0, return_indices=True)
    signed = outside - ndimage.distance_transform_edt(part > 0)
    limit = np.sort(signed.ravel())[int(wanted)]
    resized = np.zeros_like(labels)
    resized[box] = np.where(signed <= limit, part[tuple(nearest)], 0)
    return resized


def _stray(radius_mm: float) -> Callable[[IntArray, np.random.Generator], IntArray]:
    def add(labels: IntArray, rng: np.random.Generator) -> IntArray:
        distance_mm = ndimage.distance_transform_edt(labels == 0, sampling=SPACING_MM)
        free = (distance_mm > 1.5 + radius_mm) & (distance_mm < 12)
        labels[ball_at(labels.shape, random_voxel(free, rng), radius_mm)] = labels.max()
        return labels

    return add


def _hole(labels: IntArray, rng: np.random.Generator) -> IntArray:
    box = bounding_box(labels > 0, margin=1)
    depth_mm = ndimage.distance_transform_edt(labels[box] > 0, sampling=SPACING_MM)
    radius_mm = min(1.0, float(depth_mm.max()) - 0.9)
    centre = random_voxel(depth_mm >= min(radius_mm + 0.6, float(depth_mm.max())), rng)
    labels[box][ball_at(labels[box].shape, centre, radius_mm)] = 0
    return labels


def _against_border(labels: IntArray, rng: np.random.Generator) -> IntArray:
    """Smear the label to the border of axis 0 that is nearer, as a hippocampus looks that is cut."""
    box = bounding_box(labels > 0)
    low, high = box[0].start, labels.shape[0] - box[0].stop
    first = low <= high
    layer = labels[box[0].start if first else box[0].stop - 1].copy()
    labels[: box[0].start + 1 if first else 0] = layer
    if not first:
        labels[box[0].stop - 1 :] = layer
    return labels


def _cut(labels: IntArray, rng: np.random.Generator) -> IntArray:
    """Move the label until the border cuts off its first layers."""
    return _moved(labels, (0, 0, -bounding_box(labels > 0)[2].start - 3))


def _fraction(labels: IntArray, rng: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(labels.astype(np.float32), 0.7)


def _unknown_value(labels: IntArray, rng: np.random.Generator) -> IntArray:
    labels[random_voxel(labels > 0, rng)] = 77
    return labels


def _without_required(case: GoodCase, rng: np.random.Generator) -> bytes:
    value = next(value for value, name in case.table.names.items() if name in case.table.required)
    labels = np.where(case.labels == value, 0, case.labels)
    return _on_crop(labels, case)


def _exchanged_values(case: GoodCase, rng: np.random.Generator) -> bytes:
    """Exchange the two largest labels; a table of one label has nothing to exchange and gets one it does not know."""
    counts = np.bincount(case.labels[case.labels > 0], minlength=max(case.table.names) + 1)
    first, second = np.argsort(counts)[-2:][::-1]
    if not counts[second]:
        return _on_crop(np.where(case.labels > 0, max(case.table.names) + 1, 0), case)
    lookup = np.arange(len(counts))
    lookup[[first, second]] = second, first
    return _on_crop(lookup[case.labels], case)


def _with_entry(row: int, column: int, value: float) -> Callable[[FloatArray], FloatArray]:
    def change(affine: FloatArray) -> FloatArray:
        affine[row, column] = value
        return affine

    return change


FAULTS = (
    Fault("left-right flip of the array", frozenset({"flip"}), _of_labels(lambda labels, _: labels[::-1])),
    Fault("left-right flip of the affine", frozenset({"header", "flip"}), _of_affine(_with_entry(0, 0, SPACING_MM))),
    Fault(
        "array as the network sees it",
        frozenset({"flip"}),
        lambda case, _: _on_crop(ndimage.shift(case.labels[::-1], (3, 0, 0), order=0), case),
    ),
    Fault("label of the other side", frozenset({"flip"}), lambda case, _: _on_crop(case.other_side, case)),
    Fault(
        "file of the other side",
        frozenset({"flip"}),
        lambda case, _: _under(GRIDS["R" if case.side == "L" else "L"].affine, case.other_side),
    ),
    Fault("up-down flip", frozenset({"flip"}), _of_labels(lambda labels, _: labels[:, :, ::-1])),
    Fault("front-back flip", frozenset({"flip"}), _of_labels(lambda labels, _: labels[:, ::-1])),
    Fault("axes exchanged", frozenset({"flip"}), _of_labels(lambda labels, _: labels.transpose(2, 1, 0))),
    Fault("shift of 3 mm", frozenset({"shift"}), _of_labels(_shift_3_mm)),
    Fault("shift of 10 voxels along A", frozenset({"shift"}), _of_labels(lambda labels, _: _moved(labels, (0, 10, 0)))),
    Fault("identity header", frozenset({"header"}), _of_affine(lambda _: np.eye(4))),
    Fault("other origin", frozenset({"header"}), _of_affine(_with_entry(1, 3, 0.0))),
    Fault(
        "other shape",
        frozenset({"geometry"}),
        lambda case, _: _under(GRIDS[case.side].affine, case.labels[:, 8:-8]),
    ),
    Fault("value outside the table", frozenset({"values"}), _of_labels(_unknown_value)),
    Fault("fractions", frozenset({"values"}), _of_labels(_fraction)),
    Fault("values exchanged", frozenset({"swapped", "values"}), _exchanged_values),
    Fault("required label missing", frozenset({"required", "empty"}), _without_required),
    Fault("empty", frozenset({"empty"}), _of_labels(lambda labels, _: np.zeros_like(labels))),
    Fault("doubled volume", frozenset({"volume"}), _of_labels(lambda labels, _: _resized(labels, 2.0))),
    Fault("halved volume", frozenset({"volume"}), _of_labels(lambda labels, _: _resized(labels, 0.5))),
    Fault("stray blob of 1 mm", frozenset({"pieces"}), _of_labels(_stray(1.0))),
    Fault("stray voxel", frozenset({"pieces"}), _of_labels(_stray(0.1))),
    Fault("hole", frozenset({"pieces"}), _of_labels(_hole)),
    Fault("reaches the border", frozenset({"border"}), _of_labels(_against_border)),
    Fault("cut by the border", frozenset({"border"}), _of_labels(_cut)),
    Fault("unchanged", frozenset({"unchanged"}), lambda case, _: _on_crop(case.prediction, case)),
    Fault("truncated file", frozenset({"file"}), lambda case, _: good_file(case)[:-2000]),
)
