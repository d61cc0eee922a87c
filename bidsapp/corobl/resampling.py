"""Scans to CorObl crops in one interpolation, and label maps in both directions."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage

from bidsapp.arrays import BoolArray, FloatArray, IntArray
from bidsapp.corobl.bias import divide_by_bias
from bidsapp.corobl.transforms import apply
from bidsapp.images.grids import Grid
from bidsapp.images.volumes import Volume

Box = tuple[slice, slice, slice]

SPLINE_REACH_VOXELS = 12
"""A cubic B-spline's weights fall below 1e-6 within 12 voxels: what lies further away is not needed."""


def resample_to_crop(
    volume: Volume, native_from_corobl: FloatArray, grid: Grid, log_bias: Volume | None = None
) -> FloatArray:
    """Bring a scan to a crop, float32 of the shape of `grid`, as in the head.

    One cubic B-spline interpolation along the composed transform, of the bias-corrected scan when
    `log_bias` is given. Only the part of the scan around the crop is touched. Values stay within those of
    that part, so the spline cannot overshoot; background (exact zeros of the scan, and all beyond its
    field of view) is 0.
    """
    native_from_crop = np.linalg.inv(volume.affine) @ native_from_corobl @ grid.affine
    box = _box_around(native_from_crop, grid.shape, volume.data.shape, SPLINE_REACH_VOXELS)
    part = volume.data[box]
    if part.size == 0:
        return np.zeros(grid.shape, dtype=np.float32)
    start = np.array([edge.start for edge in box], dtype=float)
    if log_bias is not None:
        affine = volume.affine.copy()
        affine[:3, 3] = apply(volume.affine, start)
        part = divide_by_bias(part, affine, log_bias)
    part_from_crop = native_from_crop.copy()
    part_from_crop[:3, 3] -= start
    coefficients = ndimage.spline_filter(part, order=3, output=np.float32, mode="mirror")
    crop = _sample(coefficients, part_from_crop, grid.shape, order=3, mode="mirror")
    np.clip(crop, part.min(), part.max(), out=crop)
    crop[_background(part, part_from_crop, grid.shape)] = 0
    return crop


def labels_to_native(labels: Volume, native_from_corobl: FloatArray, scan: Grid) -> IntArray:
    """Bring a label map of a crop, as in the head, to the grid of a scan."""
    crop_from_native = np.linalg.inv(native_from_corobl @ labels.affine) @ scan.affine
    return resample_labels(labels.data, crop_from_native, scan.shape)


def resample_labels(labels: IntArray, source_from_target: FloatArray, shape: tuple[int, ...]) -> IntArray:
    """Give each voxel of the target the label that most of its volume has; background competes too.

    The share of a label is its linearly interpolated indicator, averaged over about as many places in the
    target voxel as source voxels fit into it (3 x 3 x 3 for 0.3 mm in 1 mm): no thin label is lost to
    aliasing. Only the part of the target that a label can reach is computed. `source_from_target` maps
    voxel indices; a target voxel outside the source is background.
    """
    result = np.zeros(shape, dtype=labels.dtype)
    found = np.flatnonzero(np.bincount(labels.ravel()))
    values = [int(value) for value in found if value]
    boxes = {value: _label_boxes(labels == value, source_from_target, shape) for value in values}
    boxes = {value: pair for value, pair in boxes.items() if _is_filled(pair[1])}
    if not boxes:
        return result
    whole = _enclosing([target for _, target in boxes.values()])
    origin = np.array([edge.start for edge in whole])
    best = np.zeros([edge.stop - edge.start for edge in whole], dtype=np.float32)
    background = np.ones_like(best)
    winner = np.zeros(best.shape, dtype=labels.dtype)
    for value, (source_box, target_box) in boxes.items():
        share = _share(labels[source_box] == value, source_box, target_box, source_from_target)
        here = tuple(slice(e.start - o, e.stop - o) for e, o in zip(target_box, origin, strict=True))
        background[here] -= share
        better = share > best[here]
        best[here][better] = share[better]
        winner[here][better] = value
    result[whole] = np.where(best > background, winner, 0)
    return result


