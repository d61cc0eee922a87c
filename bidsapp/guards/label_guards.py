"""Guards on the label maps that people return: they keep a flipped, shifted or half-finished label out.

`check_label` looks at voxels on the crop's grid; `bidsapp.review.label_file` looks at files. `python -m
benchmarks.guards` measures how often each fault is caught, and how often a good label is refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import optimize

from bidsapp.arrays import BoolArray, FloatArray, IntArray
from bidsapp.corobl.measures import contain_crop_mask
from bidsapp.corobl.template import hippocampus_on
from bidsapp.guards.judgement import SIDE_NAMES
from bidsapp.guards.pieces import Piece, new_holes, new_pieces
from bidsapp.guards.placement import aligned_dice, best_mirrored, bounding_box, centre_of_mass, fit
from bidsapp.images.grids import Grid
from bidsapp.labels.tables import hippocampal_values
from bidsapp.records import LabelSource, LabelTable, Side

GUARDS: Mapping[str, str] = {
    "file": "The file cannot be read as one label map: damaged, truncated, not fetched, in colour, several volumes.",
    "geometry": "Shape, or place of the voxels in the head, are not the crop's.",
    "header": "The voxels lie as in the crop and only the header says otherwise; --fix-header mends it.",
    "values": "A value is not in the label table, negative or not a whole number.",
    "empty": "Nothing is labelled.",
    "required": "A label that the table marks as required is missing.",
    "missing": "Another label of the table is missing: a note only.",
    "flip": "The label is mirrored, its axes are exchanged, or it was drawn in the wrong side's file.",
    "shift": "The label is moved as a whole.",
    "swapped": "Label values are exchanged: one label lies where the prediction has another.",
    "stale": "The label was drawn on an earlier version of the crop.",
    "volume": "A volume is far from those of the other approved people or from the prediction's.",
    "pieces": "There are stray pieces or holes that the prediction has not.",
    "unchanged": "The label is marked as corrected and equals the prediction.",
    "border": "The label touches the border of the crop: the hippocampus is cut.",
}
"""What a person writes into the `accept` column -> what it is about."""

NEVER_ACCEPTED = frozenset({"flip", "file"})
"""No word in the `accept` column lets these pass: a flipped label teaches the wrong side."""

WHOLE = "hippocampus"
"""Name under which volumes of the whole hippocampus may stand among those of the labels."""

_LEAST_REFERENCE_MM3 = 135.0  # a prediction below is a failure, and the template says more
_DIRECTIONS = (("to the left", "to the right"), ("forwards", "backwards"), ("up", "down"))


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a label map or a training pair."""

    guard: str
    """One of `GUARDS`; ``accept`` for a word in the `accept` column that names none; ``""`` for what no guard found."""
    problem: str
    """What is wrong and the value that was met: one sentence for a person, to be read after the file's name."""
    blocks: bool = True
    """False for a note that does not keep the label from being approved."""
    hint: str = ""
    """What to do about it; ``""`` when the problem says it."""
    case: str = ""
    """The training pair, by the id that nnU-Net would use; ``""`` where one label map is looked at."""
    file: Path = Path()
    """The file of that pair to correct or to add."""
    voxel: tuple[int, int, int] | None = None
    """Where to look, on the grid of the crop as in the head; None where it is about the whole."""


