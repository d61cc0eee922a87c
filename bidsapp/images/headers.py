"""Where a NIfTI header says that the voxels are, how sure that is, and whether that can be."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from bidsapp.arrays import FloatArray
from bidsapp.errors import BadDataError
from bidsapp.images.grids import Grid
from bidsapp.records import SPACING_LIMITS_MM

AffineSource = Literal["sform", "qform", "pixdim"]

DISAGREEMENT_LIMIT_MM = 1.0

FARTHEST_MM = 1e5
"""No scanner is larger; farther from the origin, single precision no longer tells one voxel from the next."""

_QUATERNION_SLACK = 1e-3
"""By how much a quaternion's imaginary part may be longer than 1: rounding of what wrote it."""

_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 1e-3}


@dataclass(frozen=True, eq=False)
class FileGrid(Grid):
    """Where the voxels of a file are, and what its header says beside that.

    The shape leaves out dimensions of length 1 behind the third. The affine has finite entries and an inverse; it may
    be sheared.
    """

    header: nib.Nifti1Header
    """The header as it was read, without extensions."""
    source: AffineSource
    """The field that the affine comes from: sform when its code is set, else qform, else voxel sizes alone."""
    as_written: bool
    """Whether every program finds the same matrices in the header: none was passed over, shortened or scaled."""
    disagreement_mm: float | None
    """Greatest distance between the places that qform and sform give a corner; None unless both are set."""
    warnings: tuple[str, ...]
    """What a person should know about the header, in words."""
    compressed: bool
    """Whether the content is compressed with gzip, whatever the name of the file says."""


def file_grid(header: nib.Nifti1Header, path: Path, *, compressed: bool) -> FileGrid:
    """Choose the matrix of `header` by the NIfTI rule: sform, else qform, else voxel sizes.

    A matrix that cannot be used is passed over. Lengths are in the header's unit (``xyzt_units``: m, mm or um) unless
    only millimetres give voxels of a possible size: some programs write the unit and never look at it. `path` is for
    messages only.

    Raises
    ------
    BadDataError
        When no matrix is left.
    """
    candidates, unit_warnings = _in_millimetres(header, _candidates(header))
    usable = {source: affine for source, affine in candidates.items() if _is_invertible(affine)}
    if not usable:
        raise BadDataError(
            f"{path}: no matrix of the header can be inverted (voxel sizes {header.get_zooms()[:3]})",
            "Convert the scan again from its DICOM files.",
        )
    source = next(iter(usable))
    shape = tuple(int(length) for length in header.get_data_shape()[:3])
    warnings = [*unit_warnings]
    warnings += [f"the {name} of the header cannot be used" for name in candidates if name not in usable]
    if source == "pixdim":
        warnings.append("the header gives no orientation (qform and sform codes are 0): left and right are a guess")
    disagreement = None
    if "sform" in usable and "qform" in usable:
        disagreement = Grid(shape, usable["sform"]).distance_mm(Grid(shape, usable["qform"]))
        if disagreement > DISAGREEMENT_LIMIT_MM:
            warnings.append(f"qform and sform disagree by {disagreement:.1f} mm; the sform was used")
    as_written = len(usable) == len(candidates) and _reads_alike(header, usable)
    return FileGrid(shape, usable[source], header, source, as_written, disagreement, tuple(warnings), compressed)


def _reads_alike(header: nib.Nifti1Header, usable: Mapping[AffineSource, FloatArray]) -> bool:
    """Whether a plain reader finds the same matrices in a header."""
    try:
        plain = {"sform": header.get_sform(), "qform": header.get_qform(), "pixdim": header.get_base_affine()}
        return all(np.array_equal(plain[source], affine) for source, affine in usable.items())
    except (HeaderDataError, ValueError):
        return False


def _candidates(header: nib.Nifti1Header) -> dict[AffineSource, FloatArray]:
    found: dict[AffineSource, FloatArray] = {}
    if header["sform_code"] > 0:
        found["sform"] = np.asarray(header.get_sform(), dtype=float)
    if header["qform_code"] > 0:
        found["qform"] = _qform(header)
    found["pixdim"] = np.asarray(header.get_base_affine(), dtype=float)
    if len(found) > 1 and any(_is_invertible(affine) for affine in found.values() if affine is not found["pixdim"]):
        del found["pixdim"]
    return found


def _qform(header: nib.Nifti1Header) -> FloatArray:
    """The matrix of the qform; not finite where there is none.

    A quaternion a hair over unit length is shortened, as the reference implementation of NIfTI does.
    """
    with suppress(HeaderDataError, ValueError):
        return np.asarray(header.get_qform(), dtype=float)
    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=float)
    length = float(np.linalg.norm(vector))
    shorter = header.copy()
    for axis, value in zip("bcd", vector / max(length, 1.0), strict=True):
        shorter[f"quatern_{axis}"] = value
    with suppress(HeaderDataError, ValueError):
        if length <= 1 + _QUATERNION_SLACK:
            return np.asarray(shorter.get_qform(), dtype=float)
    return np.full((4, 4), np.nan)


def _in_millimetres(
    header: nib.Nifti1Header, found: dict[AffineSource, FloatArray]
) -> tuple[dict[AffineSource, FloatArray], list[str]]:
    """Bring matrices to millimetres; says in words when the header's unit is not believed."""
    try:
        unit = header.get_xyzt_units()[0]
    except KeyError:
        unit = "unknown"
    factor = _MILLIMETRES.get(unit, 1.0)
    scaled = {source: _scale(affine, factor) for source, affine in found.items()}
    if factor == 1 or any(is_possible_spacing(affine) for affine in scaled.values()):
        return scaled, []
    if any(is_possible_spacing(affine) for affine in found.values()):
        return found, [f"the header's unit of length is {unit}, which cannot be: its numbers were taken for mm"]
    return scaled, []


def _scale(affine: FloatArray, factor: float) -> FloatArray:
    scaled = affine.copy()
    scaled[:3] *= factor
    return scaled


def is_possible_spacing(affine: FloatArray) -> bool:
    """Whether all voxel sizes are finite and within `SPACING_LIMITS_MM`, but for the rounding of headers."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    least, most = SPACING_LIMITS_MM
    return bool(np.isfinite(sizes).all() and sizes.min() >= least * (1 - 1e-5) and sizes.max() <= most * (1 + 1e-5))


def spacing_problem(affine: FloatArray) -> str:
    """Say what is wrong with the voxel sizes of a matrix in mm, to be read after a file's name; ``""``: nothing."""
    if is_possible_spacing(affine):
        return ""
    sizes = " x ".join(f"{size:.4g}" for size in np.linalg.norm(affine[:3, :3], axis=0))
    least, most = SPACING_LIMITS_MM
    return f"has voxels of {sizes} mm: from {least:g} to {most:g} mm can be used"


def _is_invertible(affine: FloatArray) -> bool:
    """Whether the matrix is finite, near the scanner, and its voxels have a volume that single precision can tell."""
    if not np.isfinite(affine).all() or np.abs(affine).max() > FARTHEST_MM:
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(lengths.min() > 0 and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3)
