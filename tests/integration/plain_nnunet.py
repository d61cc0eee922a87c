"""What a user of plain nnU-Net does, with nothing of ours: plan, train briefly, export, predict.

Run as a script: ``plain_nnunet.py RAW_DATASET_ID IMAGES PREDICTIONS ARCHIVE``, with nnU-Net's three folders in the
environment. Its own functions and command lines are called in one process, which saves starting torch four times.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from unittest.mock import patch

FEATURES = (8, 16, 32, 32, 32, 32)
ITERATIONS = 2
LEARNING_RATE = 1e-6
"""It goes through every step and stays what chance made it: such a network answers every label somewhere."""
SPACING_MM = (1.5, 1.5, 1.5)


def plan(dataset_id: int) -> None:
    """Plan a coarser grid than the images', and make the network narrow, as nnU-Net's guide says: in plans.json."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
    from nnunetv2.paths import nnUNet_preprocessed
    from nnunetv2.utilities.dataset_name_id_conversion import convert_id_to_dataset_name

    extract_fingerprints([dataset_id], num_processes=1, check_dataset_integrity=False)
    plan_experiments([dataset_id], overwrite_target_spacing=SPACING_MM)
    path = Path(str(nnUNet_preprocessed)) / convert_id_to_dataset_name(dataset_id) / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    architecture["features_per_stage"] = list(FEATURES[: architecture["n_stages"]])
    path.write_text(json.dumps(plans))
    preprocess([dataset_id], configurations=("3d_fullres",), num_processes=(1,))


def train(dataset_id: int) -> None:
    """One short epoch of its own trainer."""
    import numpy as np
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

    os.environ["nnUNet_n_proc_DA"] = "0"  # no workers; its planner wants at least 1
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    trainer = get_trainer_from_args(str(dataset_id), "3d_fullres", 0, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, ITERATIONS, 1
    trainer.initialize()
    trainer.optimizer = torch.optim.AdamW(trainer.network.parameters(), LEARNING_RATE)
    trainer.lr_scheduler = PolyLRScheduler(trainer.optimizer, LEARNING_RATE, trainer.num_epochs)
    trainer.run_training()
    summary = Path(trainer.output_folder) / "validation" / "summary.json"  # its export wants what it has not made here
    summary.parent.mkdir()
    summary.write_text("{}")


def main(dataset_id: int, images: str, predictions: str, archive: str) -> None:
    from nnunetv2.inference.predict_from_raw_data import predict_entry_point
    from nnunetv2.model_sharing.entry_points import export_pretrained_model_entry

    plan(dataset_id)
    train(dataset_id)
    model = ("-d", str(dataset_id), "-c", "3d_fullres", "-f", "0")
    with patch.object(sys, "argv", ["nnUNetv2_export_model_to_zip", *model, "-o", archive]):
        export_pretrained_model_entry()
    options = ("-device", "cpu", "--disable_tta", "-npp", "0", "-nps", "0")
    with patch.object(sys, "argv", ["nnUNetv2_predict", "-i", images, "-o", predictions, *model, *options]):
        predict_entry_point()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
