"""Our own facts in the sidecar of an image: read back, and held against the image as it is now."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bidsapp.content import file_sha256
from bidsapp.errors import HippoTuneError
from bidsapp.files import read_json
from bidsapp.images.volumes import read_volume
from bidsapp.layout import sidecar

logger = logging.getLogger(__name__)

FACTS = "HippoTune"
"""The block of a sidecar that holds what BIDS has no word for."""


def read_facts(image: Path, sha256_of: Callable[[Path], str] = file_sha256) -> dict[str, Any] | None:
    """Our block in the sidecar of an image, when image and sidecar belong together; else None.

    A file that was cut off, changed or is missing does not belong to its sidecar. `sha256_of` gives the fingerprint of
    its bytes, and may have it ready.
    """
    try:
        facts = _our_block(sidecar(image))
        return facts if facts and facts["file_sha256"] == sha256_of(image) else None
    except (HippoTuneError, OSError, KeyError):
        return None


def recorded_facts(image: Path) -> dict[str, Any] | None:
    """Our block in the sidecar of an image, whatever became of the image; None where the sidecar tells nothing.

    A sidecar that is there and cannot be read is named in a warning.
    """
    path = sidecar(image)
    try:
        return _our_block(path) if os.path.lexists(path) else None
    except (HippoTuneError, OSError) as error:
        logger.warning("%s: nobody can tell whether %s was changed since it was written", error, image.name)
        return None


def _our_block(path: Path) -> dict[str, Any] | None:
    content = read_json(path)
    facts = content.get(FACTS) if isinstance(content, dict) else None
    return facts if isinstance(facts, dict) else None


def is_changed_by_hand(image: Path) -> bool:
    """Whether an image is whole, but not what its sidecar says that we wrote; one that was cut off is damaged.

    Raises `NoInputError` when it is there and may not be read: nobody can tell what somebody else saved.
    """
    recorded = (recorded_facts(image) or {}).get("file_sha256")
    return recorded is not None and image.exists() and file_sha256(image) != recorded and is_whole_image(image)


def is_whole_image(path: Path) -> bool:
    """Whether all voxels of an image can be read."""
    try:
        read_volume(path, "any")
    except HippoTuneError:
        return False
    return True
