"""Registration of a head to CIT168: many starts, mutual information, three resolutions, gates at the end.

SimpleITK's optimisers do the fine work; they start from poses that an exhaustive coarse search liked, once inside
the brain mask and once over the whole field, because a neck, a missing face or a stripped skull each mislead one
of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bidsapp.arrays import BoolArray, FloatArray
from bidsapp.corobl.grid import TEMPLATE_FROM_COROBL
from bidsapp.corobl.levels import Pyramid, make_pyramid, pad
from bidsapp.corobl.quality import Quality, measure_quality
from bidsapp.corobl.search import SearchSpace, best_poses, poses
from bidsapp.corobl.similarity import normalised_mutual_information, take_samples
from bidsapp.corobl.template import Template, crops_centre, load_template
from bidsapp.corobl.transforms import apply, lps_from_ras, nearest_rotation
from bidsapp.corobl.volumes import Volume

if TYPE_CHECKING:
    import SimpleITK

SEED = 42
DETERMINANT_LIMITS = (0.3, 2.5)
COARSE_BINS, FINE_BINS = 24, 32
COARSE_MARGIN_MM, FINE_MARGIN_MM = 60.0, 30.0
STARTS_IN_BRAIN, STARTS_IN_FIELD = 8, 12
FINALISTS = 2

FIRST_SEARCH = SearchSpace(angles=(-24, 0, 24), scales=(0.85, 1, 1.15))
SECOND_SEARCH = SearchSpace(angles=(-30, -15, 0, 15, 30), scales=(0.78, 0.9, 1.03, 1.17))


@dataclass(frozen=True, eq=False)
class Registration:
    """Where the template lies in a scan.

    Attributes
    ----------
    native_from_template
        (4, 4) matrix from CIT168 RAS to the scan's RAS millimetres.
    quality
        The measures that the gates judge; with `rigid`, those of the affine map that it was taken from.
    rigid
        Whether the map keeps sizes.
    search
        1 when the first search was enough, 2 when the finer one was needed.
    """

    native_from_template: FloatArray
    quality: Quality
    rigid: bool
    search: int

    @property
    def native_from_corobl(self) -> FloatArray:
        """(4, 4) matrix from CorObl RAS to the scan's RAS millimetres."""
        return self.native_from_template @ TEMPLATE_FROM_COROBL


@dataclass(frozen=True)
class _Descent:
    """Settings of one run of SimpleITK's regular-step gradient descent on Mattes mutual information."""

    bins: int
    learning_rate: float
    minimum_step: float
    iterations: int
    share: float = 1.0


_SIMILARITY_DESCENT = _Descent(COARSE_BINS, 4.0, 0.05, 60)
_AFFINE_DESCENT = _Descent(FINE_BINS, 0.5, 0.01, 120, share=0.3)
_LAST_DESCENT = _Descent(FINE_BINS, 0.25, 0.002, 100, share=0.08)


def register_to_template(volume: Volume, *, rigid: bool = False, threads: int = 1) -> Registration:
    """Find the template in a whole head or a stripped brain, T1w or T2w, in any pose and on any grid.

    The result is the same on every run with the same number of threads. An image in which there is no human head
    gives a registration too: ask `bidsapp.corobl.quality.judge_registration` before using it.
    """
    template, head = load_template(), make_pyramid(volume)
    result = _search_and_refine(template, head, FIRST_SEARCH, head.at_8_mm, template.head.at_8_mm, threads)
    quality, search = measure_quality(template, head, result), 1
    if not quality.is_good:
        other = _search_and_refine(template, head, SECOND_SEARCH, head.at_6_mm, template.head.at_6_mm, threads)
        other_quality = measure_quality(template, head, other)
        if other_quality.nmi_in_crops > quality.nmi_in_crops:
            result, quality, search = other, other_quality, 2
    if rigid:
        result = nearest_rotation(result, crops_centre())
    return Registration(result, quality, rigid, search)


def _search_and_refine(
    template: Template, head: Pyramid, space: SearchSpace, coarse: Volume, coarse_template: Volume, threads: int
) -> FloatArray:
    """Run coarse search, similarity, affine at 4 mm and affine at 2 mm; return `native_from_template`."""
    everywhere = pad(coarse_template, COARSE_MARGIN_MM)
    padded = pad(coarse, COARSE_MARGIN_MM)
    brain = brain_mask_on(everywhere, template)
    pivot = apply(everywhere.affine, np.argwhere(brain).mean(axis=0))
    candidates = poses(space, pivot, coarse)
    rank = _score_in_brain(template, template.head.at_4_mm, head.at_4_mm)
    finalists = []
    for mask, count in ((brain, STARTS_IN_BRAIN), (None, STARTS_IN_FIELD)):
        inside = np.ones(everywhere.data.shape, dtype=bool) if mask is None else mask
        samples = take_samples(everywhere, inside, COARSE_BINS)
        starts = best_poses(candidates, samples, coarse, pivot, count)
        descend = Descender(everywhere, padded, mask, threads)
        refined = [descend.similarity(start, pivot, _SIMILARITY_DESCENT) for start in starts]
        plausible = [pose for pose in refined if _is_plausible(pose)] or starts[:1]
        finalists += sorted(plausible, key=rank, reverse=True)[:FINALISTS]
    descend = _descender_in_brain(template, template.head.at_4_mm, head.at_4_mm, COARSE_MARGIN_MM, threads)
    affine = partial(descend.affine, centre_mm=pivot, settings=_AFFINE_DESCENT)
    best = max((_improve(pose, affine, rank) for pose in finalists), key=rank)
    descend = _descender_in_brain(template, template.head.at_2_mm, head.at_2_mm, FINE_MARGIN_MM, threads)
    rank = _score_in_brain(template, template.head.at_2_mm, head.at_2_mm)
    return _improve(best, partial(descend.affine, centre_mm=pivot, settings=_LAST_DESCENT), rank)


