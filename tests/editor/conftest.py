"""A small study as the participant level leaves it, and a page that talks to the real app in the same process."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from starlette.testclient import TestClient

from bidsapp.bids.sidecars import crop_sidecar, prediction_sidecar
from bidsapp.content import file_sha256, image_sha256
from bidsapp.corobl.grid import crop_image
from bidsapp.editor.app import make_app
from bidsapp.editor.security import TOKEN_HEADER, Access
from bidsapp.files import write_json
from bidsapp.guards.label_guards import DEFAULT_LIMITS
from bidsapp.images.writing import write_image
from bidsapp.layout import OutputLayout, sidecar
from bidsapp.records import SIDES, Side
from bidsapp.review.settings import write_limits
from bidsapp.review.table import add_rows, read_review_table
from tests.drawn import draw

NAMES = {1: "Anterior", 2: "Posterior"}
BASE = "http://127.0.0.1:8417"
FIRST = "sub-01_hemi-L"


def write_side(
    layout: OutputLayout, participant: str, side: Side, crop: nib.Nifti1Image, prediction: nib.Nifti1Image | None
) -> None:
    """Files and sidecars of one side."""
    session = layout.session(participant, None)
    image, label = session.crop(side, "T1w"), session.prediction(side)
    write_image(image, crop)
    digest = image_sha256(np.asanyarray(crop.dataobj), crop.affine)
    facts: dict[str, Any] = {
        "file_sha256": file_sha256(image),
        "crop_sha256": digest,
        "registration": {},
        "transform_sha256": None,
    }
    write_json(sidecar(image), crop_sidecar(sources=[], skull_stripped=False, facts=facts))
    if prediction is None:
        return
    write_image(label, prediction)
    amber = {"level": "amber", "measure": "volume_mm3", "value": 900.0, "words": f"the {side} side is small"}
    facts = {
        "file_sha256": file_sha256(label),
        "crop_sha256": {"T1w": digest},
        "model": "a-model",
        "model_sha256": "abc",
        "labels": {str(value): name for value, name in NAMES.items()},
        "hippocampus_mm3": None,
        "judgements": [amber] if side == "R" else [],
    }
    write_json(sidecar(label), prediction_sidecar(sources=[], facts=facts))


def open_table(layout: OutputLayout, *keys: tuple[str, str | None, Side]) -> None:
    layout.labels.mkdir(exist_ok=True)
    write_limits(layout.review_settings, DEFAULT_LIMITS)
    add_rows(layout.review_table, read_review_table(layout.review_table), keys)


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people; every prediction is the template's hippocampus."""
    layout = OutputLayout(tmp_path_factory.mktemp("editor") / "out")
    for participant in ("01", "02"):
        for side in SIDES:
            labels = draw(side)
            crop = np.where(labels > 0, 2.0, 1.0).astype(np.float32)
            write_side(layout, participant, side, crop_image(crop, side), crop_image(labels, side))
    open_table(layout, *((participant, None, side) for participant in ("01", "02") for side in SIDES))
    return layout.root


@pytest.fixture
def study(finished_study: Path, tmp_path: Path) -> OutputLayout:
    """A copy that a test may write to."""
    shutil.copytree(finished_study, tmp_path / "out")
    return OutputLayout(tmp_path / "out")


@dataclass
class Page:
    """One browser tab that came in by the printed address."""

    client: TestClient
    token: str
    tab: str = "tab-1"
    more: dict[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        return {TOKEN_HEADER: self.token, "X-Tab": self.tab, **self.more}

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers={**self.headers, **headers})

    def side(self, side: str = FIRST) -> dict[str, Any]:
        answer = self.get(f"/api/sides/{side}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def hold(self, side: str = FIRST, rater: str = "Ada") -> Any:
        return self.client.post(f"/api/sides/{side}/hold", json={"tab": self.tab, "rater": rater}, headers=self.headers)

    def labels(self, url: str) -> np.ndarray:
        answer = self.get(url)
        assert answer.status_code == 200, answer.text
        return np.asanyarray(nib.Nifti1Image.from_bytes(gzip.decompress(answer.content)).dataobj)

    def put_draft(self, labels: np.ndarray, side: str = FIRST, version: str | None = None) -> Any:
        body = gzip.compress(labels.astype("<u2").tobytes(order="F"), 1)
        version = version or self.side(side)["version"]
        headers = {**self.headers, "X-Version": version}
        return self.client.put(f"/api/sides/{side}/draft", content=body, headers=headers)

    def save(self, side: str = FIRST, version: str | None = None, **more: Any) -> Any:
        body = {"tab": self.tab, "version": version or self.side(side)["version"], **more}
        return self.client.post(f"/api/sides/{side}/save", json=body, headers=self.headers)

    def decide(self, status: str, side: str = FIRST, version: str | None = None, **more: Any) -> Any:
        body = {"tab": self.tab, "version": version or self.side(side)["version"], "status": status, "rater": "Ada"}
        return self.client.post(f"/api/sides/{side}/decision", json=body | more, headers=self.headers)


@pytest.fixture
def visit() -> Iterator[Callable[..., Page]]:
    """Start the app of an OUTPUT_DIR and enter it."""
    opened: list[TestClient] = []

    def enter(layout: OutputLayout) -> Page:
        access = Access()
        client = TestClient(make_app(layout, access), base_url=BASE, follow_redirects=False)
        opened.append(client)
        assert client.get(f"/?token={access.token}").status_code == 200
        return Page(client, access.token)

    yield enter
    for client in opened:
        client.close()


@pytest.fixture
def page(study: OutputLayout, visit: Callable[..., Page]) -> Page:
    return visit(study)


def add_a_rim(labels: np.ndarray) -> np.ndarray:
    """A small honest correction: the upper border of label 1 one voxel further out."""
    changed = labels.copy()
    changed[np.roll(labels == 1, 1, axis=2) & (labels == 0)] = 1
    return changed
