"""Has a person worked on a crop? Then nobody replaces it under their label."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bidsapp.layout import OutputLayout, sidecar
from bidsapp.records import Side
from bidsapp.tsv import TsvRow, read_tsv

PENDING = "pending"
KEY_COLUMNS = ("participant_id", "session_id", "hemi")


def read_review_rows(path: Path) -> list[TsvRow]:
    """Rows of ``labels/review.tsv``; none when there is no table yet. Raises `BadDataError`."""
    return read_tsv(path, (*KEY_COLUMNS, "status")) if path.exists() else []


def persons_work(
    layout: OutputLayout, rows: Iterable[TsvRow], participant: str, session: str | None, hemi: Side
) -> str | None:
    """Say in words what a person did with a side; None when nobody touched it.

    Parameters
    ----------
    rows
        See `read_review_rows`.
    """
    if layout.approved_label(participant, session, hemi).exists():
        return "has an approved label"
    if layout.manual_label(participant, session, hemi).exists():
        return "has a corrected label"
    for row in rows:
        if _is_about(row, participant, session, hemi) and row.cells["status"].lower() not in (PENDING, "", "n/a"):
            return f"is {row.cells['status']!r} in {layout.review_table.name}"
    return None


def persons_files(layout: OutputLayout, participant: str, session: str | None, hemi: Side) -> tuple[Path, ...]:
    """The label files, with sidecars, that people made of a side."""
    labels = (
        layout.approved_label(participant, session, hemi),
        layout.manual_label(participant, session, hemi),
    )
    return tuple(path for label in labels for path in (label, sidecar(label)) if path.exists())


def _is_about(row: TsvRow, participant: str, session: str | None, hemi: Side) -> bool:
    person, visit, side = (row.cells[column] for column in KEY_COLUMNS)
    same_session = visit.removeprefix("ses-") in ((session,) if session else ("", "n/a"))
    return person.removeprefix("sub-") == participant and same_session and side.upper() == hemi
