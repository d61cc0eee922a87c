"""Open NIfTI files of strangers: regular files only, whole ones, and never more memory than a file deserves.

`bidsapp.images.volumes` reads all images through this module, and judges what they hold.
"""

from __future__ import annotations

import gzip
import io
import logging
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, cast

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from bidsapp.arrays import Array
from bidsapp.errors import BadDataError, NoInputError
from bidsapp.files import open_file
from bidsapp.machine import available_memory_bytes

MOST_VOXELS = 2**30
"""More than this (1024 x 1024 x 1024) is no head; what asks for them is damaged, or meant to harm."""

_FORMATS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_LARGEST_HEADER = max(_FORMATS)
_SILENT = logging.Logger(f"{__name__}.silent", logging.CRITICAL + 1)
"""Where nibabel says what it mended in a header: it would print that without the file's name."""

_GZIP_MARK = b"\x1f\x8b"
_LFS_MARK = b"version https://git-lfs"
_GET_IT = "Fetch its content (`git lfs pull`, `datalad get`), or copy the file again."
_CONVERT = "Convert it to .nii.gz."
_LENGTH_BYTES = 4
_GREATEST_COMPRESSION = 1032
"""Deflate packs no 1033 bytes into one."""
_MOST_BEHIND_BYTES = 2**24
"""What may follow the voxels: it is unpacked in pieces, for the sake of the checksum alone."""
_PIECE_BYTES = 2**20
_BYTES_PER_VOXEL_AT_WORK = 16
"""Beside the file's content: the values as numbers, and what looks at them."""

_DAMAGE = (
    HeaderDataError,
    WrapStructError,
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    OverflowError,
    TypeError,
    MemoryError,
)
"""What nibabel, numpy and gzip raise for bytes that make no sense."""


class OpenNifti:
    """A NIfTI file that `open_nifti` opened: its header is read and checked, its voxels are not."""

    def __init__(self, path: Path, stream: io.BufferedReader) -> None:
        self.path = path
        self.compressed = _is_gzip(stream)
        """Told by the first bytes, not by the name."""
        self._stream, self._file_bytes = stream, os.fstat(stream.fileno()).st_size
        self._unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if self.compressed else stream
        self._start, self.header = _read_header(path, self._unpacked)

    def read_values(self, dtype: type[np.floating[Any]] | None = None) -> Array:
        """Read the values, shape (i, j, k), scaling applied; once.

        Parameters
        ----------
        dtype
            In which scaling is computed; None: that of the file where nothing is scaled, else double precision.
        """
        _refuse_impossible_size(self.path, self.header, self._file_bytes, compressed=self.compressed)
        needed = _bytes_needed(self.header)
        content = self._start + self._unpacked.read(needed - len(self._start))
        if len(content) < needed:
            raise BadDataError(
                f"{self.path} is damaged or truncated: its header asks for {needed} bytes, "
                f"and {len(content)} are there",
                _GET_IT,
            )
        if self.compressed:
            _read_to_the_end(self.path, self._unpacked)
        values = np.asanyarray(ArrayProxy(io.BytesIO(content), self.header, mmap=False), dtype)
        return values.reshape(values.shape[:3])

    def foresee_values(self) -> None:
        """Raise what `read_values` would, reading nothing but the file's end where that agrees with the header.

        A file of gzip ends with the length of what it packs, modulo 2^32. Where that is another length than the
        header's (there may be something behind the voxels, or several pieces), all is read.
        """
        _refuse_impossible_size(self.path, self.header, self._file_bytes, compressed=self.compressed)
        end = os.pread(self._stream.fileno(), _LENGTH_BYTES, self._file_bytes - _LENGTH_BYTES)
        length = _bytes_needed(self.header) % 2 ** (8 * _LENGTH_BYTES)
        if self.compressed and int.from_bytes(end, "little") != length:
            self.read_values()


@contextmanager
def open_nifti(path: Path) -> Iterator[OpenNifti]:
    """Open a file of one volume, compressed or not; what reads its values inside the block raises the same errors.

    Raises
    ------
    NoInputError
        When there is no such file, or a link to content that was never fetched.
    BadDataError
        ``<path> is ...`` when it is no regular file, may not be read, is empty, a git-LFS pointer, no NIfTI, damaged,
        truncated, does not hold one volume of real numbers, or asks for more memory than there is.
    """
    with _open(path) as stream, _explain_damage(path):
        yield OpenNifti(path, stream)


def require_content(path: Path) -> None:
    """Refuse a file that is not there, cannot be opened, or holds something in the place of its content.

    Raises
    ------
    NoInputError
        When there is no such file (or a link to content that was never fetched).
    BadDataError
        When it is no regular file, a git-LFS pointer, empty, or may not be read.
    """
    _open(path).close()


def by(shape: tuple[int, ...]) -> str:
    """``128 x 256 x 128``."""
    return " x ".join(map(str, shape))


