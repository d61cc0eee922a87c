"""pairs.html: every training pair in network space, with its outlines, its volumes and what the guards say of it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bidsapp.files import write_text
from bidsapp.labels.colours import LABEL_COLOURS, label_colours
from bidsapp.pictures.drawing import Array, Picture, intensity_window
from bidsapp.printable import plural
from bidsapp.report.pages import number_text, render_page

STATES = ("refused", "accepted", "good")
MEANINGS = {
    "refused": "a check failed: it is not trained on",
    "accepted": "a check failed, and a person took the pair all the same",
    "good": "nothing was found",
}
_PIXELS_PER_MM = 2.8
_LARGEST_PX = 260
_MARGIN_MM = 6.0
_GAP_PX = 4
_GREYS = 64
_PLANES = ("sagittal", "coronal", "axial")
_ROWS_AND_COLUMNS = ((2, 1), (2, 0), (1, 0))
"""Axes that run up and to the right in the slice across each axis."""


@dataclass(frozen=True, eq=False)
class PairLine:
    """One pair on the page."""

    case: str
    picture: Picture | None
    """None where the files could not be read."""
    volumes_mm3: Mapping[str, float]
    """Name of the label -> volume in the voxels of the pair."""
    refused: Sequence[str] = ()
    accepted: Sequence[str] = ()
    """Sentences."""
    facts: Mapping[str, str] | None = None
    """Column of the table -> text: whose it is, its side, how it is stored."""

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return "refused" if self.refused else "accepted" if self.accepted else "good"

    @property
    def rank(self) -> tuple[int, int, str]:
        """The worst first."""
        return STATES.index(self.state), -len(self.refused) - len(self.accepted), self.case


def pair_picture(image: Array, labels: Array, spacing_mm: Sequence[float], values: Sequence[int]) -> Picture:
    """Draw, side by side, the sagittal, coronal and axial slice with most label on it, with outlines.

    No matplotlib: a thousand pairs are drawn in seconds.

    Parameters
    ----------
    image, labels
        (i, j, k) on one grid in network space: 0 from lateral to medial, 1 to the front, 2 up.
    values
        Label values, coloured by `label_colours`.
    """
    from PIL import Image

    box = _box(labels, spacing_mm)
    image, labels = np.nan_to_num(image[box].astype(np.float32)), labels[box]
    low, high = intensity_window(image)
    grey = np.clip((image - low) / (high - low) * (_GREYS - 1), 0, _GREYS - 1).astype(np.uint8)
    lengths_mm = [length * step for length, step in zip(labels.shape, spacing_mm, strict=True)]
    scale = min(_PIXELS_PER_MM, _LARGEST_PX / max(lengths_mm))
    parts = [_slice(grey, labels, axis, lengths_mm, scale, values) for axis in range(3)]
    height = max(part.shape[0] for part in parts)
    width = sum(part.shape[1] for part in parts) + _GAP_PX * (len(parts) - 1)
    canvas = np.zeros((height, width), np.uint8)
    left = 0
    for part in parts:
        top = (height - part.shape[0]) // 2
        canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
        left += part.shape[1] + _GAP_PX
    drawn = Image.fromarray(canvas, mode="P")
    greys = [(level * 255 // (_GREYS - 1),) * 3 for level in range(_GREYS)]
    colours = [tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5)) for colour in LABEL_COLOURS]
    drawn.putpalette([part for colour in (*greys, *colours) for part in colour])
    stream = io.BytesIO()
    drawn.save(stream, format="PNG")
    return Picture(stream.getvalue(), width, height, f"{', '.join(_PLANES)} slice with the outlines of the labels")


def write_pairs_page(
    path: Path,
    lines: Sequence[PairLine],
    *,
    names: Mapping[int, str],
    notes: Sequence[str],
    folder: str,
    written: str,
    back: tuple[str, str] | None = None,
) -> None:
    """Write the page; opens offline, loads nothing.

    Parameters
    ----------
    names
        Label value -> name, in the order of their colours.
    notes
        What is said of the folder as a whole.
    folder
        Where the pairs lie, as the page names it.
    back
        Address and words of a page to go back to.

    Raises
    ------
    CannotWriteError
        When the page cannot be written.
    """
    ranked = sorted(lines, key=lambda line: line.rank)
    counts = {state: sum(line.state == state for line in lines) for state in MEANINGS}
    said = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    content = {
        "lines": ranked,
        "summary": f"{plural(len(lines), 'pair', 'pairs')}: {said}",
        "meanings": [(state, MEANINGS[state]) for state, count in counts.items() if count],
        "names": [(names[value], colour) for value, colour in label_colours(names).items()],
        "number": lambda value: number_text(value, 0),
        "notes": notes,
        "folder": folder,
        "back": back,
        "written": written,
    }
    write_text(path, render_page("pairs.html.j2", content))


def _box(labels: Array, spacing_mm: Sequence[float]) -> tuple[slice, slice, slice]:
    """Around the labels, with a margin."""
    spans = []
    for axis, step in enumerate(spacing_mm):
        filled = np.flatnonzero(labels.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = round(_MARGIN_MM / step)
        low, high = (int(filled[0]), int(filled[-1])) if filled.size else (0, labels.shape[axis] - 1)
        spans.append(slice(max(low - margin, 0), min(high + margin + 1, labels.shape[axis])))
    return spans[0], spans[1], spans[2]


def _slice(
    grey: Array, labels: Array, axis: int, lengths_mm: Sequence[float], scale: float, values: Sequence[int]
) -> Array:
    """The slice across `axis` with most label: (rows from the top, columns), grey levels, then a colour per label."""
    from PIL import Image

    others = tuple(other for other in range(3) if other != axis)
    best = int(np.count_nonzero(labels, axis=others).argmax())
    up, right = _ROWS_AND_COLUMNS[axis]
    size = (max(1, round(lengths_mm[right] * scale)), max(1, round(lengths_mm[up] * scale)))

    def resized(slice_: Array) -> Array:
        # the axes that remain keep their order, and the lower one runs to the right
        return np.asarray(Image.fromarray(slice_.T[::-1]).resize(size, Image.Resampling.BILINEAR))

    pixels = resized(grey.take(best, axis=axis)).copy()
    cut = labels.take(best, axis=axis)
    for number, value in enumerate(values):
        inside = resized(np.where(cut == value, 255, 0).astype(np.uint8)) >= 128
        padded = np.pad(inside, 1)
        core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        pixels[inside & ~core] = _GREYS + number % len(LABEL_COLOURS)
    return pixels
