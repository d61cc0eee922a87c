"""The scripts of docs/cluster.md, as a scheduler runs them; and what the tutorial does, done."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import pytest

from bidsapp.cli import main as hippotune
from bidsapp.corobl.grid import crop_image
from bidsapp.layout import ModelLayout, OutputLayout, label_names
from bidsapp.models_cli import main as hippotune_models
from demo.recorded_review import DESCRIPTION
from demo.simulate import simulate_side
from tests.conftest import ROOT, run_py
from tests.drawn import draw, run_drawn
from tests.flip import reverse_axis_0
from tests.integration.test_participant import make_data_set
from tests.test_documented import LINES, commands
from tests.validation import errors_of

PEOPLE = ("01", "02", "03")
HANGS_AFTER_SECONDS = 1200
SCRIPTS = re.findall(r"^```bash\n(.*?)^```", (ROOT / "docs" / "cluster.md").read_text(), re.MULTILINE | re.DOTALL)


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text("#!/bin/bash\n" + text)
    path.chmod(0o755)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three people with crops of another tool, and `hippotune` on the PATH."""
    folder = tmp_path_factory.mktemp("study")
    make_data_set(folder / "data", *(f"sub-{label}_T1w" for label in PEOPLE))
    crops = OutputLayout(folder / "crops")
    for number, label in enumerate(PEOPLE):
        path = crops.session(label, None).crop("L", "T1w")
        path.parent.mkdir(parents=True)
        nib.save(reverse_axis_0(simulate_side(number, "L", 3, ("T1w",), 0.3)[0][0]), path)
    crops.dataset_description.write_text(json.dumps(DESCRIPTION))
    (folder / "bin").mkdir()
    program(folder / "bin", "hippotune", f'exec {shlex.quote(sys.executable)} {shlex.quote(str(ROOT / "run.py"))} "$@"')
    yield folder


def start(script: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_an_array_of_jobs_shares_an_output(study: Path) -> None:
    options = {"MODEL": "none", "HIPPOTUNE_OPTIONS": "--derivatives crops --hemi L", "SLURM_CPUS_PER_TASK": "1"}
    tasks = [start(SCRIPTS[0], study, SLURM_ARRAY_TASK_ID=str(n), **options) for n in range(1, len(PEOPLE) + 1)]
    for task in tasks:
        output, _ = task.communicate(timeout=HANGS_AFTER_SECONDS)
        assert task.returncode == 0, output
        assert "1 ok, 0 skipped, 0 failed" in output
    layout = OutputLayout(study / "data" / "derivatives" / "hippotune")
    logs = list(layout.logs.glob("*/participant.log"))
    assert len(logs) == len(PEOPLE)
    assert all(log.read_text().count("HippoTune 0") == 1 for log in logs)
    assert not layout.index.exists()
    done = run_py(study / "data", layout.root, "participant", "--reports-only")
    assert done.code == 0, done.output
    assert all(f"sub-{label}" in layout.index.read_text() for label in PEOPLE)
    assert errors_of(layout.root) == (0, [])


@pytest.fixture(scope="module")
def walked(study: Path) -> Path:
    """Looked at, approved, trained on: drawn labels of three people, a training of two iterations."""
    lines = [shlex.split(line)[1:] for line in commands(ROOT / "docs" / "tutorial.md")]
    dry, first = lines[:2]
    review = next(line for line in lines if line[-1] == "review")
    training = [line for line in lines if "group" in line and line[-1] in ("--dry-run", "300")]
    planned = run_py(*dry, cwd=study)
    assert (planned.code, (study / "out").exists()) == (0, False), planned.output
    assert "would process sub-03" in planned.output
    done = run_drawn(*first, "--derivatives", "crops", "--hemi", "L", "--nprocs", "1", cwd=study)
    assert "3 ok, 0 skipped, 0 failed" in done.output
    assert run_py(*review, cwd=study).code == 0
    rows = (study / "out" / "labels" / "review.tsv").read_text().splitlines()
    tutorial = (ROOT / "docs" / "tutorial.md").read_text()
    assert rows[0] in tutorial
    assert [row.split("\t")[:4] for row in rows[1:]] == [[f"sub-{one}", "n/a", "L", "pending"] for one in PEOPLE]
    decided = [re.sub(r"pending\tn/a\tn/a", "approved\tAda\t2026-11-24", row) for row in rows]
    (study / "out" / "labels" / "review.tsv").write_text("\n".join(decided) + "\n")
    reviewed = run_py(*review, cwd=study)
    assert reviewed.code == 0, reviewed.output
    short = ("--iterations", "2", "--set", "training.validation_batches=1", "--nprocs", "1")
    for line in training:
        done = run_py(*line, *short, cwd=study)
        assert done.code == 0, done.output
    assert len(training) == 2
    return study


def test_the_first_commands_of_the_tutorial_do_what_it_says(walked: Path) -> None:
    assert ModelLayout(walked / "models" / "ours").current_export.is_file()
    assert ModelLayout(walked / "models" / "ours").report.is_file()


NAMED = {
    **dict.fromkeys(("BIDS_DIR", "$BIDS_DIR"), "data"),
    **dict.fromkeys(("OUT", "$OUTPUT_DIR", "data/derivatives/hippotune"), "out"),
    **dict.fromkeys(("X", "NAME", "$MODEL", "lab7T"), "default"),
    **dict.fromkeys(("models/theirs.zip", "theirs.zip", "FILE", "FILE.zip", "ours.zip"), "default.zip"),
    **dict.fromkeys(("MODEL_DIR", "models/x", "models/old"), "models/ours"),
    **dict.fromkeys(("training", "PAIRS", "pairs", "Dataset001_X", "outputdirectory"), "models/ours/training"),
    **{"hippunfold": "crops", "IMAGE.nii.gz": "image.nii.gz", "SPDX": "CC-BY-4.0"},
    **{"/data/lab/hippotune.toml": "lab.toml", "T2w": "T1w"},
    **dict.fromkeys(("$PERSON", "07"), "01"), "08": "02", "05": "03", "09": "03",
    **dict.fromkeys(("cuda", "cuda:0"), "cpu"),
}  # fmt: skip
"""What pages name -> what there is in the study."""
ELSEWHERE = {
    "fetch": "tests/models/test_models_cli.py",
    "convert-v1": "tests/models/test_convert_v1.py",
    "--rehearse": "tests/integration/test_grow.py",
}
"""Commands that need a network, a model of nnU-Net v1 or a second model's people, and where they are run."""
DOCUMENTED = sorted({line for _, line in LINES if not set(line.split()) & {"--help", "--version", *ELSEWHERE}})


@pytest.fixture(scope="module")
def named(walked: Path) -> Path:
    """The study with everything that commands of README and docs name."""
    shutil.copy(ROOT / "bidsapp" / "models" / "default.zip", walked / "default.zip")
    shutil.copy(OutputLayout(walked / "out").session("01", None).crop("L", "T1w"), walked / "image.nii.gz")
    theirs = walked / "crops" / "sub-01" / "anat" / "sub-01_hemi-L_space-corobl_desc-subfields_dseg.nii.gz"
    nib.save(crop_image(draw("L"), "L"), theirs)
    label_names(theirs).write_text("index\tname\n1\tAnterior\n2\tPosterior\n")
    (walked / "good.tsv").write_text("participant_id\nsub-01\nsub-02\nsub-03\n")
    (walked / "names.tsv").write_text("from_name\tto_name\nAnterior\tAnterior\n")
    listed = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / "registry.md").read_text(), re.MULTILINE | re.DOTALL)
    (walked / "lab.toml").write_text(listed[0].replace("the output of sha256sum models/lab7T.zip", "0" * 64))
    return walked


