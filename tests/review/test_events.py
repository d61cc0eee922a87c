"""The ledger's file survives kills, and says where it is damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bidsapp.errors import BadDataError
from bidsapp.records import Approval, LabelDifference, Work
from bidsapp.review.events import LedgerEvent, WithdrawnEvent, append_event, last_events, read_events

APPROVED = Approval(
    when="2026-01-01T12:00:00+00:00",
    rater="Müller\n",
    participant="01",
    session="1",
    hemi="L",
    source="manual",
    source_sha256="a",
    label_sha256="b",
    file_sha256="c",
    crop_sha256={"T1w": "d", "T2w": "e"},
    crop_file_sha256={"T1w": "f", "T2w": "g"},
    transform_sha256={"T1w": "h", "T2w": None},
    labels={1: "CA1", 300: "cyst"},
    accepted=("volume",),
    comment='"good"',
    model="a-model",
    model_sha256=None,
    effort=(LabelDifference("CA1", 0.5, 12, 18), LabelDifference("cyst", None, 0, 0)),
    version="1.0",
)
WITHDRAWN = WithdrawnEvent("2026-01-02T12:00:00+00:00", "bo", "02", None, "R", "wrong side")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "logs" / "approvals.jsonl"
    append_event(path, APPROVED)
    append_event(path, WITHDRAWN)
    return path


def test_what_is_appended_is_read_in_order(path: Path) -> None:
    assert read_events(path) == [APPROVED, WITHDRAWN]
    assert path.read_bytes().count(b"\n") == 2
    assert last_events(read_events(path)) == {("01", "1", "L"): APPROVED, ("02", None, "R"): WITHDRAWN}


def test_what_the_editor_counted_is_read_back_and_older_ledgers_have_none(path: Path) -> None:
    before = path.read_bytes()
    assert b'"work"' not in before
    counted = replace(APPROVED, work=Work(42.5, {"CA1": 12, "background": 3}))
    append_event(path, counted)
    assert read_events(path) == [APPROVED, WITHDRAWN, counted]
    assert path.read_bytes().startswith(before)


def test_without_a_file_nothing_happened(tmp_path: Path) -> None:
    assert read_events(tmp_path / "approvals.jsonl") == []


@pytest.mark.parametrize("cut", [1, 2, 40, -1])
def test_a_line_that_was_cut_off_is_passed_over_and_left(path: Path, cut: int) -> None:
    """At every place: only the newline missing, the closing brace, much, and all but one character."""
    whole = path.read_bytes()
    line = whole.splitlines(keepends=True)[1]
    keep = 1 if cut == -1 else len(line) - cut
    path.write_bytes(whole.removesuffix(line) + line[:keep])
    expected: list[LedgerEvent] = [APPROVED, WITHDRAWN] if cut == 1 else [APPROVED]
    assert read_events(path) == expected
    before = path.read_bytes()
    append_event(path, WITHDRAWN)
    append_event(path, APPROVED)
    assert path.read_bytes().startswith(before)
    assert read_events(path) == [*expected, WITHDRAWN, APPROVED]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'{"event"', b'"event"', "line 1 is damaged"),
        (b'"approved"', b'"praised"', "event is 'praised': it must be approved or withdrawn"),
        (b'"rater"', b'"ratter"', "rater is missing"),
        (b'"hemi": "L"', b'"hemi": "M"', "line 1 is damaged"),
        (b'"labels": {', b'"labels": {"x": "y", ', "line 1 is damaged"),
        (b'"source": "manual"', b'"source": "dream"', "source is 'dream'"),
        (b'"participant": "01"', b'"participant": 1', "participant is 1"),
        (b'"T1w": "d"', b'"PET": "d"', "line 1 is damaged"),
        (b'"rater"', b'"\xff"', "line 1 is damaged"),
        (b'"decision": ""', b'"work": {"seconds": "long", "painted": {}}', "work.seconds is 'long'"),
        (b'"decision": ""', b'"work": {"seconds": 1, "painted": {"CA1": "few"}}', "work.painted.CA1 is 'few'"),
        (b'"decision": ""', b'"work": 3', "line 1 is damaged"),
        (b'"participant": "01"', b'"participant": "../../01"', "participant is '../../01'"),
        (b'"session": "1"', b'"session": "1/../.."', "session is '1/../..'"),
        (b'"session": "1"', b'"session": ["1"]', "session is ['1']"),
        (b'"file_sha256": "c", ', b"", "file_sha256 is missing"),
        (b'"labels": {"1"', b'"labels": {"-1"', "labels.-1.[key] is '-1'"),
        (b'"labels": {"1"', b'"labels": {"99999999999999999999"', "labels.99999999999999999999.[key] is '9"),
        (b'"labels": {"1": "CA1", "300": "cyst"}', b'"labels": ["CA1"]', "line 1 is damaged"),
        (b'"T1w": "d"', b'"T1w": ["d"]', "crop_sha256.T1w is ['d']: it must be a text"),
        (b'"dice": 0.5', b'"dice": "much"', "effort.0.dice is 'much': it must be a number"),
        (b'"voxels_changed": 12', b'"voxels_changed": [12]', "effort.0.voxels_changed is [12]"),
        (b'"voxels_united": 18', b'"voxels_united": "many"', "effort.0.voxels_united is 'many'"),
        (b'"dice": 0.5', b'"dice": NaN', "a number is nan"),
        (b'"accepted": ["volume"]', b'"accepted": 3', "line 1 is damaged"),
        (b'"rater": "', b'"rater": "bo", "rater": "', "'rater' stands twice"),
    ],
)
def test_damage_in_the_middle_names_file_and_line(path: Path, old: bytes, new: bytes, words: str) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(BadDataError, match=r"approvals\.jsonl, line 1") as caught:
        read_events(path)
    assert words in caught.value.message


def test_a_line_of_an_older_version_tells_the_union_by_dice_and_changed_voxels(path: Path) -> None:
    """Dice .5 with 12 changed voxels: 24 in both masks together, 6 of them in either mask twice, 18 in the union."""
    content = path.read_bytes()
    old = content.replace(b', "voxels_united": 18', b"").replace(b', "voxels_united": 0', b"")
    assert b"voxels_united" not in old
    path.write_bytes(old)
    assert read_events(path) == [APPROVED, WITHDRAWN]


def test_blank_lines_and_what_later_versions_add_do_no_harm(path: Path) -> None:
    path.write_bytes(b"\n" + path.read_bytes().replace(b'"rater"', b'"mood": "good", "rater"') + b"\n")
    assert read_events(path) == [APPROVED, WITHDRAWN]
