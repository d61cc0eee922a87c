"""Fingerprints of a label map and of what it was drawn on, as the ledger keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bidsapp.content import file_sha256
from bidsapp.images.fingerprints import read_image_sha256
from bidsapp.layout import SessionLayout
from bidsapp.records import Modality, Side


@dataclass(frozen=True)
class CropFingerprints:
    """What a label map was drawn on; see `bidsapp.review.events.ApprovedEvent`."""

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
