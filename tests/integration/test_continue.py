"""The same command again: after kill -9, after a signal, on a full disk, with more people, with other wishes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bidsapp.layout import ModelLayout
from bidsapp.model_dir.split import read_split
from bidsapp.training.checkpoints import load_checkpoint
from demo.simulate import simulate_people
from tests.conftest import ROOT
from tests.integration.conftest import EVERY, ITERATIONS, SEED, SMALL, Trained, train

MANY = ("--iterations", "900")
"""More than any machine does before it is stopped, fewer than are worth compiling for."""
PICTURE_BYTES = 1000
"""TensorBoard's file is smaller before the first validation."""


def command(pairs: Path, model_dir: Path, *options: str) -> list[str]:
    return [
        *(sys.executable, str(ROOT / "run.py"), str(pairs), str(model_dir.parent / "out"), "group"),
        *("--training-dir", str(pairs), "--model-dir", str(model_dir)),
        *("--preset", "tiny", *SMALL),
        *(() if "--iterations" in options else ("--iterations", str(ITERATIONS))),
        *options,
    ]


def segments(layout: ModelLayout) -> list[tuple[int, int, str]]:
    return [(s["start"], s["target"], s["stage"]) for s in json.loads(layout.state.read_text())["segments"]]


def same_weights(one: ModelLayout, other: ModelLayout) -> bool:
    first, second = (load_checkpoint(layout) for layout in (one, other))
    assert first and second
    return all(
        torch.equal(weight, second["network_weights"][name]) for name, weight in first["network_weights"].items()
    )


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Trained:
    """A finished model that a test may change."""
    layout = ModelLayout(tmp_path / "small")
    shutil.copytree(trained.layout.root, layout.root)
    return Trained(trained.pairs, layout, trained.run)


KILLED_AT: dict[str, Callable[[ModelLayout], bool]] = {
    "pairs are imported": lambda layout: any(layout.raw_images("Tr").glob("*.nii.gz")),
    "pairs are preprocessed": lambda layout: any(layout.preprocessed_cases.glob("*")),
    "a first checkpoint is written": lambda layout: layout.checkpoint.exists(),
    "a later checkpoint is written": lambda layout: layout.previous_checkpoint.exists(),
    "test people are predicted": lambda layout: any(layout.test.glob("*.nii.gz")),
}
"""When a run is killed -> what is seen first. `tests/faults` kills at single operations on files."""


def test_kills_at_every_stage_change_nothing(trained: Trained, tmp_path: Path) -> None:
    layout = ModelLayout(tmp_path / "small")
    words = command(trained.pairs, layout.root, "--set", "training.checkpoint_interval=4")
    killed = 0
    for reached in KILLED_AT.values():
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not reached(layout) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed, "this machine is too fast to be interrupted"
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert segments(layout) == [(0, ITERATIONS, "exported")]
    assert same_weights(layout, trained.layout)
    assert layout.scores.read_text() == trained.layout.scores.read_text()
    assert layout.split.read_text() == trained.layout.split.read_text()


def events_with_a_picture(layout: ModelLayout) -> set[Path]:
    return {path for path in layout.tensorboard.glob("events*") if path.stat().st_size > PICTURE_BYTES}


def test_a_signal_saves_where_it_is_and_asks_to_come_again(trained: Trained, tmp_path: Path) -> None:
    """Whether a person, a cluster that cancels, or one whose time is nearly up says it; the next run goes on there."""
    layout = ModelLayout(tmp_path / "small")
    never = ("training.checkpoint_interval=1000000", "training.validation_interval=2", "training.validation_batches=1")
    words = command(trained.pairs, layout.root, *MANY, *(word for one in never for word in ("--set", one)))
    reached = 0
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU):
        before = events_with_a_picture(layout)
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        while not events_with_a_picture(layout) - before:
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(number)
        output, _ = process.communicate()
        assert process.returncode == 75, output
        assert "Give the same command again" in output
        assert f"training on cpu from iteration {reached} to {MANY[1]}" in output
        checkpoint = load_checkpoint(layout)
        assert checkpoint
        assert checkpoint["iteration"] > reached
        reached = checkpoint["iteration"]
        assert f"stopped at iteration {reached} of {MANY[1]}" in output
    assert not layout.test.exists()


def test_a_finished_model_is_left_alone_with_no_extend(copied: Trained) -> None:
    before = copied.layout.state.read_text(), copied.layout.current_export.read_bytes()
    done = train(copied.pairs, copied.layout.root, "--no-extend")
    assert done.run.code == 0
    assert "nothing to do" in done.run.output
    assert (copied.layout.state.read_text(), copied.layout.current_export.read_bytes()) == before


