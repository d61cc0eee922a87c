"""Are the headers of left sides true? Told by the shapes of their labels, where nothing else says it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from bidsapp.guards.likeness import mirrored_gains, take_sample
from bidsapp.images.orientation import turn_volume
from bidsapp.images.volumes import VolumeError, read_volume
from bidsapp.records import Pair

log = logging.getLogger(__name__)

_TELLING_GAIN = 0.03
"""Cosine by which a label must fit the template better in one of two ways; 95 of 100 real ones do."""


def true_headers(lefts: Sequence[Pair], pairs: Sequence[Pair]) -> dict[str, bool]:
    """Tell by the shapes of labels whether the headers of left sides are true: `bidsapp.pairs.pairs.ByContent`.

    Where all that can be decided agree, the others are taken to be the same.
    """
    samples = {}
    for pair in lefts:
        try:
            label = turn_volume(read_volume(pair.label, "pair"), pair.axes)
        except VolumeError:
            continue  # checking the pairs says what is wrong
        labels = np.nan_to_num(np.rint(label.data)).astype(np.int16)
        sample = take_sample(labels, labels.astype(np.float32), label.spacing_mm.tolist())
        if sample is not None:
            samples[pair.case] = sample
    gains = dict(zip(samples, mirrored_gains(list(samples.values())), strict=True))
    decided = {case: gain < 0 for case, gain in gains.items() if abs(gain) >= _TELLING_GAIN}
    if decided:
        log.info("%d of %d left sides were flipped without a change of their header, by the shape of their labels",
                 len(decided) - sum(decided.values()), len(decided))  # fmt: skip
    if len(set(decided.values())) == 1:
        return dict.fromkeys(samples, next(iter(decided.values())))
    return decided
