"""`group --model X`: labels and channels of another model go on by name; what it answers at first is the source's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bidsapp.evaluation.scores import read_scores
from bidsapp.exchange.loading import load_model
from bidsapp.layout import ModelLayout
from bidsapp.tsv import read_tsv
from tests.integration.conftest import Trained, train

ONE_BATCH = ("--set", "training.validation_batches=1")
Change = Callable[[np.ndarray], np.ndarray]


def rewrite_labels(source: Path, folder: Path, names: str, change: Change) -> Path:
    """A copy of a training folder with other labels."""
    shutil.copytree(source, folder)
    (folder / "labels.tsv").write_text(f"index\tname\n{names}")
    for path in folder.glob("*_lbl.nii.gz"):
        label = nib.load(path)
        nib.save(nib.Nifti1Image(change(np.asarray(label.dataobj)).astype(np.uint8), label.affine), path)
    return folder


def label_map(path: Path, *rows: tuple[str, str]) -> Path:
    path.write_text("from_name\tto_name\n" + "".join(f"{old}\t{new}\n" for old, new in rows))
    return path


def voxels(layout: ModelLayout) -> dict[str, np.ndarray]:
    """Predicted label maps of the test cases."""
    return {path.name: np.asarray(nib.load(path).dataobj) for path in layout.test.glob("*_dseg.nii.gz")}


def assert_same_answers(one: ModelLayout, other: ModelLayout) -> None:
    ours, theirs = voxels(one), voxels(other)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 1
    for name, label in ours.items():
        np.testing.assert_array_equal(label, theirs[name])


def outcomes(layout: ModelLayout) -> set[str]:
    return {row.cells["outcome"] for row in read_tsv(layout.transfer, ("outcome",))}


def scored_labels(layout: ModelLayout) -> set[str]:
    return {score.label for score in read_scores(layout.scores)}


def head_of(weights: dict[str, torch.Tensor], value: int) -> torch.Tensor:
    """What a network weighs for one label in its last layer."""
    (name,) = (one for one in weights if one.startswith("decoder.seg_layers.") and one.endswith("2.weight"))
    return weights[name][value].float()


def test_without_a_step_the_answers_are_the_sources_voxel_for_voxel(trained: Trained, tmp_path: Path) -> None:
    done = train(trained.pairs, tmp_path / "model", "--model", trained.layout.root, iterations=0)
    assert done.run.code == 0, done.run.output
    assert_same_answers(done.layout, trained.layout)
    assert outcomes(done.layout) == {"kept"}
    plans, source = (json.loads(layout.plans.read_text()) for layout in (done.layout, trained.layout))
    assert plans["configurations"] == source["configurations"]
    state = json.loads(done.layout.state.read_text())
    assert state["parents"][0]["labels"] == ["Anterior", "Posterior"]
    assert len(state["base"]) == 64

    other = train(trained.pairs, tmp_path / "model", "--model", "scratch", iterations=1)
    assert other.run.code == 2, other.run.output
    assert "was begun with another model" in other.run.output
    again = train(trained.pairs, trained.layout.root, "--model", tmp_path / "model", iterations=1)
    assert again.run.code == 2, again.run.output
    assert "was begun from scratch" in again.run.output


def test_merged_labels_go_on_from_both(trained: Trained, tmp_path: Path) -> None:
    folder = rewrite_labels(trained.pairs, tmp_path / "pairs", "1\tHippocampus\n", lambda label: label > 0)
    names = label_map(tmp_path / "map.tsv", ("Anterior", "Hippocampus"), ("Posterior", "Hippocampus"))
    options = ("--model", trained.layout.current_export, "--label-map", names, *ONE_BATCH)
    done = train(folder, tmp_path / "model", *options, iterations=6)
    assert done.run.code == 0, done.run.output
    assert "Hippocampus: from Anterior and Posterior" in done.run.output
    assert "validation Dice of the parent, before training: Hippocampus" in done.run.output
    assert outcomes(done.layout) == {"kept", "remapped"}
    assert scored_labels(done.layout) == {"Hippocampus"}
    assert list(done.layout.tensorboard_source.glob("events*"))
    assert "what the training began with" in done.layout.report.read_text()

    gone = train(folder, tmp_path / "model", "--model", tmp_path / "moved-away.zip", *ONE_BATCH, iterations=2)
    assert gone.run.code == 0, "a model that was begun goes on whatever became of its source: " + gone.run.output


def test_a_label_that_half_of_the_people_lack_is_still_taught(trained: Trained, tmp_path: Path) -> None:
    """Tail is new to the source; three of five training people have it in their background."""
    lacking = ("sub-002", "sub-004", "sub-005")
    folder = rewrite_labels(trained.pairs, tmp_path / "pairs", "1\tAnterior\n2\tTail\n", lambda label: label)
    rows = []
    for path in folder.glob("*_lbl.nii.gz"):
        if path.name.startswith(lacking):
            label = nib.load(path)
            nib.save(nib.Nifti1Image(np.asarray(label.dataobj) * (np.asarray(label.dataobj) == 1), label.affine), path)
            rows.append(f"{path.name.removesuffix('_lbl.nii.gz')}\tAnterior\n")
    (folder / "annotated.tsv").write_text("id\tlabels\n" + "".join(rows))
    done = train(folder, tmp_path / "model", "--model", trained.layout.root, *ONE_BATCH, iterations=4)
    assert done.run.code == 0, done.run.output
    assert "Tail: new" in done.run.output
    state = json.loads(done.layout.state.read_text())
    partly = {known["participant"] for known in state["cases"].values() if known["annotated"] == ["Anterior"]}
    assert partly == set(lacking)
    assert {known["split"] for known in state["cases"].values() if known["annotated"]} == {"train"}
    assert scored_labels(done.layout) == {"Anterior", "Tail"}
    began = load_model(done.layout.parent_model).weights[0]
    taught = torch.load(done.layout.checkpoint, weights_only=True)["network_weights"]
    assert not torch.equal(head_of(taught, 2), head_of(began, 2))


def test_a_channel_that_the_source_lacks_leaves_its_answers_at_first(trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    shutil.copy(trained.pairs / "labels.tsv", folder)
    for path in trained.pairs.glob("*.nii.gz"):
        if path.name.endswith("_lbl.nii.gz"):
            shutil.copy(path, folder)
            continue
        image = nib.load(path)
        shutil.copy(path, folder / path.name.replace("_img", "_img_0001"))
        other = nib.Nifti1Image(100 - np.asarray(image.dataobj, dtype=np.float32), image.affine)
        nib.save(other, folder / path.name.replace("_img", "_img_0000"))
    options = ("--model", trained.layout.root, "--set", "training.channels=Other MRI")
    done = train(folder, tmp_path / "model", *options, iterations=0)
    assert done.run.code == 0, done.run.output
    assert "channel Other: new" in done.run.output
    assert "channel MRI: from MRI" in done.run.output
    assert_same_answers(done.layout, trained.layout)

    back = train(trained.pairs, tmp_path / "back", "--model", tmp_path / "model", "--set", "training.channels=MRI",
                 iterations=0)  # fmt: skip
    assert back.run.code == 0, back.run.output
    assert "channel Other: dropped" in back.run.output
    assert_same_answers(back.layout, trained.layout)


@pytest.mark.parametrize(
    ("setting", "row"),
    [
        ("training.features=16 32 64 128", "training.features  16 32 64 128  4 4 8 96"),
        ("training.spacing_mm=0.5 0.5 0.5", "training.spacing_mm  0.5 0.5 0.5  1 1 1"),
    ],
)
def test_another_network_is_refused_with_what_differs(trained: Trained, tmp_path: Path, setting: str, row: str) -> None:
    done = train(trained.pairs, tmp_path / "model", "--model", trained.layout.root, "--set", setting, iterations=1)
    assert done.run.code == 2, done.run.output
    assert row in done.run.output
    assert "Leave them to the parent" in done.run.output
    assert not done.layout.state.exists()


def test_frozen_weights_keep_their_values(trained: Trained, tmp_path: Path) -> None:
    options = ("--model", trained.layout.root, "--set", "finetuning.freeze=all-but-head", *ONE_BATCH)
    done = train(trained.pairs, tmp_path / "model", *options, iterations=2)
    assert done.run.code == 0, done.run.output
    before, after = (
        torch.load(layout.checkpoint, weights_only=True)["network_weights"] for layout in (trained.layout, done.layout)
    )
    changed = {name for name in before if not torch.equal(before[name].half().float(), after[name])}
    assert changed
    assert all(".seg_layers." in name for name in changed)
