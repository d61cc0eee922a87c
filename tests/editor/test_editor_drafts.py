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

import httpx
import numpy as np
import pytest

from bidsapp.editor.drafts import unpack_voxels
from bidsapp.editor.holds import HOLD_SECONDS, Holds
from bidsapp.editor.security import TOKEN_HEADER
from bidsapp.errors import BadDataError
from bidsapp.layout import OutputLayout
from tests.conftest import ROOT
from tests.drawn import draw
from tests.editor.conftest import FIRST, Page, add_a_rim


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
        assert client.get(f"/?token={found[2]}").status_code == 303
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
