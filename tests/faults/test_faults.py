"""Whatever operation a run is killed at, or the disk is full from: the same command again ends as if undisturbed."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import bids  # noqa: F401 - imported before the runs are forked, and not by each of them
import nibabel as nib
import numpy as np
import pytest

import bidsapp.levels.participant
import bidsapp.levels.review  # noqa: F401
from bidsapp.corobl.grid import crop_image
from bidsapp.layout import OutputLayout, SessionLayout
from bidsapp.records import SIDES
from bidsapp.review.events import read_events
from demo.simulate import simulate_people, simulate_side
from tests.faults.disturb import (
    KILLED,
    MODES,
    Mode,
    choose,
    content_of,
    copy_tree,
    leftovers,
    operations,
    run_disturbed,
)

EVERY = os.environ.get("HIPPOTUNE_FAULTS") == "all"
"""All operations; else some, and the first on the ledger."""

HEADER = "participant_id\tsession_id\themi\tstatus\trater\tdate\taccept\tcomment\n"


def command(study: Path, words: tuple[str, ...]) -> Callable[[], int]:
    """What the command line does with a study: a folder with data, out and tool."""

    def run() -> int:
        from bidsapp.cli import main

        return main([str(study / word.lower()) if word.isupper() else word for word in words])

    return run


def quietly(run: Callable[[], int]) -> Callable[[], int]:
    """Without its words, which thousands of runs would repeat."""

    def silent() -> int:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # noqa: PTH123
            return run()

    return silent


def must(study: Path, *words: str) -> Path:
    assert run_disturbed(command(study, words), study) == 0
    return study


PARTICIPANT = (
    *("DATA", "OUT", "participant", "--derivatives", "TOOL", "--model", "none"),
    *("--skip-bids-validation", "--nprocs", "1"),
)
REVIEW = ("DATA", "OUT", "review")
GROUP = (
    *("DATA", "OUT", "group", "--training-dir", "PAIRS", "--model-dir", "MODEL", "--nprocs", "1"),
    *("--preset", "tiny", "--iterations", "0", "--set", "training.features=4 8"),
)


def write_tool(study: Path, *, brighter: float = 0.0) -> None:
    """Ready-made crops of one simulated person."""
    session = SessionLayout(study / "tool", "A")
    session.anat.mkdir(parents=True, exist_ok=True)
    for side in SIDES:
        image = simulated(side)[0]
        nib.save(crop_image(image + np.float32(brighter), side), session.crop(side, "T1w"))


_SIMULATED: dict[str, tuple[np.ndarray, np.ndarray]] = {}


def simulated(side: str) -> tuple[np.ndarray, np.ndarray]:
    """Crop and label map, as in the head."""
    if side not in _SIMULATED:
        (image,), label = simulate_side(0, side, 3, ("T1w",), 0.3)
        step = -1 if side == "L" else 1
        crop, labels = (np.ascontiguousarray(np.asanyarray(one.dataobj)[::step]) for one in (image, label))
        _SIMULATED[side] = crop.astype(np.float32), labels
    return _SIMULATED[side]


def correct(study: Path, side: str, *, raised: int = 0) -> None:
    """Save a correction."""
    path = OutputLayout(study / "out").manual_label("A", None, side)
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = simulated(side)[1].copy()
    for _ in range(raised):
        labels[np.roll(labels == 1, 1, axis=2) & (labels == 0)] = 1
    path.unlink(missing_ok=True)
    nib.save(crop_image(labels, side), path)


def decide(study: Path, **status: str) -> None:
    layout = OutputLayout(study / "out")
    layout.label_names.write_text("index\tname\n1\tAnterior\n2\tPosterior\n")
    decisions = [(side, *words.split()) for side, words in status.items()]
    rows = [f"sub-A\tn/a\t{side}\t{word}\tAda\t{date}\tn/a\tn/a\n" for side, word, date in decisions]
    layout.review_table.write_text(HEADER + "".join(rows))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and another tool's crops of it; nothing done yet."""
    study = tmp_path_factory.mktemp("begun")
    write_tool(study)
    anat = study / "data" / "sub-A" / "anat"
    anat.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), anat / "sub-A_T1w.nii.gz")
    for folder, kind in (("data", "raw"), ("tool", "derivative")):
        description = {"Name": folder, "BIDSVersion": "1.8.0", "DatasetType": kind, "GeneratedBy": [{"Name": "x"}]}
        (study / folder / "dataset_description.json").write_text(json.dumps(description))
    return study


