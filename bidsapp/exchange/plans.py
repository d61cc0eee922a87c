"""plans.json and dataset.json of somebody else -> the part that nnU-Net uses, checked value by value.

A plans file names classes and functions that nnU-Net imports, and sizes that it allocates. Only names on the lists
below and sizes within sane bounds pass; whatever else a file holds is left behind.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from typing import Any

from bidsapp.errors import BadDataError
from bidsapp.files import parse_json
from bidsapp.layout import NNUNET_CONFIGURATION
from bidsapp.printable import is_control
from bidsapp.records import SPACING_LIMITS_MM

Json = dict[str, Any]

DIMENSIONS = 3
UNETS = "dynamic_network_architectures.architectures.unet"
NETWORKS = {  # class -> its argument for the convolutions of an encoder stage
    f"{UNETS}.PlainConvUNet": "n_conv_per_stage",
    f"{UNETS}.ResidualEncoderUNet": "n_blocks_per_stage",
}
CLASSES = {
    "conv_op": {"torch.nn.modules.conv.Conv3d", "torch.nn.Conv3d"},
    "norm_op": {
        f"torch.nn.{module}{norm}3d"
        for norm in ("InstanceNorm", "BatchNorm")
        for module in ("", f"modules.{norm.lower()}.")
    },
    "dropout_op": {"torch.nn.Dropout3d", "torch.nn.modules.dropout.Dropout3d"},
    "nonlin": {
        f"torch.nn.{module}{name}" for name in ("LeakyReLU", "ReLU", "GELU") for module in ("", "modules.activation.")
    },
}
CLASS_ARGUMENTS = {
    "norm_op_kwargs": {"eps", "affine", "momentum", "track_running_stats"},
    "nonlin_kwargs": {"inplace", "negative_slope"},
    "dropout_op_kwargs": {"p", "inplace"},
}
READERS = ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient")
NORMALIZATIONS = ("ZScoreNormalization", "CTNormalization", "NoNormalization", "RescaleTo01Normalization")
_SPLINE = {"is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"}
_TORCH = {
    "is_seg", "force_separate_z", "separate_z_anisotropy_threshold", "memefficient_seg_resampling", "mode",
    "aniso_axis_mode",
}  # fmt: skip
RESAMPLINGS = {
    "resample_data_or_seg_to_shape": _SPLINE,
    "resample_torch_fornnunet": _TORCH,
    "no_resampling_hack": set[str](),
}
INTERPOLATIONS = ("linear", "nearest", "nearest-exact")
INTENSITIES = ("mean", "median", "std", "min", "max", "percentile_99_5", "percentile_00_5")

MAX_PATCH_EDGE, MAX_PATCH_VOXELS = 1024, 2**25
MAX_STAGES, MAX_FEATURES, MAX_KERNEL, MAX_STRIDE, MAX_BLOCKS = 10, 1024, 11, 4, 16
MAX_CHANNELS, MAX_LABELS, MAX_TEXT = 16, 255, 200
HINT = "Known are 3D models that nnU-Net v2 planned itself: PlainConvUNet and ResidualEncoderUNet."


class PlansError(ValueError):
    """What is wrong, without the file's name."""


def parse_object(content: bytes, origin: str) -> Json:
    """An object from JSON without NaN and infinities.

    Raises
    ------
    BadDataError
        When it is something else.
    """
    parsed = parse_json(content, origin, HINT)
    if not isinstance(parsed, dict):
        raise BadDataError(f"{origin} does not hold a JSON object", HINT)
    return parsed


def check_plans(plans: Json, configuration: str, channels: int, origin: str) -> Json:
    """The plans of one configuration, in today's format, with what it inherits filled in.

    Parameters
    ----------
    channels
        Number of images per case, of dataset.json.
    origin
        The file, for messages.

    Raises
    ------
    BadDataError
        For the first value that nnU-Net could not or should not be given, with the reason.
    """
    try:
        return _plans(plans, configuration, channels)
    except PlansError as error:
        raise BadDataError(f"{origin}: {error}", HINT) from error


def check_dataset(dataset: Json, origin: str) -> Json:
    """channel_names, labels, file_ending and the like of dataset.json; an ``ignore`` label has no output and goes.

    Raises
    ------
    BadDataError
        For the first value that we cannot use, with the reason.
    """
    try:
        return _dataset(dataset)
    except PlansError as error:
        raise BadDataError(f"{origin}: {error}", "Known are models with one value per label.") from error


