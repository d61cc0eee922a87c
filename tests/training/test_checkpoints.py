from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bidsapp.errors import BadDataError, CannotWriteError
from bidsapp.layout import ModelLayout
from bidsapp.training import checkpoints
from bidsapp.training.checkpoints import load_checkpoint, save_checkpoint


def checkpoint(iteration: int) -> dict[str, object]:
    return {
        "iteration": iteration, "loss_sum": 0.0, "loss_count": 0, "history": [], "optimizer": "adamw",
        "optimizer_state": {}, "grad_scaler_state": None,
        "network_weights": {"w": torch.full((4,), float(iteration))},
    }  # fmt: skip


def iteration_of(layout: ModelLayout) -> int:
    loaded = load_checkpoint(layout)
    assert loaded
    return loaded["iteration"]


@pytest.fixture
def layout(tmp_path: Path) -> ModelLayout:
    layout = ModelLayout(tmp_path)
    for iteration in (1, 2):
        save_checkpoint(layout, checkpoint(iteration))
    return layout


def test_the_newest_is_loaded_and_one_before_is_kept(layout: ModelLayout) -> None:
    assert iteration_of(layout) == 2
    assert torch.load(layout.previous_checkpoint, weights_only=True)["iteration"] == 1
    assert {path.name for path in layout.fold.iterdir()} == {layout.checkpoint.name, layout.previous_checkpoint.name}


@pytest.mark.parametrize("damage", [b"", b"torn"])
def test_a_torn_checkpoint_gives_way_to_the_one_before(layout: ModelLayout, damage: bytes) -> None:
    layout.checkpoint.write_bytes(damage or layout.checkpoint.read_bytes()[:200])
    assert iteration_of(layout) == 1
    assert not layout.checkpoint.exists(), "the next save must not put the torn one in the place of the good one"
    assert iteration_of(layout) == 1


def test_when_none_can_be_read_the_folder_is_named(layout: ModelLayout) -> None:
    layout.checkpoint.write_bytes(b"torn")
    layout.previous_checkpoint.write_bytes(b"torn")
    with pytest.raises(BadDataError, match="no checkpoint in"):
        load_checkpoint(layout)


def test_a_model_that_never_trained_has_none(tmp_path: Path) -> None:
    assert load_checkpoint(ModelLayout(tmp_path)) is None


def test_no_room_leaves_the_last_good_one(layout: ModelLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(_checkpoint: object, path: Path) -> None:
        path.write_bytes(b"half a check")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0")

    monkeypatch.setattr(checkpoints.torch, "save", torn)
    with pytest.raises(CannotWriteError, match="no room"):
        save_checkpoint(layout, checkpoint(3))
    assert iteration_of(layout) == 2
    assert len(list(layout.fold.iterdir())) == 2


POINT = {"iteration": 1, "training_loss": 1.0, "validation_loss": 1.0, "dice": {"x": 0.5}, "learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"history": [POINT | {"dice": 0.5}]}, "dice is 0.5"),
        ({"history": [POINT | {"training_loss": {}}]}, "training_loss is {}"),
        ({"history": [{}]}, "iteration is missing"),
        ({"history": [3]}, "history.0 is 3"),
        ({"source_dice": "abc"}, "source_dice is 'abc'"),
        ({"loss_sum": torch.zeros(1)}, "cannot be used"),
        ({"optimizer_state": []}, "optimizer_state is []"),
    ],
)
def test_values_that_the_report_would_fall_over_are_refused(
    tmp_path: Path, changed: dict[str, object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    layout = ModelLayout(tmp_path)
    save_checkpoint(layout, checkpoint(1) | {"history": [POINT]})
    assert iteration_of(layout) == 1
    save_checkpoint(layout, checkpoint(1) | changed)
    layout.previous_checkpoint.unlink()
    with pytest.raises(BadDataError, match="no checkpoint in"):
        load_checkpoint(layout)
    assert said in caplog.text
