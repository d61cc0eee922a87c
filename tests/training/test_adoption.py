"""What is taken over from another model, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bidsapp.config import TrainingSettings, preset_settings
from bidsapp.errors import UsageError
from bidsapp.exchange.loading import LoadedModel, load_model
from bidsapp.exchange.transfer import TRANSFER_COLUMNS
from bidsapp.layout import ModelLayout
from bidsapp.records import LabelTable
from bidsapp.training.adoption import (
    adopt_plans,
    channel_names,
    match_parent,
    refuse_other_network,
    write_start_weights,
)
from bidsapp.tsv import read_tsv
from tests.tiny_model import Export, tiny_plans

TABLE = LabelTable({1: "Anterior", 7: "Tail"})


def model(*channels: str) -> LoadedModel:
    """A source with the labels Anterior 1 and Posterior 2, 0.5 x 0.3 x 1 mm (x, y, z), y in front."""
    plans = tiny_plans()
    plans |= {"transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2]}
    configuration = plans["configurations"].pop("3d_fullres")
    configuration |= {"spacing": [0.3, 1.0, 0.5], "normalization_schemes": ["ZScoreNormalization"] * len(channels),
                      "use_mask_for_norm": [False] * len(channels)}  # fmt: skip
    plans["configurations"] = {"3d_lowres": configuration}
    intensities = plans["foreground_intensity_properties_per_channel"]["0"]
    plans["foreground_intensity_properties_per_channel"] = {
        str(number): intensities | {"mean": float(number)} for number in range(len(channels))
    }
    dataset = {"channel_names": dict(enumerate(channels)), "labels": {"background": 0, "Anterior": 1, "Posterior": 2}}
    return LoadedModel(
        plans, dataset, (), None, "theirs", "ab" * 32, Path("theirs.zip"), "SimpleITKIO", channels, "3d_lowres"
    )


def test_plans_are_taken_over_under_our_names_with_our_channels(tmp_path: Path) -> None:
    parent = match_parent(model("T1w", "T2w"), TABLE, ("T2w", "FLAIR"), {"Posterior": "Tail"})
    assert parent.matching.channels == {"T2w": 1, "FLAIR": None}
    assert parent.values == {}, "without T1w the parent cannot be run on these images"
    layout = ModelLayout(tmp_path)
    adopt_plans(layout, parent, TrainingSettings(patch_size=(20, 17, 30), batch_size=3))
    plans = json.loads(layout.plans.read_text())
    assert list(plans["configurations"]) == ["3d_fullres"]
    adopted = plans["configurations"]["3d_fullres"]
    # x y z 20 17 30 -> z y x 30 17 20 -> y in front 17 30 20; its one pooling halves every axis
    assert adopted["patch_size"] == [18, 30, 20]
    assert (adopted["batch_size"], adopted["spacing"]) == (3, [0.3, 1.0, 0.5])
    means = {key: value["mean"] for key, value in plans["foreground_intensity_properties_per_channel"].items()}
    assert means == {"0": 1.0, "1": 0.0}


def test_values_of_the_source_are_those_of_the_network_by_name() -> None:
    parent = match_parent(model("T1w"), TABLE, ("T1w",), {"Posterior": "Tail"})
    assert parent.values == {1: 1, 2: 2}
    merged = match_parent(model("T1w"), LabelTable({3: "Hippocampus"}), ("T1w",),
                          {"Anterior": "Hippocampus", "Posterior": "Hippocampus"})  # fmt: skip
    assert merged.values == {1: 1, 2: 1}
    swapped = match_parent(model("T2w", "T1w"), TABLE, ("T1w", "T2w"), {})
    assert swapped.channels == (1, 0)
    assert swapped.values == {1: 1}


def test_channels_without_names_go_by_their_order() -> None:
    named = match_parent(model("MRI"), TABLE, ("T1w",), {})
    assert named.matching.channels == {"T1w": 0}
    assert channel_names(model("T1w"), ("MRI",)) == ("T1w",)
    assert channel_names(model("T1w"), ("T2w",)) == ("T2w",)
    alone = match_parent(model("T1w"), TABLE, ("T2w",), {})
    assert alone.matching.channels == {"T2w": 0}
    assert (alone.values, alone.channels) == ({1: 1}, (0,))


def test_a_map_to_a_label_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="--label-map: Posterior -> Head, and the labels here are Anterior, Tail"):
        match_parent(model("T1w"), TABLE, ("T1w",), {"Posterior": "Head"})


def test_another_grid_is_refused_in_the_users_axes() -> None:
    refuse_other_network(model("T1w"), TrainingSettings(spacing_mm=(0.5, 0.3, 1.0)))
    with pytest.raises(UsageError, match=r"training\.spacing_mm +1 1 1 +0\.5 0\.3 1"):
        refuse_other_network(model("T1w"), TrainingSettings(spacing_mm=(1.0, 1.0, 1.0)))


def test_a_training_begins_with_the_start_weights_and_says_where_they_came_from(export: Export, tmp_path: Path) -> None:
    layout = ModelLayout(tmp_path / "model")
    source = match_parent(load_model(export().folder), TABLE, ("T1w",), {})
    write_start_weights(layout, source, preset_settings("tiny"))
    rows = {row.cells["tensor"]: row.cells for row in read_tsv(layout.transfer, TRANSFER_COLUMNS)}
    assert rows.keys() == source.model.weights[0].keys()
    head = rows["decoder.seg_layers.0.weight"]
    assert (head["shape"], head["outcome"]) == ("3x8x1x1x1", "remapped")
    assert "Anterior: from Anterior; Tail: new" in head["source"]
    assert rows["encoder.stages.1.0.convs.0.conv.weight"]["outcome"] == "kept"
    assert layout.checkpoint.is_file()
