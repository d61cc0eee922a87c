"""Our in-process fingerprint and plans against nnU-Net's own."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bidsapp.config import TrainingSettings, preset_settings
from bidsapp.content import file_sha256
from bidsapp.errors import BadDataError, UsageError
from bidsapp.layout import DATASET, ModelLayout
from bidsapp.logs import prints_to_log
from bidsapp.model_dir.nnunet_files import read_plans
from bidsapp.nnunet_environment import nnunet_environment
from bidsapp.pairs.check_pairs import check_pairs
from bidsapp.pairs.pairs import find_pairs
from bidsapp.records import LabelTable
from bidsapp.training.dataset import Parts, write_raw_dataset
from bidsapp.training.planning import extract_fingerprint, make_plans, preprocess_cases
from bidsapp.training.preprocessed import is_whole, read_case, write_marker
from demo.simulate import simulate_people


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> ModelLayout:
    pairs = tmp_path_factory.mktemp("pairs")
    simulate_people(pairs, 2, 1, spacing_mm=1.0)
    checked = check_pairs(find_pairs(pairs))
    layout = ModelLayout(tmp_path_factory.mktemp("model"))
    write_raw_dataset(layout, Parts(checked.pairs[:3], checked.pairs[3:], ()), checked.content, checked.table, ("T1w",))
    with nnunet_environment(layout):
        extract_fingerprint(layout)
    return layout


def test_the_fingerprint_is_nnunets(layout: ModelLayout) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset

    ours = json.loads(layout.fingerprint.read_text())
    with nnunet_environment(layout), prints_to_log():
        extract_fingerprint_dataset(1, num_processes=1, show_progress_bar=False)
    theirs = json.loads(layout.fingerprint.read_text())
    assert ours.keys() == theirs.keys()
    for key in ("spacings", "shapes_after_crop"):
        assert sorted(map(tuple, ours[key])) == sorted(map(tuple, theirs[key]))
    for name, value in theirs["foreground_intensity_properties_per_channel"]["0"].items():
        assert ours["foreground_intensity_properties_per_channel"]["0"][name] == pytest.approx(value, rel=1e-5)


def planned(layout: ModelLayout, settings: TrainingSettings) -> dict[str, object]:
    with nnunet_environment(layout):
        return make_plans(layout, settings)["configurations"]["3d_fullres"]


def test_the_default_plan_is_nnunets(layout: ModelLayout) -> None:
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    ours = planned(layout, TrainingSettings())
    with nnunet_environment(layout), prints_to_log():
        ExperimentPlanner(DATASET).plan_experiment()
    assert ours == json.loads(layout.plans.read_text())["configurations"]["3d_fullres"]


def test_the_tiny_plan_is_as_measured(layout: ModelLayout) -> None:
    plan = planned(layout, preset_settings("tiny").training)
    assert (plan["batch_size"], plan["patch_size"]) == (2, [40, 56, 40])
    np.testing.assert_allclose(plan["spacing"], [1, 1, 1])
    arch = plan["architecture"]["arch_kwargs"]
    assert arch["features_per_stage"] == [8, 16, 32, 64]
    assert arch["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]


@pytest.mark.parametrize(
    ("settings", "spacing"),
    [
        (TrainingSettings(min_spacing_mm=1.2), [1.2, 1.2, 1.2]),
        (TrainingSettings(spacing_mm=(0.8, 0.8, 0.8)), [0.8, 0.8, 0.8]),
        (TrainingSettings(min_spacing_mm=0.9), [1.0, 1.0, 1.0]),
    ],
)
def test_spacing_is_the_coarser_of_native_and_limit(
    layout: ModelLayout, settings: TrainingSettings, spacing: list[float]
) -> None:
    np.testing.assert_allclose(planned(layout, settings)["spacing"], spacing)


def test_too_many_stages_for_a_patch_are_refused(layout: ModelLayout) -> None:
    with pytest.raises(UsageError, match="asks for 6 stages, but a patch of 40 x 40 x 40 voxels allows 4"):
        planned(layout, TrainingSettings(patch_size=(40, 40, 40), features=(4, 8, 16, 32, 64, 128)))


@pytest.mark.parametrize("choice", [{"features": (8,)}, {"patch_size": (4, 4, 4)}])
def test_a_network_of_one_stage_is_refused(layout: ModelLayout, choice: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="one stage"):
        planned(layout, TrainingSettings(**choice))


def test_only_changed_cases_are_preprocessed_again(layout: ModelLayout) -> None:
    planned(layout, preset_settings("tiny").training)
    cases = sorted(path.name[:-12] for path in layout.raw_images("Tr").glob("*_0000.nii.gz"))
    with nnunet_environment(layout):
        preprocess_cases(layout, dict.fromkeys(cases, "one"), processes=1)
        before = {path.name: path.stat().st_mtime_ns for path in layout.preprocessed_cases.iterdir()}
        (layout.preprocessed_cases / f"{cases[1]}.npz").unlink()
        preprocess_cases(layout, {cases[0]: "one", cases[1]: "one", cases[2]: "two"}, processes=1)
    after = {path.name: path.stat().st_mtime_ns for path in layout.preprocessed_cases.iterdir()}
    again = {name.split(".")[0].removesuffix("_seg") for name, when in after.items() if before.get(name) != when}
    assert again == {cases[1], cases[2]}
    assert not [name for name in after if name.startswith(cases[3])]


@pytest.fixture
def prepared(layout: ModelLayout) -> ModelLayout:
    """Four preprocessed cases, whole."""
    planned(layout, preset_settings("tiny").training)
    cases = sorted(path.name[:-12] for path in layout.raw_images("Tr").glob("*_0000.nii.gz"))
    with nnunet_environment(layout):
        preprocess_cases(layout, dict.fromkeys(cases, "one"), processes=1)
    return layout


def first_case(layout: ModelLayout) -> str:
    return sorted(path.stem for path in layout.preprocessed_cases.glob("*.npz"))[0]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_flipped_bit_in_any_file_of_a_case_has_it_preprocessed_again(prepared: ModelLayout, number: int) -> None:
    case = first_case(prepared)
    path = prepared.preprocessed_case(case)[number]
    whole = path.read_bytes()
    path.write_bytes(whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:])
    assert not is_whole(prepared, case, "one")
    others = {one: one.stat().st_mtime_ns for one in prepared.preprocessed_cases.iterdir() if case not in one.name}
    cases = {path.stem: "one" for path in prepared.preprocessed_cases.glob("*.npz")}
    with nnunet_environment(prepared):
        preprocess_cases(prepared, cases, processes=1)
    assert path.read_bytes() == whole
    assert {one: one.stat().st_mtime_ns for one in others} == others


def test_a_case_is_hashed_only_where_size_or_time_changed(prepared: ModelLayout) -> None:
    case = first_case(prepared)
    path = prepared.preprocessed_case(case)[0]
    whole, then = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(path, ns=(then, then))
    assert is_whole(prepared, case, "one")  # nobody looked inside
    path.write_bytes(whole[:-1])
    os.utime(path, ns=(then, then))
    assert not is_whole(prepared, case, "one")
    path.write_bytes(whole)
    os.utime(path, ns=(then + 1, then + 1))
    assert is_whole(prepared, case, "one")  # a copy: the hash tells
    assert not is_whole(prepared, case, "two")


def test_a_marker_of_hashes_alone_is_read(prepared: ModelLayout) -> None:
    case = first_case(prepared)
    marker = prepared.preprocessed_hashes / case
    lines = ["one", *(file_sha256(path) for path in prepared.preprocessed_case(case))]
    marker.write_text("\n".join(lines))
    assert is_whole(prepared, case, "one")
    marker.write_text("\n".join(lines[:-1]))
    assert not is_whole(prepared, case, "one")


def test_what_is_not_of_a_case_is_swept(prepared: ModelLayout) -> None:
    """Files of 0.1.0 (pickles among them), of killed runs, and of people who left."""
    folder, marked = prepared.preprocessed_cases, prepared.preprocessed_hashes
    for name in ("a.pkl", "a.b2nd", ".99.a.npy", "gone.npz"):
        (folder / name).write_bytes(b"x")
    (marked / "gone").write_bytes(b"\xff")
    (marked / first_case(prepared)).unlink()
    (marked / first_case(prepared)).mkdir()
    (marked / first_case(prepared)).rmdir()
    cases = {path.stem: "one" for path in folder.glob("*.npz") if path.stem != "gone"}
    with nnunet_environment(prepared):
        preprocess_cases(prepared, cases, processes=1)
    endings = (".npy", "_seg.npy", ".npz")
    assert {path.name for path in folder.iterdir()} == {case + ending for case in cases for ending in endings}
    assert {path.name for path in marked.iterdir()} == set(cases)


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> object:
        return Path.touch, (self.trace,)


def write_objects(path: Path, evil: Evil) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.array([[[[evil]]]], dtype=object), allow_pickle=True)


def write_pickle(path: Path, evil: Evil) -> None:
    path.write_bytes(pickle.dumps(evil))


def write_archive_of_objects(path: Path, evil: Evil) -> None:
    np.savez(path, **{"1": np.array([evil], dtype=object)})


def write_bomb(path: Path, _evil: Evil) -> None:
    np.savez_compressed(path, **{"1": np.zeros((10**6, 4), np.int32)})


def write_nowhere(path: Path, _evil: Evil) -> None:
    np.savez(path, **{"1": np.full((1, 4), 10**6, np.int32)})


def write_other_channels(path: Path, _evil: Evil) -> None:
    np.save(path, np.zeros((3, 5, 5, 5), np.float32))


def write_unknown_labels(path: Path, _evil: Evil) -> None:
    np.save(path, np.full(np.load(path).shape, 100, np.int8))


@pytest.mark.parametrize(
    ("number", "write"),
    [
        (0, write_objects),
        (0, write_pickle),
        (0, write_other_channels),
        (1, write_objects),
        (1, write_unknown_labels),
        (2, write_pickle),
        (2, write_archive_of_objects),
        (2, write_bomb),
        (2, write_nowhere),
    ],
)
def test_a_case_that_somebody_else_made_up_is_refused_and_runs_nothing(
    prepared: ModelLayout, tmp_path: Path, number: int, write: Callable[[Path, Evil], None]
) -> None:
    """Its marker says that it is whole: who writes the files can write that as well."""
    case = first_case(prepared)
    path = prepared.preprocessed_case(case)[number]
    whole = path.read_bytes()
    write(path, Evil(tmp_path / "trace"))
    write_marker(prepared, case, "one")
    assert is_whole(prepared, case, "one")
    try:
        with pytest.raises(BadDataError) as refusal:
            read_case(prepared, case, channels=1, largest_label=2)
        assert str(path.parent) in refusal.value.message
        assert "it is made anew" in refusal.value.hint
        assert not (tmp_path / "trace").exists()
    finally:
        path.write_bytes(whole)
        write_marker(prepared, case, "one")
    assert read_case(prepared, case, channels=1, largest_label=2)[0].dtype == np.float32


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plans: plans.clear(), "'3d_fullres' does not exist"),
        (lambda plans: plans.pop("transpose_forward"), "transpose_forward is missing"),
        (lambda plans: plans["configurations"].clear(), "'3d_fullres' does not exist"),
        (lambda plans: architecture(plans).update(network_class_name="evil.Network"), "network_class_name"),
        (lambda plans: architecture(plans)["_kw_requires_import"].append("antigravity"), "_kw_requires_import"),
        (lambda plans: architecture(plans)["arch_kwargs"].update(conv_op="os.system"), "conv_op"),
        (lambda plans: configuration(plans).update(preprocessor_name="Evil"), "preprocessor_name"),
        (lambda plans: plans.update(image_reader_writer="Evil"), "image_reader_writer"),
        (lambda plans: plans.update(dataset_name="Dataset002_Other"), "Dataset002_Other"),
        (lambda plans: configuration(plans).update(data_identifier="elsewhere"), "elsewhere"),
    ],
)
def test_plans_that_nnunet_did_not_make_are_refused(
    prepared: ModelLayout, change: Callable[[Any], object], said: str
) -> None:
    good = prepared.plans.read_text()
    plans = json.loads(good)
    change(plans)
    prepared.plans.write_text(json.dumps(plans))
    try:
        with pytest.raises(BadDataError) as refusal:
            read_plans(prepared)
    finally:
        prepared.plans.write_text(good)
    assert str(prepared.plans) in refusal.value.message
    assert said in refusal.value.message
    assert "--model-dir" in refusal.value.hint


def configuration(plans: Any) -> Any:
    return plans["configurations"]["3d_fullres"]


def architecture(plans: Any) -> Any:
    return configuration(plans)["architecture"]


def test_the_users_environment_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("nnUNet_raw", "/users/own")
    monkeypatch.setenv("nnUNet_compile", "f")
    before = dict(os.environ)
    with nnunet_environment(ModelLayout(tmp_path)):
        assert os.environ["nnUNet_raw"] == str(tmp_path / "nnunet" / "raw")
        assert "nnUNet_compile" not in os.environ
    assert dict(os.environ) == before


def test_labels_are_written_again_when_their_numbers_change(tmp_path: Path) -> None:
    """A first run that was aborted left raw labels; meanwhile the label table got a row before them."""
    pairs, layout = tmp_path / "pairs", ModelLayout(tmp_path / "model")
    pairs.mkdir()
    simulate_people(pairs, 1, 1, spacing_mm=1.0)
    checked = check_pairs(find_pairs(pairs))
    parts = Parts(checked.pairs[:1], checked.pairs[1:], ())
    label = layout.raw_labels("Tr") / f"{checked.pairs[0].case}.nii.gz"
    written = []
    for names in ({1: "A", 2: "B"}, {1: "A", 2: "B"}, {1: "A", 2: "B", 3: "C"}, {0: "Z", 1: "A", 2: "B"}):
        table = LabelTable(names)
        write_raw_dataset(layout, parts, checked.content, table, ("T1w",))
        written.append(set(np.unique(np.asarray(nib.load(label).dataobj)).tolist()))
    assert written == [{0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {0, 2, 3}]
