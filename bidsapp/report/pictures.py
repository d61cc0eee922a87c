"""Pictures of pages: outlines of label maps over an image in three planes, curves, and dots; all as PNG.

Pictures carry no names of labels: names belong to the page, beside the colours of `label_colours`, where every
alphabet is at home.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]
Affine = NDArray[np.float64]
Plane = Literal["sagittal", "coronal", "axial"]

PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
ORIENTATION = "neurological: the left of the head is on the left of the picture"
LABEL_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#F0E442", "#0072B2", "#BBBBBB")
"""Okabe and Ito 2008 (distinct with every kind of colour vision), its black replaced by grey: images are dark."""
SIDE_COLOURS = {"L": "#0072B2", "R": "#D55E00", "n/a": "#888888"}
SIDE_MARKERS = {"L": "o", "R": "^", "n/a": "s"}

_DPI = 100
_LONGEST_EDGE_PX = 640
_MARGIN_MM = 8.0
_WINDOW_PERCENTILES = (0.5, 99.5)
_SCALE_BAR_MM = 10.0
_FEW_POINTS = 25

# plane -> (axis across the slices, axis from left to right, axis from top to bottom), axes of a RAS array
_AXES: Mapping[Plane, tuple[int, int, int]] = {"sagittal": (0, 1, 2), "coronal": (1, 0, 2), "axial": (2, 0, 1)}
_ENDS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class Picture:
    """A PNG with its size in pixels and the words that stand for it."""

    png: bytes
    width: int
    height: int
    alt: str

    @property
    def data_uri(self) -> str:
        """The picture as an address that needs no file."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


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
    """One plane through a head.

    Attributes
    ----------
    width_mm
        Extent from left to right; the planes of one case share one scale.
    """

    plane: Plane
    picture: Picture
    width_mm: float


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


@dataclass(frozen=True)
class DotRow:
    """All values of one label."""

    name: str
    dots: tuple[Dot, ...]


def label_colours(labels: Iterable[int]) -> dict[int, str]:
    """A colour for every label value; from the ninth label on colours come again."""
    return {value: LABEL_COLOURS[index % len(LABEL_COLOURS)] for index, value in enumerate(labels)}


def upright(array: Array, affine: Affine) -> tuple[Array, tuple[float, float, float]]:
    """Turn and flip the axes of `array` so that they run to the right, the front and the top of the head.

    Parameters
    ----------
    array
        (i, j, k), any order and direction of axes.
    affine
        4 x 4, voxel index -> RAS mm. An oblique grid is taken by its nearest axes; nothing is resampled.

    Returns
    -------
    tuple
        The array with axes R, A, S, and its spacing in mm in that order.
    """
    from nibabel.orientations import apply_orientation, io_orientation

    orientation = io_orientation(affine)
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    right, front, top = (float(spacing_mm[orientation[:, 0] == axis][0]) for axis in range(3))
    return apply_orientation(array, orientation), (right, front, top)


def outline_pictures(
    image: Array, affine: Affine, reference: Array, prediction: Array | None, labels: Iterable[int]
) -> tuple[SlicePicture, ...]:
    """Draw the outlines of label maps over `image`, one picture per plane of `PLANES`, neurological.

    Slices go through the middle of the reference (of the prediction, where the reference is empty), and show
    the labels with 8 mm around them. The reference is a solid line, the prediction a dashed one with a dark rim.

    Parameters
    ----------
    image, reference, prediction
        (i, j, k) on one grid.
    affine
        4 x 4, voxel index -> RAS mm.
    labels
        The values to outline, coloured by `label_colours`.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    maps = [reference] if prediction is None else [reference, prediction]
    if any(label_map.shape != image.shape for label_map in maps):
        raise ValueError(f"image {image.shape} and label maps {[one.shape for one in maps]} differ in shape")
    volume, spacing_mm = upright(np.nan_to_num(image.astype(np.float32)), affine)
    turned = [upright(label_map, affine)[0] for label_map in maps]
    centre = _middle_of_labels(turned)
    box = _box_around_labels(turned, spacing_mm)
    window = _window(volume[box])
    lengths_mm = [(part.stop - part.start) * step for part, step in zip(box, spacing_mm, strict=True)]
    scale = _LONGEST_EDGE_PX / max(lengths_mm)
    colours = label_colours(labels)
    pictures = []
    for plane in PLANES:
        across, columns, rows = _AXES[plane]
        cut = [_cut(one, box, across, centre[across]) for one in (volume, *turned)]
        size_mm = (lengths_mm[columns], lengths_mm[rows])
        picture = _draw_slice(cut[0], cut[1:], size_mm, scale, window, colours, plane)
        pictures.append(SlicePicture(plane, picture, size_mm[0]))
    return tuple(pictures)


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
    figure = _figure(640, 300, theme.paper)
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
    return _as_picture(figure, alt)


def dots_picture(rows: Sequence[DotRow], *, theme: Theme, limits: tuple[float, float], alt: str) -> Picture:
    """Draw one row of dots per label, sides in `SIDE_COLOURS` and `SIDE_MARKERS`, a bar at the row's mean.

    Values that are not finite are left out; whether some are, the table beside it must say.
    """
    height = 70 + 64 * len(rows)
    figure = _figure(640, height, theme.paper)
    axes = figure.add_axes((0.22, 42 / height, 0.75, 1 - 54 / height))
    sides = {dot.side for row in rows for dot in row.dots}
    lanes = {"L": -0.17, "R": 0.17} if len(sides) > 1 else {}
    for position, row in enumerate(rows):
        dots = [dot for dot in row.dots if math.isfinite(dot.value)]
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
    axes.set_yticks(range(len(rows)), [_shortened(row.name) for row in rows])
    for text in axes.get_yticklabels():
        text.set_parse_math(False)  # "$" in a name is a dollar
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=theme.lines, linewidth=0.8)
    return _as_picture(figure, alt)


def _middle_of_labels(maps: Sequence[Array]) -> tuple[int, int, int]:
    """Per axis the lower median of the labelled voxels, so that each slice holds label; else the grid's middle."""
    for label_map in maps:
        voxels = np.nonzero(label_map)
        if voxels[0].size:
            middle = (voxels[0].size - 1) // 2
            return cast(tuple[int, int, int], tuple(int(np.partition(axis, middle)[middle]) for axis in voxels))
    return cast(tuple[int, int, int], tuple(length // 2 for length in maps[0].shape))


def _box_around_labels(maps: Sequence[Array], spacing_mm: Sequence[float]) -> tuple[slice, slice, slice]:
    voxels = np.nonzero(np.any([label_map != 0 for label_map in maps], axis=0))
    if not voxels[0].size:
        return cast(tuple[slice, slice, slice], tuple(slice(0, length) for length in maps[0].shape))
    margins = [math.ceil(_MARGIN_MM / step) for step in spacing_mm]
    return cast(
        tuple[slice, slice, slice],
        tuple(
            slice(max(0, int(axis.min()) - margin), min(length, int(axis.max()) + 1 + margin))
            for axis, margin, length in zip(voxels, margins, maps[0].shape, strict=True)
        ),
    )


def _window(values: Array) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(values, _WINDOW_PERCENTILES))
    return (low, high) if high > low else (low, low + 1.0)


def _cut(volume: Array, box: tuple[slice, slice, slice], across: int, index: int) -> Array:
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
    figure = _figure(round(width_mm * pixels_per_mm), round(height_mm * pixels_per_mm), "black")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    extent = (0, width_mm, height_mm, 0)
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="bilinear")
    for label_map, is_reference in zip(maps, (True, False), strict=False):
        for value, colour in colours.items():
            _draw_outline(axes, label_map == value, size_mm, colour, solid=is_reference)
    axes.set_aspect("auto")  # the figure has the shape of the slice in mm
    axes.set_xlim(0, width_mm)
    axes.set_ylim(height_mm, 0)
    _letter_edges(axes, plane)
    _draw_scale_bar(axes, size_mm)
    return _as_picture(figure, f"{plane} slice with the outlines of the labels")


