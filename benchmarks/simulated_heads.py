"""Heads as scanners and patients might make them: known warps, poses, grids and contrasts of real heads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from typing import Literal

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bidsapp.arrays import FloatArray
from bidsapp.corobl.transforms import apply
from bidsapp.images.volumes import Volume
from bidsapp.records import SIDES, Side

Contrast = Literal["T1w", "T2w", "PDw", "CT"]

ROTATION_DEGREES, SHIFT_MM, SCALE, SHEAR = 25.0, 40.0, 0.15, 0.06
WARP_MM = (2.0, 4.5)
FIELD_OF_VIEW_MM = (95.0, 140.0)
OBLIQUE_DEGREES = 20.0
EASY_SHARE = 0.6
_MARGIN_MM = 12.0


@dataclass(frozen=True, eq=False)
class Source:
    """A head in which both hippocampi and the brain are known: masks on the head's own grid, 1 inside."""

    name: str
    head: Volume
    brain: Volume
    hippocampi: dict[Side, Volume]


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated scan and the RAS points of its hippocampi, shape (n, 3)."""

    name: str
    scan: Volume
    hippocampi: dict[Side, FloatArray]


def simulate(source: Source, case: int, contrast: Contrast, *, hard: bool, thick_mm: float = 1.0) -> Simulated:
    """Make head number `case`; the same number gives the same head.

    Hard ones use the whole range of rotations, shifts and scales and lose part of the field of view; easy
    ones use 0.6 of the range.
    """
    rng = np.random.default_rng([7, case])
    reach = 1.0 if hard else EASY_SHARE
    source_from_scan = np.linalg.inv(_random_pose(source.head.centre_mm, reach, rng))
    shape, affine = _random_grid(source, np.linalg.inv(source_from_scan), rng, cut=hard, thick_mm=thick_mm)
    shifts_mm = _random_warp(shape, affine, rng.uniform(*WARP_MM), rng)

    def sample(volume: Volume) -> FloatArray:
        points = apply(affine, np.moveaxis(np.indices(shape, dtype=np.float32), 0, -1)) + shifts_mm
        voxels = apply(np.linalg.inv(volume.affine) @ source_from_scan, points)
        return ndimage.map_coordinates(volume.data, np.moveaxis(voxels, -1, 0), order=1, output=np.float32)

    clean = _in_contrast(sample(source.head), sample(source.brain), contrast, rng)
    data = _degrade(clean, affine, rng)
    points = {side: apply(affine, np.argwhere(sample(source.hippocampi[side]) > 0.5).astype(float)) for side in SIDES}
    return Simulated(f"{source.name}-{contrast}-{case:02d}", Volume(data, affine), points)


def noise(case: int) -> Volume:
    """Make a scan that holds nothing but smooth noise."""
    rng = np.random.default_rng([8, case])
    data = ndimage.gaussian_filter(rng.normal(size=(160, 180, 170)), 1.0 + case)
    return Volume((100 + 400 * data).astype(np.float32), np.diag([-1.0, 1.0, 1.0, 1.0]))


def _random_pose(centre_mm: FloatArray, reach: float, rng: np.random.Generator) -> FloatArray:
    """Draw `scan_from_source`."""
    angles = rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES, 3) * reach
    linear = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    linear = linear @ np.diag(1 + rng.uniform(-SCALE, SCALE) * reach + rng.uniform(-0.04, 0.04, 3))
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = rng.uniform(-SHEAR, SHEAR, 3) * reach
    pose = np.eye(4)
    pose[:3, :3] = linear @ shear
    pose[:3, 3] = centre_mm - pose[:3, :3] @ centre_mm + rng.uniform(-SHIFT_MM, SHIFT_MM, 3) * reach
    return pose


def _random_grid(
    source: Source, scan_from_source: FloatArray, rng: np.random.Generator, *, cut: bool, thick_mm: float
) -> tuple[tuple[int, int, int], FloatArray]:
    """Draw axis order, directions, obliqueness, voxel size and field of view; return shape and affine."""
    order = list(permutations(range(3)))[rng.integers(6)]
    signs = list(product((-1, 1), repeat=3))[rng.integers(8)]
    linear = np.eye(3)[:, list(order)] * signs
    if rng.random() < 0.5:
        angles = rng.uniform(-OBLIQUE_DEGREES, OBLIQUE_DEGREES, 3)
        linear = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ linear
    spacing = np.ones(3)
    spacing[rng.integers(3)] = thick_mm if thick_mm > 1 else (3.0 if rng.random() < 0.3 else 1.0)
    middle = apply(scan_from_source, source.head.centre_mm)
    extent = np.abs(linear.T @ scan_from_source[:3, :3] @ source.head.affine[:3, :3])
    extent = extent @ source.head.data.shape
    if cut:
        axis = rng.integers(3)
        extent[axis] = min(extent[axis], rng.uniform(*FIELD_OF_VIEW_MM))
        middle = _keep_hippocampi(source, scan_from_source, linear[:, axis], extent[axis], middle)
    shape = [int(size) for size in np.ceil(extent / spacing)]
    affine = np.eye(4)
    affine[:3, :3] = linear * spacing
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return (shape[0], shape[1], shape[2]), affine


def _keep_hippocampi(
    source: Source, scan_from_source: FloatArray, direction: FloatArray, extent_mm: float, middle: FloatArray
) -> FloatArray:
    """Move the middle of a cut field of view along `direction` until both hippocampi are well inside."""
    along = np.concatenate(
        [
            apply(scan_from_source @ mask.affine, np.argwhere(mask.data > 0.5).astype(float)) @ direction
            for mask in source.hippocampi.values()
        ]
    )
    room = extent_mm / 2 - _MARGIN_MM
    place = middle @ direction
    return middle + direction * (np.clip(place, along.max() - room, along.min() + room) - place)


def _random_warp(
    shape: tuple[int, int, int], affine: FloatArray, strength_mm: float, rng: np.random.Generator
) -> FloatArray:
    """Draw smooth displacements of shape (i, j, k, 3) with a standard deviation of `strength_mm` / 2."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    coarse_shape = np.ceil(np.array(shape) * spacing / 40).astype(int) + 3
    fields = []
    for _ in range(3):
        knots = rng.normal(size=coarse_shape) * strength_mm / 2
        steps = spacing / 40
        fields.append(ndimage.affine_transform(knots, steps, 1.0, shape, order=3, mode="nearest", output=np.float32))
    return np.stack(fields, axis=-1)


