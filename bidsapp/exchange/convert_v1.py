"""A model of nnU-Net v1 -> an export of nnU-Net v2 that answers the same, without executing anything of it.

`v1_files` finds and reads it, `v1_network` has the same network in v2's words. HippUnfold's adult models are v1.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bidsapp.errors import BadDataError, UsageError
from bidsapp.exchange.export import build_model_folder, exported_dataset_name, zip_model
from bidsapp.exchange.loading import load_model
from bidsapp.exchange.plans import Json, check_dataset, check_plans
from bidsapp.exchange.v1_files import V1Files, open_v1
from bidsapp.exchange.v1_network import HINT, V1Plans, to_v2_plans, to_v2_weights
from bidsapp.exchange.weights import Weights, expected_shapes
from bidsapp.files import explain_write_errors
from bidsapp.nnunet_names import NNUNET_CONFIGURATION

OTHER_NETWORKS = re.compile(r"relu|gelu|mish|frn|_bn|_gn|nonormalization|resenc|cascade", re.IGNORECASE)
"""Trainers of v1 whose network is not the one of nnUNetTrainerV2."""
WITHOUT_MIRRORING = re.compile(r"nomirroring|noda", re.IGNORECASE)
HIPPUNFOLD_TASKS = re.compile(r"Task(?:10[123]|110)_hcp1200_\w+|Task301_dhcp_T1w\w*")
HIPPUNFOLD_LABELS = ("GM", "SRLM", "MTLC", "Pial", "HATA", "IndGris", "Cyst", "DG")
HIPPUNFOLD_CHANNELS = {"T1w": ("T1w",), "T2w": ("T2w",), "T1T2w": ("T1w", "T2w")}


@dataclass(frozen=True)
class ConversionReport:
    """What became of a v1 model."""

    destination: Path
    """The zip that was written."""
    dataset: str
    """``Dataset<NNN>_<name>`` inside."""
    task: str | None
    """As v1 called it; None where no path names one."""
    trainer: str
    checkpoint: str
    folds: tuple[str, ...]
    """v1's folds that became fold_0, fold_1, ... in this order."""
    left_out: tuple[str, ...]
    """Folds without that checkpoint."""
    labels: Mapping[int, str]
    """value -> name, without the background."""
    labels_from: str
    """Where the names come from; v1 keeps none."""
    channels: tuple[str, ...]
    channels_from: str
    mirroring_axes: tuple[int, ...] | None
    """Axes that v1 mirrored in training, and that plain nnU-Net mirrors in prediction unless told not to."""
    digest: str
    differences: tuple[str, ...]
    """Sentences: in what a prediction can differ from v1's."""

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


