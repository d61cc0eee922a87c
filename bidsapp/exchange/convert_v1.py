"""A model of nnU-Net v1 -> an export of nnU-Net v2 that answers the same, without executing anything of it.

v1's network is v2's PlainConvUNet under other names, without the biases that it never used, as long as all kernels are
3 x 3 x 3. HippUnfold's adult models are v1.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.exchange.archives import MAX_MEMBER_BYTES, MAX_MEMBERS, MIB, FolderMembers, Members, open_archive
from bidsapp.exchange.loading import load_model
from bidsapp.exchange.plans import INTENSITIES, UNETS, Json, check_dataset, check_plans
from bidsapp.exchange.unpickling import plain, read_pickle
from bidsapp.exchange.weights import Weights, check_weights, expected_shapes, read_v1_checkpoint
from bidsapp.files import explain_write_errors
from bidsapp.nnunet_names import NNUNET_CONFIGURATION
from bidsapp.printable import printable

if TYPE_CHECKING:
    import torch

PLANS = "plans.pkl"
MAX_PICKLE_BYTES = 16 * MIB
PREFERRED_CHECKPOINTS = ("model_final_checkpoint", "model_best")
WIDEST_FEATURES = 320  # Generic_UNet.MAX_NUM_FILTERS_3D
KERNEL = [3, 3, 3]
NORMALIZATIONS = {"nonCT": "ZScoreNormalization", "noNorm": "NoNormalization"}
OTHER_NETWORKS = re.compile(r"relu|gelu|mish|frn|_bn|_gn|nonormalization|resenc|cascade", re.IGNORECASE)
WITHOUT_MIRRORING = re.compile(r"nomirroring|noda", re.IGNORECASE)
HIPPUNFOLD_TASKS = re.compile(r"Task(?:10[123]|110)_hcp1200_\w+|Task301_dhcp_T1w\w*")
HIPPUNFOLD_LABELS = ("GM", "SRLM", "MTLC", "Pial", "HATA", "IndGris", "Cyst", "DG")
HIPPUNFOLD_CHANNELS = {"T1w": ("T1w",), "T2w": ("T2w",), "T1T2w": ("T1w", "T2w")}
FOLDER_DEPTH = 6  # results / nnUNet / 3d_fullres / Task / trainer__plans / fold_0
EXPECTED = (
    "Name an archive or a folder of nnU-Net v1 with TRAINER__PLANS/plans.pkl, TRAINER__PLANS/fold_0/model_best.model "
    "and model_best.model.pkl beside it."
)
HINT = "Converted are 3D networks that nnU-Net v1 planned itself, trained with nnUNetTrainerV2 on MRI."


@dataclass(frozen=True)
class ConversionReport:
    """What became of a v1 model.

    Attributes
    ----------
    destination
        The zip that was written.
    dataset
        ``Dataset<NNN>_<name>`` inside.
    task, trainer, checkpoint
        As v1 called them; no task where the path names none.
    folds, left_out
        v1's folds that became fold_0, fold_1, ... in this order, and those without that checkpoint.
    labels, labels_from
        value -> name without the background, and where the names come from; `channels` likewise.
    mirroring_axes
        Axes that v1 mirrored in training, and plain nnU-Net mirrors in prediction unless told not to.
    differences
        Sentences: in what a prediction can differ from v1's.
    """

    source: Path
    destination: Path
    dataset: str
    task: str | None
    trainer: str
    checkpoint: str
    folds: tuple[str, ...]
    left_out: tuple[str, ...]
    labels: Mapping[int, str]
    labels_from: str
    channels: tuple[str, ...]
    channels_from: str
    mirroring_axes: tuple[int, ...] | None
    digest: str
    differences: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The report for people."""
        labels = ", ".join(f"{value} {name}" for value, name in self.labels.items())
        renamed = ", ".join(f"{fold} -> fold_{number}" for number, fold in enumerate(self.folds))
        return [
            f"{self.task or 'a model'} of nnU-Net v1 ({self.trainer}, {self.checkpoint}) -> {self.destination}",
            f"folds: {renamed}" + (f"; left out: {', '.join(self.left_out)}" if self.left_out else ""),
            f"labels ({self.labels_from}): {labels}",
            f"channels ({self.channels_from}): {', '.join(self.channels)}",
            *self.differences,
        ]


