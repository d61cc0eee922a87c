"""What spreadsheets do to the review table, and that rows are added without touching a byte of it."""

from __future__ import annotations

import codecs
import multiprocessing
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidsapp.errors import BadDataError, CannotWriteError
from bidsapp.records import SideKey
from bidsapp.review import table as review_table
from bidsapp.review.table import COLUMNS, ReviewRow, ReviewTable, add_rows, read_review_table

HEADER = "\t".join(COLUMNS)
PLAIN = (
    f"{HEADER}\n"
    "sub-01\tses-1\tL\tapproved\tana\t2026-01-31\tvolume, pieces\tgood\n"
    "sub-02\tn/a\tR\tneeds_edit\tn/a\tn/a\tn/a\tn/a\n"
)
KEYS: list[SideKey] = [("03", None, "L"), ("03", "pre", "R")]
ADDED = "sub-03\tn/a\tL\tpending\tn/a\tn/a\tn/a\tn/a\nsub-03\tses-pre\tR\tpending\tn/a\tn/a\tn/a\tn/a\n"
EXPECTED = (
    ReviewRow("01", "1", "L", "approved", "ana", "2026-01-31", frozenset({"volume", "pieces"}), "good", 2),
    ReviewRow("02", None, "R", "needs_edit", "", "", frozenset(), "", 3),
)


def read(tmp_path: Path, content: str | bytes) -> ReviewTable:
    path = tmp_path / "review.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_review_table(path)


def reordered(text: str) -> str:
    lines = [line.split("\t") for line in text.splitlines()]
    return "".join("\t".join(reversed(line)) + "\n" for line in lines)


QUOTED = "\n".join("\t".join(f'"{cell}"' for cell in line.split("\t")) for line in PLAIN.splitlines())
WITH_COMMAS = PLAIN.replace("volume, pieces", "volume pieces").replace("\t", ",")

DAMAGES = {
    "nothing": PLAIN.encode(),
    "CRLF": PLAIN.replace("\n", "\r\n").encode(),
    "CR": PLAIN.replace("\n", "\r").encode(),
    "mixed line ends": PLAIN.replace("\n", "\r\n", 1).encode(),
    "no last newline": PLAIN.rstrip("\n").encode(),
    "byte order mark": codecs.BOM_UTF8 + PLAIN.encode(),
    "UTF-16, little end first": codecs.BOM_UTF16_LE + PLAIN.replace("\n", "\r\n").encode("utf-16-le"),
    "UTF-16, big end first": codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
    "all quoted": QUOTED.encode(),
    "one cell quoted": PLAIN.replace("volume, pieces", '"volume, pieces"').encode(),
    "trailing blanks": PLAIN.replace("\n", "   \n").encode(),
    "blanks around cells": PLAIN.replace("\t", " \t ").encode(),
    "trailing tabs": PLAIN.replace("\n", "\t\t\n").encode(),
    "cut trailing cells": PLAIN.replace("\tn/a\tn/a\tn/a\tn/a\n", "\n").encode(),
    "reordered columns": reordered(PLAIN).encode(),
    "upper case": PLAIN.replace("approved", "APPROVED").replace("needs_edit", "Needs Edit").encode(),
    "hyphenated status": PLAIN.replace("needs_edit", " needs-edit ").encode(),
    "upper case columns": (HEADER.upper() + PLAIN.removeprefix(HEADER)).encode(),
    "spaced columns": PLAIN.replace("participant_id", "Participant ID").encode(),
    "no prefixes": PLAIN.replace("sub-", "").replace("ses-", "").encode(),
    "lower case sides": PLAIN.replace("\tL\t", "\tl\t").replace("\tR\t", "\tright\t").encode(),
    "semicolons": PLAIN.replace("\t", ";").encode(),
    "commas": WITH_COMMAS.encode(),
    "commas, all quoted": QUOTED.replace("\t", ",").encode(),
}


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES)
def test_what_spreadsheets_do_changes_nothing(tmp_path: Path, content: bytes) -> None:
    table = read(tmp_path, content)
    assert table.problems == ()
    assert table.rows == EXPECTED
    added = add_rows(tmp_path / "review.tsv", table, KEYS)
    after = (tmp_path / "review.tsv").read_bytes()
    assert added == 2
    assert after.startswith(content)
    again = read_review_table(tmp_path / "review.tsv")
    assert again.rows[:2] == EXPECTED
    assert [row.key for row in again.rows[2:]] == KEYS
    assert {row.status for row in again.rows[2:]} == {"pending"}
    assert again.problems == ()
    assert (tmp_path / "review.tsv.bak").read_bytes() == content


