"""Pictures of pages: outlines of label maps over an image in three planes, curves, and dots; all as PNG.

Pictures carry no names of labels: names belong to the page, beside the colours of `label_colours`, where every
alphabet is at home.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bidsapp.arrays import Array, FloatArray
from bidsapp.images.orientation import turn_volume
from bidsapp.images.volumes import Volume
from bidsapp.labels.colours import label_colours
from bidsapp.pictures.drawing import (
    PLANES,
    SIDE_COLOURS,
    SIDE_MARKERS,
    SLICE_AXES,
    Picture,
    Plane,
    as_picture,
    draw_outline,
    draw_scale_bar,
    intensity_window,
    letter_edges,
    new_figure,
    new_slice_axes,
    write_on,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[slice, slice, slice]

_LONGEST_EDGE_PX = 640
_MARGIN_MM = 8.0
_SLICES_WIDTH_PX = 1200
_SLICES_PER_ROW = 5
_THUMBNAIL_PX = 160
_THUMBNAIL_COLOURS = 64
_FEW_POINTS = 25


@dataclass(frozen=True)
class Theme:
    """Colours of a plot on a page."""

    paper: str
    ink: str
    lines: str
    band: str


LIGHT = Theme(paper="#ffffff", ink="#4b5158", lines="#e3e6ea", band="#f1f3f6")
DARK = Theme(paper="#1b1e23", ink="#b3bac3", lines="#32373f", band="#24282f")


@dataclass(frozen=True)
class SlicePicture:
    """One plane through a head."""

    plane: Plane
    picture: Picture
    width_mm: float
    """Extent from left to right; the planes of one case share one scale."""


@dataclass(frozen=True)
class ThemedPicture:
    """A plot for a light and for a dark page."""

    light: Picture
    dark: Picture


@dataclass(frozen=True)
class Curve:
    """Values over iterations; a value that is not finite leaves a gap."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Dot:
    """One value; `side` is a key of `SIDE_COLOURS`."""

    value: float
    side: str


