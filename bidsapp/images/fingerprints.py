"""Fingerprints of images on disk: of their voxels and affine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bidsapp.content import image_sha256
from bidsapp.images.volumes import read_volume


def read_image_sha256(path: Path) -> str:
    """Fingerprint of voxels and affine of a file; raises as `read_volume` does."""
    volume = read_volume(path, "any", np.float32)
    return image_sha256(volume.data, volume.affine)
