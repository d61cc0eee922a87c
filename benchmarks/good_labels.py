"""Good label maps in CorObl crops, and predictions that a network might have made of them.

Real label maps are placed as rigid registration to the template would place them: turned about the left-right axis
until they fit, and then off by a few degrees and millimetres, as people are. Where no real ones are at hand, the
bundled template's hippocampus is warped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bidsapp.arrays import BoolArray, FloatArray, IntArray
from bidsapp.corobl.grid import GRIDS, SHAPE, SPACING_MM, TEMPLATE_FROM_COROBL
from bidsapp.corobl.template import load_hippocampus
from bidsapp.guards.label_guards import WHOLE
from bidsapp.guards.placement import bounding_box, centre_of_mass
from bidsapp.records import SIDES, LabelTable, Side

MSD = LabelTable({1: "Anterior", 2: "Posterior"}, frozenset({"Anterior", "Posterior"}))
SUBFIELDS = LabelTable(
    {1: "Sub", 2: "CA1", 3: "CA2", 4: "CA3", 5: "CA4", 6: "DG", 7: "SRLM", 8: "Cyst"},
    frozenset({"Sub", "CA1", "CA2", "CA3", "CA4", "DG", "SRLM"}),
)
WHOLE_TABLE = LabelTable({1: "hippocampus"}, frozenset({"hippocampus"}))

TEMPLATE_FROM_MNI = np.array(
    [
        [0.8946, 0.0014, -0.0069, 0.270],
        [0.0068, 0.9472, -0.0193, -0.187],
        [0.0145, 0.0099, 0.8511, -0.120],
        [0, 0, 0, 1],
    ]
)
"""MNI152NLin2009aSym RAS -> CIT168 RAS, from registering one template to the other."""

PITCHES_DEGREES = range(-30, 31, 6)
POSE_DEGREES, POSE_MM = 4.0, 2.0
WARP_MM = (0.5, 1.0)
_COARSE = 4


@dataclass(frozen=True, eq=False)
class GoodCase:
    """A label map that a person approved, and what the review knows of it.

    Attributes
    ----------
    labels, prediction, other_side
        As `bidsapp.guards.label_guards.check_label` takes them.
    """

    name: str
    side: Side
    table: LabelTable
    labels: IntArray
    prediction: IntArray
    other_side: IntArray
    approved_volumes_mm3: Mapping[str, Sequence[float]] = field(default_factory=dict)


def good_cases(data: Path | None, count: int, seed: int = 0) -> Iterator[GoodCase]:
    """Yield up to `count` cases: the template's, MNI's, FreeSurfer's and, with a folder of data, then MSD's.

    Parameters
    ----------
    data
        Folder with ``msd_hippocampus``, ``mni2009asym_hippocampus`` and ``aomic_piop2``; each may be missing.
    """
    people = _msd_people(data) if data else []
    for number, (name, side, table, labels) in enumerate(islice(_label_maps(data, seed), count)):
        rng = np.random.default_rng([seed, 1, number])
        prediction = predict(labels, rng)
        other_side = np.ascontiguousarray(warp(prediction, 1.0, rng)[::-1])
        volumes = _real_volumes(people, rng) if table is MSD else _others_volumes(labels, table, rng)
        yield GoodCase(name, side, table, labels, prediction, other_side, volumes)


def predict(labels: IntArray, rng: np.random.Generator) -> IntArray:
    """Perturb a label map as a network's prediction differs from a person's: warp, rough edges, lost parts, crumbs."""
    prediction = warp(labels, float(rng.uniform(*WARP_MM)), rng)
    box = bounding_box(prediction > 0, margin=6)
    part = prediction[box]
    rough = ndimage.gaussian_filter(rng.normal(size=part.shape), 1.5)
    rough *= rng.uniform(0.1, 0.5) / rough.std()
    inside = ndimage.gaussian_filter((part > 0).astype(np.float32), 1.0) + 0.25 * rough > 0.5
    nearest = ndimage.distance_transform_edt(part == 0, return_distances=False, return_indices=True)
    part = np.where(inside, part[tuple(nearest)], 0)
    if rng.random() < 0.5:  # the end of the tail is often missed
        part[:, : int(6 + rng.uniform(0, 3.0) / SPACING_MM)] = 0
    if rng.random() < 0.5:
        part[ball_at(part.shape, random_voxel(part > 0, rng), float(rng.uniform(0.6, 2.0)))] = 0
    prediction = np.zeros_like(prediction)
    prediction[box] = part
    if rng.random() < 0.3:
        x, y, z = random_voxel(load_hippocampus("R"), rng)
        prediction[(x + 45) % SHAPE[0], y, z] = prediction.max()
    return prediction


def warp(labels: IntArray, amplitude_mm: float, rng: np.random.Generator) -> IntArray:
    """Move every voxel by a smooth field (correlation length 5 mm) with this standard deviation, in mm."""
    box = bounding_box(labels > 0, margin=10)
    part = labels[box]
    coarse = [length // _COARSE + 2 for length in part.shape]
    where = np.indices(part.shape, dtype=np.float32)
    for axis in range(3):
        noise = ndimage.gaussian_filter(rng.normal(size=coarse), 4.0)
        noise *= amplitude_mm / SPACING_MM / noise.std()
        zoom = [length / count for length, count in zip(part.shape, coarse, strict=True)]
        where[axis] += ndimage.zoom(noise - noise.mean(), zoom, order=1)
    warped = np.zeros_like(labels)
    warped[box] = ndimage.map_coordinates(part, where, order=0)
    return warped


def ball_at(shape: tuple[int, ...], centre: Sequence[int], radius_mm: float) -> BoolArray:
    """Voxels within a distance of a voxel."""
    grid = np.ogrid[tuple(slice(length) for length in shape)]
    squares = sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True))
    return np.asarray(squares <= (radius_mm / SPACING_MM) ** 2)


def random_voxel(mask: BoolArray, rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw a voxel of a mask."""
    voxels = np.argwhere(mask)
    x, y, z = voxels[rng.integers(len(voxels))]
    return int(x), int(y), int(z)


