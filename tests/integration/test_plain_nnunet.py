"""What untouched nnU-Net v2 trained runs here as it runs there."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bidsapp.exchange.loading import load_model
from bidsapp.prediction import Predictor
from tests.integration.conftest import PlainModel, train


@pytest.mark.parametrize("packing", ["results", "archive"])
def test_a_model_of_plain_nnunet_predicts_the_same_label_maps_here(
    plain_nnunet: PlainModel, packing: str, tmp_path: Path
) -> None:
    model = load_model(getattr(plain_nnunet, packing))
    assert (model.name, model.channels, model.labels) == ("Plain", ("T1w",), {1: "Anterior", 2: "Posterior"})
    assert model.plans["configurations"]["3d_fullres"]["spacing"] == [1.5, 1.5, 1.5]
    predictor = Predictor(model, torch.device("cpu"), cores=1)
    labels = set()
    for image in sorted(plain_nnunet.images.iterdir()):
        name = image.name.replace("_0000", "")
        predictor.predict_files([image], tmp_path / name)
        ours, theirs = (nib.load(folder / name) for folder in (tmp_path, plain_nnunet.predictions))
        np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
        np.testing.assert_allclose(ours.affine, theirs.affine)
        labels |= set(np.unique(np.asarray(theirs.dataobj)))
    assert len(labels) > 1  # so that there is something to differ


def test_it_was_trained_by_its_own_trainer(plain_nnunet: PlainModel) -> None:
    checkpoint = plain_nnunet.results / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=False)
    assert content["trainer_name"] == "nnUNetTrainer"
    assert content["current_epoch"] == 1


def test_it_is_trained_further_here_in_one_command(plain_nnunet: PlainModel, pairs: Path, tmp_path: Path) -> None:
    """Another spacing, patch and network than ours: its plans are taken over, its weights are where the steps begin."""
    options = ("--model", plain_nnunet.archive, "--set", "training.validation_batches=1")
    done = train(pairs, tmp_path / "model", *options, iterations=2)
    assert done.run.code == 0, done.run.output
    assert "the channels are named as the parent names them, in its order: T1w" in done.run.output
    assert "leakage against Plain could not be checked" in done.run.output
    adopted, theirs = (
        json.loads(path.read_text()) for path in (done.layout.plans, plain_nnunet.results / "plans.json")
    )
    for key in ("spacing", "patch_size", "batch_size", "architecture"):
        assert adopted["configurations"]["3d_fullres"][key] == theirs["configurations"]["3d_fullres"][key]
    before = load_model(plain_nnunet.archive).weights[0]
    after = torch.load(done.layout.checkpoint, weights_only=True)["network_weights"]
    assert before.keys() == after.keys()
    change = max(float((after[name] - tensor.float()).abs().max()) for name, tensor in before.items())
    assert 0 < change < 0.01
    parent = load_model(done.layout.parent_model)
    assert (parent.labels, parent.channels) == ({1: "Anterior", 2: "Posterior"}, ("T1w",))
