"""Begin a training from another model, the parent: take its plans and weights, and keep a copy to compare with.

Weights are of use only with the plans that they were trained with: spacing and normalisation decide what the first
layer sees, strides and features decide the shapes. So the parent's plans are taken whole, and nnU-Net plans nothing.
Only the first layer (one slice per channel) and the heads (one slice per label) depend on the data set. Their slices
are matched by name, because order and number may differ. A label or channel that the parent lacks gets new weights. The
start weights are written as the checkpoint of iteration 0, so a training that is killed at once resumes like any other.
"""

from __future__ import annotations

import copy
import logging
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bidsapp.config import Settings, TrainingSettings, format_value
from bidsapp.errors import UsageError
from bidsapp.exchange.export import build_model_folder, round_weights, zip_model
from bidsapp.exchange.loading import LoadedModel
from bidsapp.exchange.transfer import (
    TRANSFER_COLUMNS,
    Matching,
    count_outcomes,
    match_channels,
    match_labels,
    transfer_weights,
)
from bidsapp.files import write_json
from bidsapp.layout import DATASET, ModelLayout
from bidsapp.nnunet_names import NNUNET_CONFIGURATION, NNUNET_PLANS
from bidsapp.pairs.channels import default_channel_names
from bidsapp.records import LabelTable
from bidsapp.training.checkpoints import save_checkpoint
from bidsapp.tsv import write_tsv

log = logging.getLogger(__name__)

SPACING_TOLERANCE_MM = 1e-3


@dataclass(frozen=True)
class MatchedParent:
    """The parent of a training, and how its labels and channels match those to train."""

    model: LoadedModel
    matching: Matching

    @property
    def values(self) -> dict[int, int]:
        """Value of the parent -> value of the new network; empty where the images lack a channel of the parent."""
        if self.matching.dropped_channels:
            return {}
        numbered = enumerate(self.matching.labels.values())
        return {theirs: ours for ours, all_theirs in numbered for theirs in all_theirs if ours}

    @property
    def channels(self) -> tuple[int, ...]:
        """Which of the new network's images the parent takes, by number and in the parent's order."""
        positions = list(self.matching.channels.values())
        return tuple(positions.index(position) for position in range(len(self.model.channels)) if position in positions)


def match_parent(
    model: LoadedModel, table: LabelTable, channels: Sequence[str], renames: Mapping[str, str | None]
) -> MatchedParent:
    """Match labels and channels of a parent with those to train.

    Parameters
    ----------
    table, channels
        Of the pairs.
    renames
        Name of a label in the model -> name in `table`, None for background.

    Raises
    ------
    UsageError
        When `renames` gives a label of the model a name that `table` lacks.
    """
    names = tuple(table.names.values())
    wrong = [f"{old} -> {new}" for old, new in renames.items()
             if old in model.labels.values() and new is not None and new not in names]  # fmt: skip
    if wrong:
        raise UsageError(
            f"--label-map: {', '.join(wrong)}, and the labels here are {', '.join(names)}",
            "Give the model's labels names that the pairs have.",
        )
    labels, dropped_labels = match_labels(model.labels, names, renames)
    unnamed = len(model.channels) == len(channels) and model.channels == default_channel_names(len(channels))
    if unnamed and tuple(channels) != model.channels:
        log.info("the parent names no channels, so they are taken in order: %s", ", ".join(channels))
    # with one channel on both sides the parent's filters are better than new ones, whatever the channels are called
    alone = len(model.channels) == len(channels) == 1
    found, dropped_channels = match_channels(channels if unnamed or alone else model.channels, channels)
    matching = Matching(labels, dropped_labels, found, dropped_channels, model.labels, model.channels)
    if not any(values for name, values in labels.items() if name != "background"):
        log.warning(
            "no label of %s (%s) is one of yours (%s): the heads begin with new weights; --label-map FILE tells "
            "which labels are the same",
            model.source, ", ".join(model.labels.values()), ", ".join(names),
        )  # fmt: skip
    others = alone and not unnamed and model.channels[0].casefold() != channels[0].casefold()
    if others or all(position is None for position in found.values()):
        log.warning(
            "%s was trained on %s and these images are %s: the first layer still begins with the parent's weights",
            model.source, ", ".join(model.channels), ", ".join(channels),
        )  # fmt: skip
    return MatchedParent(model, matching)


