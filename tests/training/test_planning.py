"""Our in-process fingerprint and plans against nnU-Net's own."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.config import TrainingSettings, preset_settings
from bidsapp.errors import UsageError
from bidsapp.layout import DATASET, ModelLayout
from bidsapp.records import LabelTable
from bidsapp.training.check_pairs import check_pairs
from bidsapp.training.dataset import Parts, write_raw_dataset
from bidsapp.training.environment import nnunet_environment, prints_to_log
from bidsapp.training.pairs import find_pairs
from bidsapp.training.planning import extract_fingerprint, make_plans, preprocess_cases
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


def test_only_changed_cases_are_preprocessed_again(layout: ModelLayout) -> None:
    planned(layout, preset_settings("tiny").training)
    cases = sorted(path.name[:-12] for path in layout.raw_images("Tr").glob("*_0000.nii.gz"))
    with nnunet_environment(layout):
        preprocess_cases(layout, dict.fromkeys(cases, "one"), processes=1)
        before = {path.name: path.stat().st_mtime_ns for path in layout.preprocessed_cases.iterdir()}
        (layout.preprocessed_cases / f"{cases[1]}.pkl").unlink()
        preprocess_cases(layout, {cases[0]: "one", cases[1]: "one", cases[2]: "two"}, processes=1)
    after = {path.name: path.stat().st_mtime_ns for path in layout.preprocessed_cases.iterdir()}
    again = {name.split(".")[0].removesuffix("_seg") for name, when in after.items() if before.get(name) != when}
    assert again == {cases[1], cases[2]}
    assert not [name for name in after if name.startswith(cases[3])]


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
