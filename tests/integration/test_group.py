"""The main job on real nnU-Net: pairs in; trained, tested, exported model out."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bidsapp.evaluation.scores import read_scores
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.split import read_split
from bidsapp.models_cli import main as hippotune_models
from bidsapp.sharing.share import export_model
from demo.simulate import simulate_people
from tests.conftest import run_py
from tests.integration.conftest import ITERATIONS, SMALL, Trained, train

BIN = Path(sys.executable).parent


def names(folder: Path) -> set[str]:
    return {path.name.split("_0000")[0].split(".nii")[0] for path in folder.glob("*.nii.gz")}


def mean_dice(layout: ModelLayout) -> float:
    return float(np.mean([score.dice for score in read_scores(layout.scores)]))


def test_the_iterations_asked_for_are_the_iterations_done(trained: Trained) -> None:
    checkpoint = torch.load(trained.layout.checkpoint, weights_only=True)
    assert checkpoint["iteration"] == ITERATIONS
    steps = {int(state["step"]) for state in checkpoint["optimizer_state"]["state"].values()}
    assert steps == {ITERATIONS}
    segment = json.loads(trained.layout.state.read_text())["segments"][0]
    assert (segment["start"], segment["target"], segment["stage"]) == (0, ITERATIONS, "exported")


def test_test_people_are_in_nothing_that_nnunet_sees(trained: Trained) -> None:
    layout = trained.layout
    test_people = read_split(layout.split).people_in("test")
    test_cases = names(layout.raw_images("Ts"))
    assert test_cases
    assert {case.split("_")[0] for case in test_cases} == test_people
    seen = names(layout.raw_images("Tr")) | names(layout.raw_labels("Tr"))
    assert not seen & test_cases
    preprocessed = {path.name for path in layout.preprocessed_dataset.rglob("*")}
    assert not [name for name in preprocessed if any(person in name for person in test_people)]
    fingerprint = json.loads(layout.fingerprint.read_text())
    assert len(fingerprint["spacings"]) == len(names(layout.raw_images("Tr")))
    for file in (layout.splits_final, layout.raw_dataset / "dataset.json"):
        assert not [person for person in test_people if person in file.read_text()]


def test_both_sides_of_a_person_are_on_one_side_of_the_split(trained: Trained) -> None:
    state = json.loads(trained.layout.state.read_text())
    places: dict[str, set[str]] = {}
    for case, known in state["cases"].items():
        assert known["participant"] == case.split("_")[0]
        places.setdefault(known["participant"], set()).add(known["split"])
    assert len(places) == 8
    assert all(len(parts) == 1 for parts in places.values())


def test_labels_arrive_unblended(trained: Trained) -> None:
    for part in ("Tr", "Ts"):
        for path in trained.layout.raw_labels(part).glob("*.nii.gz"):
            written = np.asarray(nib.load(path).dataobj)
            given = np.asarray(nib.load(trained.pairs / f"{path.name[:-7]}_lbl.nii.gz").dataobj)
            assert written.dtype == np.uint8
            np.testing.assert_array_equal(written, given)


def test_scores_are_a_table_of_every_test_person_side_and_label(trained: Trained) -> None:
    with trained.layout.scores.open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert list(rows[0]) == [
        *("participant_id", "case", "hemi", "label", "dice", "hd95_mm"),
        *("assd_mm", "volume_error_mm3", "volume_error_percent", "label_from"),
    ]
    assert {row["label_from"] for row in rows} == {"imported"}
    cases = names(trained.layout.raw_images("Ts"))
    assert {(row["case"], row["label"]) for row in rows} == {
        (case, label) for case in cases for label in ("Anterior", "Posterior")
    }
    assert {row["hemi"] for row in rows} == {"L", "R"}
    assert {path.name[: -len("_dseg.nii.gz")] for path in trained.layout.test.glob("*_dseg.nii.gz")} == cases


def test_a_training_lowers_its_loss_and_its_output_says_where_to_look(trained: Trained) -> None:
    """The one test that asks whether anything is learned: chance has a loss of about 1, these steps leave a half."""
    history = torch.load(trained.layout.checkpoint, weights_only=True)["history"]
    assert history[-1]["training_loss"] < history[0]["training_loss"] < 1
    assert "test scores" in trained.run.output
    assert "tensorboard --logdir" in trained.run.output
    summary = json.loads(trained.layout.summary.read_text())
    assert summary["all_labels"]["dice"]["mean"] == pytest.approx(mean_dice(trained.layout), abs=1e-6)


def test_scores_are_measured_between_prediction_and_given_label(trained: Trained) -> None:
    """For any weights: what the table says is what the two files say."""
    scores = read_scores(trained.layout.scores)
    assert scores
    for score in scores:
        value = {"Anterior": 1, "Posterior": 2}[score.label]
        predicted, given = (
            np.asarray(nib.load(path).dataobj) == value
            for path in (trained.layout.test_prediction(score.case), trained.pairs / f"{score.case}_lbl.nii.gz")
        )
        both = 2 * np.count_nonzero(predicted & given)
        assert score.dice == pytest.approx(both / (predicted.sum() + given.sum()), abs=1e-6)


@pytest.fixture(scope="module", params=["current.zip", "published"])
def installed(
    trained: Trained, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, str]:
    """An untouched nnU-Net with our export installed, the one of a run or the one to publish, as its environment."""
    home = tmp_path_factory.mktemp("plain")
    archive = trained.layout.current_export
    if request.param == "published":
        archive = export_model(trained.layout.root, home / "ours.zip", licence="CC-BY-4.0")
    folders = {name: str(home / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for folder in folders.values():
        Path(folder).mkdir()
    environment = os.environ | folders
    command = [BIN / "nnUNetv2_install_pretrained_model_from_zip", archive]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return environment


def test_plain_nnunet_reproduces_our_label_maps_voxel_for_voxel(
    trained: Trained, installed: dict[str, str], tmp_path: Path
) -> None:
    (dataset,) = Path(installed["nnUNet_results"]).iterdir()
    number = re.fullmatch(r"Dataset(\d{3})_small", dataset.name)
    assert number
    assert 500 <= int(number[1]) <= 899
    subprocess.run(
        [
            *(BIN / "nnUNetv2_predict", "-i", trained.layout.raw_images("Ts"), "-o", tmp_path),
            *("-d", number[1], "-c", "3d_fullres", "-f", "0", "-device", "cpu", "-npp", "0", "-nps", "0"),
        ],
        env=installed,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    cases = names(trained.layout.raw_images("Ts"))
    for case in cases:
        theirs = nib.load(tmp_path / f"{case}.nii.gz")
        ours = nib.load(trained.layout.test_prediction(case))
        np.testing.assert_array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
        np.testing.assert_allclose(theirs.affine, ours.affine)


def test_the_export_gives_nothing_away(trained: Trained) -> None:
    with zipfile.ZipFile(trained.layout.current_export) as packed:
        entries = {name: packed.read(name) for name in packed.namelist()}
    assert len({name.split("/")[0] for name in entries}) == 1
    import io
    import socket

    (checkpoint_name,) = (name for name in entries if name.endswith(".pth"))
    checkpoint = torch.load(io.BytesIO(entries[checkpoint_name]), weights_only=True)
    assert set(checkpoint) == {
        "network_weights", "trainer_name", "init_args", "inference_allowed_mirroring_axes",
    }  # fmt: skip
    assert all(weight.dtype == torch.float16 for weight in checkpoint["network_weights"].values())
    secrets = [socket.gethostname(), str(trained.layout.root.parent), str(trained.pairs), "sub-0"]
    for name, content in entries.items():
        for secret in secrets:
            assert secret.encode() not in content, (name, secret)


def test_the_model_dir_tells_whom_it_knew(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    places = {row.participant_id: row.split for row in read_split(trained.layout.split).rows}
    images = {path.name.split("_")[0]: path for path in trained.pairs.glob("*_img.nii.gz")}
    asked = [*places, *map(str, images.values()), "sub-nobody"]
    assert hippotune_models(["contains", str(trained.layout.root), *asked]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *(f"{person}: contained, {part}" for person, part in places.items()),
        *(f"{path}: contained, {places[person]} of {person}" for person, path in images.items()),
        "sub-nobody: not contained",
    ]
    assert hippotune_models(["contains", str(trained.layout.current_export), *places]) == 66
    assert "could not be checked" in capsys.readouterr().out


def test_relative_paths_work_from_anywhere(pairs: Path, tmp_path: Path) -> None:
    shutil.copytree(pairs, tmp_path / "my pairs")
    run = run_py(
        *("my pairs", "out", "group", "--training-dir", "my pairs", "--preset", "tiny", "--iterations", "2", *SMALL),
        cwd=tmp_path,
    )
    assert run.code == 0, run.output
    assert ModelLayout(tmp_path / "out" / "models" / "default").current_export.exists()


def test_a_failed_training_is_not_evaluated(trained: Trained, tmp_path: Path) -> None:
    layout = ModelLayout(tmp_path / "model")
    shutil.copytree(trained.layout.root, layout.root)
    for folder in (layout.test, layout.export):
        shutil.rmtree(folder)
    state = json.loads(layout.state.read_text())
    unfinished = {"start": ITERATIONS, "target": ITERATIONS + 2, "stage": "training"}
    state["segments"].append(state["segments"][0] | unfinished)
    layout.state.write_text(json.dumps(state))
    shutil.rmtree(layout.preprocessed_cases)
    image = next(layout.raw_images("Tr").glob("*-R_0000.nii.gz"))
    whole = image.read_bytes()
    image.write_bytes(whole[:-100])
    done = train(trained.pairs, layout.root)
    assert done.run.code == 65, done.run.output
    assert image.name in done.run.output
    assert "log: " in done.run.output
    assert not layout.test.exists()
    assert not layout.export.exists()
    image.write_bytes(whole)
    assert train(trained.pairs, layout.root).run.code == 0
    assert layout.exported_model(ITERATIONS + 2).exists()


def test_a_dry_run_says_everything_and_writes_nothing(pairs: Path, tmp_path: Path) -> None:
    done = train(pairs, tmp_path / "model", "--dry-run")
    assert done.run.code == 0
    assert "nothing was written" in done.run.output
    assert not list(tmp_path.iterdir())


def test_bad_pairs_stop_everything_or_are_left_out_and_counted(pairs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    shutil.copytree(pairs, folder)
    (folder / "sub-003_hemi-R_lbl.nii.gz").write_text("version https://git-lfs.github.com/spec/v1\n")
    refused = train(folder, tmp_path / "refused", *SMALL, iterations=2)
    assert refused.run.code == 65
    assert "sub-003_hemi-R_lbl.nii.gz" in refused.run.output
    assert not refused.layout.nnunet_raw.exists()
    partial = train(folder, tmp_path / "partial", "--skip-bad-pairs", *SMALL, iterations=2)
    assert partial.run.code == 1
    assert "sub-003_hemi-R" in partial.run.output
    assert partial.layout.current_export.exists()


@pytest.fixture(scope="module")
def real_pairs(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Twenty real people of the Medical Segmentation Decathlon."""
    folder = tmp_path_factory.mktemp("msd")
    source = shared_data / "msd_hippocampus"
    for image in sorted((source / "imagesTr").glob("*.nii.gz"))[:20]:
        stem = image.name[:-7]
        shutil.copy(image, folder / f"{stem}_img.nii.gz")
        shutil.copy(source / "labelsTr" / image.name, folder / f"{stem}_lbl.nii.gz")
    (folder / "labels.tsv").write_text("index\tname\n1\tAnterior\n2\tPosterior\n")
    yield folder
    shutil.rmtree(folder)


