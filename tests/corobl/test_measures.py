"""Margins, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bidsapp.corobl.grid import GRIDS, SHAPE
from bidsapp.corobl.measures import Border, contain_crop_mask, contain_native_mask
from bidsapp.corobl.template import load_hippocampus
from bidsapp.images.grids import Grid
from bidsapp.images.orientation import turned_grid
from bidsapp.images.volumes import Volume
from bidsapp.records import Side


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
    found = contain_crop_mask(mask, GRIDS[side], side)
    assert found is not None
    assert (found.margin_mm, found.border, found.share) == (pytest.approx(margin_mm), border, 1.0)


def test_a_native_mask_that_reaches_out_has_a_negative_margin() -> None:
    # Two 1 mm voxels: one in the middle of the left crop, one 2 mm lateral of its border at x = -40.55.
    affine = np.eye(4)
    affine[:3, 3] = (-50, -20, -20)
    mask = np.zeros((40, 20, 20), dtype=bool)
    mask[8, 10, 10] = mask[30, 10, 10] = True
    found = contain_native_mask(Volume(mask, affine), np.eye(4), GRIDS["L"], "L")
    assert found is not None
    # The outer face of voxel 8 lies at x = -42.5: 1.95 mm beyond the border.
    assert (found.margin_mm, found.border, found.share) == (pytest.approx(-1.95), "lateral", 0.5)


def test_both_ways_of_measuring_agree_on_the_template() -> None:
    for side in ("L", "R"):
        mask = load_hippocampus(side)
        in_crop = contain_crop_mask(mask, GRIDS[side], side)
        in_native = contain_native_mask(Volume(mask, GRIDS[side].affine), np.eye(4), GRIDS[side], side)
        assert in_crop is not None
        assert in_native is not None
        assert in_native.margin_mm == pytest.approx(in_crop.margin_mm)
        assert in_native.border == in_crop.border
        assert in_crop.margin_mm > 3


def test_nothing_has_no_margin() -> None:
    empty = np.zeros(SHAPE, dtype=bool)
    assert contain_crop_mask(empty, GRIDS["L"], "L") is None
    assert contain_native_mask(Volume(empty, np.eye(4)), np.eye(4), GRIDS["R"], "R") is None


@pytest.mark.parametrize(("axes", "border"), [("LAS", "medial"), ("RAS", "lateral"), ("SLA", "inferior")])
def test_borders_are_named_by_the_header_of_the_crop(axes: str, border: Border) -> None:
    grid = turned_grid(Grid((20, 30, 40), np.diag([-1.0, 1, 1, 1])), axes)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[2, 9, 9] = True
    found = contain_crop_mask(mask, grid, "L")
    assert found is not None
    assert (found.margin_mm, found.border) == (pytest.approx(2.0), border)
