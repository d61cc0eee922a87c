"""Guards on folders of training pairs: what `bidsapp.guards.label_guards` asks of a returned label, asked of each pair.

There is no prediction to compare with, so a pair is held against the others of its folder and the template
(`bidsapp.guards.likeness`). What most pairs of a folder have is the folder's way and not a fault: it is said once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bidsapp.arrays import BoolArray, FloatArray, IntArray
from bidsapp.guards.label_guards import (
    DEFAULT_LIMITS,
    WHOLE,
    Finding,
    GuardLimits,
    check_pieces,
    far_from_others,
    hippocampus_of,
    join_words,
)
from bidsapp.guards.likeness import (
    LEAST_PAIRS,
    ORIENTATIONS,
    Comparison,
    Likeness,
    Orientation,
    Sample,
    compare,
    orientation_words,
    take_sample,
)
from bidsapp.labels.tables import hippocampal_values
from bidsapp.records import LabelTable

AS_IT_LIES = ORIENTATIONS[0]
FLIP_GAIN, FLIP_GAIN_AGAINST_IMAGE = 0.04, 0.1
"""Cosine by which another orientation must fit better; the second where the image lies under its label as others do.

Turned hippocampi, and labels turned on their images, leave an image that does not; unusual ones that nobody turned have
one that does, and gain up to .07.
"""

FLIP_GAIN_TEMPLATE = 0.06
"""The same where only the template speaks: 1 in 100 good pairs comes so far, and no image can be asked."""

TURNED_GAIN = 0.06
"""The same for the median of a folder against the template."""

SHIFT_MM = 2.8
SHIFT_GAIN = 0.13
"""Moves of an image under its label that count: how far, and what they gain in correlation."""

MANY_PAIRS = 8
SHIFT_GAIN_FEW = 0.25
"""The same among fewer pairs: the mean of four other images is a poor guide."""

SWAP_GAIN = 0.2

BORDER_MM2 = 30.0
"""Labels that only graze the border of their image are no fault; a cut hippocampus shows more."""

CRUMB_VOXELS = 12
"""Smaller pieces and holes are slips of a brush, whatever the size of the voxels."""

COMMON = 0.75
"""What this share of the pairs has is expected of all."""

USUAL = 0.15
"""A guard that speaks of more pairs than this speaks of how the folder was made, and refuses nobody."""

EXPECTED_SHARE = 0.1
"""Part of the whole that a label measures in the median from which on its absence is a fault and no anatomy."""

_OF_THE_FOLDER = frozenset({"volume", "pieces", "border"})
_BORDERS = (("lateral", "medial"), ("posterior", "anterior"), ("inferior", "superior"))


@dataclass(frozen=True, eq=False)
class PairFacts:
    """What is kept of a pair once its voxels are put away."""

    sample: Sample | None
    """None for a speck."""
    volumes_mm3: Mapping[int, float]
    """Value -> volume of its voxels, in the voxels of the pair; 0 -> that of the whole hippocampus."""
    alone: tuple[Finding, ...]
    """What can be said without the others."""


@dataclass(frozen=True)
class FolderFindings:
    """What is said of a folder."""

    pairs: Mapping[str, tuple[Finding, ...]]
    """Case -> findings, of the pairs that have any."""
    notes: tuple[str, ...]
    """What concerns the folder and refuses nobody, in sentences."""
    usual: Orientation | None
    """How most labels have to be turned to lie as the template's, `AS_IT_LIES`: they do; None: nobody can say."""
    turned: str = ""
    """The same in words, where they do not."""


def look_at_pair(
    labels: IntArray,
    image: FloatArray,
    spacing_mm: Sequence[float],
    table: LabelTable | None,
    limits: GuardLimits = DEFAULT_LIMITS,
) -> PairFacts:
    """Look at one pair alone.

    Parameters
    ----------
    labels, image
        (i, j, k), axes of network space: 0 from lateral to medial, 1 to the front, 2 up.
    table
        Names of the values; None: nobody says which of them are hippocampus.
    """
    voxel_mm3 = float(np.prod(spacing_mm))
    mask = hippocampus_of(labels, table) if table else labels > 0
    counts = np.bincount(labels.ravel())
    volumes = {int(value): float(counts[value]) * voxel_mm3 for value in np.flatnonzero(counts) if value}
    coarser = {  # the limits are those of voxels of 0.3 mm
        "piece_distance_mm": max(limits.piece_distance_mm, 2 * min(spacing_mm)),
        "piece_mm3": max(limits.piece_mm3, CRUMB_VOXELS * voxel_mm3),
        "hole_mm3": max(limits.hole_mm3, CRUMB_VOXELS * voxel_mm3),
    }
    coarse = limits.model_copy(update=coarser)
    alone = [*check_pieces(labels > 0, None, coarse, spacing_mm), *_check_border(mask, spacing_mm)]
    return PairFacts(
        take_sample(np.where(mask, labels, 0), image, spacing_mm),
        volumes | {0: float(np.count_nonzero(mask)) * voxel_mm3},
        tuple(alone),
    )


