"""Did a person work on a crop? Then no other crop may take its place below their label."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bidsapp.layout import OutputLayout, label_names, sidecar
from bidsapp.records import Approval, Side
from bidsapp.review.events import LedgerEvent
from bidsapp.review.table import ReviewRow, ReviewTable

_IMAGE = re.compile(
    r"\.(nii|mgz|mgh|nrrd|nhdr|mha|mhd|hdr|img|mnc|gipl|vtk|dcm|tiff?|np[yz])(?![a-z0-9])", re.IGNORECASE
)
_SET_ASIDE = (".orig", ".bak", ".old", "~", ".json", ".tsv", ".txt", ".png")
_LABEL_WORDS = re.compile(r"seg|manual|label|lbl|correct|edit", re.IGNORECASE)
_HEMI = re.compile(r"hemi[-_]?([lr])", re.IGNORECASE)
_SESSION = re.compile(r"ses-([a-z0-9]+)", re.IGNORECASE)
_WHOSE = re.compile(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?")
"""How a name begins; a person called ``sub-edit01`` makes no label map of a crop."""


def persons_work(
    layout: OutputLayout, table: ReviewTable, participant: str, session: str | None, hemi: Side
) -> str | None:
    """Say in words what a person did with a side; None when nobody touched it.

    A row that cannot be used counts as work: what the person meant is not ours to guess.
    """
    if layout.approved_label(participant, session, hemi).exists():
        return "has an approved label"
    if any(os.path.lexists(path) for path in as_saved(layout.manual_label(participant, session, hemi))):
        return "has a corrected label"
    if layout.imported_label(participant, session, hemi).exists():
        return "has another tool's label map"
    unread = unread_labels(layout, participant, session, hemi)
    if unread:
        return f"has a label map that nobody reads ({unread[0].name})"
    key = (participant, session, hemi)
    for row in table.rows:
        if row.key == key and row.status != "pending":
            return f"is {row.status!r} in {layout.review_table.name}"
    for problem in table.problems:
        if problem.key == key:
            return f"has a row in {layout.review_table.name} (line {problem.line}) that cannot be used"
    return None


def awaits_record(row: ReviewRow, last: LedgerEvent | None) -> bool:
    """Whether a person approved something that review has not recorded yet."""
    return row.status == "approved" and (last is None or not is_of(row, last))


def is_of(row: ReviewRow, event: LedgerEvent) -> bool:
    """Whether an event of the ledger came of the row as it is now."""
    return row.is_decision(event.decision, event.comment if isinstance(event, Approval) else None)


def persons_files(layout: OutputLayout, participant: str, session: str | None, hemi: Side) -> tuple[Path, ...]:
    """The label files, with sidecars and tables, that people made of a side or brought in for review."""
    labels = (
        layout.approved_label(participant, session, hemi),
        *as_saved(layout.manual_label(participant, session, hemi)),
        layout.imported_label(participant, session, hemi),
    )
    beside = (path for label in labels for path in (label, sidecar(label), label_names(label)))
    unread = (path for path in unread_labels(layout, participant, session, hemi) if layout.labels in path.parents)
    return tuple(dict.fromkeys(path for path in (*beside, *unread) if path.exists()))


def as_saved(label: Path) -> tuple[Path, Path]:
    """The names under which programs save a label map: compressed and not."""
    return label, label.with_suffix("")


def unread_labels(layout: OutputLayout, participant: str, session: str | None, hemi: Side) -> tuple[Path, ...]:
    """Images that look like a label map of a side, and have a name, a format or a place that nobody reads.

    Looked at are the folders of the person and session in ``labels/`` and, by names that speak of a label map, those
    beside the prediction; files at the top of both when they name the person.
    """
    drawn, made = layout.persons_labels(participant, session), layout.session(participant, session)
    known = {*made.native_predictions(hemi), made.prediction(hemi)}
    for own in {session, None}:
        if own == session or _has_a_crop(layout, participant, hemi):
            labels = (layout.approved_label, layout.imported_label, layout.manual_label)
            known |= {name for label in labels for name in as_saved(label(participant, own, hemi))}
            known |= {layout.session(participant, own).prediction(hemi)}
            known |= {*layout.session(participant, own).native_predictions(hemi)}
    found: list[Path] = []
    for root, anat in ((layout.labels, drawn.anat), (layout.root, made.anat)):
        person = root / f"sub-{participant}"
        for folder in dict.fromkeys((anat, anat.parent, person / "anat", person, root)):
            found += [
                path
                for path in _images_in(folder, person.name if folder == root else "")
                if path not in known
                and (_HEMI.search(_says(path)) or [hemi, hemi])[1].upper() == hemi
                and (_SESSION.search(path.name) or [session, session])[1] == session
                and (folder != root or re.search(rf"{person.name}(?![A-Za-z0-9])", path.name))
                and (root == layout.labels or _LABEL_WORDS.search(_says(path)))
            ]
    return tuple(found)


def _has_a_crop(layout: OutputLayout, participant: str, hemi: Side) -> bool:
    """Whether a person has a crop without a session, so that files without one belong to it."""
    return any(layout.session(participant, None).crop(hemi, modality).exists() for modality in ("T1w", "T2w"))


def _says(path: Path) -> str:
    """A file's name behind that of the person and session."""
    return _WHOSE.sub("", path.name, count=1)


def _images_in(folder: Path, part: str) -> list[Path]:
    """The images in a folder with `part` in their names; a data set's has entries of thousands of people."""
    try:
        names = [name for name in os.listdir(folder) if part in name and _IMAGE.search(name)]  # noqa: PTH208
    except OSError:
        return []
    return [folder / name for name in sorted(names) if name[0] != "." and not name.lower().endswith(_SET_ASIDE)]