class GuardLimits(BaseModel):
    """From where on a guard speaks. The description of each limit names its guard first; review.ini shows it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror_gain: float = Field(
        default=0.02,
        ge=0,
        le=0.1,
        description=(
            "flip: Dice by which a mirror image of the label must fit better than the label itself. Good "
            "labels fit\n"
            "their prediction 0.12 to 0.35 better than any mirror image of them (50 real ones)."
        ),
    )
    shift_mm: float = Field(
        default=1.8,
        ge=0.3,
        le=50,
        description=(
            "shift: least distance, in mm, of a move as a whole against the prediction. Good corrections: 0.9."
        ),
    )
    shift_gain: float = Field(
        default=0.04,
        ge=0,
        le=1,
        description=(
            "shift: Dice that moving back must gain; a correction that only adds or removes a part gains 0.02."
        ),
    )
    template_distance_mm: float = Field(
        default=15.0,
        ge=1,
        le=100,
        description=(
            "shift: without a prediction, greatest distance in mm of the centre from the template's. "
            "Registration places\n"
            "crops to 4 mm; people differ by some more."
        ),
    )
    swap_gain: float = Field(
        default=0.2,
        ge=0,
        le=2,
        description="swapped: mean Dice that exchanging values must gain. Good labels lose by any exchange.",
    )
    volume_z: float = Field(
        default=4.0,
        ge=1,
        le=100,
        description=(
            "volume: greatest robust z-score (median, MAD) of a label's log volume among other approved people."
        ),
    )
    volume_people: float = Field(
        default=5,
        ge=2,
        le=10000,
        description="volume: approved people needed for that; the MAD of fewer says nothing.",
    )
    volume_spread: float = Field(
        default=0.15,
        ge=0,
        le=2,
        description=(
            "volume: least standard deviation of log volumes that is believed. Healthy adults have 0.12 to "
            "0.15, and few\n"
            "people can look much alike by chance."
        ),
    )
    volume_ratio: float = Field(
        default=1.5,
        ge=1,
        le=100,
        description="volume: greatest ratio, either way, of the whole hippocampus to the prediction's.",
    )
    label_ratio: float = Field(
        default=3.0,
        ge=1,
        le=100,
        description="volume: the same for one label; borders between labels are drawn more freely.",
    )
    label_mm3: float = Field(
        default=50.0,
        ge=0,
        le=10000,
        description="volume: labels whose prediction is smaller, in mm3, are not compared with it.",
    )
    piece_distance_mm: float = Field(
        default=0.6,
        ge=0,
        le=50,
        description=(
            "pieces: a new piece further than this, in mm, from the largest counts whatever its size, single "
            "voxels too."
        ),
    )
    piece_mm3: float = Field(
        default=4.0,
        ge=0,
        le=1000,
        description=(
            "pieces: a nearer one, in mm3, counts from here on: crumbs at an edge are no fault. Labels drawn "
            "at 1 mm\n"
            "leave voxels that hang on by a corner."
        ),
    )
    hole_mm3: float = Field(
        default=0.3,
        ge=0,
        le=1000,
        description=(
            "pieces: a new hole counts from here on, in mm3: 12 voxels of 0.027 mm3. Smaller ones are slips "
            "of a brush,\n"
            "and what a hole between voxels of 1 mm shrinks to."
        ),
    )


DEFAULT_LIMITS = GuardLimits()


def check_label(
    labels: IntArray,
    *,
    side: Side,
    grid: Grid,
    table: LabelTable,
    prediction: IntArray | None,
    other_side: IntArray | None,
    approved_volumes_mm3: Mapping[str, Sequence[float]],
    volume_factor: float,
    source: LabelSource,
    limits: GuardLimits = DEFAULT_LIMITS,
) -> tuple[Finding, ...]:
    """Run every guard that looks at voxels, in the order of `GUARDS`.

    Parameters
    ----------
    labels, prediction, other_side
        Label values, as in the head: what was returned, what the network said for this side, and label or prediction
        of the other side on the other side's crop.
    grid
        Of the crop; axes run to the left, to the front and up.
    approved_volumes_mm3
        Label name (or `WHOLE`) -> volumes, in the scan, of the other approved people.
    volume_factor
        mm3 of the scan per mm3 of the crop: the absolute determinant of the map to the scan, 1 if unknown.

    Raises
    ------
    ValueError
        When `labels` or `prediction` have another shape than the crop.
    """
    for array in (labels, prediction):
        if array is not None and array.shape != grid.shape:
            raise ValueError(f"the crop has shape {grid.shape}, not {array.shape}")
    if not labels.any():
        return (Finding("empty", "nothing is labelled"),)
    findings = [*_check_values(labels, table), *_check_presence(labels, table)]
    mask = hippocampus_of(labels, table)
    predicted = hippocampus_of(prediction, table) if prediction is not None else None
    if mask.any():
        other = hippocampus_of(other_side, table) if other_side is not None else None
        findings += check_placement(mask, side, grid, predicted, other, limits)
        findings += _check_border(mask, grid, side)
    if prediction is not None:
        findings += _check_swapped(labels, prediction, table, limits)
    findings += _check_volumes(
        labels, mask, prediction, predicted, table, approved_volumes_mm3, volume_factor * grid.voxel_mm3, limits
    )
    findings += check_pieces(
        labels > 0, prediction > 0 if prediction is not None else None, limits, grid.spacing_mm.tolist()
    )
    if source == "manual" and prediction is not None and np.array_equal(labels, prediction):
        findings.append(Finding("unchanged", "it is marked as corrected and equals the prediction"))
    order = list(GUARDS)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.guard)))


def accept(findings: Sequence[Finding], accepted: Collection[str]) -> tuple[Finding, ...]:
    """Leave out the findings whose guards a person accepted; words that name no guard are findings themselves.

    Case and surrounding blanks do not matter, and `NEVER_ACCEPTED` stay.
    """
    words = {word.strip().lower() for word in accepted} - {"", "n/a"}
    remaining = [one for one in findings if one.guard not in words or one.guard in NEVER_ACCEPTED]
    unknown = [
        Finding("accept", f"the accept column says {word!r}, which is no guard: choose among {', '.join(GUARDS)}")
        for word in sorted(words - set(GUARDS))
    ]
    return (*remaining, *unknown)


def hippocampus_of(labels: IntArray, table: LabelTable) -> BoolArray:
    """Voxels of the hippocampus's labels; of all labels when none of its labels is there."""
    mask = np.isin(labels, list(hippocampal_values(table.names)))
    return mask if mask.any() else labels > 0


