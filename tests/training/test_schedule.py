from __future__ import annotations

import pytest

from bidsapp.config import OptimizerSettings
from bidsapp.training.schedule import learning_rate

FIRST = OptimizerSettings(learning_rate=1.0, decay_exponent=1.0)


@pytest.mark.parametrize(
    ("iteration", "start", "target", "expected"),
    [
        (0, 0, 100, 1.0),  # nnU-Net: no warm-up
        (50, 0, 100, 0.5),
        (99, 0, 100, 0.01),
        (100, 100, 200, 0.2 / 6),  # a later segment: peak 0.2, warm-up over 5 of its 100 iterations
        (105, 100, 200, 0.2 * 0.95),
        (150, 100, 200, 0.1),
    ],
)
def test_rates_by_hand(iteration: int, start: int, target: int, expected: float) -> None:
    assert learning_rate(iteration, start=start, target=target, settings=FIRST) == pytest.approx(expected)


def test_the_first_segment_may_warm_up() -> None:
    settings = OptimizerSettings(learning_rate=1.0, warmup_iterations=4, decay_exponent=0)
    rates = [learning_rate(i, start=0, target=10, settings=settings) for i in range(10)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1])
