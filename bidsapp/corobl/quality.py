"""Is the registration right? Measures, and the gates that judge them in words.

The limits come from 427 registrations of simulated and real scans, right and wrong ones. The mutual
information inside the crops is the gate that matters: it flagged all of the wrong ones and one of 356
right ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from bidsapp.arrays import FloatArray
from bidsapp.corobl.levels import Pyramid
from bidsapp.corobl.similarity import Samples, normalised_mutual_information, take_samples
from bidsapp.corobl.template import brain_mask_on, crops_mask_on, hippocampus_points, load_template
from bidsapp.corobl.transforms import apply
from bidsapp.images.volumes import Volume
from bidsapp.records import SIDES

Level = Literal["green", "amber", "red"]
LEVELS: tuple[Level, ...] = ("green", "amber", "red")
Score = Callable[[FloatArray], float]

BINS = 32
PEAK_SHIFT_MM = 8.0
_CORE_DEPTH_MM = 8.0

CROPS_NMI = (1.038, 1.045)
BRAIN_NMI = (1.035, 1.055)
PEAK = (1.3, 1.4)
CONTRAST = (0.05, 0.1)
FIELD_SHARE = (0.9, 0.995)
SLAB_NMI = (1.02, 1.035)
"""Below the first value a measure is red, below the second amber."""

SIZES = (0.6, 1.45)
SIZES_SEEN = (0.75, 1.3)
"""Sizes outside the first range are red, outside the second amber."""

MOVED_SEEN_MM = 25.0
THICKNESS_MM = (2.5, 4.0)


@dataclass(frozen=True)
class Coregistration:
    """How well a T2w slab and the same person's T1w agree."""

    nmi: float
    """Normalised mutual information in the slab, at 2 mm."""
    peak: float
    """(nmi - 1) over the best of (NMI - 1) after shifts by 8 mm."""
    moved_mm: float
    """How far the middle of the slab is from where the headers put it."""


@dataclass(frozen=True)
class Quality:
    """How well a scan and the template agree; every measure but the sizes is the higher the better."""

    nmi_in_crops: float
    """Normalised mutual information with CIT168 inside both crop boxes, at 2 mm; 1 is unrelated."""
    nmi_in_brain: float
    """The same inside the brain with its rim, at 4 mm."""
    peak: float
    """(nmi_in_brain - 1) over the best of (NMI - 1) after shifts by 8 mm along R, A or S."""
    contrast: float
    """Spread (10th to 90th percentile) of the intensities deep in the brain around the hippocampi, over the spread of
    the whole head: .01 in a CT, whose bones and air look right but whose brain shows nothing."""
    sizes: tuple[float, float, float]
    """Singular values of the map from the template to the scan, greatest first: 1 is the template's size."""
    share_in_field: float
    """Least share, of both sides, of the template's hippocampus that lies in the scan's field of view."""
    thickest_mm: float
    """The scan's greatest distance between neighbouring voxels."""
    coregistration: Coregistration | None = None
    """For a T2w that was registered through a T1w, whose measures the other ones then are."""

    @property
    def finds_head(self) -> bool:
        """Whether the template seems to lie where it belongs: a finer search cannot mend other measures."""
        gates = ((self.nmi_in_crops, CROPS_NMI), (self.nmi_in_brain, BRAIN_NMI), (self.peak, PEAK))
        return all(value >= red for value, (red, _) in gates)


@dataclass(frozen=True)
class Judgement:
    """One measure, and what it means for a person."""

    level: Level
    measure: str
    value: float
    words: str


def measure_quality(volume: Volume, head: Pyramid, native_from_template: FloatArray) -> Quality:
    """Measure a registration of `volume`, whose coarse copies are `head`."""
    template = load_template().head
    in_crops = take_samples(template.at_2_mm, crops_mask_on(template.at_2_mm), BINS)
    in_brain = take_samples(template.at_4_mm, brain_mask_on(template.at_4_mm), BINS)
    sizes = np.linalg.svd(native_from_template[:3, :3], compute_uv=False)
    return Quality(
        normalised_mutual_information(in_crops, head.at_2_mm, native_from_template),
        normalised_mutual_information(in_brain, head.at_4_mm, native_from_template),
        measure_peak(in_brain, head.at_4_mm, native_from_template),
        _measure_contrast(head.at_2_mm, native_from_template),
        (float(sizes[0]), float(sizes[1]), float(sizes[2])),
        share_in_field(volume, native_from_template),
        float(volume.spacing_mm.max()),
    )


def measure_peak(samples: Samples, moving: Volume, moving_from_fixed: FloatArray) -> float:
    """Return (NMI - 1) over its greatest value after shifts by 8 mm: 1 or less where there is no peak."""
    beside = []
    for axis in range(3):
        for sign in (-1, 1):
            shift = np.eye(4)
            shift[axis, 3] = sign * PEAK_SHIFT_MM
            beside.append(normalised_mutual_information(samples, moving, moving_from_fixed @ shift))
    here = normalised_mutual_information(samples, moving, moving_from_fixed)
    return (here - 1) / max(max(beside) - 1, 1e-6)


