"""Check before hours of training that pairs have the orientation that the parent was trained on, not its mirror image.

The parent segments a few pairs as they are and mirrored left to right. When it agrees with their labels better in the
mirrored images, the pairs are mirrored to its training data.
"""

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
"""Pairs per side: these are enough to decide (see `GAIN`), and each is segmented twice."""

LEAST_PAIRS = 3
LEAST_DICE = 0.5
"""Where the parent scores less than this both ways, its answers do not tell which orientation is right."""

GAIN = 0.05
"""Median gain in Dice from mirroring, from which on pairs count as mirrored.

A hippocampus resembles its mirror image. On 40 real pairs that it never saw, the built-in model had a higher Dice in
the true orientation in all of them, by 0.07 to 0.52 with a median of 0.22. The median of any five pairs was above 0.1.
"""

BETTER = 0.75
"""The share of pairs that must fit better mirrored."""

_MARGIN_MM = 12.0


class Segmenter(Protocol):
    """The part of `bidsapp.prediction.Predictor` that is needed here."""

    @property
    def labels(self) -> Mapping[int, str]:
        """Value -> name."""

    def predict_array(self, images: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        """Segment images (channels, x, y, z) in network space."""


@dataclass(frozen=True)
class MirrorFit:
    """Dice of the parent with the labels, merged into one, of every pair that was tried."""

    own: tuple[float, ...]
    """One value per pair, segmented as it is."""
    mirrored: tuple[float, ...]
    """One value per pair, segmented mirrored left to right."""

    @property
    def fits_better_mirrored(self) -> bool:
        """Whether the parent was trained on mirror images of these pairs."""
        if len(self.own) < LEAST_PAIRS or float(np.median(self.mirrored)) < LEAST_DICE:
            return False
        return self._better >= BETTER * len(self.own) and float(np.median(self._gains)) >= GAIN

    @property
    def summary(self) -> str:
        """``4 of 5 pairs fit it better mirrored: Dice 0.81 against 0.64``."""
        means = f"Dice {np.mean(self.mirrored):.2f} against {np.mean(self.own):.2f}"
        return f"{self._better} of {len(self.own)} pairs fit it better mirrored: {means}"

    @property
    def _gains(self) -> np.ndarray:
        return np.subtract(self.mirrored, self.own)

    @property
    def _better(self) -> int:
        return int(np.count_nonzero(self._gains > 0))


def refuse_pairs_mirrored_to_parent(
    parent: LoadedModel, pairs: Sequence[Pair], names: Mapping[int, str], channels: Sequence[str], *,
    device: str, cores: int | None,
) -> None:  # fmt: skip
    """Refuse pairs that are mirrored to what the parent was trained on; each side is checked by itself.

    Parameters
    ----------
    names, channels
        Of the pairs: label value -> name, and what their images are.
    device, cores
        Where the model runs.

    Raises
    ------
    BadDataError
        When the pairs of a side are mirrored.
    """
    if any(name not in channels for name in parent.channels):
        return  # it has never seen such images
    from bidsapp.prediction import Predictor, choose_device

    predictor = Predictor(parent, choose_device(device), cores=cores)
    wanted = [list(channels).index(name) for name in parent.channels]
    for hemi in get_args(Hemi):
        of_side = [pair for pair in pairs if pair.hemi == hemi]
        refuse_mirrored(fit_both_ways(predictor, of_side, wanted, names), hemi, str(parent.source))


def fit_both_ways(
    segmenter: Segmenter, pairs: Sequence[Pair], channels: Sequence[int], names: Mapping[int, str]
) -> MirrorFit:
    """Let the parent segment a few pairs, evenly spread over the list, as they are and mirrored.

    Only the region around the labels is segmented, which saves most of the time.

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
    return MirrorFit(tuple(own), tuple(mirrored))


def _comparable(names: Mapping[int, str], theirs: Mapping[int, str]) -> tuple[list[int], list[int]]:
    """Values of the labels that both have by name, of pairs and parent; without any, of all hippocampal labels."""
    common = set(names.values()) & set(theirs.values())
    if common:
        return [value for value in names if names[value] in common], [v for v in theirs if theirs[v] in common]
    return list(hippocampal_values(names)), list(hippocampal_values(theirs))


def refuse_mirrored(fit: MirrorFit, hemi: Hemi, source: str) -> None:
    """Log how well the parent fits the pairs of a side; raises `BadDataError` when they are mirrored."""
    if not fit.own:
        return
    which = _WHICH[hemi]
    if not fit.fits_better_mirrored:
        log.info("the parent segments %d %s with a Dice of %.2f, and %.2f when they are mirrored",
                 len(fit.own), which, np.mean(fit.own), np.mean(fit.mirrored))  # fmt: skip
        return
    raise BadDataError(
        f"the {which} are mirrored to what {source} was trained on: {fit.summary}",
        f"{_WAY_OUT[hemi]} If the pairs are right and the parent was trained on mirrored ones, start from another "
        "model, or with --model scratch.",
    )


_WHICH: Mapping[Hemi, str] = {"L": "left sides", "R": "right sides", "n/a": "pairs without a side"}
_WAY_OUT: Mapping[Hemi, str] = {
    "L": "If they were flipped in their voxels, give --left-is flipped; if not, --left-is as-in-head.",
    "R": "If they are left sides, write L into the column hemi of pairs.tsv; else store them again under true headers.",
    "n/a": "Give their sides in the column hemi of pairs.tsv, and of left ones --left-is flipped or as-in-head.",
}
