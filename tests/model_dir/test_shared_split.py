"""One place per person in all models of a data set."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from bidsapp.errors import BadDataError
from bidsapp.layout import OutputLayout
from bidsapp.model_dir.shared_split import decide_shared_split
from bidsapp.model_dir.split import read_split, write_split
from bidsapp.records import Split, SplitRow


def people(first: int, last: int) -> set[str]:
    return {f"sub-{number:02d}" for number in range(first, last + 1)}


def places(split: Split) -> dict[str, str]:
    return {row.participant_id: row.split for row in split.rows}


def test_a_second_model_shares_the_test_people(tmp_path: Path) -> None:
    output = OutputLayout(tmp_path)
    first = decide_shared_split(output, tmp_path / "a.tsv", people(1, 8), seed=1)
    assert read_split(output.people_split) == first
    second = decide_shared_split(output, tmp_path / "b.tsv", people(3, 12), seed=99)
    assert {person: place for person, place in places(second).items() if person in people(1, 8)} == {
        person: place for person, place in places(first).items() if person in people(3, 8)
    }
    assert {row.generation for row in second.rows} == {1}
    shared = read_split(output.people_split)
    assert shared.rows[:8] == first.rows
    assert places(shared) == places(first) | places(second)
    assert {row.generation for row in shared.rows[8:]} == {2}


def test_a_model_that_grows_takes_over_what_others_decided(tmp_path: Path) -> None:
    output = OutputLayout(tmp_path)
    first = decide_shared_split(output, tmp_path / "a.tsv", people(1, 5), seed=1)
    other = decide_shared_split(output, tmp_path / "b.tsv", people(1, 9), seed=2)
    grown = decide_shared_split(output, tmp_path / "a.tsv", people(1, 9), seed=1, locked=first)
    assert grown.rows[:5] == first.rows
    assert places(grown) == places(other)
    assert {row.generation for row in grown.rows[5:]} == {2}


def test_who_a_model_decided_elsewhere_becomes_known(tmp_path: Path) -> None:
    output = OutputLayout(tmp_path / "out")
    own = Split(tuple(SplitRow(f"sub-0{n}", name) for n, name in enumerate(("test", "train", "validation"))))
    write_split(tmp_path / "split.tsv", own)
    assert decide_shared_split(output, tmp_path / "split.tsv", own.people, seed=1) == own
    assert read_split(output.people_split) == own


def test_a_contradiction_names_the_person_and_changes_nothing(tmp_path: Path) -> None:
    output = OutputLayout(tmp_path / "out")
    write_split(output.people_split, Split((SplitRow("sub-01", "test"), SplitRow("sub-02", "train"))))
    write_split(tmp_path / "split.tsv", Split((SplitRow("sub-01", "train"), SplitRow("sub-02", "train"))))
    before = output.people_split.read_bytes()
    with pytest.raises(BadDataError, match=r"sub-01 \(test in the data set, train in the model\)") as caught:
        decide_shared_split(output, tmp_path / "split.tsv", people(1, 5), seed=1)
    assert "sub-02" not in caught.value.message
    assert output.people_split.read_bytes() == before


def test_a_dry_run_leaves_no_trace(tmp_path: Path) -> None:
    output = OutputLayout(tmp_path / "out")
    decide_shared_split(output, tmp_path / "split.tsv", people(1, 5), seed=1, write=False)
    assert not list(tmp_path.iterdir())


def test_a_split_that_cannot_be_decided_adds_nobody(tmp_path: Path) -> None:
    output = OutputLayout(tmp_path)
    with pytest.raises(BadDataError, match="needs 3 people"):
        decide_shared_split(output, tmp_path / "a.tsv", people(1, 2), seed=1)
    assert not output.people_split.exists()
    assert not output.people_split_lock.exists()


def _decide(root: Path, seed: int) -> None:
    split = decide_shared_split(OutputLayout(root), root / f"{seed}.tsv", people(1, 10), seed=seed)
    write_split(root / f"{seed}.tsv", split)
    os._exit(0)


def test_runs_at_once_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=_decide, args=(tmp_path, seed)) for seed in range(1, 5)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0] * 4
    shared = places(read_split(OutputLayout(tmp_path).people_split))
    assert shared.keys() == people(1, 10)
    for seed in range(1, 5):
        own = places(read_split(tmp_path / f"{seed}.tsv"))
        assert own == {person: shared[person] for person in own}


def test_what_is_judged_is_what_is_written(tmp_path: Path) -> None:
    output, judged = OutputLayout(tmp_path), []
    split = decide_shared_split(output, tmp_path / "a.tsv", people(1, 8), seed=1, judge=judged.append)
    assert judged == [split]

    def refuse(split: Split) -> None:
        assert split.people == people(1, 12)
        raise BadDataError("not so")

    before = output.people_split.read_bytes()
    with pytest.raises(BadDataError, match="not so"):
        decide_shared_split(output, tmp_path / "b.tsv", people(1, 12), seed=1, judge=refuse)
    assert output.people_split.read_bytes() == before
