"""The frozen records that rooms hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Side = Literal["L", "R"]
SIDES: tuple[Side, Side] = ("L", "R")
SIDE_WORDS: Mapping[str, Side] = {"l": "L", "left": "L", "hemi-l": "L", "r": "R", "right": "R", "hemi-r": "R"}
"""What people write of a side in a table, in lower case."""

SideKey = tuple[str, str | None, Side]
"""Participant and session (labels without ``sub-`` and ``ses-``), and side."""

SPACING_LIMITS_MM = (0.05, 10.0)
"""Least and greatest distance of neighbouring voxels in anything that we read, train on or export."""

Hemi = Literal["L", "R", "n/a"]
Modality = Literal["T1w", "T2w"]
MODALITIES: tuple[Modality, ...] = ("T1w", "T2w")
LeftIs = Literal["flipped", "as-in-head"]
SplitName = Literal["train", "validation", "test"]
LabelKind = Literal["corrected", "drawn", "imported", "as_predicted", "unknown"]


@dataclass(frozen=True)
class LabelOrigin:
    """How the label of a pair came about.

    Attributes
    ----------
    kind
        ``corrected``: a person changed a prediction. ``drawn``: a person drew it without one. ``imported``: it came
        from elsewhere, and the user or the rater vouches for it. ``as_predicted``: a person approved a prediction as
        it was. ``unknown``: of a model that an older version trained.
    voxels_changed
        From the prediction to a corrected label, summed over labels; None where nobody counted.
    model_sha256
        Digest of the model that predicted; None without a prediction, or where it is not known.
    share_changed
        The changed voxels as a part of the union of both labels, 0 to 1; None where nobody counted.
    """

    kind: LabelKind = "imported"
    voxels_changed: int | None = None
    model_sha256: str | None = None
    share_changed: float | None = None

    @property
    def is_reference(self) -> bool:
        """Whether a model can be scored on it: a prediction says only who resembles the model that drew it."""
        return self.kind in ("corrected", "drawn", "imported")


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
    axes
        What image and label are turned to on import, each by its own header, e.g. ``LAS``: see
        `bidsapp.images.orientation`. Empty: they are taken as they are stored.
    truthful
        Whether the headers say where the voxels are in the head. False: they were mirrored under the old header.
    origin
        How the label came about.
    """

    case: str
    participant: str
    hemi: Hemi
    images: tuple[Path, ...]
    label: Path
    axes: str = ""
    truthful: bool = True
    origin: LabelOrigin = LabelOrigin()


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
class SplitRow:
    """One person's place, for good.

    Attributes
    ----------
    participant_id
        The person, spelled as in `Pair.participant`.
    split
        Where all images of this person belong.
    generation
        1 for the people of the first training, 2 for those who came with the first extension, ...
    """

    participant_id: str
    split: SplitName
    generation: int = 1


@dataclass(frozen=True)
class Split:
    """Which person is in which part; rows are added and never moved, so it may name people without pairs."""

    rows: tuple[SplitRow, ...] = ()

    @property
    def people(self) -> frozenset[str]:
        """Everybody who has a place."""
        return frozenset(row.participant_id for row in self.rows)

    def people_in(self, name: SplitName) -> frozenset[str]:
        """Everybody in one part, those who have no pair now included."""
        return frozenset(row.participant_id for row in self.rows if row.split == name)


@dataclass(frozen=True)
class CaseScore:
    """How well one label of one case was predicted; NaN where a measure is undefined.

    `label_from` is the kind of label that it was compared with (`LabelOrigin.kind`).
    """

    participant_id: str
    case: str
    hemi: Hemi
    label: str
    dice: float
    hd95_mm: float
    assd_mm: float
    volume_error_mm3: float
    volume_error_percent: float
    label_from: LabelKind = field(default="imported", kw_only=True)


