"""Models of every packing load, and predict the same."""

from __future__ import annotations

import json
import logging
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.exchange.loading import LoadedModel, load_model
from bidsapp.layout import ModelLayout
from bidsapp.prediction import Predictor
from tests.tiny_model import Export, Exported, Json, random_weights, tiny_dataset, tiny_plans

TRAINER = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def predict(model: LoadedModel) -> np.ndarray:
    image = np.random.default_rng(0).normal(size=(1, 18, 20, 22)).astype(np.float32)
    return Predictor(model, torch.device("cpu"), cores=1).predict_array(image, (1.0, 1.0, 1.2))


def hippunfold_tar(model: Exported, archive: Path, *, folds: int = 1) -> Path:
    """What HippUnfold's rule unpacks: no final checkpoint."""
    mode = {".gz": "w:gz", ".xz": "w:xz", ".tar": "w"}[archive.suffix]
    root = f"./nnunet_v2/Dataset302_dhcp_T2w/{TRAINER}"
    with tarfile.open(archive, mode) as packed:  # type: ignore[call-overload]
        for fold in range(folds):
            packed.add(model.folder / "fold_0/checkpoint_final.pth", f"{root}/fold_{fold}/checkpoint_best.pth")
        packed.add(model.folder / "dataset.json", f"{root}/dataset.json")
        packed.add(model.folder / "plans.json", f"{root}/plans.json")
    return archive


def plain_folder(model: Exported, results: Path, *, configuration: str = "3d_fullres", folds: int = 1) -> Path:
    """A results folder of nnU-Net: no manifest, and what else a training leaves there."""
    folder = results / "Dataset007_Hippocampus" / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    for fold in range(folds):
        shutil.copytree(model.folder / "fold_0", folder / f"fold_{fold}")
        (folder / f"fold_{fold}" / "progress.png").write_bytes(b"png")
        (folder / f"fold_{fold}" / "validation").mkdir()
        (folder / f"fold_{fold}" / "validation" / "summary.json").write_text("{}")
    for name in ("plans.json", "dataset.json"):
        shutil.copy(model.folder / name, folder)
    (folder / "dataset_fingerprint.json").write_text("{}")
    return folder


def test_every_packing_is_the_same_model_and_predicts_the_same(export: Export, tmp_path: Path) -> None:
    model = export()
    results = plain_folder(model, tmp_path / "results")
    model_dir = tmp_path / "models" / "default"
    shutil.copytree(model.folder.parent.parent, tmp_path / "elsewhere")
    ModelLayout(model_dir).export.mkdir(parents=True)
    shutil.copy(model.archive, ModelLayout(model_dir).current_export)
    beside = tmp_path / "beside"
    shutil.copytree(model.folder, beside)
    (beside / "fold_0" / "checkpoint_final.pth").rename(beside / "any name.pth")
    paths = [
        model.archive,
        model.folder,
        model.dataset,
        model_dir,
        results,
        results.parent,
        results.parent.parent,
        results / "fold_0" / "checkpoint_final.pth",
        model.folder / "fold_0" / "checkpoint_final.pth",
        beside / "any name.pth",
        *(hippotune for hippotune in (tmp_path / "elsewhere").iterdir()),
        *(hippunfold_tar(model, tmp_path / f"model.{suffix}") for suffix in ("tar", "tar.gz", "tar.xz")),
    ]
    expected = load_model(model.archive)
    segmentation = predict(expected)
    assert segmentation.shape == (18, 20, 22)
    assert len(np.unique(segmentation)) > 1
    for path in paths:
        loaded = load_model(path)
        assert loaded.digest == expected.digest, path
        assert loaded.plans == expected.plans
        np.testing.assert_array_equal(predict(loaded), segmentation, err_msg=str(path))


def test_what_is_known_of_a_model(export: Export) -> None:
    model = export()
    loaded = load_model(model.archive)
    assert (loaded.name, loaded.channels, loaded.reader) == ("tiny", ("T1w",), "SimpleITKIO")
    assert loaded.labels == {1: "Anterior", 2: "Corps d'Ammon – 海馬"}
    assert (loaded.configuration, loaded.mirroring_axes, loaded.source) == ("3d_fullres", None, model.archive)


def test_the_digest_tells_models_apart(export: Export) -> None:
    dataset = tiny_dataset() | {"channel_names": {"0": "T2w"}}
    others: list[Json] = [{}, {"weights": random_weights(tiny_plans(), 2)}, {"dataset": dataset}]
    digests = {load_model(export(**other).archive).digest for other in others}
    assert len(digests) == 3


