"""Read NIfTI volumes so that every kind of damage has a name, and put their geometry in order."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
from nibabel.affines import apply_affine, from_matvec
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from bidsapp.errors import BadDataError

Array = NDArray[Any]
Affine = NDArray[np.float64]

SPACING_DECIMALS = 5
"""Spacings are rounded to 1e-5 mm: noise of 1e-7 between axes changes nnU-Net's choice of axis order."""

_NIFTI_CLASSES = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}
_LARGEST_SHEAR = np.sin(np.radians(0.1))
_SMALLEST_SPACING_MM = 1e-4
_DAMAGE = (
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    TypeError,
)


class VolumeError(BadDataError):
    """One file cannot be used as a volume.

    Attributes
    ----------
    problem
        What is wrong, without the file's name: "is a folder".
    """

    def __init__(self, path: Path, problem: str, hint: str = "") -> None:
        super().__init__(f"{path} {problem}", hint)
        self.problem = problem


@dataclass(frozen=True)
class Grid:
    """Where voxels lie.

    Attributes
    ----------
    shape
        Number of voxels along the axes of the array.
    affine
        4 x 4, voxel index -> RAS mm, as the header says it (sform before qform).
    """

    shape: tuple[int, ...]
    affine: Affine

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance in mm between voxel centres along each axis."""
        return tuple(float(edge) for edge in np.linalg.norm(self.affine[:3, :3], axis=0))


@dataclass(frozen=True)
class Volume:
    """A three-dimensional array of numbers, scaling applied, axes in the file's order; and its grid."""

    array: Array
    grid: Grid


def read_volume(path: Path) -> Volume:
    """Read and check the whole file, its gzip checksum included.

    Raises
    ------
    VolumeError
        When the file is missing, not readable, not what its suffix says, damaged, truncated, not 3D, not one
        number per voxel, or its affine is singular, not finite or sheared.
    """
    content = _unpack(path, _read_bytes(path))
    image = _open_image(path, content)
    grid = _checked_grid(path, image.header)
    try:
        array = np.asanyarray(image.dataobj)
    except _DAMAGE as error:
        raise VolumeError(path, f"is damaged or truncated: {error}") from error
    if array.dtype.kind not in "iuf":
        raise VolumeError(path, f"holds {array.dtype} values, not one number per voxel")
    return Volume(array, grid)


def straighten(affine: Affine) -> Affine:
    """Give the affine spacings rounded to 1e-5 mm and the nearest orthonormal directions; the origin stays.

    Headers store single precision, and SimpleITK refuses directions that are not orthonormal.
    """
    norms = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / norms)
    scaled = (left @ right) * np.round(norms, SPACING_DECIMALS)
    return cast(Affine, from_matvec(scaled + 0.0, affine[:3, 3]))


def flip_volume(volume: Volume) -> Volume:
    """Reverse axis 0 of the array and say so in the affine: every voxel stays where it was in the head."""
    reverse = np.diag([-1.0, 1.0, 1.0, 1.0])
    reverse[0, 3] = volume.array.shape[0] - 1
    return Volume(volume.array[::-1], Grid(volume.grid.shape, volume.grid.affine @ reverse + 0.0))


def grid_distance_mm(first: Grid, second: Grid) -> float:
    """Largest distance in mm between the same corner voxel of two grids of one shape."""
    corners = list(product(*((0, length - 1) for length in first.shape)))
    gaps = apply_affine(first.affine, corners) - apply_affine(second.affine, corners)
    return float(np.linalg.norm(gaps, axis=1).max())


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        hint = "With git-annex or DataLad, fetch the content first: datalad get." if path.is_symlink() else ""
        problem = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise VolumeError(path, problem, hint) from error
    except IsADirectoryError as error:
        raise VolumeError(path, "is a folder") from error
    except OSError as error:
        raise VolumeError(path, f"cannot be read: {error.strerror}") from error


def _unpack(path: Path, content: bytes) -> bytes:
    if not content:
        raise VolumeError(path, "is empty (0 bytes)")
    if content.startswith(b"version https://git-lfs"):
        raise VolumeError(path, "is a git-LFS pointer, not an image", "Fetch the content first: git lfs pull.")
    compressed = content.startswith(b"\x1f\x8b")
    if not path.name.endswith(".gz"):
        if compressed:
            raise VolumeError(path, "is compressed with gzip", "Rename it to end in .nii.gz.")
        return content
    if not compressed:
        raise VolumeError(path, "is not compressed with gzip", "If it is a plain NIfTI file, name it .nii.")
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise VolumeError(path, f"is a damaged or truncated gzip file: {error}") from error


def _nifti_class(path: Path, content: bytes) -> Any:
    for order in ("little", "big"):
        size = int.from_bytes(content[:4], cast(Any, order))
        if size in _NIFTI_CLASSES:
            return _NIFTI_CLASSES[size]
    raise VolumeError(path, "is not a NIfTI file")


def _open_image(path: Path, content: bytes) -> Any:
    try:
        return _nifti_class(path, content).from_bytes(content)
    except _DAMAGE as error:
        raise VolumeError(path, f"has a damaged header: {error}") from error


def _checked_grid(path: Path, header: Any) -> Grid:
    try:
        grid = Grid(tuple(int(n) for n in header.get_data_shape()), np.array(header.get_best_affine(), float))
    except _DAMAGE as error:
        raise VolumeError(path, f"has a damaged header: {error}") from error
    if len(grid.shape) != 3:
        shape = " x ".join(map(str, grid.shape))
        raise VolumeError(path, f"is {len(grid.shape)}D ({shape}), not 3D", "Save one volume as a 3D file.")
    if min(grid.shape) < 1:
        raise VolumeError(path, f"has no voxels: its shape is {grid.shape}")
    if not np.isfinite(grid.affine).all():
        raise VolumeError(path, "has an affine that is not finite")
    spacing_mm = np.array(grid.spacing_mm)
    if spacing_mm.min() < _SMALLEST_SPACING_MM:
        raise VolumeError(path, f"has voxels of {spacing_mm.min():g} mm in its affine")
    directions = grid.affine[:3, :3] / spacing_mm
    shear = np.abs(directions.T @ directions - np.eye(3)).max()
    if shear > _LARGEST_SHEAR:
        angle = 90 - np.degrees(np.arcsin(min(shear, 1.0)))
        problem = f"has a sheared affine: two axes meet at {angle:.1f} degrees"
        raise VolumeError(path, problem, "Resample the pair onto a grid with right angles.")
    return grid