def check_placement(
    mask: BoolArray,
    side: Side,
    grid: Grid,
    predicted: BoolArray | None,
    other_side: BoolArray | None,
    limits: GuardLimits,
) -> list[Finding]:
    """Compare place and orientation of a hippocampus with its prediction, or else with the template's.

    Parameters
    ----------
    mask, predicted, other_side
        As `check_label` takes them; `mask` is not empty.
    """
    name = SIDE_NAMES[side]
    from_template = predicted is None or np.count_nonzero(predicted) * grid.voxel_mm3 < _LEAST_REFERENCE_MM3
    reference = hippocampus_on(grid, side) if predicted is None or from_template else predicted
    what = "the template's hippocampus" if from_template else "the prediction"
    placed = fit(mask, reference, grid.spacing_mm)
    # A mirror image is compared with its centre laid on the reference's. To be fair, the label itself may be moved
    # there too: one that is only shifted must not count as flipped.
    own_dice = max(placed.dice, placed.shifted_dice, aligned_dice(mask, reference))
    mirrored_dice, mirrored = best_mirrored(mask, reference)
    if mirrored_dice > own_dice + limits.mirror_gain:
        words = f"with {mirrored} it fits {what} of the {name} side better: Dice {mirrored_dice:.2f}"
        return [Finding("flip", f"{words} instead of {own_dice:.2f}")]
    # A hippocampus resembles the mirror image of the other side's. A label drawn in the wrong side's file is therefore
    # not mirrored within its own crop, and only the other side's label tells it.
    if other_side is not None and np.count_nonzero(other_side) * grid.voxel_mm3 >= _LEAST_REFERENCE_MM3:
        other_dice = aligned_dice(mask, other_side)
        if other_side.shape == mask.shape:
            other_dice = max(other_dice, fit(mask, other_side, grid.spacing_mm).dice)
        if other_dice > own_dice + limits.mirror_gain:
            words = f"it fits the other side's label (Dice {other_dice:.2f}) better than {what} of the {name} side"
            return [Finding("flip", f"{words} ({own_dice:.2f}): was it drawn in the wrong side's file?")]
    if from_template:  # one atlas is no measure of a few millimetres, as a prediction of the same head is
        return _check_distance(mask, reference, grid, limits)
    if placed.distance_mm >= limits.shift_mm and placed.shifted_dice - placed.dice >= limits.shift_gain:
        words = f"it lies {_shift_words(placed.shift_mm, grid)} of the prediction: Dice {placed.dice:.2f},"
        return [Finding("shift", f"{words} and {placed.shifted_dice:.2f} when it is moved back")]
    return []