def test_a_second_segment_goes_on_with_more_people_and_the_old_split(copied: Trained, tmp_path: Path) -> None:
    layout, more = copied.layout, tmp_path / "more"
    simulate_people(more, 11, SEED, spacing_mm=1.0)
    before = read_split(layout.split)
    done = train(more, layout.root, iterations=10)
    assert done.run.code == 0, done.run.output
    assert done.run.output.startswith(f"opening a new segment: iterations {ITERATIONS} to {ITERATIONS + 10}")
    assert "6 pairs are new: sub-009" in done.run.output
    assert segments(layout) == [(0, ITERATIONS, "exported"), (ITERATIONS, ITERATIONS + 10, "exported")]
    after = read_split(layout.split)
    assert after.rows[: len(before.rows)] == before.rows
    assert [row.generation for row in after.rows[len(before.rows) :]] == [2, 2, 2]
    checkpoint = load_checkpoint(layout)
    assert checkpoint
    assert checkpoint["iteration"] == ITERATIONS + 10
    steps = {int(state["step"]) for state in checkpoint["optimizer_state"]["state"].values()}
    assert steps == {10}, "a new segment begins with fresh momentum"
    rates = [line["learning_rate"] for line in checkpoint["history"]]
    assert max(rates[-1:]) <= 0.2 * 5e-3
    iterations = [line["iteration"] for line in checkpoint["history"]]
    assert iterations == [EVERY, 2 * EVERY, ITERATIONS, ITERATIONS + 10]


def test_no_iterations_test_and_export_only(copied: Trained) -> None:
    scores = copied.layout.scores.read_text()
    shutil.rmtree(copied.layout.test)
    done = train(copied.pairs, copied.layout.root, iterations=0)
    assert done.run.code == 0, done.run.output
    assert copied.layout.scores.read_text() == scores
    assert segments(copied.layout)[-1] == (ITERATIONS, ITERATIONS, "exported")


def test_no_iterations_on_a_new_model_export_what_chance_made(trained: Trained, tmp_path: Path) -> None:
    done = train(trained.pairs, tmp_path / "new", *SMALL, iterations=0)
    assert done.run.code == 0, done.run.output
    assert segments(done.layout) == [(0, 0, "exported")]
    assert done.layout.exported_model(0).exists()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--set", "training.features=4 8 16 32"], 2, "training.features = 4 8 16 32 (trained with 4 4 8 96)"),
        (["--set", "training.seed=1"], 2, "training.seed"),
        (["--model", "other"], 2, "--model other"),
    ],
)
def test_another_network_is_refused(copied: Trained, options: list[str], code: int, said: str) -> None:
    before = copied.layout.state.read_text()
    done = train(copied.pairs, copied.layout.root, *options)
    assert done.run.code == code
    assert said in done.run.output
    assert "--model-dir" in done.run.output or "scratch" in done.run.output
    assert copied.layout.state.read_text() == before


def test_another_label_table_is_refused(copied: Trained, tmp_path: Path) -> None:
    pairs = tmp_path / "renamed"
    shutil.copytree(copied.pairs, pairs)
    (pairs / "labels.tsv").write_text("index\tname\n1\tHead\n2\tTail\n")
    done = train(pairs, copied.layout.root)
    assert done.run.code == 65
    assert "1 Anterior, 2 Posterior became 1 Head, 2 Tail" in done.run.output


