"""How often each case is drawn, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bidsapp.errors import UsageError
from bidsapp.training.trainer import TrainingInputs, case_shares

CASES = ["d", "c", "b", "a"]  # shares are in alphabetical order


@pytest.mark.parametrize(
    ("as_predicted", "rehearsal", "weight", "expected"),
    [
        ("", "", 0.5, None),
        ("ab", "", 1.0, None),
        ("abcd", "", 0.5, None),
        ("ab", "", 0.5, [1 / 6, 1 / 6, 1 / 3, 1 / 3]),
        ("ab", "", 0.0, [0, 0, 1 / 2, 1 / 2]),
        ("a", "", 2.0, [2 / 5, 1 / 5, 1 / 5, 1 / 5]),
        ("", "ab", 0.5, [1 / 8, 1 / 8, 3 / 8, 3 / 8]),
        ("ac", "ab", 0.5, [1 / 12, 1 / 6, 1 / 4, 1 / 2]),  # within each part 1 : 2
        ("ab", "ab", 0.0, [0, 0, 1 / 2, 1 / 2]),
        ("", "abcd", 0.5, None),
    ],
)
def test_shares(as_predicted: str, rehearsal: str, weight: float, expected: list[float] | None) -> None:
    inputs = TrainingInputs((), (), rehearsal=frozenset(rehearsal), as_predicted=frozenset(as_predicted))
    shares = case_shares(CASES, inputs, rehearsal_fraction=0.25, predicted_weight=weight)
    if expected is None:
        assert shares is None
    else:
        np.testing.assert_allclose(shares, expected)


def test_nothing_is_left_to_train_on() -> None:
    inputs = TrainingInputs((), (), as_predicted=frozenset(CASES))
    with pytest.raises(UsageError, match="predicted_weight = 0"):
        case_shares(CASES, inputs, rehearsal_fraction=0.25, predicted_weight=0)
