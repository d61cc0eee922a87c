"""Where a NIfTI header says that the voxels are, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from bidsapp.arrays import FloatArray
from bidsapp.errors import BadDataError

AffineSource = Literal["sform", "qform", "pixdim"]

DISAGREEMENT_LIMIT_MM = 1.0


@dataclass(frozen=True, eq=False)
class Geometry:
    """The voxel-to-RAS matrix of a file.

    Attributes
    ----------
    affine
        (4, 4), voxel centres to RAS millimetres, with finite entries and an inverse.
    source
        The header field that it comes from: sform when its code is set, else qform, else voxel sizes alone.
    disagreement_mm
        Greatest distance between the places that qform and sform give a corner; None unless both are set.
    warnings
        In words, what a person should know.
    """

    affine: FloatArray
    source: AffineSource
    disagreement_mm: float | None
    warnings: tuple[str, ...]


def read_geometry(header: nib.Nifti1Header, path: Path) -> Geometry:
    """Choose the matrix of `header` by the NIfTI rule: sform, else qform, else voxel sizes.

    A matrix without an inverse is passed over. `path` is for messages only.

    Raises
    ------
    BadDataError
        When no matrix is left.
    """
    candidates = _candidates(header)
    usable = {source: affine for source, affine in candidates.items() if _is_invertible(affine)}
    if not usable:
        raise BadDataError(
            f"{path}: no matrix of the header can be inverted (voxel sizes {header.get_zooms()[:3]})",
            "Convert the scan again from its DICOM files.",
        )
    source = next(iter(usable))
    warnings = [f"the {name} of the header cannot be used" for name in candidates if name not in usable]
    if source == "pixdim":
        warnings.append("the header gives no orientation (qform and sform codes are 0): left and right are a guess")
    disagreement = None
    if "sform" in usable and "qform" in usable:
        disagreement = _greatest_distance_mm(usable["sform"], usable["qform"], header.get_data_shape()[:3])
        if disagreement > DISAGREEMENT_LIMIT_MM:
            warnings.append(f"qform and sform disagree by {disagreement:.1f} mm; the sform was used")
    return Geometry(usable[source], source, disagreement, tuple(warnings))


def _candidates(header: nib.Nifti1Header) -> dict[AffineSource, FloatArray]:
    found: dict[AffineSource, FloatArray] = {}
    if header["sform_code"] > 0:
        found["sform"] = np.asarray(header.get_sform(), dtype=float)
    if header["qform_code"] > 0:
        found["qform"] = np.asarray(header.get_qform(), dtype=float)
    found["pixdim"] = np.asarray(header.get_base_affine(), dtype=float)
    if len(found) > 1 and any(_is_invertible(affine) for affine in found.values() if affine is not found["pixdim"]):
        del found["pixdim"]
    return found


def _is_invertible(affine: FloatArray) -> bool:
    """Whether the matrix is finite and its voxels have a volume that single precision can tell from 0."""
    if not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(lengths.min() > 0 and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3)


def _greatest_distance_mm(first: FloatArray, second: FloatArray, shape: tuple[int, ...]) -> float:
    corners = np.array(list(product(*((0, size - 1) for size in shape))))
    apart = corners @ (first - second)[:3, :3].T + (first - second)[:3, 3]
    return float(np.linalg.norm(apart, axis=1).max())
