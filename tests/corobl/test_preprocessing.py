"""Registered scans become crops; stripped heads are told from whole ones."""

from __future__ import annotations

import numpy as np
import pytest

from bidsapp.corobl.grid import GRIDS, SHAPE
from bidsapp.corobl.preprocessing import is_skull_stripped, make_crops, register_scans, view_in_template
from bidsapp.corobl.registration import Registration
from bidsapp.corobl.template import load_template
from bidsapp.errors import BadDataError
from bidsapp.images.volumes import Volume


def test_crops_of_both_sides_show_the_head(turned_scan: Volume, turned_registration: Registration) -> None:
    crops, corrected = make_crops(turned_scan, turned_registration.native_from_corobl, GRIDS, bias_correction=False)
    assert not corrected
    for side, other in (("L", "R"), ("R", "L")):
        assert crops[side].data.shape == SHAPE
        assert crops[side].data.dtype == np.float32
        mirrored = crops[other].data[::-1]  # two sides of a head resemble each other's mirror image
        assert np.corrcoef(crops[side].data.ravel(), mirrored.ravel())[0, 1] > 0.5


def test_the_view_is_the_scan_in_template_axes(turned_scan: Volume, turned_registration: Registration) -> None:
    view = view_in_template(turned_scan, turned_registration)
    np.testing.assert_array_equal(view.affine[:3, :3], np.diag([1.5] * 3))
    head = load_template().head.at_2_mm
    at = ((np.array(head.data.shape) - 1) * head.spacing_mm / 2 / 1.5).astype(int)
    assert view.data[tuple(at)] > view.data.max() * 0.1
    assert not is_skull_stripped(view)


def test_a_brain_alone_is_called_stripped(template_scan: Volume) -> None:
    template = load_template()
    brain = Volume(template_scan.data * template.brain.data, template_scan.affine)
    assert is_skull_stripped(brain)
    assert not is_skull_stripped(template_scan)


def test_a_scan_of_one_value_is_refused() -> None:
    flat = Volume(np.full((20, 20, 20), 7, np.float32), np.diag([4.0, 4, 4, 1]))
    with pytest.raises(BadDataError, match="T1w scan holds nothing but the value 7"):
        register_scans({"T1w": flat}, ["T1w"], rigid=False)