def test_real_pairs_are_trained_on_and_scored(real_pairs: Path, tmp_path: Path) -> None:
    done = train(real_pairs, tmp_path / "model", *SMALL, iterations=2)
    assert done.run.code == 0, done.run.output
    tested = read_split(done.layout.split).people_in("test")
    assert {score.participant_id for score in read_scores(done.layout.scores)} == tested


def test_two_channels_labels_with_gaps_and_the_niftynet_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    simulate_people(folder, 3, 1, modalities=("T1w", "T2w"), spacing_mm=1.0)
    for path in folder.glob("*_lbl.nii.gz"):
        label = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(label.dataobj) * np.uint8(9), label.affine), path)
    (folder / "labels.tsv").write_text("index\tname\n9\tAnterior\n18\tPosterior\n")
    done = train(
        folder, tmp_path / "model",
        *("--preset", "niftynet", "--set", "training.channels=T1w T2w", "--set", "training.patch_size=32 32 32"),
        *("--set", "training.features=4 8 16", "--set", "training.validation_batches=1"),
        iterations=3,
    )  # fmt: skip
    assert done.run.code == 0, done.run.output
    dataset = json.loads((done.layout.raw_dataset / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "T1w", "1": "T2w"}
    assert dataset["labels"] == {"background": 0, "Anterior": 1, "Posterior": 2}
    assert len(list(done.layout.raw_images("Ts").glob("*_0001.nii.gz"))) == 2
    assert {score.label for score in read_scores(done.layout.scores)} == {"Anterior", "Posterior"}
    assert "<html" in done.layout.report.read_text()


def test_a_model_that_gives_a_person_away_is_kept_back(pairs: Path, tmp_path: Path) -> None:
    telling = train(pairs, tmp_path / "sub-003 net", *SMALL, iterations=2)
    assert telling.run.code == 1, telling.run.output
    assert "holds what must not leave" in telling.run.output
    assert "sub003" in telling.run.output
    (refused,) = telling.layout.export.glob("refused-*/*.zip")
    assert [path.name for path in telling.layout.export.iterdir()] == [refused.parent.name]
    assert telling.layout.checkpoint.exists()
    assert telling.layout.scores.exists()

    telling.layout.root.rename(tmp_path / "net")
    again = train(pairs, tmp_path / "net", iterations=2)
    assert again.run.code == 0, again.run.output
    assert again.layout.current_export.exists()