def volumes_of(labels: IntArray, table: LabelTable) -> dict[str, float]:
    """Label name -> volume in the crop, in mm3; labels that are not there are left out."""
    counts = np.bincount(labels.ravel(), minlength=max(table.names) + 1)
    return {name: float(counts[v]) * GRIDS["L"].voxel_mm3 for v, name in table.names.items() if counts[v]}


def _others_volumes(labels: IntArray, table: LabelTable, rng: np.random.Generator) -> dict[str, list[float]]:
    """Volumes of 8 other people, spread by 15 % as healthy adults are; this one may be any of them."""
    middle = rng.normal(0, 0.15)
    return {
        name: (volume * np.exp(rng.normal(middle, 0.15, 8))).tolist()
        for name, volume in volumes_of(labels, table).items()
    }


def _real_volumes(people: Sequence[Mapping[str, float]], rng: np.random.Generator) -> dict[str, list[float]]:
    """Volumes of 8 real people."""
    drawn = [people[number] for number in rng.choice(len(people), 8, replace=False)]
    return {name: [one[name] for one in drawn] for name in drawn[0]}


def _msd_people(data: Path) -> list[dict[str, float]]:
    """Label name -> volume, in mm3, of the first 60 of MSD."""
    found = []
    for path in sorted((data / "msd_hippocampus" / "labelsTr").glob("*.nii.gz"))[:60]:
        values, affine = _read(path)
        voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
        volumes = {name: float(np.count_nonzero(values == value)) * voxel_mm3 for value, name in MSD.names.items()}
        found.append(volumes | {WHOLE: sum(volumes.values())})
    return found


