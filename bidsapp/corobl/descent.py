"""SimpleITK's registration: regular-step gradient descent on Mattes mutual information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bidsapp.arrays import BoolArray, FloatArray
from bidsapp.corobl.simpleitk import from_volume
from bidsapp.corobl.transforms import apply, lps_from_ras
from bidsapp.images.volumes import Volume

SEED = 42
_WITHOUT_SCALE = (1.0,) * 6 + (0.0,)


@dataclass(frozen=True)
class DescentSettings:
    """One run of the optimiser: histogram bins, steps in mm, the share of voxels that the metric samples."""

    bins: int
    learning_rate: float
    minimum_step: float
    iterations: int
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class Problem:
    """Two axis-aligned volumes to bring together.

    Samples that fall outside the moving volume count for nothing in ITK: pad it, so that they meet
    background.
    """

    fixed: Volume
    moving: Volume
    mask: BoolArray | None
    """Where the fixed volume counts; None for everywhere."""
    centre_mm: FloatArray
    """Centre of rotation and scaling, in the fixed volume's RAS."""

    def refine_similarity(self, start: FloatArray, settings: DescentSettings) -> FloatArray:
        """Refine rotation, shift and one scale of `moving_from_fixed`.

        A pose that ITK cannot work with (no overlap, a constant image) is returned as it is; so below.
        """
        import SimpleITK as sitk  # noqa: N813

        return self._refine(sitk.Similarity3DTransform(), start, settings)

    def refine_pose(self, start: FloatArray, settings: DescentSettings) -> FloatArray:
        """Refine rotation and shift; the scale of `start` stays."""
        import SimpleITK as sitk  # noqa: N813

        return self._refine(sitk.Similarity3DTransform(), start, settings, weights=_WITHOUT_SCALE)

    def refine_affine(self, start: FloatArray, settings: DescentSettings) -> FloatArray:
        """Refine all twelve parameters."""
        import SimpleITK as sitk  # noqa: N813

        return self._refine(sitk.AffineTransform(3), start, settings)

    def _refine(
        self, transform: Any, start: FloatArray, settings: DescentSettings, weights: tuple[float, ...] = ()
    ) -> FloatArray:
        _set_matrix(transform, start, self.centre_mm)
        method = self._method(settings)
        method.SetOptimizerWeights(weights)
        method.SetInitialTransform(transform, True)
        try:
            method.Execute(from_volume(self.fixed), from_volume(self.moving))
        except RuntimeError:  # ITK found no overlap, or nothing but one value
            return start
        return _matrix(transform)

    def _method(self, settings: DescentSettings) -> Any:
        import SimpleITK as sitk  # noqa: N813

        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(settings.bins)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            settings.learning_rate, settings.minimum_step, settings.iterations
        )
        method.SetOptimizerScalesFromPhysicalShift()
        if settings.share < 1:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(settings.share, SEED)
        if self.mask is not None:
            mask = from_volume(Volume(self.mask.astype(np.float32), self.fixed.affine))
            method.SetMetricFixedMask(sitk.Cast(mask, sitk.sitkUInt8))
        return method


def _set_matrix(transform: Any, moving_from_fixed: FloatArray, centre_mm: FloatArray) -> None:
    lps = lps_from_ras(moving_from_fixed)
    centre = centre_mm * (-1, -1, 1)
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation((apply(lps, centre) - centre).tolist())


def _matrix(transform: Any) -> FloatArray:
    lps = np.eye(4)
    lps[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    lps[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return lps_from_ras(lps)
