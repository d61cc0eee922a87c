"""A correction that was drawn here is saved where people save theirs, on the grid of its crop; none is ever lost."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np

from bidsapp.arrays import IntArray
from bidsapp.errors import BadDataError
from bidsapp.images.headers import FileGrid
from bidsapp.images.orientation import bring_to_grid
from bidsapp.images.volumes import read_grid, read_volume
from bidsapp.images.writing import label_image_like, write_image
from bidsapp.labels.tables import write_label_table
from bidsapp.layout import OutputLayout, label_names
from bidsapp.records import LabelTable
from bidsapp.review.candidates import Candidate, SideFacts, find_candidate, label_table_of
from bidsapp.review.label_file import SAME_PLACE_MM
from bidsapp.review.superseded import keep_superseded


def crop_grid(layout: OutputLayout, side: SideFacts) -> FileGrid:
    """Read the grid of a side's first crop, on which it is drawn; raises as `read_grid`."""
    crop = layout.session(side.participant, side.session).crop(side.hemi, next(iter(side.crops)))
    return read_grid(crop, "any")


def read_on_grid(path: Path, grid: FileGrid) -> IntArray:
    """Read a stranger's label map as whole numbers (i, j, k) on the grid of a crop; nothing is interpolated.

    Raises
    ------
    NoInputError
        When there is no such file.
    BadDataError
        When it is damaged, holds no whole numbers of 16 bits, or lies elsewhere than on the grid.
    """
    fits = sorted(read_grid(path, "any").shape) == sorted(grid.shape)  # else its voxels need not be unpacked
    placed = bring_to_grid(read_volume(path, "any"), grid, tolerance_mm=SAME_PLACE_MM) if fits else None
    if placed is None:
        raise BadDataError(f"{path.name} does not lie on the grid of its crop, so it is not shown")
    values, largest = placed.data, np.iinfo(np.uint16).max
    broken = values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all())
    if broken or values.min() < 0 or values.max() > largest:
        raise BadDataError(f"{path.name} holds other values than whole numbers from 0 to {largest}")
    return np.ascontiguousarray(values, dtype=np.uint16)


def editing_table(layout: OutputLayout, side: SideFacts) -> LabelTable | None:
    """Names of the values that a person draws: those of the label map that is there, so that values keep their meaning.

    None: nobody says.
    """
    candidate = find_candidate(layout, side)
    if candidate is not None and candidate.source == "imported":
        return label_table_of(layout, side, candidate)
    return label_table_of(layout, side, Candidate("manual", layout.manual_label(*side.key)))


def save_correction(layout: OutputLayout, side: SideFacts, grid: FileGrid, labels: IntArray, *, when: datetime) -> Path:
    """Save a person's drawing under the name of their correction; one that stood there is kept in superseded before.

    Where the drawing began from another tool's label map, that tool's names of the values go beside it: others would
    give them another meaning.

    Parameters
    ----------
    labels
        Whole numbers, (i, j, k) of `grid`.

    Raises
    ------
    BadDataError
        When it cannot be told which file is meant, or `labels` do not fit.
    CannotWriteError
        When the disk is full or the folder cannot be written.
    """
    candidate, table = find_candidate(layout, side), editing_table(layout, side)
    path = candidate.path if candidate and candidate.source == "manual" else layout.manual_label(*side.key)
    if path.exists():
        keep_superseded(layout, path, when)
    if table is not None and candidate is not None and candidate.source == "imported":
        write_label_table(label_names(path), table)
    write_image(path, label_image_like(labels, grid))
    return path