def convert_v1(
    source: Path,
    destination_zip: Path,
    *,
    name: str | None = None,
    labels: Mapping[int, str] | None = None,
    channels: Sequence[str] | None = None,
) -> ConversionReport:
    """Write an nnU-Net v1 model as an export of nnU-Net v2 that loads, replacing a file of that name.

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
    with open_v1(source) as files:
        trainer = _trainer(files)
        v1, notes = files.read_plans()
        label_names, labels_from = _label_names(v1, files.task, labels)
        channel_names, channels_from = _channel_names(v1, files.task, channels)
        dataset = _dataset(v1, label_names, channel_names, files.origin)
        plans, folds, sha256 = _to_v2(files, v1, dataset)
    axes = None if WITHOUT_MIRRORING.search(trainer) else (0, 1, 2)
    differences = _differences(plans, trainer)
    word = name or _dataset_word(files.task)
    facts = {"converted_from": _origin(files, trainer, sha256), "differences": differences}
    dataset_name, digest = _write(destination_zip, word, plans, dataset, folds, axes, facts)
    return ConversionReport(
        destination=destination_zip,
        dataset=dataset_name,
        task=files.task,
        trainer=trainer,
        checkpoint=files.checkpoint,
        folds=files.folds,
        left_out=files.left_out,
        labels=label_names,
        labels_from=labels_from,
        channels=channel_names,
        channels_from=channels_from,
        mirroring_axes=axes,
        digest=digest,
        differences=(*differences, *notes, _mirroring_note(axes)),
    )


def _trainer(files: V1Files) -> str:
    trainer = files.read_trainer()
    if OTHER_NETWORKS.search(trainer):
        raise BadDataError(f"{files.origin} is of {trainer}, whose network is not the one of nnUNetTrainerV2", HINT)
    return trainer


def _label_names(v1: V1Plans, task: str | None, given: Mapping[int, str] | None) -> tuple[dict[int, str], str]:
    """value -> name, and where the names come from."""
    values = range(1, v1.num_classes + 1)
    if given is not None:
        if sorted(given) != list(values) or len({*given.values(), "background"}) != v1.num_classes + 1:
            raise UsageError(
                f"the model has the labels 1 to {v1.num_classes}, and the names given are for "
                f"{', '.join(map(str, sorted(given)))}",
                "Name every label once; background is 0 and needs no name.",
            )
        return {value: given[value] for value in values}, "as given"
    if _is_hippunfolds(task) and v1.num_classes == len(HIPPUNFOLD_LABELS):
        return dict(zip(values, HIPPUNFOLD_LABELS, strict=True)), f"HippUnfold's tissues, from the name {task}"
    return {value: f"label-{value}" for value in values}, "numbers, for v1 keeps no names"


def _channel_names(v1: V1Plans, task: str | None, given: Sequence[str] | None) -> tuple[tuple[str, ...], str]:
    """Names in order, and where they come from."""
    images = v1.num_modalities
    by_task = HIPPUNFOLD_CHANNELS.get(str(task).rpartition("_")[2], ()) if _is_hippunfolds(task) else ()
    if given is not None:
        if len(given) != images:
            raise UsageError(f"the model takes {images} images, and {len(given)} names are given")
        return tuple(given), "as given"
    if len(by_task) == images:
        return by_task, f"HippUnfold's, from the name {task}"
    return tuple(str(v1.modalities.get(number)) for number in range(images)), "v1's modalities"


def _is_hippunfolds(task: str | None) -> bool:
    return task is not None and HIPPUNFOLD_TASKS.fullmatch(task) is not None


def _dataset(v1: V1Plans, labels: Mapping[int, str], channels: Sequence[str], origin: str) -> Json:
    found = {
        "channel_names": {str(number): channel for number, channel in enumerate(channels)},
        "labels": {"background": 0, **{label: value for value, label in labels.items()}},
        "numTraining": v1.cases,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    return check_dataset(found, origin)


def _to_v2(files: V1Files, v1: V1Plans, dataset: Json) -> tuple[Json, list[Weights], dict[str, str]]:
    """Checked plans and the weights of each fold in v2's words, and the sha256 of each file that they come from."""
    v2 = to_v2_plans(v1, files.choose_stage(v1), files.origin)
    plans = check_plans(v2, NNUNET_CONFIGURATION, len(dataset["channel_names"]), files.origin)
    shapes = expected_shapes(plans, NNUNET_CONFIGURATION, dataset, files.origin)
    folds: dict[str, Weights] = {}
    sha256: dict[str, str] = {}
    for fold, content, weights, origin in files.read_weights():
        folds[fold] = to_v2_weights(weights, shapes, origin)
        sha256[f"{fold}/{files.checkpoint}.model"] = hashlib.sha256(content).hexdigest()
    return plans, [folds[fold] for fold in files.folds], dict(sorted(sha256.items()))


def _origin(files: V1Files, trainer: str, sha256: dict[str, str]) -> Json:
    return {"nnunet": "v1", "task": files.task, "trainer": trainer, "sha256": sha256}


def _differences(plans: Json, trainer: str) -> list[str]:
    spacing = " x ".join(f"{edge:g}" for edge in plans["configurations"][NNUNET_CONFIGURATION]["spacing"])
    differences = [
        f"v1 resamples, then normalises; v2 the reverse. Images of {spacing} mm (the network's axes) are the same to "
        "both; in others intensities differ by up to 0.009 standard deviations.",
    ]
    if trainer != "nnUNetTrainerV2":
        differences.append(f"Trained by {trainer}; its network is taken to be that of nnUNetTrainerV2.")
    return differences


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
    destination: Path,
    name: str,
    plans: Json,
    dataset: Json,
    folds: Sequence[Weights],
    axes: tuple[int, ...] | None,
    facts: Json,
) -> tuple[str, str]:
    """Write the zip under a temporary name, load it as users will, and only then give it its own name.

    Returns
    -------
    tuple of str
        Its ``Dataset<NNN>_<name>``, and its digest.
    """
    with explain_write_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".convert-", dir=destination.parent) as temporary:
            folder = build_model_folder(
                Path(temporary) / "model",
                name=name,
                weights=folds[0],
                plans=plans,
                dataset_json=dataset,
                facts=facts,
                more_folds=folds[1:],
                mirroring_axes=axes,
            )
            packed = Path(temporary) / "model.zip"
            zip_model(folder, packed)
            digest = load_model(packed).digest
            packed.replace(destination)
            return exported_dataset_name(folder), digest
