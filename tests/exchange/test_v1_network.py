"""nnU-Net v1's names for the weights of v2's network, and what its plans may hold, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bidsapp.errors import BadDataError
from bidsapp.exchange.v1_network import V1Plans, read_plans, v1_name


@pytest.mark.parametrize(
    ("v2", "v1"),
    [
        ("encoder.stages.0.0.convs.0.conv.weight", "conv_blocks_context.0.blocks.0.conv.weight"),
        ("encoder.stages.0.0.convs.1.norm.bias", "conv_blocks_context.0.blocks.1.instnorm.bias"),
        ("encoder.stages.3.0.convs.0.conv.weight", "conv_blocks_context.3.0.blocks.0.conv.weight"),
        ("encoder.stages.3.0.convs.1.conv.weight", "conv_blocks_context.3.1.blocks.0.conv.weight"),
        ("decoder.stages.0.convs.0.conv.weight", "conv_blocks_localization.0.0.blocks.0.conv.weight"),
        ("decoder.stages.0.convs.1.norm.weight", "conv_blocks_localization.0.1.blocks.0.instnorm.weight"),
        ("decoder.transpconvs.2.weight", "tu.2.weight"),
        ("decoder.seg_layers.1.bias", "seg_outputs.1.bias"),
        ("decoder.encoder.stages.1.0.convs.0.all_modules.0.weight", "conv_blocks_context.1.blocks.0.conv.weight"),
        ("encoder.stages.1.0.convs.0.all_modules.1.bias", "conv_blocks_context.1.blocks.0.instnorm.bias"),
    ],
)
def test_every_weight_has_its_name_in_v1(v2: str, v1: str) -> None:
    assert v1_name(v2, last_stage=3, last_convolution=1) == v1


def plans(**changed: Any) -> dict[str, Any]:
    stage = {"patch_size": [8, 8, 8], "current_spacing": [1.0, 0.5, 0.5], "batch_size": 2,
             "pool_op_kernel_sizes": [[2, 2, 2]], "conv_kernel_sizes": [[3, 3, 3]] * 2}  # fmt: skip
    found: dict[str, Any] = {
        "num_classes": 2, "num_modalities": 1, "all_classes": [1, 2], "modalities": {0: "T1"}, "base_num_features": 8,
        "normalization_schemes": {0: "nonCT"}, "use_mask_for_norm": {0: False}, "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2], "plans_per_stage": {0: stage}, "list_of_npz_files": ["a", "b", "c"],
        "dataset_properties": object(),
    }  # fmt: skip
    return found | changed


def test_what_v1_planned_is_read_and_the_rest_is_not_looked_into() -> None:
    found: V1Plans = read_plans(plans(), "plans.pkl")
    assert (found.cases, found.conv_per_stage, found.modalities) == (3, 2, {0: "T1"})
    assert found.plans_per_stage[0].current_spacing == [1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"num_classes": 256, "all_classes": list(range(1, 257))}, "num_classes is 256"),
        ({"all_classes": [1, 3]}, "regions are not converted"),
        ({"base_num_features": "8"}, "base_num_features is '8'"),
        ({"conv_per_stage": 1}, "conv_per_stage is 1"),
        ({"normalization_schemes": {}}, r"normalization_schemes is not of 1 image"),
        ({"use_mask_for_norm": {0: 1}}, r"use_mask_for_norm\.0 is 1: it must be true or false"),
        ({"plans_per_stage": {}}, "plans_per_stage is {}"),
        ({"plans_per_stage": {0: {}}}, r"plans_per_stage\.0\.patch_size is missing"),
        ({"transpose_forward": object()}, "it holds a value of the kind object"),
    ],
)
def test_what_v1_never_plans_is_refused_with_its_name(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadDataError, match=reason):
        read_plans(plans(**changed), "plans.pkl")
