"""Make ``labels/``, which belongs to people, a BIDS derivative data set of its own."""

from __future__ import annotations

import json
from pathlib import Path

from bidsapp import __version__
from bidsapp.bids.dataset import BIDS_VERSION, HEMI_LINE, TOOL, describe_names
from bidsapp.bids.links import bids_uri
from bidsapp.files import create_once
from bidsapp.layout import OutputLayout

RESULTS = "hippotune"
"""The name under which ``labels/`` knows the data set that it lies in."""

LABELS_BIDSIGNORE = (
    "review.*",
    "labels.tsv",
    "split.tsv",
    "*.html",
    "figures",
    "*.xlsx",
    "*.ods",
    "*.csv",
    "superseded",
    "*.orig",
    HEMI_LINE,
)

LABELS_DESCRIPTIONS = {
    "desc-manual": "Label map that a person drew or corrected.",
    "desc-imported": "Label map of another tool, brought in for review.",
    "desc-approved": "Label map that a person approved; the last one of each side.",
}

_README = """Labels that people checked
==========================

This folder belongs to people. Only HippoTune's review writes here, and never over a cell or a file of theirs; what a
person decides or draws in its editor goes where they would have written it, and what was there before is kept.

review.tsv              one row per person, session and side: decide in the column status (pending, approved, rejected,
                        needs_edit), and say who you are in the column rater; review.tsv.bak is the table before rows
                        were added or a decision of the editor was written
sub-*/[ses-*/]anat      desc-manual: corrections; desc-approved: what was approved, with who, when and what it was
                        drawn on beside it
logs/approvals.jsonl    every approval and withdrawal; only ever appended to
superseded/             labels that were replaced or withdrawn, by date
split.tsv               which people are training, validation and test people

A label counts as approved as long as its voxels, its crop and the crop's transform are those in approvals.jsonl.
"""


def describe_labels_dataset(layout: OutputLayout) -> None:
    """Write dataset_description.json, .bidsignore, descriptions.tsv and README into ``labels/`` where they are missing.

    Raises
    ------
    CannotWriteError
        When the disk is full or permission is missing.
    """
    description = {
        "Name": "HippoTune: labels of the hippocampus that people checked",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": TOOL, "Version": __version__}],
        "DatasetLinks": {RESULTS: ".."},
    }
    create_once(layout.labels_description, json.dumps(description, indent=2) + "\n")
    create_once(layout.labels_bidsignore, "".join(f"{line}\n" for line in LABELS_BIDSIGNORE))
    describe_names(layout.labels_descriptions, LABELS_DESCRIPTIONS)
    create_once(layout.labels_readme, _README)


def uri_from_labels(layout: OutputLayout, path: Path) -> str:
    """Make the BIDS URI of a file of OUTPUT_DIR as it is written in ``labels/``; raises `ValueError` for any other."""
    if path.is_relative_to(layout.labels):
        return bids_uri("", path.relative_to(layout.labels).as_posix())
    return bids_uri(RESULTS, path.relative_to(layout.root).as_posix())
