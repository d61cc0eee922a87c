"""One look at a registration: a head in the template's space, the two crop boxes, and where hippocampi should lie."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product
from typing import cast

import numpy as np
from scipy import ndimage

from bidsapp.arrays import Array, FloatArray
from bidsapp.corobl.grid import TEMPLATE_FROM_COROBL
from bidsapp.corobl.template import hippocampus_on
from bidsapp.corobl.transforms import apply
from bidsapp.images.grids import Grid
from bidsapp.images.volumes import Volume
from bidsapp.pictures.drawing import (
    PLANES,
    SIDE_COLOURS,
    SLICE_AXES,
    Picture,
    Plane,
    as_picture,
    draw_outline,
    intensity_window,
    letter_edges,
    new_figure,
    new_slice_axes,
)
from bidsapp.records import Side

HIPPOCAMPUS_COLOUR = "#F0E442"

_WIDTH_PX = 1200
_GAP_PX = 6
_MASK_STEP_MM = 0.5


def template_landmarks(grids: Mapping[Side, Grid]) -> dict[Side, Volume]:
    """The template's own hippocampi on the grids of crops, in the template's space; their extents are the boxes."""
    return {
        side: Volume(hippocampus_on(grid, side), TEMPLATE_FROM_COROBL @ grid.affine) for side, grid in grids.items()
    }


def head_picture(head: Volume, landmarks: Mapping[Side, Volume]) -> Picture:
    """Draw a head in three planes side by side, neurological, boxes in `SIDE_COLOURS`.

    The sagittal plane goes through the middle of the right hippocampus (of the left one, when there is no right
    landmark), the coronal and the axial one through the middle of all. Where the registration is right, the head
    stands upright and hippocampi lie in their outlines.

    Parameters
    ----------
    head
        (R, A, S), resampled to the space of the template; its affine is diagonal with positive steps.
    landmarks
        What is drawn of each side; see `template_landmarks`.

    Raises
    ------
    ValueError
        When the axes of the head run in another way.
    """
    affine, steps_mm = head.affine, head.spacing_mm
    if not np.allclose(affine[:3, :3], np.diag(steps_mm)):
        raise ValueError(f"the head must lie along R, A and S, not {affine[:3, :3].tolist()}")
    image: Array = np.nan_to_num(head.data.astype(np.float32))
    window = intensity_window(image)
    lengths_mm = np.array(image.shape) * steps_mm
    widths_mm = [float(lengths_mm[SLICE_AXES[plane][1]]) for plane in PLANES]
    scale = (_WIDTH_PX - _GAP_PX * (len(PLANES) - 1)) / sum(widths_mm)
    height_px = round(scale * max(float(lengths_mm[SLICE_AXES[plane][2]]) for plane in PLANES))
    figure = new_figure(_WIDTH_PX, height_px, "black")
    left_px = 0.0
    for plane, width_mm in zip(PLANES, widths_mm, strict=True):
        across, columns, rows = SLICE_AXES[plane]
        index = _nearest_slice(_plane_through(landmarks, plane), affine, image.shape[across], across)
        size_mm = (width_mm, float(lengths_mm[rows]))
        height = size_mm[1] * scale / height_px
        where = (left_px / _WIDTH_PX, (1 - height) / 2, width_mm * scale / _WIDTH_PX, height)
        axes = new_slice_axes(figure, where, image.take(index, axis=across).T[::-1], size_mm, window)
        place_mm = float(affine[across, 3] + index * steps_mm[across])
        corner_mm = apply(affine, np.full(3, -0.5))
        for side, landmark in landmarks.items():
            mask = _hippocampus_in_plane(landmark, across, place_mm, corner_mm, lengths_mm)
            draw_outline(axes, mask.T[::-1], size_mm, HIPPOCAMPUS_COLOUR, width=1.4)
            outline = box_in_plane(landmark, across, place_mm)
            if outline.size:
                x_mm = outline[:, columns] - corner_mm[columns]
                y_mm = size_mm[1] - (outline[:, rows] - corner_mm[rows])
                axes.fill(x_mm, y_mm, fill=False, edgecolor=SIDE_COLOURS[side], linewidth=2.4)
        letter_edges(axes, plane)
        left_px += width_mm * scale + _GAP_PX
    return as_picture(figure, "the head in three planes with the boxes of the crops")


def box_in_plane(landmark: Volume, across: int, place_mm: float) -> FloatArray:
    """Cut the box of a crop, which is pitched against the template, with the plane axis `across` = `place_mm`.

    Returns
    -------
    FloatArray
        The corners in order around the cut, shape (3 to 6, 3), RAS mm of the template; (0, 3) where the plane misses
        the box.
    """
    edges = [(-0.5, size - 0.5) for size in landmark.data.shape]
    corners = apply(landmark.affine, np.array(list(product(*edges))))
    found = []
    for first, second in combinations(range(len(corners)), 2):
        if bin(first ^ second).count("1") != 1:
            continue  # no edge of the box: corners differ in more than one axis
        before, after = corners[first, across] - place_mm, corners[second, across] - place_mm
        if before * after <= 0 and before != after:
            found.append(corners[first] + (corners[second] - corners[first]) * before / (before - after))
    if not found:
        return np.empty((0, 3))
    points = np.unique(np.round(found, 6), axis=0)  # edges meet in corners
    one, other = (axis for axis in range(3) if axis != across)
    from_middle = points - points.mean(axis=0)
    return points[np.argsort(np.arctan2(from_middle[:, other], from_middle[:, one]))]


def _plane_through(landmarks: Mapping[Side, Volume], plane: Plane) -> float:
    """Where a plane cuts its axis, RAS mm of the template."""
    centres = {side: apply(one.affine, np.argwhere(one.data).mean(axis=0)) for side, one in landmarks.items()}
    shown = [centres.get("R", centres.get("L"))] if plane == "sagittal" else list(centres.values())
    return float(np.mean(cast(list[Array], shown), axis=0)[SLICE_AXES[plane][0]])


def _nearest_slice(place_mm: float, affine: FloatArray, length: int, axis: int) -> int:
    return int(np.clip(round((place_mm - affine[axis, 3]) / affine[axis, axis]), 0, length - 1))


def _hippocampus_in_plane(
    landmark: Volume, across: int, place_mm: float, corner_mm: Array, lengths_mm: Array
) -> FloatArray:
    """Share of hippocampus over the plane, shape (columns from the left, rows from the bottom)."""
    shape = np.ceil(lengths_mm / _MASK_STEP_MM).astype(int)
    steps_mm = lengths_mm / shape
    template_from_plane = np.diag([*steps_mm, 1.0])
    template_from_plane[:3, 3] = corner_mm + steps_mm / 2
    template_from_plane[across, 3] = place_mm
    shape[across] = 1
    matrix = np.linalg.inv(landmark.affine) @ template_from_plane
    shares = ndimage.affine_transform(
        landmark.data.astype(np.float32), matrix[:3, :3], matrix[:3, 3], tuple(shape), order=1
    )
    return np.squeeze(shares, axis=across)
