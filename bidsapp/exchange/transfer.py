"""Weights of a trained model -> start weights of a network for other labels and channels, matched by name.

nnU-Net's own fine-tuning throws the segmentation heads away and refuses other channels. Here a head's row follows
its label, and a filter of the first layer follows its channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bidsapp.errors import UsageError
from bidsapp.exchange.plans import Json
from bidsapp.exchange.weights import Weights, expected_shapes

if TYPE_CHECKING:
    import torch

Outcome = Literal["kept", "remapped", "new"]
NewChannels = Literal["zero", "average", "inflate"]


TransferRow = tuple[str, str, Outcome, str]
"""What became of one tensor: see `TRANSFER_COLUMNS`."""
TRANSFER_COLUMNS = ("tensor", "shape", "outcome", "source")
"""Name and shape in the new network (``8x2x3x3x3``), and where the values came from."""


@dataclass(frozen=True)
class Matching:
    """Labels and channels of a network, and what of the source each begins with."""

    labels: Mapping[str, tuple[int, ...]]
    """Every label of the new network in the order of its values, the background first -> values in the source, of
    which the mean is taken; nothing: the label is new."""
    dropped_labels: tuple[str, ...]
    """Names of the source that nothing begins with."""
    channels: Mapping[str, int | None]
    """Every channel of the new network in order -> its position in the source; None: the channel is new."""
    dropped_channels: tuple[str, ...]
    """Names of the source that the new network is not given."""
    source_labels: Mapping[int, str]
    """Names by value, without the background."""
    source_channels: tuple[str, ...]
    """Names by position."""

    @property
    def new_labels(self) -> tuple[str, ...]:
        """Labels that the source does not know."""
        return tuple(name for name, values in self.labels.items() if not values)

    @property
    def new_channels(self) -> tuple[str, ...]:
        """Channels that the source does not know."""
        return tuple(name for name, position in self.channels.items() if position is None)

    def label_lines(self) -> list[str]:
        """What each label begins with, in words."""
        named = {0: "background", **self.source_labels}
        lines = []
        for name, values in self.labels.items():
            begins = " and ".join(named[value] for value in values)
            lines.append(f"{name}: {f'from {begins}' if values else 'new'}")
        return [*lines, *(f"{name}: dropped" for name in self.dropped_labels)]

    def channel_lines(self) -> list[str]:
        """The same of channels."""
        lines = [
            f"{name}: {'new' if position is None else f'from {self.source_channels[position]}'}"
            for name, position in self.channels.items()
        ]
        return [*lines, *(f"{name}: dropped" for name in self.dropped_channels)]


def match_labels(
    source: Mapping[int, str], target: Sequence[str], renames: Mapping[str, str | None]
) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """Which values of the source every label begins with, and which names of the source are dropped.

    Parameters
    ----------
    source
        value -> name, without the background.
    target
        Names of the new network in the order of its values, without the background.
    renames
        Name in the source -> name in the target (several may become one), None for background.
    """
    begins: dict[str, tuple[int, ...]] = {"background": (0,)} | dict.fromkeys(target, ())
    dropped = []
    for value, name in sorted(source.items()):
        becomes = renames.get(name, name)
        if becomes in target:
            begins[str(becomes)] += (value,)
        else:
            dropped.append(name)
    return begins, tuple(dropped)


def match_channels(source: Sequence[str], target: Sequence[str]) -> tuple[dict[str, int | None], tuple[str, ...]]:
    """Which position of the source every channel has, and which names of the source are dropped.

    Upper and lower case are the same.
    """
    positions = {name.casefold(): position for position, name in enumerate(source)}
    found = {name: positions.get(name.casefold()) for name in target}
    return found, tuple(name for position, name in enumerate(source) if position not in found.values())


def transfer_weights(
    weights: Weights, plans: Json, configuration: str, matching: Matching, *, new_channels: NewChannels
) -> tuple[Weights, list[TransferRow]]:
    """The weights that a network for other labels and channels begins with, in single precision.

    Parameters
    ----------
    weights
        Of the source, one fold.
    plans, configuration
        Of the source, checked; the new network differs from its network in labels and channels alone.
    new_channels
        ``zero``: a new channel contributes nothing at first, the network answers as the source did. ``average``: its
        filters are the mean of the source's. ``inflate``: the same, and all filters are scaled so that equal images
        in all channels give the source's answer (as Carreira and Zisserman, CVPR 2017, do along time).
        Where no channel is known, ``zero`` would leave the network blind and ``average`` is taken.

    Raises
    ------
    UsageError
        When a tensor of the new network has no counterpart, with all of them.
    """
    old_channels, old_classes = len(matching.source_channels), len(matching.source_labels) + 1

    def shapes_for(channels: int, classes: int) -> Mapping[str, tuple[int, ...]]:
        counted = {"channel_names": dict.fromkeys(range(channels)), "labels": dict.fromkeys(range(classes))}
        return expected_shapes(plans, configuration, counted, "the source's plans")

    # Which tensors are heads and which are first layers differs between architectures. Their names are not guessed:
    # a head is what changes its shape with one class more, a first layer what does so with one channel more.
    old = shapes_for(old_channels, old_classes)
    new = shapes_for(len(matching.channels), len(matching.labels))
    heads = _differing(old, shapes_for(old_channels, old_classes + 1))
    first_layers = _differing(old, shapes_for(old_channels + 1, old_classes))
    unfit = [
        f"{name}: {old.get(name, 'missing')} in the source, {shape} here"
        for name, shape in new.items()
        if name not in weights or (name not in heads | first_layers and old[name] != shape)
    ]
    if unfit:
        raise UsageError(
            "the source has another network:\n  " + "\n  ".join(unfit), "Train from scratch, or take another model."
        )
    remap_head = _head_mapper(matching)
    remap_channels = _channel_mapper(matching, new_channels)
    result: Weights = {}
    rows: list[TransferRow] = []
    for name, shape in new.items():
        tensor = weights[name].float() if weights[name].is_floating_point() else weights[name]
        outcome: Outcome = "kept"
        source = name
        if name in heads:
            tensor, outcome, source = remap_head(name, tensor)
        elif name in first_layers:
            tensor, outcome, source = remap_channels(name, tensor)
        result[name] = tensor.clone()
        rows.append((name, "x".join(map(str, shape)) or "1", outcome, source))
    return result, rows


def count_outcomes(rows: Sequence[TransferRow]) -> str:
    """``tensors: 142 kept, 6 remapped, 2 new``."""
    counts = Counter(outcome for _, _, outcome, _ in rows)
    return "tensors: " + ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("kept", "remapped", "new"))


def _differing(one: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]]) -> set[str]:
    return {name for name, shape in one.items() if other[name] != shape}


_Remap = Callable[[str, "torch.Tensor"], tuple["torch.Tensor", Outcome, str]]


def _head_mapper(matching: Matching) -> _Remap:
    """Rows (axis 0) of a head by label: weights (classes, features, 1, 1, 1) and biases (classes).

    Networks with deep supervision have one head per scale; all are remapped alike. Several labels of the source that
    became one begin with the mean of their rows: the score of the new label is the mean of theirs.
    """
    import torch

    begins = list(matching.labels.values())
    same = begins == [(value,) for value in range(len(matching.source_labels) + 1)]
    described = "; ".join(matching.label_lines())
    outcome: Outcome = "new" if matching.new_labels and len(matching.new_labels) == len(begins) - 1 else "remapped"

    def remap(name: str, tensor: torch.Tensor) -> tuple[torch.Tensor, Outcome, str]:
        if same:
            return tensor, "kept", name
        # a new label's row is 0: of what was tried (the background's row, random), what learns fastest (README)
        rows = [tensor[list(values)].mean(0) if values else torch.zeros_like(tensor[0]) for values in begins]
        return torch.stack(rows), outcome, f"{name} ({described})"

    return remap


def _channel_mapper(matching: Matching, new_channels: NewChannels) -> _Remap:
    """Columns (axis 1) of the first convolution by channel: weights (features, channels, z, y, x).

    The layer sums over channels, so the sum is what must not jump at the start: columns of zero add nothing to it, and
    filters that are scaled by old / new channels keep it where all images are equal.
    """
    import torch

    positions = list(matching.channels.values())
    same = positions == list(range(len(matching.source_channels)))
    blind = all(position is None for position in positions)
    how = "average" if blind and new_channels == "zero" else new_channels
    described = "; ".join(matching.channel_lines())
    inflates = how == "inflate" and bool(matching.new_channels)
    scale = len(matching.source_channels) / len(positions) if inflates else 1.0

    def remap(name: str, tensor: torch.Tensor) -> tuple[torch.Tensor, Outcome, str]:
        if same:
            return tensor, "kept", name
        new = torch.zeros_like(tensor[:, 0]) if how == "zero" else tensor.mean(1)
        columns = [new if position is None else tensor[:, position] for position in positions]
        detail = f", new ones: {how}" if matching.new_channels else ""
        return torch.stack(columns, 1) * scale, "remapped", f"{name} ({described}{detail})"

    return remap
