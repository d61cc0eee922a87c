"""Images in memory, and the one reader of NIfTI files, as strict as its caller needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bidsapp.arrays import Array, FloatArray
from bidsapp.errors import BadDataError, HippoTuneError
from bidsapp.images.grids import Grid
from bidsapp.images.headers import FileGrid, file_grid, spacing_problem
from bidsapp.images.nifti import OpenNifti, open_nifti

Strictness = Literal["any", "scan", "pair"]
"""What a file must be.

``any``
    One volume of numbers that has a place in space: our own files, and labels that people return.
``scan``
    Of a head: possible voxels and a possible extent. Values that are not finite become 0 and are counted.
``pair``
    For training: nothing in the header is guessed, voxels are possible and have right angles, and the suffix says
    whether the file is compressed. What is wrong is raised as `VolumeError`.
"""

EXTENT_MM = (15.0, 1000.0)
"""Least and greatest extent of a scan along an axis: less cannot hold a hippocampus, more is no scanner."""

_CHECK_SIZES = "Check the voxel sizes in the header: they must be in millimetres."
_LARGEST_SHEAR = np.sin(np.radians(0.1))


class VolumeError(BadDataError):
    """A file of a training pair cannot be used."""

    def __init__(self, path: Path, problem: str, hint: str = "") -> None:
        super().__init__(f"{path} {problem}", hint)
        self.problem = problem
        """What is wrong, without the file's name: "is a folder"."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional image of one number per voxel."""

    data: Array
    """Shape (i, j, k), scaling applied, in the file's own order of axes."""
    affine: FloatArray
    """(4, 4) matrix from voxel indices (centres) to RAS millimetres; any invertible one, also a sheared one."""

    @property
    def grid(self) -> Grid:
        """Where the voxels are."""
        return Grid(self.data.shape, self.affine)

    @property
    def spacing_mm(self) -> FloatArray:
        """Distance between neighbouring voxel centres along each axis of the array, shape (3,)."""
        return self.grid.spacing_mm

    @property
    def centre_mm(self) -> FloatArray:
        """RAS coordinates of the middle of the field of view."""
        return self.grid.centre_mm


@dataclass(frozen=True, eq=False)
class FileVolume(Volume):
    """A `Volume` that was read from a file."""

    file: FileGrid
    """The same grid, with what else the header says."""


def read_volume(path: Path, strictness: Strictness, dtype: type[np.floating[Any]] | None = None) -> FileVolume:
    """Read a NIfTI file of one volume, its gzip checksum included.

    Parameters
    ----------
    dtype
        Of the data; scaling is computed in it. None: single precision for a scan; else that of the file where nothing
        is scaled, and double precision where something is.

    Raises
    ------
    NoInputError
        When there is no such file, or a link to content that was never fetched.
    BadDataError
        When it is not what `strictness` asks for, or cannot be read (see `open_nifti`).
    VolumeError
        In place of both where `strictness` is ``pair``.
    """
    if dtype is None and strictness == "scan":
        dtype = np.float32
    with _opened(path, strictness) as file:
        grid = _checked_grid(file, strictness)
        data = file.read_values(dtype)
    if dtype is not None:
        data = data.astype(dtype, copy=False)
    if strictness == "scan":
        data, grid = _without_infinite_values(data, grid)
    return FileVolume(data, grid.affine, grid)


def read_grid(path: Path, strictness: Strictness) -> FileGrid:
    """Read a header alone; raises as `read_volume` does, but for what is wrong behind the header."""
    with _opened(path, strictness) as file:
        return _checked_grid(file, strictness)


def foresee_scan(path: Path) -> None:
    """Raise what `read_volume` would for a scan, without reading all of it where its size fits its header."""
    with _opened(path, "scan") as file:
        _checked_grid(file, "scan")
        file.foresee_values()


@contextmanager
def _opened(path: Path, strictness: Strictness) -> Iterator[OpenNifti]:
    try:
        with open_nifti(path) as file:
            yield file
    except HippoTuneError as error:
        if strictness != "pair" or isinstance(error, VolumeError):
            raise
        raise VolumeError(path, error.message.removeprefix(str(path)).lstrip(": "), error.hint) from error


def _checked_grid(file: OpenNifti, strictness: Strictness) -> FileGrid:
    if strictness == "pair":
        _require_honest_suffix(file)
    grid = file_grid(file.header, file.path, compressed=file.compressed)
    if strictness == "scan":
        _require_possible_head(grid, file.path)
    elif strictness == "pair":
        _require_true_geometry(grid, file.path)
    return grid


def _without_infinite_values(data: Array, grid: FileGrid) -> tuple[Array, FileGrid]:
    finite = np.isfinite(data)
    bad = data.size - int(np.count_nonzero(finite))
    if not bad:
        return data, grid
    warning = f"{bad} voxels are not numbers (NaN or infinite) and were set to 0"
    return np.where(finite, data, np.float32(0)), replace(grid, warnings=(*grid.warnings, warning))


def _require_possible_head(grid: FileGrid, path: Path) -> None:
    problem = spacing_problem(grid.affine)
    if problem:
        raise BadDataError(f"{path} {problem}", _CHECK_SIZES)
    extents = grid.spacing_mm * grid.shape
    if extents.min() < EXTENT_MM[0] or extents.max() > EXTENT_MM[1]:
        shown = " x ".join(f"{extent:.1f}" for extent in extents)
        raise BadDataError(f"{path} is {shown} mm large: no human head", _CHECK_SIZES)


def _require_honest_suffix(file: OpenNifti) -> None:
    if file.compressed and not file.path.name.endswith(".gz"):
        raise VolumeError(file.path, "is compressed with gzip", "Rename it to end in .nii.gz.")
    if file.path.name.endswith(".gz") and not file.compressed:
        raise VolumeError(file.path, "is not compressed with gzip", "If it is a plain NIfTI file, name it .nii.")


def _require_true_geometry(grid: FileGrid, path: Path) -> None:
    """Refuse what would have to be guessed: a network must not learn from it."""
    if grid.source == "pixdim" and (grid.header["sform_code"] > 0 or grid.header["qform_code"] > 0):
        raise VolumeError(path, "has a sform or qform that cannot be used", "Save it again with a true geometry.")
    problem = spacing_problem(grid.affine)
    if problem:
        raise VolumeError(path, problem, "Voxel sizes are in mm, or the header names their unit (xyzt_units).")
    directions = grid.affine[:3, :3] / grid.spacing_mm
    shear = np.abs(directions.T @ directions - np.eye(3)).max()
    if shear > _LARGEST_SHEAR:
        angle = 90 - np.degrees(np.arcsin(min(shear, 1.0)))
        problem = f"has a sheared affine: two axes meet at {angle:.1f} degrees"
        raise VolumeError(path, problem, "Resample the pair onto a grid with right angles.")
