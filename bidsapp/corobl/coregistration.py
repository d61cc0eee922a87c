"""Registration of a T2w slab to the same person's T1w: rigid, from poses around where the headers put it.

A slab of a few centimetres shows too little for the template, but its headers share the T1w's scanner
coordinates up to the movement between the two scans.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bidsapp.arrays import BoolArray, FloatArray
from bidsapp.corobl.descent import DescentSettings, Problem
from bidsapp.corobl.levels import average_blocks, cut_intensities, field_of_view, pad, to_isotropic
from bidsapp.corobl.quality import Coregistration, measure_peak, share_in_field
from bidsapp.corobl.registration import Registration
from bidsapp.corobl.similarity import Samples, normalised_mutual_information, take_samples
from bidsapp.corobl.simpleitk import limited_threads
from bidsapp.corobl.template import brain_mask_on, load_template
from bidsapp.images.volumes import Volume

ANGLES = (-10.0, 0.0, 10.0)
SHIFTS_MM = (-12.0, 0.0, 12.0)
STARTS, FINALISTS = 6, 2
BINS = 32
MARGIN_MM = 30.0
LEVELS_MM = (4, 2, 1)

FIRST_DESCENT = DescentSettings(BINS, learning_rate=2.0, minimum_step=0.02, iterations=60, share=0.3)
SECOND_DESCENT = DescentSettings(BINS, learning_rate=0.5, minimum_step=0.005, iterations=60, share=0.1)
LAST_DESCENT = DescentSettings(BINS, learning_rate=0.25, minimum_step=0.002, iterations=60, share=0.03)


@dataclass(frozen=True, eq=False)
class _Level:
    """Slab and T1w at one resolution, and the slab's field of view."""

    slab: Volume
    t1w: Volume
    mask: BoolArray
    centre_mm: FloatArray

    def samples(self) -> Samples:
        return take_samples(self.slab, self.mask, BINS)

    def refine(self, t1w_from_slab: FloatArray, settings: DescentSettings) -> FloatArray:
        problem = Problem(self.slab, pad(self.t1w, MARGIN_MM), self.mask, self.centre_mm)
        return problem.refine_pose(t1w_from_slab, settings)


def register_to_t1w(t2w: Volume, t1w: Volume, t1w_registration: Registration, *, threads: int = 1) -> Registration:
    """Find the template in a T2w slab through the same person's registered T1w.

    Tries 27 rotations by 10 degrees and 27 shifts by 12 mm around the pose of the headers, and refines the
    best at 4, 2 and 1 mm; a step that loses agreement is taken back. The result's quality holds the T1w's
    measures, the share of the hippocampi in the slab, and how well slab and T1w agree.
    """
    levels = _make_levels(t2w, t1w)
    with limited_threads(threads):
        best = _search_and_refine(levels, t2w.centre_mm)
    t2w_from_template = np.linalg.inv(best) @ t1w_registration.native_from_template
    quality = replace(
        t1w_registration.quality,
        share_in_field=share_in_field(t2w, t2w_from_template),
        thickest_mm=float(t2w.spacing_mm.max()),
        coregistration=_measure(t2w, levels[1], t1w_registration.native_from_template, best),
    )
    return replace(t1w_registration, native_from_template=t2w_from_template, quality=quality)


def _search_and_refine(levels: list[_Level], centre_mm: FloatArray) -> FloatArray:
    """Return `t1w_from_slab`; every step competes with what it started from, at 4 and then at 2 mm."""
    at_4_mm, at_2_mm, at_1_mm = levels
    starts = _best(_poses_around(centre_mm), at_4_mm.samples(), at_4_mm.t1w, STARTS)
    refined = [at_4_mm.refine(start, FIRST_DESCENT) for start in starts]
    samples = at_2_mm.samples()
    finalists = _best(starts + refined, samples, at_2_mm.t1w, FINALISTS)
    refined = [at_2_mm.refine(start, SECOND_DESCENT) for start in finalists]
    best = _best(finalists + refined, samples, at_2_mm.t1w, 1)
    last = at_1_mm.refine(best[0], LAST_DESCENT)
    return _best([*best, last], samples, at_2_mm.t1w, 1)[0]


def _make_levels(t2w: Volume, t1w: Volume) -> list[_Level]:
    slab, head = (cut_intensities(to_isotropic(volume, 1.0)) for volume in (t2w, t1w))
    levels = []
    for factor in LEVELS_MM:
        fixed, moving = (average_blocks(volume, (factor,) * 3) for volume in (slab, head))
        levels.append(_Level(fixed, moving, field_of_view(t2w, fixed), t2w.centre_mm))
    return levels


def _poses_around(centre_mm: FloatArray) -> list[FloatArray]:
    found: list[FloatArray] = []
    for degrees, shift in product(product(ANGLES, repeat=3), product(SHIFTS_MM, repeat=3)):
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
        pose[:3, 3] = centre_mm + shift - pose[:3, :3] @ centre_mm
        found.append(pose)
    return found


def _best(poses: list[FloatArray], samples: Samples, t1w: Volume, count: int) -> list[FloatArray]:
    scores = [normalised_mutual_information(samples, t1w, pose) for pose in poses]
    return [poses[index] for index in np.argsort(-np.array(scores), kind="stable")[:count]]


def _measure(t2w: Volume, at_2_mm: _Level, t1w_from_template: FloatArray, t1w_from_slab: FloatArray) -> Coregistration:
    """Compare slab and T1w in the part of the brain that the slab shows."""
    grid = load_template().head.at_2_mm
    t1w_from_grid = np.linalg.inv(at_2_mm.t1w.affine) @ t1w_from_template @ grid.affine
    t1w = Volume(
        ndimage.affine_transform(
            at_2_mm.t1w.data, t1w_from_grid[:3, :3], t1w_from_grid[:3, 3], grid.data.shape, order=1
        ),
        grid.affine,
    )
    slab_from_template = np.linalg.inv(t1w_from_slab) @ t1w_from_template
    shown = field_of_view(t2w, Volume(grid.data, slab_from_template @ grid.affine))
    centre = t2w.centre_mm
    moved = t1w_from_slab[:3, :3] @ centre + t1w_from_slab[:3, 3] - centre
    inside = brain_mask_on(grid) & shown
    if not inside.any():
        return Coregistration(1.0, 0.0, float(np.linalg.norm(moved)))
    samples = take_samples(t1w, inside, BINS)
    return Coregistration(
        normalised_mutual_information(samples, at_2_mm.slab, slab_from_template),
        measure_peak(samples, at_2_mm.slab, slab_from_template),
        float(np.linalg.norm(moved)),
    )
