"""The content of the JSON files beside our images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COROBL_REFERENCE = "https://doi.org/10.7554/eLife.77945"
"""Where HippUnfold's CorObl space, made from the CIT168 template, is described."""

COROBL_RESOLUTION = "0.3 mm isotropic, the CorObl grid of HippUnfold (128 x 256 x 128 voxels)"

Facts = Mapping[str, Any]
"""Our own facts, JSON values; strings may hold anything but paths of the machine."""

DESCRIPTIONS_SIDECAR = {
    "Description": "What each desc- of a file name means.",
    "desc_id": {"Description": "The entity and its label, as they stand in file names."},
    "description": {"Description": "What such files hold."},
}

_COLUMNS = {
    "index": {"Description": "Value of the label in the image.", "Format": "integer"},
    "name": {"Description": "Name of the label."},
    "voxels": {"Description": "Number of voxels with this label in CorObl space."},
    "volume_mm3": {
        "Description": "Volume in the head: voxels in CorObl space times their volume on the grid of the scan.",
        "Units": "mm^3",
    },
}


def crop_sidecar(*, sources: Sequence[str], skull_stripped: bool, facts: Facts) -> dict[str, Any]:
    """Describe a crop in CorObl space.

    Parameters
    ----------
    sources
        BIDS URIs of the files that it was made from.
    skull_stripped
        Whether the scan shows the brain only.
    facts
        What else is to be told.
    """
    return {
        "Description": "Crop around the hippocampus of one side, as in the head (not flipped).",
        "Sources": list(sources),
        "SpatialReference": COROBL_REFERENCE,
        "Resolution": COROBL_RESOLUTION,
        "SkullStripped": skull_stripped,
        "HippoTune": dict(facts),
    }


def prediction_sidecar(*, sources: Sequence[str], facts: Facts) -> dict[str, Any]:
    """Describe a predicted label map in CorObl space and, as they share the file, the columns of its table."""
    return {
        "Description": "Labels that a network predicted; not checked by a person.",
        "Manual": False,
        "Sources": list(sources),
        "SpatialReference": COROBL_REFERENCE,
        "Resolution": COROBL_RESOLUTION,
        "HippoTune": dict(facts),
        **_COLUMNS,
    }


def approved_sidecar(*, manual: bool, sources: Sequence[str], facts: Facts) -> dict[str, Any]:
    """Describe a label map that a person approved, and the columns of its table.

    Parameters
    ----------
    manual
        Whether a person drew or corrected it.
    sources
        BIDS URIs of the label map that was approved and of the crops that it was drawn on.
    facts
        What else is to be told.
    """
    return {
        "Description": "Labels that a person inspected and approved, as in the head (not flipped).",
        "Manual": manual,
        "Sources": list(sources),
        "SpatialReference": COROBL_REFERENCE,
        "Resolution": COROBL_RESOLUTION,
        "HippoTune": dict(facts),
        "index": _COLUMNS["index"],
        "name": _COLUMNS["name"],
    }


def native_prediction_sidecar(*, sources: Sequence[str], scan: str, facts: Facts) -> dict[str, Any]:
    """Describe a predicted label map on the grid of the scan, and the columns of its table if it has one.

    Parameters
    ----------
    sources
        BIDS URIs of the files that it was made from.
    scan
        BIDS URI of the scan whose grid it has.
    facts
        What else is to be told.
    """
    return {
        "Description": "Labels that a network predicted, brought to the grid of the scan; not checked by a person.",
        "Manual": False,
        "Sources": list(sources),
        "SpatialReference": scan,
        "Resolution": "That of the scan.",
        "HippoTune": dict(facts),
        **_COLUMNS,
    }


def imported_sidecar(*, facts: Facts) -> dict[str, Any]:
    """Describe another tool's label map that was brought in for review."""
    return {
        "Description": "Labels of another tool, brought in for review; not checked by a person.",
        "Manual": False,
        "SpatialReference": COROBL_REFERENCE,
        "Resolution": COROBL_RESOLUTION,
        "HippoTune": dict(facts),
    }