def judge_pairs(
    facts: Mapping[str, PairFacts],
    table: LabelTable,
    annotated: Mapping[str, frozenset[str]],
    limits: GuardLimits = DEFAULT_LIMITS,
) -> FolderFindings:
    """Hold the pairs of one folder against each other.

    Parameters
    ----------
    annotated
        Case -> names of the labels that were drawn in it, of the cases where it is not all of them.
    """
    found: dict[str, list[Finding]] = {case: list(fact.alone) for case, fact in facts.items()}
    notes: list[str] = []
    usual, turned = None, ""
    kinds = _kinds(facts, annotated, table)
    if apart := len(facts) - sum(map(len, kinds)):
        notes.append(f"{apart} pairs annotate other labels than most, and are too few to compare with each other")
    for number, cases in enumerate(kinds):
        compared = compare([facts[case].sample for case in cases])
        if not number:
            usual, turned = compared.usual, _turned_words(compared, len(cases))
        if not compared.consensus:
            what = "the template" if compared.usual is not None else "nothing"
            notes.append(f"{len(cases)} pairs are too few to compare with each other: compared with {what} alone")
        for case, one in zip(cases, compared.pairs, strict=True):
            if one is not None:
                found[case] += _of_likeness(one, compared, table)
    _check_names(facts, annotated, table, found, notes)
    _check_volumes(facts, annotated, table, found, limits)
    _leave_the_usual(found, len(facts), notes)
    return FolderFindings({case: tuple(said) for case, said in found.items() if said}, tuple(notes), usual, turned)


def _turned_words(compared: Comparison, count: int) -> str:
    """What is said of a folder most of whose labels lie otherwise than the template's."""
    if compared.usual in (None, AS_IT_LIES) or compared.template_usual < compared.template_own + TURNED_GAIN:
        return ""
    others = sum(one is not None and one.orientation != AS_IT_LIES for one in compared.pairs)
    how = orientation_words(compared.usual or AS_IT_LIES)
    return (
        f"{count - others} of {count} labels fit the template's hippocampus better with {how}: "
        f"{compared.template_usual:.2f} instead of {compared.template_own:.2f} in the median"
    )


def _kinds(
    facts: Mapping[str, PairFacts], annotated: Mapping[str, frozenset[str]], table: LabelTable
) -> list[list[str]]:
    """Cases that can be compared with each other, the largest group first: those that annotate all, then the others.

    A group too small for a consensus is in none of them: a part of a hippocampus is held against no whole one.
    """
    everything = frozenset(table.names.values())
    groups: dict[frozenset[str], list[str]] = {}
    for case in facts:
        groups.setdefault(annotated.get(case, everything), []).append(case)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [group for group in ordered if len(group) >= LEAST_PAIRS] or ordered[:1]


def _of_likeness(one: Likeness, compared: Comparison, table: LabelTable) -> list[Finding]:
    with_what = "the other labels of the folder" if compared.consensus else "the template's hippocampus"
    least = FLIP_GAIN_AGAINST_IMAGE if one.image_fits else FLIP_GAIN
    least = least if compared.consensus else FLIP_GAIN_TEMPLATE
    if one.orientation != AS_IT_LIES and one.best > one.own + least:
        words = f"with {orientation_words(one.orientation)} its label fits {with_what} better: "
        words += f"{one.best:.2f} instead of {one.own:.2f}"
        if one.image_orientation is not None:
            both = one.image_orientation != AS_IT_LIES
            words += "; its image does as well" if both else "; its image lies as the others do"
        return [Finding("flip", words)]
    if one.image_orientation not in (None, AS_IT_LIES):
        words = "its label lies as the others do, and its image does so only with {}: was one of them flipped alone?"
        return [Finding("flip", words.format(orientation_words(one.image_orientation or AS_IT_LIES)))]
    findings = []
    least = SHIFT_GAIN if len(compared.pairs) >= MANY_PAIRS else SHIFT_GAIN_FEW
    if one.shift_mm >= SHIFT_MM and one.shift_gain >= least:
        words = f"its label lies about {one.shift_mm:.0f} mm from where the others lie in their images"
        findings.append(Finding("shift", words))
    if one.swapped and one.swap_gain >= SWAP_GAIN:
        names = [
            f"{_name(table, ours)} lies where the others have {_name(table, theirs)}" for ours, theirs in one.swapped
        ]
        findings.append(Finding("swapped", join_words(names)))
    return findings


