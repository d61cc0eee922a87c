"""Pairs of other people, stored and named as they do: what the network is shown is the same."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from bidsapp.config import preset_settings
from bidsapp.images.orientation import turn_volume, turned_grid
from bidsapp.images.volumes import Volume, read_volume
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.split import read_split
from bidsapp.model_dir.state import read_state
from bidsapp.nnunet_environment import nnunet_environment
from bidsapp.pairs.check_pairs import check_pairs
from bidsapp.pairs.pairs import find_pairs
from bidsapp.training.dataset import Parts, write_raw_dataset
from bidsapp.training.planning import extract_fingerprint, make_plans, preprocess_cases
from demo.simulate import simulate_people
from tests.integration.conftest import train

STORAGES = ("LAS", "RAS", "RPI", "ASR", "LIP")


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people, two sides each, in network space: right ones stored LAS, left ones RAS and called Lflip."""
    folder = tmp_path_factory.mktemp("twelve")
    simulate_people(folder, 6, 3, spacing_mm=1.0)
    return folder


def cases_of(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix("_img.nii.gz") for path in folder.glob("*_img.nii.gz"))


def save(volume: Volume, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asarray(volume.data), volume.affine), path)


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def compare_raw(layout: ModelLayout, source: Path, case_in_model: dict[str, str]) -> None:
    """Every voxel that nnU-Net is given is the one in network space, training and test people alike."""
    for case, here in case_in_model.items():
        (image,) = layout.raw_dataset.glob(f"images*/{here}_0000.nii.gz")
        (label,) = layout.raw_dataset.glob(f"labels*/{here}.nii.gz")
        np.testing.assert_array_equal(voxels(image), voxels(source / f"{case}_img.nii.gz"))
        np.testing.assert_array_equal(voxels(label), voxels(source / f"{case}_lbl.nii.gz"))


def prepare(folder: Path, layout: ModelLayout, **options: object) -> dict[str, np.ndarray]:
    """Plan and preprocess all pairs; gives what the network would be trained on."""
    checked = check_pairs(find_pairs(folder, **options))  # type: ignore[arg-type]
    assert len(checked.pairs) == 12
    write_raw_dataset(layout, Parts(checked.pairs[:8], checked.pairs[8:], ()), checked.content, checked.table, ("T1w",))
    with nnunet_environment(layout):
        extract_fingerprint(layout)
        make_plans(layout, preset_settings("tiny").training)
        preprocess_cases(layout, checked.content, processes=1)
    return {path.name: np.load(path) for path in sorted(layout.preprocessed_cases.glob("*.npy"))}


def test_pairs_in_five_storages_are_trained_voxel_for_voxel_as_in_one(twelve: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    for number, case in enumerate(cases_of(twelve)):
        for shift, kind in enumerate(("img", "lbl")):  # image and label each in axes of its own
            volume = turn_volume(read_volume(twelve / f"{case}_{kind}.nii.gz", "pair"), STORAGES[(number + shift) % 5])
            save(volume, mixed / f"{case.replace('Lflip', 'L')}_{kind}.nii.gz")
    one, other = ModelLayout(tmp_path / "one"), ModelLayout(tmp_path / "other")
    expected, got = prepare(twelve, one), prepare(mixed, other, left_is="as-in-head")
    compare_raw(other, twelve, {case: case for case in cases_of(twelve)})
    assert json.loads(one.plans.read_text()) == json.loads(other.plans.read_text())
    assert expected.keys() == got.keys() and len(got) == 24
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)


def test_real_pairs_of_unknown_sides_are_turned_alike(shared_data: Path, tmp_path: Path) -> None:
    source, one, mixed = shared_data / "msd_hippocampus", tmp_path / "plain", tmp_path / "mixed"
    names = sorted(path.name for path in (source / "labelsTr").glob("[!.]*.nii.gz"))[:12]
    for number, name in enumerate(names):
        for folder, kind in (("imagesTr", "img"), ("labelsTr", "lbl")):
            volume = read_volume(source / folder / name, "pair")
            save(volume, one / name.replace(".nii.gz", f"_{kind}.nii.gz"))
            save(turn_volume(volume, STORAGES[number % 5]), mixed / name.replace(".nii.gz", f"_{kind}.nii.gz"))
    expected, got = (prepare(folder, ModelLayout(tmp_path / f"m-{folder.name}")) for folder in (one, mixed))
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)


def test_nnunets_raw_data_are_trained_as_they_lie(twelve: Path, tmp_path: Path) -> None:
    raw = tmp_path / "Dataset007_Other"
    ids = {}
    for case in cases_of(twelve):
        person, side = case.removeprefix("sub-").split("_hemi-")
        ids[case] = f"hcp_{person}{side[0]}"
        save(read_volume(twelve / f"{case}_img.nii.gz", "pair"), raw / "imagesTr" / f"{ids[case]}_0000.nii.gz")
        save(read_volume(twelve / f"{case}_lbl.nii.gz", "pair"), raw / "labelsTr" / f"{ids[case]}.nii.gz")
    names = {"background": 0, "head": 1, "tail": 2}
    (raw / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1w"}, "labels": names}))
    done = train(raw, tmp_path / "model", iterations=1)
    assert done.run.code == 0, done.run.output
    assert "12 ids are 6 people: they differ by the side only" in done.run.output
    compare_raw(done.layout, twelve, ids)
    state = read_state(done.layout)
    assert state is not None and state.labels == {1: "head", 2: "tail"} and state.channels == ("T1w",)
    people = read_split(done.layout.split)
    assert people.people == {f"hcp_{case[4:7]}" for case in cases_of(twelve)}
    tested = {known.participant for known in state.cases.values() if known.split == "test"}
    assert tested == people.people_in("test")
    assert sum(known.participant in tested for known in state.cases.values()) == 2 * len(tested)
    assert "12 ids are 6 people" in done.layout.report.read_text(encoding="utf-8")


def test_autotops_tree_is_trained_as_it_lies(twelve: Path, tmp_path: Path) -> None:
    tree = tmp_path / "autotop"
    for case in cases_of(twelve):
        person, side = case.split("_hemi-")
        for kind, name in (("img", "img"), ("lbl", "niftynet_lbl")):
            volume = read_volume(twelve / f"{case}_{kind}.nii.gz", "pair")
            if side == "Lflip":  # c3d -flip: the voxels are reversed, the header is that of the crop as in the head
                volume = Volume(volume.data, turned_grid(volume.grid, "LAS").affine)
            save(volume, tree / person / f"hemi-{side[0]}" / f"{name}.nii.gz")
    done = train(tree, tmp_path / "model", iterations=1)
    assert done.run.code == 0, done.run.output
    assert "6 left sides were flipped in their voxels" in done.run.output
    compare_raw(done.layout, twelve, {case: case for case in cases_of(twelve)})
