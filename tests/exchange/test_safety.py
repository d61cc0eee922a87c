"""Malicious and damaged models are refused with exit code 65; nothing is executed and nothing is written."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bidsapp.errors import BadDataError
from bidsapp.exchange import archives, weights
from bidsapp.exchange.loading import load_model
from tests.tiny_model import Export, Exported, Json, random_weights, tiny_dataset, tiny_plans

TRAINER = "nnUNetTrainer__nnUNetPlans__3d_fullres"
ROOT = f"Dataset001_Evil/{TRAINER}"
CANARY = "canary"

Files = dict[str, bytes]


@pytest.fixture
def files(export: Export) -> Files:
    """A good model without a manifest, to be spoiled."""
    folder = export().folder
    names = ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth")
    return {f"{ROOT}/{name}": (folder / name).read_bytes() for name in names}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the model lies and the process works; what is there must stay as it is."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    yield folder


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


def refused(path: Path, message: str) -> BadDataError:
    """`path` is refused for the reason `message`, and nothing around it changes."""
    above = path.parents[1] if path.parents[1].name.startswith("test_") else path.parents[2]
    before = everything(above)
    with pytest.raises(BadDataError, match=message) as error:
        load_model(path)
    assert error.value.exit_code == 65
    assert str(path.name) in error.value.message
    assert everything(above) == before
    assert not [found for found in above.rglob("*") if CANARY in found.name]
    return error.value


def zipped(home: Path, files: Files) -> Path:
    with zipfile.ZipFile(home / "model.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return home / "model.zip"


def tarred(home: Path, files: Files, *extra: tarfile.TarInfo, ending: str = ".tar") -> Path:
    path = home / f"model{ending}"
    with tarfile.open(path, {".tar": "w", ".tar.gz": "w:gz", ".tar.xz": "w:xz"}[ending]) as packed:  # type: ignore[call-overload]
        for info in extra:
            packed.addfile(info, io.BytesIO(bytes(info.size)))
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def test_the_files_are_good_until_they_are_spoiled(files: Files, home: Path) -> None:
    digests = {load_model(path).digest for path in (zipped(home, files), tarred(home, files, ending=".tar.gz"))}
    assert len(digests) == 1


class Bomb:
    """Unpickling it makes a file."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(Path.cwd() / CANARY),)


def saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@pytest.mark.parametrize("where", ["beside the weights", "as the checkpoint", "as a weight", "as a plain pickle"])
def test_a_pickle_that_runs_code(files: Files, home: Path, where: str) -> None:
    good = random_weights(tiny_plans(), 1)
    content: dict[str, Callable[[], bytes]] = {
        "beside the weights": lambda: saved({"network_weights": good, "logging": Bomb()}),
        "as the checkpoint": lambda: saved(Bomb()),
        "as a weight": lambda: saved({"network_weights": good | {"extra": Bomb()}}),
        "as a plain pickle": lambda: pickle.dumps(Bomb()),
    }
    files[f"{ROOT}/fold_0/checkpoint_final.pth"] = content[where]()
    error = refused(zipped(home, files), "cannot be loaded as tensors only|no checkpoint that torch")
    assert "save it again with torch.save" in error.hint


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (f"../{CANARY}", r"a path with \.\."),
        (f"{ROOT}/../../../{CANARY}", r"a path with \.\."),
        (f"/tmp/{CANARY}", "an absolute path"),
        (f"C:/{CANARY}", "an absolute path"),
        (f"..\\{CANARY}", "a path with a backslash"),
        (f"{ROOT}/{CANARY}\n", "a name with control characters"),
        (f"./{ROOT}/plans.json", "twice"),
    ],
)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_names_that_leave_the_folder(
    files: Files, home: Path, name: str, reason: str, pack: Callable[[Path, Files], Path]
) -> None:
    refused(pack(home, files | {name: b"{}"}), reason)