def test_the_export_zip_of_nnunet_itself(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = export()
    plain_folder(model, tmp_path / "results", folds=2)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    from nnunetv2.model_sharing.model_export import export_pretrained_model

    archive = tmp_path / "theirs.zip"
    export_pretrained_model("Dataset007_Hippocampus", str(archive), ("3d_fullres",), folds=(0, 1))
    loaded = load_model(archive)
    assert len(loaded.weights) == 2
    np.testing.assert_array_equal(predict(loaded), predict(load_model(model.archive)))


def test_a_checkpoint_as_nnunet_saves_it(export: Export, tmp_path: Path) -> None:
    """With optimizer, NumPy numbers, nested plans and a device, none of which needs unpickling."""
    folder = plain_folder(export(), tmp_path / "results")
    path = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint |= {
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "dice_per_class_or_region": [[np.float64(1)]]},
        "_best_ema": np.float64(0.5),
        "init_args": {"configuration": "3d_fullres", "plans": tiny_plans(), "device": torch.device("cuda")},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, path)
    assert load_model(folder).mirroring_axes == (0, 1, 2)


def test_two_folds_are_an_ensemble(export: Export, tmp_path: Path) -> None:
    first, second = random_weights(tiny_plans(), 1), random_weights(tiny_plans(), 2)
    folder = plain_folder(export(weights=first), tmp_path / "results", folds=2)
    shutil.copy(export(weights=second).folder / "fold_0" / "checkpoint_final.pth", folder / "fold_1")
    both = load_model(folder)
    assert len(both.weights) == 2
    one, two = (predict(replace(both, weights=(weights,))) for weights in both.weights)
    ensemble = predict(both)
    assert not np.array_equal(one, two)
    agree = one == two
    np.testing.assert_array_equal(ensemble[agree], one[agree])


def test_final_is_taken_before_best_and_best_when_asked_for(
    export: Export, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = plain_folder(export(), tmp_path / "results", folds=2)
    best = export(weights=random_weights(tiny_plans(), 2)).folder / "fold_0" / "checkpoint_final.pth"
    for fold in ("fold_0", "fold_1"):
        shutil.copy(best, folder / fold / "checkpoint_best.pth")
    final_digest, best_digest = load_model(folder).digest, load_model(folder, checkpoint="checkpoint_best").digest
    assert final_digest != best_digest
    assert load_model(folder, checkpoint="checkpoint_best.pth").digest == best_digest
    (folder / "fold_1" / "checkpoint_final.pth").unlink()
    assert len(load_model(folder).weights) == 1
    assert "no checkpoint_final in fold_1, which is left out" in caplog.text
    (folder / "fold_0" / "checkpoint_final.pth").unlink()
    with caplog.at_level(logging.INFO):
        assert load_model(folder).digest == best_digest
    assert "using checkpoint_best of fold_0, fold_1" in caplog.text
    with pytest.raises(NoInputError, match="has no checkpoint_latest; it has checkpoint_best"):
        load_model(folder, checkpoint="checkpoint_latest")


def test_of_several_configurations_the_full_resolution_is_taken(
    export: Export, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = export()
    fullres = plain_folder(model, tmp_path / "results")
    plain_folder(model, tmp_path / "results", configuration="2d")
    with caplog.at_level(logging.INFO):
        assert load_model(tmp_path / "results").digest == load_model(fullres).digest
    assert "3d_fullres of 2 models" in caplog.text


def test_several_models_are_listed(export: Export, tmp_path: Path) -> None:
    model = export()
    results = tmp_path / "results"
    shutil.copytree(plain_folder(model, results).parent, results / "Dataset008_Other")
    with pytest.raises(UsageError, match=r"2 models: Dataset007_Hippocampus/.*, Dataset008_Other/") as error:
        load_model(results)
    assert "Name the folder of one" in error.value.hint
    archive = Path(shutil.make_archive(str(tmp_path / "both"), "zip", results))
    with pytest.raises(BadDataError, match=r"2 models: Dataset007_Hippocampus/.*, Dataset008_Other/"):
        load_model(archive)


def test_plans_of_before_the_architecture_was_spelled_out(export: Export, tmp_path: Path) -> None:
    """nnU-Net up to 2.2; HippUnfold's models may be as old."""
    folder = plain_folder(export(), tmp_path / "results")
    plans = tiny_plans()
    configuration = plans["configurations"]["3d_fullres"]
    arguments = configuration.pop("architecture")["arch_kwargs"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 8,
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "num_pool_per_axis": [1, 1, 1],
        "pool_op_kernel_sizes": arguments["strides"],
        "conv_kernel_sizes": arguments["kernel_sizes"],
    }
    plans["configurations"] = {
        "base": configuration | {"batch_size": 9},
        "3d_fullres": {"inherits_from": "base", "batch_size": 2},
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    loaded = load_model(folder)
    assert loaded.plans["configurations"] == tiny_plans()["configurations"]
    np.testing.assert_array_equal(predict(loaded), predict(load_model(export().archive)))


def test_residual_networks(export: Export) -> None:
    plans = tiny_plans(residual=True)
    loaded = load_model(export(plans, weights=random_weights(plans, 1)).archive)
    assert predict(loaded).shape == (18, 20, 22)


def test_an_ignore_label_has_no_output_and_is_left_out(export: Export) -> None:
    dataset = tiny_dataset()
    dataset["labels"]["ignore"] = 3
    loaded = load_model(export(dataset=dataset).archive)
    assert loaded.labels == {1: "Anterior", 2: "Corps d'Ammon – 海馬"}
    assert set(np.unique(predict(loaded))) <= {0, 1, 2}


def test_a_reader_that_turns_voxels_turns_arrays_too(export: Export) -> None:
    plain, turned = (
        load_model(export(tiny_plans() | {"image_reader_writer": reader}).archive)
        for reader in ("NibabelIO", "NibabelIOWithReorient")
    )
    image = np.random.default_rng(0).normal(size=(1, 18, 20, 22)).astype(np.float32)
    spacing = (1.0, 1.0, 1.0)
    np.testing.assert_array_equal(
        Predictor(turned, torch.device("cpu"), cores=1).predict_array(image[:, ::-1], spacing)[::-1],
        Predictor(plain, torch.device("cpu"), cores=1).predict_array(image, spacing),
    )


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"])
def test_arrays_are_fed_as_the_reader_feeds_files(export: Export, tmp_path: Path, reader: str) -> None:
    """A crop of the right side lies in its file as LAS; label maps of file and array agree voxel by voxel."""
    import nibabel as nib

    array = np.random.default_rng(0).normal(size=(18, 20, 22)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1.0, 1.2, 1.0])), tmp_path / "crop_0000.nii.gz")
    model = load_model(export(tiny_plans() | {"image_reader_writer": reader}).archive)
    predictor = Predictor(model, torch.device("cpu"), cores=1)
    predictor.predict_files([tmp_path / "crop_0000.nii.gz"], tmp_path / "crop_dseg.nii.gz")
    from_file = np.asarray(nib.load(tmp_path / "crop_dseg.nii.gz").dataobj)
    np.testing.assert_array_equal(predictor.predict_array(array[None], (1.0, 1.0, 1.2)), from_file)


