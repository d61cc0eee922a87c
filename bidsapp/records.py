"""The frozen records that rooms hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Hemi = Literal["L", "R", "n/a"]
LeftIs = Literal["flipped", "as-in-head"]
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Pair:
    """One training image (all its channels) with its label, in network space.

    Attributes
    ----------
    case
        The id that nnU-Net will use, e.g. ``sub-01_hemi-Lflip``.
    participant
        The person; both hemispheres, all sessions and modalities share it.
    hemi
        The side of the head that the crop shows, ``n/a`` when the id does not say.
    images
        One NIfTI file per channel, in channel order.
    label
        The NIfTI file of the label map.
    flip
        True when the files are as in the head and axis 0 must be reversed on import.
    """

    case: str
    participant: str
    hemi: Hemi
    images: tuple[Path, ...]
    label: Path
    flip: bool = False


@dataclass(frozen=True)
class LabelTable:
    """Names of label values; 0 is always the background and is not listed.

    Attributes
    ----------
    names
        value -> name, in ascending order of values.
    required
        Names without which a label map is incomplete.
    """

    names: dict[int, str]
    required: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CaseScore:
    """How well one label of one case was predicted; NaN where a measure is undefined."""

    participant_id: str
    case: str
    hemi: Hemi
    label: str
    dice: float
    hd95_mm: float
    assd_mm: float
    volume_error_mm3: float
    volume_error_percent: float
