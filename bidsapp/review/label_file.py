"""Read the label maps that people save, whatever their program made of them, onto the crop's grid.

What is harmless is treated and said; what is not becomes findings, never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bidsapp.arrays import FloatArray, IntArray
from bidsapp.corobl.template import hippocampus_on
from bidsapp.errors import BadDataError, HippoTuneError
from bidsapp.files import explain_write_errors, read_bytes, sync
from bidsapp.guards.judgement import SIDE_NAMES
from bidsapp.guards.label_guards import Finding
from bidsapp.guards.placement import aligned_dice, best_mirrored, fit
from bidsapp.images.grids import Grid
from bidsapp.images.nifti import by
from bidsapp.images.orientation import bring_to_grid
from bidsapp.images.volumes import FileVolume, Volume
from bidsapp.images.writing import new_image, write_image
from bidsapp.labels.tables import LARGEST_VALUE
from bidsapp.records import Side
from bidsapp.review.snapshots import ImageSnapshot, ImageSnapshots

SAME_PLACE_MM = 0.03
"""Corners of two grids that are closer are the same: a tenth of a voxel; single precision is far below."""

_FITS_DICE = 0.1
"""Least overlap with the template's hippocampus from which on voxels lie as in the crop."""

_MIRROR_GAIN = 0.15
"""Dice by which a mirror image may fit the template better and the voxels still lie as in the crop: people differ that
much from it. What is really mirrored, the guard of that name finds against the prediction once the header is mended."""


@dataclass(frozen=True, eq=False)
class LabelFile:
    """A label map that somebody returned."""

    path: Path
    labels: IntArray | None = None
    """Values on the grid of the side's crop, as in the head. None when the file gives none, which no
    accepted guard makes up for. Where `findings` speak of the header or of the place, the voxels as they lie."""
    affine: FloatArray | None = None
    """(4, 4), what the file says: voxel indices to RAS millimetres; None when it cannot be read."""
    normalised: tuple[str, ...] = ()
    """In words: what was treated."""
    findings: tuple[Finding, ...] = ()
    """Of the guards file, geometry, header, values and flip."""


def read_label_file(
    path: Path, side: Side, grids: Mapping[Side, Grid], images: ImageSnapshots | None = None
) -> LabelFile:
    """Read one returned label map of a side; see `LabelFile` for what comes of a bad one.

    Parameters
    ----------
    grids
        Of the crops of both sides.
    images
        What this run has read before; None: nothing.
    """
    try:
        volume = (images or ImageSnapshots())[path].volume
    except HippoTuneError as error:
        return LabelFile(path, findings=(Finding("file", str(error).replace(f"{path} ", "it ")),))
    labels, wrong = _whole_values(volume.data)
    found = LabelFile(path, None, volume.affine, _treated(path, volume), (wrong,) if wrong else ())
    return _place(found, volume.data if labels is None else labels, side, grids, usable=labels is not None)


def fix_header(path: Path, grid: Grid) -> Path:
    """Give a file a header with the grid of its crop, voxels as they lie; the original stays beside it.

    Returns the original's new name, ``*.orig``, which is none that BIDS or pybids know. Nothing is ever
    overwritten: a second one is called ``*.2.orig``.

    Raises
    ------
    BadDataError
        When the file holds no label map of the crop's shape.
    CannotWriteError
        When the folder cannot be written. The file is then as it was.
    """
    labels, wrong = _whole_values(ImageSnapshot(path).volume.data)
    if labels is None or labels.shape != grid.shape:
        why = wrong.problem if wrong else f"its shape is {by(labels.shape if labels is not None else ())}"
        raise BadDataError(f"{path} is not a label map with only another header: {why}", "Draw it on the crop.")
    original = _keep_original(path)
    write_image(path, new_image(labels.astype(np.uint8 if labels.max() < 256 else np.int16), grid.affine))
    return original


def _keep_original(path: Path) -> Path:
    """Copy a file to the first free name that ends with .orig."""
    number = 1
    with explain_write_errors(path):
        while True:
            original = path.with_name(f"{path.name}{f'.{number}' if number > 1 else ''}.orig")
            try:
                with original.open("xb") as stream:
                    stream.write(read_bytes(path))
            except FileExistsError:
                number += 1
                continue
            except OSError:
                original.unlink(missing_ok=True)
                raise
            sync(original)
            return original


