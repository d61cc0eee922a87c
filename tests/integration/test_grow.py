"""Three generations of one model on real crops: splits stay, leaks are refused, what got worse is not made current."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from bidsapp.layout import ModelLayout
from bidsapp.model_dir.split import read_split, write_split
from bidsapp.records import Split, SplitName, SplitRow
from bidsapp.training.checkpoints import load_checkpoint, save_checkpoint
from demo.simulate import simulate_people
from tests.conftest import SHARED_DATA
from tests.integration.conftest import SMALL, Trained, train

ONE_BATCH = ("--set", "training.validation_batches=1")
FIRST: dict[SplitName, int] = {"train": 6, "validation": 6, "test": 3}
ITERATIONS = 4
LATER = 3
"""People who come with the second generation, and again with the third."""


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One crop each of 21 people: of the Medical Segmentation Decathlon where it is, else simulated."""
    folder = tmp_path_factory.mktemp("crops")
    wanted = sum(FIRST.values()) + 2 * LATER
    real = SHARED_DATA / "msd_hippocampus"
    if real.is_dir():
        for number, image in enumerate(sorted((real / "imagesTr").glob("*.nii.gz"))[:wanted]):
            shutil.copy(image, folder / f"sub-{number:02d}_img.nii.gz")
            shutil.copy(real / "labelsTr" / image.name, folder / f"sub-{number:02d}_lbl.nii.gz")
        return folder
    made = tmp_path_factory.mktemp("simulated")
    simulate_people(made, wanted, 7, spacing_mm=1.0)
    for number, image in enumerate(sorted(made.glob("*_hemi-R_img.nii.gz"))):
        shutil.copy(image, folder / f"sub-{number:02d}_img.nii.gz")
        shutil.copy(made / image.name.replace("_img", "_lbl"), folder / f"sub-{number:02d}_lbl.nii.gz")
    return folder


def people_of(crops: Path, folder: Path, people: range, *, rename: str = "sub-") -> Path:
    """A training folder of some people."""
    folder.mkdir(exist_ok=True)
    (folder / "labels.tsv").write_text("index\tname\n1\tAnterior\n2\tPosterior\n")
    for number in people:
        for what in ("img", "lbl"):
            shutil.copy(crops / f"sub-{number:02d}_{what}.nii.gz", folder / f"{rename}{number:02d}_{what}.nii.gz")
    return folder


def place(layout: ModelLayout, *, first: int = 0) -> None:
    """The places of the first people, by hand."""
    names: list[SplitName] = [name for name, count in FIRST.items() for _ in range(count)]
    layout.root.mkdir(parents=True)
    write_split(layout.split, Split(tuple(SplitRow(f"sub-{first + n:02d}", name) for n, name in enumerate(names))))