def _shift_words(back_mm: Sequence[float], grid: Grid) -> str:
    """Where something lies that has to be moved by `back_mm` (R to L, P to A, I to S) to come back."""
    parts = [
        f"{abs(length):.1f} mm {words[length > 0]}"
        for length, words, edge in zip(back_mm, _DIRECTIONS, grid.spacing_mm, strict=True)
        if abs(length) > edge
    ]
    return " and ".join(parts)


def _check_distance(mask: BoolArray, template: BoolArray, grid: Grid, limits: GuardLimits) -> list[Finding]:
    apart_mm = float(np.linalg.norm((centre_of_mass(mask) - centre_of_mass(template)) * grid.spacing_mm))
    if apart_mm <= limits.template_distance_mm:
        return []
    return [Finding("shift", f"its centre is {apart_mm:.0f} mm from where the template has the hippocampus")]


def _check_values(labels: IntArray, table: LabelTable) -> list[Finding]:
    values, counts = np.unique(labels[labels != 0], return_counts=True)
    unknown = {int(v): f"{v} ({n} voxels)" for v, n in zip(values, counts, strict=True) if int(v) not in table.names}
    if not unknown:
        return []
    words = f"the label table does not know {join_words(list(unknown.values()))}"
    return [Finding("values", words, voxel=_first_voxel(labels == next(iter(unknown))))]


def _check_presence(labels: IntArray, table: LabelTable) -> list[Finding]:
    there = set(np.unique(labels[labels > 0]).tolist())
    absent = [name for value, name in table.names.items() if value not in there]
    required = [name for name in absent if name in table.required]
    others = [name for name in absent if name not in table.required]
    findings = []
    if required:
        findings.append(Finding("required", f"there is no {join_words(required)}, which the label table requires"))
    if others:
        findings.append(Finding("missing", f"there is no {join_words(others)}", blocks=False))
    return findings


def _check_border(mask: BoolArray, grid: Grid, side: Side) -> list[Finding]:
    contained = contain_crop_mask(mask, grid, side)
    if contained is None or contained.margin_mm > grid.spacing_mm.min() / 2:
        return []
    words = f"it touches the {contained.border} border of the crop: the hippocampus is cut"
    voxels = np.argwhere(mask)
    to_border = np.minimum(voxels, np.array(mask.shape) - 1 - voxels).min(axis=1)
    return [Finding("border", words, voxel=_as_voxel(voxels[to_border.argmin()]))]


def _first_voxel(mask: BoolArray) -> tuple[int, int, int]:
    return _as_voxel(np.argwhere(mask)[0])


def _as_voxel(indices: IntArray) -> tuple[int, int, int]:
    i, j, k = map(int, indices)
    return i, j, k


def _check_swapped(labels: IntArray, prediction: IntArray, table: LabelTable, limits: GuardLimits) -> list[Finding]:
    """Find the exchange of values that makes the labels fit the prediction best."""
    values = [value for value in table.names if (labels == value).any() and (prediction == value).any()]
    if len(values) < 2:
        return []
    # The Hungarian algorithm finds the exchange with the greatest sum of Dice. What it gains is averaged over the
    # labels that it moves: two exchanged labels among many must not be diluted by those that are right.
    overlaps = _dice_matrix(labels, prediction, values)
    _, partners = optimize.linear_sum_assignment(-overlaps)
    moved = [i for i, partner in enumerate(partners) if i != partner]
    if not moved:
        return []
    gain = float(np.mean([overlaps[i, partners[i]] - overlaps[i, i] for i in moved]))
    if gain < limits.swap_gain:
        return []
    names = [
        f"{table.names[values[i]]} lies where the prediction has {table.names[values[partners[i]]]}" for i in moved
    ]
    return [Finding("swapped", join_words(names))]


def _dice_matrix(labels: IntArray, prediction: IntArray, values: Sequence[int]) -> FloatArray:
    """Dice of every label (rows) with every label of the prediction (columns)."""
    box = bounding_box((labels > 0) | (prediction > 0))
    ours, theirs = ([one[box] == value for value in values] for one in (labels, prediction))
    sizes = [np.array([np.count_nonzero(one) for one in masks]) for masks in (ours, theirs)]
    both = np.array([[np.count_nonzero(one & other) for other in theirs] for one in ours])
    return 2 * both / (sizes[0][:, None] + sizes[1][None, :])


