"""data/v1 was made with the code of nnU-Net 1.7.1 by tools/make_v1_model.py."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bidsapp.errors import BadDataError, HippoTuneError, NoInputError, UsageError
from bidsapp.exchange.convert_v1 import convert_v1
from bidsapp.exchange.loading import load_model
from bidsapp.exchange.unpickling import plain, read_pickle

DATA = Path(__file__).parents[1] / "models" / "data" / "v1"
MODEL = "nnUNetTrainerV2__nnUNetPlansv2.1"
TASK = "Task101_hcp1200_T1w"
CHECKPOINT = "fold_0/model_best.model"
TISSUES = ["GM", "SRLM", "MTLC", "Pial", "HATA", "IndGris", "Cyst", "DG"]


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    """A copy in HippUnfold's layout; the folder with plans.pkl."""
    folder = tmp_path / "trained_model.3d_fullres" / TASK / MODEL
    shutil.copytree(DATA / MODEL, folder)
    return folder


def change_plans(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the trusted plans of the test's own model."""
    for path in (folder / "plans.pkl", folder / f"{CHECKPOINT}.pkl"):
        found = pickle.loads(path.read_bytes())
        change(found.get("plans", found))
        path.write_bytes(pickle.dumps(found, protocol=4))


def change_stage(folder: Path, **values: object) -> None:
    change_plans(folder, lambda plans: plans["plans_per_stage"][0].update(values))


def answers(model: Any, patch: np.ndarray) -> list[np.ndarray]:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    architecture = model.plans["configurations"]["3d_fullres"]["architecture"]
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        len(model.channels),
        len(model.labels) + 1,
        deep_supervision=True,
    )
    network.load_state_dict(model.weights[0])
    with torch.no_grad():
        return [head.numpy() for head in network.eval()(torch.from_numpy(patch))]


def test_the_converted_network_answers_as_v1_did(tmp_path: Path) -> None:
    report = convert_v1(DATA, tmp_path / "new.zip")
    expected = np.load(DATA / "answers.npz")
    heads = answers(load_model(report.destination), expected["patch"])
    assert len(heads) == 3
    for number, head in enumerate(heads):
        wanted = expected[f"head_{number}"]
        assert wanted.std() > 0.1
        np.testing.assert_allclose(head, wanted, rtol=0, atol=1e-4)