@pytest.fixture(scope="module")
def first(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("grow")
    layout = ModelLayout(folder / "model")
    place(layout)
    done = train(people_of(crops, folder / "pairs", range(15)), layout.root, *SMALL, iterations=ITERATIONS)
    assert done.run.code == 0, done.run.output
    return done


def forget_everything(layout: ModelLayout) -> None:
    """A network of zeros answers background everywhere: worse than any that learned, without a training."""
    checkpoint = load_checkpoint(layout)
    assert checkpoint
    weights = {name: torch.zeros_like(weight) for name, weight in checkpoint["network_weights"].items()}
    save_checkpoint(layout, checkpoint | {"network_weights": weights})


def results(layout: ModelLayout) -> list[dict]:
    return [segment["result"] for segment in json.loads(layout.state.read_text())["segments"]]


def test_three_generations(first: Trained, crops: Path, tmp_path: Path) -> None:
    layout = ModelLayout(tmp_path / "model")
    shutil.copytree(first.layout.root, layout.root)
    pairs = people_of(crops, tmp_path / "pairs", range(15 + LATER))
    began = read_split(layout.split)

    second = train(pairs, layout.root, *ONE_BATCH, "--accept-worse", iterations=2)
    assert second.run.code == 0, second.run.output
    assert "compared with the parent, on the validation people: " in second.run.output
    grown = read_split(layout.split)
    assert grown.rows[: len(began.rows)] == began.rows
    assert {row.generation for row in grown.rows[len(began.rows) :]} == {2}
    good = results(layout)[1]
    assert good["comparisons"]["validation"]["overall"]["people"] >= FIRST["validation"]
    assert good["accepted"]
    assert good["people"]["test"] >= FIRST["test"]
    current = layout.current_export.read_bytes()
    assert current == layout.exported_model(ITERATIONS + 2).read_bytes()

    people_of(crops, pairs, range(15 + LATER, 15 + 2 * LATER))
    forget_everything(layout)
    third = train(pairs, layout.root, *ONE_BATCH, iterations=0)
    assert third.run.code == 3, third.run.output
    assert "the new model is worse than the one before" in third.run.output
    assert layout.current_export.read_bytes() == current
    assert results(layout)[2]["comparisons"]["validation"]["verdict"] == "worse"
    assert "no: worse" in layout.report.read_text()
    assert {row.generation for row in read_split(layout.split).rows} == {1, 2, 3}

    accepted = train(pairs, layout.root, *ONE_BATCH, "--accept-worse", iterations=0)
    assert accepted.run.code == 0, accepted.run.output
    assert layout.current_export.read_bytes() != current


def test_a_leak_is_refused_by_name(first: Trained, crops: Path, tmp_path: Path) -> None:
    """sub-12 is a test person of the parent: as itself in training, and under another name."""
    moved = ModelLayout(tmp_path / "moved")
    place(moved)
    rows = [SplitRow(row.participant_id, "train") if row.participant_id == "sub-12" else row
            for row in read_split(moved.split).rows]  # fmt: skip
    write_split(moved.split, Split(tuple(rows)))
    run = train(first.pairs, moved.root, "--model", first.layout.root, iterations=0).run
    assert run.code == 65, run.output
    assert "sub-12, who was in test, in train" in run.output
    assert not moved.state.exists()

    renamed = people_of(crops, tmp_path / "pairs", range(12, 13), rename="sub-new")
    people_of(crops, renamed, range(15, 20))
    other = ModelLayout(tmp_path / "other")
    other.root.mkdir()
    write_split(other.split, Split((SplitRow("sub-new12", "train"),)))
    run = train(renamed, other.root, "--model", first.layout.current_export, iterations=0).run
    assert run.code == 65, run.output
    assert "sub-new12 shows sub-12, who was in test, in train" in run.output


def test_another_scanner_is_learned_with_rehearsal_and_says_what_was_forgotten(
    first: Trained, crops: Path, tmp_path: Path
) -> None:
    pairs = people_of(crops, tmp_path / "pairs", range(15, 20))
    options = ("--model", first.layout.root, "--rehearse", first.layout.root, "--source-test", first.layout.root)
    done = train(pairs, tmp_path / "model", *options, *ONE_BATCH, iterations=3)
    assert done.run.code == 0, done.run.output
    assert "15 people of the models before were checked" in done.run.output
    assert "too few to tell" in done.run.output
    (result,) = results(done.layout)
    assert result["rehearsed"] == FIRST["train"]
    assert result["comparisons"]["source test"]["overall"]["people"] == FIRST["test"]
    split = json.loads(done.layout.splits_final.read_text())[0]
    assert sum(case.startswith("rehearsal-") for case in split["train"]) == FIRST["train"]
    assert not [case for case in split["val"] if case.startswith("rehearsal-")]
    assert not {row.participant_id for row in read_split(done.layout.split).rows} & {f"sub-{n:02d}" for n in range(15)}
    assert "source test" in done.layout.report.read_text()


def test_of_an_export_alone_leakage_cannot_be_checked(first: Trained, crops: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "theirs.zip"
    shutil.copy(first.layout.current_export, stranger)
    done = train(people_of(crops, tmp_path / "pairs", range(15, 18)), tmp_path / "ours", "--model", stranger,
                 iterations=0)  # fmt: skip
    assert done.run.code == 0, done.run.output
    said = "leakage against model could not be checked"
    assert said in done.run.output
    assert said in done.layout.report.read_text().lower()
    with zipfile.ZipFile(done.layout.current_export) as packed:
        (manifest,) = (name for name in packed.namelist() if name.endswith("hippotune.json"))
        facts = json.loads(packed.read(manifest))
    assert said in facts["leakage"]
    assert facts["parents"][0]["people"] == FIRST
