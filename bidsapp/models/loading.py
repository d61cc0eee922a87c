"""A trained nnU-Net model folder -> network and weights, without executing anything that the folder says.

A checkpoint is a pickle and plans.json names classes to import; both can carry code. Weights are read as
tensors only, and class names must be on the short list of what nnU-Net's own plans use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.files import read_json
from bidsapp.layout import NNUNET_CONFIGURATION

if TYPE_CHECKING:
    import torch

NETWORKS = frozenset(
    f"dynamic_network_architectures.architectures.unet.{name}" for name in ("PlainConvUNet", "ResidualEncoderUNet")
)
MODULES = frozenset(
    f"torch.nn.modules.{module}.{name}{dim}"
    for module, name in (("conv", "Conv"), ("instancenorm", "InstanceNorm"), ("batchnorm", "BatchNorm"))
    for dim in ("2d", "3d")
) | {"torch.nn.LeakyReLU", "torch.nn.ReLU", "torch.nn.GELU", None}


@dataclass(frozen=True)
class LoadedModel:
    """What a predictor needs.

    Attributes
    ----------
    weights
        One set per fold; several are averaged at prediction.
    """

    plans: dict[str, Any]
    dataset_json: dict[str, Any]
    weights: tuple[dict[str, torch.Tensor], ...]
    mirroring_axes: tuple[int, ...] | None

    @property
    def labels(self) -> dict[int, str]:
        """value -> name, without the background."""
        return {value: name for name, value in self.dataset_json["labels"].items() if value}


def load_model_folder(folder: Path, *, checkpoint_name: str = "checkpoint_final.pth") -> LoadedModel:
    """Load plans.json, dataset.json and every fold_*/`checkpoint_name` of a folder.

    Raises
    ------
    NoInputError
        When a file is missing.
    BadDataError
        When a file is damaged, would have to be unpickled, or names a class that we do not know.
    """
    plans, dataset_json = (_read_json(folder / name) for name in ("plans.json", "dataset.json"))
    check_architecture(plans, folder / "plans.json")
    paths = sorted(folder.glob(f"fold_*/{checkpoint_name}"))
    if not paths:
        raise NoInputError(f"{folder} has no fold_*/{checkpoint_name}", "Name the folder that holds plans.json.")
    checkpoints = [read_checkpoint(path) for path in paths]
    axes = checkpoints[0].get("inference_allowed_mirroring_axes")
    return LoadedModel(
        plans=plans,
        dataset_json=dataset_json,
        weights=tuple(checkpoint["network_weights"] for checkpoint in checkpoints),
        mirroring_axes=tuple(axes) if axes else None,
    )


def check_architecture(plans: dict[str, Any], path: Path) -> None:
    """Refuse plans that would make nnU-Net import anything but its own networks and torch's layers."""
    try:
        architecture = plans["configurations"][NNUNET_CONFIGURATION]["architecture"]
        arguments = architecture["arch_kwargs"]
        named = {arguments.get(key) for key in architecture["_kw_requires_import"]}
        network = architecture["network_class_name"]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadDataError(f"{path} is not an nnU-Net v2 plan for {NNUNET_CONFIGURATION}: {error}") from error
    unknown = ({network} - NETWORKS) | (named - MODULES)
    if unknown:
        raise BadDataError(
            f"{path} names classes that are not imported: {', '.join(map(str, unknown))}",
            "Known networks are PlainConvUNet and ResidualEncoderUNet.",
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint as tensors and plain values, on the CPU."""
    import numpy as np
    import torch
    from numpy._core.multiarray import scalar

    plain: list[Any] = [scalar, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]
    try:
        with torch.serialization.safe_globals(plain):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        weights = checkpoint["network_weights"]
    except Exception as error:
        raise BadDataError(
            f"{path} cannot be loaded as tensors only: {str(error).splitlines()[0]}",
            "Files that need unpickling can run code and are not loaded. Its owner can save it again with "
            "torch.save({'network_weights': network.state_dict(), ...}).",
        ) from error
    if not all(isinstance(weight, torch.Tensor) for weight in weights.values()):
        raise BadDataError(f"{path} holds something else than tensors in network_weights")
    return checkpoint


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise NoInputError(f"{path} does not exist", "A model folder holds plans.json, dataset.json and fold_0.")
    try:
        content = read_json(path)
    except ValueError as error:
        raise BadDataError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadDataError(f"{path} does not hold a JSON object")
    return content
