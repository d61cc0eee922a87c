"""run.py with a network whose answers are known: it draws the template's hippocampus, whatever crop it is shown.

What a network learned differs from processor to processor. Tests of what comes after a prediction (review, pairs,
pages) start from this one; everything but the network itself is real.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np

from bidsapp.arrays import IntArray
from bidsapp.corobl.template import load_hippocampus
from bidsapp.images.volumes import Volume
from bidsapp.participants import segment
from bidsapp.prediction import Predictor
from bidsapp.records import Side
from tests.conftest import Finished, run_py


def draw(side: Side) -> IntArray:
    """The template's hippocampus in a crop: 1 for its front half, 2 for the other."""
    mask = load_hippocampus(side)
    labels = np.where(mask, 2, 0).astype(np.uint8)
    front = np.median(np.nonzero(mask)[1])
    labels[:, int(front) :][mask[:, int(front) :]] = 1
    return labels


def _answer(predictor: Predictor, crops: Sequence[Volume], side: Side) -> Volume:
    assert sorted(predictor.labels) == [1, 2]
    return Volume(draw(side), crops[0].affine)


def run_drawn(*arguments: object, cwd: Path | None = None) -> Finished:
    """Run the command line of `run.py` with this network."""
    with patch.object(segment, "segment_crop", _answer):
        return run_py(*arguments, cwd=cwd)