def _dataset(dataset: Json) -> Json:
    channels = _object(dataset.get("channel_names", dataset.get("modality")), "channel_names")
    if set(channels) != set(map(str, range(len(channels)))) or not 1 <= len(channels) <= MAX_CHANNELS:
        raise PlansError(f'channel_names must be numbered from "0" on, at most {MAX_CHANNELS}')
    ending = _text(dataset.get("file_ending", ".nii.gz"), "file_ending")
    if not re.fullmatch(r"(\.[A-Za-z0-9]{1,8}){1,2}", ending):
        raise PlansError(f"file_ending is {ending!r}")
    checked = {
        "channel_names": {key: _text(channels[key], "channel_names") for key in sorted(channels, key=int)},
        "labels": _labels(_object(dataset.get("labels"), "labels")),
        "file_ending": ending,
    }
    if "numTraining" in dataset:
        checked["numTraining"] = _integer(dataset["numTraining"], "numTraining", 0, 10**9)
    reader = dataset.get("overwrite_image_reader_writer")
    if reader not in (None, "None"):
        checked["overwrite_image_reader_writer"] = _choice(reader, READERS, "overwrite_image_reader_writer")
    return checked


def _labels(labels: Json) -> dict[str, int]:
    values: dict[str, int] = {}
    for name, value in labels.items():
        _text(name, "a label's name")
        if isinstance(value, list):
            raise PlansError(f"the label {name!r} is a region, that is several values: such models are not used here")
        values[name] = _integer(value, f"the label {name!r}", 0, MAX_LABELS)
    values.pop("ignore", None)
    if values.get("background") != 0:
        raise PlansError("labels must hold background with the value 0")
    if sorted(values.values()) != list(range(len(values))) or len(values) < 2:
        raise PlansError(f"labels must be numbered 0, 1, 2, ... without gaps, and are {sorted(values.values())}")
    return values


def _plans(plans: Json, configuration: str, channels: int) -> Json:
    if plans.get("label_manager", "LabelManager") != "LabelManager":
        raise PlansError(f"label_manager is {plans['label_manager']!r}; known is LabelManager")
    forward, backward = (_axes(plans.get(key), key) for key in ("transpose_forward", "transpose_backward"))
    if [forward[axis] for axis in backward] != list(range(DIMENSIONS)):
        raise PlansError("transpose_backward does not undo transpose_forward")
    intensities = plans.get(
        "foreground_intensity_properties_per_channel", plans.get("foreground_intensity_properties_by_modality")
    )
    checked = {
        "dataset_name": _word(plans.get("dataset_name"), "dataset_name"),
        "plans_name": _word(plans.get("plans_name"), "plans_name"),
        "image_reader_writer": _choice(plans.get("image_reader_writer"), READERS, "image_reader_writer"),
        "transpose_forward": forward,
        "transpose_backward": backward,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": _intensities(intensities, channels),
        "configurations": {configuration: _configuration(_inherited(plans, configuration), channels)},
    }
    if "experiment_planner_used" in plans:
        checked["experiment_planner_used"] = _word(plans["experiment_planner_used"], "experiment_planner_used")
    for key in ("original_median_spacing_after_transp", "original_median_shape_after_transp"):
        if key in plans:
            checked[key] = _numbers(plans[key], key, DIMENSIONS)
    return checked


def _intensities(value: object, channels: int) -> Json:
    properties = _object(value, "foreground_intensity_properties_per_channel")
    if set(properties) != set(map(str, range(channels))):
        raise PlansError(f"foreground_intensity_properties_per_channel is not of {channels} channel(s)")
    checked: Json = {}
    for channel in sorted(properties, key=int):
        known = _object(properties[channel], "foreground_intensity_properties_per_channel")
        missing = [name for name in INTENSITIES if name not in known]
        if missing:
            raise PlansError(f"foreground_intensity_properties_per_channel lacks {', '.join(missing)}")
        checked[channel] = {name: _number(known[name], name) for name in INTENSITIES}
    return checked


def _inherited(plans: Json, name: str) -> Json:
    """A configuration over the ones that it inherits from, as nnU-Net resolves them."""
    configurations = _object(plans.get("configurations"), "configurations")
    chain: list[str] = []
    merged: Json = {}
    following: object = name
    while following is not None:
        if not isinstance(following, str) or following in chain or following not in configurations:
            raise PlansError(f"the configuration {following!r} does not exist, or inherits from itself")
        chain.append(following)
        own = _object(configurations[following], f"configurations.{following}")
        merged = own | merged
        following = own.get("inherits_from")
    merged.pop("inherits_from", None)
    return merged