@dataclass(frozen=True)
class _Place:
    """A model among members."""

    folder: str
    checkpoint: str
    folds: tuple[str, ...]
    left_out: tuple[str, ...]
    task: str | None

    def file(self, *parts: str) -> str:
        return str(PurePosixPath(self.folder, *parts))


@dataclass(frozen=True)
class _Named:
    """Names that v1 does not keep."""

    labels: dict[int, str]
    labels_from: str
    channels: tuple[str, ...]
    channels_from: str


@dataclass(frozen=True)
class _Converted:
    """A model in v2's words."""

    plans: Json
    dataset: Json
    trainer: str
    folds: tuple[Weights, ...]
    sha256: dict[str, str]
    differences: tuple[str, ...]


def convert_v1(
    source: Path,
    destination_zip: Path,
    *,
    name: str | None = None,
    labels: Mapping[int, str] | None = None,
    channels: Sequence[str] | None = None,
) -> ConversionReport:
    """Write an nnU-Net v1 model as an export of nnU-Net v2 that loads, replacing what stood there.

    Parameters
    ----------
    source
        A zip or tar of a results folder of v1, HippUnfold's among them, or such a folder.
    name
        Letters and digits, for ``Dataset<NNN>_<name>``; None: the task's.
    labels
        value -> name for every label but the background; None: HippUnfold's for its tasks, else ``label-<value>``.
    channels
        Names of the images, in order; None: HippUnfold's for its tasks, else v1's modalities.

    Raises
    ------
    NoInputError
        When there is no such file, or a folder lacks a part of the model, which is named.
    UsageError
        When names, labels or channels do not fit the model.
    BadDataError
        When the content is damaged, would have to be executed, or is a network that v2 does not have.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9]+", name):
        raise UsageError(f"the name {name!r} cannot be that of a data set", "Use letters and digits.")
    if not source.exists():
        raise NoInputError(f"{source} does not exist", EXPECTED)
    with _open_members(source) as members:
        place = _find_model(members, source)
        info, v1_plans, notes = _read_pickles(members, place)
        origin = f"{place.file(place.folds[0], place.checkpoint)}.model.pkl in {source}"
        named = _names(v1_plans, place.task, labels, channels, origin)
        model = _convert(members, place, info, v1_plans, named, origin)
    axes = None if WITHOUT_MIRRORING.search(model.trainer) else (0, 1, 2)
    dataset, digest = _write(model, destination_zip, name or _dataset_word(place.task), axes, place)
    return ConversionReport(
        source=source,
        destination=destination_zip,
        dataset=dataset,
        task=place.task,
        trainer=model.trainer,
        checkpoint=place.checkpoint,
        folds=place.folds,
        left_out=place.left_out,
        labels=named.labels,
        labels_from=named.labels_from,
        channels=named.channels,
        channels_from=named.channels_from,
        mirroring_axes=axes,
        digest=digest,
        differences=(*model.differences, *notes, _mirroring_note(axes)),
    )


@contextmanager
def _open_members(source: Path) -> Iterator[Members]:
    if not source.is_dir():
        with open_archive(source, lambda name: name.endswith(".pkl"), MAX_PICKLE_BYTES) as members:
            yield members
        return
    root = source.resolve()
    found = {
        path.relative_to(root).as_posix()
        for depth in range(FOLDER_DEPTH + 1)
        for pattern in (PLANS, "*.model", "*.model.pkl")
        for path in root.glob("*/" * depth + pattern)
    }
    if len(found) > MAX_MEMBERS:
        raise UsageError(f"{source} holds {len(found)} files of models", "Name the folder of one model in it.")
    yield FolderMembers(root, tuple(sorted(found)))


def _find_model(members: Members, source: Path) -> _Place:
    """The one v1 model among `members`; ``3d_fullres`` where there are several."""
    missing: type[BadDataError | NoInputError] = NoInputError if source.is_dir() else BadDataError
    models: dict[str, dict[str, set[str]]] = {}  # folder -> fold -> checkpoints
    for member in members.names:
        found = re.fullmatch(r"(?:(.*)/)?(fold_\d+|all)/(\w+)\.model", member)
        if found:
            models.setdefault(found[1] or "", {}).setdefault(found[2], set()).add(found[3])
    if not models:
        raise missing(f"{source} holds no fold_*/model_best.model or model_final_checkpoint.model", EXPECTED)
    fullres = [folder for folder in models if NNUNET_CONFIGURATION in folder]
    if len(models) > 1 and len(fullres) != 1:
        listed = ", ".join(sorted(folder or "." for folder in models))
        raise UsageError(f"{source} holds {len(models)} models: {listed}", "Give the folder of one.")
    folder = fullres[0] if len(models) > 1 else next(iter(models))
    checkpoint, folds = _choose(models[folder], source)
    place = _Place(folder, checkpoint, folds, tuple(sorted(models[folder].keys() - set(folds))), _task(folder, source))
    needed = [place.file(PLANS), *(place.file(fold, f"{checkpoint}.model.pkl") for fold in folds)]
    lacking = [one for one in needed if one not in members.names]
    if lacking:
        raise missing(f"{source} lacks {', '.join(lacking)}", EXPECTED)
    return place


def _choose(folds: dict[str, set[str]], source: Path) -> tuple[str, tuple[str, ...]]:
    """One checkpoint that folds have; numbered folds before ``all``, as v1 does."""
    numbered = {fold: names for fold, names in folds.items() if fold != "all"} or folds
    for checkpoint in PREFERRED_CHECKPOINTS:
        chosen = tuple(sorted(fold for fold, names in numbered.items() if checkpoint in names))
        if chosen:
            return checkpoint, chosen
    there = ", ".join(sorted(set().union(*numbered.values())))
    raise BadDataError(f"{source} has no {' or '.join(PREFERRED_CHECKPOINTS)}; it has {there}", EXPECTED)


def _task(folder: str, source: Path) -> str | None:
    """``Task101_hcp1200_T1w`` from the folders inside, the folder named, or HippUnfold's name of the tar."""
    parts = [*reversed(PurePosixPath(folder).parts), *reversed(source.absolute().parts if source.is_dir() else ())]
    tasks = [part for part in parts if re.fullmatch(r"Task\d+_\w+", part)]
    within = re.search(r"(?<!\w)Task\d+_\w+", source.name)
    return tasks[0] if tasks else within[0] if within else None


