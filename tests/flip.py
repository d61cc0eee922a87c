"""Left crops as the network sees them, made without the code under test."""

from __future__ import annotations

import nibabel as nib
import numpy as np

LEFT_FLIPPED_AFFINE = np.array([[0.3, 0, 0, -40.4], [0, 0.3, 0, -51.1], [0, 0, 0.3, -32.7], [0, 0, 0, 1]])
"""Of the left crop with axis 0 reversed, which looks like a right one; it still says where the voxels are."""


def reverse_axis_0(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Reverse axis 0 of the array and describe it truthfully; twice gives the input back."""
    affine = np.round(image.affine @ np.diag([-1.0, 1, 1, 1]) + 0.0, 9)
    affine[:3, 3] = np.round(image.affine[:3, 3] + (image.shape[0] - 1) * image.affine[:3, 0], 9)
    flipped = nib.Nifti1Image(np.asanyarray(image.dataobj)[::-1], affine, image.header)
    flipped.set_sform(affine, int(image.header["sform_code"]))
    flipped.set_qform(affine, int(image.header["qform_code"]))
    return flipped