def _configuration(found: Json, channels: int) -> Json:
    if found.get("previous_stage"):
        raise PlansError("the configuration is the second stage of a cascade; it needs the output of the first")
    patch = found.get("patch_size")
    if isinstance(patch, list) and len(patch) == 2:
        raise PlansError(f"a 2D configuration: give the model of {NNUNET_CONFIGURATION}")
    checked: Json = {
        "preprocessor_name": _choice(found.get("preprocessor_name"), ("DefaultPreprocessor",), "preprocessor_name"),
        "patch_size": _integers(patch, "patch_size", 1, MAX_PATCH_EDGE, DIMENSIONS),
        "spacing": _numbers(found.get("spacing"), "spacing", DIMENSIONS, *SPACING_LIMITS_MM),
        "batch_size": _integer(found.get("batch_size"), "batch_size", 1, 1024),
        "batch_dice": _boolean(found.get("batch_dice", False), "batch_dice"),
        "normalization_schemes": [
            _choice(name, NORMALIZATIONS, "normalization_schemes")
            for name in _list(found.get("normalization_schemes"), "normalization_schemes", channels)
        ],
        "use_mask_for_norm": [
            _boolean(value, "use_mask_for_norm")
            for value in _list(found.get("use_mask_for_norm"), "use_mask_for_norm", channels)
        ],
    }
    if math.prod(checked["patch_size"]) > MAX_PATCH_VOXELS:
        raise PlansError(f"patch_size {patch} has more than {MAX_PATCH_VOXELS} voxels")
    for what in ("data", "seg", "probabilities"):
        key = f"resampling_fn_{what}"
        checked[key] = _choice(found.get(key), RESAMPLINGS, key)
        checked[f"{key}_kwargs"] = _resampling_arguments(found.get(f"{key}_kwargs"), checked[key], f"{key}_kwargs")
    if "data_identifier" in found:
        checked["data_identifier"] = _word(found["data_identifier"], "data_identifier")
    if "median_image_size_in_voxels" in found:
        checked["median_image_size_in_voxels"] = _numbers(
            found["median_image_size_in_voxels"], "median_image_size_in_voxels", DIMENSIONS, 0, 10**6
        )
    architecture = found["architecture"] if "architecture" in found else _modern_architecture(found)
    checked["architecture"] = _architecture(_object(architecture, "architecture"))
    return checked


def _resampling_arguments(value: object, function: str, where: str) -> Json:
    arguments = _object(value, where)
    _only(arguments, RESAMPLINGS[function], where)
    checks: dict[str, Callable[[object, str], object]] = {
        "order": lambda value, where: _integer(value, where, 0, 5),
        "order_z": lambda value, where: _integer(value, where, 0, 5),
        "force_separate_z": lambda value, where: None if value is None else _boolean(value, where),
        "separate_z_anisotropy_threshold": lambda value, where: _number(value, where, 0, 1000),
        "mode": lambda value, where: _choice(value, INTERPOLATIONS, where),
        "aniso_axis_mode": lambda value, where: _choice(value, INTERPOLATIONS, where),
    }
    return {key: checks.get(key, _boolean)(value, f"{where}.{key}") for key, value in arguments.items()}


def _modern_architecture(found: Json) -> Json:
    """The ``architecture`` of plans that nnU-Net wrote before version 2.3; nnU-Net converts them alike."""
    network = _choice(found.get("UNet_class_name"), ("PlainConvUNet", "ResidualEncoderUNet"), "UNet_class_name")
    base = _integer(found.get("UNet_base_num_features"), "UNet_base_num_features", 1, MAX_FEATURES)
    widest = _integer(found.get("unet_max_num_features"), "unet_max_num_features", 1, MAX_FEATURES)
    convolutions = found.get("n_conv_per_stage_encoder")
    stages = len(_list(convolutions, "n_conv_per_stage_encoder"))
    network = f"{UNETS}.{network}"
    return {
        "network_class_name": network,
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(base * 2**stage, widest) for stage in range(stages)],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": found.get("conv_kernel_sizes"),
            "strides": found.get("pool_op_kernel_sizes"),
            NETWORKS[network]: convolutions,
            "n_conv_per_stage_decoder": found.get("n_conv_per_stage_decoder"),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _architecture(architecture: Json) -> Json:
    network = _choice(architecture.get("network_class_name"), NETWORKS, "network_class_name")
    found = _object(architecture.get("arch_kwargs"), "arch_kwargs")
    blocks = NETWORKS[network]
    stages = _integer(found.get("n_stages"), "n_stages", 2, MAX_STAGES)
    checked: Json = {
        "n_stages": stages,
        "features_per_stage": _integers(found.get("features_per_stage"), "features_per_stage", 1, MAX_FEATURES, stages),
        "conv_op": _choice(found.get("conv_op"), CLASSES["conv_op"], "conv_op"),
        "kernel_sizes": _edges(found.get("kernel_sizes"), "kernel_sizes", MAX_KERNEL, stages),
        "strides": _edges(found.get("strides"), "strides", MAX_STRIDE, stages),
        blocks: _per_stage(found.get(blocks), blocks, stages),
        "n_conv_per_stage_decoder": _per_stage(
            found.get("n_conv_per_stage_decoder"), "n_conv_per_stage_decoder", stages - 1
        ),
        "conv_bias": _boolean(found.get("conv_bias", False), "conv_bias"),
    }
    if any(edge % 2 == 0 for kernel in checked["kernel_sizes"] for edge in kernel):
        raise PlansError("kernel_sizes must be odd")
    for name in ("norm_op", "nonlin", "dropout_op"):
        value = found.get(name)
        checked[name] = None if value is None else _choice(value, CLASSES[name], name)
        checked[f"{name}_kwargs"] = _class_arguments(found.get(f"{name}_kwargs"), f"{name}_kwargs")
    optional = {"deep_supervision", "nonlin_first"} if blocks == "n_conv_per_stage" else {"deep_supervision"}
    checked |= {key: _boolean(found[key], key) for key in optional & found.keys()}
    if blocks == "n_blocks_per_stage" and found.get("stem_channels") is not None:
        checked["stem_channels"] = _integer(found["stem_channels"], "stem_channels", 1, MAX_FEATURES)
    # what an export of nnU-Net may spell out as null although it is the default
    _only({key: value for key, value in found.items() if value is not None}, checked, "arch_kwargs")
    imports = _list(architecture.get("_kw_requires_import"), "_kw_requires_import")
    if not all(isinstance(name, str) and name in CLASSES for name in imports):
        raise PlansError(f"_kw_requires_import names something else than {', '.join(CLASSES)}")
    return {"network_class_name": network, "arch_kwargs": checked, "_kw_requires_import": list(CLASSES)}