def test_plans_and_names_are_those_of_v1(v1: Path, tmp_path: Path) -> None:
    report = convert_v1(v1.parents[1], tmp_path / "new.zip")
    model = load_model(tmp_path / "new.zip")
    fullres = model.plans["configurations"]["3d_fullres"]
    assert fullres["patch_size"] == [8, 16, 24]
    assert fullres["spacing"] == [0.4, 0.3, 0.3]
    assert fullres["normalization_schemes"] == ["ZScoreNormalization"]
    assert fullres["use_mask_for_norm"] == [False]
    assert fullres["architecture"]["arch_kwargs"]["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2], [1, 2, 2]]
    assert fullres["architecture"]["arch_kwargs"]["features_per_stage"] == [2, 4, 8, 16]
    assert model.plans["transpose_forward"] == [2, 0, 1]
    assert model.plans["transpose_backward"] == [1, 2, 0]
    assert model.mirroring_axes == report.mirroring_axes == (0, 1, 2)
    assert list(model.labels.values()) == list(report.labels.values()) == TISSUES
    assert model.channels == report.channels == ("T1w",)
    assert report.task == TASK
    assert TASK in report.labels_from
    assert report.digest == model.digest
    assert model.name == "hcp1200T1w"
    said = "\n".join(report.lines)
    assert "v1 resamples, then normalises" in said and "fold_0 -> fold_0" in said and "1 GM" in said


def test_nothing_but_the_model_is_in_the_export(v1: Path, tmp_path: Path) -> None:
    convert_v1(v1, tmp_path / "new.zip")
    with zipfile.ZipFile(tmp_path / "new.zip") as archive:
        manifest = json.loads(archive.read(next(name for name in archive.namelist() if "hippotune.json" in name)))
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert manifest["converted_from"]["task"] == TASK
    assert str(tmp_path).encode() not in content and b"cropped/" not in content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.zip", "trained_model.3d_fullres"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "zip"])
def test_archives_are_read(v1: Path, tmp_path: Path, mode: str) -> None:
    packed = tmp_path / "model.packed"
    if mode == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            for path in sorted(v1.parents[1].rglob("*")):
                archive.write(path, path.relative_to(tmp_path))
    else:
        with tarfile.open(packed, mode) as tar:  # type: ignore[call-overload]
            tar.add(v1.parents[1], "trained_model.3d_fullres")
    report = convert_v1(packed, tmp_path / "new.zip")
    assert report.digest == convert_v1(v1, tmp_path / "other.zip").digest
    assert report.task == TASK


def test_torch_before_1_6_saved_without_a_container(v1: Path, tmp_path: Path) -> None:
    digest = convert_v1(v1, tmp_path / "new.zip").digest
    checkpoint = torch.load(v1 / CHECKPOINT, weights_only=False)
    weights = OrderedDict((f"module.{name}", tensor) for name, tensor in checkpoint["state_dict"].items())
    torch.save(checkpoint | {"state_dict": weights}, v1 / CHECKPOINT, _use_new_zipfile_serialization=False)
    assert convert_v1(v1, tmp_path / "old.zip").digest == digest
    (v1 / CHECKPOINT).write_bytes((v1 / CHECKPOINT).read_bytes()[:-1000])
    with pytest.raises(BadDataError, match="cannot be loaded as tensors only"):
        convert_v1(v1, tmp_path / "cut.zip")


def test_an_old_checkpoint_that_declares_more_than_it_holds_is_refused(v1: Path, tmp_path: Path) -> None:
    written = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(123_456)}}, written, _use_new_zipfile_serialization=False)
    size = b"J" + (123_456).to_bytes(4, "little")
    assert size in written.getvalue()
    for declared in (b"J" + (2**31 - 1).to_bytes(4, "little"), b"\x8a\x06" + (2**44).to_bytes(6, "little")):
        (v1 / CHECKPOINT).write_bytes(written.getvalue().replace(size, declared))
        with pytest.raises(BadDataError, match="tensors only"):
            convert_v1(v1, tmp_path / "new.zip")


def test_all_folds_of_one_checkpoint_are_converted(v1: Path, tmp_path: Path) -> None:
    shutil.copytree(v1 / "fold_0", v1 / "fold_2")
    shutil.copytree(v1 / "fold_0", v1 / "all")
    report = convert_v1(v1, tmp_path / "new.zip")
    assert report.folds == ("fold_0", "fold_2") and report.left_out == ("all",)
    assert len(load_model(tmp_path / "new.zip").weights) == 2


def test_names_can_be_given(v1: Path, tmp_path: Path) -> None:
    labels = {value: f"tissue {value}" for value in range(1, 9)}
    report = convert_v1(v1, tmp_path / "new.zip", name="Mine", labels=labels, channels=["T2w"])
    assert report.labels == labels and report.labels_from == "as given"
    assert load_model(tmp_path / "new.zip").channels == ("T2w",)
    assert report.dataset.endswith("_Mine")


def test_without_hippunfolds_name_labels_are_numbers(v1: Path, tmp_path: Path) -> None:
    shutil.move(v1.parent, v1.parent.with_name("Task501_Ours"))
    report = convert_v1(v1.parents[1], tmp_path / "new.zip")
    assert report.labels[8] == "label-8" and report.channels == ("T1",)