def _improve(
    pose: FloatArray, refine: Callable[[FloatArray], FloatArray], score: Callable[[FloatArray], float]
) -> FloatArray:
    """Return the refined pose, but only when it is plausible and scores better."""
    refined = refine(pose)
    return refined if _is_plausible(refined) and score(refined) > score(pose) else pose


def _is_plausible(pose: FloatArray) -> bool:
    return bool(DETERMINANT_LIMITS[0] < np.linalg.det(pose[:3, :3]) < DETERMINANT_LIMITS[1])


def brain_mask_on(volume: Volume, template: Template) -> BoolArray:
    """Return the template's dilated brain mask on a grid in CIT168 space, by nearest voxels."""
    from scipy import ndimage

    brain_from_volume = np.linalg.inv(template.brain.affine) @ volume.affine
    return (
        ndimage.affine_transform(
            template.brain.data, brain_from_volume[:3, :3], brain_from_volume[:3, 3], volume.data.shape, order=0
        )
        > 0
    )


def _score_in_brain(template: Template, fixed: Volume, moving: Volume) -> Callable[[FloatArray], float]:
    samples = take_samples(fixed, brain_mask_on(fixed, template), FINE_BINS)
    return partial(normalised_mutual_information, samples, moving)


def _descender_in_brain(
    template: Template, fixed: Volume, moving: Volume, margin_mm: float, threads: int
) -> Descender:
    return Descender(fixed, pad(moving, margin_mm), brain_mask_on(fixed, template), threads)


class Descender:
    """SimpleITK's gradient descent between two axis-aligned volumes: the only user of its registration.

    Samples outside the moving volume count for nothing in ITK: pad it, so that they meet background.
    """

    def __init__(self, fixed: Volume, moving: Volume, mask: BoolArray | None, threads: int) -> None:
        self._fixed, self._moving = to_simpleitk(fixed), to_simpleitk(moving)
        self._mask = None if mask is None else to_simpleitk(Volume(mask.astype(np.float32), fixed.affine), "mask")
        self._threads = threads

    def similarity(self, start: FloatArray, centre_mm: FloatArray, settings: _Descent) -> FloatArray:
        """Refine rotation, shift and one scale; a pose that the optimiser cannot work with returns as it is."""
        import SimpleITK as sitk  # noqa: N813

        return self._descend(sitk.Similarity3DTransform(), start, centre_mm, settings)

    def rigid(self, start: FloatArray, centre_mm: FloatArray, settings: _Descent) -> FloatArray:
        """Refine rotation and shift."""
        import SimpleITK as sitk  # noqa: N813

        return self._descend(sitk.VersorRigid3DTransform(), start, centre_mm, settings)

    def affine(self, start: FloatArray, centre_mm: FloatArray, settings: _Descent) -> FloatArray:
        """Refine all twelve parameters."""
        import SimpleITK as sitk  # noqa: N813

        return self._descend(sitk.AffineTransform(3), start, centre_mm, settings)

    def _descend(self, transform: Any, start: FloatArray, centre_mm: FloatArray, settings: _Descent) -> FloatArray:
        import SimpleITK as sitk  # noqa: N813

        lps = lps_from_ras(start)
        centre = centre_mm * (-1, -1, 1)
        transform.SetCenter(centre.tolist())
        transform.SetMatrix(lps[:3, :3].ravel().tolist())
        transform.SetTranslation((apply(lps, centre) - centre).tolist())
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(self._threads)
        method.SetMetricAsMattesMutualInformation(settings.bins)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            settings.learning_rate, settings.minimum_step, settings.iterations
        )
        method.SetOptimizerScalesFromPhysicalShift()
        if settings.share < 1:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(settings.share, SEED)
        if self._mask is not None:
            method.SetMetricFixedMask(self._mask)
        method.SetInitialTransform(transform, True)
        try:
            method.Execute(self._fixed, self._moving)
        except RuntimeError:  # ITK: no overlap is left, or an image is constant
            return start
        return _matrix(transform)


def to_simpleitk(volume: Volume, kind: str = "image") -> SimpleITK.Image:
    """Copy an axis-aligned volume to SimpleITK, which speaks LPS; a mask becomes uint8.

    Raises
    ------
    ValueError
        When the axes are not R, A, S.
    """
    import SimpleITK as sitk  # noqa: N813

    linear = volume.affine[:3, :3]
    if not np.allclose(linear, np.diag(volume.spacing_mm)):
        raise ValueError(f"the axes of the volume are not R, A, S: {linear.tolist()}")
    data = volume.data.astype(np.uint8 if kind == "mask" else np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose()))
    image.SetSpacing(volume.spacing_mm.tolist())
    image.SetOrigin((volume.affine[:3, 3] * (-1, -1, 1)).tolist())
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image


def _matrix(transform: Any) -> FloatArray:
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    lps = np.eye(4)
    lps[:3, 3] = origin
    lps[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    return lps_from_ras(lps)