def _class_arguments(value: object, where: str) -> Json | None:
    if value is None:
        return None
    arguments = _object(value, where)
    _only(arguments, CLASS_ARGUMENTS[where], where)
    return {
        key: value if isinstance(value, bool) else _number(value, f"{where}.{key}", 0, 1)
        for key, value in arguments.items()
    }


def _edges(value: object, where: str, largest: int, stages: int) -> list[list[int]]:
    return [_integers(edges, where, 1, largest, DIMENSIONS) for edges in _list(value, where, stages)]


def _per_stage(value: object, where: str, stages: int) -> list[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value] * stages
    return _integers(value, where, 1, MAX_BLOCKS, stages)


def _axes(value: object, where: str) -> list[int]:
    axes = _integers(value, where, 0, DIMENSIONS - 1, DIMENSIONS)
    if len(set(axes)) < DIMENSIONS:
        raise PlansError(f"{where} is {axes}, not an order of three axes")
    return axes


def _only(found: Collection[str], known: Collection[str], where: str) -> None:
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise PlansError(f"{where} holds what is not known: {', '.join(map(_short, unknown))}")


def _choice(value: object, known: Collection[str], where: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise PlansError(f"{where} is {_short(value)}; known are {', '.join(sorted(known))}")
    return value


def _object(value: object, where: str) -> Json:
    if not isinstance(value, dict):
        raise PlansError(f"{where} is missing or not an object")
    return value


def _list(value: object, where: str, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise PlansError(f"{where} is {_short(value)}, not a list" + (f" of {length}" if length is not None else ""))
    return value


def _integer(value: object, where: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise PlansError(f"{where} is {_short(value)}, not a whole number from {least} to {most}")
    return value


def _number(value: object, where: str, least: float = -math.inf, most: float = math.inf) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
        raise PlansError(f"{where} is {_short(value)}, not a number from {least} to {most}")
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise PlansError(f"{where} is not finite")
    return value


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise PlansError(f"{where} is {_short(value)}, not true or false")
    return value


def _integers(value: object, where: str, least: int, most: int, length: int) -> list[int]:
    return [_integer(one, where, least, most) for one in _list(value, where, length)]


def _numbers(value: object, where: str, length: int, least: float = -math.inf, most: float = math.inf) -> list[float]:
    return [_number(one, where, least, most) for one in _list(value, where, length)]


def _text(value: object, where: str) -> str:
    """Any text that a person can read."""
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT:
        raise PlansError(f"{where} is {_short(value)}, not a text of 1 to {MAX_TEXT} characters")
    if any(map(is_control, value)):
        raise PlansError(f"{where} holds control characters: {_short(value)}")
    return value


def _word(value: object, where: str) -> str:
    """A name that is safe in a path and on a command line."""
    if not isinstance(value, str) or not re.fullmatch(rf"[A-Za-z0-9_][A-Za-z0-9_.+-]{{0,{MAX_TEXT - 1}}}", value):
        raise PlansError(f"{where} is {_short(value)}, not a name of letters, digits and _.+-")
    return value


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