@pytest.mark.parametrize("line", DOCUMENTED)
def test_a_documented_command_works(
    line: str, named: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands, in a folder where what it names exists; nothing is trained or segmented."""
    monkeypatch.chdir(named)
    program, *words = shlex.split(line)
    fresh = {one: str(tmp_path / one) for one in ("newmodel", "models/new", "ours", "DIR", "to-share", "ours.tar.gz")}
    if "--model" in words:  # a model that is there was begun with another one
        fresh |= {"models/ours": str(tmp_path / "begun"), "models/x": str(tmp_path / "begun")}
    if "participant" in words:
        fresh.pop("models/ours", None)
        fresh.pop("models/x", None)
    if "export" in words:
        fresh["ours.zip"] = str(tmp_path / "ours.zip")
    words = [(NAMED | fresh).get(word, word) for word in words]
    if program == "hippotune-models":
        words = ["lab7T" if word == "default" and "show" in words else word for word in words]
        code = hippotune_models(words)
    else:
        done = {"review", "--reports-only", "--dry-run"} & set(words) and "--serve" not in words  # a server stays
        dry = () if done else ("--dry-run",)
        code = hippotune([*words, *dry])
    said = capsys.readouterr().out
    decided = "--derivatives hippunfold" in line and "review" in words  # the study's sides are, which review names
    assert code == (1 if decided else 0), said


def test_the_training_script_waits_for_the_checkpoint_and_requeues(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program(
        tmp_path / "bin", "hippotune", "trap 'sleep 0.3; exit 75' TERM\ntouch started\nwhile true; do sleep 0.05; done"
    )
    program(tmp_path / "bin", "scontrol", 'echo "asked to $*"')
    job = start(SCRIPTS[1], tmp_path, SLURM_JOB_ID="7")
    while not (tmp_path / "started").exists() and job.poll() is None:
        time.sleep(0.02)
    time.sleep(0.3)  # the likely place is where the script waits; any other after its trap is right too
    job.send_signal(signal.SIGTERM)
    output, _ = job.communicate(timeout=HANGS_AFTER_SECONDS)
    assert (job.returncode, output) == (75, "asked to requeue 7\n")
