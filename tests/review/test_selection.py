"""Who is chosen among the approved, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from bidsapp.errors import BadDataError, NothingMatchesError, UsageError
from bidsapp.records import Approval, Side
from bidsapp.review.selection import Selection, SubsetRow, Wanted, read_subset, select_approvals


def approval(participant: str, hemi: Side, session: str | None = None) -> Approval:
    return Approval(
        participant=participant, session=session, hemi=hemi, rater="Ada", when="2026-01-02", labels={1: "A"},
        label_sha256="", crop_sha256={}, transform_sha256={},
        source="manual",
    )  # fmt: skip


VALID = [approval("01", "L"), approval("01", "R"), approval("02", "L", "a"), approval("02", "R", "b")]
REFUSED = {"sub-03_hemi-L": "changed since"}


def select(**wanted: object) -> Selection:
    return select_approvals(VALID, REFUSED, Wanted(**wanted))  # type: ignore[arg-type]


def names(selection: Selection) -> list[str]:
    return [one.name for one in selection.chosen]


@pytest.mark.parametrize(
    ("wanted", "chosen", "refused"),
    [
        ({}, ["sub-01_hemi-L", "sub-01_hemi-R", "sub-02_ses-a_hemi-L", "sub-02_ses-b_hemi-R"], ["sub-03_hemi-L"]),
        ({"participants": ["sub-01"]}, ["sub-01_hemi-L", "sub-01_hemi-R"], []),
        ({"participants": ["01,03"]}, ["sub-01_hemi-L", "sub-01_hemi-R"], ["sub-03_hemi-L"]),
        ({"exclude": ["01", "sub-03"]}, ["sub-02_ses-a_hemi-L", "sub-02_ses-b_hemi-R"], []),
        ({"sessions": ["ses-b"]}, ["sub-02_ses-b_hemi-R"], []),
    ],
)
def test_labels_choose(wanted: dict[str, object], chosen: list[str], refused: list[str]) -> None:
    selection = select(**wanted)
    assert names(selection) == chosen
    assert list(selection.refused) == refused
    everybody = {*(one.name for one in VALID), *REFUSED}
    assert {*chosen, *refused, *selection.left_out} == everybody


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"participants": ["01", "9"]}, ("sub-9", "sub-01, sub-02, sub-03")),
        ({"exclude": ["9"]}, ("sub-9", "sub-01, sub-02, sub-03")),
        ({"sessions": ["c"]}, ("ses-c", "ses-a, ses-b")),
    ],
)
def test_what_does_not_exist_is_an_error_that_lists_what_does(wanted: dict[str, object], said: tuple[str, str]) -> None:
    with pytest.raises(NothingMatchesError) as caught:
        select(**wanted)
    assert said[0] in caught.value.message
    assert said[1] in caught.value.hint


def test_an_empty_label_is_not_everybody() -> None:
    with pytest.raises(UsageError):
        select(participants=[""])


def test_reasons_name_the_choice() -> None:
    selection = select(participants=["02", "03"], sessions=["a"])
    assert selection.left_out["sub-01_hemi-L"] == "not in --participant-label"
    assert selection.left_out["sub-02_ses-b_hemi-R"] == "not in --session-label"


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("participant_id\nsub-01\n", ["sub-01_hemi-L", "sub-01_hemi-R"]),
        ("participant_id\themi\n01\tr\n", ["sub-01_hemi-R"]),
        ("participant_id\tsession_id\themi\n02\tses-a\tn/a\n01\tn/a\tL\n", ["sub-01_hemi-L", "sub-02_ses-a_hemi-L"]),
        ("note\tparticipant_id\nbest\tsub-02\n", ["sub-02_ses-a_hemi-L", "sub-02_ses-b_hemi-R"]),
    ],
)
def test_a_subset_chooses(text: str, chosen: list[str], tmp_path: Path) -> None:
    path = tmp_path / "subset.tsv"
    path.write_text(text)
    assert names(select(subset=path)) == chosen


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("participant_id\n", "names nobody"),
        ("subject\n01\n", "no column 'participant_id'"),
        ("participant_id\themi\n01\tleft\n", "line 2: hemi is 'left'"),
        ("participant_id\themi\nn/a\tL\n", "line 2: no participant_id"),
    ],
)
def test_a_faulty_subset_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "subset.tsv"
    path.write_text(text)
    with pytest.raises(BadDataError, match=problem):
        read_subset(path)


@pytest.mark.parametrize(("row", "missing"), [("01\t\tL\n09\t\tR", "sub-09_hemi-R"), ("02\tc\t", "sub-02_ses-c")])
def test_a_subset_row_that_nobody_meets_is_an_error(row: str, missing: str, tmp_path: Path) -> None:
    path = tmp_path / "subset.tsv"
    path.write_text(f"participant_id\tsession_id\themi\n{row}\n")
    with pytest.raises(NothingMatchesError, match=missing):
        select(subset=path)


def test_rows_keep_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "subset.tsv"
    path.write_text("participant_id\n\nsub-01\n")
    assert read_subset(path) == (SubsetRow(3, "01"),)