@pytest.mark.parametrize(
    "info",
    [
        entry(f"{ROOT}/fold_1", tarfile.SYMTYPE, "/etc"),
        entry(f"{ROOT}/hosts", tarfile.LNKTYPE, "/etc/hosts"),
        entry(f"{ROOT}/null", tarfile.CHRTYPE),
        entry(f"{ROOT}/disk", tarfile.BLKTYPE),
        entry(f"{ROOT}/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: Path(info.name).name,
)
@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz"])
def test_links_and_devices_in_a_tar(files: Files, home: Path, info: tarfile.TarInfo, ending: str) -> None:
    refused(tarred(home, files, info, ending=ending), "a link or a device")


def test_folders_that_lie_elsewhere(files: Files, home: Path) -> None:
    refused(tarred(home, files, entry(f"../{CANARY}", tarfile.DIRTYPE)), r"a path with \.\.")
    refused(zipped(home, files | {f"../{CANARY}/": b""}), r"a path with \.\.")


def test_a_pipe_is_not_waited_for(home: Path) -> None:
    os.mkfifo(home / "model.zip")
    with pytest.raises(BadDataError, match="neither a file nor a folder"):
        load_model(home / "model.zip")


def test_a_terminal_is_not_spoken_to(files: Files, home: Path) -> None:
    name = "\x1b]0;evil\x07"
    files[f"{ROOT}/fold_0/checkpoint_final.pth"] = checkpoint(_with_bias(torch.ones(3)) | {name: torch.ones(1)})
    assert "\x1b" not in refused(zipped(home, files), "]0;evil").message


def test_a_file_without_a_name_in_a_zip(files: Files, home: Path) -> None:
    path = zipped(home, files | {"x": b""})
    content = bytearray(path.read_bytes())
    lengths = content.rindex(b"PK\x01\x02") + 28
    content[lengths : lengths + 4] = struct.pack("<HH", 0, 1)  # its letter becomes the extra field
    path.write_bytes(content)
    refused(path, "without a name")


def test_a_link_in_a_zip(files: Files, home: Path) -> None:
    path = zipped(home, files)
    link = zipfile.ZipInfo(f"{ROOT}/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr(link, "/etc/passwd")
    refused(path, "a link or a device")


def test_an_encrypted_zip(files: Files, home: Path) -> None:
    path = zipped(home, files)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(path, "is encrypted")


def test_a_compression_without_a_limit(files: Files, home: Path) -> None:
    with zipfile.ZipFile(home / "model.zip", "w", zipfile.ZIP_BZIP2) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    refused(home / "model.zip", "compression that is not read safely")


def test_a_zip_bomb(files: Files, home: Path) -> None:
    bomb = {f"{ROOT}/fold_0/zeros.pth": bytes(80 * 2**20)}
    path = zipped(home, files | bomb)
    assert path.stat().st_size < 2**18
    refused(path, "would grow more than 100 times")


@pytest.mark.parametrize("ending", [".tar.gz", ".tar.xz"])
def test_a_tar_bomb(files: Files, home: Path, ending: str) -> None:
    refused(tarred(home, files, entry(f"{ROOT}/zeros", size=80 * 2**20), ending=ending), "more than 64 MiB")


def test_a_tar_header_that_is_a_bomb(files: Files, home: Path) -> None:
    """A name of 20 MiB, which tarfile would read in one go."""
    refused(tarred(home, files, entry("n" * (20 * 2**20)), ending=".tar.gz"), "a header of")


def test_more_declared_than_any_model_has(files: Files, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 1000)
    refused(zipped(home, files), "declares .* more than 1000 bytes")
    refused(tarred(home, files), "declares more than 1000 bytes")


def test_more_files_than_any_model_has(files: Files, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    refused(zipped(home, files), "3 files")
    refused(tarred(home, files), "more than 2 files")


def test_a_zip_that_lies_about_sizes(files: Files, home: Path) -> None:
    """The directory says 10 bytes; what is read ends there, and the checksum does not fit."""
    path = zipped(home, files)
    with zipfile.ZipFile(path) as packed:
        info = packed.getinfo(f"{ROOT}/plans.json")
    content = path.read_bytes()
    sizes = struct.pack("<LL", info.compress_size, info.file_size)
    path.write_bytes(content.replace(sizes, struct.pack("<LL", info.compress_size, 10)))
    refused(path, "damaged|declared")


def test_a_tar_that_lies_about_sizes(files: Files, home: Path) -> None:
    header = entry(f"{ROOT}/huge", size=2**40).tobuf()
    for ending, pack in ((".tar", bytes), (".tar.gz", gzip.compress)):
        path = home / f"lie{ending}"
        path.write_bytes(pack(header + bytes(10240)))
        refused(path, "holds or declares more than")


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
def test_huge_plans(files: Files, home: Path, name: str) -> None:
    files[f"{ROOT}/{name}"] = b"{" + os.urandom(9 * 2**20).hex().encode()
    refused(zipped(home, files), "larger than 16 MiB")
    refused(tarred(home, files, ending=".tar.gz"), "larger than 16 MiB")


@pytest.mark.parametrize("keep", [0.5, 0.99])
@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tar.xz"])
def test_a_truncated_archive(files: Files, home: Path, ending: str, keep: float) -> None:
    path = zipped(home, files) if ending == ".zip" else tarred(home, files, ending=ending)
    content = path.read_bytes()
    if ending == ".tar":
        content = content.rstrip(b"\0")
    path.write_bytes(content[: int(len(content) * keep)])
    refused(path, "damaged|cut off|not an archive")


def test_a_tar_that_ends_between_two_files(files: Files, home: Path) -> None:
    path = tarred(home, files)
    with tarfile.open(path) as packed:
        last = packed.getmembers()[-1].offset
    path.write_bytes(path.read_bytes()[:last])
    refused(path, "the end of the tar is missing")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x1f\x8b not gzip", b"PK\x03\x04 no zip", bytes(1024)])
def test_no_archive(home: Path, content: bytes) -> None:
    (home / "model.zip").write_bytes(content)
    refused(home / "model.zip", "is not an archive|is damaged")


@pytest.mark.parametrize("bad", [b"[]", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000, b"9" * 10_000])
def test_what_is_no_json(files: Files, home: Path, bad: bytes) -> None:
    files[f"{ROOT}/plans.json"] = bad
    refused(zipped(home, files), "plans.json in .* (JSON|UTF-8|nested)")


def spoil(*keys: str | int, value: object) -> Callable[[Json], None]:
    """Sets plans[...] = value; keys from the configuration on."""

    def change(content: Json) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


FULLRES = ("configurations", "3d_fullres")
ARCH = (*FULLRES, "architecture")
KWARGS = (*ARCH, "arch_kwargs")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (spoil(*ARCH, "network_class_name", value="os.system"), "network_class_name is 'os.system'"),
        (spoil(*ARCH, "_kw_requires_import", value=["conv_op", "os.system"]), "_kw_requires_import"),
        (spoil(*KWARGS, "conv_op", value="os.system"), "conv_op is 'os.system'"),
        (spoil(*KWARGS, "conv_op", value="torch.nn.modules.conv.Conv2d"), "conv_op is"),
        (spoil(*KWARGS, "norm_op", value="subprocess.Popen"), "norm_op is"),
        (spoil(*KWARGS, "nonlin", value="builtins.exec"), "nonlin is"),
        (spoil(*KWARGS, "dropout_op", value="os.remove"), "dropout_op is"),
        (spoil(*KWARGS, "block", value="os.system"), "arch_kwargs.block is not known"),
        (spoil(*KWARGS, "nonlin_kwargs", value={"inplace": "os.system"}), "nonlin_kwargs.inplace"),
        (spoil(*KWARGS, "norm_op_kwargs", value={"device": "cuda"}), "norm_op_kwargs.device.* is 'device'"),
        (spoil(*KWARGS, "n_stages", value=10**6), "n_stages is 1000000"),
        (spoil(*KWARGS, "features_per_stage", value=[8, 10**6]), "features_per_stage.1 is 1000000: .* 1024"),
        (spoil(*KWARGS, "features_per_stage", value=[8]), "not a list of 2"),
        (spoil(*KWARGS, "n_blocks_per_stage", value=[1, 1]), "n_blocks_per_stage, which .*PlainConvUNet does not take"),
        (spoil(*KWARGS, "n_conv_per_stage", value=None), "lacks arch_kwargs.n_conv_per_stage"),
        (spoil(*KWARGS, "kernel_sizes", value=[[3, 3, 3], [99, 3, 3]]), "kernel_sizes.1.0 is 99"),
        (spoil(*KWARGS, "kernel_sizes", value=[[3, 3, 3], [2, 3, 3]]), "must be odd"),
        (spoil(*KWARGS, "strides", value=[[1, 1, 1], [0, 2, 2]]), "strides.1.0 is 0"),
        (spoil(*KWARGS, "n_conv_per_stage", value=[1, 10**9]), "n_conv_per_stage.1 is"),
        (spoil(*FULLRES, "preprocessor_name", value="os.system"), "preprocessor_name is"),
        (spoil(*FULLRES, "resampling_fn_data", value="os.system"), "resampling_fn_data is 'os.system'"),
        (spoil(*FULLRES, "resampling_fn_seg_kwargs", value={"order": 99}), "order is 99"),
        (spoil(*FULLRES, "resampling_fn_seg_kwargs", value={"mode": "linear"}), "'mode', which .* does not take"),
        (
            spoil(*FULLRES, "resampling_fn_data_kwargs", value={"device": "cuda:7"}),
            "resampling_fn_data_kwargs.device is not known",
        ),
        (spoil(*FULLRES, "normalization_schemes", value=["os.system"]), "normalization_schemes.0 is"),
        (spoil(*FULLRES, "normalization_schemes", value=[]), "not a list of 1"),
        (spoil(*FULLRES, "patch_size", value=[16, 16]), "a 2D configuration"),
        (spoil(*FULLRES, "patch_size", value=[16, 16, 10**9]), "patch_size.2 is 1000000000"),
        (spoil(*FULLRES, "patch_size", value=[1024, 1024, 1024]), "voxels"),
        (spoil(*FULLRES, "patch_size", value=[16, 16, True]), "patch_size.2 is True"),
        (spoil(*FULLRES, "spacing", value=[1, 1, 1e-9]), "spacing.2 is 1e-09"),
        (spoil(*FULLRES, "previous_stage", value="3d_lowres"), "cascade"),
        (spoil(*FULLRES, "inherits_from", value="3d_fullres"), "inherits from itself"),
        (spoil(*FULLRES, "inherits_from", value="gone"), "does not exist"),
        (spoil("configurations", value={}), "'3d_fullres' does not exist"),
        (spoil("image_reader_writer", value="os.system"), "image_reader_writer is"),
        (spoil("image_reader_writer", value="Tiff3DIO"), "image_reader_writer is"),
        (spoil("label_manager", value="os.system"), "label_manager is"),
        (spoil("experiment_planner_used", value="../../evil"), "experiment_planner_used is"),
        (spoil("dataset_name", value="Dataset001_../../evil"), "dataset_name is"),
        (spoil("transpose_forward", value=[0, 0, 1]), "not an order"),
        (spoil("transpose_forward", value=[1, 2, 0]), "does not undo"),
        (spoil("foreground_intensity_properties_per_channel", value={"0": {}}), "0.mean is missing"),
        (
            spoil("foreground_intensity_properties_per_channel", "0", "mean", value=10**400),
            "a whole number has 401 digits",
        ),
    ],
)
def test_plans_that_ask_for_what_nnunet_never_plans(
    files: Files, home: Path, change: Callable[[Json], None], reason: str
) -> None:
    plans = json.loads(files[f"{ROOT}/plans.json"])
    change(plans)
    files[f"{ROOT}/plans.json"] = json.dumps(plans).encode()
    refused(zipped(home, files), f"plans.json in .*{reason}")


def test_a_network_that_is_too_large(files: Files, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MAX_PARAMETERS", 1000)
    refused(zipped(home, files), "parameters; at most 1000")


def labels(**changed: object) -> Json:
    return tiny_dataset() | {"labels": {"background": 0} | changed}


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (labels(whole=[1, 2], head=1), "labels.whole is a region"),
        (labels(head=1, tail=3), r"without gaps, and are \[0, 1, 3\]"),
        (labels(head="1"), "labels.head is '1'"),
        (labels(head=True), "labels.head is True"),
        ({**tiny_dataset(), "labels": {"head": 1}}, "background"),
        ({**tiny_dataset(), "labels": {"background": 0}}, "without gaps"),
        (labels(**{"\x1b[2Jhead": 1}), "control characters"),
        (labels(**{"he\u202ead": 1}), "control characters"),
        (labels(**{"h" * 1000: 1}), "at most 200 characters"),
        (tiny_dataset() | {"channel_names": {"0": "T1w\n"}}, "control characters"),
        (tiny_dataset() | {"channel_names": {"1": "T1w"}}, "channel_names must be numbered"),
        (tiny_dataset() | {"channel_names": {}}, "channel_names must be numbered"),
        (tiny_dataset() | {"file_ending": "/../x"}, "file_ending"),
        (tiny_dataset() | {"overwrite_image_reader_writer": "os.system"}, "overwrite_image_reader_writer is"),
    ],
)
def test_data_sets_that_we_cannot_use(files: Files, home: Path, dataset: Json, reason: str) -> None:
    files[f"{ROOT}/dataset.json"] = json.dumps(dataset).encode()
    refused(zipped(home, files), f"dataset.json in .*{reason}")


def checkpoint(weights: object, **more: object) -> bytes:
    return saved({"network_weights": weights, "init_args": {"configuration": "3d_fullres"}} | more)


def test_weights_of_another_network(files: Files, home: Path) -> None:
    other = tiny_plans()
    other["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] = [8, 32]
    files[f"{ROOT}/fold_0/checkpoint_final.pth"] = checkpoint(random_weights(other, 1))
    error = refused(zipped(home, files), r"do not fit .* the network has \(16, 8, 3, 3, 3\).* more")
    assert "do not belong together" in error.hint


def test_one_fold_of_another_network(files: Files, home: Path) -> None:
    lacking = random_weights(tiny_plans(), 1)
    del lacking["decoder.seg_layers.0.bias"]
    files[f"{ROOT}/fold_1/checkpoint_final.pth"] = checkpoint(lacking)
    refused(zipped(home, files), r"fold_1.*decoder.seg_layers.0.bias is missing")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers(files: Files, home: Path, value: float) -> None:
    spoiled = random_weights(tiny_plans(), 1)
    spoiled["decoder.seg_layers.0.bias"][1] = value
    files[f"{ROOT}/fold_0/checkpoint_final.pth"] = checkpoint(spoiled)
    refused(zipped(home, files), "decoder.seg_layers.0.bias in .* not numbers")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: checkpoint({}), "no network_weights"),
        (lambda: checkpoint({"a": 1}), "something else than tensors"),
        (lambda: saved([1]), "no network_weights"),
        (lambda: checkpoint(_with_bias(torch.ones(3).to_sparse())), "sparse"),
        (lambda: checkpoint(_with_bias(torch.ones(3, device="meta"))), "on meta"),
        (lambda: checkpoint(_with_bias(torch.ones(3, dtype=torch.complex64))), "complex64"),
        (lambda: checkpoint(_with_bias(torch.ones(1).expand(10**12))), "1000000000000"),
        (lambda: checkpoint(_with_bias(torch.ones(3)), init_args={"configuration": "2d"}), "configuration '2d'"),
        (lambda: checkpoint(_with_bias(torch.ones(3)), inference_allowed_mirroring_axes=["x"]), "mirroring_axes"),
    ],
)
def test_checkpoints_of_something_else(files: Files, home: Path, content: Callable[[], bytes], reason: str) -> None:
    files[f"{ROOT}/fold_0/checkpoint_final.pth"] = content()
    refused(zipped(home, files), reason)


