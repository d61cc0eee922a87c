from __future__ import annotations

import json

import pytest

from bidsapp.bids.sidecars import crop_sidecar, native_prediction_sidecar, prediction_sidecar

SCAN = "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"
COROBL = "https://doi.org/10.7554/eLife.77945"
FACTS = {"model": 'a "quoted"\nname', "quality": 1.1}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            crop_sidecar(sources=[SCAN], skull_stripped=True, facts=FACTS),
            {"SpatialReference": COROBL, "SkullStripped": True},
        ),
        (prediction_sidecar(sources=[SCAN], facts=FACTS), {"SpatialReference": COROBL, "Manual": False}),
        (
            native_prediction_sidecar(sources=[SCAN], scan=SCAN, facts=FACTS),
            {"SpatialReference": SCAN, "Manual": False},
        ),
    ],
    ids=["crop", "prediction", "native"],
)
def test_sidecars(content, expected):
    assert content.items() >= expected.items()
    assert content["Sources"] == [SCAN]
    assert content["HippoTune"] == FACTS
    assert {"Description", "Resolution"} <= content.keys()
    assert json.loads(json.dumps(content, allow_nan=False)) == content


@pytest.mark.parametrize("column", ["index", "name", "voxels", "volume_mm3"])
def test_the_columns_of_the_tables_are_described(column):
    for content in (
        prediction_sidecar(sources=[], facts={}),
        native_prediction_sidecar(sources=[], scan=SCAN, facts={}),
    ):
        assert content[column]["Description"]
