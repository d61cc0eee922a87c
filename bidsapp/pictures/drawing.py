"""What all pictures are drawn with: a canvas that becomes a PNG, palettes, slices of heads, and outlines on them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from bidsapp.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Plane = Literal["sagittal", "coronal", "axial"]

PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
ORIENTATION = "neurological: the left of the head is on the left of the picture"
SIDE_COLOURS = {"L": "#0072B2", "R": "#D55E00", "n/a": "#888888"}
SIDE_MARKERS = {"L": "o", "R": "^", "n/a": "s"}

SLICE_AXES: Mapping[Plane, tuple[int, int, int]] = {
    "sagittal": (0, 1, 2),
    "coronal": (1, 0, 2),
    "axial": (2, 0, 1),
}
"""Axes of an array (R, A, S): across the slices, from left to right and from bottom to top of the picture."""

_ENDS = (("L", "R"), ("P", "A"), ("I", "S"))
_WINDOW_PERCENTILES = (0.5, 99.5)
_SCALE_BAR_MM = 10.0
_DPI = 100
_HALF = 0.5


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


def intensity_window(values: Array) -> tuple[float, float]:
    """The values that are black and white; everything else is between or beyond."""
    low, high = (float(value) for value in np.percentile(values, _WINDOW_PERCENTILES))
    return (low, high) if high > low else (low, low + 1.0)


def new_figure(width_px: int, height_px: int, colour: str) -> Figure:
    """A figure of exactly this size, drawn by Agg, known to nobody else (no pyplot)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # half a pixel more: the canvas rounds down
    size = ((width_px + 0.5) / _DPI, (height_px + 0.5) / _DPI)
    figure = Figure(figsize=size, dpi=_DPI, facecolor=colour)
    FigureCanvasAgg(figure)
    return figure


def draw_outline(
    axes: Axes, mask: Array, size_mm: tuple[float, float], colour: str, *, width: float = 2.2, dashed: bool = False
) -> None:
    """Draw the border of `mask`, shape (rows from the top, columns from the left), that fills `size_mm`.

    Parameters
    ----------
    mask
        Truth values, or shares of which one half is the border.
    size_mm
        Width and height.
    width
        Of the line, in points.
    dashed
        With a dark rim: without it a dashed line that coincides with a solid one of its colour could not be seen.
    """
    from matplotlib.patheffects import Normal, withStroke

    if not np.any(mask >= _HALF):
        return
    rows, columns = mask.shape
    x_mm = (np.arange(-1, columns + 1) + 0.5) * size_mm[0] / columns
    y_mm = (np.arange(-1, rows + 1) + 0.5) * size_mm[1] / rows
    outline = axes.contour(
        x_mm,
        y_mm,
        np.pad(mask, 1).astype(float),
        levels=[_HALF],
        colors=[colour],
        linewidths=width,
        linestyles=[(0, (3.2, 2.0)) if dashed else "solid"],
    )
    outline.set_path_effects([withStroke(linewidth=width + 1.7, foreground="black")] if dashed else [Normal()])


def new_slice_axes(
    figure: Figure,
    place: tuple[float, float, float, float],
    image: Array,
    size_mm: tuple[float, float],
    window: tuple[float, float],
) -> Axes:
    """Show a slice, shape (rows from the top, columns from the left), in `place` of a figure (left, bottom, ...)."""
    axes = figure.add_axes(place)
    axes.set_axis_off()
    width_mm, height_mm = size_mm
    extent = (0, width_mm, height_mm, 0)
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="bilinear")
    axes.set_aspect("auto")  # the place has the shape of the slice in mm
    axes.set_xlim(0, width_mm)
    axes.set_ylim(height_mm, 0)
    return axes


def write_on(axes: Axes, place: tuple[float, float], text: str, *, horizontal: str, vertical: str, size: float) -> None:
    """Write white on dark at a place of the axes, (0, 0) being bottom left and (1, 1) top right."""
    from matplotlib.patheffects import withStroke

    axes.text(
        *place,
        text,
        transform=axes.transAxes,
        ha=horizontal,
        va=vertical,
        color="white",
        fontsize=size,
        path_effects=[withStroke(linewidth=2, foreground="black")],
    )


def letter_edges(axes: Axes, plane: Plane, *, size: float = 15) -> None:
    """Say at the four edges of a slice where left, right, front, back, top and bottom of the head are."""
    _, columns, rows = SLICE_AXES[plane]
    write_on(axes, (0.015, 0.5), _ENDS[columns][0], horizontal="left", vertical="center", size=size)
    write_on(axes, (0.985, 0.5), _ENDS[columns][1], horizontal="right", vertical="center", size=size)
    write_on(axes, (0.5, 0.015), _ENDS[rows][0], horizontal="center", vertical="bottom", size=size)
    write_on(axes, (0.5, 0.985), _ENDS[rows][1], horizontal="center", vertical="top", size=size)


def draw_scale_bar(axes: Axes, size_mm: tuple[float, float]) -> None:
    """Draw 10 mm at the lower right, where there is room."""
    width_mm, height_mm = size_mm
    if width_mm < 2 * _SCALE_BAR_MM:
        return
    right, bottom = 0.965 * width_mm, height_mm - 0.035 * width_mm
    axes.plot([right - _SCALE_BAR_MM, right], [bottom, bottom], color="white", linewidth=2, solid_capstyle="butt")


def as_picture(figure: Figure, alt: str, *, colours: int | None = None) -> Picture:
    """Turn a figure into a PNG.

    Parameters
    ----------
    colours
        With 64 a small picture of greys and outlines takes half the space; None keeps every grey.
    """
    from PIL import Image

    canvas = cast(Any, figure.canvas)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if colours is not None:
        image = image.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=colours is not None)
    return Picture(stream.getvalue(), image.width, image.height, alt)