def _in_contrast(head: FloatArray, brain: FloatArray, contrast: Contrast, rng: np.random.Generator) -> FloatArray:
    top = np.percentile(head[head > 0], 99)
    t1w = np.clip(head / top, 0, 1.2)
    inside = ndimage.gaussian_filter((brain > 0.5).astype(np.float32), 1.0)
    if contrast == "T1w":
        return t1w ** rng.uniform(0.7, 1.4)
    if contrast == "T2w":
        return inside * np.clip(1.1 - t1w, 0, 1.1) + (1 - inside) * 0.5 * t1w
    if contrast == "PDw":
        return inside * (0.8 + 0.1 * np.clip(1 - t1w, 0, 1)) + (1 - inside) * 0.8 * np.sqrt(t1w)
    return _as_ct(t1w, brain > 0.5)


def _as_ct(t1w: FloatArray, brain: np.ndarray) -> FloatArray:
    """Hounsfield units: a closed bone shell around a brain with hardly any contrast, soft tissue outside."""
    head = ndimage.binary_fill_holes(ndimage.binary_closing(t1w > 0.08, iterations=3))
    distance = ndimage.distance_transform_edt(~brain)
    units = np.full(t1w.shape, -1000.0, dtype=np.float32)
    units[head] = 40.0 - 120.0 * np.clip(t1w[head] - 0.5, 0, 1)
    units[(distance > 3) & (distance <= 10)] = 1000.0
    units[(distance > 0) & (distance <= 3)] = 10.0
    units[brain] = 30.0 + 8.0 * np.clip(1 - t1w[brain], 0, 1) - 25.0 * (t1w[brain] < 0.25)
    return ndimage.gaussian_filter(units, 0.5)


def _degrade(clean: FloatArray, affine: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Multiply by a smooth field of up to +-40 % and add noise; CT gets noise of 8 Hounsfield units only."""
    if clean.min() < -500:
        return (clean + rng.normal(0, 8, clean.shape)).astype(np.float32)
    field = 1 + 0.8 * _random_warp(clean.shape, affine, 0.5, rng)[..., 0].clip(-0.5, 0.5)
    noisy = clean * field + rng.normal(0, rng.uniform(0.01, 0.05), clean.shape)
    return (1000 * np.abs(noisy)).astype(np.float32)
