"""Shared by the tests of CorObl space: the template as a scan, other poses of it, and real data if there."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bidsapp.corobl.registration import Registration, register_to_template
from bidsapp.corobl.template import load_template
from bidsapp.images.volumes import Volume


@pytest.fixture(scope="session")
def template_scan() -> Volume:
    return load_template().head.at_2_mm


@pytest.fixture(scope="session")
def turned_affine() -> np.ndarray:
    """`scan_from_template` of the head in `turned_scan`: 20 degrees about S, 5 % larger, 30 mm away."""
    angle = np.radians(20)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = 1.05 * rotation
    affine[:3, 3] = (30, -20, 10)
    return affine


@pytest.fixture(scope="session")
def turned_scan(template_scan: Volume, turned_affine: np.ndarray) -> Volume:
    """The template, turned, on a grid with axes P, I, R and 2 x 2 x 2.5 mm, with noise and a gamma of 0.8."""
    affine = np.array([[0, 0, 2.5, -90], [-2.0, 0, 0, 100], [0, -2.0, 0, 110], [0, 0, 0, 1]])
    source = np.linalg.inv(template_scan.affine) @ np.linalg.inv(turned_affine) @ affine
    data = ndimage.affine_transform(template_scan.data, source[:3, :3], source[:3, 3], (120, 100, 96), order=1)
    noise = np.random.default_rng(1).normal(0, 3, data.shape)
    return Volume((np.abs(255 * (data / 255) ** 0.8 + noise)).astype(np.float32), affine)


@pytest.fixture(scope="session")
def turned_registration(turned_scan: Volume) -> Registration:
    return register_to_template(turned_scan)
