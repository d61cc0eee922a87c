"""One tab has a side; what it painted is on the disk at once, and survives whatever happens to the server."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from bidsapp.corobl.grid import crop_image
from bidsapp.editor import deciding
from bidsapp.editor.drafts import unpack_voxels
from bidsapp.editor.holds import HOLD_SECONDS, Holds
from bidsapp.editor.security import TOKEN_HEADER
from bidsapp.errors import BadDataError
from bidsapp.layout import OutputLayout
from bidsapp.review.corrections import save_correction
from tests.conftest import ROOT
from tests.drawn import draw
from tests.editor.conftest import FIRST, Page, add_a_rim, write_side


def test_a_second_tab_is_refused_and_told_who_has_the_side(page: Page) -> None:
    first, second = page, Page(page.client, page.token, "tab-2")
    assert first.hold(rater="Ada").status_code == 200
    refused = second.hold(rater="Bob")
    assert refused.status_code == 409
    assert refused.json()["rater"] == "Ada"
    assert second.side()["holder"]["rater"] == "Ada"
    assert first.side()["holder"] is None
    for answer in (second.put_draft(draw("L")), second.save(), second.decide("rejected")):
        assert answer.status_code == 409
        assert answer.json()["holder"]["rater"] == "Ada"
    assert second.client.delete(f"/api/sides/{FIRST}/draft", headers=second.headers).status_code == 409
    second.client.delete(f"/api/sides/{FIRST}/hold", headers=second.headers)
    assert second.hold(rater="Bob").status_code == 409
    first.client.delete(f"/api/sides/{FIRST}/hold", headers=first.headers)
    assert second.hold(rater="Bob").status_code == 200


def test_a_hold_ends_when_its_tab_is_silent() -> None:
    now = [0.0]
    holds = Holds(clock=lambda: now[0])
    assert holds.take("side", "a", "Ada").tab == "a"
    now[0] = HOLD_SECONDS - 1
    assert holds.take("side", "b", "Bob").tab == "a"
    assert holds.take("side", "a", "").rater == "Ada"
    now[0] += HOLD_SECONDS - 1
    assert holds.take("side", "b", "Bob").tab == "a"
    now[0] += 2
    assert holds.holder("side") is None
    assert holds.take("side", "b", "Bob").rater == "Bob"


def test_a_draft_is_discarded_when_asked(page: Page, study: OutputLayout) -> None:
    page.hold()
    page.put_draft(draw("L"))
    assert study.draft(FIRST).exists()
    assert page.client.delete(f"/api/sides/{FIRST}/draft", headers=page.headers).status_code == 204
    assert page.side()["draft"] is None
    assert not study.manual_label("01", None, "L").exists()


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(bytes(23)),
        gzip.compress(bytes(25)),
        gzip.compress(bytes(24)) + b"more",
        gzip.compress(bytes(24))[:-1],
        gzip.compress(bytes(24))[:-5] + bytes(5),
        bytes(24),
        b"",
    ],
    ids=["short", "long", "behind", "cut", "checksum", "plain", "empty"],
)
def test_bodies_that_are_no_drawing_of_the_crop_are_refused(body: bytes) -> None:
    with pytest.raises(BadDataError):
        unpack_voxels(body, (2, 2, 3))


def test_voxels_come_with_i_running_fastest() -> None:
    voxels = unpack_voxels(gzip.compress(np.arange(24, dtype="<u2").tobytes()), (2, 3, 4))
    assert [voxels[1, 0, 0], voxels[0, 1, 0], voxels[0, 0, 1], voxels[1, 2, 3]] == [1, 2, 6, 23]


def test_a_draft_of_another_crop_is_kept_and_not_shown(page: Page, study: OutputLayout) -> None:
    page.hold()
    page.put_draft(draw("L"))
    other = study.draft("sub-01_hemi-R")
    study.draft(FIRST).replace(other)
    side = page.side("sub-01_hemi-R")
    assert side["draft"] is None
    assert any("does not lie on the grid" in note for note in side["notes"])
    assert other.exists()


def kept_aside(study: OutputLayout, side: str = FIRST) -> list[Path]:
    return sorted(path for path in study.editor.glob(f"{side}_dseg*.nii.gz") if path != study.draft(side))


def test_a_draft_that_does_not_fit_is_set_aside_before_the_first_stroke(page: Page, study: OutputLayout) -> None:
    study.editor.mkdir(parents=True)
    study.draft(FIRST).write_bytes(b"damaged")
    page.hold()
    for _ in range(2):
        assert page.put_draft(draw("L")).status_code == 204
    (kept,) = kept_aside(study)
    assert kept.read_bytes() == b"damaged"
    np.testing.assert_array_equal(page.labels(page.side()["draft"]), draw("L"))


def test_the_draft_of_another_tab_is_set_aside_and_a_tab_that_lost_the_side_is_refused(
    page: Page, study: OutputLayout
) -> None:
    first, second = page, Page(page.client, page.token, "tab-2")
    first.hold()
    first.put_draft(draw("L"))
    before = study.draft(FIRST).read_bytes()
    first.client.delete(f"/api/sides/{FIRST}/hold", headers=first.headers)
    second.hold()
    assert second.put_draft(add_a_rim(draw("L"))).status_code == 204
    (kept,) = kept_aside(study)
    assert kept.read_bytes() == before
    second.client.delete(f"/api/sides/{FIRST}/hold", headers=second.headers)
    now = study.draft(FIRST).read_bytes()
    answer = first.put_draft(draw("L"))
    assert (answer.status_code, answer.json()["hint"]) == (409, "Load the side again.")
    assert study.draft(FIRST).read_bytes() == now
    first.hold()
    assert first.put_draft(draw("L")).status_code == 204
    assert [path.read_bytes() for path in kept_aside(study)] == [before, now]


def test_a_draft_that_comes_while_the_server_saves_is_kept(
    page: Page, study: OutputLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.hold()
    page.put_draft(draw("L"))
    later, version = add_a_rim(draw("L")), page.side()["version"]

    def save_late(*arguments: Any, **named: Any) -> Path:
        path = save_correction(*arguments, **named)
        assert page.put_draft(later, version=version).status_code == 204
        return path

    monkeypatch.setattr(deciding, "save_correction", save_late)
    assert page.save(version=version).status_code == 200
    side = page.side()
    np.testing.assert_array_equal(page.labels(side["correction"]), draw("L"))
    np.testing.assert_array_equal(page.labels(side["draft"]), later)
    assert side["draft_outdated"]


@pytest.mark.parametrize("first_stroke", ["before", "after"])
def test_a_draft_of_an_earlier_crop_is_not_saved(page: Page, study: OutputLayout, first_stroke: str) -> None:
    page.hold()
    shown = page.side()["version"]
    if first_stroke == "before":
        page.put_draft(draw("L"))
    labels = draw("L")
    crop = crop_image(np.where(labels > 0, 3.0, 1.0).astype(np.float32), "L")
    write_side(study, "01", "L", crop, crop_image(labels, "L"))
    page.put_draft(labels, version=shown)
    assert page.side()["draft_outdated"]
    assert page.put_draft(labels).status_code == 204
    assert page.side()["draft_outdated"]
    answer = page.save()
    assert answer.status_code == 422
    assert "earlier crop" in answer.json()["message"]
    assert study.draft(FIRST).exists()
    assert not study.manual_label("01", None, "L").exists()
    page.client.delete(f"/api/sides/{FIRST}/draft", headers=page.headers)
    page.put_draft(labels)
    assert page.save().status_code == 200


@contextmanager
def server(layout: OutputLayout, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], Page]]]:
    """The real server in a process of its own."""
    (tmp_path / "data").mkdir(exist_ok=True)
    log = tmp_path / "server.log"
    command = [sys.executable, ROOT / "run.py", tmp_path / "data", layout.root, "review", "--serve", "--no-browser"]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    try:
        found, until = None, time.monotonic() + 120
        while found is None and time.monotonic() < until and process.poll() is None:
            found = re.search(r"(http://127\.0\.0\.1:\d+)/\?token=(\S+)", log.read_text())
            time.sleep(0.05)
        assert found is not None, log.read_text()
        client = httpx.Client(base_url=found[1], timeout=60)
        assert client.get(f"/?token={found[2]}").status_code == 200
        yield process, lambda: Page(client, found[2])
        client.close()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_a_killed_server_loses_no_stroke_and_a_stopped_one_ends_well(study: OutputLayout, tmp_path: Path) -> None:
    painted = draw("L").astype(np.uint16)
    with server(study, tmp_path) as (process, enter):
        page = enter()
        assert page.client.headers.get(TOKEN_HEADER) is None
        page.hold()
        for stroke in range(3):
            painted[stroke, 0, 0] = 1
            assert page.put_draft(painted).status_code == 204
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with server(study, tmp_path) as (process, enter):
        page = enter()
        side = page.side()
        assert not side["draft_outdated"]
        np.testing.assert_array_equal(page.labels(side["draft"]), painted)
        page.hold()
        assert page.put_draft(add_a_rim(painted)).status_code == 204
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert "the editor was stopped" in (tmp_path / "server.log").read_text()
    assert study.draft(FIRST).exists()


def test_one_server_per_folder(study: OutputLayout, tmp_path: Path) -> None:
    with server(study, tmp_path):
        command = [sys.executable, ROOT / "run.py", tmp_path / "data", study.root, "review", "--serve", "--no-browser"]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 73
    assert "is being worked on by process" in second.stdout
