"""Start weights from another model: what the network answers with them, compared with the source's answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from bidsapp.errors import UsageError
from bidsapp.exchange.transfer import (
    TRANSFER_COLUMNS,
    Matching,
    NewChannels,
    count_outcomes,
    match_channels,
    match_labels,
    transfer_weights,
)
from tests.tiny_model import Json, tiny_plans

CONFIGURATION = "3d_fullres"


def network(plans: Json, channels: int, classes: int) -> torch.nn.Module:
    architecture = plans["configurations"][CONFIGURATION]["architecture"]
    torch.manual_seed(channels + 10 * classes)
    built = get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"],
        channels, classes, deep_supervision=True,
    )  # fmt: skip
    return built.eval()


def matching(
    source_labels: Sequence[str],
    labels: Sequence[str],
    *,
    renames: dict[str, str | None] | None = None,
    source_channels: Sequence[str] = ("T1w",),
    channels: Sequence[str] = ("T1w",),
) -> Matching:
    named = dict(enumerate(source_labels, start=1))
    begins, dropped = match_labels(named, labels, renames or {})
    found, dropped_channels = match_channels(source_channels, channels)
    return Matching(begins, dropped, found, dropped_channels, named, tuple(source_channels))


def answers(
    match: Matching, image: torch.Tensor, *, residual: bool = False, new_channels: NewChannels = "zero"
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Logits of the source and of the network that begins with its weights, per deep-supervision scale."""
    plans = tiny_plans(residual=residual)
    source = network(plans, len(match.source_channels), len(match.source_labels) + 1)
    weights, _ = transfer_weights(source.state_dict(), plans, CONFIGURATION, match, new_channels=new_channels)
    begun = network(plans, len(match.channels), len(match.labels))
    begun.load_state_dict(weights)
    known = [position for position in match.channels.values() if position is not None]
    fed = torch.zeros(len(image), len(match.source_channels), *image.shape[2:])
    for channel, position in enumerate(match.channels.values()):
        if position is not None:
            fed[:, position] = image[:, channel]
    with torch.no_grad():
        old = source(fed if known else image.mean(1, keepdim=True))
        new = begun(image)
    return list(old) if isinstance(old, (list, tuple)) else [old], list(new) if isinstance(new, (list, tuple)) else [
        new
    ]


def noise(channels: int = 1) -> torch.Tensor:
    return torch.randn(1, channels, 16, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("residual", [False, True])
def test_the_same_labels_give_the_same_logits(residual: bool) -> None:
    old, new = answers(matching(("A", "P"), ("A", "P")), noise(), residual=residual)
    for one, other in zip(old, new, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_rows_follow_the_names_of_labels() -> None:
    """A keeps its name and gets another value, P is called Tail now, D is gone."""
    match = matching(("A", "P", "D"), ("Tail", "A"), renames={"P": "Tail"})
    assert match.labels == {"background": (0,), "Tail": (2,), "A": (1,)}
    assert match.dropped_labels == ("D",)
    for old, new in zip(*answers(match, noise()), strict=True):
        torch.testing.assert_close(new, old[:, [0, 2, 1]])


def test_merged_labels_begin_with_the_mean_of_their_rows() -> None:
    match = matching(("Anterior", "Posterior"), ("Hippocampus",),
                     renames={"Anterior": "Hippocampus", "Posterior": "Hippocampus"})  # fmt: skip
    for old, new in zip(*answers(match, noise()), strict=True):
        torch.testing.assert_close(new, torch.stack([old[:, 0], (old[:, 1] + old[:, 2]) / 2], 1))


def test_a_new_label_changes_no_logit_of_the_others_at_first() -> None:
    match = matching(("A", "P"), ("A", "Cyst", "P"))
    assert match.new_labels == ("Cyst",)
    for old, new in zip(*answers(match, noise()), strict=True):
        torch.testing.assert_close(new[:, [0, 1, 3]], old)
        assert (new[:, 2] == 0).all()


@pytest.mark.parametrize("residual", [False, True])
def test_a_new_channel_contributes_nothing_at_first(residual: bool) -> None:
    match = matching(("A",), ("A",), channels=("T2w", "T1w"))
    assert match.new_channels == ("T2w",)
    for old, new in zip(*answers(match, noise(2), residual=residual), strict=True):
        torch.testing.assert_close(new, old)


def test_a_channel_that_is_gone_is_as_if_it_were_fed_its_mean() -> None:
    match = matching(("A",), ("A",), source_channels=("T1w", "T2w"), channels=("T2w",))
    assert match.dropped_channels == ("T1w",)
    for old, new in zip(*answers(match, noise()), strict=True):
        torch.testing.assert_close(new, old)


def test_inflated_channels_with_the_same_image_give_the_same_answer() -> None:
    match = matching(("A",), ("A",), channels=("T1w", "T2w"))
    image = noise().expand(1, 2, 16, 16, 16)
    for old, new in zip(*answers(match, image, new_channels="inflate"), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-4)


def test_another_contrast_begins_with_the_known_filters_not_blind() -> None:
    match = matching(("A",), ("A",), channels=("T2w",))
    for old, new in zip(*answers(match, noise()), strict=True):
        torch.testing.assert_close(new, old)


def test_weights_of_another_network_are_refused_by_name() -> None:
    plans = tiny_plans()
    weights = network(plans, 1, 3).state_dict()
    plans["configurations"][CONFIGURATION]["architecture"]["arch_kwargs"]["n_conv_per_stage"] = [2, 1]
    with pytest.raises(UsageError, match=r"encoder\.stages\.0\.0\.convs\.1\.conv\.weight"):
        transfer_weights(weights, plans, CONFIGURATION, matching(("A", "P"), ("A", "P")), new_channels="zero")


def test_the_table_says_what_became_of_every_tensor() -> None:
    plans = tiny_plans()
    weights = {name: tensor.half() for name, tensor in network(plans, 1, 3).state_dict().items()}
    match = matching(("A", "P"), ("P", "A"), channels=("T1w", "T2w"))
    begun, rows = transfer_weights(weights, plans, CONFIGURATION, match, new_channels="average")
    assert {row[0] for row in rows} == set(begun)
    assert all(tensor.dtype == torch.float32 for tensor in begun.values())
    table = {row[0]: dict(zip(TRANSFER_COLUMNS, row, strict=True)) for row in rows}
    assert table["encoder.stages.0.0.convs.0.conv.weight"]["outcome"] == "remapped"
    assert table["encoder.stages.0.0.convs.0.conv.weight"]["shape"] == "8x2x3x3x3"
    assert "T2w: new" in table["encoder.stages.0.0.convs.0.conv.weight"]["source"]
    assert "P: from P" in table["decoder.seg_layers.0.weight"]["source"]
    assert table["encoder.stages.1.0.convs.0.conv.weight"]["outcome"] == "kept"
    assert "0 new" in count_outcomes(rows)


def test_names_match_whatever_their_case() -> None:
    assert match_channels(("T1W", "T2w"), ("t1w",)) == ({"t1w": 0}, ("T2w",))