def _read_pickles(members: Members, place: _Place) -> tuple[Json, Json, tuple[str, ...]]:
    """The trainer's facts and the plans that v1 predicts with, and what is odd about them."""
    beside = _read_dict(members, place.file(PLANS))
    infos = [_read_dict(members, place.file(fold, f"{place.checkpoint}.model.pkl")) for fold in place.folds]
    origin = f"{place.file(place.folds[0], place.checkpoint)}.model.pkl in {members.origin}"
    plans = infos[0].get("plans")
    if not isinstance(plans, dict):
        raise BadDataError(f"{origin} holds no plans", HINT)
    essence = [_essence(one, origin) for one in (plans, beside, *(cast(Json, info.get("plans")) for info in infos))]
    if any(one != essence[0] for one in essence[2:]):
        raise BadDataError(f"the folds of {place.folder or members.origin} have different plans", HINT)
    notes: tuple[str, ...] = ()
    if essence[1] != essence[0]:
        notes = (f"{PLANS} differs from the plans in {place.checkpoint}.model.pkl; taken are the latter, as v1 does.",)
    return infos[0], plans, notes


def _essence(plans: object, origin: str) -> Json:
    """What two plans of the same network have in common."""
    known = plans if isinstance(plans, dict) else {}
    keys = ("plans_per_stage", "normalization_schemes", "use_mask_for_norm", "transpose_forward", "base_num_features")
    return {key: _value(known, key, origin) for key in keys}


