"""Save a drawing, decide about a side: what `review` does with a row of the table, one side at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bidsapp.content import signature
from bidsapp.editor.drafts import Drafts, WorkCounts, crop_mark
from bidsapp.editor.opened import describe_findings
from bidsapp.editor.sides import Sides
from bidsapp.errors import BadDataError, CannotWriteError, HippoTuneError
from bidsapp.guards.label_guards import Finding
from bidsapp.layout import OutputLayout, sidecar
from bidsapp.records import Side, SideKey, Work, side_name
from bidsapp.review.candidates import read_side
from bidsapp.review.corrections import crop_grid, save_correction
from bidsapp.review.decisions import Inspection, ReviewDesk, SideOutcome
from bidsapp.review.events import read_events
from bidsapp.review.label_file import LabelFile
from bidsapp.review.ledger import labels_lock
from bidsapp.review.settings import read_limits
from bidsapp.review.snapshots import ImageSnapshots
from bidsapp.review.standing import StandingApprovals
from bidsapp.review.table import (
    ReviewRow,
    ReviewTable,
    Status,
    add_rows,
    read_review_table,
    replace_table,
)
from bidsapp.review.table_edit import Decision, decide_in_table

Json = dict[str, Any]

PATIENCE_SECONDS = 15.0
"""How long a page waits for a `review` or `group` that has the labels just now."""


_MOST_LOOKED = 4
"""Label maps in memory, of what the guards said last: 25 MB each."""


class BusyError(CannotWriteError):
    """Another run works on the labels."""


class ChangedError(CannotWriteError):
    """The side is no longer what the page shows.

    Attributes
    ----------
    version
        Of what is there now.
    """

    def __init__(self, name: str, version: str) -> None:
        super().__init__(
            f"{name} changed since it was opened: its row in the table, its crop or a label map",
            "Load the side again; what you painted is kept.",
        )
        self.version = version


@dataclass(frozen=True)
class Said:
    """What a person says of a side on the page."""

    status: Status
    rater: str
    comment: str = ""
    accept: frozenset[str] = frozenset()
    work: Work = field(default_factory=Work)
    """Since the last time that the page told of it."""


class Deciding:
    """The one place of a server that writes to ``labels/``."""

    def __init__(self, sides: Sides, drafts: Drafts) -> None:
        self.layout: OutputLayout = sides.layout
        self._sides, self._drafts = sides, drafts
        self._work = WorkCounts(sides.layout)
        self._standing = StandingApprovals(sides.layout)
        self._writing = threading.Lock()
        self._looked: dict[SideKey, tuple[object, Inspection | None]] = {}

    @contextmanager
    def looking_ahead(self) -> Iterator[None]:
        """Read the approved labels, which guards compare others with, before somebody waits for that."""
        ended = threading.Event()
        thread = threading.Thread(target=self._look_ahead, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def findings(self, key: SideKey) -> Json:
        """What the guards say of the label map that is there."""
        return self._found(key, self._look(self._desk(), key))

    def save(self, key: SideKey, version: str, work: Work) -> Json:
        """Make the side's draft its correction, if there is one, and say what the guards find.

        Raises
        ------
        ChangedError
            When the side is not what `version` says.
        BusyError
            When another run works on the labels.
        BadDataError
            When the draft was drawn on another crop than the side has now.
        """
        name = side_name(key)
        with self._labels():
            self._require(key, version)
            side = read_side(self.layout, *key)
            grid = crop_grid(self.layout, side)
            draft = self._drafts.read(name, grid)
            desk = self._desk()
            if draft is not None:
                if draft.crop not in ("", crop_mark(side.crop_sha256)):
                    raise BadDataError(
                        f"the unsaved drawing of {name} was begun on an earlier crop: the side was made anew since",
                        f"Copy {self.layout.draft(name)} if you need it, then discard the drawing here and draw again.",
                    )
                save_correction(self.layout, side, grid, draft.labels, when=_now())
                self._drafts.remove(name, draft.seen)  # one that came meanwhile is not saved yet
            self._work.add(name, work)
            inspection = self._look(desk, key)
            desk.close()
            self._sides.touch(name)
        return self._found(key, inspection)

    def decide(self, key: SideKey, version: str, said: Said) -> Json:
        """Write a decision into the table and let `review` act on it; an approval that a guard refuses is not written.

        Raises
        ------
        ChangedError
            When the side is not what `version` says.
        BusyError
            When another run works on the labels.
        BadDataError
            When the side's rows cannot be used, or an approval would leave a drawing behind that was not saved.
        """
        name = side_name(key)
        with self._labels():
            table = self._require(key, version)
            self._refuse(key, table, said)
            if key not in table.keys:
                add_rows(self.layout.review_table, table, [key])
                table = read_review_table(self.layout.review_table)
            work, when = self._work.read(name) + said.work, _now()
            desk = self._desk(when=when, work=work if work != Work() else None)
            inspection = self._look(desk, key) if said.status == "approved" else None
            decided, row = self._decided(table, key, said, when)
            refused = desk.rehearse(row) if said.status == "approved" else None
            if refused is not None and refused.state != "approved":
                self._work.add(name, said.work)
                outcome = refused
            else:
                replace_table(self.layout.review_table, table, decided)
                outcome = desk.decide(decided.rows_of_sides()[key])
                self._count(name, said, outcome)
            desk.close()
            self._sides.touch(name)
        return self._answer(key, said, outcome, inspection)

    def _answer(self, key: SideKey, said: Said, outcome: SideOutcome, inspection: Inspection | None) -> Json:
        wanted = {"approved": "approved", "rejected": "rejected", "needs_edit": "needs_edit", "pending": "open"}
        return {
            **self._found(key, inspection),
            "status": self._sides.line(side_name(key)).status,
            "recorded": outcome.state == wanted[said.status],
            "message": ". ".join(outcome.reasons) or outcome.state.replace("_", " "),
            "notes": list(outcome.notes),
        }

    def _count(self, name: str, said: Said, outcome: SideOutcome) -> None:
        if outcome.state == "approved":
            self._work.remove(name)
        else:
            self._work.add(name, said.work)

    def _decided(self, table: ReviewTable, key: SideKey, said: Said, when: datetime) -> tuple[ReviewTable, ReviewRow]:
        """The table with the decision in it, at a time that makes it one of its own, and its row."""
        events = read_events(self.layout.ledger)
        known = {event.decision for event in events if event.key == key}
        known |= {row.decision for row in table.rows if row.key == key}
        while True:
            decision = Decision(key, said.status, said.rater, f"{when:%Y-%m-%dT%H:%M:%S}", said.accept, said.comment)
            decided = decide_in_table(self.layout.review_table, table, decision)
            rows = decided.rows_of_sides()[key]
            own = next(row for row in rows if row.rater.lower() == said.rater.lower())
            if own.decision not in known:
                return decided, own
            when += timedelta(seconds=1)

    def _refuse(self, key: SideKey, table: ReviewTable, said: Said) -> None:
        problem = next((one for one in table.problems if one.key == key), None)
        if problem is not None:
            raise BadDataError(
                f"line {problem.line} of {self.layout.review_table.name}: {problem.words}",
                "Mend that line in a spreadsheet or editor, and save the table.",
            )
        if said.status == "approved" and self._drafts.exists(side_name(key)):
            raise BadDataError("there is a drawing that was not saved", "Save it first, or discard it.")

    def _require(self, key: SideKey, version: str) -> ReviewTable:
        table = read_review_table(self.layout.review_table)
        now = self._sides.version(key, table)
        if now != version:
            raise ChangedError(side_name(key), now)
        return table

    def _version(self, key: SideKey) -> str:
        return self._sides.version(key, self._sides.books().table)

    def _found(self, key: SideKey, inspection: Inspection | None) -> Json:
        return {"version": self._version(key), "findings": describe_findings(self.layout, key, inspection)}

    def _look(self, desk: ReviewDesk, key: SideKey) -> Inspection | None:
        """Let the guards look, which takes seconds, unless they did and nothing changed since that they go by."""
        basis = self._basis(key)
        known = self._looked.get(key)
        if known is not None and known[0] == basis and known[1] is not None:
            desk.recall(key, known[1])
        try:
            inspection = desk.look(key)
        except BadDataError as error:
            return Inspection(LabelFile(Path()), None, (Finding("file", f"{error.message}. {error.hint}"),))
        self._looked.pop(key, None)
        self._looked[key] = basis, inspection
        while len(self._looked) > _MOST_LOOKED:
            self._looked.pop(next(iter(self._looked)))
        return inspection

    def _look_ahead(self, ended: threading.Event) -> None:
        with suppress(HippoTuneError, OSError):  # whoever decides is told
            self._standing.find_out(self._sides.books().events, lambda: not ended.is_set())

    def _basis(self, key: SideKey) -> object:
        other: Side = "R" if key[2] == "L" else "L"
        prediction = self.layout.session(key[0], key[1]).prediction(other)
        books = signature((self.layout.ledger, self.layout.review_settings, prediction, sidecar(prediction)))
        return self._sides.files(key), books

    def _desk(self, *, when: datetime | None = None, work: Work | None = None) -> ReviewDesk:
        limits = read_limits(self.layout.review_settings)
        return ReviewDesk(
            self.layout, limits, ImageSnapshots(), when=when or _now(), standing=self._standing, work=work
        )

    @contextmanager
    def _labels(self) -> Iterator[None]:
        """Hold the lock of `review` for one decision."""
        with ExitStack() as held:
            if not self._writing.acquire(timeout=PATIENCE_SECONDS):
                raise BusyError("the editor is still saving or deciding something else", "Try again in a moment.")
            held.callback(self._writing.release)
            try:
                held.enter_context(labels_lock(self.layout, patience_seconds=PATIENCE_SECONDS))
            except CannotWriteError as error:
                raise BusyError(error.message, error.hint) from error
            yield


def _now() -> datetime:
    return datetime.now().astimezone().replace(microsecond=0)