def _with_bias(bias: torch.Tensor) -> dict[str, torch.Tensor]:
    return random_weights(tiny_plans(), 1) | {"decoder.seg_layers.0.bias": bias}


def test_a_checkpoint_with_a_changed_byte(files: Files, home: Path) -> None:
    """Torch itself would take it."""
    content = bytearray(files[f"{ROOT}/fold_0/checkpoint_final.pth"])
    content[len(content) // 2] ^= 1
    files[f"{ROOT}/fold_0/checkpoint_final.pth"] = bytes(content)
    refused(zipped(home, files), "is damaged: the checksum of")


def test_a_checkpoint_of_another_name(files: Files, home: Path) -> None:
    files[f"{ROOT}/fold_0/checkpoint_latest.pth"] = files.pop(f"{ROOT}/fold_0/checkpoint_final.pth")
    refused(zipped(home, files), "no checkpoint_final or checkpoint_best; it has checkpoint_latest")


def test_a_checkpoint_that_is_a_bomb(files: Files, home: Path) -> None:
    """The same tensors, compressed inside, as torch never does."""
    path = f"{ROOT}/fold_0/checkpoint_final.pth"
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(files[path])) as good, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name))
    files[path] = stream.getvalue()
    refused(zipped(home, files), "compressed or encrypted inside")


