from __future__ import annotations

from pathlib import Path

import pytest
from training_folder import TrainingFolder


@pytest.fixture
def folder(tmp_path: Path) -> TrainingFolder:
    return TrainingFolder(tmp_path / "training set")


@pytest.fixture
def shared_data() -> Path:
    path = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the real data are not on this machine")
    return path
