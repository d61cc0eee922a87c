"""Choose among approved labels: by person, session, or a table of subsets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bidsapp.bids.people import LABEL, check_labels, clean_labels
from bidsapp.errors import BadDataError
from bidsapp.records import SIDES, Approval
from bidsapp.tsv import TsvRow, read_tsv

_NAME = re.compile(rf"sub-(?P<participant>{LABEL})(?:_ses-(?P<session>{LABEL}))?_hemi-(?P<hemi>[LR])")
_ANY = {"", "n/a"}
_Named = tuple[str, str | None, str]
"""Participant, session and side of a name; of a name that review never gives the whole, None and ``""``."""


@dataclass(frozen=True)
class Wanted:
    """Whose approved labels are used; empty means everybody's."""

    participants: Sequence[str] = ()
    exclude: Sequence[str] = ()
    sessions: Sequence[str] = ()
    """Labels with or without ``sub-`` and ``ses-``."""
    subset: Path | None = None
    """A table, see `read_subset`."""


@dataclass(frozen=True)
class SubsetRow:
    """One line of a subset: a person, or one session or side of them; None: all."""

    line: int
    participant: str
    session: str | None = None
    hemi: str | None = None


@dataclass(frozen=True)
class Selection:
    """What is used, and what is not."""

    chosen: tuple[Approval, ...]
    """Approvals in their order."""
    refused: dict[str, str]
    """Those among the refused that would have been chosen: name -> reason."""
    left_out: dict[str, str]
    """name -> which choice left it out."""


def read_subset(path: Path) -> tuple[SubsetRow, ...]:
    """Read a table with the column participant_id and, if there are, session_id and hemi; others are ignored.

    An empty cell and ``n/a`` stand for all sessions, or both sides.

    Raises
    ------
    NoInputError
        When there is no such file.
    BadDataError
        With file, line and value: no participant_id, a hemi that is not L or R, or no row at all.
    """
    rows = tuple(_parse_row(path, row) for row in read_tsv(path, ("participant_id",)))
    if not rows:
        raise BadDataError(f"{path} names nobody", "Add one line per person; the column is participant_id.")
    return rows


def select_approvals(valid: Sequence[Approval], refused: Mapping[str, str], wanted: Wanted) -> Selection:
    """Apply all choices.

    Parameters
    ----------
    valid, refused
        As `bidsapp.review.ledger.find_approvals` gives them.

    Raises
    ------
    NothingMatchesError
        For a label or a row of the subset that nothing approved has; lists those that exist.
    """
    rows = read_subset(wanted.subset) if wanted.subset else None
    people, exclude = (clean_labels(asked, "sub-") for asked in (wanted.participants, wanted.exclude))
    sessions = clean_labels(wanted.sessions, "ses-")
    sides = {name: _parse_name(name) for name in (*(approval.name for approval in valid), *refused)}
    _check_existence(sides.values(), (people, exclude), sessions, rows or ())

    def reason(side: _Named) -> str | None:
        if people and side[0] not in people:
            return "not in --participant-label"
        if side[0] in exclude:
            return "in --exclude-participant-label"
        if sessions and side[1] not in sessions:
            return "not in --session-label"
        if rows is not None and not any(_fits(row, side) for row in rows):
            return f"not in --subset {wanted.subset}"
        return None

    reasons = {name: reason(side) for name, side in sides.items()}
    return Selection(
        chosen=tuple(approval for approval in valid if reasons[approval.name] is None),
        refused={name: why for name, why in refused.items() if reasons[name] is None},
        left_out={name: reason for name, reason in reasons.items() if reason is not None},
    )


def _parse_name(name: str) -> _Named:
    match = _NAME.fullmatch(name)
    return (match["participant"], match["session"], match["hemi"]) if match else (name, None, "")


def _check_existence(
    sides: Collection[_Named],
    people: Iterable[Collection[str]],
    sessions: Collection[str],
    rows: Iterable[SubsetRow],
) -> None:
    """Refuse labels and rows that nothing approved has: most are slips."""
    where = [Path("the approved labels")]
    for asked in people:
        check_labels(sorted(asked), {side[0] for side in sides}, prefix="sub-", roots=where)
    check_labels(sorted(sessions), {side[1] for side in sides if side[1]}, prefix="ses-", roots=where)
    missing = [row for row in rows if not any(_fits(row, side) for side in sides)]
    spelled = dict.fromkeys(_spell(row.participant, row.session, row.hemi) for row in missing)
    there = {name for side in sides for name in (_spell(side[0]), _spell(side[0], side[1]), _spell(*side))}
    check_labels(spelled, there, prefix="", roots=where)


def _fits(row: SubsetRow, side: _Named) -> bool:
    participant, session, hemi = side
    return row.participant == participant and row.session in (None, session) and row.hemi in (None, hemi)


def _spell(participant: str, session: str | None = None, hemi: str | None = None) -> str:
    return f"sub-{participant}" + (f"_ses-{session}" if session else "") + (f"_hemi-{hemi}" if hemi else "")


def _parse_row(path: Path, row: TsvRow) -> SubsetRow:
    participant = row.cells["participant_id"].removeprefix("sub-")
    session = row.cells.get("session_id", "").removeprefix("ses-")
    hemi = row.cells.get("hemi", "").upper()
    if participant in _ANY:
        raise BadDataError(f"{path}, line {row.line}: no participant_id")
    if hemi.lower() not in _ANY and hemi not in SIDES:
        raise BadDataError(f"{path}, line {row.line}: hemi is {row.cells['hemi']!r}", "Write L, R, or n/a for both.")
    return SubsetRow(
        row.line,
        participant,
        None if session in _ANY else session,
        None if hemi.lower() in _ANY else hemi,
    )
