"""What the system refuses is said in a line, never as a bug: another user's folders, no home, no name, a full disk."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bidsapp.console import run_command
from bidsapp.errors import explain
from bidsapp.layout import OutputLayout, sidecar
from tests.boxes import Box
from tests.conftest import ROOT, Finished

RUN = (sys.executable, ROOT / "run.py")
QUICK = ("participant", "--model", "none", "--skip-bids-validation", "--dry-run")


@pytest.fixture(scope="module")
def data(container: Box) -> Path:
    """Two people, the second of whom nobody may look at."""
    folder = container.folder / "data"
    shutil.copytree(ROOT / "demo" / "data" / "colin27", folder)
    closed = folder / "sub-02" / "anat"
    closed.mkdir(parents=True)
    shutil.copy(folder / "sub-colin27" / "anat" / "sub-colin27_T1w.nii.gz", closed / "sub-02_T1w.nii.gz")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture(autouse=True)
def opened(container: Box) -> Iterator[None]:
    """Let folders that a test closed be removed."""
    yield
    for folder, _, _ in os.walk(container.folder, onerror=None):
        Path(folder).chmod(0o755)


def refused(done: Finished, code: int, *words: str) -> None:
    assert done.code == code, done.output
    assert "Traceback" not in done.output and "this is a bug" not in done.output
    for word in words:
        assert word in done.output


def closed_folder(path: Path, mode: int = 0) -> Path:
    path.mkdir()
    path.chmod(mode)
    return path


def test_a_user_without_name_and_home(container: Box, data: Path) -> None:
    done = container.run_program("env", "--unset=HOME", *RUN, data, container.out / "new", *QUICK)
    assert done.code == 0, done.output


def test_a_home_that_may_not_be_entered(container: Box, data: Path) -> None:
    home = closed_folder(container.folder / "home")
    done = container.run(data, container.out / "new", *QUICK, HOME=str(home))
    home.chmod(0o755)
    assert done.code == 0, done.output


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_damaged_settings_of_pybids(container: Box, data: Path, content: str) -> None:
    home = container.scratch / "home"
    home.mkdir(exist_ok=True)
    (home / "pybids_config.json").write_text(content)
    done = container.run(data, container.out / "new", *QUICK, HOME=str(home))
    refused(done, 65, "pybids cannot read its settings", "pybids_config.json")


@pytest.mark.parametrize("level", [QUICK, QUICK[:-1], ("review",), ("group",)])
def test_an_output_that_may_not_be_entered(container: Box, data: Path, level: tuple[str, ...]) -> None:
    output = closed_folder(container.out / "closed")
    done = container.run(data, output, *level)
    output.chmod(0o755)
    output.rmdir()
    refused(done, 73, f"OUTPUT_DIR {output} cannot be used: Permission denied")


def test_an_output_that_may_not_be_written_to(container: Box, data: Path) -> None:
    output = closed_folder(container.out / "full", 0o555)
    done = container.run(data, output, *QUICK[:-1])
    output.chmod(0o755)
    refused(done, 73, f"{output}/dataset_description.json cannot be written: Permission denied")
    assert list(output.iterdir()) == []


def test_an_output_with_a_name_that_no_disk_can_hold(container: Box, data: Path) -> None:
    refused(container.run(data, container.out / ("x" * 300), *QUICK), 73, "File name too long")


def test_a_description_that_may_not_be_read(container: Box, data: Path) -> None:
    (data / "dataset_description.json").chmod(0)
    done = container.run(data, container.out / "new", *QUICK)
    (data / "dataset_description.json").chmod(0o644)
    refused(done, 66, "dataset_description.json cannot be read: Permission denied")


@pytest.mark.parametrize("folder", ["sub-02", "sub-02/anat"])
def test_a_folder_of_one_person_stops_nobody_else(container: Box, data: Path, folder: str) -> None:
    (data / folder).chmod(0)
    done = container.run(data, container.out / "new", *QUICK)
    (data / folder).chmod(0o755)
    refused(done, 0, f"{data / folder} cannot be read", "sub-02 is left out", "would process sub-colin27")


@pytest.mark.parametrize("closed", ["prediction", "labels"])
def test_what_somebody_else_saved_stops_that_person_alone(container: Box, data: Path, closed: str) -> None:
    layout = OutputLayout(container.out / "edited")
    prediction, labels = layout.session("colin27", None).prediction("L"), layout.labels / "sub-colin27"
    for path in (prediction, layout.manual_label("colin27", None, "L")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    sidecar(prediction).write_text('{"HippoTune": {"file_sha256": "of what we wrote"}}')
    path = {"prediction": prediction, "labels": labels / "anat"}[closed]
    path.chmod(0)
    done = container.run(data, layout.root, *QUICK)
    path.chmod(0o755)
    shutil.rmtree(layout.root)
    refused(done, 1, "some people could not be processed", "sub-colin27: ", "cannot be read: Permission denied")
    assert "would process sub-02" in done.output


def test_who_asks_for_one_person_hears_nothing_of_the_others(container: Box, data: Path) -> None:
    (data / "sub-02").chmod(0)
    done = container.run(data, container.out / "new", *QUICK, "--participant-label", "colin27")
    (data / "sub-02").chmod(0o755)
    refused(done, 0, "would process sub-colin27")
    assert "sub-02" not in done.output


@pytest.mark.parametrize("options", [(), ("--skip-bids-validation",)])
def test_without_a_description_there_is_no_input_with_and_without_the_validator(
    container: Box, data: Path, options: tuple[str, ...]
) -> None:
    path = data / "dataset_description.json"
    path.rename(data / "elsewhere")
    done = container.run(data, container.out / "new", "participant", "--model", "none", *options)
    path.with_name("elsewhere").rename(path)
    refused(done, 66, "has no dataset_description.json")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, 73),
        (errno.EROFS, 73),
        (errno.EDQUOT, 73),
        (errno.ELOOP, 66),
        (errno.ENXIO, 66),
        (errno.ENAMETOOLONG, 66),
        (errno.EIO, 66),
        (errno.EACCES, 73),  # the file of this test can be read, so it was to be written
        (errno.ENOENT, 70),
        (errno.EPIPE, 70),
    ],
)
def test_what_nobody_on_the_way_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    path = tmp_path / "file"
    path.touch()

    def work(_arguments: list[str]) -> None:
        raise OSError(number, os.strerror(number), str(path))

    assert run_command(work, []) == code
    said = capsys.readouterr().out
    assert str(path) in said
    assert ("Traceback" in said) is (code == 70)


def test_bugs_stay_bugs() -> None:
    for error in (RecursionError(), ValueError(), OSError(errno.EACCES, "Permission denied"), OSError("what?")):
        assert explain(error) is None
    no_memory = explain(MemoryError("Unable to allocate 8 TiB"))
    assert no_memory is not None and no_memory.exit_code == 65 and "8 TiB" in no_memory.message
