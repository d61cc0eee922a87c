"""Do pairs lie as the model before saw them? It is asked before hours of training on mirrored ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bidsapp.errors import BadDataError
from bidsapp.evaluation.metrics import dice
from bidsapp.labels.placement import bounding_box
from bidsapp.labels.tables import hippocampal_values
from bidsapp.records import Pair
from bidsapp.training.import_pairs import load_pair

log = logging.getLogger(__name__)

MOST_PAIRS = 12
LEAST_PAIRS = 3
LEAST_DICE = 0.4
"""Where the model before does worse in both ways, it says nothing about which of them is right."""

GAIN = 0.2
"""Mean Dice by which mirrored pairs must fit better."""

_MARGIN_MM = 12.0


class Segmenter(Protocol):
    """What `bidsapp.prediction.Predictor` is here."""

    @property
    def labels(self) -> Mapping[int, str]:
        """Value -> name."""

    def predict_array(self, images: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        """Segment images (channels, x, y, z) in network space."""


@dataclass(frozen=True)
class ParentFit:
    """Dice of the whole label of every pair that was asked about, as it lies and mirrored left to right."""

    own: tuple[float, ...]
    mirrored: tuple[float, ...]

    @property
    def says_mirrored(self) -> bool:
        """Whether the model before saw such pairs the other way round."""
        if len(self.own) < LEAST_PAIRS or float(np.mean(self.mirrored)) < LEAST_DICE:
            return False
        return float(np.mean(self.mirrored)) > float(np.mean(self.own)) + GAIN

    @property
    def words(self) -> str:
        """``11 of 12 pairs fit it better mirrored: Dice 0.81 against 0.04``."""
        better = sum(theirs > ours for ours, theirs in zip(self.own, self.mirrored, strict=True))
        means = f"Dice {np.mean(self.mirrored):.2f} against {np.mean(self.own):.2f}"
        return f"{better} of {len(self.own)} pairs fit it better mirrored: {means}"


def fit_parent(
    segmenter: Segmenter, pairs: Sequence[Pair], channels: Sequence[int], names: Mapping[int, str]
) -> ParentFit:
    """Let the model before segment some pairs, evenly spread, around their labels, in both ways.

    Parameters
    ----------
    channels
        Which of a pair's images the model takes, in its order.
    names
        Label value -> name, of the pairs.
    """
    step = max(1, -(-len(pairs) // MOST_PAIRS))
    whole, theirs = list(hippocampal_values(names)), list(hippocampal_values(segmenter.labels))
    own: list[float] = []
    mirrored: list[float] = []
    for pair in pairs[::step]:
        loaded = load_pair(pair)
        spacing_mm = [float(edge) for edge in np.linalg.norm(loaded.affine[:3, :3], axis=0)]
        label = np.isin(loaded.label, whole)
        if not label.any():
            continue
        box = bounding_box(label, margin=round(_MARGIN_MM / min(spacing_mm)))
        images, label = loaded.images[(list(channels), *box)], label[box]
        for found, x in ((own, 1), (mirrored, -1)):
            segmented = segmenter.predict_array(np.ascontiguousarray(images[:, ::x]), spacing_mm)[::x]
            found.append(dice(np.isin(segmented, theirs), label))
    return ParentFit(tuple(own), tuple(mirrored))


def refuse_mirrored(fit: ParentFit, source: str) -> None:
    """Say how pairs fit the model before; raises `BadDataError` when it saw them the other way round."""
    if not fit.own:
        return
    if not fit.says_mirrored:
        log.info("the model before fits %d pairs with Dice %.2f, mirrored ones with %.2f",
                 len(fit.own), np.mean(fit.own), np.mean(fit.mirrored))  # fmt: skip
        return
    raise BadDataError(
        f"the pairs lie mirrored to what {source} was trained on: {fit.words}",
        "If left sides were flipped in their voxels, say --left-is flipped; if they lie as in the head, --left-is "
        "as-in-head; where ids name no side, give it in the column hemi of pairs.tsv. If the pairs are right and the "
        "model before saw mirrored ones, start from another one, or with --model scratch.",
    )