def _open(path: Path) -> io.BufferedReader:
    try:
        stream = open_file(path)
        start = stream.peek(len(_LFS_MARK))
    except FileNotFoundError as error:
        if path.is_symlink():
            raise NoInputError(f"{path} is a link to nothing", _GET_IT) from error
        raise NoInputError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise BadDataError(f"{path} is a folder", "Name a file.") from error
    except OSError as error:
        raise BadDataError(f"{path} cannot be read: {error.strerror}", "Check its permissions and its disk.") from error
    if start.startswith(_LFS_MARK):
        problem = "is a git-LFS pointer, not an image"
    elif not start:
        problem = "is empty (0 bytes)"
    else:
        return stream
    stream.close()
    raise BadDataError(f"{path} {problem}", _GET_IT)


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise BadDataError(f"{path} does not fit into memory", "Crop it, or use a machine with more.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadDataError(f"{path} is a damaged or truncated gzip file: {error}", _GET_IT) from error
    except _DAMAGE as error:
        raise BadDataError(f"{path} is damaged or truncated: {error}", _GET_IT) from error


def _is_gzip(stream: io.BufferedReader) -> bool:
    return stream.peek(len(_GZIP_MARK)).startswith(_GZIP_MARK)


def _read_header(path: Path, unpacked: IO[bytes]) -> tuple[bytes, nib.Nifti1Header]:
    """Read and judge the header; returns the bytes that were read for it too."""
    start = unpacked.read(_LARGEST_HEADER)
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    size = next((size for order in orders if (size := int.from_bytes(start[:4], order)) in _FORMATS), None)
    if size is None:
        raise BadDataError(f"{path} is not a NIfTI file", _CONVERT)
    try:
        header = _FORMATS[size](start[:size], check=False)
        header.check_fix(_SILENT)
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), header.get_data_offset()
        scale = float(header["scl_slope"]), float(header["scl_inter"])
        header.get_slope_inter()
    except _DAMAGE as error:
        raise BadDataError(f"{path} has a damaged header: {error}", _GET_IT) from error
    if dtype.kind not in "iuf":
        raise BadDataError(f"{path} holds values of type {dtype}, not one number per voxel", _CONVERT)
    if len(shape) < 3:
        raise BadDataError(f"{path} is {len(shape)}D ({by(shape)}), not 3D", "Give a three-dimensional image.")
    if min(shape) < 1:
        raise BadDataError(f"{path} has no voxels: its shape is {by(shape)}", _GET_IT)
    if math.prod(map(int, shape[3:])) != 1:
        raise BadDataError(
            f"{path} holds several volumes ({by(shape)}), not one 3D image",
            "Extract or average to one volume (`fslroi`, `mri_convert`).",
        )
    if offset < size:
        raise BadDataError(f"{path} has a damaged header: its voxels start at byte {offset}", _GET_IT)
    if any(map(math.isinf, scale)):
        raise BadDataError(
            f"{path} has a damaged header: its values are scaled by {scale[0]:g} and {scale[1]:g}", _GET_IT
        )
    return start, header


def _bytes_needed(header: nib.Nifti1Header) -> int:
    voxels = math.prod(map(int, header.get_data_shape()))
    return int(header.get_data_offset()) + voxels * int(header.get_data_dtype().itemsize)


def _refuse_impossible_size(path: Path, header: nib.Nifti1Header, file_bytes: int, *, compressed: bool) -> None:
    """Compare what a header asks for with the file and the memory, before anything of that size is read."""
    needed, voxels = _bytes_needed(header), math.prod(map(int, header.get_data_shape()))
    most = file_bytes * _GREATEST_COMPRESSION if compressed else file_bytes
    shape = by(header.get_data_shape()[:3])
    if needed > most:
        raise BadDataError(
            f"{path} is damaged or truncated: its header asks for {shape} voxels, {needed} bytes, and the file holds "
            f"{'at most ' if compressed else ''}{most}",
            _GET_IT,
        )
    if voxels > MOST_VOXELS:
        raise BadDataError(f"{path} has {shape} voxels, more than any head", "Crop it, or copy the file again.")
    at_work, free = needed + voxels * _BYTES_PER_VOXEL_AT_WORK, available_memory_bytes()
    if 0 < free < at_work:
        raise BadDataError(
            f"{path} does not fit into memory: {shape} voxels take {at_work / 1e9:.1f} GB, "
            f"and {free / 1e9:.1f} are free",
            "Crop it, or use a machine with more.",
        )


def _read_to_the_end(path: Path, unpacked: IO[bytes]) -> None:
    """Let gzip check its sum over what follows the voxels, without keeping it."""
    behind = 0
    try:
        while piece := unpacked.read(_PIECE_BYTES):
            behind += len(piece)
            if behind > _MOST_BEHIND_BYTES:
                raise BadDataError(f"{path} is damaged: it goes on for megabytes behind its last voxel", _GET_IT)
    except gzip.BadGzipFile as error:
        if not str(error).startswith("Not a gzipped file"):
            raise
        raise BadDataError(
            f"{path} holds all its voxels, and then something that gzip did not pack",
            "Unpack it with `gzip -dc`, which leaves that out, look at the image, and pack it again; or copy it again.",
        ) from error
