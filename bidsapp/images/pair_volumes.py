"""Read NIfTI volumes so that every kind of damage has a name, and put their geometry in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
from nibabel.affines import from_matvec
from numpy.typing import NDArray

from bidsapp.errors import BadDataError, HippoTuneError
from bidsapp.images.grids import bring_to_grid, greatest_distance_mm
from bidsapp.images.headers import read_geometry, spacing_problem
from bidsapp.images.nifti import is_compressed, read_nifti, read_nifti_header

Array = NDArray[Any]
Affine = NDArray[np.float64]

SPACING_DECIMALS = 5
"""Spacings are rounded to 1e-5 mm: noise of 1e-7 between axes changes nnU-Net's choice of axis order."""

_LARGEST_SHEAR = np.sin(np.radians(0.1))


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
        When the file cannot be read as one volume of numbers (see `read_nifti`), is not what its suffix
        says, or its affine is singular, not finite, sheared, or of voxels that cannot be.
    """
    with _as_volume_error(path):
        _require_honest_suffix(path)
        header, array = read_nifti(path)
        grid = Grid(tuple(array.shape), _checked_affine(path, header))
    return Volume(array, grid)


def read_grid(path: Path) -> Grid:
    """Read the header alone; raises as `read_volume` does, but for what is wrong behind the header."""
    with _as_volume_error(path):
        _require_honest_suffix(path)
        header = read_nifti_header(path)
        return Grid(tuple(int(length) for length in header.get_data_shape()[:3]), _checked_affine(path, header))


def straighten(affine: Affine) -> Affine:
    """Give the affine spacings rounded to 1e-5 mm and the nearest orthonormal directions; the origin stays.

    Headers store single precision, and SimpleITK refuses directions that are not orthonormal.
    """
    norms = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / norms)
    scaled = (left @ right) * np.round(norms, SPACING_DECIMALS)
    return cast(Affine, from_matvec(scaled + 0.0, affine[:3, 3]))


def turn_to(volume: Volume, grid: Grid, *, tolerance_mm: float) -> Volume:
    """Bring a volume whose voxels lie on `grid` to the grid's order of axes, exactly; any other stays as it is."""
    turned = bring_to_grid(volume.array, volume.grid.affine, grid.shape, grid.affine, tolerance_mm=tolerance_mm)
    return volume if turned is None or turned is volume.array else Volume(turned, grid)


def grid_distance_mm(first: Grid, second: Grid) -> float:
    """Largest distance in mm between the same corner voxel of two grids of one shape."""
    return greatest_distance_mm(first.shape, first.affine, second.affine)


@contextmanager
def _as_volume_error(path: Path) -> Iterator[None]:
    try:
        yield
    except VolumeError:
        raise
    except HippoTuneError as error:
        raise VolumeError(path, error.message.removeprefix(str(path)).lstrip(": "), error.hint) from error


def _require_honest_suffix(path: Path) -> None:
    compressed = is_compressed(path)
    if compressed and not path.name.endswith(".gz"):
        raise VolumeError(path, "is compressed with gzip", "Rename it to end in .nii.gz.")
    if path.name.endswith(".gz") and not compressed:
        raise VolumeError(path, "is not compressed with gzip", "If it is a plain NIfTI file, name it .nii.")


def _checked_affine(path: Path, header: nibabel.Nifti1Header) -> Affine:
    """Where the voxels lie: nothing is guessed, as what a network learns by must be true."""
    geometry = read_geometry(header, path)
    affine = np.array(geometry.affine, dtype=np.float64)
    if geometry.source == "pixdim" and (header["sform_code"] > 0 or header["qform_code"] > 0):
        raise VolumeError(path, "has a sform or qform that cannot be used", "Save it again with a true geometry.")
    problem = spacing_problem(affine)
    if problem:
        raise VolumeError(path, problem, "Voxel sizes are in mm, or the header names their unit (xyzt_units).")
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    shear = np.abs(directions.T @ directions - np.eye(3)).max()
    if shear > _LARGEST_SHEAR:
        angle = 90 - np.degrees(np.arcsin(min(shear, 1.0)))
        problem = f"has a sheared affine: two axes meet at {angle:.1f} degrees"
        raise VolumeError(path, problem, "Resample the pair onto a grid with right angles.")
    return affine
