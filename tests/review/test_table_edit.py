"""A decision goes into the table as a person would write it: its cells change, and not a byte beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidsapp.errors import CannotWriteError
from bidsapp.records import SideKey
from bidsapp.review.table import COLUMNS, ReviewTable, read_review_table, replace_table
from bidsapp.review.table_edit import Decision, decide_in_table
from tests.review.test_review_table import DAMAGES, EXPECTED

HEADER = "\t".join(COLUMNS)
SECOND: SideKey = ("02", None, "R")
DATE = "2026-11-25T18:02:11"


def decide(path: Path, content: bytes, **more: object) -> tuple[ReviewTable, bytes]:
    """What the table says after a decision about sub-02's right side, and its bytes."""
    path.write_bytes(content)
    table = read_review_table(path)
    facts = {"key": SECOND, "status": "approved", "rater": "Ben", "date": DATE, "comment": "good, at last"} | more
    new = decide_in_table(path, table, Decision(**facts))  # type: ignore[arg-type]
    replace_table(path, table, new)
    assert path.with_name(f"{path.name}.bak").read_bytes() == content
    return read_review_table(path), path.read_bytes()


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES)
def test_however_the_table_was_saved_the_other_rows_stay(tmp_path: Path, content: bytes) -> None:
    table, after = decide(tmp_path / "review.tsv", content, accept=frozenset({"pieces", "volume"}))
    assert table.problems == ()
    assert table.rows[0] == EXPECTED[0]
    row = table.deciding_rows()[SECOND]
    assert (row.status, row.rater, row.date, row.comment) == ("approved", "Ben", DATE, "good, at last")
    assert row.accept == {"pieces", "volume"}
    assert table.columns == read_review_table(tmp_path / "review.tsv.bak").columns
    assert after.startswith(content[: len(content) // 2])


def test_only_the_cells_of_the_decision_change(tmp_path: Path) -> None:
    first = "sub-01\tn/a\tL\tpending\t\t\t\t\thappy"
    content = f"{HEADER}\tMood\r\n\r\n{first}\r\n  sub-02\t \tright\t Pending\t\t\t\t\tso so\r\n"
    _, after = decide(tmp_path / "review.tsv", content.encode())
    new = f"  sub-02\t \tright\tapproved\tBen\t{DATE}\tn/a\tgood, at last\tso so"
    assert after.decode() == content.replace("  sub-02\t \tright\t Pending\t\t\t\t\tso so", new)


def test_notes_of_one_s_own_stay_when_the_row_moves_to_the_end(tmp_path: Path) -> None:
    lines = [
        f"my_notes\t{HEADER}\tMood",
        '"look ""here"""\tsub-02\tn/a\tR\tneeds_edit\tBen\t2026-01-01\tn/a\told\thappy',
        "other\tsub-02\tn/a\tR\trejected\tAda\t2026-01-02\tn/a\tn/a\tsad",
    ]
    _, after = decide(tmp_path / "review.tsv", ("\n".join(lines) + "\n").encode())
    moved = f'"look ""here"""\tsub-02\tn/a\tR\tapproved\tBen\t{DATE}\tn/a\tgood, at last\thappy'
    assert after.decode().splitlines() == [lines[0], lines[2], moved]


def test_columns_that_are_needed_are_added(tmp_path: Path) -> None:
    content = b"participant_id\tsession_id\themi\tstatus\nsub-01\tn/a\tL\tpending\nsub-02\tn/a\tR\tpending\n"
    table, after = decide(tmp_path / "review.tsv", content)
    assert table.columns == ("participant_id", "session_id", "hemi", "status", "rater", "date", "comment")
    lines = after.decode().splitlines()
    assert lines[1] == "sub-01\tn/a\tL\tpending"
    assert lines[2] == f"sub-02\tn/a\tR\tapproved\tBen\t{DATE}\tgood, at last"


RATERS = {
    "one's own row": (["approved\tBen", "pending\tn/a"], [("approved", "Ben"), ("pending", "")]),
    "the row that names nobody": (["rejected\tAda", "pending\tn/a"], [("rejected", "Ada"), ("approved", "Ben")]),
    "another's alone": (["rejected\tAda"], [("rejected", "Ada"), ("approved", "Ben")]),
    "one's own, another decided later": (
        ["needs_edit\tben", "rejected\tAda"],
        [("rejected", "Ada"), ("approved", "Ben")],
    ),
    "nobody's, another decided later": (["pending\tn/a", "rejected\tAda"], [("rejected", "Ada"), ("approved", "Ben")]),
}


@pytest.mark.parametrize(("before", "after"), RATERS.values(), ids=RATERS)
def test_the_last_word_is_the_one_that_was_just_said(
    tmp_path: Path, before: list[str], after: list[tuple[str, str]]
) -> None:
    lines = [
        HEADER,
        "sub-01\tn/a\tL\tpending",
        *(f"sub-02\tn/a\tR\t{row}" for row in before),
        "sub-03\tn/a\tL\tpending",
    ]
    table, content = decide(tmp_path / "review.tsv", "\n".join(lines).encode())
    assert [(row.status, row.rater) for row in table.rows_of_sides()[SECOND]] == after
    assert table.deciding_rows()[SECOND].rater == "Ben"
    assert len(content.decode().splitlines()) == len(lines) + (len(after) - len(before))
    assert b"sub-01\tn/a\tL\tpending\n" in content


def test_what_an_old_encoding_lacks_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "review.tsv"
    content = f"{HEADER}\nsub-02\tn/a\tR\tpending\tn/a\tn/a\tn/a\tfür später\n".encode("cp1252")
    table, after = decide(path, content, comment="schön")
    assert table.deciding_rows()[SECOND].comment == "schön"
    assert "schön".encode("cp1252") in after
    with pytest.raises(CannotWriteError, match="UTF-8"):
        decide(path, content, comment="良い")
    assert path.read_bytes() == content


def test_a_table_that_changed_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "review.tsv"
    path.write_bytes(DAMAGES["nothing"])
    table = read_review_table(path)
    new = decide_in_table(path, table, Decision(SECOND, "approved", "Ben", DATE))
    path.write_bytes(DAMAGES["CRLF"])
    with pytest.raises(CannotWriteError, match="was changed while"):
        replace_table(path, table, new)
    assert path.read_bytes() == DAMAGES["CRLF"]


WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30).map(lambda text: " ".join(text.split()))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(comment=WORDS, separator=st.sampled_from(["\t", ",", ";"]))
def test_any_words_come_back_as_they_were_said(tmp_path: Path, comment: str, separator: str) -> None:
    path = tmp_path / "review.tsv"
    content = f"{HEADER}\nsub-02\tn/a\tR\tpending\n".replace("\t", separator).encode()
    try:
        table, _ = decide(path, content, comment=comment)
    except CannotWriteError:  # said, and nothing was written
        assert path.read_bytes() == content
        return
    said = table.deciding_rows()[SECOND].comment
    assert said == ("" if comment.lower() == "n/a" else comment)
