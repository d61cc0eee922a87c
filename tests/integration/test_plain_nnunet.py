"""What untouched nnU-Net v2 trained runs here as it runs there."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bidsapp.models.loading import load_model
from bidsapp.prediction import Predictor
from tests.integration.conftest import PlainModel


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
    assert len(labels) > 1  # it learned something, so that there is something to differ


def test_it_was_trained_by_its_own_trainer(plain_nnunet: PlainModel) -> None:
    checkpoint = plain_nnunet.results / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=False)
    assert content["trainer_name"] == "nnUNetTrainer"
    assert content["current_epoch"] == 1
