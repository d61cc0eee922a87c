"""A bug of ours leaves a file with all that a report needs, for the run or for the one session that it met."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from bidsapp import __version__
from bidsapp.cli import main
from bidsapp.errors import CannotWriteError
from bidsapp.layout import OutputLayout
from bidsapp.logs import add_log_file, new_run
from bidsapp.participants.endings import Ending, show_endings
from bidsapp.participants.job import Job
from bidsapp.participants.workers import Outcome
from tests.bids.conftest import FakeDataset


def divide() -> None:
    raise ZeroDivisionError("nothing to divide")


def test_a_bug_in_one_session_costs_nobody_else_and_leaves_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepare_all(jobs: Sequence[Job], _processes: int) -> Generator[tuple[Job, Outcome], None, None]:
        for job in jobs:
            yield job, divide  # type: ignore[misc]

    monkeypatch.setattr("bidsapp.levels.participant.prepare_all", prepare_all)
    data = FakeDataset(tmp_path / "data")
    data.add("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz")
    layout = OutputLayout(tmp_path / "out")
    words = [str(data.root), str(layout.root), "participant", "--model", "none", "--skip-bids-validation"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert re.search(r"^  failed   sub-01 +0 s$", said, re.MULTILINE)
    assert "0 ok, 0 skipped, 2 failed" in said
    failure = json.loads(layout.failure("sub-02").read_text())
    crash = Path(failure["hint"].removeprefix("See ").removesuffix("."))
    assert crash.parent.parent == layout.logs
    text = crash.read_text()
    assert f"HippoTune   {__version__}" in text
    assert re.search(r"^torch +\d", text, re.MULTILINE)
    assert "in divide" in text
    assert "ZeroDivisionError: nothing to divide" in text


def test_a_bug_of_the_whole_run_leaves_a_file_beside_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs" / "now" / "group.log"

    def run(_request: object) -> None:
        add_log_file(log)
        divide()

    monkeypatch.setattr("bidsapp.levels.group.run", run)
    assert main([str(tmp_path), str(tmp_path / "out"), "group"]) == 70
    assert "in divide" in log.with_name("group.crash.txt").read_text()
    assert f"versions and traceback: {log.with_name('group.crash.txt')}" in capsys.readouterr().out


def test_runs_that_start_in_one_second_have_logs_of_their_own(tmp_path: Path) -> None:
    names = [new_run(tmp_path / "logs") for _ in range(3)]
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d{6}(-[23])?", name) for name in names)


def test_logs_that_are_a_link_to_nothing_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "logs").symlink_to(tmp_path / "gone")
    with pytest.raises(CannotWriteError, match="logs cannot be written"):
        new_run(tmp_path / "logs")


def test_the_table_names_all_of_few_and_the_failed_of_many(caplog: pytest.LogCaptureFixture) -> None:
    few = [Ending("sub-02", "failed", None), Ending("sub-03", "skipped", 0.4), Ending("sub-01_ses-1", "ok", 61.5)]
    with caplog.at_level(logging.INFO, "bidsapp"):
        show_endings(few)
        assert [line.rstrip() for line in caplog.messages] == [
            "  ok       sub-01_ses-1     62 s",
            "  skipped  sub-03            0 s",
            "  failed   sub-02",
            "  1 ok, 1 skipped, 1 failed",
        ]
        caplog.clear()
        show_endings([Ending(f"sub-{n}", "ok", 1) for n in range(50)] + few[:1])
        assert [line.split()[0] for line in caplog.messages] == ["failed", "50"]
