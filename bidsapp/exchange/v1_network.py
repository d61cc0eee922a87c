"""Plans and weights of nnU-Net v1 -> those of nnU-Net v2 that give the same network.

v1's network is v2's PlainConvUNet under other names, without the biases that it never used, as long as all kernels are
3 x 3 x 3: for other kernels v1 and v2 disagree on which stage of the decoder has which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from bidsapp.errors import BadDataError
from bidsapp.exchange.plans import DIMENSIONS, INTENSITIES, MAX_CHANNELS, Json, unet_architecture
from bidsapp.exchange.unpickling import plain
from bidsapp.exchange.weights import Weights, check_weights
from bidsapp.files import typed_json
from bidsapp.nnunet_names import NNUNET_CONFIGURATION

if TYPE_CHECKING:
    import torch

WIDEST_FEATURES = 320  # Generic_UNet.MAX_NUM_FILTERS_3D
KERNEL = [3, 3, 3]
NORMALIZATIONS = {"nonCT": "ZScoreNormalization", "noNorm": "NoNormalization"}
HINT = "Converted are 3D networks that nnU-Net v1 planned itself, trained with nnUNetTrainerV2 on MRI."


class V1Stage(BaseModel):
    """The plans of one resolution. `check_plans` holds the sizes to their limits once they are v2's."""

    patch_size: list[int]
    current_spacing: list[float]
    batch_size: int
    pool_op_kernel_sizes: list[list[int]]
    conv_kernel_sizes: list[list[int]]


class V1Plans(BaseModel):
    """What v1 planned, as far as the network and its input depend on it."""

    num_classes: Annotated[int, Field(ge=1, le=255)]
    num_modalities: Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
    all_classes: list[int]
    modalities: dict[int, str] = {}
    base_num_features: Annotated[int, Field(ge=1, le=WIDEST_FEATURES)]
    conv_per_stage: Annotated[int, Field(ge=2, le=16)] = 2
    """With one, v1's network has two in its decoder all the same, which v2 has not."""
    normalization_schemes: dict[int, Literal["nonCT", "noNorm"]]
    use_mask_for_norm: dict[int, bool]
    transpose_forward: list[int]
    transpose_backward: list[int]
    cases: int = 0
    """How many v1 was trained on, see `read_plans`."""
    plans_per_stage: Annotated[dict[int, V1Stage], Field(min_length=1)]

    @property
    def network(self) -> tuple[object, ...]:
        """What two plans of the same network and input have in common."""
        schemes = (self.normalization_schemes, self.use_mask_for_norm)
        return self.plans_per_stage, *schemes, self.transpose_forward, self.base_num_features


def read_plans(pickled: object, origin: str) -> V1Plans:
    """The plans of a pickle (`read_pickle`); what else it holds is not looked into, the cases are counted.

    Raises
    ------
    BadDataError
        When a value is missing, or is none that v1 plans.
    """
    if not isinstance(pickled, dict):
        raise BadDataError(f"{origin} holds no plans", HINT)
    try:
        known = {name: plain(pickled[name]) for name in V1Plans.model_fields if name in pickled}
        cases = pickled.get("list_of_npz_files")
        known["cases"] = len(cases) if isinstance(cases, list) else 0
        plans: V1Plans = typed_json(V1Plans, known, more=True)
        if plans.all_classes != list(range(1, plans.num_classes + 1)):
            raise ValueError(f"all_classes are not 1 to {plans.num_classes}: regions are not converted")
        for name in ("normalization_schemes", "use_mask_for_norm"):
            if not getattr(plans, name).keys() >= set(range(plans.num_modalities)):
                raise ValueError(f"{name} is not of {plans.num_modalities} image(s)")
    except (ValueError, TypeError) as error:
        raise BadDataError(f"{origin} is not of nnU-Net v1, or of an early one: {error}", HINT) from error
    return plans


