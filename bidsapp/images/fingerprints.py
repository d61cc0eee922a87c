"""Fingerprints of images on disk: of their bytes, and of their voxels and affine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bidsapp.content import file_sha256, image_sha256
from bidsapp.images.headers import read_geometry
from bidsapp.images.nifti import read_nifti


def read_image(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read voxels, (i, j, k) in single precision, and the (4, 4) affine; a single fourth dimension is dropped.

    Raises
    ------
    NoInputError
        When there is no such file.
    BadDataError
        When it is damaged or no image.
    """
    header, data = read_nifti(path, np.float32)
    return data.astype(np.float32, copy=False), read_geometry(header, path).affine


def read_image_sha256(path: Path) -> str:
    """Fingerprint of voxels and affine of a file; raises as `read_image`."""
    return image_sha256(*read_image(path))


def is_same_image(path: Path, *, bytes_sha256: str, voxels_sha256: str) -> bool:
    """Tell whether a file holds the voxels and affine of a fingerprint; equal bytes need no reading of voxels.

    Raises as `read_image`.
    """
    return file_sha256(path) == bytes_sha256 or read_image_sha256(path) == voxels_sha256
