"""review.html: what is approved and by whom, what was refused and why, what is still open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bidsapp.files import write_text
from bidsapp.layout import OutputLayout
from bidsapp.printable import plural
from bidsapp.report.pages import render_page
from bidsapp.report.participant_report import session_anchor
from bidsapp.report.picture_files import read_picture
from bidsapp.review.decisions import SideOutcome, State

STATES: tuple[State, ...] = ("refused", "needs_edit", "open", "rejected", "approved")
STATE_MEANINGS: dict[State, str] = {
    "refused": "marked as approved, but it may not teach: the reason is beside it",
    "needs_edit": "a person wants to change it",
    "open": "nobody has decided yet",
    "rejected": "a person decided against it",
    "approved": "becomes a training pair",
}


@dataclass(frozen=True, eq=False)
class ReviewLine:
    """One side of one session, with its picture: a PNG file; None or missing: no picture."""

    outcome: SideOutcome
    picture: Path | None = None

    @property
    def rank(self) -> int:
        """What the column of states is sorted by."""
        return STATES.index(self.outcome.state)

    @property
    def link(self) -> str:
        """The person's page, seen from the folder of labels."""
        participant, session, _ = self.outcome.key
        page = f"../{quote(OutputLayout(Path()).page(participant).name)}"
        return f"{page}#{quote(session_anchor(session))}" if session else page


def count_states(outcomes: Iterable[SideOutcome]) -> str:
    """``12 sides: 1 refused, 2 open, 9 approved``."""
    counted = Counter(outcome.state for outcome in outcomes)
    counts = ", ".join(f"{counted[state]:,} {state.replace('_', ' ')}" for state in STATES if counted[state])
    return f"{plural(counted.total(), 'side', 'sides')}: {counts}" if counts else "no sides"


def write_review_page(path: Path, lines: Sequence[ReviewLine], *, problems: Sequence[str], written: str) -> None:
    """Write the page; opens offline, loads nothing. Raises `CannotWriteError`."""
    write_text(path, render_review_page(lines, problems=problems, written=written))


def render_review_page(lines: Sequence[ReviewLine], *, problems: Sequence[str], written: str) -> str:
    """The page as HTML.

    Parameters
    ----------
    problems
        Rows of the table that could not be read, in words.
    written
        When, as the page shows it.
    """
    ranked = sorted(lines, key=lambda line: (line.rank, line.outcome.name))
    present = [state for state in STATES if any(line.outcome.state == state for line in lines)]
    return render_page(
        "review.html.j2",
        {
            "lines": [(line, line.outcome, read_picture(line.picture, line.outcome.name)) for line in ranked],
            "summary": count_states(line.outcome for line in lines),
            "meanings": [(state, STATE_MEANINGS[state]) for state in present],
            "problems": problems,
            "table": OutputLayout(Path()).review_table.name,
            "written": written,
        },
    )