def _read_dict(members: Members, name: str) -> Json:
    origin = f"{name} in {members.origin}"
    found = read_pickle(members.read(name, MAX_PICKLE_BYTES), origin)
    if not isinstance(found, dict):
        raise BadDataError(f"{origin} holds no dict; it is not of nnU-Net v1", HINT)
    return found


def _value(found: Mapping[Any, Any], key: Any, origin: str) -> Any:
    """A plain value."""
    if key not in found:
        raise BadDataError(f"{origin} lacks {key}; it is not of nnU-Net v1, or of an early one", HINT)
    try:
        return plain(found[key])
    except (ValueError, TypeError) as error:
        raise BadDataError(f"{origin}: {key} cannot be used: {error}", HINT) from error


def _whole(found: Mapping[Any, Any], key: str, origin: str, most: int) -> int:
    value = _value(found, key, origin)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise BadDataError(f"{origin}: {key} is {ascii(value)[:80]}, not a whole number from 1 to {most}", HINT)
    return value


def _names(
    plans: Json, task: str | None, labels: Mapping[int, str] | None, channels: Sequence[str] | None, origin: str
) -> _Named:
    count, images = _whole(plans, "num_classes", origin, 255), _whole(plans, "num_modalities", origin, 16)
    values = list(range(1, count + 1))
    if _value(plans, "all_classes", origin) != values:
        raise BadDataError(f"{origin}: all_classes are not 1 to {count}: regions are not converted", HINT)
    ours = task is not None and HIPPUNFOLD_TASKS.fullmatch(task) is not None
    if labels is not None:
        if sorted(labels) != values or len(set(labels.values()) | {"background"}) != count + 1:
            raise UsageError(
                f"the model has the labels 1 to {count}, and the names given are for "
                f"{', '.join(map(str, sorted(labels)))}",
                "Name every label once; background is 0 and needs no name.",
            )
        named, names_from = [labels[value] for value in values], "as given"
    elif ours and count == len(HIPPUNFOLD_LABELS):
        named, names_from = list(HIPPUNFOLD_LABELS), f"HippUnfold's tissues, from the name {task}"
    else:
        named, names_from = [f"label-{value}" for value in values], "numbers, for v1 keeps no names"
    by_task = HIPPUNFOLD_CHANNELS.get(str(task).rpartition("_")[2], ()) if ours else ()
    if channels is not None:
        if len(channels) != images:
            raise UsageError(f"the model takes {images} images, and {len(channels)} names are given")
        taken, channels_from = tuple(channels), "as given"
    elif len(by_task) == images:
        taken, channels_from = by_task, f"HippUnfold's, from the name {task}"
    else:
        modalities = _value(plans, "modalities", origin)
        taken = tuple(str(modalities.get(number)) for number in range(images)) if isinstance(modalities, dict) else ()
        channels_from = "v1's modalities"
    return _Named(dict(zip(values, named, strict=True)), names_from, taken, channels_from)


def _convert(members: Members, place: _Place, info: Json, v1: Json, named: _Named, origin: str) -> _Converted:
    trainer = printable(str(_value(info, "name", origin))[:80])
    if OTHER_NETWORKS.search(trainer):
        raise BadDataError(f"{origin} is of {trainer}, whose network is not the one of nnUNetTrainerV2", HINT)
    cases = v1.get("list_of_npz_files")
    dataset = check_dataset(
        {
            "channel_names": {str(number): channel for number, channel in enumerate(named.channels)},
            "labels": {"background": 0, **{label: value for value, label in named.labels.items()}},
            "numTraining": len(cases) if isinstance(cases, list) else 0,
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "SimpleITKIO",
        },
        origin,
    )
    images = len(named.channels)
    plans = check_plans(_plans(v1, _stage(v1, info, origin), images, origin), NNUNET_CONFIGURATION, images, origin)
    shapes = expected_shapes(plans, NNUNET_CONFIGURATION, dataset, origin)
    folds, sha256 = _read_folds(members, place, lambda weights, where: _to_v2(weights, shapes, where))
    return _Converted(plans, dataset, trainer, folds, sha256, _differences(plans, trainer))