def _check_volumes(
    labels: IntArray,
    mask: BoolArray,
    prediction: IntArray | None,
    predicted: BoolArray | None,
    table: LabelTable,
    approved_volumes_mm3: Mapping[str, Sequence[float]],
    voxel_mm3: float,
    limits: GuardLimits,
) -> list[Finding]:
    ours = _volumes_mm3(labels, mask, table, voxel_mm3)
    words = []
    for name, volumes in approved_volumes_mm3.items():
        if ours.get(name):
            words += far_from_others(name, ours[name], volumes, limits)
    if prediction is not None and predicted is not None:
        theirs = _volumes_mm3(prediction, predicted, table, voxel_mm3)
        for name, volume in theirs.items():
            limit = limits.volume_ratio if name == WHOLE else limits.label_ratio
            if volume >= limits.label_mm3 and ours.get(name):
                words += _far_from_prediction(name, ours[name], volume, limit)
    return [Finding("volume", "; ".join(words))] if words else []


def _volumes_mm3(labels: IntArray, mask: BoolArray, table: LabelTable, voxel_mm3: float) -> dict[str, float]:
    counts = np.bincount(labels[labels > 0].ravel())
    volumes = {
        name: float(counts[value]) * voxel_mm3 if value < len(counts) else 0.0 for value, name in table.names.items()
    }
    return volumes | {WHOLE: float(np.count_nonzero(mask)) * voxel_mm3}


def far_from_others(
    name: str, volume_mm3: float, others_mm3: Sequence[float], limits: GuardLimits, *, of_whom: str = "approved people"
) -> list[str]:
    """Say that a volume, greater than 0, is far from those of the others; nothing where they are too few."""
    # Volumes of people are spread evenly in their logarithms: half and double are equally far. Median and MAD are used
    # as the others may hold faults themselves, and the spread has a floor because a few people can be alike by chance.
    logs = np.log([one for one in others_mm3 if one > 0])
    if len(logs) < limits.volume_people:
        return []
    middle = float(np.median(logs))
    spread = max(1.4826 * float(np.median(np.abs(logs - middle))), limits.volume_spread)
    score = (math.log(volume_mm3) - middle) / spread
    if abs(score) <= limits.volume_z:
        return []
    usual = f"the median of {len(logs)} {of_whom} is {math.exp(middle):,.0f}"
    return [f"{name} measures {volume_mm3:,.0f} mm3, {usual} (robust z {score:+.1f})"]


def _far_from_prediction(name: str, volume_mm3: float, predicted_mm3: float, limit: float) -> list[str]:
    if 1 / limit <= volume_mm3 / predicted_mm3 <= limit:
        return []
    return [f"{name} measures {volume_mm3:,.0f} mm3, {volume_mm3 / predicted_mm3:.2f} times the prediction's"]


def check_pieces(
    mask: BoolArray,
    predicted: BoolArray | None,
    limits: GuardLimits,
    spacing_mm: Sequence[float],
) -> list[Finding]:
    """Find stray pieces and holes that the prediction, if there is one, has not."""
    pieces = [
        piece
        for piece in new_pieces(mask, predicted, spacing_mm)
        if piece.distance_mm > limits.piece_distance_mm or piece.volume_mm3 >= limits.piece_mm3
    ]
    holes = [hole for hole in new_holes(mask, predicted, spacing_mm) if hole.volume_mm3 >= limits.hole_mm3]
    words = [*_pieces_words("stray piece", pieces), *_pieces_words("hole", holes)]
    return [Finding("pieces", "; ".join(words), voxel=(*pieces, *holes)[0].voxel)] if words else []


def _pieces_words(what: str, pieces: Sequence[Piece]) -> list[str]:
    if not pieces:
        return []
    many = f"{len(pieces)} {what}s, the largest" if len(pieces) > 1 else f"a {what}"
    return [f"{many} of {pieces[0].volume_mm3:.2f} mm3 at voxel {', '.join(map(str, pieces[0].voxel))}"]


def join_words(words: Sequence[str]) -> str:
    """``a, b and c``; words must not be empty."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
