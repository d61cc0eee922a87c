"""What counts as a person's work on a crop."""

from __future__ import annotations

from pathlib import Path

import pytest

from bidsapp.labels.protection import persons_files, persons_work
from bidsapp.labels.review_table import read_review_table
from bidsapp.layout import OutputLayout
from bidsapp.records import Side

HEADER = "participant_id\tsession_id\themi\tstatus\trater\n"


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path)


def work(layout: OutputLayout, session: str | None = None, hemi: Side = "L") -> str | None:
    return persons_work(layout, read_review_table(layout.review_table), "01", session, hemi)


def test_without_labels_nobody_worked(layout: OutputLayout) -> None:
    assert work(layout) is None
    assert persons_files(layout, "01", None, "L") == ()


@pytest.mark.parametrize(
    ("row", "session", "hemi", "protects"),
    [
        ("sub-01\tn/a\tL\tapproved\tme", None, "L", True),
        ("01\t\tl\tRejected\tme", None, "L", True),
        ("sub-01\tn/a\tL\tneeds_edit\t", None, "L", True),
        ("sub-01\tn/a\tL\taproved\tme", None, "L", True),
        ("sub-01\tn/a\tL\tpending\tme\nsub-01\tn/a\tL\tpending\tme", None, "L", True),
        ("sub-01\tn/a\tL\tpending\t", None, "L", False),
        ("sub-01\tn/a\tL\t\t", None, "L", False),
        ("sub-01\tn/a\tL\tapproved\tme", None, "R", False),
        ("sub-01\tses-1\tL\tapproved\tme", None, "L", False),
        ("sub-01\tses-1\tL\tapproved\tme", "1", "L", True),
        ("sub-01\t1\tL\tapproved\tme", "1", "L", True),
        ("sub-02\tn/a\tL\tapproved\tme", None, "L", False),
    ],
)
def test_a_decision_protects_its_side(
    layout: OutputLayout, row: str, session: str | None, hemi: Side, protects: bool
) -> None:
    layout.labels.mkdir()
    layout.review_table.write_text(HEADER + row + "\n")
    assert (work(layout, session, hemi) is not None) == protects


@pytest.mark.parametrize("kind", ["manual", "approved"])
def test_a_label_file_protects_its_side(layout: OutputLayout, kind: str) -> None:
    path = (layout.manual_label if kind == "manual" else layout.approved_label)("01", "1", "R")
    path.parent.mkdir(parents=True)
    path.touch()
    assert work(layout, "1", "R")
    assert work(layout, "1", "L") is work(layout, None, "R") is None
    assert persons_files(layout, "01", "1", "R") == (path,)
