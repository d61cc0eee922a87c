"""Crops and approved labels as a BIDS derivative for others: new ids, and nothing that leads home."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import re
import secrets
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from bidsapp import __version__
from bidsapp.bids.dataset import BIDS_VERSION, HEMI_LINE, TOOL, describe_names
from bidsapp.bids.sidecars import COROBL_REFERENCE
from bidsapp.errors import BadDataError, HippoTuneError, UsageError
from bidsapp.files import create_once, explain_write_errors, read_json, read_text, write_json, write_text
from bidsapp.images.volumes import Volume
from bidsapp.images.writing import new_image, write_image
from bidsapp.layout import OutputLayout, SessionLayout, label_names, sidecar
from bidsapp.pairs.approved import ApprovedSides, crop_of, modalities_of, read_crop, read_label
from bidsapp.printable import people_text, plural
from bidsapp.records import Approval
from bidsapp.tsv import write_tsv

logger = logging.getLogger(__name__)

LICENSE_NOT_STATED = "not stated, do not redistribute"
KEY_BYTES = 32
ID_LENGTH = 12
"""Base-32 digits: 60 bits, so that two of a million people share an id with a chance below one in a million."""

_DESCRIPTIONS = {
    "desc-preproc": "Crop of a scan around the hippocampus of one side, resampled to CorObl space once.",
    "desc-approved": "Label map that a person inspected and approved.",
}

_README = """Hippocampal crops with approved labels
======================================

A BIDS derivative data set: {sides} hemispheres of {people} people. Ids are new and say nothing about the people.

sub-*/[ses-*/]anat/*_space-corobl_desc-preproc_T?w.nii.gz      crops around the hippocampus of one side
sub-*/[ses-*/]anat/*_space-corobl_desc-approved_dseg.nii.gz    labels that a person inspected and approved
sub-*/[ses-*/]anat/*_space-corobl_desc-approved_dseg.tsv       names of the labels

Crops are as in the head, not flipped, in the CorObl space of HippUnfold ({reference}).

Labels
------
{labels}

Licence: {license}
"""


def export_pairs(output: OutputLayout, destination: Path, sides: ApprovedSides) -> None:
    """Write the data set into `destination`; whole, or not at all.

    Parameters
    ----------
    output
        Keeps the key of the ids, so that a person has the same id in every export.
    destination
        Empty, or to be made.

    Raises
    ------
    UsageError
        As `check_destination` does.
    BadDataError
        When the key, a crop or a label cannot be used.
    CannotWriteError
        When a disk is full or permission is missing.
    """
    check_destination(output, destination)
    key = read_or_make_key(output.export_key)
    existed = destination.exists()
    with explain_write_errors(destination):
        destination.mkdir(parents=True, exist_ok=True)
    try:
        for approval in sorted(sides.approvals, key=lambda one: _new_session(destination, one, key).name):
            _export_side(destination, approval, sides, key)
        _describe(destination, sides, key)
    except BaseException:
        _clear(destination, keep_folder=existed)
        raise
    people = people_text(len(sides.people))
    logger.info("in %s: %s of %s", destination, plural(len(sides.approvals), "side"), people)
    logger.info("the key to their ids stays here, give it to nobody: %s", output.export_key)


def check_destination(output: OutputLayout, destination: Path) -> None:
    """Refuse a folder with content, a file, or a place inside OUTPUT_DIR; raises `UsageError`."""
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UsageError(f"--export-training-data {destination} is not an empty folder", "Name a new one.")
    if destination.resolve().is_relative_to(output.root.resolve()):
        raise UsageError(
            f"--export-training-data {destination} lies in OUTPUT_DIR, which holds what stays at home",
            "Name a folder elsewhere.",
        )


def read_or_make_key(path: Path) -> bytes:
    """Read the secret of this data set; made at random the first time, readable by its owner only.

    Raises `BadDataError` when the file is not what we wrote: with another key, everybody would get another id.
    """
    create_once(path, secrets.token_hex(KEY_BYTES) + "\n", private=True)
    hint = "Restore it; or remove it, and everybody gets a new id."
    text = read_text(path, hint).strip()
    if not re.fullmatch(rf"[0-9a-f]{{{2 * KEY_BYTES}}}", text):
        raise BadDataError(f"{path} is damaged", hint)
    return bytes.fromhex(text)


def new_label(key: bytes, name: str) -> str:
    """Letters and digits that stand for `name`, and that nobody without the key can trace or guess."""
    digest = hmac.new(key, name.encode(), sha256).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:ID_LENGTH]


def _new_session(root: Path, approval: Approval, key: bytes) -> SessionLayout:
    person = f"sub-{approval.participant}"
    session = new_label(key, f"{person}_ses-{approval.session}") if approval.session else None
    return SessionLayout(root, new_label(key, person), session)


def _write_volume(path: Path, volume: Volume) -> None:
    write_image(path, new_image(volume.data, volume.affine))


def _export_side(root: Path, approval: Approval, sides: ApprovedSides, key: bytes) -> None:
    session = _new_session(root, approval, key)
    for modality in modalities_of(approval):
        path = session.crop(approval.hemi, modality)
        _write_volume(path, read_crop(sides.output, approval, modality))
        stripped = _is_skull_stripped(crop_of(sides.output, approval, modality))
        write_json(sidecar(path), {"SpatialReference": COROBL_REFERENCE, "SkullStripped": stripped})
    path = session.approved(approval.hemi)
    _write_volume(path, read_label(sides.output, approval, sides.values[approval.name]))
    columns = {
        "index": {"Description": "Value of the label in the image.", "Format": "integer"},
        "name": {"Description": "Name of the label."},
    }
    facts = {"SpatialReference": COROBL_REFERENCE, "Manual": approval.origin.kind in ("corrected", "drawn")}
    write_json(sidecar(path), facts | columns)
    write_tsv(label_names(path), ("index", "name"), sides.table.names.items())


def _is_skull_stripped(crop: Path) -> bool:
    """What the crop's sidecar says, which BIDS requires; False where it says nothing."""
    try:
        content: Any = read_json(sidecar(crop))
    except HippoTuneError:
        return False
    return isinstance(content, Mapping) and content.get("SkullStripped") is True


def _describe(root: Path, sides: ApprovedSides, key: bytes) -> None:
    """Everything at the top; dataset_description.json, which makes it a data set, last."""
    layout = OutputLayout(root)
    people = sorted(f"sub-{new_label(key, person)}" for person in sides.people)
    write_tsv(layout.participants, ("participant_id",), [(person,) for person in people])
    describe_names(layout.descriptions, _DESCRIPTIONS)
    write_text(layout.bidsignore, HEMI_LINE + "\n")
    labels = "\n".join(f"{value:>5}  {name}" for value, name in sides.table.names.items())
    write_text(
        layout.readme,
        _README.format(
            sides=len(sides.approvals),
            people=len(people),
            reference=COROBL_REFERENCE,
            labels=labels,
            license=LICENSE_NOT_STATED,
        ),
    )
    description = {
        "Name": "Hippocampal crops with approved labels in CorObl space",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": LICENSE_NOT_STATED,
        "GeneratedBy": [{"Name": TOOL, "Version": __version__}],
    }
    write_text(layout.dataset_description, json.dumps(description, indent=2) + "\n")


def _clear(folder: Path, *, keep_folder: bool) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if not keep_folder:
        folder.rmdir()