def outline_pictures(
    image: Volume, reference: Array, prediction: Array | None, labels: Iterable[int]
) -> tuple[SlicePicture, ...]:
    """Draw the outlines of label maps over `image`, one picture per plane of `PLANES`, neurological.

    Slices go through the middle of the reference (of the prediction, where the reference is empty), and show
    the labels with 8 mm around them. The reference is a solid line, the prediction a dashed one with a dark rim.

    Parameters
    ----------
    reference, prediction
        On the grid of the image. An oblique grid is taken by its nearest axes; nothing is resampled.
    labels
        The values to outline, coloured by `label_colours`.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    upright, turned = _turn_upright(image, [reference] if prediction is None else [reference, prediction])
    volume, spacing_mm = upright.data, upright.spacing_mm.tolist()
    centre = _middle_of_labels(turned)
    box = _box_around_labels(turned, spacing_mm)
    window = intensity_window(volume[box])
    lengths_mm = [(part.stop - part.start) * step for part, step in zip(box, spacing_mm, strict=True)]
    scale = _LONGEST_EDGE_PX / max(lengths_mm)
    colours = label_colours(labels)
    pictures = []
    for plane in PLANES:
        across, columns, rows = SLICE_AXES[plane]
        cut = [_cut(one, box, across, centre[across]) for one in (volume, *turned)]
        size_mm = (lengths_mm[columns], lengths_mm[rows])
        picture = _draw_slice(cut[0], cut[1:], size_mm, scale, window, colours, plane)
        pictures.append(SlicePicture(plane, picture, size_mm[0]))
    return tuple(pictures)


def coronal_slices_picture(
    image: Volume, label_map: Array | None, labels: Iterable[int], *, count: int = 10
) -> Picture:
    """Draw coronal slices with outlines from front to back, five in a row, each with its coordinate in mm.

    Slices stand in the middle of `count` equal parts of the labels' extent and show the labels with 8 mm around
    them; without labels, of the middle half of the image, and whole. Neurological.

    Parameters
    ----------
    label_map
        On the grid of the image.
    count
        Fewer are drawn where there are fewer slices.
    """
    upright, (turned,) = _turn_upright(image, [_or_empty(label_map, image)])
    volume, spacing_mm = upright.data, upright.spacing_mm.tolist()
    box = _box_around_labels([turned], spacing_mm)
    window = intensity_window(volume[box])
    places = _spread_slices(turned, count)
    y_mm = _anterior_coordinates_mm(upright)
    width_mm, height_mm = ((box[axis].stop - box[axis].start) * spacing_mm[axis] for axis in (0, 2))
    columns = min(_SLICES_PER_ROW, len(places))
    rows = math.ceil(len(places) / columns)
    cell_px = (_SLICES_WIDTH_PX // _SLICES_PER_ROW, round(_SLICES_WIDTH_PX / _SLICES_PER_ROW * height_mm / width_mm))
    figure = new_figure(columns * cell_px[0], rows * cell_px[1], "black")
    colours = label_colours(labels)
    for number, place in enumerate(places):
        row, column = divmod(number, columns)
        where = (column / columns, 1 - (row + 1) / rows, 1 / columns, 1 / rows)
        size_mm = (width_mm, height_mm)
        axes = new_slice_axes(figure, where, _cut(volume, box, 1, place), size_mm, window)
        for value, colour in colours.items():
            draw_outline(axes, _cut(turned, box, 1, place) == value, size_mm, colour, width=1.5)
        text = f"{y_mm[place]:+.1f} mm".replace("-", "−")
        write_on(axes, (0.03, 0.97), text, horizontal="left", vertical="top", size=10)
        if not number:
            write_on(axes, (0.03, 0.5), "L", horizontal="left", vertical="center", size=12)
            write_on(axes, (0.97, 0.5), "R", horizontal="right", vertical="center", size=12)
    return as_picture(figure, f"{len(places)} coronal slices from front to back")


def thumbnail_picture(image: Volume, label_map: Array | None, labels: Iterable[int]) -> Picture:
    """Draw the coronal slice through the middle of the labels, small: 160 pixels at its longest edge.

    Parameters
    ----------
    label_map
        On the grid of the image.
    """
    upright, (turned,) = _turn_upright(image, [_or_empty(label_map, image)])
    volume, spacing_mm = upright.data, upright.spacing_mm.tolist()
    box = _box_around_labels([turned], spacing_mm)
    place = _middle_of_labels([turned])[1]
    width_mm, height_mm = ((box[axis].stop - box[axis].start) * spacing_mm[axis] for axis in (0, 2))
    scale = _THUMBNAIL_PX / max(width_mm, height_mm)
    figure = new_figure(round(width_mm * scale), round(height_mm * scale), "black")
    size_mm = (width_mm, height_mm)
    axes = new_slice_axes(figure, (0, 0, 1, 1), _cut(volume, box, 1, place), size_mm, intensity_window(volume[box]))
    for value, colour in label_colours(labels).items():
        draw_outline(axes, _cut(turned, box, 1, place) == value, size_mm, colour, width=1.1)
    return as_picture(figure, "coronal slice", colours=_THUMBNAIL_COLOURS)


def curve_picture(
    curves: Sequence[Curve],
    *,
    theme: Theme,
    boundaries: Sequence[float],
    alt: str,
    y_limits: tuple[float | None, float | None] = (None, None),
) -> Picture:
    """Draw curves over iterations.

    Parameters
    ----------
    boundaries
        Where segments start and end, ascending, e.g. (0, 1000, 3000); every second segment is shaded.
    y_limits
        Lower and upper limit; None: what the values need.
    """
    figure = new_figure(640, 300, theme.paper)
    axes = figure.add_axes((0.105, 0.13, 0.875, 0.83))
    for number, (start, end) in enumerate(pairwise(boundaries)):
        if number % 2:
            axes.axvspan(start, end, color=theme.band, linewidth=0, zorder=0)
        if number:
            axes.axvline(start, color=theme.ink, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    for curve in curves:
        axes.plot(
            curve.x,
            curve.y,
            color=curve.colour,
            linewidth=1.8,
            linestyle=(0, (4, 2)) if curve.dashed else "-",
            marker="o" if len(curve.x) <= _FEW_POINTS else None,
            markersize=3.5,
            zorder=3,
        )
    if len(boundaries) > 1 and boundaries[-1] > boundaries[0]:
        axes.set_xlim(boundaries[0], boundaries[-1])
    axes.set_ylim(*y_limits)
    _style_axes(axes, theme)
    axes.xaxis.set_major_locator(_locator(integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color=theme.lines, linewidth=0.8)
    return as_picture(figure, alt)


def dots_picture(rows: Mapping[str, Sequence[Dot]], *, theme: Theme, limits: tuple[float, float], alt: str) -> Picture:
    """Draw one row of dots per name, sides in `SIDE_COLOURS` and `SIDE_MARKERS`, with a bar at the row's mean.

    Values that are not finite are left out; whether some are, the table beside it must say.
    """
    height = 70 + 64 * len(rows)
    figure = new_figure(640, height, theme.paper)
    axes = figure.add_axes((0.22, 42 / height, 0.75, 1 - 54 / height))
    sides = {dot.side for dots in rows.values() for dot in dots}
    lanes = {"L": -0.17, "R": 0.17} if len(sides) > 1 else {}
    for position, row in enumerate(rows.values()):
        dots = [dot for dot in row if math.isfinite(dot.value)]
        for side, marker in SIDE_MARKERS.items():
            values = [dot.value for dot in dots if dot.side == side]
            shown = axes.scatter(
                values,
                position + lanes.get(side, 0.0) + _spread(values),
                s=26,
                marker=marker,
                color=SIDE_COLOURS[side],
                alpha=0.8,
                linewidths=0.6,
                edgecolors=theme.paper,
                zorder=3,
            )
            shown.set_clip_on(False)
        if dots:
            mean = float(np.mean([dot.value for dot in dots]))
            axes.plot([mean, mean], [position - 0.36, position + 0.36], color=theme.ink, linewidth=2, zorder=2)
    axes.set_xlim(*limits)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    _style_axes(axes, theme)
    axes.set_yticks(range(len(rows)), [_shortened(name) for name in rows])
    for text in axes.get_yticklabels():
        text.set_parse_math(False)  # "$" in a name is a dollar
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=theme.lines, linewidth=0.8)
    return as_picture(figure, alt)


def _or_empty(label_map: Array | None, image: Volume) -> Array:
    return np.zeros(image.data.shape, dtype=np.uint8) if label_map is None else label_map


def _turn_upright(image: Volume, maps: Sequence[Array]) -> tuple[Volume, list[Array]]:
    """Let the axes of an image, and of label maps on its grid, run to the right, the front and the top of the head."""
    if any(label_map.shape != image.data.shape for label_map in maps):
        shapes = [label_map.shape for label_map in maps]
        raise ValueError(f"image {image.data.shape} and label maps {shapes} differ in shape")
    shown = Volume(np.nan_to_num(image.data.astype(np.float32)), image.affine)
    return turn_volume(shown, "RAS"), [turn_volume(Volume(one, image.affine), "RAS").data for one in maps]


def _spread_slices(label_map: Array, count: int) -> list[int]:
    """Indices along axis 1 from the front, in the middle of equal parts of the labels' extent, none twice."""
    filled = np.flatnonzero(label_map.any(axis=(0, 2)))
    length = label_map.shape[1]
    start, stop = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (length // 4, max(1, length - length // 4))
    count = min(count, stop - start)
    return [int(start + (number + 0.5) * (stop - start) / count) for number in reversed(range(count))]


def _anterior_coordinates_mm(upright: Volume) -> FloatArray:
    """The A coordinate of the middle of every coronal slice, from the back to the front."""
    right, front, up = upright.data.shape
    row = upright.affine[1]
    return row[1] * np.arange(front) + row[[0, 2, 3]] @ [(right - 1) / 2, (up - 1) / 2, 1.0]


def _middle_of_labels(maps: Sequence[Array]) -> tuple[int, int, int]:
    """Per axis the lower median of the labelled voxels, so that each slice holds label; else the grid's middle."""
    for label_map in maps:
        voxels = np.nonzero(label_map)
        if voxels[0].size:
            middle = (voxels[0].size - 1) // 2
            return cast(tuple[int, int, int], tuple(int(np.partition(axis, middle)[middle]) for axis in voxels))
    return cast(tuple[int, int, int], tuple(length // 2 for length in maps[0].shape))


def _box_around_labels(maps: Sequence[Array], spacing_mm: Sequence[float]) -> Box:
    voxels = np.nonzero(np.any([label_map != 0 for label_map in maps], axis=0))
    if not voxels[0].size:
        return cast(Box, tuple(slice(0, length) for length in maps[0].shape))
    margins = [math.ceil(_MARGIN_MM / step) for step in spacing_mm]
    return cast(
        Box,
        tuple(
            slice(max(0, int(axis.min()) - margin), min(length, int(axis.max()) + 1 + margin))
            for axis, margin, length in zip(voxels, margins, maps[0].shape, strict=True)
        ),
    )


def _cut(volume: Array, box: Box, across: int, index: int) -> Array:
    """The slice of a RAS volume within `box`, shape (rows from the top, columns from the left)."""
    where: list[slice | int] = list(box)
    where[across] = index
    return volume[tuple(where)].T[::-1]


def _draw_slice(
    image: Array,
    maps: Sequence[Array],
    size_mm: tuple[float, float],
    pixels_per_mm: float,
    window: tuple[float, float],
    colours: Mapping[int, str],
    plane: Plane,
) -> Picture:
    width_mm, height_mm = size_mm
    figure = new_figure(round(width_mm * pixels_per_mm), round(height_mm * pixels_per_mm), "black")
    axes = new_slice_axes(figure, (0, 0, 1, 1), image, size_mm, window)
    for label_map, is_prediction in zip(maps, (False, True), strict=False):
        for value, colour in colours.items():
            width = 1.5 if is_prediction else 2.2
            draw_outline(axes, label_map == value, size_mm, colour, width=width, dashed=is_prediction)
    letter_edges(axes, plane)
    draw_scale_bar(axes, size_mm)
    return as_picture(figure, f"{plane} slice with the outlines of the labels")


def _spread(values: Sequence[float]) -> FloatArray:
    """How far dots are moved up or down so that neighbours lie apart; the same every time."""
    places = np.zeros(len(values))
    places[np.argsort(values)] = np.array([0.0, 0.06, -0.06, 0.11, -0.11])[np.arange(len(values)) % 5]
    return places


def _shortened(name: str, longest: int = 14) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _style_axes(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.lines)
    axes.tick_params(colors=theme.ink, labelsize=11, length=3)
    axes.set_axisbelow(True)


def _locator(*, integer: bool) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, integer=integer)
