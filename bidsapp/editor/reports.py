"""The pages that other levels wrote, with links to the editor; the files themselves stay as they are."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from bidsapp.files import read_text
from bidsapp.layout import OutputLayout
from bidsapp.records import SideKey
from bidsapp.report.participant_report import session_anchor

REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Each page says itself, and more strictly, which script it has."""

_PARTS = re.compile(r'<section id="(?P<anchor>[^"]*-[LR])">\s*<h2[^>]*>.*?</h2>', re.DOTALL)
_NAMES = re.compile(r'<th class="name"><a href="[^"]*">(?P<name>[^<]*)</a>')
_SAFE = re.compile(r"[A-Za-z0-9+_-]+")


def find_page(layout: OutputLayout, name: str, sides: Mapping[str, SideKey]) -> Path | None:
    """The page of a name, among those of these sides' people and of all; None: there is none."""
    review = layout.review_page.relative_to(layout.root).as_posix()
    pages = {layout.index.name: layout.index, review: layout.review_page}
    people = {layout.page(participant).name: layout.page(participant) for participant, _, _ in sides.values()}
    return (pages | people).get(name)


def linked_page(path: Path, sides: Mapping[str, SideKey]) -> str:
    """A page's HTML with a link to the editor at every side that it is about. Raises `NoInputError`, `BadDataError`."""
    text = read_text(path)
    person = path.stem.removeprefix("sub-")
    parts = {f"{session_anchor(key[1])}-{key[2]}": name for name, key in sides.items() if key[0] == person}
    text = _PARTS.sub(lambda match: f"{match.group()}\n<p>{_link(parts.get(match['anchor'], ''), sides)}</p>", text)
    text = _NAMES.sub(lambda match: match.group() + _link(match["name"], sides), text)
    return text.replace("<main>", '<main>\n<p class="eyebrow"><a href="/">Editor</a></p>', 1)


def _link(name: str, sides: Collection[str]) -> str:
    if name not in sides or not _SAFE.fullmatch(name):
        return ""
    return f' <a class="soft" href="/#{name}">correct or approve</a>'
