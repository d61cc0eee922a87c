"""Checkpoints as tensors only, and whether they fit the network that their plans describe.

A checkpoint is a pickle and can carry code. Torch's own reader of tensors only rebuilds nothing else, and there is no
switch to do otherwise. That reader was not made for files that want to harm: so the container is looked at before, for
sizes that it declares and checksums that torch ignores, and the tensors after, for what is no plain tensor in memory.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bidsapp.errors import BadDataError
from bidsapp.exchange.archives import explain_damage
from bidsapp.exchange.plans import Json
from bidsapp.logs import prints_to_log
from bidsapp.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    import torch

Weights = dict[str, "torch.Tensor"]

MAX_PARAMETERS = 500_000_000  # nnU-Net's largest residual encoder has 140 million
MAX_DIFFERENCES = 5
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's magic number, pickled
HINT = (
    "Files that need unpickling can run code and are not loaded. Its owner can save it again with "
    "torch.save({'network_weights': network.state_dict(), ...})."
)
WRAPPERS = re.compile(r"^(?:(?:_orig_mod|module)\.)+")
DOES_NOT_BELONG = "The model's files do not belong together."


def read_checkpoint(content: bytes, origin: str, path: Path) -> Json:
    """A checkpoint's tensors and plain values, on the CPU.

    Raises
    ------
    BadDataError
        When it is damaged, holds anything else, or is compressed (torch never compresses).
    """
    _check_container(content, origin, path)
    return _with_weights(_load_tensors_only(content, origin), "network_weights", "nnU-Net v2", origin)


def read_v1_checkpoint(content: bytes, origin: str, path: Path) -> Json:
    """The same of nnU-Net v1, whose weights are the ``state_dict``; torch before 1.6 saved without a container."""
    if not content.startswith(LEGACY_MAGIC):
        _check_container(content, origin, path)
    return _with_weights(_load_tensors_only(content, origin), "state_dict", "nnU-Net v1", origin)


def _load_tensors_only(content: bytes, origin: str) -> object:
    import numpy as np
    import torch
    from numpy._core.multiarray import scalar

    # nnU-Net keeps its losses as numbers of numpy beside the weights; torch must be told that those are harmless
    known: list[Any] = [
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 spells it
        np.dtype,
        np.dtypes.Float64DType,
        np.dtypes.Float32DType,
    ]
    try:
        with torch.serialization.safe_globals(known):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        reason = printable((str(error).splitlines() or [type(error).__name__])[0])
        raise BadDataError(f"{origin} cannot be loaded as tensors only: {reason}", HINT) from error


def _with_weights(checkpoint: object, key: str, made_by: str, origin: str) -> Json:
    weights = checkpoint.get(key) if isinstance(checkpoint, dict) else None
    if not isinstance(checkpoint, dict) or not isinstance(weights, dict) or not weights:
        raise BadDataError(f"{origin} holds no {key}; it is not a checkpoint of {made_by}", HINT)
    return checkpoint | {key: _without_wrappers(weights)}


def _without_wrappers(weights: Mapping[Any, Any]) -> dict[Any, Any]:
    """Names as the network itself has them: torch.compile and DataParallel put their own before."""
    names = {name: WRAPPERS.sub("", name) if isinstance(name, str) else name for name in weights}
    if len(set(names.values())) < len(names):
        return dict(weights)
    return {names[name]: tensor for name, tensor in weights.items()}


def _check_container(content: bytes, origin: str, path: Path) -> None:
    """Torch's container is a zip that stores; anything smaller than what it declares is not torch's."""
    if not content.startswith(b"PK\x03\x04"):
        raise BadDataError(f"{origin} is no checkpoint that torch 1.6 or later saved, or it is damaged", HINT)
    with explain_damage(path), zipfile.ZipFile(io.BytesIO(content)) as container:
        infos = container.infolist()
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1 for info in infos):
        raise BadDataError(f"{origin} is compressed or encrypted inside; torch does neither", HINT)
    names = {info.orig_filename for info in infos}
    if len(names) < len(infos) or sum(info.file_size for info in infos) > len(content):
        raise BadDataError(f"{origin} declares more than it holds", HINT)
    with explain_damage(path), zipfile.ZipFile(io.BytesIO(content)) as container:
        broken = container.testzip()  # torch does not look at checksums
    if broken:
        raise BadDataError(f"{origin} is damaged: the checksum of {printable(broken)} is another", HINT)


def expected_shapes(plans: Json, configuration: str, dataset: Json, origin: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the weights of the network that `plans` (checked) describe; costs no memory.

    Raises
    ------
    BadDataError
        When torch refuses to build it, or when it is larger than any that nnU-Net plans.
    """
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    architecture = plans["configurations"][configuration]["architecture"]
    try:
        with torch.device("meta"), prints_to_log():  # shapes without memory, whatever the sizes
            network = get_network_from_plans(
                architecture["network_class_name"],
                architecture["arch_kwargs"],
                architecture["_kw_requires_import"],
                len(dataset["channel_names"]),
                len(dataset["labels"]),
                allow_init=False,
                deep_supervision=False,
            )
    except Exception as error:
        raise BadDataError(f"{origin} describes a network that torch cannot build: {error}") from error
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if parameters > MAX_PARAMETERS:
        raise BadDataError(f"{origin} describes a network of {parameters} parameters; at most {MAX_PARAMETERS}")
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def check_weights(weights: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]], origin: str) -> Weights:
    """`weights` as plain tensors, if they are those of the network: names, shapes, kinds, finite values.

    Raises
    ------
    BadDataError
        With the first differences.
    """
    import torch

    tensors = {str(name): tensor for name, tensor in weights.items() if isinstance(tensor, torch.Tensor)}
    if len(tensors) < len(weights):
        raise BadDataError(f"{origin} holds something else than tensors in network_weights", HINT)
    differences = [f"{name} is missing" for name in shapes if name not in tensors]
    differences += [f"{name} is not of the network" for name in tensors if name not in shapes]
    differences += [
        f"{name} is {tuple(tensor.shape)}, the network has {shapes[name]}"
        for name, tensor in tensors.items()
        if name in shapes and tuple(tensor.shape) != shapes[name]
    ]
    if differences:
        more = len(differences) - MAX_DIFFERENCES
        shown = printable("; ".join(differences[:MAX_DIFFERENCES])) + (f"; and {more} more" if more > 0 else "")
        raise BadDataError(f"the weights in {origin} do not fit the network of plans.json: {shown}", DOES_NOT_BELONG)
    # A sparse or expanded tensor can have the right shape and declare more than it holds; one on another device would
    # need that device; a quantised one computes differently. Values that are no numbers make every prediction empty.
    floating = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    finite: dict[tuple[object, ...], bool] = {}
    for name, tensor in tensors.items():
        dense = tensor.layout is torch.strided and tensor.device.type == "cpu"
        if not dense or tensor.dtype not in floating | {torch.int64}:
            raise BadDataError(
                f"{name} in {origin} is a tensor of {tensor.dtype}, {tensor.layout}, on {tensor.device}", HINT
            )
        key = _memory_of(tensor)
        if key not in finite:
            finite[key] = bool(torch.isfinite(tensor).all())
        if not finite[key]:
            raise BadDataError(
                f"{name} in {origin} holds values that are not numbers",
                "The training went wrong; take an earlier checkpoint.",
            )
    return {name: tensor.detach() for name, tensor in tensors.items()}


def count_parameters(weights: Weights) -> int:
    """How many numbers a network learned; tensors that are listed twice count once."""
    return sum({_memory_of(one): one.numel() for one in weights.values() if one.is_floating_point()}.values())


def weights_digest(folds: Iterable[Weights]) -> str:
    """sha256 over names, kinds, shapes and values; tensors that are listed twice are read once."""
    digest = hashlib.sha256()
    for weights in folds:
        known: dict[tuple[object, ...], bytes] = {}
        for name in sorted(weights):
            tensor = weights[name]
            key = _memory_of(tensor)
            if key not in known:
                known[key] = _tensor_digest(tensor)
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode() + known[key])
        digest.update(b"fold")
    return digest.hexdigest()


def _memory_of(tensor: torch.Tensor) -> tuple[object, ...]:
    """What two names of the same tensor have in common: nnU-Net lists its layers under several names."""
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _tensor_digest(tensor: torch.Tensor) -> bytes:
    import torch

    return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data).digest()
