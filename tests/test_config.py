from __future__ import annotations

from pathlib import Path

import pytest

from bidsapp import config
from bidsapp.config import PRESETS, Settings, preset_settings
from bidsapp.errors import BadDataError, UsageError


@pytest.mark.parametrize("preset", PRESETS)
def test_a_written_config_reads_back_the_same(preset: str, tmp_path: Path) -> None:
    settings = preset_settings(preset)
    config.write_config(tmp_path / "config.ini", settings)
    assert config.read_config(tmp_path / "config.ini") == settings


def test_every_setting_is_explained(tmp_path: Path) -> None:
    config.write_config(tmp_path / "config.ini", Settings())
    lines = (tmp_path / "config.ini").read_text().splitlines()
    for name in config.setting_names():
        line = next(index for index, line in enumerate(lines) if line.startswith(name.partition(".")[2] + " ="))
        assert lines[line - 1].startswith("# ")


def test_an_edit_with_comments_keeps_its_meaning(tmp_path: Path) -> None:
    path = tmp_path / "config.ini"
    path.write_text("[training]\niterations = 2,000  # shorter\npatch_size = 64, 64 64\n[loss]\nname = dice\n")
    settings = config.read_config(path)
    assert settings.training.iterations == 2000
    assert settings.training.patch_size == (64, 64, 64)
    assert settings.loss.name == "dice"
    assert settings.optimizer == Settings().optimizer


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[training]\nseed = 1\niteration = 5\n", 3, "did you mean 'training.iterations'?"),
        ("[training]\n# longer\niterations = many\n", 3, "training.iterations = 'many' does not fit"),
        ("[loss]\nname = focal\n", 2, "loss.name = 'focal' does not fit"),
        ("[augmentation]\n\nrotation_degrees = 30 -30\n", 3, "augmentation.rotation_degrees"),
        ("[augmentation]\nfield_of_view_cut = 0.2 1.5\n", 2, "augmentation.field_of_view_cut"),
        ("[training]\npatch_size = 64 64\n", 2, "training.patch_size"),
        ("[split]\ntest_fraction = nan\n", 2, "split.test_fraction"),
        ("[los]\nname = dice\n", 2, "there is no setting 'los.name'"),
    ],
)
def test_errors_name_file_and_line(text: str, line: int, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "config.ini"
    path.write_text(text)
    with pytest.raises(BadDataError) as caught:
        config.read_config(path)
    assert f"{path}, line {line}: " in caught.value.message
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("training.iterations=1,000", 1000),
        ("training.iterations=1,000,000", 1_000_000),
        ("training.patch_size=40,56,40", (40, 56, 40)),
        ("training.features=8,16", (8, 16)),
        ("augmentation.gamma=0.7, 1.5", (0.7, 1.5)),
        ("augmentation.gamma=0.7,1.5", (0.7, 1.5)),
        ("augmentation.rotation_degrees=-10, 10", (-10, 10)),
    ],
)
def test_commas_that_mean_one_thing_are_taken(text: str, taken: object) -> None:
    overrides = config.parse_assignments([text])
    settings = config.apply_overrides(Settings(), overrides, source="--set")
    assert config.as_overrides(settings)[next(iter(overrides))] == config.format_value(taken)


@pytest.mark.parametrize(
    "text",
    [
        "training.batch_size=2,5",
        "training.iterations=1,5",
        "training.iterations=1,50",
        "training.iterations=,100",
        "training.iterations=1000,000",
        "training.iterations=1.000,000",
        "optimizer.learning_rate=0,01",
        "training.min_spacing_mm=0,9",
        "augmentation.gamma=0,7 1,5",
        "augmentation.rotation_degrees=0,5",
        "training.spacing_mm=0,3 0,3 0,3",
        "training.features=2,5 3,5",
    ],
)
def test_decimal_commas_are_refused_by_name(text: str) -> None:
    name, _, value = text.partition("=")
    with pytest.raises(UsageError) as caught:
        config.apply_overrides(Settings(), {name: value}, source="--set")
    assert f"{name} = {value!r}" in caught.value.message
    assert "decimals have a point" in caught.value.hint


@pytest.mark.parametrize("text", ["0.3 0.3 0.04", "0.3 0.3 10.1", "300 300 300", "inf 1 1", "nan 1 1", "1 1"])
def test_voxels_that_no_export_could_hold_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.apply_overrides(Settings(), {"training.spacing_mm": text}, source="--set")
    assert text in caught.value.message
    assert "three voxel sizes in mm (x y z), from 0.05 to 10" in caught.value.hint


def test_assignments_win_and_name_their_source() -> None:
    overrides = config.parse_assignments(["loss.name=dice", "training.seed = 7"])
    settings = config.apply_overrides(Settings(), overrides, source="--set")
    assert (settings.loss.name, settings.training.seed) == ("dice", 7)
    with pytest.raises(UsageError, match=r"^--set: optimizer\.momentum = '2'"):
        config.apply_overrides(Settings(), {"optimizer.momentum": "2"}, source="--set")
    with pytest.raises(UsageError, match="no '='"):
        config.parse_assignments(["loss.name"])


def test_differing_settings_are_listed_with_both_values() -> None:
    tiny = preset_settings("tiny")
    assert config.differing(Settings(), tiny)["training.features"] == ("auto", "8 16 32 64")
    assert config.differing(tiny, tiny) == {}


def test_what_fixes_a_model_exists() -> None:
    assert set(config.FIXED_BY_THE_MODEL) <= set(config.setting_names())
