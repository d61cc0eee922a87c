"""The border to SimpleITK, which knows LPS, (k, j, i) arrays and right-angled axes only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from bidsapp.images.volumes import Volume

if TYPE_CHECKING:
    import SimpleITK


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let ITK use this many threads inside the block; with one, its results are the same to the last bit.

    ITK's metrics ask for the number of the whole process only, not for that of the object that uses them.
    """
    import SimpleITK as sitk  # noqa: N813

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def from_volume(volume: Volume) -> SimpleITK.Image:
    """Copy a volume whose axes are R, A and S to a float32 image.

    Raises
    ------
    ValueError
        When the axes are others: bring the volume to such a grid first
        (`bidsapp.corobl.levels.to_isotropic`).
    """
    import SimpleITK as sitk  # noqa: N813

    linear = volume.affine[:3, :3]
    if not np.allclose(linear, np.diag(volume.spacing_mm)):
        raise ValueError(f"the axes of the volume are not R, A, S: {linear.tolist()}")
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.data.transpose(), dtype=np.float32))
    image.SetSpacing(volume.spacing_mm.tolist())
    image.SetOrigin((volume.affine[:3, 3] * (-1, -1, 1)).tolist())
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image