def test_a_corrected_label_does_not_hide_a_renamed_test_person(copied: Trained, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs"
    shutil.copytree(copied.pairs, pairs)
    (person, *_) = sorted(read_split(copied.layout.split).people_in("test"))
    for path in pairs.glob(f"{person}_*"):
        path.rename(path.with_name(path.name.replace(person, "sub-new")))
    label = nib.load(pairs / "sub-new_hemi-R_lbl.nii.gz")
    corrected = np.asarray(label.dataobj).copy()
    corrected[np.nonzero(corrected)[0][0]] = 0
    nib.save(nib.Nifti1Image(corrected, label.affine), pairs / "sub-new_hemi-R_lbl.nii.gz")
    done = train(pairs, copied.layout.root)
    assert done.run.code == 65
    assert f"sub-new_hemi-R belongs to sub-new, before to {person}" in done.run.output


def test_another_optimizer_may_finish_a_segment(copied: Trained) -> None:
    layout = copied.layout
    state = json.loads(layout.state.read_text())
    state["segments"][0] |= {"stage": "training", "target": ITERATIONS + 4}
    layout.state.write_text(json.dumps(state))
    done = train(copied.pairs, layout.root, "--set", "optimizer.name=sgd", iterations=500)
    assert done.run.code == 0, done.run.output
    assert "changed since the segment began: optimizer.name = sgd (was adamw)" in done.run.output
    assert "--iterations 500 has no effect on it" in done.run.output
    assert segments(layout) == [(0, ITERATIONS + 4, "exported")]


def test_people_cannot_be_renamed_into_another_part(copied: Trained, tmp_path: Path) -> None:
    done = train(copied.pairs, copied.layout.root, "--participant-pattern", r"sub-0*(\d+)")
    assert done.run.code == 65
    assert "sub-001_hemi-R belongs to 1, before to sub-001" in done.run.output


def test_a_damaged_final_checkpoint_is_trained_again_before_the_test(copied: Trained) -> None:
    layout = copied.layout
    weights, scores = load_checkpoint(layout), layout.scores.read_text()
    state = json.loads(layout.state.read_text())
    state["segments"][0]["stage"] = "testing"
    layout.state.write_text(json.dumps(state))
    layout.checkpoint.write_bytes(b"torn")
    done = train(copied.pairs, layout.root)
    assert done.run.code == 0, done.run.output
    again = load_checkpoint(layout)
    assert weights
    assert again
    assert again["iteration"] == ITERATIONS
    assert all(torch.equal(w, again["network_weights"][name]) for name, w in weights["network_weights"].items())
    assert layout.scores.read_text() == scores


def test_nobody_leaves_the_test(copied: Trained) -> None:
    layout = copied.layout
    (person, *_) = read_split(layout.split).people_in("test")
    layout.split.write_text(layout.split.read_text().replace(f"{person}\ttest", f"{person}\ttrain"))
    done = train(copied.pairs, layout.root)
    assert done.run.code == 65
    assert f"{person}: test -> train" in done.run.output


def test_an_edited_config_is_used_and_never_rewritten(copied: Trained) -> None:
    config = copied.layout.config
    config.write_text("# mine\n" + config.read_text().replace("warmup_iterations = 0", "warmup_iterations = 3"))
    edited = config.read_text()
    done = train(copied.pairs, copied.layout.root, "--set", "optimizer.next_peak=0.1", iterations=2)
    assert done.run.code == 0, done.run.output
    assert "for this run: optimizer.next_peak = 0.1 (config.ini: 0.2)" in done.run.output
    assert config.read_text() == edited
    used = sorted(copied.layout.logs.glob("*/settings.ini"))[-1].read_text()
    assert "next_peak = 0.1" in used
    assert "warmup_iterations = 3" in used
    config.write_text(edited.replace("iterations = ", "iteration = "))
    broken = train(copied.pairs, copied.layout.root)
    assert broken.run.code == 65
    assert f"{config}, line " in broken.run.output


def test_tensorboard_has_curves_by_label_name_and_a_picture(trained: Trained) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained.layout.tensorboard), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    assert {"loss/training", "loss/validation", "dice/Anterior", "dice/Posterior", "learning_rate"} <= set(
        tags["scalars"]
    )
    assert {"speed/iterations_per_second", "memory/peak_GB"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("dice/mean")] == [EVERY, 2 * EVERY, ITERATIONS]
    (tag,) = tags["images"]
    picture = events.Images(tag)[-1]
    assert picture.width == 3 * 40


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB, where the machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_keeps_the_last_good_checkpoint(trained: Trained, small_disk: Path) -> None:
    layout = ModelLayout(small_disk / "small")
    words = command(trained.pairs, layout.root, *MANY, "--set", "training.checkpoint_interval=2")
    started = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while not layout.previous_checkpoint.exists():
        assert started.poll() is None
        time.sleep(0.05)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "someone else's data").write_bytes(b"\0" * max(0, free - 1_000_000))
    assert started.wait() == 73
    checkpoint = load_checkpoint(layout)
    assert checkpoint
    assert checkpoint["iteration"] > 0
    (small_disk / "someone else's data").unlink()


def test_a_file_that_may_not_grow_is_a_full_disk_too(copied: Trained) -> None:
    """Without root: the system refuses files beyond a size, and says so with another error."""
    before = load_checkpoint(copied.layout)
    process = subprocess.run(
        command(copied.pairs, copied.layout.root, "--set", "training.checkpoint_interval=1"),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)),
        env=os.environ,
    )
    assert process.returncode == 73, process.stdout
    assert "no room for a checkpoint" in process.stdout
    after = load_checkpoint(copied.layout)
    assert before
    assert after
    assert after["iteration"] == before["iteration"]
