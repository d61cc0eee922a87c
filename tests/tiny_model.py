"""A real model of nnU-Net that nobody trained: hand-written plans, random weights, 8 and 16 features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from bidsapp.exchange.export import build_model_folder, zip_model

Json = dict[str, Any]


def tiny_plans(*, residual: bool = False) -> Json:
    resampling: Json = {}
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        resampling |= {
            f"resampling_fn_{what}": "resample_data_or_seg_to_shape",
            f"resampling_fn_{what}_kwargs": {
                "is_seg": what == "seg", "order": order, "order_z": 0, "force_separate_z": None
            },
        }  # fmt: skip
    blocks = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    network = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    fullres = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 16, 16],
        "median_image_size_in_voxels": [16.0, 16.0, 16.0],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        **resampling,
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
            "arch_kwargs": {
                "n_stages": 2,
                "features_per_stage": [8, 16],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
                "strides": [[1, 1, 1], [2, 2, 2]],
                blocks: [1, 1],
                "n_conv_per_stage_decoder": [1],
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    names = ("mean", "median", "std", "min", "max", "percentile_99_5", "percentile_00_5")
    return {
        "dataset_name": "Dataset001_HippoTune",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [16, 16, 16],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": fullres},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": dict.fromkeys(names, 1.0)},
    }


def tiny_dataset() -> Json:
    return {
        "channel_names": {"0": "T1w"},
        "labels": {"background": 0, "Anterior": 1, "Corps d'Ammon – 海馬": 2},
        "numTraining": 4,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }


def random_weights(plans: Json, seed: int) -> dict[str, torch.Tensor]:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    torch.manual_seed(seed)
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    network = get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"], 1, 3,
        deep_supervision=False,
    )  # fmt: skip
    return network.state_dict()


@dataclass(frozen=True)
class Exported:
    """A model as `group` leaves it."""

    folder: Path
    archive: Path

    @property
    def dataset(self) -> Path:
        return self.folder.parent


Export = Callable[..., Exported]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Writes a folder and a zip of a tiny model, with other plans, labels or weights where a test says so."""

    def write(plans: Json | None = None, dataset: Json | None = None, weights: object = None) -> Exported:
        plans = plans or tiny_plans()
        folder = build_model_folder(
            tmp_path / "export",
            name="tiny",
            weights=random_weights(tiny_plans(), 1) if weights is None else weights,  # type: ignore[arg-type]
            plans=plans,
            dataset_json=dataset or tiny_dataset(),
            facts={},
        )
        archive = tmp_path / "tiny.zip"
        zip_model(folder, archive)
        return Exported(folder, archive)

    return write