def _read_folds(
    members: Members, place: _Place, to_v2: Callable[[Weights, str], Weights]
) -> tuple[tuple[Weights, ...], dict[str, str]]:
    wanted = {place.file(fold, f"{place.checkpoint}.model"): fold for fold in place.folds}
    folds: dict[str, Weights] = {}
    sha256: dict[str, str] = {}
    for member in [member for member in members.names if member in wanted]:  # the order in which a tar is best read
        origin = f"{member} in {members.origin}"
        content = members.read(member, MAX_MEMBER_BYTES)
        checkpoint = read_v1_checkpoint(content, origin, members.origin / member)
        folds[wanted[member]] = to_v2(checkpoint["state_dict"], origin)
        sha256[f"{wanted[member]}/{place.checkpoint}.model"] = hashlib.sha256(content).hexdigest()
    return tuple(folds[fold] for fold in place.folds), dict(sorted(sha256.items()))


def _stage(plans: Json, info: Json, origin: str) -> Json:
    """The plans of the resolution that the trainer was started for; the finest where it does not say."""
    stages = plans.get("plans_per_stage")
    if not isinstance(stages, dict) or not stages or not all(type(number) is int for number in stages):
        raise BadDataError(f"{origin}: plans_per_stage does not list stages", HINT)
    arguments = info.get("init")
    asked = arguments[5] if isinstance(arguments, (list, tuple)) and len(arguments) > 5 else None
    stage = stages[asked if type(asked) is int and asked in stages else max(stages)]
    if not isinstance(stage, dict):
        raise BadDataError(f"{origin}: plans_per_stage does not hold plans", HINT)
    return stage


