"""A coarse search over poses of the head: no header and no start is trusted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.spatial.transform import Rotation

from bidsapp.arrays import FloatArray
from bidsapp.corobl.similarity import Samples, normalised_mutual_information
from bidsapp.corobl.transforms import apply
from bidsapp.images.volumes import Volume

NEIGHBOUR_DEGREES = 12.0
NEIGHBOUR_MM = 12.0
UP_AND_DOWN_MM = (-40.0, -20.0, 0.0, 20.0, 40.0)


@dataclass(frozen=True)
class SearchSpace:
    """What to try."""

    angles: tuple[float, ...]
    """Rotations in degrees, tried on each axis."""
    scales: tuple[float, ...]
    """Sizes of the head against the template."""
    finalists: int
    """How many poses of either route deserve an affine refinement."""


def poses(space: SearchSpace, pivot_mm: FloatArray, head: Volume) -> list[FloatArray]:
    """List `head_from_template` similarities: every rotation and scale at six places.

    The template's `pivot_mm` goes to the head's centre of mass, moved up and down along the turned S axis
    (a neck pulls the centre of mass down), and to the centre of the field of view.
    """
    mass = _centre_of_mass(head)
    found: list[FloatArray] = []
    for degrees, scale in product(product(space.angles, repeat=3), space.scales):
        rotation = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
        places = [mass + step * rotation[:, 2] for step in UP_AND_DOWN_MM]
        for place in [*places, head.centre_mm]:
            pose = np.eye(4)
            pose[:3, :3] = scale * rotation
            pose[:3, 3] = place - pose[:3, :3] @ pivot_mm
            found.append(pose)
    return found


def best_poses(
    candidates: Iterable[FloatArray], samples: Samples, head: Volume, pivot_mm: FloatArray, count: int
) -> list[FloatArray]:
    """Return the `count` poses of most mutual information, none within 12 degrees and 12 mm of a better."""
    scored = [(normalised_mutual_information(samples, head, pose), pose) for pose in candidates]
    kept: list[FloatArray] = []
    for _, pose in sorted(scored, key=lambda pair: -pair[0]):
        if not any(_are_neighbours(pose, other, pivot_mm) for other in kept):
            kept.append(pose)
        if len(kept) == count:
            break
    return kept


def _are_neighbours(first: FloatArray, second: FloatArray, pivot_mm: FloatArray) -> bool:
    apart_mm = np.linalg.norm(apply(first, pivot_mm) - apply(second, pivot_mm))
    between = first[:3, :3].T @ second[:3, :3]
    cosine = (np.trace(between) / np.cbrt(np.linalg.det(between)) - 1) / 2
    return bool(apart_mm < NEIGHBOUR_MM and cosine > np.cos(np.radians(NEIGHBOUR_DEGREES)))


def _centre_of_mass(head: Volume) -> FloatArray:
    weights = np.abs(head.data)
    if not weights.any():
        return head.centre_mm
    sums = [weights.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    voxel = np.array([(np.arange(len(line)) * line).sum() / line.sum() for line in sums])
    return apply(head.affine, voxel)
