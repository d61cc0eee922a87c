"""Small training folders: 5 x 6 x 7 voxels, anisotropic and oblique unless a test says otherwise."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

SHAPE = (5, 6, 7)
# spacing 0.8 x 1.1 x 1.3 mm, rotated about the x axis so that sine and cosine are 0.6 and 0.8
OBLIQUE = np.array([[-0.8, 0, 0, 10.5], [0, 0.88, -0.78, -20.25], [0, 0.66, 1.04, 3.75], [0, 0, 0, 1]])


class TrainingFolder:
    """Writes files of pairs below `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def write(self, name: str, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
        nibabel.save(nibabel.Nifti1Image(array, affine), self.path / name)
        return self.path / name

    def image(self, name: str, affine: np.ndarray = OBLIQUE, shape: tuple[int, ...] = SHAPE) -> Path:
        """An image of noise that depends on the file's name alone."""
        noise = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
        return self.write(name, noise.astype(np.float32), affine)

    def label(self, name: str, affine: np.ndarray = OBLIQUE, shape: tuple[int, ...] = SHAPE) -> Path:
        """One voxel of 1 at (1, 2, 3), two of 2 beside it."""
        array = np.zeros(shape, np.uint8)
        array[1, 2, 3] = 1
        array[1, 2, 4:6] = 2
        return self.write(name, array, affine)

    def pair(self, case: str, affine: np.ndarray = OBLIQUE, shape: tuple[int, ...] = SHAPE) -> None:
        self.image(f"{case}_img.nii.gz", affine, shape)
        self.label(f"{case}_lbl.nii.gz", affine, shape)


@pytest.fixture
def folder(tmp_path: Path) -> TrainingFolder:
    return TrainingFolder(tmp_path / "training set")
