"""The trainer on two small cases of two channels: what its batches weigh, and stops at every moment."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bidsapp.config import Settings, apply_overrides, preset_settings
from bidsapp.errors import BadDataError
from bidsapp.layout import ModelLayout
from bidsapp.machine import STOP_SIGNALS
from bidsapp.model_dir.state import Segment
from bidsapp.nnunet_environment import nnunet_environment
from bidsapp.pairs.check_pairs import check_pairs
from bidsapp.pairs.pairs import FoundPairs
from bidsapp.records import Pair
from bidsapp.training.checkpoints import load_checkpoint, save_checkpoint
from bidsapp.training.dataset import Parts, write_raw_dataset
from bidsapp.training.planning import extract_fingerprint, make_plans, preprocess_cases
from bidsapp.training.trainer import Hardware, HippoTuneTrainer, TrainingInputs, Watcher, make_trainer
from bidsapp.training.watch import watch_training
from demo.simulate import simulate_people

HARDWARE = Hardware(torch.device("cpu"), 1)
SETTINGS = apply_overrides(
    preset_settings("tiny"),
    {
        "training.patch_size": "16 16 16",
        "training.features": "4 8 16",
        "training.validation_interval": "2",
        "training.validation_batches": "3",
    },
    source="test",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelLayout]:
    """One case to train on and one to validate with; the second channel is the first again."""
    folder = tmp_path_factory.mktemp("pairs")
    simulate_people(folder, 1, 1, spacing_mm=2.0)
    cases = sorted(path.name.removesuffix("_lbl.nii.gz") for path in folder.glob("*_lbl.nii.gz"))
    pairs = tuple(
        Pair(case, case, "R", (folder / f"{case}_img.nii.gz",) * 2, folder / f"{case}_lbl.nii.gz") for case in cases
    )
    checked = check_pairs(FoundPairs(pairs, ()))
    layout = ModelLayout(tmp_path_factory.mktemp("model"))
    write_raw_dataset(layout, Parts(pairs[:1], pairs[1:], ()), checked.content, checked.table, ("T1w", "T2w"))
    with nnunet_environment(layout):
        extract_fingerprint(layout)
        make_plans(layout, SETTINGS.training)
        preprocess_cases(layout, checked.content, processes=1)
    yield layout


@pytest.fixture
def layout(prepared: ModelLayout, tmp_path: Path) -> Iterator[ModelLayout]:
    copy = ModelLayout(tmp_path / "model")
    shutil.copytree(prepared.root, copy.root)
    with nnunet_environment(copy):
        yield copy


def trainer_of(layout: ModelLayout, target: int, settings: Settings = SETTINGS) -> HippoTuneTrainer:
    training, validation = (tuple(sorted(path.stem for path in layout.preprocessed_cases.glob("*.npz")))[n : n + 1]
                            for n in (0, 1))  # fmt: skip
    return make_trainer(layout, settings, [Segment(0, target)], HARDWARE, TrainingInputs(training, validation))


def watcher(stop_requested: Callable[[], bool] = lambda: False) -> Watcher:
    return Watcher(*[lambda *_: None] * 3, stop_requested=stop_requested)


def test_a_network_of_two_stages_learns(layout: ModelLayout) -> None:
    """nnU-Net gives the coarsest output no weight, and two stages have no other."""
    settings = apply_overrides(SETTINGS, {"training.features": "4 8"}, source="test")
    make_plans(layout, settings.training)
    trainer = trainer_of(layout, 2, settings)
    before = {name: one.clone() for name, one in trainer.network.state_dict().items()}
    losses: list[float] = []
    trainer.run_training(
        Watcher(lambda _, loss: losses.append(loss()), *[lambda *_: None] * 2, stop_requested=lambda: False)
    )
    assert np.isfinite(losses).all() and len(losses) == 2
    after = trainer.network.state_dict()
    assert any(not torch.equal(before[name], one) for name, one in after.items())


def test_a_batch_weighs_what_is_reckoned(layout: ModelLayout) -> None:
    trainer = trainer_of(layout, 1)
    trainer._make_batches(lambda: False)
    batch: dict[str, Any] = trainer._batches["training"][0]
    tensors = [batch["data"], *batch["target"]]
    assert batch["data"].shape[1] == 2
    assert sum(one.numel() * one.element_size() for one in tensors) == trainer._bytes_of_batch()


def weights(layout: ModelLayout) -> dict[str, np.ndarray]:
    checkpoint = load_checkpoint(layout)
    assert checkpoint
    return {name: one.numpy() for name, one in checkpoint["network_weights"].items()}


def test_a_stop_at_any_question_and_the_same_again_is_as_if_nothing_had_happened(
    layout: ModelLayout, tmp_path: Path
) -> None:
    """The wish to stop is heard at every moment when it is asked about: between steps and inside a validation."""
    whole = trainer_of(layout, 4)
    asked: list[int] = []
    whole.run_training(watcher(lambda: asked.append(1) or False))  # type: ignore[func-returns-value]
    expected, history = weights(layout), whole.progress.history
    layout.checkpoint.unlink()
    layout.previous_checkpoint.unlink(missing_ok=True)
    runs = 0
    while True:
        trainer = trainer_of(layout, 4)
        if trainer.progress.iteration == 4 and not trainer.validation_is_due:
            break
        runs += 1
        questions = iter(range(10**6))
        trainer.run_training(watcher(lambda runs=runs, questions=questions: next(questions) >= 2 + runs))  # type: ignore[misc]
        assert runs < len(asked)
    assert runs > 2
    found = weights(layout)
    assert all(np.array_equal(found[name], one) for name, one in expected.items())
    assert trainer.progress.history == history


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda one: one.name)
def test_every_signal_of_a_cluster_is_a_wish_to_stop(layout: ModelLayout, number: signal.Signals) -> None:
    before = {one: signal.getsignal(one) for one in STOP_SIGNALS}
    with watch_training(layout, start=0, target=1, slow_device=False) as watching:
        assert not watching.stop_requested()
        os.kill(os.getpid(), number)
        assert watching.stop_requested()
    assert {one: signal.getsignal(one) for one in STOP_SIGNALS} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(iteration="3"), "iteration is '3'"),
        (lambda c: c.update(iteration=-3), "iteration is -3"),
        (lambda c: c.update(history={}), "history is {}"),
        (lambda c: c.pop("optimizer_state"), "optimizer_state is None"),
        (lambda c: c.update(network_weights={"a": 1}), "something else than tensors"),
        (lambda c: c.update(network_weights={}), "holds no network_weights"),
        (lambda c: c["network_weights"].popitem(), "does not fit the model"),
        (lambda c: c.update(history=[{"iteration": 1}]), "training_loss is missing"),
        (lambda c: c.update(history=[3]), "history.0 is 3"),
        (lambda c: c["optimizer_state"].clear(), "does not fit the model"),
    ],
)
def test_a_checkpoint_that_is_not_of_this_model_is_refused(
    layout: ModelLayout, caplog: pytest.LogCaptureFixture, change: Callable[[Any], object], said: str
) -> None:
    trainer_of(layout, 1).run_training(watcher())
    checkpoint = load_checkpoint(layout)
    assert checkpoint
    change(checkpoint)
    layout.previous_checkpoint.unlink(missing_ok=True)
    save_checkpoint(layout, checkpoint)
    layout.previous_checkpoint.unlink()
    with pytest.raises(BadDataError) as refusal:
        trainer_of(layout, 3)
    assert said in refusal.value.message + caplog.text
    assert str(layout.fold) in refusal.value.message
    assert "--model-dir" in refusal.value.hint


def test_a_flipped_bit_in_the_weights_is_noticed(layout: ModelLayout) -> None:
    trainer_of(layout, 1).run_training(watcher())
    content = bytearray(layout.checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    layout.checkpoint.write_bytes(content)
    with pytest.raises(BadDataError, match="no checkpoint"):
        load_checkpoint(layout)


def test_where_curves_cannot_be_written_the_training_goes_on(
    layout: ModelLayout, caplog: pytest.LogCaptureFixture
) -> None:
    layout.tensorboard.write_text("somebody's file")
    trainer = trainer_of(layout, 2)
    with watch_training(layout, start=0, target=2, slow_device=False) as watching:
        trainer.run_training(watching)
    assert trainer.progress.iteration == 2
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [warning for warning in warnings if str(layout.tensorboard) in warning]
    assert layout.tensorboard.read_text() == "somebody's file"
