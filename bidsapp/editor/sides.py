"""The queue, and everything that a page needs of one side, gathered by the same functions as `review`."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bidsapp.bids.facts import recorded_facts
from bidsapp.content import Signature, signature
from bidsapp.corobl.quality import LEVELS, Judgement, Level
from bidsapp.editor.drafts import WorkCounts
from bidsapp.guards.judgement import judge_symmetry
from bidsapp.layout import OutputLayout, sidecar
from bidsapp.records import MODALITIES, SIDES, Approval, Side, SideKey, side_name
from bidsapp.report.people_pages import sides_with_a_crop
from bidsapp.review.events import LedgerEvent, last_events, read_events
from bidsapp.review.protection import as_saved, is_of
from bidsapp.review.table import ReviewRow, ReviewTable, RowProblem, read_review_table

_JUDGED = ("registration", "judgements", "hippocampus_mm3")
"""What the queue takes from sidecars."""

LIST_AGAIN_SECONDS = 60.0
"""How often folders are listed for new people and corrections; the table and the ledger are looked at every time."""


_Rows = Mapping[SideKey, ReviewRow | RowProblem]


@dataclass(frozen=True)
class QueueLine:
    """One side in the queue."""

    id: str
    """``sub-01[_ses-1]_hemi-L``."""
    participant: str
    session: str | None
    hemi: Side
    level: Level
    """The worst of what was measured of registration and prediction."""
    status: str
    recorded: bool
    """Whether the row is an approval that the ledger has."""
    trust: float | None
    """How far the prediction can be trusted, 0 to 1; None where nobody says."""
    reasons: tuple[str, ...]
    """Why it needs eyes, in words."""
    rater: str
    """`status` and `rater`: as in the table."""
    corrected: bool
    """Whether a person's correction is there."""
    seconds_spent: float | None
    """In the editor, so far; None: never."""


@dataclass(frozen=True)
class Queue:
    """All sides, those who need eyes first."""

    lines: tuple[QueueLine, ...]
    counts: Mapping[str, int]
    """Status -> how many."""
    tag: str
    """Another one whenever anything of it changed."""


@dataclass(frozen=True)
class Books:
    """The table and the ledger at one moment."""

    table: ReviewTable
    events: tuple[LedgerEvent, ...]
    last: Mapping[SideKey, LedgerEvent]


