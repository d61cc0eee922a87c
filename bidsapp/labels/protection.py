"""Has a person worked on a crop? Then nobody replaces it under their label."""

from __future__ import annotations

import os
from pathlib import Path

from bidsapp.labels.events import ApprovedEvent, LedgerEvent
from bidsapp.labels.review_table import ReviewRow, ReviewTable
from bidsapp.layout import OutputLayout, label_names, sidecar
from bidsapp.records import Side


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
    return row.is_decision(event.decision, event.comment if isinstance(event, ApprovedEvent) else None)


def persons_files(layout: OutputLayout, participant: str, session: str | None, hemi: Side) -> tuple[Path, ...]:
    """The label files, with sidecars and tables, that people made of a side or brought in for review."""
    labels = (
        layout.approved_label(participant, session, hemi),
        *as_saved(layout.manual_label(participant, session, hemi)),
        layout.imported_label(participant, session, hemi),
    )
    beside = (path for label in labels for path in (label, sidecar(label), label_names(label)))
    return tuple(dict.fromkeys(path for path in beside if path.exists()))


def as_saved(label: Path) -> tuple[Path, Path]:
    """The names under which programs save a label map: compressed and not."""
    return label, label.with_suffix("")