@pytest.mark.parametrize(
    "names",
    [
        {"name": "a/b"},
        {"labels": {1: "only"}},
        {"labels": dict.fromkeys(range(1, 9), "same")},
        {"channels": ["a", "b"]},
    ],
)
def test_names_that_do_not_fit_are_refused(v1: Path, tmp_path: Path, names: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        convert_v1(v1, tmp_path / "new.zip", **names)


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> Any:
        return self.parts


def attacks(victim: Path) -> dict[str, object]:
    touch = f"touch {victim}"
    return {
        "posix.system": Call(os.system, touch),
        "builtins.eval": Call(eval, f"open({str(victim)!r}, 'w')"),
        "builtins.getattr": Call(getattr, Call(__import__, "os"), "system"),
        "builtins.exec": OrderedDict(inner=[{"deep": (Call(exec, f"open({str(victim)!r}, 'w')"),)}]),
        "numpy.load": Call(np.load, str(victim)),
        "pathlib": victim,
    }


@pytest.mark.parametrize("file", ["plans.pkl", f"{CHECKPOINT}.pkl", CHECKPOINT])
@pytest.mark.parametrize("attack", list(attacks(Path())))
def test_what_would_run_code_is_refused(v1: Path, tmp_path: Path, file: str, attack: str) -> None:
    victim = tmp_path / "victim"
    content = attacks(victim)[attack]
    if file == CHECKPOINT:
        torch.save({"state_dict": {"a": torch.zeros(1)}, "best_stuff": content}, v1 / file)
    else:
        found = pickle.loads((v1 / file).read_bytes())
        (v1 / file).write_bytes(pickle.dumps({"first": content} | found))
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(BadDataError, match="tensors only" if file == CHECKPOINT else attack) as caught:
        convert_v1(v1, tmp_path / "new.zip")
    assert caught.value.exit_code == 65
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (b"cos\nsystem\n(S'touch victim'\ntR.", "os.system"),
        (b"(S'touch victim'\nios\nsystem\n.", "STRING"),
        (b"(ios\nsystem\n.", "instruction INST"),
        (b"ccollections\nOrderedDict.__init__\n.", "OrderedDict.__init__"),
        (b"ccollections\nOrderedDict\n}}\x86b.", "sets attributes of a _Function"),
        (b"ccollections\nOrderedDict\n)\x81.", "instruction NEWOBJ"),
        (b"cnumpy\nndarray\n(I9999999999999\ntR.", "calls ARRAY"),
        (b"\x82\x01.", "instruction EXT1"),
        (b"Vid\nQ.", "instruction BINPERSID"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.", "instruction BYTEARRAY8"),
        (b"}()" + b"\x85" * 9 + b"Nu.", "has a tuple as a key"),
        (b"}", "cut off"),
        (b"", "cut off"),
        (b"not a pickle", "damaged|instruction"),
    ],
)
def test_hand_written_programs_are_refused(program: bytes, reason: str) -> None:
    with pytest.raises(BadDataError, match=reason):
        read_pickle(program, "plans.pkl")


def test_far_memo_entries_take_no_memory() -> None:
    assert read_pickle(b"}r\xff\xff\xff\xff.", "plans.pkl") == {}