@pytest.fixture(scope="module")
def decided(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops are there, both sides are corrected and approved in the table."""
    study = must(copy_tree(begun, tmp_path_factory.mktemp("decided") / "study"), *PARTICIPANT)
    for side in SIDES:
        correct(study, side)
    decide(study, L="approved 1", R="approved 1")
    return study


@pytest.fixture(scope="module")
def approved(decided: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Review has recorded them."""
    return must(copy_tree(decided, tmp_path_factory.mktemp("approved") / "study"), *REVIEW)


@pytest.fixture(scope="module")
def changed(approved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One correction was changed and approved again, the other side rejected."""
    study = copy_tree(approved, tmp_path_factory.mktemp("changed") / "study")
    correct(study, "L", raised=1)
    decide(study, L="approved 2", R="rejected 2")
    return study


@pytest.fixture(scope="module")
def outdated(approved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tool's crops changed."""
    study = copy_tree(approved, tmp_path_factory.mktemp("outdated") / "study")
    shutil.rmtree(study / "tool" / "sub-A")
    write_tool(study, brighter=3.0)
    return study


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of three people; nothing trained yet. What `group` imports is imported before its runs are forked."""
    from bidsapp.report import training_report  # noqa: F401
    from bidsapp.sharing import packing  # noqa: F401
    from bidsapp.training import planning, testing, trainer, watch  # noqa: F401

    study = tmp_path_factory.mktemp("pairs") / "study"
    (study / "data").mkdir(parents=True)
    write_pairs(study, 3)
    return study


def write_pairs(study: Path, people: int) -> None:
    """Right sides of some people, the first of whom stay the same."""
    simulate_people(study / "pairs", people, seed=7, spacing_mm=2.0)
    for left in (study / "pairs").glob("*_hemi-L*"):
        left.unlink()


@pytest.fixture(scope="module")
def grown(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model was begun; then a person came, and each label lost a voxel."""
    study = must(copy_tree(pairs, tmp_path_factory.mktemp("grown") / "study"), *GROUP)
    shutil.rmtree(study / "pairs")  # its images are links
    write_pairs(study, 4)
    for path in (study / "pairs").glob("*_lbl.nii.gz"):
        label = nib.load(path)
        values = np.asarray(label.dataobj).copy()
        values[tuple(np.argwhere(values)[0])] = 0
        nib.save(nib.Nifti1Image(values, label.affine), path)
    return study


def check(
    study: Path,
    words: tuple[str, ...],
    mode: Mode,
    sample: int,
    tmp_path: Path,
    *,
    result: str = "out",
    again_words: Callable[[Path], tuple[str, ...]] | None = None,
) -> int:
    """Disturb a command at its operations in turn, and compare what the same command then gives; tells how many."""
    expected = copy_tree(study, tmp_path / "undisturbed")
    listed = operations(command(expected, words), expected, tmp_path / "trace")
    content = content_of(expected / result)
    wrong: list[str] = []
    numbers = choose(listed, every=EVERY, sample=sample)
    for number in numbers:
        tried = copy_tree(study, tmp_path / f"at-{number}")
        code = run_disturbed(quietly(command(tried, words)), tried, at=number, mode=mode)
        again = run_disturbed(quietly(command(tried, again_words(tried) if again_words else words)), tried)
        at = f"{mode} at {number}: {listed[number - 1].replace(str(expected), '')}"
        if code not in ((KILLED,) if mode == "killed" else (0, 1, 73)):
            wrong.append(f"{at}: ended with {code}")
        if again != 0:
            wrong.append(f"{at}: the same command ended with {again}")
        wrong += [f"{at}: {line}" for line in differences(content, content_of(tried / result))]
        wrong += [f"{at}: left {name}" for name in leftovers(tried / result)]
        shutil.rmtree(tried)
    assert not wrong, "\n".join(wrong)
    return len(numbers)


def differences(expected: dict[str, object], found: dict[str, object]) -> list[str]:
    """Which files are missing, too many or other, in words."""
    names = sorted(expected.keys() | found.keys())
    return [
        f"{name}: {found.get(name)!r:.300} instead of {expected.get(name)!r:.300}"
        for name in names
        if expected.get(name) != found.get(name)
    ]


@pytest.mark.parametrize("mode", MODES)
def test_review_that_approves(decided: Path, mode: Mode, tmp_path: Path) -> None:
    assert check(decided, REVIEW, mode, 1, tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_review_that_approves_again_and_withdraws(changed: Path, mode: Mode, tmp_path: Path) -> None:
    assert check(changed, REVIEW, mode, 1, tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_participant_that_publishes(begun: Path, mode: Mode, tmp_path: Path) -> None:
    assert check(begun, PARTICIPANT, mode, 1, tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_crops_that_are_replaced(outdated: Path, mode: Mode, tmp_path: Path) -> None:
    """Two withdrawals, one date."""
    assert check(outdated, (*PARTICIPANT, "--replace-crops"), mode, 2, tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_group_that_trains_on(grown: Path, mode: Mode, tmp_path: Path) -> None:
    """A run that was disturbed after its last segment was recorded has nothing to mend."""

    def unless_done(study: Path) -> tuple[str, ...]:
        segments = json.loads((study / "model" / "state.json").read_text())["segments"]
        return (*GROUP, *(("--no-extend",) if len(segments) == 2 else ()))

    assert check(grown, GROUP, mode, 1, tmp_path, result="model", again_words=unless_done)


def test_the_tool_sees_what_it_should(changed: Path, outdated: Path, tmp_path: Path) -> None:
    """Otherwise nothing is tested: these runs approve, withdraw, and move people's files away."""
    for study, words, kinds in (
        (changed, REVIEW, ["Approval", "WithdrawnEvent"]),
        (outdated, (*PARTICIPANT, "--replace-crops"), ["WithdrawnEvent", "WithdrawnEvent"]),
    ):
        tried = copy_tree(study, tmp_path / words[2])
        listed = operations(command(tried, words), tried, tmp_path / f"{words[2]}.trace")
        layout = OutputLayout(tried / "out")
        assert [type(event).__name__ for event in read_events(layout.ledger)[2:]] == kinds
        assert len(list(layout.all_superseded.iterdir())) == 1
        assert {re.split(r"\W", line.partition(".")[2])[0] for line in listed if line.startswith("os.")} >= {
            "rename",
            "remove",
            "write",
        }
