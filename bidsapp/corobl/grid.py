"""The CorObl grids, the template space that they hang on, and the one place where left becomes right.

All coordinates are RAS millimetres. Geometry as in HippUnfold's CIT168 resources (DeKraker et al. 2022):
the CorObl space is the CIT168 T1w space pitched by 36 degrees, so that the coronal plane cuts the long
axis of the hippocampus at a right angle.
"""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np

from bidsapp.arrays import FloatArray
from bidsapp.records import Side

SPACING_MM = 0.3
VOXEL_VOLUME_MM3 = SPACING_MM**3
SHAPE = (128, 256, 128)
ALIGNED_CODE = 2
"""NIfTI code of coordinates that are aligned to something else: here, to the CIT168 template."""


@dataclass(frozen=True)
class Grid:
    """A crop's voxels: axis-aligned in CorObl RAS.

    Attributes
    ----------
    origin_mm
        CorObl RAS coordinates of the centre of voxel (0, 0, 0).
    step_mm
        Signed step along R, A and S from one voxel to the next.
    shape
        Number of voxels along R, A and S.
    """

    origin_mm: tuple[float, float, float]
    step_mm: tuple[float, float, float]
    shape: tuple[int, int, int] = SHAPE

    @property
    def affine(self) -> FloatArray:
        """The (4, 4) matrix from voxel indices to CorObl RAS millimetres."""
        affine = np.diag([*self.step_mm, 1.0])
        affine[:3, 3] = self.origin_mm
        return affine


GRIDS: dict[Side, Grid] = {
    "L": Grid((-2.3, -51.1, -32.7), (-SPACING_MM, SPACING_MM, SPACING_MM)),
    "R": Grid((41.5, -50.5, -31.5), (-SPACING_MM, SPACING_MM, SPACING_MM)),
}
"""The crops as in the head: axis 0 runs from right to left on both sides."""

LEFT_FLIPPED_GRID = Grid((-40.4, -51.1, -32.7), (SPACING_MM, SPACING_MM, SPACING_MM))
"""The left crop with axis 0 reversed, which looks like a right one; its header still tells the truth."""

_COS_PITCH, _SIN_PITCH = 0.809017, 0.587785

TEMPLATE_FROM_COROBL: FloatArray = np.array(
    [
        [1.0, 0.0, 0.0, 0.0],
        [0.0, _COS_PITCH, _SIN_PITCH, -4.36795],
        [0.0, -_SIN_PITCH, _COS_PITCH, -9.04318],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""CorObl RAS -> CIT168 RAS, with the digits of HippUnfold's CoronalOblique_rigid.txt."""


def crop_image(data: np.ndarray, side: Side) -> nib.Nifti1Image:
    """Give an array of shape `SHAPE`, as in the head, the header of its side's CorObl grid.

    Raises
    ------
    ValueError
        When the array has another shape.
    """
    grid = GRIDS[side]
    if data.shape != grid.shape:
        raise ValueError(f"a CorObl crop has shape {grid.shape}, not {data.shape}")
    return _image(data, grid.affine)


def reverse_axis_0(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Reverse axis 0 of the array and describe it truthfully: every voxel keeps its place in the head.

    A left crop becomes the array that the network sees (`LEFT_FLIPPED_GRID`); doing it twice gives the
    input back. Data type and header fields other than the geometry are kept.
    """
    reverse = np.diag([-1.0, 1.0, 1.0, 1.0])
    reverse[0, 3] = image.shape[0] - 1
    affine = np.round(image.affine @ reverse, 9)
    flipped = nib.Nifti1Image(np.asanyarray(image.dataobj)[::-1], affine, image.header)
    flipped.set_sform(affine, int(image.header["sform_code"]))
    flipped.set_qform(affine, int(image.header["qform_code"]))
    return flipped


def _image(data: np.ndarray, affine: FloatArray) -> nib.Nifti1Image:
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, ALIGNED_CODE)
    image.set_qform(affine, ALIGNED_CODE)
    return image
