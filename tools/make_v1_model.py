"""Make the tiny nnU-Net v1 model of tests/models/data/v1 with the code of nnU-Net 1.7.1, and what its network answers.

    pip install --no-deps --target v1 nnunet==1.7.1 medpy dicom2nifti
    PYTHONPATH=v1 python tools/make_v1_model.py tests/models/data/v1

Beside current torch it needs only what nnunetv2 brings. Nobody trained the model: plans by hand, of the kinds that v1's
planner writes, and random weights, saved by v1's own trainer. answers.npz holds a patch and the logits of all heads.
"""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

SEED, CLASSES = 1, 8
MODEL = "nnUNetTrainerV2__nnUNetPlansv2.1"


def v1_plans() -> dict[str, Any]:
    """Plans as nnunet.experiment_planning.experiment_planner_baseline_3DUNet writes them."""
    stage = {
        "batch_size": 2,
        "num_pool_per_axis": [2, 3, 3],
        "patch_size": np.array([8, 16, 24]),
        "median_patient_size_in_voxels": np.array([12, 20, 30]),
        "current_spacing": np.array([0.4, 0.3, 0.3]),
        "original_spacing": np.array([0.4, 0.3, 0.3]),
        "do_dummy_2D_data_aug": False,
        "pool_op_kernel_sizes": [[2, 2, 2], [2, 2, 2], [1, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3]] * 4,
    }
    modalities = {0: "T1"}
    classes = list(range(1, CLASSES + 1))
    return {
        "num_stages": 1,
        "num_modalities": 1,
        "modalities": modalities,
        "normalization_schemes": OrderedDict({0: "nonCT"}),
        "dataset_properties": {
            "all_sizes": [(12, 20, 30)] * 3,
            "all_spacings": [np.array([0.3, 0.3, 0.4])] * 3,
            "all_classes": classes,
            "modalities": modalities,
            "intensityproperties": None,
            "size_reductions": OrderedDict({f"case{one}": np.float64(1.0) for one in range(3)}),
        },
        "list_of_npz_files": [f"cropped/case{one}.npz" for one in range(3)],
        "original_spacings": [np.array([0.3, 0.3, 0.4])] * 3,
        "original_sizes": [(12, 20, 30)] * 3,
        "preprocessed_data_folder": "preprocessed",
        "num_classes": CLASSES,
        "all_classes": classes,
        "base_num_features": 2,
        "use_mask_for_norm": OrderedDict({0: False}),
        "keep_only_largest_region": None,
        "min_region_size_per_class": None,
        "min_size_per_class": None,
        "transpose_forward": [2, 0, 1],
        "transpose_backward": [1, 2, 0],
        "data_identifier": "nnUNetData_plans_v2.1",
        "plans_per_stage": {0: stage},
        "preprocessor_name": "GenericPreprocessor",
        "conv_per_stage": 2,
    }


def main() -> None:
    """Write the model and its answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("destination", type=Path)
    destination = parser.parse_args().destination.absolute()
    from nnunet.training.network_training.nnUNetTrainerV2 import nnUNetTrainerV2

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # v1 writes the paths that it is given into the model
        Path("plans.pkl").write_bytes(pickle.dumps(v1_plans(), protocol=4))
        trainer = nnUNetTrainerV2("plans.pkl", 0, "out", "data", False, 0, False, True, False)
        trainer.load_plans_file()
        trainer.process_plans(trainer.plans)
        trainer.initialize_network()
        trainer.initialize_optimizer_and_scheduler()
        torch.manual_seed(SEED)
        with torch.no_grad():
            for parameter in trainer.network.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.3)
        trainer.all_tr_losses = [np.float64(0.5)]
        trainer.all_val_eval_metrics = [np.mean([0.25, 0.5])]
        patch = torch.randn(1, 1, 8, 16, 24)
        trainer.network.eval()
        with torch.no_grad():
            heads = trainer.network(patch)
        fold = destination / MODEL / "fold_0"
        fold.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint("model_best.model")
        for name in ("model_best.model", "model_best.model.pkl"):
            shutil.copy(name, fold / name)
        shutil.copy("plans.pkl", destination / MODEL / "plans.pkl")
    answers = {f"head_{number}": head.numpy() for number, head in enumerate(heads)}
    np.savez_compressed(destination / "answers.npz", patch=patch.numpy(), **answers)


if __name__ == "__main__":
    main()