def channel_names(model: LoadedModel, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the channels: where the pairs name none, the parent's names in the parent's order."""
    unnamed = default_channel_names(len(names))
    if len(model.channels) == len(names) and names == unnamed and model.channels != unnamed:
        log.info("the channels are named as the parent names them, in its order: %s", ", ".join(model.channels))
        return model.channels
    return names


def adopt_plans(layout: ModelLayout, parent: MatchedParent, settings: TrainingSettings) -> None:
    """Write the parent's plans as this model's: spacing, patch, network, normalisation, resampling.

    Entries per channel are put into the order of this model's channels. A channel that the parent lacks is
    normalised as the parent's first channel.
    """
    model = parent.model
    plans = copy.deepcopy(model.plans)
    configuration = plans["configurations"][model.configuration]
    positions = list(parent.matching.channels.values())
    taken = [position or 0 for position in positions]
    for key in ("normalization_schemes", "use_mask_for_norm"):
        configuration[key] = [configuration[key][position] for position in taken]
    intensities = plans["foreground_intensity_properties_per_channel"]
    plans["foreground_intensity_properties_per_channel"] = {
        str(channel): intensities[str(position)] for channel, position in enumerate(taken)
    }
    configuration["batch_size"] = settings.batch_size or configuration["batch_size"]
    if settings.patch_size:
        configuration["patch_size"] = _divisible_patch(configuration, plans["transpose_forward"], settings.patch_size)
    configuration["data_identifier"] = f"{NNUNET_PLANS}_{NNUNET_CONFIGURATION}"
    plans |= {
        "dataset_name": DATASET,
        "plans_name": NNUNET_PLANS,
        "configurations": {NNUNET_CONFIGURATION: configuration},
    }
    write_json(layout.plans, plans)


def write_start_weights(layout: ModelLayout, parent: MatchedParent, settings: Settings) -> None:
    """Write the start weights as the checkpoint of iteration 0, and write to transfer.tsv where each weight comes from.

    There is no state of an optimizer in it: exports hold none, and the first segment begins with a fresh one.
    """
    model, matching = parent.model, parent.matching
    if len(model.weights) > 1:
        log.warning("%s has %d folds; the training goes on from the first", model.source, len(model.weights))
    weights, rows = transfer_weights(
        model.weights[0],
        model.plans,
        model.configuration,
        matching,
        new_channels=settings.finetuning.new_channels,  # type: ignore[arg-type]
    )
    write_tsv(layout.transfer, TRANSFER_COLUMNS, rows)
    for line in matching.label_lines():
        log.info("label %s", line)
    for line in matching.channel_lines():
        log.info("channel %s", line)
    log.info("%s: %s", count_outcomes(rows), layout.transfer)
    save_checkpoint(
        layout,
        {
            "iteration": 0,
            "loss_sum": 0.0,
            "loss_count": 0,
            "history": [],
            "network_weights": weights,
            "optimizer": "",
            "optimizer_state": {},
            "grad_scaler_state": None,
        },
    )


def keep_parent(layout: ModelLayout, model: LoadedModel) -> None:
    """Pack the parent into MODEL_DIR, so that models can be compared even when the parent's file is gone by then.

    It is packed at full precision and with all folds: it is the measure, and must answer as the original does.
    """
    configuration = model.plans["configurations"][model.configuration]
    plans = model.plans | {"configurations": {NNUNET_CONFIGURATION: configuration}}
    dataset_json = {"numTraining": 0, "overwrite_image_reader_writer": model.reader} | model.dataset_json
    weights = [round_weights(fold, half=False) for fold in model.weights]
    staging = layout.parent_model.with_suffix("")
    folder = build_model_folder(
        staging,
        name=re.sub(r"[^A-Za-z0-9]", "", model.name) or "parent",
        weights=weights[0],
        more_folds=weights[1:],
        plans=plans,
        dataset_json=dataset_json,
        facts=dict(model.facts),
        mirroring_axes=model.mirroring_axes,
    )
    zip_model(folder, layout.parent_model)
    shutil.rmtree(staging)


def refuse_other_network(model: LoadedModel, settings: TrainingSettings) -> None:
    """Raise `UsageError` with a table of differences when `settings` ask for another network or grid."""
    configuration = model.plans["configurations"][model.configuration]
    spacing_zyx = [configuration["spacing"][axis] for axis in model.plans["transpose_backward"]]
    spacing_mm = tuple(float(edge) for edge in spacing_zyx[::-1])
    features = tuple(configuration["architecture"]["arch_kwargs"]["features_per_stage"])
    rows = []
    if settings.features is not None and tuple(settings.features) != features:
        rows.append(("training.features", format_value(tuple(settings.features)), format_value(features)))
    if settings.spacing_mm is not None and not np.allclose(settings.spacing_mm, spacing_mm, atol=SPACING_TOLERANCE_MM):
        rows.append(("training.spacing_mm", format_value(tuple(settings.spacing_mm)), format_value(spacing_mm)))
    if min(spacing_mm) < settings.min_spacing_mm - SPACING_TOLERANCE_MM:
        rows.append(("training.min_spacing_mm", f"{settings.min_spacing_mm:g}", f"spacing {format_value(spacing_mm)}"))
    if rows:
        table = [("setting", "asked", "parent"), *rows]
        widths = [max(len(row[column]) for row in table) for column in (0, 1)]
        lines = [f"  {name:<{widths[0]}}  {asked:<{widths[1]}}  {has}" for name, asked, has in table]
        raise UsageError(
            f"{model.source} has another network than the settings ask for:\n" + "\n".join(lines),
            "Leave them to the parent (auto; 0 for min_spacing_mm) in config.ini and --set, or train from scratch.",
        )


def _divisible_patch(
    configuration: Mapping[str, Any], transpose_forward: Sequence[int], patch_size: Sequence[int]
) -> list[int]:
    """`patch_size` (x, y, z) in the network's order, rounded up to what its poolings divide."""
    zyx = patch_size[::-1]
    strides = configuration["architecture"]["arch_kwargs"]["strides"]
    divisors = [math.prod(stride[axis] for stride in strides) for axis in range(3)]
    return [math.ceil(zyx[axis] / divisor) * divisor for axis, divisor in zip(transpose_forward, divisors, strict=True)]