def _draw_outline(axes: Axes, mask: Array, size_mm: tuple[float, float], colour: str, *, solid: bool) -> None:
    from matplotlib.patheffects import Normal, withStroke

    if not mask.any():
        return
    rows, columns = mask.shape
    x_mm = (np.arange(-1, columns + 1) + 0.5) * size_mm[0] / columns
    y_mm = (np.arange(-1, rows + 1) + 0.5) * size_mm[1] / rows
    outline = axes.contour(
        x_mm,
        y_mm,
        np.pad(mask, 1).astype(float),
        levels=[0.5],
        colors=[colour],
        linewidths=2.2 if solid else 1.5,
        linestyles=["solid" if solid else (0, (3.2, 2.0))],
    )
    # without the rim a dashed line that coincides with the solid one of its colour could not be seen
    outline.set_path_effects([Normal()] if solid else [withStroke(linewidth=3.2, foreground="black")])


def _letter_edges(axes: Axes, plane: Plane) -> None:
    from matplotlib.patheffects import withStroke

    _, columns, rows = _AXES[plane]
    places = (
        (0.015, 0.5, _ENDS[columns][0], "left", "center"),
        (0.985, 0.5, _ENDS[columns][1], "right", "center"),
        (0.5, 0.015, _ENDS[rows][0], "center", "bottom"),
        (0.5, 0.985, _ENDS[rows][1], "center", "top"),
    )
    for x, y, letter, horizontal, vertical in places:
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            ha=horizontal,
            va=vertical,
            color="white",
            fontsize=15,
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )


def _draw_scale_bar(axes: Axes, size_mm: tuple[float, float]) -> None:
    width_mm, height_mm = size_mm
    if width_mm < 2 * _SCALE_BAR_MM:
        return
    right, bottom = 0.965 * width_mm, height_mm - 0.035 * width_mm
    axes.plot([right - _SCALE_BAR_MM, right], [bottom, bottom], color="white", linewidth=2, solid_capstyle="butt")


def _spread(values: Sequence[float]) -> NDArray[np.float64]:
    """How far dots are moved up or down so that neighbours lie apart; the same every time."""
    places = np.zeros(len(values))
    places[np.argsort(values)] = np.array([0.0, 0.06, -0.06, 0.11, -0.11])[np.arange(len(values)) % 5]
    return places


def _shortened(name: str, longest: int = 14) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _figure(width_px: int, height_px: int, colour: str) -> Figure:
    """A figure of exactly this size, drawn by Agg, known to nobody else (no pyplot)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # half a pixel more: the canvas rounds down
    size = ((width_px + 0.5) / _DPI, (height_px + 0.5) / _DPI)
    figure = Figure(figsize=size, dpi=_DPI, facecolor=colour)
    FigureCanvasAgg(figure)
    return figure


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


def _as_picture(figure: Figure, alt: str) -> Picture:
    canvas = cast(Any, figure.canvas)
    width, height = canvas.get_width_height()
    stream = io.BytesIO()
    canvas.print_png(stream, metadata={"Software": None})
    return Picture(stream.getvalue(), int(width), int(height), alt)
