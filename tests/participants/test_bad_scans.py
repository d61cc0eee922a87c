"""Scans that cannot be read cost one person alone, in a dry run and in a run, and are named by both."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.boxes import Box
from tests.conftest import ROOT

HEAD = ROOT / "demo" / "data" / "colin27" / "sub-colin27" / "anat" / "sub-colin27_T1w.nii.gz"
RUN = ("participant", "--model", "none", "--skip-bids-validation", "--nprocs", "1")


def _terabytes(path: Path) -> None:
    content = bytearray(gzip.decompress(HEAD.read_bytes()))
    content[40:48] = struct.pack("<4h", 3, 2000, 2000, 2000)
    content[76:92] = struct.pack("<4f", 1, 0.1, 0.1, 0.1)
    content[252:256] = struct.pack("<2h", 1, 0)
    path.write_bytes(gzip.compress(bytes(content), 1))


def _micrometres(path: Path) -> None:
    content = bytearray(gzip.decompress(HEAD.read_bytes()))
    content[76:92] = struct.pack("<4f", 1, 1000, 1000, 1000)
    content[252:256] = struct.pack("<2h", 1, 0)
    path.write_bytes(gzip.compress(bytes(content), 1))


def _cut_off(path: Path) -> None:
    path.write_bytes(HEAD.read_bytes()[:-1000])


def _secret(path: Path) -> None:
    shutil.copy(HEAD, path)
    path.chmod(0)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "it is a pipe or a device, not a file"),
    "zeros": (lambda path: path.symlink_to("/dev/zero"), "it is a pipe or a device, not a file"),
    "dead": (lambda path: path.symlink_to("../../.git/annex/objects/gone"), "is a link to nothing"),
    "empty": (lambda path: path.touch(), "is empty (0 bytes)"),
    "cut": (_cut_off, "is a damaged or truncated gzip file"),
    "secret": (_secret, "cannot be read: Permission denied"),
    "mm": (_micrometres, "has voxels of 1000 x 1000 x 1000 mm"),
}
LONG = "x" * 175
BAD[LONG] = (lambda path: shutil.copy(HEAD, path), "has 179 characters, and 170 leave room for the names made of it")
LEFT_OUT = {"mgz": ("sub-mgz_T1w.mgz",), "analyze": ("sub-analyze_T1w.hdr", "sub-analyze_T1w.img")}


@pytest.fixture(scope="module")
def data(container: Box) -> Path:
    root = container.folder / "data"
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    for name, (spoil, _) in BAD.items():
        anat = root / f"sub-{name}" / "anat"
        anat.mkdir(parents=True)
        spoil(anat / f"sub-{name}_T1w.nii.gz")
    for person, names in LEFT_OUT.items():
        anat = root / f"sub-{person}" / "anat"
        anat.mkdir(parents=True)
        for name in names:
            (anat / name).touch()
    return root


@pytest.mark.parametrize("options", [("--dry-run",), ()])
def test_every_bad_scan_is_named_and_stops_nobody(container: Box, data: Path, options: tuple[str, ...]) -> None:
    done = container.run(data, container.out / "new", *RUN, *options)
    assert done.code == 1, done.output
    assert "Traceback" not in done.output and "bug" not in done.output
    named = done.output.partition("error: some people")[2].splitlines()
    for name, (_, problem) in BAD.items():
        assert [line for line in named if f"sub-{name}: " in line and problem in line], (name, done.output)
    for name in (one for names in LEFT_OUT.values() for one in names):
        assert f"{name} (not NIfTI: convert it to .nii.gz)" in done.output


def test_a_good_person_is_planned_beside_a_bad_one(container: Box, data: Path) -> None:
    good = data / "sub-good" / "anat" / "sub-good_T1w.nii.gz"
    good.parent.mkdir(parents=True)
    shutil.copy(HEAD, good)
    done = container.run(data, container.out / "new", *RUN, "--dry-run")
    shutil.rmtree(data / "sub-good")
    assert done.code == 1
    assert f"would process sub-good: {good}" in done.output
    assert "would process sub-pipe" not in done.output


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    from bidsapp.errors import BadDataError
    from bidsapp.images.volumes import read_grid, read_volume

    _terabytes(tmp_path / "a.nii.gz")
    assert read_grid(tmp_path / "a.nii.gz", "scan").shape == (2000, 2000, 2000)
    with pytest.raises(BadDataError, match="its header asks for 2000 x 2000 x 2000 voxels"):
        read_volume(tmp_path / "a.nii.gz", "scan")
