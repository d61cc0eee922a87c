"""Names decide what a label is; integers never do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.labels.label_map import common_table, read_label_map, renumber, unused_names, value_map
from bidsapp.records import Approval, LabelTable

TISSUES = {1: "GM", 2: "SRLM", 7: "Cyst", 8: "DG"}


def approval(name: str, labels: dict[int, str]) -> Approval:
    return Approval(
        participant=name, session=None, hemi="R", rater="Ada", when="2026-01-02", labels=labels,
        label_sha256="", crop_sha256={}, transform_sha256={},
        source="manual",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("from_name\tto_name\nCA1\tGM\n", {"CA1": "GM"}),
        ("to_name\tfrom_name\nGM\tCA1\n", {"CA1": "GM"}),
        ("from_name\tto_name\tnote\nCA1\tGM\tas in HippUnfold\n", {"CA1": "GM"}),
        ("from_name\tto_name\nCA1\tGM\nCA2\tGM\n", {"CA1": "GM", "CA2": "GM"}),
        ("from_name\tto_name\nCyst\tn/a\n", {"Cyst": None}),
        ("from_name\tto_name\nCyst\t\n", {"Cyst": None}),
        ("from_name\tto_name\nCyst\n", {"Cyst": None}),
        ("from_name\tto_name\nCyst\tBackground\n", {"Cyst": None}),
        ("from_name\tto_name\nCornu ammonis 1\tGM\n", {"Cornu ammonis 1": "GM"}),
        ("\ufefffrom_name\tto_name\r\nCA1\tGM\r\n\r\n", {"CA1": "GM"}),
    ],
)
def test_a_map_is_read(text: str, names: dict[str, str | None], tmp_path: Path) -> None:
    path = tmp_path / "map.tsv"
    path.write_bytes(text.encode())
    assert read_label_map(path) == names


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no column 'from_name'"),
        ("from\tto\nCA1\tGM\n", "no column 'from_name'"),
        ("from_name\nCA1\n", "no column 'to_name'"),
        ("from_name\tto_name\n", "maps no label"),
        ("from_name\tto_name\n\tGM\n", "line 2: no from_name"),
        ("from_name\tto_name\nCA1\tGM\nCA1\tDG\n", "line 3: from_name 'CA1' stands twice"),
        ("from_name\tto_name\nCA1\tgrey matter\n", "line 2: 'grey matter' is not a label name"),
        ("from_name\tto_name\nCA1\tignore\n", "line 2: nnU-Net keeps the name 'ignore'"),
        ("from_name\tto_name\nCA1\tGM\tmore\n", "line 2: 'more' has no column"),
    ],
)
def test_a_faulty_map_is_refused_with_its_line(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "map.tsv"
    path.write_text(text)
    with pytest.raises(BadDataError) as caught:
        read_label_map(path)
    assert problem in caught.value.message
    assert str(path) in caught.value.message


def test_a_missing_map_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(NoInputError):
        read_label_map(tmp_path / "map.tsv")


@pytest.mark.parametrize(
    ("labels", "names", "table", "values"),
    [
        ({1: "A", 2: "B"}, {}, {1: "A", 2: "B"}, {1: 1, 2: 2}),
        ({1: "A", 2: "B"}, {}, {1: "B", 2: "A"}, {1: 2, 2: 1}),
        ({0: "background", 4: "A"}, {}, {17: "A", 18: "B"}, {4: 17}),
        ({1: "CA1", 2: "CA2", 3: "Cyst"}, {"CA1": "GM", "CA2": "GM", "Cyst": None}, {5: "GM"}, {1: 5, 2: 5, 3: 0}),
        ({1: "A", 2: "B"}, {"A": "B", "B": "A"}, {1: "A", 2: "B"}, {1: 2, 2: 1}),
    ],
)
def test_values_follow_names(
    labels: dict[int, str], names: dict[str, str | None], table: dict[int, str], values: dict[int, int]
) -> None:
    assert value_map(labels, LabelTable(table), names) == values


def test_values_are_exchanged_all_at_once() -> None:
    label = np.array([[0, 1, 2], [3, 2, 1]])
    changed = renumber(label, {1: 2, 2: 1, 3: 0}, file=Path("x"))
    assert changed.dtype == np.uint8
    assert changed.tolist() == [[0, 2, 1], [0, 1, 2]]
    wide = renumber(label, {1: 300, 2: 1, 3: 0}, file=Path("x"))
    assert wide.dtype == np.int16
    assert wide.tolist() == [[0, 300, 1], [0, 1, 300]]


def test_an_empty_label_map_stays_empty() -> None:
    assert renumber(np.zeros((2, 2), int), {1: 5}, file=Path("x")).tolist() == [[0, 0], [0, 0]]


def test_a_value_without_a_name_is_never_guessed() -> None:
    with pytest.raises(BadDataError, match=r"sub-01\.nii holds values without a name: 7, 9"):
        renumber(np.array([1, 7, 9]), {1: 1}, file=Path("sub-01.nii"))


def test_without_a_table_the_first_approval_counts() -> None:
    first, second = approval("01", TISSUES), approval("02", {1: "SRLM", 2: "GM"})
    assert common_table([first, second], {}, standing=None) == LabelTable(TISSUES)


def test_a_standing_table_counts_before_the_first_approval() -> None:
    standing = LabelTable({3: "GM", 4: "SRLM", 5: "Cyst", 6: "DG", 9: "HATA"})
    assert common_table([approval("01", TISSUES)], {}, standing=standing) is standing


def test_names_that_become_one_keep_the_smallest_integer() -> None:
    names = {"SRLM": "GM", "DG": "GM", "Cyst": None}
    assert common_table([approval("01", TISSUES)], names, standing=None) == LabelTable({1: "GM"})


def test_unknown_names_are_listed_with_their_people_and_a_way_out() -> None:
    others = [approval("02", {1: "GM", 5: "HATA"}), approval("03", {5: "HATA"}), approval("04", {1: "gm"})]
    with pytest.raises(BadDataError) as caught:
        common_table([approval("01", TISSUES), *others], {}, standing=None)
    assert "HATA (sub-02_hemi-R, sub-03_hemi-R); gm (sub-04_hemi-R)" in caught.value.message
    assert "It names: Cyst, DG, GM, SRLM" in caught.value.message
    assert "--label-map" in caught.value.hint
    names = {"HATA": None, "gm": "GM"}
    assert common_table([approval("01", TISSUES), *others], names, standing=None).names == TISSUES


@pytest.mark.parametrize("labels", [{1: "grey matter"}, {0: "background"}, {1: "ignore"}])
def test_a_first_table_that_nothing_can_learn_is_refused(labels: dict[int, str]) -> None:
    with pytest.raises(BadDataError, match="sub-01_hemi-R"):
        common_table([approval("01", labels)], {}, standing=None)


def test_names_that_nobody_has_are_told() -> None:
    assert unused_names({"GM": "A", "Gm": "A"}, [approval("01", TISSUES)]) == ("Gm",)
