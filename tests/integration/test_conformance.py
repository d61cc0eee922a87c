"""The contract of BIDS Apps, for real: a container's rights, one OUTPUT_DIR for all levels, one and many sessions."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import pytest

from bidsapp import __version__
from bidsapp.layout import OutputLayout
from demo.recorded_review import DESCRIPTION
from demo.simulate import simulate_side
from tests.boxes import Box
from tests.conftest import ROOT, Finished
from tests.flip import reverse_axis_0
from tests.integration.test_participant import make_data_set
from tests.validation import complaints, errors_of

CHEAP = ("--no-bias-correction", "--hemi", "R", "--device", "cpu", "--nprocs", "1")
SMALL = ("--preset", "tiny", "--set", "training.features=4 8 16", "--set", "training.validation_batches=1")
NOBODY_IS_NAMED = {("warning", "TOO_FEW_AUTHORS")}
"""Who made a data set is not for us to say."""
VISITS = [f"sub-{person}_ses-{session}_T1w" for person in ("01", "02") for session in "12"]


@pytest.fixture(scope="module")
def single(container: Box, pairs: Path) -> tuple[Path, OutputLayout]:
    """A data set of two people with one scan each, a model and pairs, all readable only."""
    data = make_data_set(container.folder / "single", "sub-01_T1w", "sub-02_T1w")
    shutil.copy(ROOT / "bidsapp" / "models" / "default.zip", container.folder / "model.zip")
    shutil.copytree(pairs, container.folder / "pairs")
    for path in container.folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return data, OutputLayout(container.out)


def files(layout: OutputLayout, pattern: str) -> set[str]:
    return {path.relative_to(layout.root).as_posix() for path in layout.root.glob(pattern)}


def test_the_container_is_one(container: Box) -> None:
    """Nothing below could fail in a box with holes."""
    inside = "\n".join(
        [
            f"touch {container.scratch}/here && echo writes",
            f"for place in {container.folder} {ROOT} /etc; do touch $place/x 2>/dev/null && echo hole: $place; done",
            "id -un 2>/dev/null || echo nobody",
            f"{sys.executable} -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), 3)' 2>&1 | tail -n 1",
        ]
    )
    said = container.run_program("sh", "-c", inside).output.splitlines()
    assert said[0] == "writes"
    assert "nobody" in said[1:3]
    assert said[-1].endswith("Network is unreachable")
    assert len(said) <= 4


def test_it_says_its_version(container: Box) -> None:
    done = container.run("--version")
    assert (done.code, done.output) == (0, f"hippotune {__version__}\n")


@pytest.fixture(scope="module")
def levels(container: Box, single: tuple[Path, OutputLayout]) -> list[Finished]:
    """Participant 01, participant 02 with its work elsewhere, then group: on one OUTPUT_DIR."""
    data, layout = single
    elsewhere = ("--model", "none", "--work-dir", container.scratch / "work", *CHEAP)
    training = ("--training-dir", container.folder / "pairs", "--iterations", "4", *SMALL)
    return [
        container.run(
            *(data, layout.root, "participant", "--participant_label", "01"),
            *("--model", container.folder / "model.zip", *CHEAP),
        ),
        container.run("--participant_label", "sub-02", data, layout.root, "participant", *elsewhere),
        container.run(data, layout.root, "group", *training, "--device", "cpu", "--nprocs", "1"),
    ]


def test_participant_by_participant_and_group_share_an_output(
    levels: list[Finished], single: tuple[Path, OutputLayout]
) -> None:
    layout = single[1]
    for done in levels:
        assert done.code == 0, done.output
        assert "Traceback" not in done.output
        expected = ("test scores: too few", "has not learned yet", "too few to compare")  # of so small a training
        warned = [line for line in done.output.splitlines() if line.startswith("warning: ")]
        assert all(any(words in line for words in expected) for line in warned), done.output
    assert "BIDS validation: no errors" in levels[0].output
    assert files(layout, "sub-*/anat/*_T1w.nii.gz") == {
        f"sub-{label}/anat/sub-{label}_hemi-R_space-corobl_desc-preproc_T1w.nii.gz" for label in ("01", "02")
    }
    assert files(layout, "sub-*/anat/*_space-T1w_*.nii.gz") == {
        "sub-01/anat/sub-01_hemi-R_space-T1w_desc-nnunet_dseg.nii.gz"
    }
    assert (layout.models / "default" / "export" / "current.zip").exists()
    assert errors_of(layout.root) == (0, [])
    assert complaints(layout.root) == NOBODY_IS_NAMED


@pytest.mark.usefixtures("levels")
def test_work_and_caches_are_in_the_work_directory_on_any_mount(
    container: Box, single: tuple[Path, OutputLayout]
) -> None:
    layout = single[1]
    elsewhere = OutputLayout(layout.root, container.scratch / "work")
    assert (layout.caches / "matplotlib").is_dir()
    assert (elsewhere.caches / "matplotlib").is_dir()
    assert (elsewhere.work / "participant").is_dir()
    assert not list(container.out.rglob("publishing/*"))
    assert not list(elsewhere.work.rglob("sub-*"))


@pytest.mark.usefixtures("levels")
def test_nothing_appeared_beside_the_output(container: Box, single: tuple[Path, OutputLayout]) -> None:
    assert {path.name for path in container.folder.iterdir()} == {"disks", "single", "model.zip", "pairs"}
    assert not list(single[0].rglob("*.json"))[1:]


def test_a_longitudinal_data_set_person_by_person_with_output_among_its_derivatives(container: Box) -> None:
    data = make_data_set(container.scratch / "long", *VISITS)
    crops = OutputLayout(container.scratch / "crops")
    for person in (1, 2):
        for session in "12":
            image = simulate_side(person, "L", 3, ("T1w",), 0.3)[0][0]
            path = crops.session(f"0{person}", session).crop("L", "T1w")
            path.parent.mkdir(parents=True)
            nib.save(reverse_axis_0(image), path)
    crops.dataset_description.write_text(json.dumps(DESCRIPTION))
    layout = OutputLayout(data / "derivatives" / "hippotune")
    options = ("--model", "none", "--derivatives", crops.root, "--hemi", "L", "--nprocs", "1")
    for label in ("01", "02"):
        done = container.run(data, layout.root, "participant", "--participant_label", label, *options)
        assert done.code == 0, done.output
    some = container.run(data, layout.root, "participant", "--session-label", "2", *options)
    assert some.code == 0, some.output
    assert "0 ok, 2 skipped, 0 failed" in some.output
    assert files(layout, "sub-*/ses-*/anat/*_T1w.nii.gz") == {
        f"sub-{p}/ses-{s}/anat/sub-{p}_ses-{s}_hemi-L_space-corobl_desc-preproc_T1w.nii.gz"
        for p in ("01", "02")
        for s in "12"
    }
    assert errors_of(layout.root) == (0, [])
    assert complaints(layout.root) == NOBODY_IS_NAMED
    assert container.run(data, layout.root, "review").code == 0
    group = container.run(data, layout.root, "group", "--device", "cpu")
    assert (group.code, "no label is approved" in group.output) == (18, True), group.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--participant-label", "03"), ("there is no sub-03 in", "There is: sub-01, sub-02")),
        (("--session-label", "7"), ("there is no ses-7 in", "There is: ses-1, ses-2")),
        (("--modality", "T2w"), ("no T2w of anybody in", "sub-01: no T2w image; there is: T1w")),
        (
            ("--bids-filter-file", "{filters}", "--session-label", "ses-1"),
            ("no T1w of anybody in ses-1 that passes", "filters.json"),
        ),
    ],
)
def test_nothing_found_says_what_was_looked_for_and_where(
    options: tuple[str, ...], words: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bidsapp.cli import main

    data = make_data_set(tmp_path / "data", *VISITS)
    filters = tmp_path / "filters.json"
    filters.write_text('{"T1w": {"acquisition": "hires"}}')
    filled = [option.format(filters=filters) for option in options]
    code = main([str(data), str(tmp_path / "out"), "participant", "--model", "none", "--skip-bids-validation", *filled])
    said = capsys.readouterr().out
    assert code == 18
    assert str(data) in said
    assert all(word in said for word in words), said