def _name(table: LabelTable, value: int) -> str:
    return table.names.get(value, str(value))


def _check_names(
    facts: Mapping[str, PairFacts],
    annotated: Mapping[str, frozenset[str]],
    table: LabelTable,
    found: dict[str, list[Finding]],
    notes: list[str],
) -> None:
    """Miss labels that nearly all pairs have: merged with another one, or forgotten."""
    hippocampal = hippocampal_values(table.names)
    for value, name in table.names.items():
        asked = [case for case in facts if name in annotated.get(case, frozenset({name}))]
        having = [facts[case].volumes_mm3 for case in asked if value in facts[case].volumes_mm3]
        lacking = sorted(case for case in asked if value not in facts[case].volumes_mm3)
        if not having or not lacking or len(asked) < LEAST_PAIRS:
            continue
        share = float(np.median([volumes[value] / max(volumes[0], 1e-6) for volumes in having]))
        if share < EXPECTED_SHARE or value not in hippocampal:
            continue
        if len(having) < COMMON * len(asked):
            notes.append(
                f"{len(lacking)} of {len(asked)} pairs have no {name}: if it was not drawn in them, "
                "say so in annotated.tsv, else they teach that it is not there"
            )
            continue
        for case in lacking:
            words = f"has no {name}, which {len(having)} of {len(asked)} pairs have: was it merged with another label?"
            found[case].append(Finding("required", words))


def _check_volumes(
    facts: Mapping[str, PairFacts],
    annotated: Mapping[str, frozenset[str]],
    table: LabelTable,
    found: dict[str, list[Finding]],
    limits: GuardLimits,
) -> None:
    """Compare each volume with those of all other pairs, that of the whole where all of it was drawn."""
    everything = frozenset(table.names.values())
    names = {0: WHOLE, **table.names}
    volumes: dict[int, dict[str, float]] = {}
    for case, fact in facts.items():
        for value, volume in fact.volumes_mm3.items():
            if value or annotated.get(case, everything) == everything:
                volumes.setdefault(value, {})[case] = volume
    for value, of_cases in volumes.items():
        if len(of_cases) < MANY_PAIRS or float(np.median(list(of_cases.values()))) < limits.label_mm3:
            continue
        for case, volume in of_cases.items():
            others = [one for other, one in of_cases.items() if other != case]
            if volume > 0 and (words := far_from_others(names[value], volume, others, limits, of_whom="other pairs")):
                found[case].append(Finding("volume", "; ".join(words)))


def _leave_the_usual(found: dict[str, list[Finding]], count: int, notes: list[str]) -> None:
    """A guard that speaks of many pairs tells how the folder was made."""
    for guard in sorted(_OF_THE_FOLDER):
        cases = [case for case, said in found.items() if any(one.guard == guard for one in said)]
        if len(cases) <= max(USUAL * count, 1):
            continue
        first = next(one for one in found[cases[0]] if one.guard == guard)
        notes.append(
            f"{len(cases)} of {count} pairs, which is taken for how they were made: {first.problem} ({cases[0]})"
        )
        for case in cases:
            found[case] = [one for one in found[case] if one.guard != guard]


def _check_border(mask: BoolArray, spacing_mm: Sequence[float]) -> list[Finding]:
    touched = [
        _BORDERS[axis][end]
        for axis in range(3)
        for end, layer in enumerate((0, -1))
        if np.count_nonzero(mask.take(layer, axis=axis)) * _face_mm2(spacing_mm, axis) >= BORDER_MM2
    ]
    if not touched:
        return []
    return [
        Finding("border", f"its label ends at the {join_words(touched)} border of the image: the hippocampus is cut")
    ]


def _face_mm2(spacing_mm: Sequence[float], axis: int) -> float:
    """Area of a voxel's face across an axis."""
    return float(np.prod([step for other, step in enumerate(spacing_mm) if other != axis]))
