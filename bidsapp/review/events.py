"""The ledger's file: one line per approval or withdrawal, only ever appended to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from bidsapp.bids.people import LABEL
from bidsapp.errors import BadDataError
from bidsapp.files import explain_write_errors, parse_json, read_bytes, typed_json
from bidsapp.labels.tables import LARGEST_VALUE
from bidsapp.records import Approval, Side, SideKey

CUT_OFF = b"  # cut off: the run was stopped here"
"""Put behind a line that a killed run left unfinished, before the next one begins."""

_EVENT = "event"
_APPROVED, _WITHDRAWN = "approved", "withdrawn"
_OPTIONAL = ("decision", "work")


@dataclass(frozen=True)
class WithdrawnEvent:
    """A person took an approval back, or what they decided about is gone."""

    when: str
    rater: str
    participant: str
    session: str | None
    hemi: Side
    reason: str
    decision: str = ""
    """Fingerprint of the row that counts no longer; empty where it is another decision that took it back."""

    @property
    def key(self) -> SideKey:
        """The side that it is about."""
        return self.participant, self.session, self.hemi


_Label = Annotated[str, Field(pattern=f"^{LABEL}$")]
_Value = Annotated[int, Field(ge=0, le=LARGEST_VALUE)]
LedgerEvent = Approval | WithdrawnEvent


def read_events(path: Path) -> list[LedgerEvent]:
    """Read the ledger in its order; none when there is no file. A last line that a killed run cut off is passed over.

    Raises
    ------
    BadDataError
        With file and line, when anything else in it is damaged.
    """
    if not path.exists():
        return []
    content = read_bytes(path)
    *lines, last = content.split(b"\n")
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    events = [_parse(path, number, line) for number, line in numbered if not line.endswith(CUT_OFF)]
    return [*events, _parse(path, len(lines) + 1, last)] if _is_whole(last) else events


def append_event(path: Path, event: LedgerEvent) -> None:
    """Append one line and sync it to the disk; what a killed run cut off is marked so, and left.

    Raises
    ------
    CannotWriteError
        When the disk is full, the folder is read-only, or permission is missing.
    """
    line = json.dumps(event_facts(event), allow_nan=False).encode() + b"\n"
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            content = _finish_last_line(os.pread(descriptor, os.fstat(descriptor).st_size, 0)) + line
            while content:  # a disk that is nearly full takes a part, and says so only when asked again
                content = content[os.write(descriptor, content) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Ledger:
    """The ledger of one run, which reads it once and knows what it appends; it keeps others out (`labels_lock`)."""

    def __init__(self, path: Path) -> None:
        """Read it; raises as `read_events`."""
        self.path = path
        self.events: list[LedgerEvent] = read_events(path)
        """All of them, in their order."""
        self.last: dict[SideKey, LedgerEvent] = last_events(self.events)
        """What holds for each side."""

    def append(self, event: LedgerEvent) -> None:
        """Append one line; raises as `append_event`."""
        append_event(self.path, event)
        self.events.append(event)
        self.last[event.key] = event


def event_facts(event: LedgerEvent) -> dict[str, Any]:
    """Make JSON values of an event."""
    facts = {_EVENT: _APPROVED if isinstance(event, Approval) else _WITHDRAWN, **asdict(event)}
    if facts.get("work", True) is None:
        del facts["work"]
    return facts


def last_events(events: Iterable[LedgerEvent]) -> dict[SideKey, LedgerEvent]:
    """What holds for each side."""
    return {event.key: event for event in events}


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line, "a line"), dict)
    except BadDataError:
        return False


def _finish_last_line(content: bytes) -> bytes:
    last = content.rpartition(b"\n")[2]
    if not last:
        return b""
    return b"\n" if _is_whole(last) else CUT_OFF + b"\n"


def _parse(path: Path, number: int, line: bytes) -> LedgerEvent:
    hint = "Restore the file from a backup, or set the side's row to pending, remove that line, and decide anew."
    content = parse_json(line, f"{path}, line {number} is damaged: it", hint)
    try:
        return _event_of(content)
    except ValueError as error:
        raise BadDataError(f"{path}, line {number} is damaged: {error}", hint) from error


def _event_of(content: object) -> LedgerEvent:
    """Make an event of the values of a line; what a later version adds to it is passed over. Raises ValueError."""
    if not isinstance(content, dict):
        raise ValueError(f"it is {ascii(content)[:80]}, no object")
    kinds: Mapping[object, type[LedgerEvent]] = {_APPROVED: Approval, _WITHDRAWN: WithdrawnEvent}
    kind = kinds.get(str(content.get(_EVENT)))
    if kind is None:
        raise ValueError(f"{_EVENT} is {ascii(content.get(_EVENT))[:80]}: it must be {' or '.join(map(str, kinds))}")
    if isinstance(content.get("effort"), list):
        content["effort"] = [_with_union(one) for one in content["effort"]]
    missing = [one.name for one in fields(kind) if one.name not in {*_OPTIONAL, *content}]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    typed_json(_Limits, content, more=True)
    event: LedgerEvent = typed_json(kind, content, more=True)
    return event


class _Limits(BaseModel):
    """What a line may hold beyond what the types of the records say: labels of people become parts of paths."""

    participant: _Label
    session: _Label | None
    labels: dict[_Value, str] = {}


def _with_union(difference: object) -> object:
    """A label's effort with the union of both masks, of which HippoTune 0.1.0 noted Dice and changed voxels alone.

    The union is 0 for a label that nobody changed, whose size they do not tell: the share that was changed is never
    too small.
    """
    if not isinstance(difference, dict) or "voxels_united" in difference:
        return difference
    dice, changed = difference.get("dice"), difference.get("voxels_changed")
    if not isinstance(dice, int | float) or not isinstance(changed, int) or not 0 <= dice < 1:
        return {**difference, "voxels_united": 0}
    return {**difference, "voxels_united": round(changed * (2 - dice) / (2 - 2 * dice))}
