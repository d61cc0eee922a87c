"""Small real trainings that several tests look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from bidsapp.layout import ModelLayout
from demo.simulate import simulate_people
from tests.conftest import Finished, run_py

PEOPLE, SEED, ITERATIONS = 8, 7, 120


@dataclass(frozen=True)
class Trained:
    """A finished run and where it left its model."""

    pairs: Path
    layout: ModelLayout
    run: Finished


def train(pairs: Path, model_dir: Path, *options: object, iterations: int = ITERATIONS) -> Trained:
    """Train the tiny network on `pairs`, in a process of its own."""
    run = run_py(
        *(pairs, model_dir.parent / "out", "group", "--training-dir", pairs, "--model-dir", model_dir),
        *("--preset", "tiny", "--iterations", iterations, *options),
    )
    return Trained(pairs, ModelLayout(model_dir), run)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people, two sides each, at 1 mm; made from the CIT168 atlas."""
    folder = tmp_path_factory.mktemp("pairs")
    simulate_people(folder, PEOPLE, SEED, spacing_mm=1.0)
    return folder


@pytest.fixture(scope="session")
def trained(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The main job, once from end to end."""
    done = train(pairs, tmp_path_factory.mktemp("model") / "small")
    assert done.run.code == 0, done.run.output
    return done
