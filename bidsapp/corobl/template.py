"""The CIT168 template that travels with the package (Pauli et al. 2018; see resources/ATTRIBUTION.md)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files

import nibabel as nib
import numpy as np
from scipy import ndimage

from bidsapp.arrays import BoolArray, FloatArray
from bidsapp.corobl.grid import GRIDS, TEMPLATE_FROM_COROBL
from bidsapp.corobl.levels import Pyramid, field_of_view, make_pyramid
from bidsapp.corobl.transforms import apply
from bidsapp.images.grids import Grid
from bidsapp.images.volumes import Volume
from bidsapp.records import SIDES, Side

TEMPLATE = "CIT168 T1w, whole head"

_MASK_REACH_MM = 4.0


@dataclass(frozen=True, eq=False)
class Template:
    """The whole head and its parts, in CIT168 RAS."""

    head: Pyramid
    """T1w at 2, 4, 6 and 8 mm."""
    brain: Volume
    """The brain with a rim of 4 mm, on the grid of the 2 mm head: 1 inside."""


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read the bundled template once."""
    head = _read("tpl-CIT168_res-2_T1w.nii.gz")
    mask = _read("tpl-CIT168_res-2_desc-brain_mask.nii.gz")
    distance = ndimage.distance_transform_edt(mask.data == 0, sampling=mask.spacing_mm)
    brain = Volume((distance <= _MASK_REACH_MM).astype(np.float32), mask.affine)
    return Template(make_pyramid(head), brain)


@lru_cache(maxsize=2)
def load_hippocampus(side: Side) -> BoolArray:
    """Return the template's hippocampus on the grid of its side in `GRIDS`, as in the head."""
    return _read(f"tpl-CIT168_hemi-{side}_space-corobl_desc-hippocampus_mask.nii.gz").data > 0


def hippocampus_on(grid: Grid, side: Side) -> BoolArray:
    """Return the template's hippocampus on the grid of a crop, by nearest voxels; empty where the grid is elsewhere."""
    known = GRIDS[side]
    if grid.distance_mm(known) == 0:
        return load_hippocampus(side)
    matrix = np.linalg.inv(known.affine) @ grid.affine
    mask = load_hippocampus(side).astype(np.uint8)
    return ndimage.affine_transform(mask, matrix[:3, :3], matrix[:3, 3], grid.shape, order=0) > 0


@lru_cache(maxsize=2)
def hippocampus_points(side: Side) -> FloatArray:
    """Return the centres of the template hippocampus's voxels in CIT168 RAS, shape (n, 3)."""
    voxels = np.argwhere(load_hippocampus(side)).astype(float)
    return apply(TEMPLATE_FROM_COROBL @ GRIDS[side].affine, voxels)


def brain_mask_on(grid: Volume) -> BoolArray:
    """Return the brain with its rim on a grid in CIT168 space, by nearest voxels."""
    brain = load_template().brain
    brain_from_grid = np.linalg.inv(brain.affine) @ grid.affine
    nearest = ndimage.affine_transform(
        brain.data, brain_from_grid[:3, :3], brain_from_grid[:3, 3], grid.data.shape, order=0
    )
    return nearest > 0


def crops_mask_on(grid: Volume) -> BoolArray:
    """Tell which voxels of a grid in CIT168 space lie in either crop box."""
    corobl_from_grid = np.linalg.inv(TEMPLATE_FROM_COROBL) @ grid.affine
    boxes = [Volume(np.empty(GRIDS[side].shape, dtype=bool), GRIDS[side].affine) for side in SIDES]
    moved = Volume(grid.data, corobl_from_grid)
    return field_of_view(boxes[0], moved) | field_of_view(boxes[1], moved)


def crops_centre() -> FloatArray:
    """Return the CIT168 RAS point midway between the two hippocampi."""
    return np.mean([hippocampus_points(side).mean(axis=0) for side in SIDES], axis=0)


def _read(name: str) -> Volume:
    with as_file(files("bidsapp.corobl") / "resources" / name) as path:
        image = nib.load(path)
        return Volume(image.get_fdata(dtype=np.float32), np.round(image.affine, 4))
