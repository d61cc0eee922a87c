"""Registration of a head to CIT168: many starts, mutual information, three resolutions.

SimpleITK's optimiser does the fine work. It starts from poses that an exhaustive coarse search liked, once
inside the brain mask and once over the whole field, because a neck, a missing face or a stripped skull
each mislead one of the two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bidsapp.arrays import FloatArray
from bidsapp.corobl.descent import DescentSettings, Problem
from bidsapp.corobl.grid import TEMPLATE_FROM_COROBL
from bidsapp.corobl.levels import Pyramid, make_pyramid, pad
from bidsapp.corobl.quality import Quality, Score, measure_quality, score_in_brain
from bidsapp.corobl.search import SearchSpace, best_poses, poses
from bidsapp.corobl.similarity import take_samples
from bidsapp.corobl.simpleitk import limited_threads
from bidsapp.corobl.template import brain_mask_on, crops_centre, load_template
from bidsapp.corobl.transforms import apply, nearest_rotation
from bidsapp.images.volumes import Volume

FIRST_SEARCH = SearchSpace(angles=(-24, 0, 24), scales=(0.85, 1, 1.15), finalists=2)
SECOND_SEARCH = SearchSpace(angles=(-30, -15, 0, 15, 30), scales=(0.78, 0.9, 1.03, 1.17), finalists=4)

SEARCH_BINS, FINE_BINS = 24, 32
STARTS_IN_BRAIN, STARTS_IN_FIELD = 8, 12
HEAD_MARGIN_MM, FIELD_MARGIN_MM, FINE_MARGIN_MM = 60.0, 24.0, 30.0
DETERMINANT_LIMITS = (0.3, 2.5)

COARSE_DESCENT = DescentSettings(SEARCH_BINS, learning_rate=4.0, minimum_step=0.05, iterations=60)
AFFINE_DESCENT = DescentSettings(FINE_BINS, learning_rate=0.5, minimum_step=0.01, iterations=120, share=0.3)
LAST_DESCENT = DescentSettings(FINE_BINS, learning_rate=0.25, minimum_step=0.002, iterations=100, share=0.08)


@dataclass(frozen=True, eq=False)
class Registration:
    """Where the template lies in a scan."""

    native_from_template: FloatArray
    """(4, 4) matrix from CIT168 RAS to the scan's RAS millimetres."""
    quality: Quality
    """What the gates judge; with `rigid`, of the affine map that the rigid one was taken from."""
    rigid: bool = False
    """Whether the map keeps sizes."""
    search: int = 1
    """1 when the first search was enough, 2 when the finer one found better."""

    @property
    def native_from_corobl(self) -> FloatArray:
        """(4, 4) matrix from CorObl RAS to the scan's RAS millimetres: what `write_transform` stores."""
        return self.native_from_template @ TEMPLATE_FROM_COROBL


def register_to_template(volume: Volume, *, rigid: bool = False, threads: int = 1) -> Registration:
    """Find the template in a whole head or a stripped brain, T1w or T2w, in any pose and on any grid.

    With one thread the same input gives the same result to the last bit. An image in which there is no
    human head gives a registration too: `bidsapp.corobl.quality.judge_registration` tells.

    Parameters
    ----------
    rigid
        Return the rotation and shift closest to the affine map, which agrees with it midway between the
        hippocampi.
    """
    with limited_threads(threads):
        head = make_pyramid(volume)
        found = _register(volume, head, search=1)
        if not found.quality.finds_head:
            other = _register(volume, head, search=2)
            found = max(found, other, key=lambda result: result.quality.nmi_in_crops)
    if rigid:
        rotation = nearest_rotation(found.native_from_template, crops_centre())
        found = replace(found, native_from_template=rotation, rigid=True)
    return found


def _register(volume: Volume, head: Pyramid, *, search: int) -> Registration:
    template = load_template().head
    if search == 1:
        finalists = _coarse_poses(template.at_8_mm, head, head.at_8_mm, FIRST_SEARCH)
    else:
        finalists = _coarse_poses(template.at_6_mm, head, head.at_6_mm, SECOND_SEARCH)
    score = score_in_brain(template.at_4_mm, head.at_4_mm)
    problem = _problem_in_brain(template.at_4_mm, pad(head.at_4_mm, HEAD_MARGIN_MM))
    refined = [_improve(pose, problem.refine_affine(pose, AFFINE_DESCENT), score) for pose in finalists]
    best = max(refined, key=score)
    score = score_in_brain(template.at_2_mm, head.at_2_mm)
    problem = _problem_in_brain(template.at_2_mm, pad(head.at_2_mm, FINE_MARGIN_MM))
    best = _improve(best, problem.refine_affine(best, LAST_DESCENT), score)
    return Registration(best, measure_quality(volume, head, best), search=search)


def _coarse_poses(template: Volume, head: Pyramid, coarse: Volume, space: SearchSpace) -> list[FloatArray]:
    """Search at one resolution and refine rotation, shift and scale; return the best of either route."""
    field = pad(template, FIELD_MARGIN_MM)
    brain = brain_mask_on(field)
    centre = apply(field.affine, np.argwhere(brain).mean(axis=0))
    candidates = poses(space, centre, coarse)
    score = score_in_brain(load_template().head.at_4_mm, head.at_4_mm)
    finalists = []
    for mask, count in ((brain, STARTS_IN_BRAIN), (np.ones_like(brain), STARTS_IN_FIELD)):
        starts = best_poses(candidates, take_samples(field, mask, SEARCH_BINS), coarse, centre, count)
        problem = Problem(field, pad(coarse, HEAD_MARGIN_MM), mask, centre)
        # Without a mask, mutual information grows when the head shrinks among background: its scale stays.
        refine = problem.refine_similarity if mask is brain else problem.refine_pose
        refined = [refine(start, COARSE_DESCENT) for start in starts]
        plausible = [pose for pose in refined if _is_plausible(pose)] or starts[:1]
        finalists += sorted(plausible, key=score, reverse=True)[: space.finalists]
    return finalists


def _problem_in_brain(fixed: Volume, moving: Volume) -> Problem:
    brain = brain_mask_on(fixed)
    return Problem(fixed, moving, brain, apply(fixed.affine, np.argwhere(brain).mean(axis=0)))


def _improve(before: FloatArray, after: FloatArray, score: Score) -> FloatArray:
    """Accept a refined pose only when it is plausible and scores better."""
    return after if _is_plausible(after) and score(after) > score(before) else before


def _is_plausible(pose: FloatArray) -> bool:
    return bool(DETERMINANT_LIMITS[0] < np.linalg.det(pose[:3, :3]) < DETERMINANT_LIMITS[1])
