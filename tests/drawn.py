"""run.py with a network whose answers are known: it draws the template's hippocampus, whatever crop it is shown.

What a network learned differs from processor to processor. Tests of what comes after a prediction (review, pairs,
pages) start from this one; everything but the network itself is real. A script with run.py's arguments.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp.arrays import IntArray  # noqa: E402
from bidsapp.cli import main  # noqa: E402
from bidsapp.corobl.template import load_hippocampus  # noqa: E402
from bidsapp.images.volumes import Volume  # noqa: E402
from bidsapp.participants import segment  # noqa: E402
from bidsapp.prediction import Predictor  # noqa: E402
from bidsapp.records import Side  # noqa: E402
from tests.conftest import Finished  # noqa: E402


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
    """Run this script as `tests.conftest.run_py` runs run.py."""
    process = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return Finished(process.returncode, process.stdout)


if __name__ == "__main__":
    segment.segment_crop = _answer
    sys.exit(main())