def _plans(v1: Json, stage: Json, images: int, origin: str) -> Json:
    """v2's plans; `check_plans` looks at the values."""
    schemes, masks = (_value(v1, key, origin) for key in ("normalization_schemes", "use_mask_for_norm"))
    if not isinstance(schemes, dict) or not isinstance(masks, dict):
        raise BadDataError(f"{origin}: normalization_schemes or use_mask_for_norm is not per image", HINT)
    unknown = [schemes.get(number) for number in range(images) if schemes.get(number) not in NORMALIZATIONS]
    if unknown:
        raise BadDataError(f"{origin}: images are normalised by {ascii(unknown[0])[:40]}, not as MRI is", HINT)
    resampling: Json = {}
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        resampling[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        resampling[f"resampling_fn_{what}_kwargs"] = {
            "is_seg": what == "seg", "order": order, "order_z": 0, "force_separate_z": None
        }  # fmt: skip
    fullres = {
        "data_identifier": f"nnUNetPlans_{NNUNET_CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": _value(stage, "batch_size", origin),
        "patch_size": _value(stage, "patch_size", origin),
        "spacing": _value(stage, "current_spacing", origin),
        "normalization_schemes": [NORMALIZATIONS[schemes[number]] for number in range(images)],
        "use_mask_for_norm": [masks.get(number) for number in range(images)],
        "batch_dice": False,
        **resampling,
        "architecture": _architecture(v1, stage, origin),
    }
    return {
        "dataset_name": "Dataset001_v1",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": _value(v1, "transpose_forward", origin),
        "transpose_backward": _value(v1, "transpose_backward", origin),
        "label_manager": "LabelManager",
        "experiment_planner_used": "ExperimentPlanner",
        "foreground_intensity_properties_per_channel": {
            str(number): dict.fromkeys(INTENSITIES, 0.0) for number in range(images)  # of use for CT alone
        },
        "configurations": {NNUNET_CONFIGURATION: fullres},
    }  # fmt: skip


def _architecture(v1: Json, stage: Json, origin: str) -> Json:
    if len(_value(stage, "patch_size", origin)) != len(KERNEL):
        raise BadDataError(f"{origin} is of a 2D network; give the model of {NNUNET_CONFIGURATION}", HINT)
    pools, kernels = (_value(stage, key, origin) for key in ("pool_op_kernel_sizes", "conv_kernel_sizes"))
    if not isinstance(pools, list) or not isinstance(kernels, list) or len(kernels) != len(pools) + 1:
        raise BadDataError(f"{origin}: pool_op_kernel_sizes and conv_kernel_sizes do not fit each other", HINT)
    other = [kernel for kernel in kernels if kernel != KERNEL]
    if other:
        raise BadDataError(
            f"{origin} has kernels of {ascii(other[0])[:40]}: v1 and v2 give such kernels to different stages of the "
            "decoder, so only kernels of [3, 3, 3] throughout can be converted",
            HINT,
        )
    base = _whole(v1, "base_num_features", origin, WIDEST_FEATURES)
    convolutions = _whole(v1, "conv_per_stage", origin, 16) if "conv_per_stage" in v1 else 2
    if convolutions < 2:
        raise BadDataError(f"{origin} has one convolution per stage; v1's network has two in its decoder", HINT)
    stages = len(kernels)
    return {
        "network_class_name": f"{UNETS}.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(base * 2**number, WIDEST_FEATURES) for number in range(stages)],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": kernels,
            "strides": [[1, 1, 1], *pools],
            "n_conv_per_stage": [convolutions] * stages,
            "n_conv_per_stage_decoder": [convolutions] * (stages - 1),
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


def _to_v2(weights: Weights, shapes: Mapping[str, tuple[int, ...]], origin: str) -> Weights:
    """The weights under v2's names, with zeros for the biases that v1 does not have."""
    import torch

    old: dict[str, Any] = {str(name).removeprefix("module."): tensor for name, tensor in weights.items()}
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


def _differences(plans: Json, trainer: str) -> tuple[str, ...]:
    fullres = plans["configurations"][NNUNET_CONFIGURATION]
    spacing = " x ".join(f"{edge:g}" for edge in fullres["spacing"])
    differences = [
        f"v1 resamples, then normalises; v2 the reverse. Images of {spacing} mm (the network's axes) are the same to "
        "both; in others intensities differ by up to 0.009 standard deviations.",
    ]
    if trainer != "nnUNetTrainerV2":
        differences.append(f"Trained by {trainer}; its network is taken to be that of nnUNetTrainerV2.")
    return tuple(differences)


def _mirroring_note(axes: tuple[int, ...] | None) -> str:
    if axes is None:
        return "Trained without mirroring."
    return (
        "Trained with mirroring along all axes: plain nnU-Net averages over mirrored images unless it is given "
        "--disable_tta, as HippUnfold did."
    )


def _dataset_word(task: str | None) -> str:
    word = re.sub(r"[^A-Za-z0-9]", "", re.sub(r"^Task\d+_", "", task or ""))
    return word or "convertedV1"


def _write(
    model: _Converted, destination: Path, name: str, axes: tuple[int, ...] | None, place: _Place
) -> tuple[str, str]:
    """Write the zip beside its place, load it as anybody would, and only then give it its name."""
    from bidsapp.exchange.export import build_model_folder, exported_dataset_name, zip_model

    facts = {
        "converted_from": {"nnunet": "v1", "task": place.task, "trainer": model.trainer, "sha256": model.sha256},
        "differences": list(model.differences),
    }
    with explain_write_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".convert-", dir=destination.parent) as temporary:
            folder = build_model_folder(
                Path(temporary) / "model",
                name=name,
                weights=model.folds[0],
                plans=model.plans,
                dataset_json=model.dataset,
                facts=facts,
                more_folds=model.folds[1:],
                mirroring_axes=axes,
            )
            packed = Path(temporary) / "model.zip"
            zip_model(folder, packed)
            loaded = load_model(packed)
            packed.replace(destination)
            return exported_dataset_name(folder), loaded.digest
