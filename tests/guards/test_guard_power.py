"""Every kind of fault is caught and good labels pass: a small part of `python -m benchmarks.guards`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.good_labels import GoodCase, good_cases
from benchmarks.guards import refusals
from benchmarks.label_faults import FAULTS, Fault, check_fault
from tests.conftest import SHARED_DATA


@pytest.fixture(scope="module")
def cases() -> list[GoodCase]:
    """One label map of each table where real ones are at hand."""
    real = list(good_cases(SHARED_DATA, 7)) if SHARED_DATA.is_dir() else []
    return [real[6], real[2]] if len(real) == 7 else list(good_cases(None, 2))


def test_good_labels_pass(cases: list[GoodCase], tmp_path: Path) -> None:
    assert {case.name: refusals(case, tmp_path) for case in cases} == {case.name: [] for case in cases}


@pytest.mark.parametrize(("number", "fault"), enumerate(FAULTS), ids=[fault.name for fault in FAULTS])
def test_every_fault_is_caught(cases: list[GoodCase], tmp_path: Path, number: int, fault: Fault) -> None:
    case = cases[number % len(cases)]
    spoke = check_fault(fault, case, tmp_path, np.random.default_rng(number))
    assert spoke & fault.guards, f"{case.name}: only {sorted(spoke)} spoke"


def test_there_are_twenty_kinds() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 20