def _place(found: LabelFile, values: np.ndarray, side: Side, grids: Mapping[Side, Grid], *, usable: bool) -> LabelFile:
    """Bring values, (i, j, k), from the file's axes to the crop's; `usable` ones become the labels."""
    affine = found.affine if found.affine is not None else np.eye(4)
    turned = _on_grid(values, affine, grids[side])
    if turned is not None:
        words = () if turned is values else ("axes were put in the order of the crop",)
        return replace(found, labels=_as_int(turned, usable), normalised=(*found.normalised, *words))
    finding = _misplaced(values, affine, side, grids)
    labels = _as_int(values, usable) if values.shape == grids[side].shape else None
    return replace(found, labels=labels, findings=(*found.findings, finding))


def _as_int(values: np.ndarray, usable: bool) -> IntArray | None:
    return np.ascontiguousarray(values, dtype=np.int32) if usable else None


def _on_grid(values: np.ndarray, affine: FloatArray, grid: Grid) -> np.ndarray | None:
    turned = bring_to_grid(Volume(values, affine), grid, tolerance_mm=SAME_PLACE_MM)
    return None if turned is None else turned.data


def _misplaced(values: np.ndarray, affine: FloatArray, side: Side, grids: Mapping[Side, Grid]) -> Finding:
    """Say in which way a file is not on the grid of its side's crop."""
    grid = grids[side]
    if values.shape != grid.shape:
        return Finding("geometry", f"its shape is {by(values.shape)}, the crop's is {by(grid.shape)}")
    other: Side = "R" if side == "L" else "L"
    from_other_side = _on_grid(values, affine, grids[other]) is not None
    fits = _lies_as_in_crop(values > 0, grid, side, mirror_gain=0.0 if from_other_side else _MIRROR_GAIN)
    if from_other_side and not fits:
        return Finding("flip", f"it lies on the grid of the {SIDE_NAMES[other]} crop: another side's file")
    apart_mm = Grid(grid.shape, affine).distance_mm(grid)
    if not fits:
        return Finding("geometry", f"its voxels lie up to {apart_mm:.1f} mm from where the crop's are")
    words = "the other side's" if from_other_side else "another"
    return Finding("header", f"its voxels lie as in the crop, but the header is {words}: off by {apart_mm:.1f} mm")


def _lies_as_in_crop(mask: np.ndarray, grid: Grid, side: Side, *, mirror_gain: float) -> bool:
    """Whether a mask is where the template's hippocampus is, and no mirror image fits better by `mirror_gain`."""
    if not mask.any():
        return False
    template = hippocampus_on(grid, side)
    placed = fit(mask, template, grid.spacing_mm)
    own = max(placed.dice, placed.shifted_dice, aligned_dice(mask, template))
    return placed.dice >= _FITS_DICE and best_mirrored(mask, template)[0] <= own + mirror_gain


def _whole_values(values: np.ndarray) -> tuple[IntArray | None, Finding | None]:
    """Give the values as integers, or say why they are no labels."""
    finite = np.isfinite(values)
    if not finite.all():
        return None, Finding("values", f"{np.count_nonzero(~finite)} voxels are not numbers")
    if values.dtype == np.uint8:
        return values.astype(np.int32), None
    whole = values if values.dtype.kind in "iu" else np.rint(values)
    wrong = (np.abs(values - whole) > 1e-3) | (whole < 0) | (whole > LARGEST_VALUE)
    if wrong.any():
        words = f"{np.count_nonzero(wrong)} voxels hold no label value, such as {values[wrong][0]:g}"
        return None, Finding("values", f"{words}: labels are whole numbers from 0 to {LARGEST_VALUE}")
    return whole.astype(np.int32), None


def _treated(path: Path, volume: FileVolume) -> tuple[str, ...]:
    """Say how a file is unlike a label map that we write, where that does no harm."""
    header, normalised = volume.file.header, []
    if volume.file.compressed != path.name.endswith(".gz"):
        words = "it is compressed under a name without .gz" if volume.file.compressed else "it is not compressed"
        normalised.append(words)
    if len(header.get_data_shape()) > 3:
        normalised.append(f"its shape was {by(header.get_data_shape())}")
    slope, intercept = header.get_slope_inter()
    if (slope or 1.0, intercept or 0.0) != (1.0, 0.0):
        normalised.append(f"its values are scaled by {slope:g} and {intercept:g}")
    stored = header.get_data_dtype()
    if stored.kind == "f":
        normalised.append(f"its values are stored as {stored.name}")
    return tuple(normalised)
