"""Does a label map look like a hippocampus? What a person is told before looking.

Limits are wide on purpose: they name what is surely worth a look, they do not decide. Volumes as in healthy
adults and well beyond (2.5 to 5.5 cm3 a side; a newborn's is near 1, a sclerotic one near 1.5).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from bidsapp.arrays import BoolArray, IntArray
from bidsapp.corobl.measures import contain_crop_mask
from bidsapp.corobl.quality import Judgement, Level
from bidsapp.corobl.template import hippocampus_on
from bidsapp.images.grids import Grid
from bidsapp.images.volumes import Volume
from bidsapp.printable import plural
from bidsapp.records import Side

SIDE_NAMES: dict[Side, str] = {"L": "left", "R": "right"}

MARGIN_MM = (0.3, 3.0)
TEMPLATE_DICE = (0.25, 0.5)
LARGEST_PIECE = (0.7, 0.95)
"""Below the first value a measure is red, below the second amber."""

VOLUME_SEEN_MM3 = (1500.0, 6000.0)
VOLUME_POSSIBLE_MM3 = (600.0, 9000.0)
"""Whole hippocampus: outside the first range amber, outside the second red."""

RATIO_SEEN, RATIO_POSSIBLE = 1.35, 2.0
"""Larger over smaller side: beyond the first amber, beyond the second red."""


def judge_label_map(
    labels: Volume, side: Side, hippocampal: Collection[int], volume_mm3: float | None
) -> tuple[Judgement, ...]:
    """Judge the label map of a crop, as in the head; its room to the border is that of the largest piece.

    Parameters
    ----------
    labels
        Label values, on the grid of the crop.
    hippocampal
        Values that make up the hippocampus; other labels (cysts, neighbours) are not judged.
    volume_mm3
        Its volume in the scan; None where the map to the scan is not known: CorObl's own is judged.
    """
    name = SIDE_NAMES[side]
    mask = np.isin(labels.data, list(hippocampal))
    pieces, sizes = _label_pieces(mask)
    contained = contain_crop_mask(pieces == sizes.argmax() + 1, labels.grid, side) if sizes.size else None
    if contained is None:
        return (Judgement("red", "volume_mm3", 0.0, f"there is no {name} hippocampus in the label map"),)
    size = float(mask.sum()) * labels.grid.voxel_mm3 if volume_mm3 is None else volume_mm3
    return (
        _judge_margin(contained.margin_mm, contained.border, name),
        _judge_volume(size, name),
        _judge_overlap(mask, labels.grid, side),
        _judge_pieces(sizes, name),
    )


def judge_symmetry(volumes_mm3: Mapping[Side, float]) -> tuple[Judgement, ...]:
    """Compare the hippocampi of both sides; nothing to say where one is missing."""
    left, right = volumes_mm3.get("L", 0.0), volumes_mm3.get("R", 0.0)
    if not left or not right:
        return ()
    ratio = max(left, right) / min(left, right)
    words = f"the {'left' if left > right else 'right'} hippocampus is {ratio:.2f} times as large as the other"
    level: Level = "red" if ratio > RATIO_POSSIBLE else "amber" if ratio > RATIO_SEEN else "green"
    return (Judgement(level, "side_ratio", ratio, words),)


def _judge_margin(margin_mm: float, border: str, name: str) -> Judgement:
    if margin_mm < MARGIN_MM[0]:
        return Judgement("red", "margin_mm", margin_mm, f"the {name} hippocampus touches the {border} edge of the crop")
    words = f"the {name} hippocampus ends {margin_mm:.1f} mm from the {border} edge of the crop"
    return Judgement("amber" if margin_mm < MARGIN_MM[1] else "green", "margin_mm", margin_mm, words)


def _judge_volume(volume_mm3: float, name: str) -> Judgement:
    words = f"the {name} hippocampus measures {volume_mm3:,.0f} mm3"
    if not VOLUME_POSSIBLE_MM3[0] <= volume_mm3 <= VOLUME_POSSIBLE_MM3[1]:
        return Judgement("red", "volume_mm3", volume_mm3, f"{words}: no adult's does")
    if not VOLUME_SEEN_MM3[0] <= volume_mm3 <= VOLUME_SEEN_MM3[1]:
        return Judgement("amber", "volume_mm3", volume_mm3, f"{words}: unusual in an adult")
    return Judgement("green", "volume_mm3", volume_mm3, words)


def _judge_overlap(mask: np.ndarray, grid: Grid, side: Side) -> Judgement:
    template = hippocampus_on(grid, side)
    dice = float(2 * np.count_nonzero(mask & template) / (mask.sum() + template.sum()))
    words = f"Dice of the {SIDE_NAMES[side]} hippocampus with the template's is {dice:.2f}"
    if dice < TEMPLATE_DICE[0]:
        return Judgement("red", "template_dice", dice, f"{words}: it is elsewhere or has another shape")
    if dice < TEMPLATE_DICE[1]:
        return Judgement("amber", "template_dice", dice, f"{words}: low")
    return Judgement("green", "template_dice", dice, words)


def _label_pieces(mask: BoolArray) -> tuple[IntArray, IntArray]:
    """Number the connected pieces 1, 2, ... and count their voxels."""
    from scipy import ndimage

    pieces, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    return pieces, np.bincount(pieces.ravel())[1:]


def _judge_pieces(sizes: IntArray, name: str) -> Judgement:
    share = float(sizes.max() / sizes.sum())
    words = f"the {name} hippocampus is in {plural(len(sizes), 'piece')}"
    if len(sizes) > 1:
        words += f", the largest with {share:.1%} of it"
    level: Level = "red" if share < LARGEST_PIECE[0] else "amber" if share < LARGEST_PIECE[1] else "green"
    return Judgement(level, "largest_piece", share, words)