def test_rows_are_added_in_the_file_s_own_manner(tmp_path: Path) -> None:
    path = tmp_path / "review.tsv"
    before = codecs.BOM_UTF16_LE + "hemi;status;Mood;session_id;participant_id".encode("utf-16-le")
    table = read(tmp_path, before)
    add_rows(path, table, KEYS[:1])
    assert path.read_bytes() == before + "\nL;pending;n/a;n/a;sub-03\n".encode("utf-16-le")


def test_a_separator_that_is_no_tab_is_said(tmp_path: Path) -> None:
    (note,) = read(tmp_path, PLAIN.replace("\t", ";")).sheet.notes
    assert "semicolons" in note
    assert read(tmp_path, PLAIN).sheet.notes == ()


def test_an_old_encoding_is_read_and_said(tmp_path: Path) -> None:
    content = PLAIN.replace("ana", "Müller").encode("cp1252")
    table = read(tmp_path, content)
    assert table.rows[0].rater == "Müller"
    assert "Windows-1252" in table.sheet.notes[0]
    add_rows(tmp_path / "review.tsv", table, KEYS)
    assert (tmp_path / "review.tsv").read_bytes() == content + ADDED.encode()


def test_quoted_cells_hold_tabs_quotes_and_newlines_and_lines_are_counted(tmp_path: Path) -> None:
    text = (
        f'{HEADER}\n\nsub-01\tn/a\tL\tapproved\tana\t\t\t"a\ttab, a ""quote""\r\nand a line"\n'
        'sub-02\tn/a\tL\tapproved\tana\t\t\t5" wide\n'
    )
    first, second = read(tmp_path, text).rows
    assert first.comment == 'a\ttab, a "quote"\r\nand a line'
    assert (first.line, second.line) == (3, 5)
    assert second.comment == '5" wide'


def test_a_quote_that_nobody_closes_hides_no_row(tmp_path: Path) -> None:
    rows = [f'sub-0{number}\tn/a\tL\tapproved\tana\t\t\t"good' for number in (1, 2)]
    rows += ['sub-03\tn/a\tL\tapproved\tana\t\t\t"closed"', 'sub-04\tn/a\tL\tapproved\tana\t\t\tclosed"']
    table = read(tmp_path, "\n".join([HEADER, *rows]))
    assert [row.comment for row in table.rows] == ['"good', '"good', "closed", 'closed"']


def test_unknown_columns_are_kept(tmp_path: Path) -> None:
    table = read(tmp_path, f"{HEADER}\tMood\nsub-01\tn/a\tL\tpending\t\t\t\t\thappy\n")
    assert table.rows[0].other == {"Mood": "happy"}
    add_rows(tmp_path / "review.tsv", table, [("02", None, "L")])
    assert (tmp_path / "review.tsv").read_text().splitlines()[-1].split("\t")[-1] == "n/a"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            "sub-09\tn/a\tL\taproved",
            "status is 'aproved': it can be pending, approved, rejected, needs_edit",
        ),
        ("\tn/a\tL\tapproved", "participant_id is ''"),
        ("sub-0_9\tn/a\tL\tapproved", "participant_id is 'sub-0_9'"),
        ("sub-09\tses 1\tL\tapproved", "session_id is 'ses 1'"),
        ("sub-09\tn/a\tM\tapproved", "hemi is 'M': it can be L or R"),
        ("sub-09\tn/a\tL\tapproved\tana\t\t\tgood\tvery", "'very' has no column"),
    ],
)
def test_a_bad_row_is_named_and_hides_no_other(tmp_path: Path, row: str, words: str) -> None:
    first, *rest = PLAIN.splitlines(keepends=True)
    table = read(tmp_path, "".join([first, row + "\n", *rest]))
    (problem,) = table.problems
    assert problem.line == 2
    assert words in problem.words
    assert [(row.key, row.status) for row in table.rows] == [(row.key, row.status) for row in EXPECTED]


def test_two_rows_of_one_rater_are_a_conflict(tmp_path: Path) -> None:
    table = read(tmp_path, PLAIN + "01\t1\tl\trejected\tANA\n")
    assert [problem.line for problem in table.problems] == [2, 4]
    assert "line 4 is about the same side by the same rater (ana)" in table.problems[0].words
    assert [row.participant for row in table.rows] == ["02"]
    assert ("01", "1", "L") in table.keys


def test_a_date_of_any_length_is_a_decision(tmp_path: Path) -> None:
    first, second = (read(tmp_path, PLAIN.replace("2026-01-31", digit * 5000)).rows[0] for digit in "19")
    assert first.decision != second.decision


