from __future__ import annotations

import json
import logging
import multiprocessing
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp import __version__
from bidsapp.bids.dataset import BIDSIGNORE, DESCRIPTIONS, HEMI_LINE, describe_dataset
from bidsapp.bids.links import bids_uri, dataset_links
from bidsapp.bids.sidecars import COROBL_REFERENCE, crop_sidecar, native_prediction_sidecar, prediction_sidecar
from bidsapp.errors import CannotWriteError, UsageError
from bidsapp.files import create_once
from bidsapp.layout import OutputLayout, SessionLayout, label_names, sidecar
from bidsapp.tsv import read_tsv
from tests.validation import errors_of

SCAN = "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"
CONFIG = {"ignore": [{"code": "ALL_FILENAME_RULES_HAVE_ISSUES", "location": "*_hemi-*"}]}


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_description_names_us_and_the_inputs(tmp_path):
    layout = OutputLayout(tmp_path / "data" / "derivatives" / "hippotune")
    links = dataset_links(tmp_path / "data", [tmp_path / "data" / "derivatives" / "hippunfold"])
    describe_dataset(layout, links=links)
    description = json.loads(layout.dataset_description.read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"] == [{"Name": "HippoTune", "Version": __version__}]
    assert description["DatasetLinks"] == {"raw": "../..", "deriv1": "../hippunfold"}
    assert {path.name for path in layout.root.iterdir()} == {
        "dataset_description.json",
        ".bidsignore",
        "descriptions.tsv",
        "descriptions.json",
        "README",
    }


def test_every_desc_that_we_write_is_described(tmp_path):
    layout = OutputLayout(tmp_path)
    describe_dataset(layout, links={})
    rows = {row.cells["desc_id"]: row.cells["description"] for row in read_tsv(layout.descriptions, ["desc_id"])}
    session = layout.session("01", None)
    names = [session.crop("L", "T1w").name, session.prediction("L").name, session.native_prediction("L", "T1w").name]
    assert rows == DESCRIPTIONS
    assert {part for name in names for part in name.split("_") if part.startswith("desc-")} == set(rows)


def test_what_is_there_stays(tmp_path, caplog):
    layout = OutputLayout(tmp_path)
    describe_dataset(layout, links={"raw": tmp_path / "a"})
    layout.readme.write_text("my own words")
    layout.bidsignore.unlink()
    before = everything_in(tmp_path)
    describe_dataset(layout, links={"raw": tmp_path / "a"})
    assert caplog.text == ""
    assert everything_in(tmp_path) == {**before, ".bidsignore": "\n".join([*BIDSIGNORE, ""]).encode()}
    with caplog.at_level(logging.WARNING):
        describe_dataset(layout, links={"raw": tmp_path / "b"})
    assert "other DatasetLinks" in caplog.text
    assert layout.readme.read_text() == "my own words"


@pytest.mark.parametrize(
    ("content", "owner"),
    [
        ("{", "may belong to another tool"),
        ("[]", "may belong to another tool"),
        ('{"Name": "my scans", "DatasetType": "raw"}', "belongs to a raw data set ('my scans')"),
        ('{"Name": "my scans", "BIDSVersion": "1.8.0"}', "belongs to a raw data set ('my scans')"),
        ('{"DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]}', "belongs to fMRIPrep"),
        ('{"DatasetType": "derivative", "GeneratedBy": "x"}', "belongs to an unnamed tool"),
        ('{"DatasetType": "derivative"}', "belongs to an unnamed tool"),
    ],
)
def test_the_folder_of_another_tool_is_refused(tmp_path, content, owner):
    layout = OutputLayout(tmp_path)
    layout.dataset_description.write_text(content)
    with pytest.raises(UsageError) as caught:
        describe_dataset(layout, links={})
    assert str(tmp_path) in caught.value.message and owner in caught.value.message
    assert everything_in(tmp_path) == {"dataset_description.json": content.encode()}


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteError):
        describe_dataset(OutputLayout(tmp_path / "file" / "out"), links={})


