"""The ledger's file: one line per approval or withdrawal, only ever appended to."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from bidsapp.bids.people import LABEL
from bidsapp.errors import BadDataError
from bidsapp.files import explain_write_errors, parse_json, read_bytes
from bidsapp.labels.tables import LARGEST_VALUE
from bidsapp.records import SIDES, LabelSource, Modality, Side, SideKey
from bidsapp.review.effort import LabelDifference

CUT_OFF = b"  # cut off: the run was stopped here"
"""Put behind a line that a killed run left unfinished, before the next one begins."""

_EVENT = "event"
_APPROVED, _WITHDRAWN = "approved", "withdrawn"


@dataclass(frozen=True)
class ApprovedEvent:
    """A person vouched for a label map."""

    when: str
    """ISO 8601."""
    rater: str
    participant: str
    session: str | None
    hemi: Side
    source: LabelSource
    source_sha256: str
    """What kind of file was approved, and the fingerprint of its bytes."""
    label_sha256: str
    file_sha256: str
    """Of voxels and affine (`bidsapp.content.image_sha256`), and of the bytes of the approved file that we wrote."""
    crop_sha256: Mapping[Modality, str]
    crop_file_sha256: Mapping[Modality, str]
    transform_sha256: Mapping[Modality, str | None]
    """The same of each modality's crop, and of the bytes of its transform; None for crops without one."""
    labels: Mapping[int, str]
    """value -> name."""
    accepted: tuple[str, ...]
    """Guards that the person overruled."""
    comment: str
    model: str | None
    model_sha256: str | None
    effort: tuple[LabelDifference, ...]
    """From the prediction that was shown to the approved label; empty without a prediction."""
    version: str
    decision: str = ""
    """Fingerprint of the row of the review table that said so."""

    @property
    def key(self) -> SideKey:
        """The side that it is about."""
        return self.participant, self.session, self.hemi


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


LedgerEvent = ApprovedEvent | WithdrawnEvent


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
            content = _finish_last_line(path) + line
            while content:  # a disk that is nearly full takes a part, and says so only when asked again
                content = content[os.write(descriptor, content) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def event_facts(event: LedgerEvent) -> dict[str, Any]:
    """Make JSON values of an event."""
    return {_EVENT: _APPROVED if isinstance(event, ApprovedEvent) else _WITHDRAWN, **asdict(event)}


def last_events(events: Iterable[LedgerEvent]) -> dict[SideKey, LedgerEvent]:
    """What holds for each side."""
    return {event.key: event for event in events}


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line, "a line"), dict)
    except BadDataError:
        return False


def _finish_last_line(path: Path) -> bytes:
    last = path.read_bytes().rpartition(b"\n")[2]
    if not last:
        return b""
    return b"\n" if _is_whole(last) else CUT_OFF + b"\n"


def _parse(path: Path, number: int, line: bytes) -> LedgerEvent:
    hint = "Restore the file from a backup, or set the side's row to pending, remove that line, and decide anew."
    facts = parse_json(line, f"{path}, line {number} is damaged: it", hint)
    try:
        return _WAYS_TO_READ[facts[_EVENT]](facts)
    except KeyError as error:
        raise BadDataError(f"{path}, line {number} is damaged: {error} is missing or not known", hint) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise BadDataError(f"{path}, line {number} is damaged: {error}", hint) from error


def _approved(facts: Mapping[str, Any]) -> ApprovedEvent:
    if facts["source"] not in get_args(LabelSource):
        raise ValueError(f"source is {facts['source']!r}")
    return ApprovedEvent(
        when=_text(facts, "when"),
        rater=_text(facts, "rater"),
        participant=_label(facts["participant"], "participant"),
        session=None if facts["session"] is None else _label(facts["session"], "session"),
        hemi=_side(facts),
        source=facts["source"],
        source_sha256=_text(facts, "source_sha256"),
        label_sha256=_text(facts, "label_sha256"),
        file_sha256=_text(facts, "file_sha256"),
        crop_sha256=_hashes(facts, "crop_sha256"),
        crop_file_sha256=_hashes(facts, "crop_file_sha256"),
        transform_sha256=_hashes(facts, "transform_sha256"),
        labels={_value(value): str(name) for value, name in facts["labels"].items()},
        accepted=tuple(str(guard) for guard in facts["accepted"]),
        comment=_text(facts, "comment"),
        model=_text_or_none(facts, "model"),
        model_sha256=_text_or_none(facts, "model_sha256"),
        effort=tuple(map(_difference, facts["effort"])),
        version=_text(facts, "version"),
        decision=str(facts.get("decision", "")),
    )


def _withdrawn(facts: Mapping[str, Any]) -> WithdrawnEvent:
    return WithdrawnEvent(
        when=_text(facts, "when"),
        rater=_text(facts, "rater"),
        participant=_label(facts["participant"], "participant"),
        session=None if facts["session"] is None else _label(facts["session"], "session"),
        hemi=_side(facts),
        reason=_text(facts, "reason"),
        decision=str(facts.get("decision", "")),
    )


_WAYS_TO_READ: Mapping[str, Callable[[Mapping[str, Any]], LedgerEvent]] = {_APPROVED: _approved, _WITHDRAWN: _withdrawn}


def _text(facts: Mapping[str, Any], name: str) -> str:
    if not isinstance(facts[name], str):
        raise TypeError(f"{name} is {facts[name]!r}")
    return facts[name]


def _text_or_none(facts: Mapping[str, Any], name: str) -> str | None:
    return None if facts[name] is None else _text(facts, name)


def _label(value: object, name: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(LABEL, value):
        raise ValueError(f"{name} is {value!r}: it needs letters and digits")
    return value


def _value(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > LARGEST_VALUE:
        raise ValueError(f"a label value is {text!r}")
    return int(text)


def _difference(one: Mapping[str, Any]) -> LabelDifference:
    name, dice, voxels = one["name"], one["dice"], one["voxels_changed"]
    if not isinstance(name, str) or not (dice is None or isinstance(dice, int | float)) or not isinstance(voxels, int):
        raise TypeError(f"effort is {one!r}")
    united = one.get("voxels_united", _united(dice, voxels))
    if not isinstance(united, int):
        raise TypeError(f"effort is {one!r}")
    return LabelDifference(name, dice, voxels, united)


def _united(dice: float | None, changed: int) -> int:
    """The union of both masks of a label, of which HippoTune 0.1.0 noted Dice and changed voxels alone.

    0 for a label that nobody changed, whose size they do not tell: the share that was changed is never too small.
    """
    return round(changed * (2 - dice) / (2 - 2 * dice)) if dice is not None and 0 <= dice < 1 else 0


def _side(facts: Mapping[str, Any]) -> Side:
    return SIDES[SIDES.index(facts["hemi"])]


def _hashes(facts: Mapping[str, Any], name: str) -> dict[Modality, Any]:
    modalities = get_args(Modality)
    found = {modalities[modalities.index(modality)]: digest for modality, digest in facts[name].items()}
    if not all(digest is None or isinstance(digest, str) for digest in found.values()):
        raise TypeError(f"{name} is {facts[name]!r}")
    return found
