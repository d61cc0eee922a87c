"""Bring in label maps of other tools: they are reviewed on the same crops, in the same table, by the same guards."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bidsapp.bids.description import require_dataset
from bidsapp.bids.facts import is_changed_by_hand
from bidsapp.bids.sidecars import imported_sidecar
from bidsapp.content import file_sha256
from bidsapp.errors import BadDataError, HippoTuneError, NothingMatchesError
from bidsapp.files import write_json
from bidsapp.images.fingerprints import read_image_sha256
from bidsapp.images.writing import new_image, write_image
from bidsapp.labels.tables import read_label_table, write_label_table
from bidsapp.layout import OutputLayout, SessionLayout, label_names, sidecar
from bidsapp.records import LabelTable, SideKey
from bidsapp.review.candidates import SideFacts, read_side
from bidsapp.review.label_file import read_label_file
from bidsapp.review.snapshots import ImageSnapshots
from bidsapp.review.table import read_review_table

log = logging.getLogger(__name__)

PREFERRED = "desc-subfields"
"""Of several label maps of a side: what HippUnfold calls its final ones."""


def import_labels(layout: OutputLayout, folder: Path, sides: Iterable[SideKey], images: ImageSnapshots) -> list[str]:
    """Copy the label maps that a derivative data set has of `sides` to ``labels/``.

    Looked for are ``*_hemi-L_space-corobl*_dseg.nii[.gz]`` (HippUnfold's names), with a table of label names beside
    them or at the top of the data set. A label map that was brought in before stays, and so does everything where a
    person has decided already.

    Returns
    -------
    What could not be brought in, in words.

    Raises
    ------
    NoInputError
        When `folder` is no BIDS data set.
    NothingMatchesError
        When it has no label map of any side.
    """
    require_dataset(folder)
    decided = {key for key, row in read_review_table(layout.review_table).deciding_rows().items() if row.rater}
    problems, found, new = [], 0, 0
    for key in sides:
        try:
            path = _find(folder, key)
            if path is None:
                continue
            found += 1
            there = images.facts(layout.imported_label(*key))
            if (there is not None and there["source_sha256"] == file_sha256(path)) or _is_changed(layout, key):
                continue
            if there is not None or key in decided:
                why = "an earlier version is there" if there else f"its row in {layout.review_table.name} is decided"
                problems.append(f"{path.name} was not brought in: {why}")
                continue
            _import(layout, key, path, _find_table(folder, path), images)
            new += 1
        except HippoTuneError as error:
            problems.append(error.message)
    if not found and not problems:
        raise NothingMatchesError(
            f"{folder} has no *_hemi-L|R_space-corobl*_dseg.nii.gz of the people in {layout.root}",
            "Name the folder with dataset_description.json and sub-* in it.",
        )
    log.info("%d label maps of %s are new, of %d", new, folder, found)
    return problems


def _is_changed(layout: OutputLayout, key: SideKey) -> bool:
    """Whether a person changed what was brought in: it is theirs now."""
    return is_changed_by_hand(layout.imported_label(*key))


def _find(folder: Path, key: SideKey) -> Path | None:
    participant, session, hemi = key
    anat = SessionLayout(folder, participant, session).anat
    found = sorted(
        path for path in anat.glob(f"*_hemi-{hemi}_*_dseg.nii*") if "_space-corobl_" in path.name and path.is_file()
    )
    preferred = [path for path in found if PREFERRED in path.name] if len(found) > 1 else found
    if len(preferred) > 1 or (found and not preferred):
        raise BadDataError(
            f"{anat} has several label maps of hemi-{hemi}: {', '.join(path.name for path in found)}",
            "Keep the one to be reviewed in a copy of the data set.",
        )
    return preferred[0] if preferred else None


def _find_table(folder: Path, path: Path) -> LabelTable | None:
    """The table beside a label map, else one at the top whose name ends like the label map's."""
    beside = label_names(path)
    if beside.exists():
        return read_label_table(beside)
    fitting = [table for table in sorted(folder.glob("*_dseg.tsv")) if beside.name.endswith(f"_{table.name}")]
    return read_label_table(fitting[-1]) if fitting else None


def _import(layout: OutputLayout, key: SideKey, path: Path, table: LabelTable | None, images: ImageSnapshots) -> None:
    target = layout.imported_label(*key)
    side = read_side(layout, *key, images)
    file = read_label_file(path, key[2], side.grids)
    if file.labels is None or file.findings:
        words = "; ".join(finding.problem for finding in file.findings)
        raise BadDataError(f"{path} is no label map of its crop: {words}", "Mend it, or leave --derivatives out.")
    write_image(target, new_image(file.labels.astype(np.uint16), side.grid.affine))
    if table is not None:
        write_label_table(label_names(target), table)
    facts = {
        "file_sha256": file_sha256(target),
        "source": path.name,
        "source_sha256": file_sha256(path),
        "labels": {str(value): name for value, name in table.names.items()} if table else {},
        "crop_sha256": side.crop_sha256,
        "on_our_crop": _is_on_our_crop(path, side),
    }
    write_json(sidecar(target), imported_sidecar(facts=facts))


def _is_on_our_crop(path: Path, side: SideFacts) -> bool | None:
    """Whether the crop beside another tool's label map is ours, voxel for voxel; None: there is none."""
    crops = [
        crop
        for crop in sorted(path.parent.glob(f"*_hemi-{side.hemi}_*space-corobl*_T?w.nii*"))
        if crop.name.endswith(("_T1w.nii", "_T1w.nii.gz", "_T2w.nii", "_T2w.nii.gz"))
    ]
    if not crops:
        return None
    return any(read_image_sha256(crop) in side.crop_sha256.values() for crop in crops)
