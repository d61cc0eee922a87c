"""Write NIfTI files: atomically, the same bytes for the same content, and one geometry in sform and qform."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from bidsapp.arrays import Array, FloatArray, IntArray
from bidsapp.files import write_bytes
from bidsapp.images.headers import FileGrid

SCANNER_CODE = 1
"""NIfTI code of coordinates in the scanner."""
ALIGNED_CODE = 2
"""NIfTI code of coordinates that are aligned to something else: in a crop, to the CIT168 template."""

_LABEL_COMPRESSION, _IMAGE_COMPRESSION = 4, 1
"""Levels of gzip. Label maps take a third of the room of level 1; images hardly get smaller at any level,
and a crop takes 0.2 s longer at level 4."""


def new_image(data: Array, affine: FloatArray, *, code: int = ALIGNED_CODE) -> nib.Nifti1Image:
    """Give an array, shape (i, j, k), a header with nothing but its geometry: `affine` is from voxels to RAS mm."""
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    return image


def label_image_like(labels: IntArray, grid: FileGrid) -> nib.Nifti1Image:
    """Put labels, shape (i, j, k), on exactly the grid of a file: same codes, matrices and units.

    Values are stored as uint8 when they fit, else uint16; scaling, display window and extensions go. Where a matrix
    of the file could not be used, both forms hold the one that was, under its code, so that no program reads another.
    """
    header = grid.header.copy()
    header.extensions.clear()
    header.set_data_shape(labels.shape)
    header.set_data_dtype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    if not grid.as_written:
        code = int(header[f"{grid.source}_code"]) if grid.source != "pixdim" else SCANNER_CODE
        header.set_xyzt_units("mm")
        header.set_sform(grid.affine, code)
        header.set_qform(grid.affine, code)
    return nib.Nifti1Image(labels.astype(header.get_data_dtype()), None, header)


def write_image(path: Path, image: nib.Nifti1Image) -> None:
    """Write a NIfTI file, compressed when its name ends in .gz; raises as `write_bytes` does."""
    level = _LABEL_COMPRESSION if image.get_data_dtype().kind in "iu" else _IMAGE_COMPRESSION
    content = image.to_bytes()
    write_bytes(path, gzip.compress(content, level, mtime=0) if path.name.endswith(".gz") else content)
