"""plans.json and dataset.json from anywhere -> the part that nnU-Net uses, checked value by value.

A plans file names classes and functions that nnU-Net imports, and sizes that it allocates: whoever writes the file
decides what runs. So nothing is passed on that is not named here. Only known names and sizes within sane limits pass;
whatever else a file holds is left behind: the records below ignore what they do not name, and those whose content is
handed to a class or function as arguments refuse it.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from bidsapp.errors import BadDataError
from bidsapp.files import parse_json, typed_json
from bidsapp.nnunet_names import NNUNET_CONFIGURATION
from bidsapp.printable import refuse_controls

Json = dict[str, Any]

DIMENSIONS = 3
MAX_PATCH_VOXELS = 2**25
MAX_CHANNELS = 16
UNETS = "dynamic_network_architectures.architectures.unet"
Imported = Literal["conv_op", "norm_op", "dropout_op", "nonlin"]
"""Arguments of a network that name a class of torch, which nnU-Net imports."""
HINT = "Known are 3D models that nnU-Net v2 planned itself: PlainConvUNet and ResidualEncoderUNet."


def _can_be_read(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return refuse_controls(text)


def _are_an_order(axes: list[int]) -> list[int]:
    if len(set(axes)) < DIMENSIONS:
        raise ValueError(f"is {axes}, not an order of three axes")
    return axes


def _is_odd(edge: int) -> int:
    if edge % 2 == 0:
        raise ValueError(f"is {edge}; the edges of kernels must be odd")
    return edge


def _is_one_value(label: object) -> object:
    if isinstance(label, list):
        raise ValueError("is a region, that is several values; such models are not used here")
    return label


def _as_written(number: Any, check: ValidatorFunctionWrapHandler) -> Any:
    check(number)
    return number


def _is_3d(patch_size: object) -> object:
    if isinstance(patch_size, list) and len(patch_size) == 2:
        raise ValueError(f"is that of a 2D configuration; give the model of {NNUNET_CONFIGURATION}")
    return patch_size


def _fits_into_memory(patch_size: list[int]) -> list[int]:
    if math.prod(patch_size) > MAX_PATCH_VOXELS:
        raise ValueError(f"is {patch_size}, more than {MAX_PATCH_VOXELS} voxels")
    return patch_size


Text = Annotated[str, Field(max_length=200), AfterValidator(_can_be_read)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}$")]
"""A name that is safe in a path and on a command line."""
Optional = Field(default=None, exclude_if=lambda value: value is None)
"""What may be missing (or null) is missing in what is passed on, so that nnU-Net takes its own default."""

_Three = Field(min_length=DIMENSIONS, max_length=DIMENSIONS)
AsWritten = WrapValidator(_as_written)
"""A 1 must not become 1.0: the digest of a model is of its plans as text."""
Number = Annotated[float, Field(allow_inf_nan=False), AsWritten]
Unit = Annotated[float, Field(ge=0, le=1), AsWritten]
Spacing = Annotated[list[Annotated[float, Field(ge=0.05, le=10), AsWritten]], _Three]
"""In mm, from 0.05 to 10: the limits of `bidsapp.records.SPACING_LIMITS_MM`."""
MedianSize = Annotated[list[Annotated[float, Field(ge=0, le=10**6), AsWritten]], _Three]
Axes = Annotated[list[Annotated[int, Field(ge=0, lt=DIMENSIONS)]], _Three, AfterValidator(_are_an_order)]
PatchSize = Annotated[
    list[Annotated[int, Field(ge=1, le=1024)]], _Three, BeforeValidator(_is_3d), AfterValidator(_fits_into_memory)
]
Kernel = Annotated[list[Annotated[int, Field(ge=1, le=11), AfterValidator(_is_odd)]], _Three]
Stride = Annotated[list[Annotated[int, Field(ge=1, le=4)]], _Three]
Features = Annotated[int, Field(ge=1, le=1024)]
Blocks = list[Annotated[int, Field(ge=1, le=16)]]
SplineOrder = Annotated[int, Field(ge=0, le=5)]
Label = Annotated[int, Field(ge=0, le=255), BeforeValidator(_is_one_value)]

Reader = Literal["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"]
Normalization = Literal["ZScoreNormalization", "CTNormalization", "NoNormalization", "RescaleTo01Normalization"]
Interpolation = Literal["linear", "nearest", "nearest-exact"]
Resampling = Literal["resample_data_or_seg_to_shape", "resample_torch_fornnunet", "no_resampling_hack"]
Convolution = Literal["torch.nn.modules.conv.Conv3d", "torch.nn.Conv3d"]
Norm = Literal[
    "torch.nn.InstanceNorm3d", "torch.nn.modules.instancenorm.InstanceNorm3d",
    "torch.nn.BatchNorm3d", "torch.nn.modules.batchnorm.BatchNorm3d",
]  # fmt: skip
Dropout = Literal["torch.nn.Dropout3d", "torch.nn.modules.dropout.Dropout3d"]
Nonlinearity = Literal[
    "torch.nn.LeakyReLU", "torch.nn.ReLU", "torch.nn.GELU", "torch.nn.modules.activation.LeakyReLU",
    "torch.nn.modules.activation.ReLU", "torch.nn.modules.activation.GELU",
]  # fmt: skip

_SPLINE = {"is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"}
_TORCH = {
    "is_seg", "force_separate_z", "separate_z_anisotropy_threshold", "memefficient_seg_resampling", "mode",
    "aniso_axis_mode",
}  # fmt: skip
RESAMPLINGS = dict(zip(get_args(Resampling), (_SPLINE, _TORCH, set[str]()), strict=True))
"""Function that resamples -> the arguments that it takes."""
NETWORKS = {
    f"{UNETS}.PlainConvUNet": ("n_conv_per_stage", "nonlin_first"),
    f"{UNETS}.ResidualEncoderUNet": ("n_blocks_per_stage", "stem_channels"),
}
"""Class -> the arguments that only it takes: the convolutions or blocks of each encoder stage, and an optional one."""


class _ResamplingArguments(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    is_seg: bool
    order: SplineOrder
    order_z: SplineOrder
    force_separate_z: bool | None
    separate_z_anisotropy_threshold: Annotated[float, Field(ge=0, le=1000), AsWritten]
    memefficient_seg_resampling: bool
    mode: Interpolation
    aniso_axis_mode: Interpolation


class _NetworkArguments(BaseModel):
    """Arguments of the network's class; an argument that is not known is refused, for the class would be given it."""

    model_config = ConfigDict(extra="forbid")

    n_stages: Annotated[int, Field(ge=2, le=10)]
    features_per_stage: list[Features]
    conv_op: Convolution
    kernel_sizes: list[Kernel]
    strides: list[Stride]
    n_conv_per_stage: Blocks | None = Optional
    n_blocks_per_stage: Blocks | None = Optional
    n_conv_per_stage_decoder: Blocks
    conv_bias: bool = False
    norm_op: Norm | None = None
    norm_op_kwargs: dict[Literal["eps", "affine", "momentum", "track_running_stats"], bool | Unit] | None = None
    dropout_op: Dropout | None = None
    dropout_op_kwargs: dict[Literal["p", "inplace"], bool | Unit] | None = None
    nonlin: Nonlinearity | None = None
    nonlin_kwargs: dict[Literal["inplace", "negative_slope"], bool | Unit] | None = None
    deep_supervision: bool | None = Optional
    nonlin_first: bool | None = Optional
    stem_channels: Features | None = Optional

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, found: Any) -> Any:
        """An export of nnU-Net may spell out as null what is the default."""
        return {key: value for key, value in found.items() if value is not None} if isinstance(found, dict) else found

    @field_validator("n_conv_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder", mode="before")
    @classmethod
    def _one_per_stage(cls, value: Any, info: ValidationInfo) -> Any:
        """One number stands for all stages; the decoder has one stage less."""
        if not isinstance(value, int) or isinstance(value, bool) or "n_stages" not in info.data:
            return value
        return [value] * (int(info.data["n_stages"]) - (info.field_name == "n_conv_per_stage_decoder"))

    @model_validator(mode="after")
    def _fits_its_stages(self) -> _NetworkArguments:
        per_stage = ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage")
        lengths = dict.fromkeys(per_stage, self.n_stages) | {"n_conv_per_stage_decoder": self.n_stages - 1}
        for name, length in lengths.items():
            value = getattr(self, name)
            if value is not None and len(value) != length:
                raise ValueError(f"has as {name} {ascii(value)[:80]}, not a list of {length}")
        return self


