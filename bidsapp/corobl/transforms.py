"""Affine maps between spaces as (4, 4) matrices of RAS millimetres, and their ITK text file.

`a_from_b` maps coordinates in b to coordinates in a. The file follows ITK and BIDS: it resamples an image
*from* the scan *to* CorObl, so it holds the map of CorObl points to scan points, in LPS.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bidsapp.arrays import FloatArray
from bidsapp.errors import BadDataError
from bidsapp.files import read_text, write_text

_FLIP = np.array([-1.0, -1.0, 1.0, 1.0])
_SIGNS = np.outer(_FLIP, _FLIP)
_KINDS = ("AffineTransform_double_3_3", "MatrixOffsetTransformBase_double_3_3")


def lps_from_ras(matrix: FloatArray) -> FloatArray:
    """Express a map between two RAS spaces in LPS; the same function leads back."""
    return matrix * _SIGNS


def write_transform(path: Path, native_from_corobl: FloatArray) -> None:
    """Write the ITK file that resamples a scan to CorObl; every digit is kept."""
    lps = lps_from_ras(native_from_corobl)
    parameters = [*lps[:3, :3].ravel(), *lps[:3, 3]]
    write_text(
        path,
        "#Insight Transform File V1.0\n#Transform 0\n"
        f"Transform: {_KINDS[0]}\n"
        f"Parameters: {' '.join(repr(float(value)) for value in parameters)}\n"
        "FixedParameters: 0 0 0\n",
    )


def read_transform(path: Path) -> FloatArray:
    """Read `native_from_corobl` from an ITK text file that holds one affine transform.

    Raises
    ------
    BadDataError
        When the file holds anything else.
    """
    hint = "Remove it and run `participant` again."
    text = read_text(path, hint)
    try:
        pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
        fields = {key.strip(): value.split() for key, value in pairs}
        kind = fields["Transform"][0]
        numbers = np.array(fields["Parameters"], dtype=float)
        centre = np.array(fields["FixedParameters"], dtype=float)
        if kind not in _KINDS or numbers.shape != (12,) or centre.shape != (3,):
            raise ValueError(f"{kind} with {numbers.size} parameters")
        if not (np.isfinite(numbers).all() and np.isfinite(centre).all()):
            raise ValueError("a parameter is not finite")
    except (KeyError, IndexError, ValueError) as error:
        raise BadDataError(
            f"{path} is not an ITK text file with one affine transform: {error}",
            hint,
        ) from error
    lps = np.eye(4)
    lps[:3, :3] = numbers[:9].reshape(3, 3)
    lps[:3, 3] = numbers[9:]
    if centre.any():
        lps[:3, 3] += centre - lps[:3, :3] @ centre
    return lps_from_ras(lps)


def apply(matrix: FloatArray, points: FloatArray) -> FloatArray:
    """Map points of shape (..., 3)."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def nearest_rotation(matrix: FloatArray, centre_mm: FloatArray) -> FloatArray:
    """Return the rigid map closest to an affine one (its polar part), equal to it at `centre_mm`."""
    left, _, right = np.linalg.svd(matrix[:3, :3])
    rigid = np.eye(4)
    rigid[:3, :3] = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    rigid[:3, 3] = apply(matrix, centre_mm) - rigid[:3, :3] @ centre_mm
    return rigid