def _create_many(path: Path, number: int) -> int:
    return sum(create_once(path.with_name(f"{index}.json"), f"{number}" * 10_000) for index in range(50))


def test_one_of_several_processes_writes_and_leaves_nothing_else(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        written = pool.starmap(_create_many, [(tmp_path / "x", number) for number in range(4)])
    assert sum(written) == 50
    contents = [path.read_text() for path in tmp_path.iterdir()]
    assert len(contents) == 50
    assert all(len(text) == 10_000 and len(set(text)) == 1 for text in contents)


def test_a_disk_without_hard_links(tmp_path, monkeypatch):
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert create_once(tmp_path / "a.json", "one")
    assert not create_once(tmp_path / "a.json", "two")
    assert everything_in(tmp_path) == {"a.json": b"one"}


# --- the real validator ----------------------------------------------------------------------------------------------


def save_image(path: Path, dtype: type) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.zeros((4, 5, 6), dtype), np.diag([-0.3, 0.3, 0.3, 1]))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def save_session(session: SessionLayout, label: str) -> None:
    """Write every file of a session that the participant level makes, with real sidecars."""
    facts = {"model": "demo", "version": __version__, "iterations": 250}
    table = "index\tname\tvoxels\tvolume_mm3\n1\tGM\t10\t0.27\n"
    session.anat.mkdir(parents=True)
    for hemi in "LR":
        crop = session.crop(hemi, "T1w")
        save_image(crop, np.float32)
        contents = {crop: crop_sidecar(sources=[SCAN], skull_stripped=False, facts=facts)}
        uri = bids_uri("", crop.relative_to(session.root).as_posix())
        contents[session.prediction(hemi)] = prediction_sidecar(sources=[uri], facts=facts)
        native = session.native_prediction(hemi, "T1w")
        contents[native] = native_prediction_sidecar(sources=[SCAN, uri], scan=SCAN, facts=facts)
        for image, content in contents.items():
            sidecar(image).write_text(json.dumps(content))
            if image != crop:
                save_image(image, np.uint8)
                label_names(image).write_text(table)
    session.transform("T1w").write_text("#Insight Transform File V1.0\n")
    session.figures.mkdir(exist_ok=True)
    session.thumbnail("L").write_bytes(b"x")
    (session.root / f"sub-{label}.html").write_text("<p>")


@pytest.fixture
def output(tmp_path) -> OutputLayout:
    layout = OutputLayout(tmp_path / "bids" / "derivatives" / "hippotune")
    describe_dataset(layout, links=dataset_links(tmp_path / "bids", [tmp_path / "elsewhere" / "my tool"]))
    save_session(layout.session("01", None), "01")
    save_session(layout.session("02", "pre"), "02")
    layout.index.write_text("<p>")
    layout.volumes.write_text("participant_id\tname\tvolume_mm3\nsub-01\tGM\t1\n")
    for path in (layout.review_table, layout.models / "default" / "config.ini", layout.work / "sub-01" / "a.nii.gz"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return layout


def test_the_output_is_valid_bids(output):
    assert errors_of(output.root) == (0, [])


def test_the_sidecars_are_valid_where_the_validator_looks_at_them(output, tmp_path):
    output.bidsignore.write_text("".join(f"{line}\n" for line in BIDSIGNORE if line != HEMI_LINE))
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    assert errors_of(output.root, "-c", str(config)) == (0, [])
    crop = sidecar(output.session("01", None).crop("L", "T1w"))
    content = json.loads(crop.read_text())
    assert content["SpatialReference"] == COROBL_REFERENCE
    del content["SpatialReference"], content["SkullStripped"]
    crop.write_text(json.dumps(content))
    code, errors = errors_of(output.root, "-c", str(config))
    assert code == 16 and {path.rpartition("/")[2] for _, path in errors} == {
        "sub-01_hemi-L_space-corobl_desc-preproc_T1w.nii.gz"
    }
