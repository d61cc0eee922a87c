"""Make OUTPUT_DIR a BIDS derivative data set: what it is, what the validator passes over, what names mean."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bidsapp import __version__
from bidsapp.bids.description import read_description
from bidsapp.bids.sidecars import DESCRIPTIONS_SIDECAR
from bidsapp.errors import BadDataError, UsageError
from bidsapp.files import create_once
from bidsapp.layout import OutputLayout, table_sidecar

logger = logging.getLogger(__name__)

TOOL = "HippoTune"
BIDS_VERSION = "1.10.0"

HEMI_LINE = "*_hemi-[LR]_*"
"""BIDS has no ``hemi-`` for volumes yet; HippUnfold names them so, and so do we."""

BIDSIGNORE = (
    "*.html", "figures", "*_xfm.*", "*_volumes.tsv", "*_volumes.json", "pairs.tsv", "models", "labels", "work",
    HEMI_LINE,
)  # fmt: skip

DESCRIPTIONS = {
    "desc-preproc": "Crop of a scan around the hippocampus of one side, resampled to CorObl space once.",
    "desc-nnunet": "Label map that an nnU-Net predicted; nobody has checked it.",
}

_README = """HippoTune's results
===================

A BIDS derivative data set made by HippoTune from the data sets in dataset_description.json, DatasetLinks.

index.html              the page to start with: all people, with links to theirs
sub-*/[ses-*/]anat      crops around both hippocampi in CorObl space (as in the head, not flipped), the predicted
                        labels there and on the grid of the scan, their volumes, and the ITK transforms
labels/                 belongs to people: corrections, decisions (review.tsv), approved labels
models/                 networks that were trained on the approved labels
logs/                   what ran, and who failed
work/                   unfinished work; may be removed when nothing runs

Predicted labels are research results, not a diagnosis.
"""


def describe_dataset(layout: OutputLayout, *, links: Mapping[str, Path]) -> None:
    """Write dataset_description.json, .bidsignore, descriptions.tsv and README into OUTPUT_DIR where they are missing.

    Several processes may do this at once; a file that is there already stays as it is.

    Parameters
    ----------
    layout
        OUTPUT_DIR; made when it is missing.
    links
        The input data sets, from `bidsapp.bids.links.dataset_links`.

    Raises
    ------
    UsageError
        When OUTPUT_DIR holds a data set that is not ours; nothing is written then.
    CannotWriteError
        When the disk is full or permission is missing.
    """
    path = layout.dataset_description
    require_ours(layout)
    description = make_description(layout.root, links)
    create_once(path, json.dumps(description, indent=2) + "\n")
    create_once(layout.bidsignore, "".join(f"{line}\n" for line in BIDSIGNORE))
    describe_names(layout.descriptions, DESCRIPTIONS)
    create_once(layout.readme, _README)
    written = _check_ours(layout.root, path)
    if written.get("DatasetLinks") != description["DatasetLinks"]:
        logger.warning("%s was made with other DatasetLinks than those of this run; it stays as it is", path)


def describe_names(table: Path, descriptions: Mapping[str, str]) -> None:
    """Write a descriptions.tsv and what its columns are, where they are missing."""
    rows = [("desc_id", "description"), *descriptions.items()]
    create_once(table, "".join("\t".join(row) + "\n" for row in rows))
    create_once(table_sidecar(table), json.dumps(DESCRIPTIONS_SIDECAR, indent=2) + "\n")


def require_ours(layout: OutputLayout) -> None:
    """Raise `UsageError` when OUTPUT_DIR holds a data set that is not ours."""
    if layout.dataset_description.exists():
        _check_ours(layout.root, layout.dataset_description)


def make_description(output_dir: Path, links: Mapping[str, Path]) -> dict[str, Any]:
    """Make the content of dataset_description.json; links are relative to `output_dir`."""
    return {
        "Name": "HippoTune: crops and segmentations of the hippocampus in CorObl space",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": TOOL, "Version": __version__}],
        "DatasetLinks": {name: _relative(folder, output_dir) for name, folder in links.items()},
    }


def _relative(folder: Path, output_dir: Path) -> str:
    return Path(os.path.relpath(folder.resolve(), output_dir.resolve())).as_posix()


def _check_ours(root: Path, path: Path) -> dict[str, Any]:
    """Read a dataset_description.json that names us; raises `UsageError` for any other."""
    hint = "Choose another OUTPUT_DIR, new or empty."
    try:
        description = read_description(path)
    except BadDataError as error:
        raise UsageError(f"OUTPUT_DIR {root} may belong to another tool: {error.message}", hint) from error
    tools = _tool_names(description)
    if description.get("DatasetType", "raw") == "raw":
        raise UsageError(f"OUTPUT_DIR {root} belongs to a raw data set ({description.get('Name')!r})", hint)
    if TOOL not in tools:
        raise UsageError(f"OUTPUT_DIR {root} belongs to {', '.join(tools) or 'an unnamed tool'}", hint)
    return description


def _tool_names(description: Mapping[str, Any]) -> list[str]:
    tools = description.get("GeneratedBy")
    if not isinstance(tools, list):
        return []
    return [str(tool["Name"]) for tool in tools if isinstance(tool, dict) and "Name" in tool]
