"""Training and export read approvals only while nobody records decisions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bidsapp.layout import ModelLayout
from bidsapp.levels.group import run
from bidsapp.levels.request import GroupRequest
from bidsapp.levels.segment_pairs import source_of_pairs
from bidsapp.review.ledger import labels_lock
from tests.approvals import ApprovedLabels


@pytest.fixture
def approved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApprovedLabels:
    approved = ApprovedLabels(tmp_path / "out", monkeypatch)
    approved.add("01", "R")
    return approved


def pairs_of(request: GroupRequest) -> int:
    with source_of_pairs(request, None, None) as source:
        return len(list(source.folder.glob("*_lbl.nii.gz")))


def exported(request: GroupRequest) -> int:
    run(request)
    assert request.export_to is not None
    return len(list(request.export_to.rglob("*_dseg.nii.gz")))


@pytest.mark.parametrize("read", [pairs_of, exported])
def test_nobody_takes_half_recorded_approvals(
    approved: ApprovedLabels, tmp_path: Path, caplog: pytest.LogCaptureFixture, read: Callable[[GroupRequest], int]
) -> None:
    export_to = tmp_path / "shared" if read is exported else None
    request = GroupRequest(ModelLayout(tmp_path / "model"), approved.layout, export_to=export_to)
    counted: list[int] = []
    reader = threading.Thread(target=lambda: counted.append(read(request)))
    with caplog.at_level(logging.WARNING, logger="bidsapp"):
        with labels_lock(approved.layout):
            reader.start()
            while reader.is_alive() and "waiting for it to end" not in caplog.text:
                reader.join(0.05)
            approved.add("02", "R")
        reader.join()
    assert counted == [2]


def test_a_dry_run_waits_for_nobody_and_writes_nothing(approved: ApprovedLabels, tmp_path: Path) -> None:
    request = GroupRequest(ModelLayout(tmp_path / "model"), approved.layout, dry_run=True)
    before = sorted(approved.layout.root.rglob("*"))
    assert pairs_of(request) == 1
    assert sorted(approved.layout.root.rglob("*")) == before
