"""The grids that new crops are made on, and the template space that they hang on.

All coordinates are RAS millimetres. Geometry as in HippUnfold's CIT168 resources (DeKraker et al. 2022):
the CorObl space is the CIT168 T1w space pitched by 36 degrees, so that the coronal plane cuts the long
axis of the hippocampus at a right angle.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from bidsapp.arrays import FloatArray
from bidsapp.images.grids import Grid, straighten
from bidsapp.images.volumes import Volume, read_grid, read_volume
from bidsapp.images.writing import new_image
from bidsapp.records import Side

SPACING_MM = 0.3
SHAPE = (128, 256, 128)

_ORIGIN_DECIMALS = 4


def _grid(origin_mm: tuple[float, float, float]) -> Grid:
    """The crop whose voxel (0, 0, 0) is centred at these CorObl RAS coordinates."""
    affine = np.diag([-SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = origin_mm
    affine.setflags(write=False)
    return Grid(SHAPE, affine)


GRIDS: dict[Side, Grid] = {"L": _grid((-2.3, -51.1, -32.7)), "R": _grid((41.5, -50.5, -31.5))}
"""Of crops that are made anew, as in the head: axis 0 runs from right to left on both sides.

The grid of a crop that is there is read from its header (`read_crop_grid`)."""

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


def read_crop_grid(path: Path) -> Grid:
    """Read where the voxels of a crop are, from its header, without the noise of the header's single precision.

    Raises as `read_grid` does.
    """
    return without_noise(read_grid(path, "any"))


def read_crop(path: Path) -> Volume:
    """Read a crop in single precision, on the grid that `read_crop_grid` gives; raises as `read_volume` does."""
    volume = read_volume(path, "any", np.float32)
    return Volume(volume.data, without_noise(volume.grid).affine)


def without_noise(grid: Grid) -> Grid:
    """The grid of a crop without the noise of a header's single precision."""
    affine = straighten(grid.affine)
    affine[:3, 3] = np.round(affine[:3, 3], _ORIGIN_DECIMALS)
    return Grid(grid.shape, affine)


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
    return new_image(data, grid.affine)