@dataclass(frozen=True)
class Scan:
    """One image of a head, or a ready-made CorObl crop of one.

    Attributes
    ----------
    uri
        BIDS URI of the file, e.g. ``bids:raw:sub-01/anat/sub-01_T1w.nii.gz``.
    metadata
        What its sidecars say, the inherited ones included; strings may hold anything.
    """

    path: Path
    modality: Modality
    uri: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionScans:
    """What is there of one person in one session.

    Attributes
    ----------
    participant, session
        Labels without ``sub-`` and ``ses-``; None where the data set has no sessions.
    scans
        One whole scan per modality, chosen.
    crops
        Ready-made crops in CorObl space, as in the head, per side and modality; instead of scans.
    transforms
        Ready-made ITK files of crops (scan to CorObl), per modality.
    left_aside
        Other scans of the same modalities that were not chosen.
    """

    participant: str
    session: str | None
    scans: Mapping[Modality, Scan]
    crops: Mapping[Side, Mapping[Modality, Scan]] = field(default_factory=dict)
    transforms: Mapping[Modality, Path] = field(default_factory=dict)
    left_aside: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """How files of this session begin: ``sub-01`` or ``sub-01_ses-1``."""
        return f"sub-{self.participant}" + (f"_ses-{self.session}" if self.session else "")


LabelSource = Literal["prediction", "manual", "imported"]


@dataclass(frozen=True)
class Approval:
    """One side that a person approved.

    Attributes
    ----------
    participant, session
        Labels without ``sub-`` and ``ses-``.
    date
        When it was recorded, ISO 8601.
    label
        The approved label map, on the grid of the crop, as in the head.
    crops
        The crop of each modality that it was drawn on.
    labels
        value -> name.
    label_sha256
        Of voxels and affine (`bidsapp.content.image_sha256`).
    crop_sha256
        The same of each crop.
    transform_sha256
        Of the bytes of each modality's transform; None for crops without one.
    source
        What the person approved: the network's prediction as it is, their correction, or another tool's label map.
    model
        Name of the model whose prediction was shown, if any.
    decision
        Fingerprint of the row of the review table that said so.
    source_sha256
        Of the bytes of the file that was approved.
    model_sha256
        Digest of the model whose prediction was shown, if any.
    voxels_changed
        From that prediction to the approved label, summed over labels.
    share_changed
        The same as a part of the union of both, 0 to 1.
    """

    participant: str
    session: str | None
    hemi: Side
    rater: str
    date: str
    label: Path
    crops: Mapping[Modality, Path]
    labels: Mapping[int, str]
    label_sha256: str
    crop_sha256: Mapping[Modality, str]
    transform_sha256: Mapping[Modality, str | None]
    source: LabelSource
    model: str | None = None
    comment: str = ""
    decision: str = ""
    source_sha256: str = ""
    model_sha256: str | None = None
    voxels_changed: int | None = None
    share_changed: float | None = None

    @property
    def key(self) -> SideKey:
        """The side."""
        return self.participant, self.session, self.hemi

    @property
    def origin(self) -> LabelOrigin:
        """How the label came about; a correction that changed nothing is the prediction."""
        if self.source == "imported":
            return LabelOrigin("imported")
        if self.source == "prediction" or self.voxels_changed == 0:
            return LabelOrigin("as_predicted", model_sha256=self.model_sha256)
        if self.model is None and self.model_sha256 is None:
            return LabelOrigin("drawn")
        return LabelOrigin("corrected", self.voxels_changed, self.model_sha256, self.share_changed)

    @property
    def name(self) -> str:
        """``sub-01[_ses-1]_hemi-L``."""
        session = f"_ses-{self.session}" if self.session else ""
        return f"sub-{self.participant}{session}_hemi-{self.hemi}"


@dataclass(frozen=True)
class Vouched:
    """Who answers for the labels of a training: numbers, never names.

    Attributes
    ----------
    by
        ``user``: they gave a folder of pairs. ``review``: each label was approved through review.
    approvals, raters
        How many approved labels, by how many people; 0 for ``user``.
    """

    by: Literal["user", "review"] = "user"
    approvals: int = 0
    raters: int = 0

    def __str__(self) -> str:
        if self.by == "user":
            return "labels vouched for by the user"
        raters = f"{self.raters} rater" + ("s" if self.raters != 1 else "")
        return f"labels approved through review ({self.approvals} by {raters})"
