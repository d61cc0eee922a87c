"""Fingerprints of images on disk: of their bytes, and of their voxels and affine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bidsapp.content import file_sha256, image_sha256
from bidsapp.images.volumes import read_volume


def read_image_sha256(path: Path) -> str:
    """Fingerprint of voxels and affine of a file; raises as `read_volume` does."""
    volume = read_volume(path, "any", np.float32)
    return image_sha256(volume.data, volume.affine)


def is_same_image(path: Path, *, bytes_sha256: str, voxels_sha256: str) -> bool:
    """Tell whether a file holds the voxels and affine of a fingerprint; equal bytes need no reading of voxels.

    Raises as `read_volume` does.
    """
    return file_sha256(path) == bytes_sha256 or read_image_sha256(path) == voxels_sha256