class Sides:
    """What there is to review in an OUTPUT_DIR; files are read once, and again when they change."""

    def __init__(self, layout: OutputLayout) -> None:
        self.layout = layout
        self._work = WorkCounts(layout)
        self._lock = threading.RLock()
        self._keys: dict[str, SideKey] = {}
        self._listed = -LIST_AGAIN_SECONDS
        self._books: tuple[Signature, Books] | None = None
        self._facts: dict[Path, tuple[Signature, Mapping[str, Any]]] = {}
        self._parts: dict[str, _Part] = {}
        self._queue: tuple[Signature, float, Queue] | None = None

    def by_id(self) -> Mapping[str, SideKey]:
        """Id -> side, of every side with a crop."""
        with self._lock:
            if time.monotonic() - self._listed >= LIST_AGAIN_SECONDS:
                self._keys = {side_name(key): key for key in sides_with_a_crop(self.layout)}
                self._parts = {name: self._gather(key) for name, key in self._keys.items()}
                self._listed = time.monotonic()
            return self._keys

    def books(self) -> Books:
        """The table and the ledger as they are now. Raises `BadDataError` when one of them is damaged."""
        with self._lock:
            now = signature((self.layout.review_table, self.layout.ledger))
            if self._books is None or self._books[0] != now:
                events = tuple(read_events(self.layout.ledger))
                table = read_review_table(self.layout.review_table)
                self._books = now, Books(table, events, last_events(events))
            return self._books[1]

    def touch(self, name: str) -> None:
        """A side changed: look at its files again."""
        with self._lock:
            if name in self._keys:
                self._parts[name] = self._gather(self._keys[name])
            self._queue = None

    def queue(self) -> Queue:
        """Every side; what did not change since the last call is not made again."""
        with self._lock:
            keys = self.by_id()
            now = signature((self.layout.review_table, self.layout.ledger))
            if self._queue is None or self._queue[:2] != (now, self._listed):
                lines = self._lines(keys)
                counts = Counter(line.status for line in lines)
                tag = hashlib.sha256(repr(lines).encode()).hexdigest()[:16]
                self._queue = now, self._listed, Queue(lines, dict(counts), tag)
            return self._queue[2]

    def line(self, name: str) -> QueueLine:
        """One side of the queue. Raises `KeyError` when there is none of that id."""
        with self._lock:
            key = self.by_id()[name]
            return self._line(name, key, self.books(), self._lines_by_rows(self.books()))

    def version(self, key: SideKey, table: ReviewTable) -> str:
        """Fingerprint of all that a person sees of a side: its rows, crops, label maps and names of labels."""
        rows = [
            [row.status, row.rater, row.date, sorted(row.accept), row.comment] for row in table.rows if row.key == key
        ]
        problems = [problem.words for problem in table.problems if problem.key == key]
        content = json.dumps([rows, problems, self.files(key)])
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def files(self, key: SideKey) -> Signature:
        """Which crops, label maps and names of labels a person sees of a side."""
        participant, session, hemi = key
        files = self.layout.session(participant, session)
        crops = [files.crop(hemi, modality) for modality in MODALITIES]
        imported, prediction = self.layout.imported_label(*key), files.prediction(hemi)
        images = [*crops, prediction, imported]
        manual = as_saved(self.layout.manual_label(*key))
        return signature([*images, *map(sidecar, images), *manual, self.layout.label_names])

    def _lines(self, keys: Mapping[str, SideKey]) -> tuple[QueueLine, ...]:
        books = self.books()
        rows = self._lines_by_rows(books)
        lines = [self._line(name, key, books, rows) for name, key in keys.items()]
        return tuple(sorted(lines, key=lambda line: (-LEVELS.index(line.level), -_doubt(line), _natural(line.id))))

    def _lines_by_rows(self, books: Books) -> _Rows:
        problems = {one.key: one for one in books.table.problems if one.key}
        return {**books.table.deciding_rows(), **problems}

    def _line(self, name: str, key: SideKey, books: Books, rows: _Rows) -> QueueLine:
        part, row, last = self._parts[name], rows.get(key), books.last.get(key)
        reasons, recorded, status, rater = part.reasons, False, "pending", ""
        if isinstance(row, ReviewRow):
            status, rater = row.status, row.rater
            recorded = status == "approved" and isinstance(last, Approval) and is_of(row, last)
            if status == "approved" and not recorded:
                reasons = (*reasons, "approved in the table, and not recorded: run review, or decide here")
        elif isinstance(row, RowProblem):
            reasons = (*reasons, f"line {row.line} of {self.layout.review_table.name} cannot be used: {row.words}")
        seconds = part.seconds
        if seconds is None and isinstance(last, Approval) and last.work is not None:
            seconds = last.work.seconds
        return QueueLine(
            id=name,
            participant=key[0],
            session=key[1],
            hemi=key[2],
            level=part.level,
            status=status,
            recorded=recorded,
            trust=None,
            reasons=reasons,
            rater=rater,
            corrected=part.corrected,
            seconds_spent=seconds,
        )

    def _gather(self, key: SideKey) -> _Part:
        participant, session, hemi = key
        files = self.layout.session(participant, session)
        crops = [facts for modality in MODALITIES if (facts := self._recorded(files.crop(hemi, modality)))]
        predictions = {side: facts for side in SIDES if (facts := self._recorded(files.prediction(side)))}
        try:
            level, reasons = _judge(crops, predictions, hemi)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            level, reasons = "red", (f"what its sidecars say is damaged ({type(error).__name__}: {error})",)
        work = self._work.read(side_name(key)) if self.layout.editing_work(side_name(key)).exists() else None
        manual = any(path.is_symlink() or path.exists() for path in as_saved(self.layout.manual_label(*key)))
        return _Part(level, reasons, manual, work.seconds if work else None)

    def _recorded(self, image: Path) -> Mapping[str, Any] | None:
        now = signature([sidecar(image)])
        if now[0] is None:
            return None
        known = self._facts.get(image)
        if known is None or known[0] != now:
            facts = recorded_facts(image) or {}
            known = self._facts[image] = now, {name: facts[name] for name in _JUDGED if name in facts}
        return known[1]


@dataclass(frozen=True)
class _Part:
    """What the files of a side say of it."""

    level: Level
    reasons: tuple[str, ...]
    corrected: bool
    seconds: float | None


def _judge(
    crops: Iterable[Mapping[str, Any]], predictions: Mapping[Side, Mapping[str, Any]], hemi: Side
) -> tuple[Level, tuple[str, ...]]:
    """The worst level of what was measured, and what is not green in words."""
    measured: list[Mapping[str, Any]] = []
    for facts in crops:
        measured += facts["registration"].get("judgements", ())
    if hemi in predictions:
        measured += predictions[hemi].get("judgements", ())
    found = [Judgement(**one) for one in measured]
    found += judge_symmetry({side: facts.get("hippocampus_mm3") or 0.0 for side, facts in predictions.items()})
    concerns = sorted((one for one in found if one.level != "green"), key=lambda one: -LEVELS.index(one.level))
    words = [one.words for one in concerns]
    levels: list[Level] = [one.level for one in found]
    if hemi not in predictions:
        levels.append("amber")
        words.append("nothing was predicted: draw it")
    return max(levels, key=LEVELS.index, default="green"), tuple(words)


def _doubt(line: QueueLine) -> float:
    return 1.0 - line.trust if line.trust is not None else 0.0


def _natural(name: str) -> list[tuple[str, int]]:
    """``sub-2`` before ``sub-10``."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", name)]
