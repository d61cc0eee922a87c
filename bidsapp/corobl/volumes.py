"""Images in memory: an array with its voxel-to-RAS matrix, read from NIfTI files of real life."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from bidsapp.arrays import FloatArray, IntArray
from bidsapp.corobl.headers import AffineSource, read_geometry
from bidsapp.errors import BadDataError, NoInputError

EXTENT_MM = (15.0, 1000.0)
"""Least and greatest extent of an image along an axis: less cannot hold a hippocampus, more is no scanner."""

_LFS_MARK = b"version https://git-lfs"
_GET_IT = "Fetch its content (`git lfs pull`, `datalad get`), or copy the file again."


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
    affine
        As in `FileVolume`.
    """

    shape: tuple[int, int, int]
    affine: FloatArray
    header: nib.Nifti1Header


def read_grid(path: Path) -> FileGrid:
    """Read where the voxels of a file are, from its header alone; raises as `read_volume` does."""
    image = _open(path)
    _refuse_other_contents(image, path)
    i, j, k = image.shape[:3]
    return FileGrid((i, j, k), read_geometry(image.header, path).affine, image.header)


def read_volume(path: Path) -> FileVolume:
    """Read a three-dimensional NIfTI file; scaling is applied, values that are not finite become 0.

    Raises
    ------
    NoInputError
        When there is no such file (or a link to content that was never fetched).
    BadDataError
        When the file is a git-LFS pointer, truncated, not NIfTI, holds colours or complex numbers, several
        volumes, a matrix that cannot be inverted, or an extent that no head has.
    """
    image = _open(path)
    _refuse_other_contents(image, path)
    geometry = read_geometry(image.header, path)
    _refuse_odd_extents(image, geometry.affine, path)
    data = _read_data(image, path)
    bad = ~np.isfinite(data)
    treated = int(np.count_nonzero(bad))
    warnings = list(geometry.warnings)
    if treated:
        data[bad] = 0
        warnings.append(f"{treated} voxels are not numbers (NaN or infinite) and were set to 0")
    return FileVolume(
        data, geometry.affine, path, image.header, geometry.source, geometry.disagreement_mm, tuple(warnings)
    )


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


def label_image_like(labels: np.ndarray, header: nib.Nifti1Header) -> nib.Nifti1Image:
    """Put integer labels of shape (i, j, k) on exactly the grid of `header`: same codes, matrices and units.

    Values are stored as uint8 when they fit, else uint16; scaling, display window and extensions go.
    """
    header = header.copy()
    header.extensions.clear()
    header.set_data_shape(labels.shape)
    header.set_data_dtype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    return nib.Nifti1Image(labels.astype(header.get_data_dtype()), None, header)


def require_content(path: Path) -> None:
    """Refuse a file that is not there, cannot be opened, or holds something in the place of its content.

    Raises
    ------
    NoInputError
        When there is no such file (or a link to content that was never fetched).
    BadDataError
        When it is a folder, a git-LFS pointer, empty, or may not be read.
    """
    if not path.exists():
        raise NoInputError(f"{path} does not exist", _GET_IT if path.is_symlink() else "")
    try:
        with path.open("rb") as stream:
            start = stream.read(len(_LFS_MARK))
    except OSError as error:
        raise BadDataError(f"{path} cannot be read: {error.strerror}", "Check its permissions.") from error
    if start == _LFS_MARK:
        raise BadDataError(f"{path} is a git-LFS pointer, not an image", _GET_IT)
    if not start:
        raise BadDataError(f"{path} is empty (0 bytes)", _GET_IT)


def _open(path: Path) -> nib.Nifti1Image:
    require_content(path)
    try:
        image = nib.load(path)
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError) as error:
        raise BadDataError(f"{path} cannot be read as NIfTI: {error}", _GET_IT) from error
    if not isinstance(image, nib.Nifti1Image | nib.Nifti1Pair):
        raise BadDataError(f"{path} is {type(image).__name__}, not NIfTI", "Convert it to .nii.gz.")
    return image


def _read_data(image: nib.Nifti1Image, path: Path) -> FloatArray:
    try:
        data = image.get_fdata(dtype=np.float32, caching="unchanged")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise BadDataError(f"{path} is truncated or damaged: {error}", _GET_IT) from error
    return np.array(data.reshape(image.shape[:3]))


def _refuse_other_contents(image: nib.Nifti1Image, path: Path) -> None:
    shape, dtype = image.shape, image.get_data_dtype()
    if dtype.kind not in "iufb":
        raise BadDataError(f"{path} holds values of type {dtype}", "Save one number per voxel.")
    if len(shape) < 3 or min(shape) < 1:
        raise BadDataError(f"{path} has shape {shape}, not three dimensions", "Give a three-dimensional image.")
    if np.prod(shape[3:], dtype=int) != 1:
        raise BadDataError(
            f"{path} has shape {shape}: several volumes",
            "Extract or average to one volume (`fslroi`, `mri_convert`).",
        )


def _refuse_odd_extents(image: nib.Nifti1Image, affine: FloatArray, path: Path) -> None:
    extents = np.linalg.norm(affine[:3, :3], axis=0) * image.shape[:3]
    if extents.min() < EXTENT_MM[0] or extents.max() > EXTENT_MM[1]:
        raise BadDataError(
            f"{path} is {' x '.join(f'{extent:.1f}' for extent in extents)} mm large: no human head",
            "Check the voxel sizes in the header: they must be in millimetres.",
        )