@pytest.mark.parametrize("rows", ["many people", "many raters of one side", "one rater, one side, again and again"])
def test_the_work_grows_with_the_rows_and_no_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: str) -> None:
    """Looks at a row are counted: comparing each with each would take a hundred times more."""
    count, looks = 2000, 0
    look = ReviewRow.key.fget
    assert look is not None

    def counted(row: ReviewRow) -> SideKey:
        nonlocal looks
        looks += 1
        return look(row)

    monkeypatch.setattr(ReviewRow, "key", property(counted))
    person = "sub-{0}" if rows == "many people" else "sub-1"
    rater = "rater{0}" if rows == "many raters of one side" else "ana"
    line = f"{person}\tn/a\tL\tapproved\t{rater}\n"
    table = read(tmp_path, HEADER + "\n" + "".join(line.format(number) for number in range(count)))
    added = add_rows(tmp_path / "review.tsv", table, [(f"new{number}", None, "R") for number in range(count)])
    assert added == count
    assert looks < 20 * count
    assert len(table.problems) == (count if rows.startswith("one rater") else 0)
    assert all(len(problem.words) < 300 for problem in table.problems)


def test_a_row_that_cannot_be_read_leaves_its_side_undecided(tmp_path: Path) -> None:
    table = read(tmp_path, PLAIN + "sub-01\tses-1\tL\trejcted\tbo\n")
    assert [problem.line for problem in table.problems] == [2, 4]
    assert "line 4 is about the same side" in table.problems[0].words


@pytest.mark.parametrize(
    ("row", "edited", "same"),
    [
        ("approved\tana\t2026-11-01\t\tgood", "approved\tana\t1/11/2026\t\t good ", True),
        ("approved\tana\t2026-11-01\t\tgood", "approved\tana\t2026-11-01\t\tgood, looked again", False),
        ("approved\tana\t2026-11-01\t\t", "approved\tana\t2026-11-01\t\tlooked again", False),
        ("approved\tana\t2026-11-01\t\tgood", "approved\tana\t2026-11-02\t\tgood", False),
        ("approved\tana\t2026-11-01\t\tgood", "approved\tbo\t2026-11-01\t\tgood", False),
        ("approved\tana\t2026-11-01\t\tgood", "approved\tana\t2026-11-01\tvolume\tgood", False),
        ("approved\tana\t2026-11-01\t\tgood", "rejected\tana\t2026-11-01\t\tgood", False),
    ],
)
def test_any_edit_of_a_row_is_a_new_decision_and_another_spelling_is_none(
    tmp_path: Path, row: str, edited: str, same: bool
) -> None:
    header = "participant_id\tsession_id\themi\tstatus\trater\tdate\taccept\tcomment\n"
    (before,), (after,) = (read(tmp_path, f"{header}01\t1\tL\t{one}\n").rows for one in (row, edited))
    assert after.is_decision(before.decision) == same
    assert after.is_decision(before.decision, before.comment) == same


def test_a_ledger_that_has_comments_beside_its_decisions_is_understood(tmp_path: Path) -> None:
    """As 0.1.0 wrote it: the fingerprint of a row with a comment is that of the row without."""
    header = "participant_id\tsession_id\themi\tstatus\trater\tdate\taccept\tcomment\n"
    (plain,) = read(tmp_path, f"{header}01\t1\tL\tapproved\tana\t1\t\t\n").rows
    (row,) = read(tmp_path, f"{header}01\t1\tL\tapproved\tana\t1\t\tgood\n").rows
    assert row.is_decision(plain.decision, "good")
    assert not row.is_decision(plain.decision, "")
    assert not row.is_decision(plain.decision)