def _label_maps(data: Path | None, seed: int) -> Iterator[tuple[str, Side, LabelTable, IntArray]]:
    for side in SIDES:
        yield f"CIT168-{side}", side, WHOLE_TABLE, load_hippocampus(side).astype(np.int32)
    if data is None:
        for number in range(10_000):
            rng = np.random.default_rng([seed, 2, number])
            side = SIDES[number % 2]
            yield f"warped-{number:03d}", side, WHOLE_TABLE, warp(load_hippocampus(side).astype(np.int32), 1.0, rng)
        return
    for side in SIDES:
        for path in (data / "mni2009asym_hippocampus").glob(f"*hemi-{side}*dseg.nii.gz"):
            values, affine = _read(path)
            yield (
                f"MNI-{side}",
                side,
                SUBFIELDS,
                _sample(values, TEMPLATE_FROM_MNI @ affine, side, TEMPLATE_FROM_COROBL),
            )
    for path in (data / "aomic_piop2").rglob("*hippocampus_dseg.nii.gz"):
        values, affine = _read(path)
        for value, side in ((1, "L"), (2, "R")):
            labels, _, _ = _place((values == value).astype(np.int32), affine, (side,), np.random.default_rng(seed))
            yield f"FreeSurfer-{side}", side, WHOLE_TABLE, labels
    for number, path in enumerate(sorted((data / "msd_hippocampus" / "labelsTr").glob("*.nii.gz"))):
        values, affine = _read(path)
        labels, found, dice = _place(values, affine, SIDES, np.random.default_rng([seed, 3, number]))
        if dice > 0.3:
            yield f"MSD-{path.name[12:15]}-{found}", found, MSD, labels


def _read(path: Path) -> tuple[IntArray, FloatArray]:
    image = nib.load(path)
    return np.rint(image.get_fdata()).astype(np.int32), image.affine


def _place(
    values: IntArray, affine: FloatArray, sides: Sequence[Side], rng: np.random.Generator
) -> tuple[IntArray, Side, float]:
    """Bring a label map to the crop and the pitch where it fits the template best, then shake it."""
    centre = affine[:3, :3] @ centre_of_mass(values > 0) + affine[:3, 3]
    best: tuple[float, Side, FloatArray] = (-1.0, "L", np.eye(4))
    for side in sides:
        template = load_hippocampus(side)[::_COARSE, ::_COARSE, ::_COARSE]
        middle = GRIDS[side].affine @ [*centre_of_mass(load_hippocampus(side)), 1]
        for pitch in PITCHES_DEGREES:
            pose = _pose(Rotation.from_euler("x", pitch, degrees=True), middle[:3], centre)
            placed = _sample(values, affine, side, pose, step=_COARSE) > 0
            dice = 2 * np.count_nonzero(placed & template) / (placed.sum() + template.sum())
            best = max(best, (float(dice), side, pose), key=lambda one: one[0])
    dice, side, pose = best
    shake = Rotation.from_euler("xyz", rng.uniform(-POSE_DEGREES, POSE_DEGREES, 3), degrees=True)
    middle = GRIDS[side].affine @ [*centre_of_mass(load_hippocampus(side)), 1]
    shaken = pose @ _pose(shake, middle[:3] + rng.uniform(-POSE_MM, POSE_MM, 3), middle[:3])
    return _sample(values, affine, side, shaken), side, dice


def _pose(rotation: Rotation, start_mm: FloatArray, end_mm: FloatArray) -> FloatArray:
    """(4, 4) matrix of a rotation that brings one point to another."""
    pose = np.eye(4)
    pose[:3, :3] = rotation.as_matrix()
    pose[:3, 3] = end_mm - pose[:3, :3] @ start_mm
    return pose


def _sample(values: IntArray, affine: FloatArray, side: Side, ras_from_corobl: FloatArray, step: int = 1) -> IntArray:
    """Sample a label map onto a crop, every `step`-th voxel: the label with the greatest interpolated share."""
    box = bounding_box(values > 0, margin=2)
    part = values[box]
    start = np.eye(4)
    start[:3, 3] = [-one.start for one in box]
    source = start @ np.linalg.inv(affine) @ ras_from_corobl @ GRIDS[side].affine @ np.diag([step, step, step, 1.0])
    shape = tuple(-(-length // step) for length in SHAPE)
    labels, share = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.float32)
    total = np.zeros(shape, dtype=np.float32)
    for value in np.unique(part[part > 0]):
        weight = ndimage.affine_transform(
            (part == value).astype(np.float32), source[:3, :3], source[:3, 3], shape, order=1, prefilter=False
        )
        total += weight
        labels[weight > share] = value
        np.maximum(share, weight, out=share)
    labels[total < 0.5] = 0
    return labels