def to_v2_plans(v1: V1Plans, stage: V1Stage, origin: str) -> Json:
    """v2's plans of one stage, for `check_plans`.

    Raises
    ------
    BadDataError
        When v2 has no such network.
    """
    images = range(v1.num_modalities)
    resampling: Json = {}
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        resampling[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        resampling[f"resampling_fn_{what}_kwargs"] = {
            "is_seg": what == "seg", "order": order, "order_z": 0, "force_separate_z": None
        }  # fmt: skip
    fullres = {
        "data_identifier": f"nnUNetPlans_{NNUNET_CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": stage.batch_size,
        "patch_size": stage.patch_size,
        "spacing": stage.current_spacing,
        "normalization_schemes": [NORMALIZATIONS[v1.normalization_schemes[number]] for number in images],
        "use_mask_for_norm": [v1.use_mask_for_norm[number] for number in images],
        "batch_dice": False,
        **resampling,
        "architecture": _architecture(v1, stage, origin),
    }
    return {
        "dataset_name": "Dataset001_v1",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": v1.transpose_forward,
        "transpose_backward": v1.transpose_backward,
        "label_manager": "LabelManager",
        "experiment_planner_used": "ExperimentPlanner",
        "foreground_intensity_properties_per_channel": {
            str(number): dict.fromkeys(INTENSITIES, 0.0) for number in images  # of use for CT alone
        },
        "configurations": {NNUNET_CONFIGURATION: fullres},
    }  # fmt: skip


def _architecture(v1: V1Plans, stage: V1Stage, origin: str) -> Json:
    if len(stage.patch_size) != DIMENSIONS:
        raise BadDataError(f"{origin} is of a 2D network; give the model of {NNUNET_CONFIGURATION}", HINT)
    stages = len(stage.conv_kernel_sizes)
    if stages != len(stage.pool_op_kernel_sizes) + 1:
        raise BadDataError(f"{origin}: pool_op_kernel_sizes and conv_kernel_sizes do not fit each other", HINT)
    other = [kernel for kernel in stage.conv_kernel_sizes if kernel != KERNEL]
    if other:
        raise BadDataError(
            f"{origin} has kernels of {ascii(other[0])[:40]}: v1 and v2 give such kernels to different stages of the "
            "decoder, so only kernels of [3, 3, 3] throughout can be converted",
            HINT,
        )
    return unet_architecture(
        "PlainConvUNet",
        features=[min(v1.base_num_features * 2**number, WIDEST_FEATURES) for number in range(stages)],
        kernel_sizes=stage.conv_kernel_sizes,
        strides=[[1, 1, 1], *stage.pool_op_kernel_sizes],
        blocks=[v1.conv_per_stage] * stages,
        decoder=[v1.conv_per_stage] * (stages - 1),
    )


def v1_name(name: str, last_stage: int, last_convolution: int) -> str:
    """What v1 called a weight of v2's PlainConvUNet; v2 lists layers under several names.

    Parameters
    ----------
    last_stage, last_convolution
        Numbers of the deepest stage, and of the last convolution of each stage: v1 keeps the last convolution of the
        bottleneck and of every decoder stage in a block of its own.
    """
    short = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
    short = short.replace(".all_modules.0.", ".conv.").replace(".all_modules.1.", ".norm.")
    found = re.fullmatch(r"(encoder|decoder)\.stages\.(\d+)(?:\.0)?\.convs\.(\d+)\.(conv|norm)\.(\w+)", short)
    if found is None:
        return short.replace("decoder.transpconvs.", "tu.").replace("decoder.seg_layers.", "seg_outputs.")
    stage, number = int(found[2]), int(found[3])
    side = "context" if found[1] == "encoder" else "localization"
    block = f"blocks.{number}"
    if side == "localization" or stage == last_stage:
        block = "1.blocks.0" if number == last_convolution else f"0.blocks.{number}"
    layer = "conv" if found[4] == "conv" else "instnorm"
    return f"conv_blocks_{side}.{stage}.{block}.{layer}.{found[5]}"


def to_v2_weights(weights: Mapping[Any, Any], shapes: Mapping[str, tuple[int, ...]], origin: str) -> Weights:
    """The weights under v2's names, with zeros for the biases that v1 does not have.

    v2's upsampling and output layers always have a bias, v1's have none: a bias of zero changes no answer.

    Parameters
    ----------
    weights
        v1's ``state_dict``.
    shapes
        Of the network of v2, see `expected_shapes`.

    Raises
    ------
    BadDataError
        When they are not those of this network.
    """
    import torch

    old = {str(name).removeprefix("module."): tensor for name, tensor in weights.items()}
    stages = [found for name in shapes if (found := re.match(r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.", name))]
    last_stage, last_convolution = (max(int(found[group]) for found in stages) for group in (1, 2))
    names = {name: v1_name(name, last_stage, last_convolution) for name in shapes}
    own: dict[str, torch.Tensor] = {}
    for name, v1 in names.items():
        if v1 not in old and re.fullmatch(r"(tu|seg_outputs)\.\d+\.bias", v1):
            own.setdefault(v1, torch.zeros(shapes[name]))
    v1_shapes = {v1: shapes[name] for name, v1 in names.items() if v1 not in own}
    for v1, tensor in check_weights(old, v1_shapes, origin).items():
        own[v1] = tensor.float().contiguous().clone()  # alone in its memory: the file holds nothing else
    return {name: own[v1] for name, v1 in names.items()}
