"""Labels that a case does not annotate: their voxels lie in its background, and are no evidence against them."""

from __future__ import annotations

import torch

SURELY_NOT = -1e4
"""A logit whose softmax is exactly 0 in single precision."""


def marginalise(logits: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
    """Sum what a case does not annotate into its background.

    The softmax of the result is the distribution over "background or one that nobody drew here" and the annotated
    labels (marginal loss: Shi et al., Medical Image Analysis 2021). A label that is not annotated has probability 0
    there and no voxel in the reference, so its soft Dice is constant and teaches nothing.

    Parameters
    ----------
    logits
        (batch, classes, z, y, x), class 0 the background.
    annotated
        (batch, classes), true where a case annotates a class; class 0 counts as annotated.

    Returns
    -------
    torch.Tensor
        Logits of the same shape.
    """
    known = annotated[:, :, None, None, None]
    merged = ~known
    merged[:, 0] = True
    background = torch.logsumexp(logits.masked_fill(~merged, float("-inf")), dim=1, keepdim=True)
    return torch.cat([background, logits[:, 1:].masked_fill(~known[:, 1:], SURELY_NOT)], dim=1)