def _nothing(tmp_path: Path) -> Path:
    return tmp_path / "no such model.zip"


def _empty_folder(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def _model_dir_in_training(tmp_path: Path) -> Path:
    (tmp_path / "state.json").write_text("{}")
    return tmp_path


def _checkpoint_alone(tmp_path: Path) -> Path:
    (tmp_path / "checkpoint_final.pth").write_bytes(b"PK\x03\x04")
    return tmp_path / "checkpoint_final.pth"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_nothing, "does not exist"),
        (_empty_folder, "holds no nnU-Net v2 model"),
        (_model_dir_in_training, "has no exported model yet"),
        (_checkpoint_alone, "has no plans.json beside it or one folder above"),
    ],
)
def test_a_missing_model_is_no_input(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match=message) as error:
        load_model(make(tmp_path))
    assert "results folder of nnU-Net v2" in error.value.hint


def test_a_model_of_nnunet_v1_is_named_as_such(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "v1.zip", "w") as packed:
        packed.writestr("3d_fullres/Task101/nnUNetTrainerV2__nnUNetPlansv2.1/plans.pkl", b"")
    with pytest.raises(BadDataError, match="nnU-Net v1") as error:
        load_model(tmp_path / "v1.zip")
    assert "convert-v1" in error.value.hint


@pytest.mark.parametrize("below", [".", "nnUNetTrainerV2__nnUNetPlansv2.1", "3d_fullres/Task101_X/nnUNetTrainerV2"])
def test_a_folder_of_nnunet_v1_is_named_as_such(tmp_path: Path, below: str) -> None:
    trained = Path(__file__).parents[1] / "models" / "data" / "v1" / "nnUNetTrainerV2__nnUNetPlansv2.1"
    folder = tmp_path / "v1 model"
    shutil.copytree(trained, folder / below)
    for asked in (folder, folder / below / "fold_0" / "model_best.pth"):
        if asked != folder:
            (folder / below / "fold_0" / "model_best.model").rename(asked)
        with pytest.raises(BadDataError, match="nnU-Net v1") as error:
            load_model(asked)
        named = folder if asked == folder else folder / below
        assert f"hippotune-models convert-v1 '{named}' NEW.zip" in error.value.hint


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module.", "module._orig_mod."])
def test_the_names_of_torchs_wrappers_are_understood(export: Export, tmp_path: Path, wrapper: str) -> None:
    weights = random_weights(tiny_plans(), 1)
    wrapped = load_model(export(weights={wrapper + name: one for name, one in weights.items()}).archive)
    plain = load_model(export(weights=weights).archive)
    assert wrapped.digest == plain.digest
    np.testing.assert_array_equal(predict(wrapped), predict(plain))


def test_a_weight_that_is_there_with_and_without_a_wrapper_is_refused(export: Export) -> None:
    weights = random_weights(tiny_plans(), 1)
    name = next(iter(weights))
    with pytest.raises(BadDataError, match="is not of the network"):
        load_model(export(weights=weights | {f"module.{name}": weights[name] + 1}).archive)
