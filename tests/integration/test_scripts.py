"""Every script runs, at its smallest size, in a copy of the repository: what nobody runs does not stay whole."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.exchange.loading import load_model
from bidsapp.model_dir.fingerprints import read_fingerprints
from bidsapp.model_dir.split import write_split
from bidsapp.records import Split, SplitRow
from demo.simulate import simulate_people
from tests.conftest import ROOT

ROOMS = ("benchmarks", "demo", "models", "tools")
NOT_RUN = {
    "tools/check_image.sh": "wants root and 30 GB of disk, see `make image-check`",
}
NEEDS = ("bidsapp", "benchmarks", "boutiques", "demo", "docs", "models", "tools", "run.py", "tests/models/data")
COLIN = "demo/data/colin27/sub-colin27/anat/sub-colin27_T1w.nii.gz"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What scripts read and write of the repository, as a copy; with data of the Decathlon's kind, and a wheel."""
    tree = tmp_path_factory.mktemp("copy")
    for name in NEEDS:
        ignored = shutil.ignore_patterns("__pycache__", "output")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, tree / name)
    _decathlon(tree / "data" / "msd_hippocampus")
    _labelled_heads(tree)
    _wheel(tree / "hippunfold.whl")
    return tree


def _decathlon(folder: Path) -> None:
    """Twelve simulated crops under the names of Task04, all stored RAS in network space as its blocks are."""
    made = folder / "made"
    simulate_people(made, 6, 7, spacing_mm=1.0)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
    for number, image in enumerate(sorted(made.glob("*_img.nii.gz")), 1):
        label = image.with_name(image.name.replace("_img", "_lbl"))
        for part, source in (("imagesTr", image), ("labelsTr", label)):
            array = np.asarray(nib.load(source).dataobj)
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / part / f"hippocampus_{number:03d}.nii.gz")


def _labelled_heads(tree: Path) -> None:
    """Colin27 under the names of other data sets, so that what was made of it once is found again."""
    for name in ("aomic_piop2", "ds000011"):
        shutil.copytree(tree / "demo" / "data" / "colin27", tree / "data" / name)
    head = nib.load(tree / COLIN)
    halves = np.zeros(head.shape, np.uint8)
    halves[50:70, 60:90, 40:60], halves[80:100, 60:90, 40:60] = 1, 2
    anat = tree / "data" / "aomic_piop2" / "derivatives" / "freesurfer" / "sub-0001" / "anat"
    anat.mkdir(parents=True)
    nib.save(nib.Nifti1Image(halves, head.affine), anat / "sub-0001_label-hippocampus_dseg.nii.gz")
    for value, side in ((1, "L"), (2, "R")):
        path = tree / "data" / "mni2009asym_hippocampus"
        path.mkdir(exist_ok=True)
        name = f"tpl-MNI152NLin2009aSym_hemi-{side}_space-T1w_desc-subfields_dseg.nii.gz"
        nib.save(nib.Nifti1Image((halves == value).astype(np.uint8), head.affine), path / name)


