"""Volumes and margins, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bidsapp.corobl.grid import GRIDS, SHAPE
from bidsapp.corobl.measures import Border, contain_crop_mask, contain_native_mask, volumes_mm3
from bidsapp.corobl.template import load_hippocampus
from bidsapp.records import Side


def test_volumes_count_in_the_scans_millimetres() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[:10, :10, :10] = 8
    labels[20, 20, :5] = 1
    # 1000 and 5 voxels of 0.027 mm3, in a head of 1.1 x 1.2 x 0.5 = 0.66 times the template, mirrored or not.
    volumes = volumes_mm3(labels, np.diag([-1.1, 1.2, 0.5, 1]))
    assert list(volumes) == [1, 8]
    assert volumes == pytest.approx({1: 0.0891, 8: 17.82})
    assert volumes_mm3(np.zeros(SHAPE, np.uint8), np.eye(4)) == {}


@pytest.mark.parametrize(
    ("side", "voxel", "margin_mm", "border"),
    [
        ("L", (0, 100, 60), 0.0, "medial"),
        ("R", (0, 100, 60), 0.0, "lateral"),
        ("L", (117, 100, 60), 3.0, "lateral"),
        ("R", (60, 250, 60), 1.5, "anterior"),
        ("R", (60, 100, 2), 0.6, "inferior"),
    ],
)
def test_the_nearest_border_of_the_crop_and_the_room_to_it(
    side: Side, voxel: tuple[int, int, int], margin_mm: float, border: Border
) -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[60, 100, 60] = mask[voxel] = True
    found = contain_crop_mask(mask, side)
    assert found is not None
    assert (found.margin_mm, found.border, found.share) == (pytest.approx(margin_mm), border, 1.0)


def test_a_native_mask_that_reaches_out_has_a_negative_margin() -> None:
    # Two 1 mm voxels: one in the middle of the left crop, one 2 mm lateral of its border at x = -40.55.
    affine = np.eye(4)
    affine[:3, 3] = (-50, -20, -20)
    mask = np.zeros((40, 20, 20), dtype=bool)
    mask[8, 10, 10] = mask[30, 10, 10] = True
    found = contain_native_mask(mask, affine, np.eye(4), "L")
    assert found is not None
    # The outer face of voxel 8 lies at x = -42.5: 1.95 mm beyond the border.
    assert (found.margin_mm, found.border, found.share) == (pytest.approx(-1.95), "lateral", 0.5)


def test_both_ways_of_measuring_agree_on_the_template() -> None:
    for side in ("L", "R"):
        mask = load_hippocampus(side)
        in_crop = contain_crop_mask(mask, side)
        in_native = contain_native_mask(mask, GRIDS[side].affine, np.eye(4), side)
        assert in_crop is not None
        assert in_native is not None
        assert in_native.margin_mm == pytest.approx(in_crop.margin_mm)
        assert in_native.border == in_crop.border
        assert in_crop.margin_mm > 3


def test_nothing_has_no_margin() -> None:
    empty = np.zeros(SHAPE, dtype=bool)
    assert contain_crop_mask(empty, "L") is None
    assert contain_native_mask(empty, np.eye(4), np.eye(4), "R") is None
