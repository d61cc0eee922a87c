from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bidsapp.images.volumes import Volume
from bidsapp.pictures.drawing import as_picture, new_figure
from bidsapp.pictures.outlines import thumbnail_picture
from bidsapp.report.index_report import IndexRow, count_people, render_index, write_index
from bidsapp.report.participant_report import Concern, Failure
from tests.report.page_parser import NASTY, Page

AMBER = Concern("amber", "left hippocampus", "the volume is small")
RED = Concern("red", "registration of the T1w", "the template does not fit")


def names(page: Page) -> list[str]:
    """The sessions in the order of the table."""
    rows = page.html.split("<tbody>")[1].split("<tr>")[1:]
    return [Page(row).words.split()[0] for row in rows]


@pytest.fixture(scope="module")
def thumbnail(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("figures") / "thumbnail.png"
    path.write_bytes(as_picture(new_figure(16, 12, "black"), "").png)
    return path


def test_everything_is_said(thumbnail):
    row = IndexRow("01", "1", (AMBER,), {"L": 3104.4, "R": 3346.0}, {"L": thumbnail, "R": thumbnail})
    failure = Failure("02", None, "the file is truncated.", "logs/x/sub-02.log")
    page = Page(render_index([row], [failure], written="2026-01-02 03:04"))
    page.assert_it_is_safe()
    for text in (
        *(
            "2 people, 2 sessions: 1 failed, 1 amber",
            "sub-01_ses-1",
            "▲ Amber",
            "left hippocampus: the volume is small",
        ),
        *("3,104", "3,346", "0.93", "sub-02", "✕ Failed", "the file is truncated.", "logs/x/sub-02.log"),
        *("2026-01-02 03:04", "look at the pictures before you use it"),
    ):
        assert text in page.words, text
    thumbnails = [image for image in page.every("img") if image["alt"].startswith("sub-01_ses-1, ")]
    assert [image["alt"].split(", ")[1] for image in thumbnails] == ["left hippocampus", "right hippocampus"]
    assert [link["href"] for link in page.every("a")] == ["sub-01.html#ses-1"]


def test_the_worst_come_first_and_then_names_by_their_numbers():
    rows = [
        IndexRow("10", None),
        IndexRow("2", None),
        IndexRow("1", "b", (AMBER,)),
        IndexRow("1", "a", (AMBER, RED)),
        IndexRow("3", None, (AMBER,)),
    ]
    failures = [Failure("9", None, "x", "y"), Failure("08", None, "x", "y")]
    page = Page(render_index(rows, failures, written=""))
    assert names(page) == ["sub-08", "sub-9", "sub-1_ses-a", "sub-1_ses-b", "sub-3", "sub-2", "sub-10"]


def test_columns_sort_by_numbers_and_levels():
    rows = [IndexRow("01", None, (RED,), {"L": 900.25, "R": 1800.5}), IndexRow("02", None, (), {"L": math.nan})]
    page = Page(render_index(rows, [], written=""))
    values = [cell["data-value"] for cell in page.every("td") if "data-value" in cell]
    assert values == ["1", "900.25", "1800.5", "0.5", "3", "", "", ""]
    assert page.every("table")[0]["class"].split()[0] == "sortable"


@pytest.mark.parametrize(
    ("rows", "failures", "text"),
    [
        ([], [], "0 people, 0 sessions"),
        ([IndexRow("1", None)], [], "1 person, 1 session: 1 green"),
        ([IndexRow("1", "a"), IndexRow("1", "b", (RED,))], [], "1 person, 2 sessions: 1 red, 1 green"),
        (
            [IndexRow("1", "a"), IndexRow("2", None, (AMBER,))],
            [Failure("1", "a", "", ""), Failure("3", None, "", "")],
            "3 people, 3 sessions: 2 failed, 1 amber",
        ),
    ],
)
def test_people_are_counted(rows, failures, text):
    assert count_people(rows, failures) == text
    assert text in Page(render_index(rows, failures, written="")).text


def test_results_of_an_earlier_run_are_called_so(thumbnail):
    row = IndexRow("1", None, (AMBER,), {"L": 3000.0}, {"L": thumbnail})
    page = Page(render_index([row], [Failure("1", None, "disk full.", "log")], written=""))
    assert names(page) == ["sub-1"]
    assert "What is shown is of an earlier run." in page.text and "3,000" in page.text and "small" in page.text


def test_missing_thumbnails_and_volumes_are_no_error(tmp_path):
    page = Page(
        render_index([IndexRow("1", None, (), {"L": 3000.0, "R": 0.0}, {"L": tmp_path / "x.png"})], [], written="")
    )
    assert not page.every("img") and "no picture" in page.text and "n/a" in page.text


def test_volumes_of_several_sessions_are_plotted():
    rows = [IndexRow(name, None, (), {"L": 3000.0, "R": 3100.0}) for name in "ab"]
    assert len(Page(render_index(rows[:1], [], written="")).every("source")) == 0
    page = Page(render_index(rows, [], written=""))
    assert len(page.every("source")) == 1
    assert page.every("img")[0]["alt"] == "Volumes of all hippocampi in mm³, left and right"


def test_names_are_text_and_links_are_encoded():
    row = IndexRow(f"a/ä{NASTY}", f"#?{NASTY}", (Concern("red", f"place {NASTY}", f"words {NASTY}"),))
    failure = Failure(f"b{NASTY}", None, f"reason {NASTY}", f"log {NASTY}")
    page = Page(render_index([row], [failure], written=f"written {NASTY}"))
    page.assert_it_is_safe()
    for text in (row.name, failure.name, f"place {NASTY}", f"words {NASTY}", f"reason {NASTY}", f"log {NASTY}"):
        assert text in page.text
    (link,) = page.every("a")
    assert not set(link["href"]) & set("<> \"'$(){}?ä") and link["href"].count("#") == 1


def test_a_thousand_people_take_seconds(tmp_path):
    image = np.random.default_rng(0).uniform(size=(60, 60, 60))
    path = tmp_path / "thumbnail.png"
    path.write_bytes(thumbnail_picture(Volume(image, np.eye(4)), None, ()).png)
    one = IndexRow("0", None, (AMBER,), {"L": 3000.0, "R": 3100.0}, {"L": path, "R": path})
    rows = [replace(one, participant=str(number)) for number in range(1000)]
    start = time.process_time()
    html = render_index(rows, [], written="")
    assert time.process_time() - start < 5
    assert html.count("<img") == 2001 and len(html) < 60_000_000  # thumbnails of noise: real ones take a third


def test_the_page_is_written_whole(tmp_path):
    write_index(tmp_path / "index.html", [IndexRow("1", None)], [], written="x")
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == render_index([IndexRow("1", None)], [], written="x")
    assert list(tmp_path.iterdir()) == [tmp_path / "index.html"]