def test_of_two_raters_the_last_decides_but_pending_is_no_decision(tmp_path: Path) -> None:
    more = "sub-01\tses-1\tL\trejected\tbo\nsub-01\tses-1\tL\tpending\tcy\n"
    table = read(tmp_path, PLAIN + more)
    assert len(table.rows) == 4
    assert table.deciding_rows()["01", "1", "L"].rater == "bo"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"participant_id\tsession_id\themi\n", "line 1: no column 'status'"),
        (f"{HEADER}\tHemi\n".encode(), "line 1: column 'hemi' stands twice"),
        (b"PK\x03\x04rest", "is a workbook"),
        (PLAIN.encode("utf-16-le"), "is not text"),
        (codecs.BOM_UTF16_LE + b"abc", "is damaged at byte"),
    ],
)
def test_what_is_no_table_is_an_error(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(BadDataError, match=r"review\.tsv") as caught:
        read(tmp_path, content)
    assert words in caught.value.message


@pytest.mark.parametrize("content", [None, b"", b"\n", codecs.BOM_UTF8])
def test_a_new_table_gets_a_header(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "labels" / "review.tsv"
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    table = read_review_table(path)
    assert table.rows == table.problems == ()
    assert add_rows(path, table, [*KEYS, KEYS[0]]) == 2
    assert path.read_bytes() == (content or b"") + f"{HEADER}\n{ADDED}".encode()
    assert path.with_name("review.tsv.bak").exists() == (content is not None)


def test_nothing_is_written_when_there_is_nothing_to_add(tmp_path: Path) -> None:
    table = read(tmp_path, PLAIN + "sub-03\tn/a\tL\taproved\n")
    before = (tmp_path / "review.tsv").stat()
    assert add_rows(tmp_path / "review.tsv", table, [("01", "1", "L"), ("03", None, "L")]) == 0
    assert (tmp_path / "review.tsv").stat() == before
    assert [path.name for path in tmp_path.iterdir()] == ["review.tsv"]


@pytest.mark.parametrize("existed", [True, False])
def test_a_table_that_changed_since_it_was_read_is_left_alone(tmp_path: Path, existed: bool) -> None:
    path = tmp_path / "review.tsv"
    table = read(tmp_path, PLAIN) if existed else read_review_table(path)
    path.write_text(PLAIN + "sub-09\tn/a\tL\tapproved\tana\n")
    with pytest.raises(CannotWriteError, match="was changed") as caught:
        add_rows(path, table, KEYS)
    assert caught.value.exit_code == 73
    assert path.read_text().endswith("sub-09\tn/a\tL\tapproved\tana\n")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["review.tsv"]


def test_a_save_during_the_writing_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "review.tsv"
    table = read(tmp_path, PLAIN)
    real = review_table.sync

    def save_meanwhile(temporary: Path) -> None:
        real(temporary)
        path.write_text("theirs")

    monkeypatch.setattr(review_table, "sync", save_meanwhile)
    with pytest.raises(CannotWriteError, match="was changed"):
        add_rows(path, table, KEYS)
    assert path.read_text() == "theirs"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["review.tsv", "review.tsv.bak"]


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    shared = tmp_path / "shared.tsv"
    shared.write_text(PLAIN)
    shared.chmod(0o664)
    path = tmp_path / "review.tsv"
    path.symlink_to(shared)
    add_rows(path, read_review_table(path), KEYS)
    assert path.is_symlink()
    assert shared.read_text() == PLAIN + ADDED
    assert shared.stat().st_mode & 0o777 == 0o664


def _add_one(path: str, barrier: threading.Barrier, number: int) -> None:
    table = read_review_table(Path(path))
    barrier.wait()
    try:
        add_rows(Path(path), table, [(f"p{number}", None, "L")])
    except CannotWriteError:
        raise SystemExit(73) from None


def test_of_runs_at_the_same_time_one_adds_and_the_others_stop(tmp_path: Path) -> None:
    path = tmp_path / "review.tsv"
    path.write_text(PLAIN)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    runs = [context.Process(target=_add_one, args=(str(path), barrier, number)) for number in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    codes = [run.exitcode for run in runs]
    table = read_review_table(path)
    assert set(codes) == {0, 73}
    assert path.read_text().startswith(PLAIN)
    assert len(table.rows) == 2 + codes.count(0)
    assert codes.count(0) == 1


CELL = st.one_of(
    st.sampled_from(
        ["", "n/a", "sub-01", "01", "L", "r", "approved", "Needs edit", "ses-1", '"', '""', '"x"', '"x\ny"']
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A header in any order, separator, line end and encoding, with anything at all below it."""
    separator = draw(st.sampled_from("\t,;"))
    columns = draw(st.permutations([*COLUMNS, draw(st.sampled_from(["Mood", "my note", ""]))]))
    lines = [list(columns), *draw(st.lists(st.lists(CELL, max_size=10), max_size=6))]
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = newline.join(separator.join(line) for line in lines) + draw(st.sampled_from(["", newline]))
    mark, encoding = draw(
        st.sampled_from([(b"", "utf-8"), (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_BE, "utf-16-be")])
    )
    return mark + text.encode(encoding)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=tables())
def test_any_table_survives_added_rows_byte_for_byte(tmp_path: Path, content: bytes) -> None:
    table = read(tmp_path, content)
    new: list[SideKey] = [("new1", None, "L"), ("new2", "x", "R")]
    add_rows(tmp_path / "review.tsv", table, new)
    assert (tmp_path / "review.tsv").read_bytes().startswith(content)
    again = read_review_table(tmp_path / "review.tsv")
    assert again.rows[: len(table.rows)] == table.rows
    assert again.problems == table.problems
    assert [row.key for row in again.rows[len(table.rows) :]] == new
