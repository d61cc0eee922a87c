"""Tiny data sets whose files are empty: finding never opens an image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


class FakeDataset:
    """A data set of empty files."""

    def __init__(self, root: Path, **description: object) -> None:
        self.root = root
        root.mkdir(parents=True)
        self.write("dataset_description.json", {"Name": "fake", "BIDSVersion": "1.8.0", **description})

    def add(self, *names: str, folder: str = "anat") -> list[Path]:
        """Make files from names like ``sub-01_ses-1_T1w.nii.gz`` where BIDS wants them."""
        paths = []
        for name in names:
            person, _, rest = name.partition("_")
            session = rest.partition("_")[0] if rest.startswith("ses-") else ""
            path = self.root / person / session / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            paths.append(path)
        return paths

    def write(self, relative: str, content: object) -> Path:
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path


@pytest.fixture
def raw(tmp_path: Path) -> FakeDataset:
    return FakeDataset(tmp_path / "bids")


@pytest.fixture
def deriv(tmp_path: Path) -> FakeDataset:
    return FakeDataset(tmp_path / "tool", DatasetType="derivative", GeneratedBy=[{"Name": "tool"}])


@pytest.fixture
def deriv2(tmp_path: Path) -> FakeDataset:
    return FakeDataset(tmp_path / "tool2", DatasetType="derivative", GeneratedBy=[{"Name": "tool2"}])
