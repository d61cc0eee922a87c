"""Labels that a case does not annotate, by hand."""

from __future__ import annotations

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from bidsapp.training.marginal import marginalise

SHAPE = (1, 3, 4, 4, 4)


def logits() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), requires_grad=True)


def nnunets_loss() -> DC_and_CE_loss:
    return DC_and_CE_loss(
        {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
    )


def test_probabilities_are_summed_into_the_background() -> None:
    given = logits()
    before = given.softmax(1)
    after = marginalise(given, torch.tensor([[True, True, False]])).softmax(1)
    torch.testing.assert_close(after[:, 0], before[:, 0] + before[:, 2])
    torch.testing.assert_close(after[:, 1], before[:, 1])
    assert (after[:, 2] == 0).all()


def test_what_is_annotated_whole_stays_as_it_is() -> None:
    given = logits()
    torch.testing.assert_close(marginalise(given, torch.tensor([[True, True, True]])), given)


@pytest.mark.parametrize("value", [0, 1])
def test_a_label_that_was_not_drawn_is_not_pushed_away_from_the_background(value: int) -> None:
    """In voxels that the network is sure are background or the undrawn label, which of both makes no loss."""
    sure = torch.full(SHAPE, -30.0)
    sure[:, 2] = 30.0
    sure.requires_grad_()
    target = torch.full((1, 1, 4, 4, 4), value, dtype=torch.long)
    loss = nnunets_loss()(marginalise(sure, torch.tensor([[True, True, False]])), target)
    loss.backward()
    assert sure.grad is not None
    if value == 0:
        assert sure.grad.abs().max() < 1e-6
    else:
        assert (sure.grad[:, 1] < 0).all()
        assert (sure.grad[:, 2] > 0).all()


def test_each_case_of_a_batch_has_its_own_labels() -> None:
    given = logits().detach().expand(2, *SHAPE[1:])
    after = marginalise(given, torch.tensor([[True, True, False], [True, False, True]])).softmax(1)
    assert (after[0, 2] == 0).all()
    assert (after[1, 1] == 0).all()
    assert (after[1, 2] > 0).all()
