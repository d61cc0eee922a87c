"""Bias field correction: N4 (Tustison et al. 2010) on a coarse copy of the head."""

from __future__ import annotations

import numpy as np

from bidsapp.arrays import FloatArray
from bidsapp.corobl.levels import has_negative_signal, to_isotropic
from bidsapp.corobl.simpleitk import from_volume, limited_threads
from bidsapp.corobl.transforms import apply
from bidsapp.images.volumes import Volume

SPACING_MM = 6.0
ITERATIONS = (50, 50, 30, 20)
CONVERGENCE = 1e-6
"""ITK's own .001 stops three times earlier, with a fifth more of the field left."""


def estimate_bias(volume: Volume, *, threads: int = 1) -> Volume | None:
    """Estimate the logarithm of the bias field at 6 mm, on a grid along R, A and S over the field of view.

    A field is smooth: 6 mm gives what 4 mm gives in a third of the time. Outside the head it is kept
    within the values inside, so that nothing is blown up there.

    Returns
    -------
    None when the image has substantial negative values (CT, z-scores) or nothing in it, where N4's
    logarithm has no meaning.
    """
    import SimpleITK as sitk  # noqa: N813

    coarse = to_isotropic(volume, SPACING_MM)
    if has_negative_signal(coarse) or coarse.data.min() == coarse.data.max():
        return None
    image = from_volume(Volume(np.maximum(coarse.data, 0), coarse.affine))
    mask = sitk.OtsuThreshold(image, 0, 1, 200)
    correct = sitk.N4BiasFieldCorrectionImageFilter()
    correct.SetMaximumNumberOfIterations(ITERATIONS)
    correct.SetConvergenceThreshold(CONVERGENCE)
    with limited_threads(threads):
        correct.Execute(image, mask)
        log_field = sitk.GetArrayFromImage(correct.GetLogBiasFieldAsImage(image)).transpose()
    inside = log_field[sitk.GetArrayFromImage(mask).transpose() > 0]
    return Volume(np.clip(log_field, inside.min(), inside.max()), coarse.affine)


def divide_by_bias(data: FloatArray, affine: FloatArray, log_bias: Volume) -> FloatArray:
    """Correct an array of shape (i, j, k), with voxels at `affine`, by a field from `estimate_bias`."""
    from scipy import ndimage

    field_from_data = np.linalg.inv(log_bias.affine) @ affine
    log_field = ndimage.affine_transform(
        log_bias.data,
        field_from_data[:3, :3],
        apply(field_from_data, np.zeros(3)),
        data.shape,
        order=1,
        mode="nearest",
    )
    return data / np.exp(log_field)