@pytest.mark.parametrize("core", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_numbers_of_numpy_1_and_2_are_read(core: bytes) -> None:
    content = {
        "array": np.array([[1, 2], [3, 4]], order="F"),
        "one": np.float32(0.5),
        "yes": np.bool_(True),
        "no": None,
    }
    written = pickle.dumps(content, protocol=3).replace(b"numpy._core.multiarray", core)
    assert plain(read_pickle(written, "plans.pkl")) == {"array": [[1, 2], [3, 4]], "one": 0.5, "yes": True, "no": None}


def test_large_and_strange_values_are_not_looked_into() -> None:
    bomb: list[object] = [0] * 100
    for _ in range(5):
        bomb = [bomb] * 100
    loop: list[object] = []
    loop.append(loop)
    for value in (bomb, loop, np.zeros(5000), np.array(["text"]), b"bytes"):
        held = read_pickle(pickle.dumps(value, protocol=4), "plans.pkl")
        with pytest.raises(ValueError, match="it "):
            plain(held)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"conv_kernel_sizes": [[1, 3, 3], *[[3, 3, 3]] * 3]}, r"kernels of \[1, 3, 3\].*only kernels of"),
        ({"conv_kernel_sizes": [[3, 3, 3]] * 3}, "do not fit each other"),
        ({"patch_size": np.array([64, 64])}, "2D network"),
        ({"patch_size": np.array([10**9] * 3)}, "patch_size"),
        ({"pool_op_kernel_sizes": [[2, 2, 2]] * 3}, "do not fit the network"),
        ({"current_spacing": np.array([0.0, 1, 1])}, "spacing"),
    ],
)
def test_networks_that_v2_does_not_have_are_refused(
    v1: Path, tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    change_stage(v1, **values)
    with pytest.raises(BadDataError, match=reason):
        convert_v1(v1, tmp_path / "new.zip")
    assert not (tmp_path / "new.zip").exists()


def test_other_trainers_images_and_widths_are_refused(v1: Path, tmp_path: Path) -> None:
    change_plans(v1, lambda plans: plans.update(base_num_features=4))
    with pytest.raises(BadDataError, match="do not fit the network"):
        convert_v1(v1, tmp_path / "new.zip")
    change_plans(v1, lambda plans: plans.update(normalization_schemes={0: "CT"}))
    with pytest.raises(BadDataError, match=r"normalization_schemes\.0 is 'CT'"):
        convert_v1(v1, tmp_path / "new.zip")
    info = pickle.loads((v1 / f"{CHECKPOINT}.pkl").read_bytes())
    (v1 / f"{CHECKPOINT}.pkl").write_bytes(pickle.dumps(info | {"name": "nnUNetTrainerV2_ReLU"}))
    with pytest.raises(BadDataError, match="nnUNetTrainerV2_ReLU"):
        convert_v1(v1, tmp_path / "new.zip")


@pytest.mark.parametrize("file", ["plans.pkl", f"{CHECKPOINT}.pkl", CHECKPOINT])
def test_what_is_missing_is_named(v1: Path, tmp_path: Path, file: str) -> None:
    (v1 / file).unlink()
    with pytest.raises(NoInputError, match=Path(file).name):
        convert_v1(v1, tmp_path / "new.zip")
    with tarfile.open(tmp_path / "model.tar", "w") as tar:
        tar.add(v1, MODEL)
    with pytest.raises(BadDataError, match=Path(file).name):
        convert_v1(tmp_path / "model.tar", tmp_path / "new.zip")


@pytest.mark.parametrize("file", ["plans.pkl", f"{CHECKPOINT}.pkl", CHECKPOINT])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_what_is_cut_off_is_refused(v1: Path, tmp_path: Path, file: str, part: float) -> None:
    content = (v1 / file).read_bytes()
    (v1 / file).write_bytes(content[: int(part * len(content))])
    with pytest.raises(BadDataError, match=Path(file).name):
        convert_v1(v1, tmp_path / "new.zip")
    assert not (tmp_path / "new.zip").exists()


def test_pickles_that_differ_are_said(v1: Path, tmp_path: Path) -> None:
    plans = pickle.loads((v1 / "plans.pkl").read_bytes())
    plans["plans_per_stage"][0]["patch_size"] = np.array([16, 16, 16])
    (v1 / "plans.pkl").write_bytes(pickle.dumps(plans, protocol=4))
    report = convert_v1(v1, tmp_path / "new.zip")
    assert any("plans.pkl differs" in line for line in report.lines)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no model")
    for source in (tmp_path / "text.tar", tmp_path / "nowhere", tmp_path):
        with pytest.raises(HippoTuneError):
            convert_v1(source, tmp_path / "new.zip")
