"""How often a run of review opens what it reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bidsapp.bids.sidecars import crop_sidecar, prediction_sidecar
from bidsapp.content import file_sha256
from bidsapp.corobl.grid import crop_image
from bidsapp.files import write_json
from bidsapp.images.fingerprints import read_image_sha256
from bidsapp.images.writing import new_image, write_image
from bidsapp.layout import OutputLayout, sidecar
from bidsapp.records import MODALITIES, SIDES, Modality, Side
from bidsapp.review.snapshots import ImageSnapshots
from demo.simulate import LABELS, simulate_side

COUNT_OPENS = """
import json, os, sys
from collections import Counter
from pathlib import Path
from bidsapp.layout import OutputLayout
from bidsapp.levels.review import ReviewRequest, run

layout, opened, counts = OutputLayout(Path(sys.argv[1])), Counter(), []

def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], str | os.PathLike) and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        opened[os.fspath(arguments[0])] += 1

sys.addaudithook(hook)
for status in ("pending", "approved", "approved"):
    table = layout.review_table
    if table.exists():
        table.write_text(table.read_text().replace("pending\\tn/a", f"{status}\\tAda"))
    opened.clear()
    run(ReviewRequest(layout))
    counts.append(dict(opened))
print(json.dumps(counts))
"""


@pytest.fixture
def two_sides(tmp_path: Path) -> OutputLayout:
    """Both sides of a simulated person with crops, predictions, and corrections that differ from these by a rim."""
    layout = OutputLayout(tmp_path)
    for side in SIDES:
        write_side(layout, side)
    return layout


def write_side(layout: OutputLayout, side: Side) -> None:
    session = layout.session("01", None)
    (image,), label = simulate_side(0, side, 3, ("T1w",), 0.3)
    step = -1 if side == "L" else 1
    crop, drawn = (np.ascontiguousarray(np.asanyarray(one.dataobj)[::step]) for one in (image, label))
    predicted = np.where((np.roll(drawn == 1, 1, axis=2)) & (drawn == 0), 1, drawn).astype(np.uint8)
    crops = {}
    contrasts: dict[Modality, np.ndarray] = {"T1w": crop, "T2w": -crop}
    for modality, values in contrasts.items():
        path = session.crop(side, modality)
        write_image(path, crop_image(values.astype(np.float32), side))
        crops[modality] = read_image_sha256(path)
        facts = {"file_sha256": file_sha256(path), "crop_sha256": crops[modality], "registration": {"determinant": 1}}
        write_json(sidecar(path), crop_sidecar(sources=[], skull_stripped=False, facts=facts))
    path = session.prediction(side)
    write_image(path, crop_image(predicted, side))
    named = {"labels": {str(value): name for value, name in LABELS.items()}, "model": "a-model", "model_sha256": "m"}
    facts = {"file_sha256": file_sha256(path), "crop_sha256": crops, **named}
    write_json(sidecar(path), prediction_sidecar(sources=[], facts=facts))
    write_image(layout.manual_label("01", None, side), crop_image(drawn.astype(np.uint8), side))


def test_a_run_opens_crops_and_corrections_twice_at_most_and_the_ledger_once(two_sides: OutputLayout) -> None:
    layout = two_sides
    command = [sys.executable, "-c", COUNT_OPENS, str(layout.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(layout.ledger.read_text().splitlines()) == 2
    runs = json.loads(done.stdout.splitlines()[-1])
    crops = [layout.session("01", None).crop(side, modality) for side in SIDES for modality in MODALITIES]
    corrections = [layout.manual_label("01", None, side) for side in SIDES]
    for counts in runs:
        for path in (*crops, *corrections):
            assert 1 <= counts.get(str(path), 0) <= 2, path
    assert [counts.get(str(layout.ledger), 0) for counts in runs] == [0, 0, 1]


def test_a_file_that_is_saved_again_is_read_again(tmp_path: Path) -> None:
    path, images = tmp_path / "a.nii.gz", ImageSnapshots()
    values = np.zeros((4, 5, 6), np.uint8)
    for value in (1, 2):
        values[0] = value
        write_image(path, new_image(values, np.eye(4)))
        assert images[path].labels.max() == value
        assert images[path].file_sha256 == file_sha256(path)
        assert images[path].image_sha256 == read_image_sha256(path)
        assert images[path] is images[path]


def test_the_fingerprint_of_scaled_values_is_that_of_a_plain_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    image = new_image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), np.eye(4))
    image.header.set_slope_inter(0.1, 3)
    image.to_filename(path)
    assert ImageSnapshots()[path].image_sha256 == read_image_sha256(path)


def test_dropped_voxels_are_read_again_and_fingerprints_stay(tmp_path: Path) -> None:
    path, images = tmp_path / "a.nii.gz", ImageSnapshots()
    write_image(path, new_image(np.ones((4, 5, 6), np.uint8), np.eye(4)))
    before, volume = images[path].image_sha256, images[path].volume
    images.drop_voxels()
    assert images[path].volume is not volume
    assert images[path].image_sha256 == before
