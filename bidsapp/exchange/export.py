"""A trained model as files that plain nnU-Net installs and runs, and that hold nothing private.

All files are below one folder ``Dataset<NNN>_<Name>/``. No optimizer state, no path, no host, no person.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import torch

from bidsapp import __version__
from bidsapp.exchange.weights import Weights
from bidsapp.files import read_json, replace_atomically, write_json
from bidsapp.nnunet_names import EXPORTED_TRAINER, NNUNET_CONFIGURATION, NNUNET_PLANS

FIRST_DATASET_ID, DATASET_IDS = 500, 400
SHARED_DATASET_KEYS = ("channel_names", "labels", "numTraining", "file_ending", "overwrite_image_reader_writer")
LICENSE_NOT_STATED = "not stated, do not redistribute"
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same model gives the same bytes


def round_weights(weights: Weights, *, half: bool) -> Weights:
    """The weights as they are shared: on the CPU, floating point in 16 bits where `half`.

    Tensors that share memory (nnU-Net lists its layers several times) share it afterwards too.
    """
    rounded: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for tensor in weights.values():
        key = (tensor.data_ptr(), tensor.shape)
        if key not in rounded:
            plain = tensor.detach().cpu()
            rounded[key] = plain.half() if half and plain.is_floating_point() else plain.clone()
    return {name: rounded[tensor.data_ptr(), tensor.shape] for name, tensor in weights.items()}


def dataset_id(name: str, weights: Weights) -> int:
    """A number from 500 to 899 that two models hardly share, drawn from name and weights."""
    digest = hashlib.sha256(name.encode())
    for key in sorted(weights):
        digest.update(weights[key].contiguous().numpy().tobytes())
    return FIRST_DATASET_ID + int.from_bytes(digest.digest()[:8]) % DATASET_IDS


def build_model_folder(
    destination: Path,
    *,
    name: str,
    weights: Weights,
    plans: dict[str, Any],
    dataset_json: dict[str, Any],
    facts: dict[str, Any],
    more_folds: Sequence[Weights] = (),
    mirroring_axes: Sequence[int] | None = None,
) -> Path:
    """Write an nnU-Net model below `destination`, replacing what was there.

    Parameters
    ----------
    name
        Letters and digits, for ``Dataset<NNN>_<name>``.
    weights
        As `round_weights` gives them.
    facts
        What to say of the model in ``hippotune.json``; must hold no person and no path.
    more_folds
        Weights of further folds of the same network; `weights` are fold_0.
    mirroring_axes
        Axes that the network saw mirrored in training.

    Returns
    -------
    Path
        The folder with plans.json, below the Dataset folder.
    """
    shutil.rmtree(destination, ignore_errors=True)
    dataset = f"Dataset{dataset_id(name, weights)}_{name}"
    folder = destination / dataset / f"{EXPORTED_TRAINER}__{NNUNET_PLANS}__{NNUNET_CONFIGURATION}"
    write_json(folder / "plans.json", plans | {"dataset_name": dataset})
    shared = {key: dataset_json[key] for key in SHARED_DATASET_KEYS}
    write_json(folder / "dataset.json", {"name": dataset, **shared})
    for fold, own in enumerate((weights, *more_folds)):
        checkpoint = {
            "network_weights": own,
            "trainer_name": EXPORTED_TRAINER,
            "init_args": {"configuration": NNUNET_CONFIGURATION},
            "inference_allowed_mirroring_axes": None if mirroring_axes is None else tuple(mirroring_axes),
        }
        replace_atomically(folder / f"fold_{fold}" / "checkpoint_final.pth", partial(_save_checkpoint, checkpoint))
    root = destination / dataset
    files = sorted(path for path in root.rglob("*") if path.is_file())
    manifest = {
        "hippotune": __version__,
        "nnunetv2": version("nnunetv2"),
        "license": LICENSE_NOT_STATED,
        **facts,
        "sha256": {path.relative_to(root).as_posix(): _sha256(path) for path in files},
    }
    write_json(root / "hippotune.json", manifest)
    return folder


def zip_model(folder: Path, archive: Path) -> None:
    """Pack the Dataset folder that holds `folder` (see `build_model_folder`) into `archive`."""
    root = folder.parent
    files = sorted(path for path in root.rglob("*") if path.is_file())

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            write_zip(stream, ((path.relative_to(root.parent).as_posix(), path.read_bytes()) for path in files))

    replace_atomically(archive, write)


def write_zip(stream: IO[bytes], files: Iterable[tuple[str, bytes]]) -> None:
    """Pack files by their names so that the same files give the same bytes: no time, no owner."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files:
            entry = zipfile.ZipInfo(name, ZIP_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, content)


def exported_dataset_name(folder: Path) -> str:
    """``Dataset<NNN>_<name>`` of a folder from `build_model_folder`."""
    return str(read_json(folder / "plans.json")["dataset_name"])


def _save_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Save through a stream: torch names the archive inside after the file, which is temporary."""
    with path.open("wb") as stream:
        torch.save(checkpoint, stream)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
