from __future__ import annotations

import pytest

from bidsapp.labels.colours import label_colours
from bidsapp.labels.itksnap import itksnap_label_file


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_labels_have_the_colours_of_the_page():
    """Blue #56B4E9 is (86, 180, 233), orange #E69F00 is (230, 159, 0)."""
    found = rows(itksnap_label_file({1: "Anterior", 20: "Posterior"}))
    assert found == [
        '    0     0    0    0        0  0  0    "Clear Label"',
        '    1    86  180  233        1  1  1    "Anterior"',
        '   20   230  159    0        1  1  1    "Posterior"',
    ]
    assert list(label_colours((1, 20)).values()) == ["#56B4E9", "#E69F00"]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ('say "CA1"', "say 'CA1'"),
        ("a\nb\r\nc\td\x00e\x7ff\u2028g\x85h", "a b c d e f g h"),
        ("", "Label 3"),
        ('\n"', "'"),
        ("海马 $(touch x) <b>", "海马 $(touch x) <b>"),
    ],
)
def test_names_are_made_safe(name, written):
    text = itksnap_label_file({3: name})
    assert rows(text)[1:] == [f'    3    86  180  233        1  1  1    "{written}"']
    assert text.endswith("\n")


def test_the_background_is_described_once():
    assert rows(itksnap_label_file({0: "background", 1: "Hippocampus"})) == rows(itksnap_label_file({1: "Hippocampus"}))


def test_no_labels_leave_the_clear_label():
    assert len(rows(itksnap_label_file({}))) == 1