def _share(inside: BoolArray, source_box: Box, target_box: Box, matrix: FloatArray) -> FloatArray:
    """Return the share of each voxel of `target_box` that lies in the label."""
    linear = matrix[:3, :3]
    first = np.array([edge.start for edge in target_box], dtype=float)
    part_from_box = matrix.copy()
    part_from_box[:3, 3] = apply(matrix, first) - [edge.start for edge in source_box]
    counts = np.maximum(1, np.rint(np.linalg.norm(linear, axis=0))).astype(int)
    places = [(np.arange(count) + 0.5) / count - 0.5 for count in counts]
    shape = tuple(edge.stop - edge.start for edge in target_box)
    indicator = inside.astype(np.float32)
    total = np.zeros(shape, dtype=np.float32)
    for place in product(*places):
        moved = part_from_box.copy()
        moved[:3, 3] = apply(part_from_box, np.array(place))
        total += _sample(indicator, moved, shape, order=1, mode="grid-constant")
    return total / np.prod(counts, dtype=np.float32)


def _label_boxes(inside: BoolArray, source_from_target: FloatArray, shape: tuple[int, ...]) -> tuple[Box, Box]:
    """Return the label's box in the source, and the box of target voxels that it can reach."""
    edges = [np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    source = tuple(slice(int(edge[0]), int(edge[-1]) + 1) for edge in edges)
    first = np.array([edge.start for edge in source], dtype=float)
    target_from_part = np.linalg.inv(source_from_target)
    target_from_part[:3, 3] = apply(target_from_part, first - 1)
    size = tuple(edge.stop - edge.start + 2 for edge in source)
    return (source[0], source[1], source[2]), _box_around(target_from_part, size, shape, 1)


def _box_around(matrix: FloatArray, shape: tuple[int, ...], limits: tuple[int, ...], margin: int) -> Box:
    """Return the voxels of an array of shape `limits` that an array of `shape` covers through `matrix`."""
    corners = _corners(matrix, shape)
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - margin, 0, limits)
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + margin + 1, 0, limits)
    start_stop = [(int(start), max(int(start), int(stop))) for start, stop in zip(low, high, strict=True)]
    return slice(*start_stop[0]), slice(*start_stop[1]), slice(*start_stop[2])


def _corners(matrix: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    return apply(matrix, np.array(list(product(*((0, size - 1) for size in shape))), dtype=float))


def _enclosing(boxes: list[Box]) -> Box:
    edges = [slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in range(3)]
    return edges[0], edges[1], edges[2]


def _is_filled(box: Box) -> bool:
    return all(edge.stop > edge.start for edge in box)


def _sample(data: FloatArray, matrix: FloatArray, shape: tuple[int, ...], *, order: int, mode: str) -> FloatArray:
    return ndimage.affine_transform(
        data, matrix[:3, :3], matrix[:3, 3], shape, order=order, mode=mode, prefilter=False, output=np.float32
    )


def _background(part: FloatArray, part_from_crop: FloatArray, shape: tuple[int, ...]) -> BoolArray:
    """Tell which voxels of the crop lie in exact zeros of the scan or beyond its field of view."""
    filled = part != 0
    corners = _corners(part_from_crop, shape)
    in_field = (corners >= -0.5).all() and (corners <= np.array(part.shape) - 0.5).all()
    if filled.all() and in_field:
        return np.zeros(shape, dtype=bool)
    padded_from_crop = part_from_crop.copy()
    padded_from_crop[:3, 3] += 1
    padded = np.pad(filled, 1).astype(np.float32)
    return _sample(padded, padded_from_crop, shape, order=1, mode="nearest") < 0.5