def score_in_brain(fixed: Volume, moving: Volume) -> Score:
    """Return the function that rates `moving_from_fixed` by mutual information inside the brain."""
    return partial(normalised_mutual_information, take_samples(fixed, brain_mask_on(fixed), BINS), moving)


def judge_registration(quality: Quality) -> tuple[Judgement, ...]:
    """Judge every measure: one red means that the crops must not be used unseen."""
    judgements = (
        _at_least(quality.nmi_in_crops, CROPS_NMI, "nmi_in_crops", "agreement with the template in the crops"),
        _at_least(quality.nmi_in_brain, BRAIN_NMI, "nmi_in_brain", "agreement with the template in the brain"),
        _at_least(quality.peak, PEAK, "peak", "loss of agreement when the head is moved by 8 mm"),
        _at_least(quality.contrast, CONTRAST, "contrast", "contrast around the hippocampi"),
        _at_least(quality.share_in_field, FIELD_SHARE, "share_in_field", "part of the hippocampi in the image"),
        _judge_sizes(quality.sizes),
        _judge_thickness(quality.thickest_mm),
    )
    return judgements + _judge_coregistration(quality.coregistration)


def _judge_sizes(sizes: tuple[float, float, float]) -> Judgement:
    low, high = min(sizes), max(sizes)
    extreme = low if low * high < 1 else high
    level: Level = "green" if SIZES_SEEN[0] <= low and high <= SIZES_SEEN[1] else "amber"
    if low < SIZES[0] or high > SIZES[1]:
        level = "red"
    return Judgement(level, "sizes", extreme, f"the head measures {low:.2f} to {high:.2f} times the template")


def _judge_thickness(thickest_mm: float) -> Judgement:
    words = f"voxels measure up to {thickest_mm:.1f} mm"
    if thickest_mm > THICKNESS_MM[1]:
        return Judgement("red", "thickest_mm", thickest_mm, f"{words}: too coarse to see a hippocampus; use a T1w")
    if thickest_mm > THICKNESS_MM[0]:
        return Judgement("amber", "thickest_mm", thickest_mm, f"{words}: borders between slices are guesses")
    return Judgement("green", "thickest_mm", thickest_mm, words)


def _judge_coregistration(agreement: Coregistration | None) -> tuple[Judgement, ...]:
    if agreement is None:
        return ()
    far = agreement.moved_mm > MOVED_SEEN_MM
    return (
        _at_least(agreement.nmi, SLAB_NMI, "slab_nmi", "agreement of T2w and T1w"),
        _at_least(agreement.peak, PEAK, "slab_peak", "loss of agreement when the T2w is moved by 8 mm"),
        Judgement(
            "amber" if far else "green",
            "slab_moved_mm",
            agreement.moved_mm,
            f"the T2w lies {agreement.moved_mm:.0f} mm from where its header puts it against the T1w",
        ),
    )


def worst_level(judgements: tuple[Judgement, ...]) -> Level:
    """Return the worst level of all; green when there is none."""
    return max((judgement.level for judgement in judgements), key=LEVELS.index, default="green")


def _at_least(value: float, limits: tuple[float, float], measure: str, what: str) -> Judgement:
    if value < limits[0]:
        return Judgement("red", measure, value, f"{what} is {value:.3f}; right registrations reach {limits[0]}")
    if value < limits[1]:
        return Judgement("amber", measure, value, f"{what} is low: {value:.3f}; look at the pictures")
    return Judgement("green", measure, value, f"{what} is {value:.3f}")


def _measure_contrast(head: Volume, native_from_template: FloatArray) -> float:
    from scipy import ndimage

    fixed = load_template().head.at_2_mm
    depth = round(_CORE_DEPTH_MM / fixed.spacing_mm[0])
    core = crops_mask_on(fixed) & ndimage.binary_erosion(brain_mask_on(fixed), iterations=depth)
    points = apply(fixed.affine, np.argwhere(core).astype(float))
    voxels = apply(np.linalg.inv(head.affine) @ native_from_template, points)
    values = ndimage.map_coordinates(head.data, voxels.T, order=1)
    low, high = np.percentile(values, [10, 90])
    spread = float(np.ptp(head.data))
    return float(high - low) / spread if spread > 0 else 0.0


def share_in_field(volume: Volume, native_from_template: FloatArray) -> float:
    """Return the least share, of both sides, of the template's hippocampus in the field of view."""
    voxel_from_template = np.linalg.inv(volume.affine) @ native_from_template
    shares = []
    for side in SIDES:
        voxels = apply(voxel_from_template, hippocampus_points(side))
        shares.append(((voxels >= -0.5) & (voxels <= np.array(volume.data.shape) - 0.5)).all(axis=1).mean())
    return float(min(shares))