class _Architecture(BaseModel):
    network_class_name: Literal[
        "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    ]
    arch_kwargs: _NetworkArguments
    kw_requires_import: list[Imported] = Field(alias="_kw_requires_import")

    @model_validator(mode="after")
    def _fits_its_network(self) -> _Architecture:
        for network, (blocks, optional) in NETWORKS.items():
            if network == self.network_class_name and getattr(self.arch_kwargs, blocks) is None:
                raise ValueError(f"lacks arch_kwargs.{blocks}")
            others = [name for name in (blocks, optional) if getattr(self.arch_kwargs, name) is not None]
            if network != self.network_class_name and others:
                raise ValueError(f"has arch_kwargs.{others[0]}, which {self.network_class_name} does not take")
        self.kw_requires_import = list(get_args(Imported))
        return self


class _OldArchitecture(BaseModel):
    """How plans described the network before nnU-Net 2.3."""

    UNet_class_name: Literal["PlainConvUNet", "ResidualEncoderUNet"]
    UNet_base_num_features: Features
    unet_max_num_features: Features
    n_conv_per_stage_encoder: Blocks
    n_conv_per_stage_decoder: Any = None
    conv_kernel_sizes: Any = None
    pool_op_kernel_sizes: Any = None


class _Configuration(BaseModel):
    preprocessor_name: Literal["DefaultPreprocessor"]
    patch_size: PatchSize
    spacing: Spacing
    batch_size: Annotated[int, Field(ge=1, le=1024)]
    batch_dice: bool = False
    normalization_schemes: list[Normalization]
    use_mask_for_norm: list[bool]
    resampling_fn_data: Resampling
    resampling_fn_data_kwargs: _ResamplingArguments
    resampling_fn_seg: Resampling
    resampling_fn_seg_kwargs: _ResamplingArguments
    resampling_fn_probabilities: Resampling
    resampling_fn_probabilities_kwargs: _ResamplingArguments
    data_identifier: Word | None = Optional
    median_image_size_in_voxels: Annotated[list[Annotated[float, Field(ge=0, le=10**6), AsWritten]], _Three] | None = (
        Optional
    )
    architecture: _Architecture

    @model_validator(mode="after")
    def _takes_its_arguments(self) -> _Configuration:
        for what in ("data", "seg", "probabilities"):
            function = getattr(self, f"resampling_fn_{what}")
            unknown = sorted(getattr(self, f"resampling_fn_{what}_kwargs").keys() - RESAMPLINGS[function])
            if unknown:
                raise ValueError(f"has in resampling_fn_{what}_kwargs {unknown[0]!r}, which {function} does not take")
        return self


class _Intensities(BaseModel):
    """Of the foreground of one channel; CT is normalised by them."""

    mean: Number
    median: Number
    std: Number
    min: Number
    max: Number
    percentile_99_5: Number
    percentile_00_5: Number


INTENSITIES = tuple(_Intensities.model_fields)


class _Plans(BaseModel):
    dataset_name: Word
    plans_name: Word
    image_reader_writer: Reader
    transpose_forward: Axes
    transpose_backward: Axes
    label_manager: Literal["LabelManager"] = "LabelManager"
    foreground_intensity_properties_per_channel: dict[str, _Intensities] = Field(
        validation_alias=AliasChoices(
            "foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"
        )
    )
    configurations: dict[str, _Configuration]
    experiment_planner_used: Word | None = Optional
    original_median_spacing_after_transp: Annotated[list[Number], _Three] | None = Optional
    original_median_shape_after_transp: Annotated[list[Number], _Three] | None = Optional

    @field_validator("transpose_backward", mode="after")
    @classmethod
    def _undoes_the_other(cls, backward: list[int], info: ValidationInfo) -> list[int]:
        forward = info.data.get("transpose_forward")
        if forward and [forward[axis] for axis in backward] != list(range(DIMENSIONS)):
            raise ValueError("does not undo transpose_forward")
        return backward


class _Dataset(BaseModel):
    channel_names: dict[str, Text] = Field(validation_alias=AliasChoices("channel_names", "modality"))
    labels: dict[Text, Label]
    file_ending: Annotated[str, Field(pattern=r"^(\.[A-Za-z0-9]{1,8}){1,2}$")] = ".nii.gz"
    numTraining: Annotated[int, Field(ge=0, le=10**9)] | None = Optional  # noqa: N815 - nnU-Net's name
    overwrite_image_reader_writer: Reader | None = Optional

    @field_validator("channel_names", mode="after")
    @classmethod
    def _are_numbered(cls, channels: dict[str, str]) -> dict[str, str]:
        in_order = [str(number) for number in range(len(channels))]
        if not 1 <= len(channels) <= MAX_CHANNELS or set(channels) != set(in_order):
            raise ValueError(f'must be numbered from "0" on, at most {MAX_CHANNELS}')
        return {number: channels[number] for number in in_order}

    @field_validator("labels", mode="after")
    @classmethod
    def _have_no_gaps(cls, labels: dict[str, int]) -> dict[str, int]:
        """The ignore label has no output of the network and goes."""
        learned = {name: value for name, value in labels.items() if name != "ignore"}
        values = sorted(learned.values())
        if learned.get("background") != 0:
            raise ValueError("must hold background with the value 0")
        if values != list(range(len(values))) or len(values) < 2:
            raise ValueError(f"must be numbered 0, 1, 2, ... without gaps, and are {values}")
        return learned

    @field_validator("overwrite_image_reader_writer", mode="before")
    @classmethod
    def _none_in_words(cls, reader: Any) -> Any:
        return None if reader == "None" else reader


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
        own = _inherited(plans, configuration)
        if own.get("previous_stage"):
            raise ValueError("the configuration is the second stage of a cascade; it needs the output of the first")
        if "architecture" not in own:
            own["architecture"] = _architecture_of_old(own)
        checked = typed_json(_Plans, plans | {"configurations": {configuration: own}}, more=None)
        _check_channels(checked, checked.configurations[configuration], channels)
    except ValueError as error:
        raise BadDataError(f"{origin}: {error}", HINT) from error
    return cast(Json, checked.model_dump(by_alias=True, warnings=False))  # see `AsWritten`


def check_dataset(dataset: Json, origin: str) -> Json:
    """channel_names, labels, file_ending and the like of dataset.json; an ``ignore`` label has no output and goes.

    Raises
    ------
    BadDataError
        For the first value that we cannot use, with the reason.
    """
    try:
        return cast(Json, typed_json(_Dataset, dataset, more=None).model_dump())
    except ValueError as error:
        raise BadDataError(f"{origin}: {error}", "Known are models with one value per label.") from error


def unet_architecture(
    network: str, *, features: list[int], kernel_sizes: Any, strides: Any, blocks: list[int], decoder: Any
) -> Json:
    """The ``architecture`` of a U-Net as nnU-Net plans it: instance normalisation, leaky ReLU, no dropout.

    Parameters
    ----------
    network
        ``PlainConvUNet`` or ``ResidualEncoderUNet``.
    features, kernel_sizes, strides, blocks, decoder
        One entry per stage, of the decoder's one less.
    """
    network = f"{UNETS}.{network}"
    return {
        "network_class_name": network,
        "arch_kwargs": {
            "n_stages": len(features),
            "features_per_stage": features,
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": kernel_sizes,
            "strides": strides,
            NETWORKS[network][0]: blocks,
            "n_conv_per_stage_decoder": decoder,
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": list(get_args(Imported)),
    }


def _inherited(plans: Json, name: str) -> Json:
    """A configuration over the ones that it inherits from, as nnU-Net resolves them."""
    configurations = plans.get("configurations")
    known = configurations if isinstance(configurations, dict) else {}
    chain: list[str] = []
    merged: Json = {}
    following: Any = name
    while following is not None:
        if not isinstance(following, str) or following in chain or following not in known:
            raise ValueError(f"the configuration {ascii(following)[:80]} does not exist, or inherits from itself")
        own = known[following]
        if not isinstance(own, dict):
            raise ValueError(f"configurations.{following} is not an object")
        chain.append(following)
        merged = own | merged
        following = own.get("inherits_from")
    return merged


def _architecture_of_old(found: Json) -> Json:
    """The ``architecture`` of plans that nnU-Net wrote before version 2.3, converted as nnU-Net does it."""
    old = typed_json(_OldArchitecture, found, more=None)
    stages = range(len(old.n_conv_per_stage_encoder))
    return unet_architecture(
        old.UNet_class_name,
        features=[min(old.UNet_base_num_features * 2**stage, old.unet_max_num_features) for stage in stages],
        kernel_sizes=old.conv_kernel_sizes,
        strides=old.pool_op_kernel_sizes,
        blocks=old.n_conv_per_stage_encoder,
        decoder=old.n_conv_per_stage_decoder,
    )


def _check_channels(plans: _Plans, configuration: _Configuration, channels: int) -> None:
    if set(plans.foreground_intensity_properties_per_channel) != set(map(str, range(channels))):
        raise ValueError(f"foreground_intensity_properties_per_channel is not of {channels} channel(s)")
    for name in ("normalization_schemes", "use_mask_for_norm"):
        value = getattr(configuration, name)
        if len(value) != channels:
            raise ValueError(f"{name} is {ascii(value)[:80]}, not a list of {channels}")
