"""The queue: who needs eyes first, what it notices, and that asking again costs nothing; the pages of other levels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nibabel import Nifti1Image

from bidsapp.cli import main
from bidsapp.editor import sides
from bidsapp.layout import OutputLayout, sidecar
from bidsapp.records import Work
from bidsapp.report.people_pages import write_group_pages
from bidsapp.review.events import read_events
from bidsapp.review.table import read_review_table
from tests.editor.conftest import FIRST, Page, write_side


def queue(page: Page) -> list[dict[str, object]]:
    answer = page.get("/api/queue")
    assert answer.status_code == 200, answer.text
    return answer.json()["sides"]


def test_those_who_need_eyes_come_first(page: Page, study: OutputLayout) -> None:
    """The right sides' predictions are amber; one left side's sidecar says red, another side has no prediction."""
    found = sidecar(study.session("02", None).prediction("L"))
    facts = json.loads(found.read_text())
    facts["HippoTune"]["judgements"] = [{"level": "red", "measure": "m", "value": 0.0, "words": "no adult's does"}]
    found.write_text(json.dumps(facts))
    sidecar(study.session("01", None).prediction("R")).unlink()
    lines = queue(page)
    assert [line["id"] for line in lines] == ["sub-02_hemi-L", "sub-01_hemi-R", "sub-02_hemi-R", "sub-01_hemi-L"]
    assert [line["level"] for line in lines] == ["red", "amber", "amber", "green"]
    assert [line["reasons"] for line in lines] == [
        ["no adult's does"],
        ["nothing was predicted: draw it"],
        ["the R side is small"],
        [],
    ]
    assert page.get("/api/queue").json()["counts"] == {"pending": 4}


def test_a_damaged_sidecar_is_red_and_hides_nobody(page: Page, study: OutputLayout) -> None:
    found = sidecar(study.session("02", None).prediction("L"))
    facts = json.loads(found.read_text())
    facts["HippoTune"]["judgements"] = [{"level": "purple"}]
    found.write_text(json.dumps(facts))
    lines = queue(page)
    assert (len(lines), lines[0]["id"], lines[0]["level"]) == (4, "sub-02_hemi-L", "red")


def test_asking_again_costs_nothing_until_something_changes(
    page: Page, study: OutputLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = page.get("/api/queue")
    tag = first.headers["etag"]
    monkeypatch.setattr(sides, "read_review_table", None)  # nothing is read again
    monkeypatch.setattr(sides, "recorded_facts", None)
    again = page.get("/api/queue", **{"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    monkeypatch.undo()
    study.review_table.write_text(study.review_table.read_text().replace("pending", "rejected", 1))
    changed = page.get("/api/queue", **{"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.json()["counts"] == {"pending": 3, "rejected": 1}


def test_an_approval_that_nobody_recorded_is_marked(page: Page, study: OutputLayout) -> None:
    study.review_table.write_text(study.review_table.read_text().replace("pending\tn/a", "approved\tBob", 1))
    line = next(line for line in queue(page) if line["id"] == FIRST)
    assert (line["status"], line["recorded"], line["rater"]) == ("approved", False, "Bob")
    assert "not recorded" in str(line["reasons"])
    page.hold()
    assert page.decide("approved", rater="Bob").json()["recorded"]
    line = next(line for line in queue(page) if line["id"] == FIRST)
    assert (line["status"], line["recorded"]) == ("approved", True)


def test_new_people_are_noticed(page: Page, study: OutputLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(queue(page)) == 4
    image = Nifti1Image(np.ones((3, 4, 5), np.float32), np.eye(4))
    write_side(study, "10", "L", image, None)
    monkeypatch.setattr(sides, "LIST_AGAIN_SECONDS", 0.0)
    assert "sub-10_hemi-L" in [line["id"] for line in queue(page)]
    page.hold("sub-10_hemi-L")
    assert page.decide("needs_edit", "sub-10_hemi-L").json()["recorded"]  # and gets a row where it has none
    assert read_review_table(study.review_table).deciding_rows()["10", None, "L"].status == "needs_edit"
    side = page.side("sub-10_hemi-L")
    assert (side["prediction"], side["labels"], side["other"]) == (None, [], None)
    assert "nobody says what labels there are" in side["notes"][0]


def test_time_is_counted_until_the_ledger_has_it(page: Page, study: OutputLayout) -> None:
    page.hold()
    page.decide("needs_edit", seconds=30)
    assert page.side()["seconds_spent"] == 30
    page.decide("approved", seconds=4.5, changed={"Anterior": 7})
    (event,) = read_events(study.ledger)
    assert event.work == Work(34.5, {"Anterior": 7})
    assert page.side()["seconds_spent"] == 34.5
    assert not study.editing_work(FIRST).exists()


def test_pages_of_other_levels_link_to_the_editor_and_stay_as_they_are(
    study: OutputLayout, visit: Callable[[OutputLayout], Page], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    assert main([str(tmp_path / "data"), str(study.root), "review"]) == 0
    write_group_pages(study)
    section = '<section id="session-L">\n<h2 class="with-badge">Left</h2>\n</section>'
    study.page("01").write_text(f"<main>{section}{section.replace('-L', '-R')}</main>")
    before = {path: path.read_bytes() for path in study.root.rglob("*.html")}
    assert len(before) == 3
    page = visit(study)
    assert 'href="/"' in page.get("/pages/index.html").text
    review = page.get("/pages/labels/review.html").text
    assert [f'href="/#sub-{person}_hemi-{side}"' in review for person in ("01", "02") for side in "LR"] == [True] * 4
    person = page.get("/pages/sub-01.html")
    assert person.text.index('/#sub-01_hemi-L"') < person.text.index('/#sub-01_hemi-R"')
    assert "sub-02" not in person.text
    assert "form-action 'none'" in person.headers["content-security-policy"]
    assert {path: path.read_bytes() for path in study.root.rglob("*.html")} == before
