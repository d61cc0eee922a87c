"""What others wrote into ids, comments and names of files is only text on a terminal, in logs and in spreadsheets."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import pytest

from bidsapp.console import run_command
from bidsapp.errors import BadDataError, PartialFailureError
from bidsapp.levels.review import _show
from bidsapp.logs import log_to
from bidsapp.printable import people_text, plural, printable
from bidsapp.review.decisions import SideOutcome
from bidsapp.tsv import read_tsv, write_tsv

CLEAR = "\x1b[2J\x1b]0;title\x07"
TURNED = "\u202egnp.exe"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Müller, 李, 🧠, a\u00a0b", "Müller, 李, 🧠, a\u00a0b"),
        ("a\x1b[2J\x07\x9b", r"a\x1b[2J\x07\x9b"),
        ("a\nb\tc\r\x00", r"a\nb\tc\r\x00"),
        ("\u202eb\u2028", r"\u202eb\u2028"),
        ("\udcff", r"\udcff"),
        (r"\n", r"\n"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_what_is_kept_is_kept() -> None:
    assert printable("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"


def test_no_message_commands_the_terminal_or_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("bidsapp.test")

    def work(_arguments: list[str]) -> None:
        with log_to(tmp_path / "run.log"):
            log.warning("comment: %s", CLEAR)
            log.info(TURNED)
            raise BadDataError(f"{CLEAR}\n  second line", f"hint {CLEAR}")

    assert run_command(work, []) == 65
    shown = capsys.readouterr().out
    for text in (shown, (tmp_path / "run.log").read_text()):
        assert not set("\x1b\x07\u202e") & set(text)
        assert r"comment: \x1b[2J\x1b]0;title\x07" in text and r"\u202egnp" in text
    assert r"hint \x1b[2J" in shown and "\n  second line" in shown


def test_a_cell_of_the_review_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    rater = f"bo\n  approved   sub-02_hemi-L: prediction by bo{CLEAR}"

    def work(_arguments: list[str]) -> None:
        outcome = SideOutcome(("01", None, "L"), "refused", rater, reasons=(f"because\n{CLEAR}",))
        _show([outcome], [f"line 3: {rater!s}"])

    assert run_command(work, []) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(r"  refused    sub-01_hemi-L: nothing by bo\n  approved   sub-02")
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_a_letter_shows_its_number(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)

    def work(_arguments: list[str]) -> None:
        raise PartialFailureError("sub-01_李_\udcff")

    assert run_command(work, []) == 1
    stream.seek(0)
    assert stream.read().strip() == "error: sub-01_李_\\udcff".encode(encoding, "backslashreplace").decode(encoding)


@pytest.mark.parametrize(
    ("cell", "written", "read"),
    [
        ("=cmd|' /C calc'!A0", " =cmd|' /C calc'!A0", "=cmd|' /C calc'!A0"),
        ("@SUM(1)", " @SUM(1)", "@SUM(1)"),
        ("+1+1", " +1+1", "+1+1"),
        ("-", " -", "-"),
        (-1.5e-7, "-1.5e-07", "-1.5e-07"),
        ("-400.0", "-400.0", "-400.0"),
        ("a\tb\r\nc\u2028d", "a b c d", "a b c d"),
        ("sub-01", "sub-01", "sub-01"),
    ],
)
def test_no_cell_is_a_formula_or_two_cells(tmp_path: Path, cell: object, written: str, read: str) -> None:
    path = tmp_path / "table.tsv"
    write_tsv(path, ("id", "words"), [("1", cell)])
    assert path.read_text() == f"id\twords\n1\t{written}\n"
    (row,) = read_tsv(path, ("id",))
    assert row.cells["words"] == read


def test_one_is_no_plural() -> None:
    assert [people_text(count) for count in (0, 1, 2)] == ["0 people", "1 person", "2 people"]
    assert [plural(count, "pair") for count in (1, 1200)] == ["1 pair", "1,200 pairs"]
    assert plural(1, "side was", "sides were") == "1 side was"
