"""Small real trainings that several tests look at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bidsapp.layout import ModelLayout
from demo.simulate import simulate_people
from tests.conftest import Finished, run_py, run_py_alone

PEOPLE, SEED, ITERATIONS = 8, 7, 60
EVERY = 25
SMALL = (
    *("--set", "training.features=4 4 8 96", "--set", "training.validation_batches=1"),
    *("--set", f"training.validation_interval={EVERY}", "--set", f"training.checkpoint_interval={EVERY}"),
)
"""What a new model is trained with where the network is not the subject: few features where there are many
voxels. Its checkpoints are as large as those of the tiny preset."""


@dataclass(frozen=True)
class Trained:
    """A finished run and where it left its model."""

    pairs: Path
    layout: ModelLayout
    run: Finished


def train(
    pairs: Path,
    model_dir: Path,
    *options: object,
    iterations: int = ITERATIONS,
    run_py: Callable[..., Finished] = run_py,
) -> Trained:
    """Train the tiny network on `pairs`; a model that was begun goes on as its config.ini says."""
    layout = ModelLayout(model_dir)
    preset = () if layout.config.exists() else ("--preset", "tiny")
    run = run_py(
        *(pairs, model_dir.parent / "out", "group", "--training-dir", pairs, "--model-dir", model_dir),
        *(*preset, "--iterations", iterations, *options),
    )
    return Trained(pairs, layout, run)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people, two sides each, at 1 mm; made from the CIT168 atlas."""
    folder = tmp_path_factory.mktemp("pairs")
    simulate_people(folder, PEOPLE, SEED, spacing_mm=1.0)
    return folder


@pytest.fixture(scope="session")
def trained(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The main job, once from end to end, in a process of its own."""
    done = train(pairs, tmp_path_factory.mktemp("model") / "small", *SMALL, run_py=run_py_alone)
    assert done.run.code == 0, done.run.output
    return done


@dataclass(frozen=True)
class PlainModel:
    """What untouched nnU-Net trained, exported and predicted.

    Attributes
    ----------
    results
        ``Dataset042_Plain/nnUNetTrainer__nnUNetPlans__3d_fullres``.
    archive
        Of nnUNetv2_export_model_to_zip.
    images, predictions
        ``<case>_0000.nii.gz`` that it never saw, and ``<case>.nii.gz`` of nnUNetv2_predict --disable_tta.
    """

    results: Path
    archive: Path
    images: Path
    predictions: Path


@pytest.fixture(scope="session")
def plain_nnunet(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> PlainModel:
    """A model of nnU-Net's own planner and trainer, on a coarser grid and in another network than ours."""
    home = tmp_path_factory.mktemp("plain_nnunet")
    folders = {name: home / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    dataset = "Dataset042_Plain"
    raw = folders["nnUNet_raw"] / dataset
    images, labels, unseen = raw / "imagesTr", raw / "labelsTr", home / "unseen"
    for folder in (images, labels, unseen, *folders.values()):
        folder.mkdir(parents=True, exist_ok=True)
    cases = sorted(path.name.removesuffix("_img.nii.gz") for path in pairs.glob("*_img.nii.gz"))
    taught, left = cases[:6], cases[-2:]
    for case in (*taught, *left):
        shutil.copy(pairs / f"{case}_img.nii.gz", (images if case in taught else unseen) / f"{case}_0000.nii.gz")
    for case in taught:
        shutil.copy(pairs / f"{case}_lbl.nii.gz", labels / f"{case}.nii.gz")
    description = {
        "channel_names": {"0": "T1w"},
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
        "numTraining": len(taught),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    model = PlainModel(
        folders["nnUNet_results"] / dataset / "nnUNetTrainer__nnUNetPlans__3d_fullres",
        home / "plain.zip",
        unseen,
        home / "predictions",
    )
    script = Path(__file__).parent / "plain_nnunet.py"
    places = {name: str(folder) for name, folder in folders.items()}
    done = subprocess.run(
        [sys.executable, script, "42", model.images, model.predictions, model.archive],
        env=os.environ | places | {"nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return model
