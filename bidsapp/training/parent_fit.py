"""Do pairs lie as the model before saw them? It is asked before hours of training on mirrored ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, get_args

import numpy as np

from bidsapp.errors import BadDataError
from bidsapp.evaluation.metrics import dice
from bidsapp.guards.placement import bounding_box
from bidsapp.labels.tables import hippocampal_values
from bidsapp.records import Hemi, Pair
from bidsapp.training.import_pairs import load_pair

if TYPE_CHECKING:
    from bidsapp.exchange.loading import LoadedModel

log = logging.getLogger(__name__)

MOST_PAIRS = 5
"""Of each side: enough to decide (see `GAIN`), and each is segmented twice."""

LEAST_PAIRS = 3
LEAST_DICE = 0.5
"""Where the model before does worse in both ways, it says nothing about which of them is right."""

GAIN = 0.05
"""Dice by which pairs must fit better mirrored, in the median.

A hippocampus is much like its mirror image: the built-in model fits each of 40 real pairs that it never saw better as
it lies, but by .07 to .52 only, in the median by .22. That of any five of them was above .1.
"""

BETTER = 0.75
"""The share of pairs that must fit better mirrored."""

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
    """Dice of the labels, as one, of every pair that was asked about, as it lies and mirrored left to right."""

    own: tuple[float, ...]
    mirrored: tuple[float, ...]

    @property
    def says_mirrored(self) -> bool:
        """Whether the model before saw such pairs the other way round."""
        if len(self.own) < LEAST_PAIRS or float(np.median(self.mirrored)) < LEAST_DICE:
            return False
        return self._better >= BETTER * len(self.own) and float(np.median(self._gains)) >= GAIN

    @property
    def words(self) -> str:
        """``4 of 5 pairs fit it better mirrored: Dice 0.81 against 0.64``."""
        means = f"Dice {np.mean(self.mirrored):.2f} against {np.mean(self.own):.2f}"
        return f"{self._better} of {len(self.own)} pairs fit it better mirrored: {means}"

    @property
    def _gains(self) -> np.ndarray:
        return np.subtract(self.mirrored, self.own)

    @property
    def _better(self) -> int:
        return int(np.count_nonzero(self._gains > 0))


def ask_parent(
    base: LoadedModel, pairs: Sequence[Pair], names: Mapping[int, str], channels: Sequence[str], *,
    device: str, cores: int | None,
) -> None:  # fmt: skip
    """Refuse pairs that lie mirrored to what the model before was trained on; asked of each side alone.

    Parameters
    ----------
    names, channels
        Of the pairs: label value -> name, and what their images are.
    device, cores
        Where the model runs.

    Raises
    ------
    BadDataError
        When all pairs of a side lie the other way round.
    """
    if any(name not in channels for name in base.channels):
        return  # it has never seen such images
    from bidsapp.prediction import Predictor, choose_device

    predictor = Predictor(base, choose_device(device), cores=cores)
    wanted = [list(channels).index(name) for name in base.channels]
    for hemi in get_args(Hemi):
        of_side = [pair for pair in pairs if pair.hemi == hemi]
        refuse_mirrored(fit_parent(predictor, of_side, wanted, names), hemi, str(base.source))


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
    spread = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_PAIRS)).astype(int))
    whole, theirs = _comparable(names, segmenter.labels)
    own: list[float] = []
    mirrored: list[float] = []
    for pair in [pairs[index] for index in spread]:
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


def _comparable(names: Mapping[int, str], theirs: Mapping[int, str]) -> tuple[list[int], list[int]]:
    """Values of the labels that both know by name; where there are none, of what makes up a hippocampus."""
    common = set(names.values()) & set(theirs.values())
    if common:
        return [value for value in names if names[value] in common], [v for v in theirs if theirs[v] in common]
    return list(hippocampal_values(names)), list(hippocampal_values(theirs))


def refuse_mirrored(fit: ParentFit, hemi: Hemi, source: str) -> None:
    """Say how pairs of a side fit the model before; raises `BadDataError` when it saw them the other way round."""
    if not fit.own:
        return
    which = _WHICH[hemi]
    if not fit.says_mirrored:
        log.info("the model before fits %d %s with Dice %.2f, mirrored ones with %.2f",
                 len(fit.own), which, np.mean(fit.own), np.mean(fit.mirrored))  # fmt: skip
        return
    raise BadDataError(
        f"the {which} lie mirrored to what {source} was trained on: {fit.words}",
        f"{_WAY_OUT[hemi]} If the pairs are right and the model before saw mirrored ones, start from another one, or "
        "with --model scratch.",
    )


_WHICH: Mapping[Hemi, str] = {"L": "left sides", "R": "right sides", "n/a": "pairs without a side"}
_WAY_OUT: Mapping[Hemi, str] = {
    "L": "If they were flipped in their voxels, say --left-is flipped; if not, --left-is as-in-head.",
    "R": "If they are left sides, say so in the column hemi of pairs.tsv; else store them anew under true headers.",
    "n/a": "Give their sides in the column hemi of pairs.tsv, and of left ones --left-is flipped or as-in-head.",
}
