"""Plans and dataset.json of others: what is passed on to nnU-Net, value by value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bidsapp.errors import BadDataError
from bidsapp.exchange.plans import check_dataset, check_plans
from bidsapp.records import SPACING_LIMITS_MM
from tests.tiny_model import Json, tiny_dataset, tiny_plans


def checked(plans: Json) -> Json:
    return check_plans(plans, "3d_fullres", 1, "plans.json")


def configuration(plans: Json) -> Json:
    found: Json = plans["configurations"]["3d_fullres"]
    return found


def arguments(plans: Json) -> Json:
    found: Json = configuration(plans)["architecture"]["arch_kwargs"]
    return found


def test_what_nnunet_plans_is_passed_on_as_it_is_and_the_rest_is_left_behind() -> None:
    plans = tiny_plans()
    more: Any = tiny_plans() | {"note": "mine"}
    configuration(more)["hook"] = "os.system"
    assert checked(more) == checked(plans) == plans
    arguments(plans)["nonlin_kwargs"] = {"inplace": True, "negative_slope": 0}
    configuration(plans)["spacing"] = [1, 1.0, 2]
    written = [json.dumps(one, sort_keys=True) for one in (checked(plans), plans)]
    assert written[0] == written[1]  # a digest is of the text


@pytest.mark.parametrize("residual", [False, True])
def test_null_is_the_default_and_one_number_stands_for_all_stages(residual: bool) -> None:
    plans = tiny_plans(residual=residual)
    blocks = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    arguments(plans).update({blocks: 2, "n_conv_per_stage_decoder": 3, "stem_channels": None, "conv_bias": None})
    found = arguments(checked(plans))
    assert (found[blocks], found["n_conv_per_stage_decoder"], found["conv_bias"]) == ([2, 2], [3], False)
    assert "stem_channels" not in found
    assert found["dropout_op"] is None


def test_plans_of_before_version_2_3_name_the_same_network() -> None:
    plans = tiny_plans()
    del configuration(plans)["architecture"]
    configuration(plans).update(
        UNet_class_name="PlainConvUNet", UNet_base_num_features=8, unet_max_num_features=12,
        n_conv_per_stage_encoder=[1, 1], n_conv_per_stage_decoder=[1], conv_kernel_sizes=[[3, 3, 3]] * 2,
        pool_op_kernel_sizes=[[1, 1, 1], [2, 2, 2]],
    )  # fmt: skip
    assert arguments(checked(plans)) == arguments(tiny_plans()) | {"features_per_stage": [8, 12]}


def test_a_configuration_takes_what_it_does_not_say_from_the_one_that_it_inherits_from() -> None:
    plans = tiny_plans()
    plans["configurations"] = {
        "base": configuration(plans),
        "3d_fullres": {"inherits_from": "base", "batch_size": 7},
    }
    assert configuration(checked(plans)) == configuration(tiny_plans()) | {"batch_size": 7}


def test_voxels_are_as_small_and_as_large_as_everywhere_else() -> None:
    least, most = SPACING_LIMITS_MM
    plans = tiny_plans()
    configuration(plans)["spacing"] = [least, 1.0, most]
    assert configuration(checked(plans))["spacing"] == [least, 1.0, most]
    for edge in (least * 0.99, most * 1.01):
        configuration(plans)["spacing"] = [1.0, edge, 1.0]
        with pytest.raises(BadDataError, match=r"spacing\.1 is"):
            checked(plans)


def test_a_data_set_is_ordered_and_loses_what_has_no_output() -> None:
    told = {"modality": {"1": "T2w", "0": "T1w"}, "labels": {"ignore": 2, "background": 0, "Head": 1}, "more": 1}
    assert check_dataset(told, "dataset.json") == {
        "channel_names": {"0": "T1w", "1": "T2w"},
        "labels": {"background": 0, "Head": 1},
        "file_ending": ".nii.gz",
    }
    without_reader = check_dataset(tiny_dataset() | {"overwrite_image_reader_writer": "None"}, "dataset.json")
    assert "overwrite_image_reader_writer" not in without_reader
