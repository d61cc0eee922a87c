"""Choose among approved labels: by person, session, or a table of subsets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bidsapp.bids.people import LABEL, check_labels, clean_labels
from bidsapp.errors import BadDataError
from bidsapp.records import SIDES, Approval
from bidsapp.tsv import TsvRow, read_tsv

_NAME = re.compile(rf"sub-(?P<participant>{LABEL})(?:_ses-(?P<session>{LABEL}))?_hemi-(?P<hemi>[LR])")
_ANY = {"", "n/a"}


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
    chooser = _Chooser(
        set(clean_labels(wanted.participants, "sub-")),
        set(clean_labels(wanted.exclude, "sub-")),
        set(clean_labels(wanted.sessions, "ses-")),
        rows,
        str(wanted.subset),
    )
    sides = {name: _take_apart(name) for name in (*(approval.name for approval in valid), *refused)}
    _check_existence(chooser, sides.values())
    reasons = {name: chooser.reason(side) for name, side in sides.items()}
    return Selection(
        chosen=tuple(approval for approval in valid if reasons[approval.name] is None),
        refused={name: why for name, why in refused.items() if reasons[name] is None},
        left_out={name: reason for name, reason in reasons.items() if reason is not None},
    )


@dataclass(frozen=True)
class _SideKey:
    participant: str
    session: str | None
    hemi: str


@dataclass(frozen=True)
class _Chooser:
    participants: set[str]
    exclude: set[str]
    sessions: set[str]
    subset: tuple[SubsetRow, ...] | None
    subset_file: str

    def reason(self, side: _SideKey) -> str | None:
        """Why a side is not used; None when it is."""
        if self.participants and side.participant not in self.participants:
            return "not in --participant-label"
        if side.participant in self.exclude:
            return "in --exclude-participant-label"
        if self.sessions and side.session not in self.sessions:
            return "not in --session-label"
        if self.subset is not None and not any(_fits(row, side) for row in self.subset):
            return f"not in --subset {self.subset_file}"
        return None


def _take_apart(name: str) -> _SideKey:
    match = _NAME.fullmatch(name)
    return _SideKey(match["participant"], match["session"], match["hemi"]) if match else _SideKey(name, None, "")


def _check_existence(chooser: _Chooser, sides: Iterable[_SideKey]) -> None:
    sides = tuple(sides)
    people = {side.participant for side in sides}
    where = [Path("the approved labels")]
    for asked in (sorted(chooser.participants), sorted(chooser.exclude)):
        check_labels(asked, people, prefix="sub-", roots=where)
    check_labels(sorted(chooser.sessions), {side.session for side in sides if side.session}, prefix="ses-", roots=where)
    missing = [row for row in chooser.subset or () if not any(_fits(row, side) for side in sides)]
    spelled = dict.fromkeys(_spell(row.participant, row.session, row.hemi) for row in missing)
    there = {_spell(side.participant, side.session, side.hemi) for side in sides} | set().union(
        *({_spell(side.participant), _spell(side.participant, side.session)} for side in sides)
    )
    check_labels(spelled, there, prefix="", roots=where)


def _fits(row: SubsetRow, side: _SideKey) -> bool:
    return row.participant == side.participant and row.session in (None, side.session) and row.hemi in (None, side.hemi)


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
