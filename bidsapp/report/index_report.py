"""index.html: all people at one look, those who need a person's eyes first."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from bidsapp.corobl.quality import LEVELS, Level
from bidsapp.files import write_text
from bidsapp.layout import OutputLayout
from bidsapp.pictures.drawing import SIDE_COLOURS, Picture
from bidsapp.pictures.outlines import DARK, LIGHT, Dot, ThemedPicture, dots_picture
from bidsapp.printable import plural
from bidsapp.records import SIDES, Side
from bidsapp.report.pages import number_text, render_page
from bidsapp.report.participant_report import (
    MEANINGS,
    SIDE_NAMES,
    Concern,
    Failure,
    session_anchor,
    session_name,
)
from bidsapp.report.picture_files import read_picture

Status = Literal["failed", "red", "amber", "green"]
STATUSES: tuple[Status, ...] = ("failed", "red", "amber", "green")

_MEANINGS: Mapping[Status, str] = {
    "failed": "there are no results of the newest run",
    "red": MEANINGS["red"],
    "amber": MEANINGS["amber"],
    "green": MEANINGS["green"],
}


@dataclass(frozen=True)
class IndexRow:
    """One session."""

    participant: str
    session: str | None
    """Labels without ``sub-`` and ``ses-``."""
    concerns: tuple[Concern, ...] = ()
    """Everything that is not green, as on the page of the person (`SessionPart.concerns`)."""
    volumes_mm3: Mapping[Side, float] = field(default_factory=dict)
    """Of the hippocampus as a whole; a side without one is not named."""
    thumbnails: Mapping[Side, Path] = field(default_factory=dict)
    """PNG files; a side whose file is missing has no picture."""

    @property
    def level(self) -> Level:
        """The worst level of all concerns; green without any."""
        return max((one.level for one in self.concerns), key=LEVELS.index, default="green")

    @property
    def name(self) -> str:
        """``sub-01`` or ``sub-01_ses-1``."""
        return session_name(self.participant, self.session)


@dataclass(frozen=True)
class _Line:
    """What the table shows of one session: results, a failure, or both (results of an earlier run)."""

    name: str
    row: IndexRow | None
    failure: Failure | None

    @property
    def status(self) -> Status:
        if self.failure or not self.row:
            return "failed"
        return self.row.level

    @property
    def rank(self) -> int:
        """What the column of levels is sorted by."""
        return STATUSES.index(self.status)

    @property
    def link(self) -> str:
        """The person's page, at the session; empty without results."""
        if not self.row:
            return ""
        page = quote(OutputLayout(Path()).page(self.row.participant).name)
        return f"{page}#{quote(session_anchor(self.row.session))}" if self.row.session else page

    @property
    def pictures(self) -> list[tuple[str, Picture]]:
        """(name of the side, thumbnail) of the sides that have one."""
        files = self.row.thumbnails if self.row else {}
        found = [(SIDE_NAMES[side], read_picture(files.get(side), "")) for side in SIDES]
        return [(name, picture) for name, picture in found if picture]

    @property
    def numbers(self) -> list[tuple[str, str, str]]:
        """(heading, text, what is sorted by) of both volumes and their ratio."""
        volumes = self.row.volumes_mm3 if self.row else {}
        left, right = (volumes.get(side, math.nan) for side in SIDES)
        ratio = left / right if right else math.nan
        cells = (("Left [mm³]", left, 0), ("Right [mm³]", right, 0), ("L / R", ratio, 2))
        return [
            (heading, number_text(value, decimals), repr(float(value)) if math.isfinite(value) else "")
            for heading, value, decimals in cells
        ]


def write_index(path: Path, rows: Sequence[IndexRow], failures: Sequence[Failure], *, written: str) -> None:
    """Write the page; opens offline, loads nothing.

    Raises
    ------
    CannotWriteError
        When `path` cannot be written.
    """
    write_text(path, render_index(rows, failures, written=written))


def render_index(rows: Sequence[IndexRow], failures: Sequence[Failure], *, written: str) -> str:
    """The page as HTML.

    Parameters
    ----------
    rows
        Sessions with results, in any order. One that also failed in the newest run is listed as failed.
    failures
        Sessions that failed in the newest run.
    written
        When, as the page shows it.
    """
    lines = _lines(rows, failures)
    return render_page(
        "index.html.j2",
        {
            "lines": lines,
            "summary": count_people(rows, failures),
            "counts": [(status, count) for status, count in _count_statuses(lines) if count],
            "meanings": _MEANINGS,
            "plot": _volume_plot(rows),
            "sides": [(side, SIDE_NAMES[side], SIDE_COLOURS[side]) for side in SIDES],
            "written": written,
        },
    )


def count_people(rows: Iterable[IndexRow], failures: Iterable[Failure]) -> str:
    """``12 people, 14 sessions: 1 failed, 2 red, 3 amber, 8 green``."""
    rows, failures = list(rows), list(failures)
    lines = _lines(rows, failures)
    people = {row.participant for row in rows} | {one.participant for one in failures}
    head = f"{plural(len(people), 'person', 'people')}, {plural(len(lines), 'session', 'sessions')}"
    counts = ", ".join(f"{count:,} {status}" for status, count in _count_statuses(lines) if count)
    return f"{head}: {counts}" if counts else head


def _lines(rows: Iterable[IndexRow], failures: Iterable[Failure]) -> list[_Line]:
    """Worst first, then by name, numbers in names by their size."""
    found = {row.name: row for row in rows}
    failed = {one.name: one for one in failures}
    lines = [_Line(name, found.get(name), failed.get(name)) for name in dict.fromkeys([*found, *failed])]
    return sorted(lines, key=lambda line: (line.rank, _natural(line.name), line.name))


def _natural(name: str) -> list[tuple[str, int]]:
    """``sub-2`` before ``sub-10``."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", name)]


def _count_statuses(lines: Iterable[_Line]) -> list[tuple[Status, int]]:
    counted = Counter(line.status for line in lines)
    return [(status, counted[status]) for status in STATUSES]


def _volume_plot(rows: Sequence[IndexRow]) -> ThemedPicture | None:
    dots = [
        Dot(row.volumes_mm3[side], side)
        for row in rows
        for side in SIDES
        if math.isfinite(row.volumes_mm3.get(side, math.nan))
    ]
    if len({row.name for row in rows if row.volumes_mm3}) < 2 or not dots:
        return None
    values = [dot.value for dot in dots]
    margin = 0.05 * (max(values) - min(values)) or 100.0
    limits = (max(0.0, min(values) - margin), max(values) + margin)
    alt = "Volumes of all hippocampi in mm³, left and right"
    light, dark = (dots_picture({"Volume [mm³]": dots}, theme=theme, limits=limits, alt=alt) for theme in (LIGHT, DARK))
    return ThemedPicture(light, dark)
