"""Images in memory: an array with its voxel-to-RAS matrix, read from NIfTI files of real life."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from bidsapp.arrays import FloatArray, IntArray
from bidsapp.errors import BadDataError
from bidsapp.images.headers import AffineSource, Geometry, read_geometry, spacing_problem
from bidsapp.images.nifti import foresee_nifti, read_nifti, read_nifti_header

EXTENT_MM = (15.0, 1000.0)
"""Least and greatest extent of an image along an axis: less cannot hold a hippocampus, more is no scanner."""

_SCANNER_CODE = 1
_CHECK_SIZES = "Check the voxel sizes in the header: they must be in millimetres."


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar image.

    Attributes
    ----------
    data
        float32 array of shape (i, j, k), in the file's own axis order.
    affine
        (4, 4) matrix from voxel indices (centres) to RAS millimetres; any invertible one, shears included.
    """

    data: FloatArray
    affine: FloatArray

    @property
    def spacing_mm(self) -> FloatArray:
        """Distance between neighbouring voxel centres along each array axis."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def centre_mm(self) -> FloatArray:
        """RAS coordinates of the middle of the field of view."""
        middle = (np.array(self.data.shape) - 1) / 2
        return self.affine[:3, :3] @ middle + self.affine[:3, 3]


@dataclass(frozen=True, eq=False)
class FileVolume(Volume):
    """A `Volume` that was read from a NIfTI file.

    Attributes
    ----------
    path
        The file.
    header
        The file's header, untouched.
    affine_source
        Which field of the header `affine` comes from.
    disagreement_mm
        Greatest distance between the places that qform and sform give a corner; None unless both are set.
    warnings
        In words: everything about the file that was treated or that a person should know.
    """

    path: Path
    header: nib.Nifti1Header
    affine_source: AffineSource
    disagreement_mm: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FileGrid:
    """Where the voxels of a file are.

    Attributes
    ----------
    shape
        Of the volume, (i, j, k); a fourth dimension of one volume is left out.
    """

    shape: tuple[int, int, int]
    geometry: Geometry
    header: nib.Nifti1Header


def read_grid(path: Path) -> FileGrid:
    """Read where the voxels of a file are, from its header alone; raises as `read_volume` does."""
    header = read_nifti_header(path)
    i, j, k = header.get_data_shape()[:3]
    return FileGrid((i, j, k), _read_geometry(header, path), header)


def foresee_volume(path: Path) -> None:
    """Raise what `read_volume` would, without reading the whole file where its size fits its header."""
    read_grid(path)
    foresee_nifti(path)


def read_volume(path: Path) -> FileVolume:
    """Read a three-dimensional NIfTI file; scaling is applied, values that are not finite become 0.

    Raises
    ------
    NoInputError
        When there is no such file (or a link to content that was never fetched).
    BadDataError
        When the file cannot be read as one volume of numbers (see `read_nifti`), or gives a matrix that
        cannot be inverted, voxel sizes that cannot be, or an extent that no head has.
    """
    _read_geometry(read_nifti_header(path), path)
    header, values = read_nifti(path, np.float32)
    geometry = _read_geometry(header, path)
    data = np.array(values)
    bad = ~np.isfinite(data)
    treated = int(np.count_nonzero(bad))
    warnings = list(geometry.warnings)
    if treated:
        data[bad] = 0
        warnings.append(f"{treated} voxels are not numbers (NaN or infinite) and were set to 0")
    return FileVolume(data, geometry.affine, path, header, geometry.source, geometry.disagreement_mm, tuple(warnings))


def as_labels(volume: FileVolume) -> IntArray:
    """Return the values of a label map as integers, whatever type the file stored them in.

    Raises
    ------
    BadDataError
        When a value is negative or not whole.
    """
    labels = np.rint(volume.data).astype(np.int32)
    wrong = (np.abs(volume.data - labels) > 1e-3) | (labels < 0)
    if wrong.any():
        raise BadDataError(
            f"{volume.path} is not a label map: it holds the value {volume.data[wrong][0]:g}",
            "Label values are whole numbers from 0 up; save it again without interpolation.",
        )
    return labels


def label_image_like(labels: np.ndarray, grid: FileGrid) -> nib.Nifti1Image:
    """Put integer labels of shape (i, j, k) on exactly the grid of a file: same codes, matrices and units.

    Values are stored as uint8 when they fit, else uint16; scaling, display window and extensions go. Where a matrix
    of the file could not be used, both forms hold the one that was, under its code, so that no program reads another.
    """
    header = grid.header.copy()
    header.extensions.clear()
    header.set_data_shape(labels.shape)
    header.set_data_dtype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    used = grid.geometry
    if not used.as_written:
        code = int(header[f"{used.source}_code"]) if used.source != "pixdim" else _SCANNER_CODE
        header.set_xyzt_units("mm")
        header.set_sform(used.affine, code)
        header.set_qform(used.affine, code)
    return nib.Nifti1Image(labels.astype(header.get_data_dtype()), None, header)


def _read_geometry(header: nib.Nifti1Header, path: Path) -> Geometry:
    """Where the voxels are; refuses voxels and extents that cannot be."""
    geometry = read_geometry(header, path)
    problem = spacing_problem(geometry.affine)
    if problem:
        raise BadDataError(f"{path} {problem}", _CHECK_SIZES)
    extents = np.linalg.norm(geometry.affine[:3, :3], axis=0) * header.get_data_shape()[:3]
    if extents.min() < EXTENT_MM[0] or extents.max() > EXTENT_MM[1]:
        shown = " x ".join(f"{extent:.1f}" for extent in extents)
        raise BadDataError(f"{path} is {shown} mm large: no human head", _CHECK_SIZES)
    return geometry
