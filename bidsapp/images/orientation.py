"""The rule of orientation: into which axes a pair is turned, so that every network sees the same side of a head.

Network space is what the arrays of right CorObl crops are: axis 0 from lateral to medial, axis 1 to the front,
axis 2 up. A right side whose header is true has it when it is stored LAS, a left one when it is stored RAS,
whether or not somebody flipped it by its grid before. A left side that was flipped in its voxels under the header
of before has it when it is stored LAS, as if it were a right one. nnU-Net reads arrays as they are stored.

Axes are named as nibabel does: ``LAS`` runs to the left, to the front and up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from bidsapp.arrays import FloatArray
from bidsapp.images.grids import Grid
from bidsapp.images.volumes import Volume
from bidsapp.records import Hemi, LeftIs

Storage = Mapping[Hemi, str]
"""Side -> axes of its array where the header is true; ``n/a`` is for pairs of whose side nothing is known."""

NETWORK_SPACE: Storage = {"R": "LAS", "L": "RAS", "n/a": "RAS"}
"""What every new model is trained on; only ``n/a`` depends on the pairs (`storage_without_side`)."""

_OTHER_SIDE: dict[Hemi, Hemi] = {"L": "R", "R": "L", "n/a": "n/a"}


def network_axes(hemi: Hemi, *, truthful: bool, storage: Storage = NETWORK_SPACE) -> str:
    """Axes into which a pair is turned by its header, for all its files.

    Parameters
    ----------
    hemi
        The side that it shows.
    truthful
        Whether the header says where the voxels are in the head. False: they were mirrored, and it was not.
    storage
        Of the model that is trained.
    """
    return storage[hemi if truthful else _OTHER_SIDE[hemi]]


def left_header_is_true(
    *, named_flipped: bool, said: LeftIs | None, like_right: bool, left_of_midline: bool, on_left_grid: bool = False
) -> bool | None:
    """Whether the header of a left side says where its voxels are in the head; None: name and header cannot tell.

    Parameters
    ----------
    named_flipped
        Its id has ``Lflip``.
    said
        What a person says of it.
    like_right
        It is stored as right sides are, but for rotations (`is_mirrored`): then a flip left no trace in the header.
    left_of_midline
        Its grid lies at x < 0.
    on_left_grid
        It lies on HippUnfold's grid of left crops, as in the head.
    """
    if said is not None:
        return said == "as-in-head" or not like_right
    if named_flipped:
        return None if like_right and left_of_midline else not like_right
    return True if on_left_grid or (left_of_midline and not like_right) else None


def storage_of_right(axes: str, without_side: str = "RAS") -> dict[Hemi, str]:
    """The storage of a model whose right sides have these axes; left ones have them mirrored."""
    return {"R": axes, "L": mirrored_axes(axes), "n/a": without_side}


def axes_of(affine: FloatArray) -> str:
    """Name the axes of an array by its affine (4 x 4, voxel -> RAS mm); oblique ones by what they are nearest to."""
    return "".join(str(code) for code in nibabel.aff2axcodes(affine))


def are_axes(text: object) -> bool:
    """Whether it names axes as we do: three letters, one of each pair."""
    letters = set(text) if isinstance(text, str) and len(text) == 3 else set()
    return all(len(letters & set(ends)) == 1 for ends in ("LR", "PA", "IS"))


def mirrored_axes(axes: str) -> str:
    """The same axes with left and right exchanged."""
    return axes.translate(str.maketrans("LR", "RL"))


def is_mirrored(axes: str, other: str) -> bool:
    """Whether no rotation brings an array with these axes onto one with the others."""
    return _handedness(axes) != _handedness(other)


def storage_without_side(stored: Iterable[str]) -> str:
    """RAS or LAS, for pairs that have these axes and of whose sides nobody knows: what needs no mirroring for most.

    Sixteen left blocks that are stored RAS and one that is stored LIP are turned to RAS. A tie goes to RAS.
    """
    handedness = sum(_handedness(axes) for axes in stored)
    return "LAS" if handedness < 0 else "RAS"


def turn_volume(volume: Volume, axes: str) -> Volume:
    """Exchange and reverse axes until the header says `axes`: every voxel stays where the header has it.

    Nothing is resampled. Oblique volumes end with the axes nearest to `axes`. ``""`` leaves all as it is.
    """
    if not axes or axes_of(volume.affine) == axes:
        return volume
    return _turn(volume, axcodes2ornt(axes))


def turned_grid(grid: Grid, axes: str) -> Grid:
    """`turn_volume` for a grid alone."""
    return turn_volume(Volume(np.broadcast_to(np.uint8(0), grid.shape), grid.affine), axes).grid


def bring_to_grid(volume: Volume, grid: Grid, *, tolerance_mm: float) -> Volume | None:
    """Exchange and reverse axes until the voxels lie on `grid`, every one where the header has it.

    Nothing is resampled: where the nearest such array has corner voxels farther than `tolerance_mm` from those of the
    grid, the result is None. A volume that lies on the grid already is returned as it is.
    """
    if volume.grid.distance_mm(grid) <= tolerance_mm:
        return volume
    orientation = io_orientation(grid.affine)
    if np.isnan(orientation).any() or np.isnan(io_orientation(volume.affine)).any():
        return None
    turned = _turn(volume, orientation)
    return turned if turned.grid.distance_mm(grid) <= tolerance_mm else None


def _turn(volume: Volume, orientation: np.ndarray) -> Volume:
    """Turn a volume to an orientation of nibabel: shape (3, 2), for each array axis the axis of RAS and its sign."""
    turn = ornt_transform(io_orientation(volume.affine), orientation)
    affine = volume.affine @ inv_ornt_aff(turn, volume.data.shape) + 0.0
    return Volume(apply_orientation(volume.data, turn), affine)


def _handedness(axes: str) -> int:
    """1 for RAS and what is turned from it without mirroring, -1 for the others."""
    return round(np.linalg.det(inv_ornt_aff(axcodes2ornt(axes), (1, 1, 1))))