def _wheel(path: Path) -> None:
    """The files of HippUnfold's wheel that scripts reduce, small."""
    ball = np.full((40, 40, 40), 20, np.uint8)
    ball[8:32, 8:32, 8:32] = 200
    names = [f"{what}_300umCoronalOblique_hemi-{side}" for what in ("T1w", "T2w", "Mask") for side in "LR"]
    with zipfile.ZipFile(path, "w") as wheel:
        for name in (*names, "T1w_head_700um"):
            image = nib.Nifti1Image(ball // (200 if "Mask" in name else 1), np.diag([0.7, 0.7, 0.7, 1]))
            wheel.writestr(f"hippunfold/resources/CITI168/{name}.nii.gz", gzip.compress(image.to_bytes()))


def run(tree: Path, *words: str, **environment: str) -> str:
    """Run a script as its docstring says, in the copy; returns what it printed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tree, env=clean | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def files(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def demo(tree: Path) -> None:
    """Also `make demo`: what it begins with has learned already, so that reviews go as they do there."""
    said = run(tree, "demo/run_demo.py", "--people", "3", "--iterations", "1", "1", "--begin-with", "default")
    assert "The demo took" in said
    assert "sub-P4_hemi-L: correction by demo (flip:" in said


def simulate(tree: Path) -> None:
    said = run(tree, "demo/simulate.py", "simulated", "--people", "1", "--seed", "1")
    assert "people simulated: 1; 2 pairs are in simulated" in said
    assert len(list((tree / "simulated").glob("*.nii.gz"))) == 4


def train_default(tree: Path) -> None:
    words = ("models/train_default.py", "--msd", "data/msd_hippocampus", "--iterations", "1", "--simulated", "1")
    run(tree, *words, "--set", "training.features=4 8 16 16", "--set", "training.validation_batches=1")
    archive = tree / "models" / "output" / "default.zip"
    known = read_fingerprints(load_model(archive).facts, archive)
    assert known is not None
    assert set(known.parts.values()) == {"train", "validation", "test"}
    before = archive.read_bytes()
    run(tree, "models/train_default.py", "--msd", "data/msd_hippocampus", "--fingerprint", str(archive))
    assert archive.read_bytes() == before


def check_default(tree: Path) -> None:
    """On people, heads and masks that are not real: no number means anything. One head stands for all."""
    output = tree / "models" / "checked"
    output.mkdir()
    write_split(output / "split.tsv", Split((SplitRow("sub-msd001", "test"),)))
    words = ("models/check_default.py", "--data", "data", "--output", str(output), "--no-bias-correction")
    said = run(tree, *words, "side", "msd", "colin27", "--blocks", "1", "--steps", "1")
    assert "MNI152, HippUnfold, R    fits better as it is" in said
    assert "1 people" in said[said.index("anterior   Dice") :]
    assert said.count("Dice L") == 1
    for name in ("aomic_piop2", "ds000011", "mni152"):  # participant finds it done
        shutil.copytree(output / "check" / "colin27", output / "check" / name)
    _rename_person(output / "check" / "mni152", "sub-colin27", "sub-mni152")
    said = run(tree, *words, "aomic_piop2", "ds000011", "mni152", "--mni", COLIN)
    assert said.count("0 ok, 1 skipped, 0 failed") == 3
    assert said.count("Dice L") == 2


def _rename_person(folder: Path, old: str, new: str) -> None:
    for path in sorted(folder.rglob(f"{old}*"), reverse=True):
        path.rename(path.with_name(path.name.replace(old, new)))
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text().replace(old, new))


def train(tree: Path) -> None:
    said = run(tree, "benchmarks/train.py", "--people", "3", "--iterations", "1", "--rounds", "1")
    assert "ratio of iterations per second" in said


def finetune(tree: Path) -> None:
    small = ("--part", "0.01", "--iterations", "1", "--source-iterations", "1")
    said = run(tree, "benchmarks/finetune.py", "data/msd_hippocampus", *small)
    assert "   1 iterations: scratch" in said


def grow(tree: Path) -> None:
    small = ("--part", "0.01", "--iterations", "1", "--source-iterations", "1")
    said = run(tree, "benchmarks/grow.py", "data/msd_hippocampus", *small)
    assert "with rehearsal: second scanner" in said


def predicted_weight(tree: Path) -> None:
    small = ("--people", "1", "1", "1", "1", "--iterations", "1", "--weights", "0.5", "--begin-with", "scratch")
    said = run(tree, "benchmarks/predicted_weight.py", *small)
    assert "scratch, weight 0.5: Dice " in said


def participant(tree: Path) -> None:
    words = ("--head", COLIN, "--hemi", "R", "--iterations", "0", "--large", "--features", "2", "2", "2", "2", "2", "2")
    said = run(tree, "benchmarks/participant.py", *words)
    assert "1 of 1 label maps are the same" in said


def registration(tree: Path) -> None:
    assert "T2w: 0 of 1 failed" in run(tree, "-m", "benchmarks.registration", "--cases", "1")


def editor_queue(tree: Path) -> None:
    said = run(tree, "-m", "benchmarks.editor_queue", "--sides", "6", "10")
    assert [line.split()[0] for line in said.splitlines()[-2:]] == ["6", "10"]


def guards(tree: Path) -> None:
    assert "good labels refused: 0 of 1" in run(tree, "-m", "benchmarks.guards", "--cases", "1", "--faulty", "1")


def pair_faults(tree: Path) -> None:
    said = run(tree, "benchmarks/pair_faults.py", "--msd", "data/msd_hippocampus", "--plants", "1", "--kinds", "blocks")
    assert "good pairs flagged:" in said


def descriptors(tree: Path) -> None:
    written = [*(ROOT / "boutiques").iterdir(), ROOT / "boutiques.json"]
    run(tree, "tools/make_boutiques.py")
    for path in written:
        assert (tree / path.relative_to(ROOT)).read_bytes() == path.read_bytes()


def reference(tree: Path) -> None:
    run(tree, "tools/make_reference.py")
    assert (tree / "docs" / "reference.md").read_bytes() == (ROOT / "docs" / "reference.md").read_bytes()


def default_labels(tree: Path) -> None:
    folder = tree / "tests" / "models" / "data"
    names = {path.name for path in folder.glob("tpl-*")}
    for path in folder.glob("tpl-*"):
        path.unlink()
    run(tree, "tools/make_default_labels.py")
    assert {path.name for path in folder.glob("tpl-*")} == names


def rewritten(script: str, argument: str, folder: str) -> Callable[[Path], None]:
    """A script that makes bundled files from one that is not bundled: here from another, in another copy."""

    def check(tree: Path) -> None:
        copy = tree / "rewritten"
        shutil.rmtree(copy, ignore_errors=True)
        for name in ("tools", folder):
            shutil.copytree(tree / name, copy / name)
        before = files(copy / folder)
        run(copy, script, str(tree / argument))
        after = files(copy / folder)
        assert after.keys() == before.keys()
        assert after != before
        assert all(nib.load(path).shape for path in after if path.name.endswith(".nii.gz"))

    return check


def v1_model(tree: Path) -> None:
    """With the code of nnU-Net 1.7.1, where it can be had."""
    code = tree / "v1"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", code, "nnunet==1.7.1"]
    if subprocess.run([*command, "medpy", "dicom2nifti"], capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED HERE: tools/make_v1_model.py; pip cannot install nnunet==1.7.1")
    run(tree, "tools/make_v1_model.py", "made-v1", PYTHONPATH=str(code))
    made = {path.relative_to(tree / "made-v1") for path in files(tree / "made-v1")}
    ours = tree / "tests" / "models" / "data" / "v1"
    assert made == {path.relative_to(ours) for path in files(ours)}


SCRIPTS: dict[str, Callable[[Path], None]] = {
    "demo/run_demo.py": demo,
    "demo/simulate.py": simulate,
    "models/train_default.py": train_default,
    "models/check_default.py": check_default,
    "benchmarks/train.py": train,
    "benchmarks/finetune.py": finetune,
    "benchmarks/grow.py": grow,
    "benchmarks/predicted_weight.py": predicted_weight,
    "benchmarks/participant.py": participant,
    "benchmarks/registration.py": registration,
    "benchmarks/guards.py": guards,
    "benchmarks/editor_queue.py": editor_queue,
    "benchmarks/pair_faults.py": pair_faults,
    "tools/make_boutiques.py": descriptors,
    "tools/make_reference.py": reference,
    "tools/make_default_labels.py": default_labels,
    "tools/make_colin27.py": rewritten("tools/make_colin27.py", COLIN, "demo/data/colin27"),
    "tools/make_demo_data.py": rewritten("tools/make_demo_data.py", "hippunfold.whl", "demo/data"),
    "tools/make_corobl_resources.py": rewritten(
        "tools/make_corobl_resources.py", "hippunfold.whl", "bidsapp/corobl/resources"
    ),
    "tools/make_v1_model.py": v1_model,
}


def test_no_script_is_forgotten() -> None:
    scripts = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).iterdir()
        if path.suffix == ".sh" or (path.suffix == ".py" and '__name__ == "__main__"' in path.read_text())
    }
    assert scripts == SCRIPTS.keys() | NOT_RUN.keys()
    assert not SCRIPTS.keys() & NOT_RUN.keys()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_at_its_smallest_size(name: str, tree: Path) -> None:
    SCRIPTS[name](tree)
