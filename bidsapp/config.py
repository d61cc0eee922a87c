"""config.ini: every choice that shapes a training, with its unit and its source, and how to change it.

The dataclasses below are the one list of settings. From them come the file that a model's folder carries,
its comments, the parser with line numbers in its errors, and the presets. What is effective in a run is

    defaults < preset (first run) < config.ini < --preset, --iterations, --set of that run
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bidsapp.errors import BadDataError, UsageError
from bidsapp.files import write_text
from bidsapp.ini import read_ini
from bidsapp.records import SPACING_LIMITS_MM

Range = tuple[float, float]
Triple = tuple[float, float, float]
Overrides = Mapping[str, str]

_FINEST_MM, _COARSEST_MM = SPACING_LIMITS_MM
_VOXEL_SIZES = f"three voxel sizes in mm (x y z), from {_FINEST_MM:g} to {_COARSEST_MM:g}"


class _BadValueError(ValueError):
    """What is wrong with one value, in words."""


_THOUSANDS = r"(?<![0-9,])[0-9]{1,3}(,[0-9]{3})+(?![0-9,])"


def about_commas(text: str) -> str:
    """What to add to a refusal of a number that may have been written as in German or French."""
    return "; decimals have a point, and blanks stand between numbers" if "," in text else ""


def _may_be_decimal_commas(text: str, count: int | None) -> bool:
    """``0,7 1,5``, or ``0,5`` where two numbers are wanted: nobody can tell one comma from the other."""
    between_digits = re.findall(r"(?<=[0-9]),(?=[0-9])", text)
    alone = len(between_digits) == 1 and count == 2
    return bool(between_digits) and "." not in text and (alone or re.search(r"\s", text.strip()) is not None)


def _integer(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(re.sub(_THOUSANDS, lambda match: match[0].replace(",", ""), text))
        except ValueError:
            raise _BadValueError(f"a whole number{about_commas(text)}") from None
        if value < minimum or (maximum is not None and value > maximum):
            raise _BadValueError(
                f"a whole number of at least {minimum}" + (f" and at most {maximum}" if maximum else "")
            )
        return value

    return parse


def _number(minimum: float, maximum: float = float("inf")) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not minimum <= value <= maximum:
            raise _BadValueError(f"a number from {minimum:g} to {maximum:g}{about_commas(text)}")
        return value

    return parse


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise _BadValueError("one of " + ", ".join(allowed))
        return text

    return parse


def _numbers(
    count: int | None, minimum: float, what: str, *, maximum: float = sys.float_info.max
) -> Callable[[str], tuple[float, ...]]:
    def parse(text: str) -> tuple[float, ...]:
        if _may_be_decimal_commas(text, count):
            raise _BadValueError(f"{what}{about_commas(text)}")
        try:
            values = tuple(float(part) for part in re.split(r"[,\s]+", text.strip()) if part)
        except ValueError:
            values = ()
        wrong_count = not values if count is None else len(values) != count
        if wrong_count or not all(minimum <= value <= maximum for value in values):
            raise _BadValueError(what)
        return values

    return parse


def _range(minimum: float, maximum: float = float("inf")) -> Callable[[str], Range]:
    parse_two = _numbers(2, minimum, f"two numbers of at least {minimum:g}, the lower one first")

    def parse(text: str) -> Range:
        low, high = parse_two(text)
        if low > high:
            raise _BadValueError("two numbers, the lower one first")
        if high > maximum:
            raise _BadValueError(f"two numbers from {minimum:g} to {maximum:g}, the lower one first")
        return low, high

    return parse


def _whole_numbers(count: int | None, what: str) -> Callable[[str], tuple[int, ...]]:
    parse_numbers = _numbers(count, 1, what)

    def parse(text: str) -> tuple[int, ...]:
        values = parse_numbers(text)
        if any(value != int(value) for value in values):
            raise _BadValueError(what)
        return tuple(int(value) for value in values)

    return parse


def _names(text: str) -> tuple[str, ...]:
    names = tuple(re.split(r"[,\s]+", text))
    if not all(re.fullmatch(r"[A-Za-z0-9-]+", name) for name in names):
        raise _BadValueError("names of letters, digits and -, separated by blanks")
    return names


def _or_auto(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse_or_auto(text: str) -> Any:
        if text == "auto":
            return None
        try:
            return parse(text)
        except _BadValueError as problem:
            raise _BadValueError(f"auto, or {problem}") from None

    return parse_or_auto


def _setting(default: Any, parse: Callable[[str], Any], comment: str) -> Any:
    return field(default=default, metadata={"parse": parse, "comment": comment})


_probability = _number(0, 1)


@dataclass(frozen=True)
class TrainingSettings:
    """How long, on what grid, with which network."""

    iterations: int = _setting(
        100_000,
        _integer(0),
        "Iterations (batches) of one training segment. 100,000 as in the NiftyNet recipe of\n"
        "Hippocampal_AutoTop. The same command again trains a further segment of this length.",
    )
    seed: int = _setting(
        42,
        _integer(0, 2**31 - 1),
        "Seed of the initial weights, of the split and of every batch: batch i depends on (seed, i) alone.",
    )
    channels: tuple[str, ...] | None = _setting(
        None,
        _or_auto(_names),
        "Names of the image channels in order, e.g. T1w, or T1w T2w. auto: MRI, or MRI-0 MRI-1 ...",
    )
    batch_size: int | None = _setting(
        None,
        _or_auto(_integer(1, 64)),
        "Patches in a batch. auto: what nnU-Net plans for 8 GB of GPU memory.",
    )
    patch_size: tuple[int, ...] | None = _setting(
        None,
        _or_auto(_whole_numbers(3, "three whole numbers (x y z)")),
        "Patch in voxels, x y z of the image. auto: nnU-Net's plan (about 112 x 224 x 96 for CorObl crops).\n"
        "Rounded up to what the network's poolings divide.",
    )
    spacing_mm: tuple[float, ...] | None = _setting(
        None,
        _or_auto(_numbers(3, _FINEST_MM, _VOXEL_SIZES, maximum=_COARSEST_MM)),
        "Voxel size in mm, x y z, to which images are resampled. auto: nnU-Net's plan (the median of the data).",
    )
    min_spacing_mm: float = _setting(
        0.0,
        _number(0, _COARSEST_MM),
        "No axis is sampled finer than this, in mm; 0: no limit. The tiny preset trains 0.3 mm crops at 0.9 mm.",
    )
    features: tuple[int, ...] | None = _setting(
        None,
        _or_auto(_whole_numbers(None, "feature counts per stage, e.g. 16 32 64 128")),
        "Features per stage of the U-Net, from full resolution to the bottleneck. auto: nnU-Net's plan\n"
        "(32 doubling to 320). Their number is the number of stages.",
    )
    validation_interval: int = _setting(250, _integer(1), "Iterations between two validations. 250 is nnU-Net's epoch.")
    validation_batches: int = _setting(
        50,
        _integer(1, 10_000),
        "Batches of one validation, the same ones every time. 50 as in nnU-Net.",
    )
    checkpoint_interval: int = _setting(
        250,
        _integer(1),
        "Iterations between two checkpoints: what a killed run loses at most. nnU-Net saves every 12,500.",
    )
    predicted_weight: float = _setting(
        0.1,
        _number(0, 10),
        "How often a side is drawn whose label was approved as predicted, relative to one whose label was corrected,\n"
        "drawn or imported. 1: as often. 0: never, such sides do not train. 48 such people and 12 corrected ones of\n"
        "MSD Task04, tiny preset, 150 iterations, one seed, Dice of 40 others with 0, 0.1, 0.25, 0.5 and 1: from the\n"
        "model that predicted .804, .815, .794, .784, .783. From scratch with 0, 0.1, 0.25 and 1: .775, .802, .795,\n"
        ".784. benchmarks/predicted_weight.py measures the same on simulated people.",
    )
    least_changed: float = _setting(
        0.01,
        _number(0, 1),
        "Least part of its voxels in which a correction differs from the prediction (changed voxels over the union of\n"
        "both, summed over labels). Below, the label is still the model's own drawing and counts as approved as\n"
        "predicted. 0: one voxel is a correction. With 0.01 the two still have a Dice of .995.",
    )
    precision: str = _setting(
        "auto",
        _choice("auto", "fp32", "bf16", "fp16"),
        "Arithmetic of the training. auto: fp16 with loss scaling on a GPU (nnU-Net's choice), bf16 on a CPU\n"
        "that has it (half the time per step, measured), else fp32.",
    )


@dataclass(frozen=True)
class OptimizerSettings:
    """How weights are stepped, and how the step shrinks over a segment."""

    name: str = _setting("sgd", _choice("sgd", "adam", "adamw"), "sgd (Nesterov; nnU-Net's choice), adam or adamw.")
    learning_rate: float = _setting(
        1e-2, _number(1e-8, 10), "Peak learning rate of the first segment. 1e-2 is nnU-Net's with sgd."
    )
    momentum: float = _setting(0.99, _number(0, 0.9999), "Momentum of sgd. nnU-Net: 0.99.")
    weight_decay: float = _setting(3e-5, _number(0, 1), "L2 penalty (adamw: decoupled). nnU-Net: 3e-5.")
    decay_exponent: float = _setting(
        0.9,
        _number(0, 5),
        "Within a segment the rate falls to 0 as (1 - progress) ** exponent; 0 keeps it constant. nnU-Net: 0.9.",
    )
    warmup_iterations: int = _setting(
        0, _integer(0), "Iterations over which the first segment's rate rises from 0 to its peak."
    )
    next_peak: float = _setting(
        0.2,
        _number(0.001, 1),
        "Peak of every later segment, as a fraction of learning_rate: a trained network is not thrown off.",
    )
    next_warmup: float = _setting(
        0.05, _number(0, 1), "Part of a later segment over which its rate rises from 0 to its peak."
    )


@dataclass(frozen=True)
class FineTuningSettings:
    """How a training goes on from another model (``--model``). Not read where a training starts from scratch."""

    peak: float = _setting(
        0.2,
        _number(0.001, 1),
        "Peak learning rate of the first segment, as a fraction of optimizer.learning_rate. 0.2 with adamw at 5e-3:\n"
        "Dice .820 after 20 iterations on 20 people, from scratch .704 (measured on MSD Task04, see README).",
    )
    warmup: float = _setting(
        0.05,
        _number(0, 1),
        "Part of the first segment over which its rate rises from 0 to its peak (Goyal et al. 2017): a fresh\n"
        "optimizer does not throw off trained weights.",
    )
    new_head_factor: float = _setting(
        20.0,
        _number(1, 100),
        "Factor on the learning rate of the segmentation heads where a label is new to the source. Heads that begin\n"
        "anew: Dice .817 after 40 iterations with 20, .649 with 1 (measured on MSD Task04).",
    )
    new_channels: str = _setting(
        "zero",
        _choice("zero", "average", "inflate"),
        "How the first layer begins with a channel that the source does not know. zero: it contributes nothing at\n"
        "first, and the network answers as the source. average: as the mean of the known ones. inflate: the same,\n"
        "rescaled (Carreira and Zisserman 2017). Where no channel is known, zero means average.",
    )
    rehearsal_fraction: float = _setting(
        0.25,
        _number(0, 0.9),
        "Part of all training patches that come from the earlier pairs of --rehearse, where that is given. What it\n"
        "keeps is measured in the README (benchmarks/grow.py).",
    )
    freeze: str = _setting(
        "none",
        _choice("none", "encoder", "all-but-head"),
        "What keeps the source's weights. none: everything learns, as in nnU-Net. encoder, all-but-head: for very\n"
        "few people; trained features are not distorted (Kumar et al., ICLR 2022), but the gain is smaller.",
    )


@dataclass(frozen=True)
class LossSettings:
    """What is minimised."""

    name: str = _setting(
        "dice_ce",
        _choice("dice_ce", "dice"),
        "dice_ce: soft Dice plus cross-entropy, nnU-Net's loss. dice: soft Dice alone, as in the NiftyNet recipe.",
    )


@dataclass(frozen=True)
class SplitSettings:
    """Which share of the people is held out. Read when a person enters the split, which never changes after."""

    validation_fraction: float = _setting(0.2, _number(0, 0.8), "Part of the people that the training is watched on.")
    test_fraction: float = _setting(
        0.2, _number(0, 0.8), "Part of the people that are scored at the end and used for nothing else."
    )


@dataclass(frozen=True)
class ExportSettings:
    """What the shared model looks like."""

    precision: str = _setting(
        "half",
        _choice("half", "full"),
        "half: weights are rounded to 16 bits once, before the test, so what is scored is what is shared.",
    )


@dataclass(frozen=True)
class AugmentationSettings:
    """What every training patch may go through. Defaults are nnU-Net's, with elastic and bias field added.

    Mirroring is not in the list: the hippocampus has a handedness, and mirroring cost 20 points of Dice.
    """

    rotation_probability: float = _setting(0.2, _probability, "Rotation about all three axes.")
    rotation_degrees: Range = _setting((-30.0, 30.0), _range(-180), "Angle per axis in degrees.")
    scaling_probability: float = _setting(0.2, _probability, "Zoom, the same along all axes.")
    scaling_factor: Range = _setting((0.7, 1.4), _range(0.1), "Larger than 1 makes the anatomy smaller.")
    elastic_probability: float = _setting(
        0.2, _probability, "Smooth random displacement. Not in nnU-Net; the NiftyNet recipe used 0.75."
    )
    elastic_smoothness: Range = _setting(
        (0.1, 0.25),
        _range(0.01),
        "Gaussian smoothing of the displacement, as a fraction of the patch's edge.",
    )
    elastic_magnitude_mm: Range = _setting((0.0, 3.0), _range(0), "Largest displacement in mm.")
    noise_probability: float = _setting(0.1, _probability, "Gaussian noise.")
    noise_variance: Range = _setting((0.0, 0.1), _range(0), "Variance in units of the normalised image (SD 1).")
    blur_probability: float = _setting(0.2, _probability, "Gaussian blur, of each channel with half a chance.")
    blur_sigma_voxels: Range = _setting((0.5, 1.0), _range(0), "Sigma in voxels.")
    brightness_probability: float = _setting(0.15, _probability, "Multiplication of all intensities.")
    brightness_factor: Range = _setting((0.75, 1.25), _range(0.01), "Factor.")
    contrast_probability: float = _setting(0.15, _probability, "Contrast about the mean, range kept.")
    contrast_factor: Range = _setting((0.75, 1.25), _range(0.01), "Factor.")
    low_resolution_probability: float = _setting(
        0.25, _probability, "Down- and upsampling, of each channel with half a chance: a coarser scan."
    )
    low_resolution_zoom: Range = _setting((0.5, 1.0), _range(0.05), "Zoom of the downsampling.")
    gamma_probability: float = _setting(0.3, _probability, "Gamma curve, mean and SD kept.")
    inverted_gamma_probability: float = _setting(0.1, _probability, "Gamma curve of the inverted image.")
    gamma: Range = _setting((0.7, 1.5), _range(0.01), "Exponent.")
    bias_field_probability: float = _setting(
        0.2, _probability, "Smooth multiplicative shading, as coils make it. Not in nnU-Net."
    )
    bias_field_strength: Range = _setting(
        (0.0, 0.5),
        _range(0),
        "Coefficients of the order-3 polynomial in the exponent are drawn within +- this.",
    )
    field_of_view_probability: float = _setting(
        0.0,
        _probability,
        "Cut off a side of the patch, as where a scan ends: what lies beyond is dark, or noise, and unlabelled.\n"
        "Not in nnU-Net. Our built-in model uses it: it learns from crops that are smaller than CorObl crops.",
    )
    field_of_view_cut: Range = _setting((0.0, 0.3), _range(0, 0.9), "Part of the patch's edge that is cut off.")


@dataclass(frozen=True)
class Settings:
    """Every setting of one run."""

    training: TrainingSettings = field(default_factory=TrainingSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    finetuning: FineTuningSettings = field(default_factory=FineTuningSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)


PRESETS: Mapping[str, Overrides] = {
    "default": {},
    "tiny": {
        "training.batch_size": "2",
        "training.patch_size": "40 56 40",
        "training.min_spacing_mm": "0.9",
        "training.features": "8 16 32 64",
        "training.validation_interval": "50",
        "training.validation_batches": "8",
        "training.checkpoint_interval": "50",
        "optimizer.name": "adamw",
        "optimizer.learning_rate": "5e-3",
    },
    "niftynet": {
        "training.validation_interval": "100",
        "training.checkpoint_interval": "1000",
        "training.patch_size": "64 64 64",
        "optimizer.name": "adam",
        "optimizer.learning_rate": "1e-3",
        "loss.name": "dice",
        "augmentation.rotation_probability": "1",
        "augmentation.rotation_degrees": "-10 10",
        "augmentation.scaling_probability": "0",
        "augmentation.elastic_probability": "0.75",
        "augmentation.noise_probability": "0",
        "augmentation.blur_probability": "0",
        "augmentation.brightness_probability": "0",
        "augmentation.contrast_probability": "0",
        "augmentation.low_resolution_probability": "0",
        "augmentation.gamma_probability": "0",
        "augmentation.inverted_gamma_probability": "0",
        "augmentation.bias_field_probability": "1",
    },
}
"""`tiny` is measured on two CPU cores (README); `niftynet` follows the old recipe of Hippocampal_AutoTop."""

# What fixes the network, the grid or the people's places: continuing a model under another value is dishonest.
FIXED_BY_THE_MODEL = (
    "training.seed",
    "training.channels",
    "training.batch_size",
    "training.patch_size",
    "training.spacing_mm",
    "training.min_spacing_mm",
    "training.features",
)

# What a model that a training starts from decides, unless the user does.
DECIDED_BY_THE_SOURCE = (
    "training.batch_size",
    "training.patch_size",
    "training.spacing_mm",
    "training.min_spacing_mm",
    "training.features",
)


def setting_names() -> list[str]:
    """`section.key` of every setting, in the order of config.ini."""
    return [
        f"{section.name}.{setting.name}" for section in fields(Settings) for setting in fields(_section_class(section))
    ]


def format_value(value: Any) -> str:
    """The text of a value in config.ini; reading it back gives the same value."""
    if value is None:
        return "auto"
    if isinstance(value, tuple):
        return " ".join(format_value(part) for part in value)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def as_overrides(settings: Settings) -> dict[str, str]:
    """Every setting as `section.key` -> text."""
    return {
        name: format_value(getattr(getattr(settings, name.partition(".")[0]), name.partition(".")[2]))
        for name in setting_names()
    }


def apply_overrides(settings: Settings, overrides: Overrides, *, source: str) -> Settings:
    """`settings` with the named ones replaced.

    Raises
    ------
    UsageError
        An unknown name or a value out of range; the message starts with `source`.
    """
    for name, text in overrides.items():
        settings = _replace(settings, name, text, where=source)
    return settings


def preset_settings(preset: str, *, from_model: bool = False) -> Settings:
    """The settings of a preset: default, tiny or niftynet.

    Parameters
    ----------
    from_model
        Leave to the model that is started from what is its to decide: the network and its grid.
    """
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset} does not exist", f"Choose one of {', '.join(PRESETS)}.")
    chosen = {
        name: text for name, text in PRESETS[preset].items() if not from_model or name not in DECIDED_BY_THE_SOURCE
    }
    return apply_overrides(Settings(), chosen, source=f"preset {preset}")


def preset_overrides(preset: str, *, from_model: bool = False) -> dict[str, str]:
    """Everything that any preset decides, as this one does: what it leaves alone has its default."""
    wanted = as_overrides(preset_settings(preset, from_model=from_model))
    return {name: wanted[name] for overrides in PRESETS.values() for name in overrides}


def parse_assignments(assignments: list[str]) -> dict[str, str]:
    """`["loss.name=dice"]` -> `{"loss.name": "dice"}`, as `--set` gives them.

    A colon does as well: some platforms (CBRAIN) let no equals sign through.
    """
    overrides = {}
    for assignment in assignments:
        name, separator, text = re.sub(r"^([^=:]*):", r"\1=", assignment).partition("=")
        if not separator:
            raise UsageError(f"--set {assignment}: no '=' in it", "Write --set section.key=value.")
        overrides[name.strip()] = text.strip()
    return overrides


def write_config(path: Path, settings: Settings) -> None:
    """Write config.ini with a comment above every setting."""
    write_text(path, _CONFIG_HEAD + "\n" + render_config(settings))


def render_config(settings: Settings) -> str:
    """The sections of config.ini, each setting below its comment."""
    lines: list[str] = []
    for section in fields(Settings):
        values = getattr(settings, section.name)
        lines.append(f"[{section.name}]")
        for setting in fields(values):
            lines += [f"# {line}" for line in setting.metadata["comment"].splitlines()]
            lines += [f"{setting.name} = {format_value(getattr(values, setting.name))}", ""]
    return "\n".join(lines)


def read_config(path: Path) -> Settings:
    """Read an edited config.ini; what it leaves out has its default.

    Raises
    ------
    NoInputError
        When there is no such file, or it may not be read.
    BadDataError
        No ini file, no setting in it, an unknown section or key, or a value that does not fit; names file and line.
    """
    settings = Settings()
    for section, key, value, line in read_ini(path):
        try:
            settings = _replace(settings, f"{section}.{key}", value, where=f"{path}, line {line}")
        except UsageError as error:
            raise BadDataError(error.message, error.hint) from None
    return settings


def differing(one: Settings, other: Settings) -> dict[str, tuple[str, str]]:
    """The settings that differ: name -> (text in `one`, text in `other`)."""
    first, second = as_overrides(one), as_overrides(other)
    return {name: (first[name], second[name]) for name in first if first[name] != second[name]}


def _replace(settings: Settings, name: str, text: str, *, where: str) -> Settings:
    section_name, _, key = name.partition(".")
    if name not in setting_names():
        raise UsageError(f"{where}: there is no setting '{name}'{_closest(name)}", "config.ini lists every setting.")
    section = getattr(settings, section_name)
    parse = next(setting.metadata["parse"] for setting in fields(section) if setting.name == key)
    try:
        value = parse(text.strip())
    except _BadValueError as problem:
        raise UsageError(f"{where}: {name} = {text!r} does not fit", f"It takes {problem}.") from None
    return dataclasses.replace(settings, **{section_name: dataclasses.replace(section, **{key: value})})


def _closest(name: str) -> str:
    import difflib

    matches = difflib.get_close_matches(name, setting_names(), n=1)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def _section_class(section: dataclasses.Field[Any]) -> type:
    return type(getattr(Settings(), section.name))


_CONFIG_HEAD = """\
# HippoTune: every choice that shapes the training of this model.
#
# Written once, with the settings of the first run. Edit it and give the same command again: the next training
# segment uses the new values. What fixes the network, the grid or the split cannot change in a trained model;
# train a new one for that (--model-dir). A single run can override a setting: --set section.key=value.
"""
