"""A MODEL_DIR that somebody else hands over runs nothing of its own, whatever lies in it."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bidsapp.layout import ModelLayout
from tests.integration.conftest import Trained, train

SHORT = ("--set", "training.validation_batches=1")


class Evil:
    """Makes a file where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> object:
        return Path.touch, (self.trace,)


@pytest.fixture
def handed_over(trained: Trained, tmp_path: Path) -> Trained:
    layout = ModelLayout(tmp_path / "small")
    shutil.copytree(trained.layout.root, layout.root)
    return Trained(trained.pairs, layout, trained.run)


def pickle_beside_every_case(layout: ModelLayout, evil: Evil) -> None:
    """What nnU-Net reads of a case that it preprocessed, and version 0.1.0 did."""
    for case in json.loads(layout.state.read_text())["cases"]:
        (layout.preprocessed_cases / f"{case}.pkl").write_bytes(pickle.dumps(evil))


def pickle_for_a_checkpoint(layout: ModelLayout, evil: Evil) -> None:
    layout.previous_checkpoint.unlink()
    torch.save({"network_weights": {"a": torch.zeros(1)}, "more": evil}, layout.checkpoint)


def a_module_for_a_network(layout: ModelLayout, evil: Evil) -> None:
    (layout.root.parent / "evil_module.py").write_text(f"open({str(evil.trace)!r}, 'w')\nclass Network: pass\n")
    plans = json.loads(layout.plans.read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "evil_module.Network"
    layout.plans.write_text(json.dumps(plans))


@pytest.mark.parametrize(
    ("plant", "code", "said"),
    [
        (pickle_beside_every_case, 0, "done"),
        (pickle_for_a_checkpoint, 65, "no checkpoint in"),
        (a_module_for_a_network, 65, "network_class_name is 'evil_module.Network'"),
    ],
)
def test_a_folder_that_is_trained_on_runs_nothing(
    handed_over: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[ModelLayout, Evil], None],
    code: int,
    said: str,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    evil = Evil(tmp_path / "trace")
    plant(handed_over.layout, evil)
    done = train(handed_over.pairs, handed_over.layout.root, *SHORT, iterations=1)
    assert not evil.trace.exists()
    assert done.run.code == code, done.run.output
    assert said in done.run.output or code == 0
