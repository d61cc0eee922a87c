"""Fingerprints of a label map and of what it was drawn on, as the ledger keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bidsapp.content import file_sha256, image_sha256
from bidsapp.corobl.headers import read_geometry
from bidsapp.layout import SessionLayout
from bidsapp.nifti import read_nifti
from bidsapp.records import Modality, Side


@dataclass(frozen=True)
class CropFingerprints:
    """What a label map was drawn on; see `bidsapp.labels.events.ApprovedEvent`."""

    crop_sha256: Mapping[Modality, str]
    crop_file_sha256: Mapping[Modality, str]
    transform_sha256: Mapping[Modality, str | None]


def crop_fingerprints(session: SessionLayout, hemi: Side, modalities: tuple[Modality, ...]) -> CropFingerprints:
    """Read the crops of a side and their transforms.

    Raises
    ------
    NoInputError
        When a crop is missing.
    BadDataError
        When a crop is damaged.
    """
    crops = {modality: session.crop(hemi, modality) for modality in modalities}
    return CropFingerprints(
        crop_sha256={modality: read_image_sha256(path) for modality, path in crops.items()},
        crop_file_sha256={modality: file_sha256(path) for modality, path in crops.items()},
        transform_sha256={modality: transform_sha256(session, modality) for modality in modalities},
    )


def transform_sha256(session: SessionLayout, modality: Modality) -> str | None:
    """Fingerprint of the bytes of a transform; None when there is none."""
    path = session.transform(modality)
    return file_sha256(path) if path.exists() else None


def read_image(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read voxels, (i, j, k) in single precision, and the (4, 4) affine; a single fourth dimension is dropped.

    Raises
    ------
    NoInputError
        When there is no such file.
    BadDataError
        When it is damaged or no image.
    """
    header, data = read_nifti(path, np.float32)
    return data.astype(np.float32, copy=False), read_geometry(header, path).affine


def read_image_sha256(path: Path) -> str:
    """Fingerprint of voxels and affine of a file; raises as `read_image`."""
    return image_sha256(*read_image(path))


def is_same_image(path: Path, *, bytes_sha256: str, voxels_sha256: str) -> bool:
    """Tell whether a file holds the voxels and affine of a fingerprint; equal bytes need no reading of voxels.

    Raises as `read_image`.
    """
    return file_sha256(path) == bytes_sha256 or read_image_sha256(path) == voxels_sha256