# our own exports: what they list is what they hold


def repacked(home: Path, model: Exported, change: Callable[[Files], object]) -> Path:
    with zipfile.ZipFile(model.archive) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    change(files)
    return zipped(home, files)


def named(files: Files, ending: str) -> str:
    return next(name for name in files if name.endswith(ending))


def _change_a_byte(files: Files) -> None:
    name = named(files, "checkpoint_final.pth")
    content = bytearray(files[name])
    content[len(content) // 2] ^= 1
    files[name] = bytes(content)


def _swap_the_weights(files: Files) -> None:
    files[named(files, "checkpoint_final.pth")] = checkpoint(random_weights(tiny_plans(), 7))


def _rename_a_label(files: Files) -> None:
    files[named(files, "dataset.json")] = files[named(files, "dataset.json")].replace(b"Anterior", b"Cortexxx")


def _change_the_readme(files: Files) -> None:
    """A file that loading does not need, listed with what it was."""
    manifest = json.loads(files[named(files, "hippotune.json")])
    manifest["sha256"]["README.md"] = hashlib.sha256(b"old").hexdigest()
    files[named(files, "hippotune.json")] = json.dumps(manifest).encode()
    files[named(files, "hippotune.json").replace("hippotune.json", "README.md")] = b"new"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_change_a_byte, "checkpoint_final.pth .* was changed"),
        (_swap_the_weights, "checkpoint_final.pth .* was changed"),
        (_rename_a_label, "dataset.json .* was changed"),
        (_change_the_readme, "README.md .* was changed"),
        (lambda files: files.update({named(files, "plans.json") + ".bak": b""}), "not in hippotune.json: .*bak"),
        (lambda files: files.update({"README": b""}), "not in hippotune.json: README"),
        (lambda files: files.pop(named(files, "dataset.json")), "lacks files of hippotune.json: .*dataset.json"),
        (lambda files: files.update({named(files, "hippotune.json"): b"{}"}), "lists no sha256"),
    ],
)
def test_an_export_that_was_changed(export: Export, home: Path, change: Callable[[Files], object], reason: str) -> None:
    refused(repacked(home, export(), change), reason)


def test_a_folder_of_an_export_that_was_changed(export: Export) -> None:
    model = export()
    (model.folder / "fold_0" / "notes.txt").write_text("mine")
    for path in (model.folder, model.dataset):
        with pytest.raises(BadDataError, match=r"not in hippotune.json: .*notes\.txt"):
            load_model(path)
    (model.folder / "fold_0" / "notes.txt").unlink()
    (model.dataset / "hippotune.json").write_text(
        (model.dataset / "hippotune.json").read_text().replace('"sha256": {', '"sha256": {"LICENSE": "00",')
    )
    with pytest.raises(BadDataError, match=r"lacks files of hippotune.json: .*LICENSE"):
        load_model(model.folder / "fold_0" / "checkpoint_final.pth")
