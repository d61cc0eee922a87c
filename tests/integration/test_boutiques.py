"""Boutiques really launches both levels on real data: exit codes pass through, outputs are found by their templates."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.test_boutiques import BOSH
from tools.make_boutiques import PLACES

COLIN27 = ROOT / "demo" / "data" / "colin27"
CASES = 6


def launch(what: str, folder: Path, **invocation: Any) -> subprocess.CompletedProcess[str]:
    """`bosh exec launch` of a descriptor whose command is the run.py beside this test."""
    descriptor = json.loads(PLACES[what].read_text(encoding="utf-8"))
    here = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'run.py'))} [BIDS_DIR]"
    assert descriptor["command-line"].count("hippotune [BIDS_DIR]") == 1
    descriptor["command-line"] = descriptor["command-line"].replace("hippotune [BIDS_DIR]", here)
    (folder / "descriptor.json").write_text(json.dumps(descriptor))
    (folder / "invocation.json").write_text(json.dumps(invocation))
    return subprocess.run(
        [str(BOSH), "exec", "launch", "--no-container", "--skip-data-collection", "descriptor.json", "invocation.json"],
        cwd=folder,
        env=os.environ | {"HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_boutiques_launches_participant_with_an_exported_model_on_a_real_head(tmp_path: Path) -> None:
    done = launch(
        "participant",
        tmp_path,
        bids_dir=str(COLIN27),
        output_dir_name="out",
        participant_label=["colin27"],
        model_file=str(ROOT / "bidsapp" / "models" / "default.zip"),
        no_bias_correction=True,
        hemi=["R"],
        device="cpu",
        nprocs=1,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BIDS validation: no errors" in done.stdout
    assert list((tmp_path / "out").glob("sub-colin27/anat/*_hemi-R_space-corobl_desc-nnunet_dseg.nii.gz"))
    assert "out (output_dir, Required)" in done.stdout


def test_an_exit_code_and_its_meaning_pass_through(tmp_path: Path) -> None:
    words = {"bids_dir": str(COLIN27), "output_dir_name": "out", "analysis_level": "participant"}
    done = launch("both", tmp_path, **words, participant_label=["99"], model="none", skip_bids_validation=True)
    assert done.returncode == 18
    assert "there is no sub-99" in done.stdout
    assert "There is: sub-colin27" in done.stdout
    assert "nothing in it passes the filters" in done.stdout


def test_boutiques_launches_a_training_on_real_pairs(shared_data: Path, tmp_path: Path) -> None:
    source, pairs = shared_data / "msd_hippocampus", tmp_path / "pairs"
    pairs.mkdir()
    for image in sorted((source / "imagesTr").glob("*.nii.gz"))[:CASES]:
        case = image.name.removesuffix(".nii.gz")
        shutil.copy(image, pairs / f"{case}_img.nii.gz")
        shutil.copy(source / "labelsTr" / image.name, pairs / f"{case}_lbl.nii.gz")
    done = launch(
        "group",
        tmp_path,
        bids_dir=str(COLIN27),
        output_dir_name="out",
        training_dir="pairs",
        preset="tiny",
        iterations=4,
        set=["training.validation_batches:1", "training.features:4,8,16"],
        device="cpu",
        nprocs=1,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "models" / "default" / "export" / "current.zip").exists()
    assert "out/models/default/export/current.zip (trained_model," in done.stdout
