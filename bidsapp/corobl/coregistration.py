"""Registration of a T2w slab to the same person's T1w: rigid, from poses around where the headers put it.

A slab of a few centimetres shows too little for the template, but its headers share the T1w's scanner
coordinates up to the movement between the two scans.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.spatial.transform import Rotation

from bidsapp.arrays import BoolArray, FloatArray
from bidsapp.corobl.descent import DescentSettings, Problem
from bidsapp.corobl.levels import average_blocks, cut_intensities, field_of_view, pad, to_isotropic
from bidsapp.corobl.quality import Coregistration, measure_peak, share_in_field
from bidsapp.corobl.registration import Registration
from bidsapp.corobl.similarity import Samples, normalised_mutual_information, take_samples
from bidsapp.corobl.volumes import Volume

ANGLES = (-10.0, 0.0, 10.0)
SHIFTS_MM = (-12.0, 0.0, 12.0)
STARTS, FINALISTS = 6, 2
BINS = 32
MARGIN_MM = 30.0

DESCENT_4_MM = DescentSettings(BINS, learning_rate=2.0, minimum_step=0.02, iterations=80)
DESCENT_2_MM = DescentSettings(BINS, learning_rate=0.5, minimum_step=0.005, iterations=80, share=0.3)
DESCENT_1_MM = DescentSettings(BINS, learning_rate=0.25, minimum_step=0.002, iterations=80, share=0.1)


@dataclass(frozen=True, eq=False)
class _Level:
    """Slab and T1w at one resolution; samples and mask are the slab's field of view."""

    slab: Volume
    mask: BoolArray
    t1w: Volume
    samples: Samples

    def score(self, t1w_from_slab: FloatArray) -> float:
        return normalised_mutual_information(self.samples, self.t1w, t1w_from_slab)


def register_to_t1w(
    t2w: Volume, t1w: Volume, t1w_registration: Registration, *, threads: int = 1
) -> Registration:
    """Find the template in a T2w slab through the same person's registered T1w.

    Tries 27 rotations by 10 degrees and 27 shifts by 12 mm around the headers' pose, and refines the best at 4, 2
    and 1 mm. The result's quality holds the T1w's measures, the share of the hippocampi in the slab, and how
    well slab and T1w agree.
    """
    levels = _make_levels(t2w, t1w)
    centre = t2w.centre_mm
    poses = sorted(_poses_around(centre), key=levels[0].score, reverse=True)[:STARTS]
    coarse = [_refine(levels[0], pose, centre, DESCENT_4_MM, threads) for pose in poses]
    finalists = sorted(coarse, key=levels[1].score, reverse=True)[:FINALISTS]
    middle = [_refine(levels[1], pose, centre, DESCENT_2_MM, threads) for pose in finalists]
    best = _refine(levels[2], max(middle, key=levels[1].score), centre, DESCENT_1_MM, threads)
    t2w_from_template = np.linalg.inv(best) @ t1w_registration.native_from_template
    agreement = Coregistration(
        levels[1].score(best), measure_peak(levels[1].samples, levels[1].t1w, best), _moved_mm(best, centre)
    )
    quality = replace(
        t1w_registration.quality,
        share_in_field=share_in_field(t2w, t2w_from_template),
        coregistration=agreement,
    )
    return replace(t1w_registration, native_from_template=t2w_from_template, quality=quality)


def _make_levels(t2w: Volume, t1w: Volume) -> list[_Level]:
    """Return the levels of 4, 2 and 1 mm."""
    slab, head = (cut_intensities(to_isotropic(volume, 1.0)) for volume in (t2w, t1w))
    levels = []
    for factor in (4, 2, 1):
        fixed, moving = (average_blocks(volume, (factor,) * 3) for volume in (slab, head))
        mask = field_of_view(t2w, fixed)
        levels.append(_Level(fixed, mask, moving, take_samples(fixed, mask, BINS)))
    return levels


def _poses_around(centre_mm: FloatArray) -> list[FloatArray]:
    found = []
    for degrees, shift in product(product(ANGLES, repeat=3), product(SHIFTS_MM, repeat=3)):
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
        pose[:3, 3] = centre_mm + shift - pose[:3, :3] @ centre_mm
        found.append(pose)
    return found


def _refine(
    level: _Level, pose: FloatArray, centre_mm: FloatArray, settings: DescentSettings, threads: int
) -> FloatArray:
    """Refine a pose; keep it as it is when the refined one scores no better."""
    problem = Problem(level.slab, pad(level.t1w, MARGIN_MM), level.mask, centre_mm, threads)
    refined = problem.refine_rigid(pose, settings)
    return refined if level.score(refined) > level.score(pose) else pose


def _moved_mm(t1w_from_slab: FloatArray, centre_mm: FloatArray) -> float:
    """Return how far the middle of the slab is from where the headers put it."""
    return float(np.linalg.norm(t1w_from_slab[:3, :3] @ centre_mm + t1w_from_slab[:3, 3] - centre_mm))
