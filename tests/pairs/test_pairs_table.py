from __future__ import annotations

from pathlib import Path

import pytest

from bidsapp.errors import BadDataError
from bidsapp.pairs.pairs_table import PairRow, network_case, read_pairs_tables, update_pairs_table


def table(tmp_path: Path, text: str, name: str = "pairs.tsv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def said(row: PairRow):
    return row.participant, row.hemi, row.left, set(row.accept)


def test_a_missing_or_empty_table_says_nothing(tmp_path):
    assert read_pairs_tables(tmp_path / "pairs.tsv", table(tmp_path, "", "other.tsv")) == {}


@pytest.mark.parametrize(
    "text",
    [
        "id\tparticipant\themi\tleft\taccept\na_hemi-L\tP1\tleft\tAs in head\tVolume, shift\nb\tn/a\tR\tn/a\t\n",
        "\ufeffID;Participant;Hemi;Left;Accept\r\na_hemi-L;P1;L;as-in-head;volume shift\r\nb;;hemi-R;;N/A\r\n",
        'accept,left,id,hemi,participant\n"volume,shift",as_in_head,a_hemi-Lflip,L,P1\nn/a,n/a,b,right,n/a\n',
    ],
)
def test_a_table_is_read_however_a_spreadsheet_left_it(tmp_path, text):
    rows = read_pairs_tables(table(tmp_path, text))
    assert {case: said(row) for case, row in rows.items()} == {
        "a_hemi-Lflip": ("P1", "L", "as-in-head", {"volume", "shift"}),
        "b": ("", "R", None, set()),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pair\themi\na\tL\n", "line 1: no column 'id'"),
        ("id\themi\themi\na\tL\tR\n", "line 1: column 'hemi' stands twice"),
        ("id\themi\na\tB\n", "line 2: hemi is 'B'"),
        ("id\tleft\na\tyes\n", "line 2: left is 'yes'"),
        ("id\themi\na\tL\na\tR\n", "line 3: a stands twice"),
        ("id\themi\na_hemi-L\tL\na_hemi-Lflip\tL\n", "line 3: a_hemi-Lflip stands twice"),
        ("id\themi\nn/a\tL\n", "line 2: no id"),
        ("id\themi\na\tL\tx\n", "line 2: 'x' has no column"),
        ("id\themi\n\0", "is not text"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_line_and_value(tmp_path, text, message):
    with pytest.raises(BadDataError, match=message) as caught:
        read_pairs_tables(table(tmp_path, text))
    assert str(tmp_path / "pairs.tsv") in caught.value.message


def test_the_table_of_the_model_wins_cell_by_cell(tmp_path):
    model = table(tmp_path, "id\tparticipant\themi\na\tP1\tn/a\n", "model.tsv")
    output = table(
        tmp_path, "id\tparticipant\themi\taccept\tcontent\na\tP9\tL\tflip\tabc\nb\tP2\tR\tn/a\tn/a\n", "out.tsv"
    )
    rows = read_pairs_tables(model, output)
    assert said(rows["a"]) == ("P1", "L", None, {"flip"}) and rows["a"].content == "abc"
    assert said(rows["b"]) == ("P2", "R", None, set())


def test_what_was_found_is_written_beside_what_people_wrote(tmp_path):
    path = table(tmp_path, "id;notes;participant\nb_hemi-L;tilted;P2\nz;gone;P9\n")
    update_pairs_table(
        path,
        {
            "a": {"stored": "LAS", "content": "0" * 64, "findings": "none"},
            "b_hemi-Lflip": {"stored": "RAS", "content": "1" * 64, "participant": "nobody"},
        },
    )
    assert path.read_text().splitlines() == [
        "id\tparticipant\themi\tleft\taccept\tnotes\tstored\tcontent\tfindings",
        "a\tn/a\tn/a\tn/a\tn/a\tn/a\tLAS\t000000000000\tnone",
        "b_hemi-L\tP2\tn/a\tn/a\tn/a\ttilted\tRAS\t111111111111\tn/a",
        "z\tP9\tn/a\tn/a\tn/a\tgone\tn/a\tn/a\tn/a",
    ]
    before = path.read_bytes()
    update_pairs_table(path, {"a": {"stored": "LAS", "content": "0" * 64, "findings": "none"}})
    assert path.read_bytes() == before


def test_accept_counts_for_the_content_that_it_was_written_for(tmp_path):
    path = tmp_path / "pairs.tsv"
    update_pairs_table(path, {"a": {"content": "a" * 64}, "b": {"content": "b" * 64}})
    path.write_text(path.read_text().replace("a\tn/a\tn/a\tn/a\tn/a\t", "a\tn/a\tn/a\tn/a\tvolume\t", 1))
    assert read_pairs_tables(path)["a"].accepts("a" * 64) == {"volume"}
    update_pairs_table(path, {"a": {"content": "c" * 64}, "b": {"content": "c" * 64}})
    rows = read_pairs_tables(path)
    assert rows["a"].accepts("c" * 64) == frozenset() and rows["a"].accepts("a" * 64) == {"volume"}
    assert rows["b"].content == "c" * 12
    path.write_text(path.read_text().replace("aaaaaaaaaaaa", "n/a"))
    assert read_pairs_tables(path)["a"].accepts("c" * 64) == {"volume"}


@pytest.mark.parametrize(
    ("case", "ours"),
    [("a_hemi-L", "a_hemi-Lflip"), ("hemi-L_T1w", "hemi-Lflip_T1w"), ("a_hemi-Lflip",) * 2, ("a_hemi-LR",) * 2],
)
def test_ids_are_those_of_network_space(case, ours):
    assert network_case(case) == ours
