"""Bring a checked pair into network space, in memory or as files in nnU-Net's raw data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from bidsapp.arrays import Array, FloatArray
from bidsapp.errors import BadDataError
from bidsapp.images.grids import straighten
from bidsapp.images.orientation import bring_to_grid, turn_volume
from bidsapp.images.volumes import Volume, VolumeError, read_volume
from bidsapp.images.writing import SCANNER_CODE, new_image, write_image
from bidsapp.pairs.check_pairs import GRID_TOLERANCE_MM, grid_problems, image_problems, label_problems
from bidsapp.records import Pair


@dataclass(frozen=True)
class LoadedPair:
    """One pair in network space."""

    images: Array
    """(channels, x, y, z), float32, channels in the order of their numbers."""
    label: Array
    """(x, y, z), uint8 or, for values above 255, int16."""
    affine: FloatArray
    """4 x 4, voxel index -> RAS mm of the head; spacings are multiples of 1e-5 mm, directions orthonormal. Axes that
    were exchanged or reversed are so in the array and in the affine alike."""


def load_pair(pair: Pair) -> LoadedPair:
    """Read all files of a pair, each turned by its own header into `Pair.axes`.

    Raises
    ------
    VolumeError
        When a file changed since `check_pairs` found it fit for use.
    """
    *images, label = _read(pair)
    for path, volume in zip((*pair.images, pair.label), (*images, label), strict=True):
        problems = label_problems(volume.data, None) if volume is label else image_problems(volume.data)
        problems += grid_problems(volume.grid, images[0].grid)
        if problems:
            raise VolumeError(path, problems[0])
    return LoadedPair(
        images=np.stack([volume.data.astype(np.float32) for volume in images]),
        label=_as_smallest_integers(label.data),
        affine=straighten(images[0].affine),
    )


def write_nnunet_case(
    pair: Pair,
    images_dir: Path,
    labels_dir: Path,
    *,
    values: Mapping[int, int] | None = None,
    as_las: bool = False,
) -> None:
    """Write ``<case>_0000.nii.gz``, ... into `images_dir` and ``<case>.nii.gz`` into `labels_dir`.

    Every file appears whole or not at all, is the same byte for byte each time, and has one geometry in
    sform and qform, so that SimpleITK and nibabel read the same.

    Parameters
    ----------
    pair
        A pair that `check_pairs` found fit for use.
    images_dir, labels_dir
        E.g. imagesTr and labelsTr; made if missing.
    values
        Label value in the pair -> value to write, for all values but 0: see `labels.tables.nnunet_values`.
    as_las
        Let the header say that x runs to the left, whatever it does in the head. A reader that turns voxels to RAS
        then turns right sides and flipped left ones alike, as `bidsapp.prediction.Predictor.predict_array` does.

    Raises
    ------
    VolumeError
        When a file of the pair changed since it was checked.
    BadDataError
        When the pair holds a label value that `values` does not map.
    CannotWriteError
        When a disk is full or a folder is read-only.
    """
    loaded = load_pair(pair)
    label = loaded.label if values is None else _map_values(pair, loaded.label, values)
    affine = _to_the_left(loaded.affine) if as_las else loaded.affine
    for channel, image in enumerate(loaded.images):
        _write(images_dir / f"{pair.case}_{channel:04d}.nii.gz", image, affine)
    _write(labels_dir / f"{pair.case}.nii.gz", label, affine)


def _to_the_left(affine: FloatArray) -> FloatArray:
    """The affine in a mirrored world where axis 0 runs to the right; the voxels stay."""
    if nibabel.aff2axcodes(affine)[0] != "R":
        return affine
    return np.diag([-1.0, 1.0, 1.0, 1.0]) @ affine


def _read(pair: Pair) -> list[Volume]:
    """The images and, last, the label of a pair, all turned as the pair is to be."""
    volumes = [read_volume(path, "pair") for path in (*pair.images, pair.label)]
    grid = volumes[0].grid
    alike = [bring_to_grid(volume, grid, tolerance_mm=GRID_TOLERANCE_MM) or volume for volume in volumes]
    return [turn_volume(volume, pair.axes) for volume in alike]


def _as_smallest_integers(label: Array) -> Array:
    whole = np.rint(label)
    return whole.astype(np.uint8 if whole.max() <= np.iinfo(np.uint8).max else np.int16)


def _map_values(pair: Pair, label: Array, values: Mapping[int, int]) -> Array:
    present = [int(value) for value in np.unique(label) if value]
    unmapped = [value for value in present if value not in values]
    if unmapped:
        raise BadDataError(f"{pair.label} holds the value {unmapped[0]}, which the label table does not name")
    lookup = np.zeros(int(label.max()) + 1, dtype=np.int16)
    for value in present:
        lookup[value] = values[value]
    return _as_smallest_integers(lookup[label])


def _write(path: Path, array: Array, affine: FloatArray) -> None:
    write_image(path, new_image(array, affine, code=SCANNER_CODE))
