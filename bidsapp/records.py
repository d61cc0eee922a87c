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


def side_name(key: SideKey) -> str:
    """``sub-01[_ses-1]_hemi-L``."""
    participant, session, hemi = key
    return f"sub-{participant}" + (f"_ses-{session}" if session else "") + f"_hemi-{hemi}"


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
    """How the label of a pair came about."""

    kind: LabelKind = "imported"
    """``corrected``: a person changed a prediction. ``drawn``: a person drew it without one. ``imported``: it came
    from elsewhere, and the user or the rater vouches for it. ``as_predicted``: a person approved a prediction as it
    was. ``unknown``: of a model that an older version trained."""
    voxels_changed: int | None = None
    """From the prediction to a corrected label, summed over labels; None where nobody counted."""
    model_sha256: str | None = None
    """Digest of the model that predicted; None without a prediction, or where it is not known."""
    share_changed: float | None = None
    """The changed voxels as a part of the union of both labels, 0 to 1; None where nobody counted."""

    @property
    def is_reference(self) -> bool:
        """Whether a model can be scored on it: a prediction says only who resembles the model that drew it."""
        return self.kind in ("corrected", "drawn", "imported")


@dataclass(frozen=True)
class Pair:
    """One training image (all its channels) with its label, in network space."""

    case: str
    """The id that nnU-Net will use, e.g. ``sub-01_hemi-Lflip``."""
    participant: str
    """The person; both hemispheres, all sessions and modalities share it."""
    hemi: Hemi
    """The side of the head that the crop shows, ``n/a`` when the id does not say."""
    images: tuple[Path, ...]
    """One NIfTI file per channel, in channel order."""
    label: Path
    """The NIfTI file of the label map."""
    axes: str = ""
    """What image and label are turned to on import, each by its own header, e.g. ``LAS``: see
    `bidsapp.images.orientation`. Empty: they are taken as they are stored."""
    truthful: bool = True
    """Whether the headers say where the voxels are in the head. False: they were mirrored under the old header."""
    origin: LabelOrigin = LabelOrigin()
    """How the label came about."""
    annotated: frozenset[str] | None = None
    """Names of the labels that the label map annotates, of a checked pair; None: all."""


@dataclass(frozen=True)
class LabelTable:
    """Names of label values; 0 is always the background and is not listed."""

    names: dict[int, str]
    """value -> name, in ascending order of values."""
    required: frozenset[str] = frozenset()
    """Names without which a label map is incomplete."""


@dataclass(frozen=True)
class SplitRow:
    """One person's place, for good."""

    participant_id: str
    """The person, spelled as in `Pair.participant`."""
    split: SplitName
    """Where all images of this person belong."""
    generation: int = 1
    """1 for the people of the first training, 2 for those who came with the first extension, ..."""


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
    """One image of a head, or a ready-made CorObl crop of one."""

    path: Path
    modality: Modality
    uri: str
    """BIDS URI of the file, e.g. ``bids:raw:sub-01/anat/sub-01_T1w.nii.gz``."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What its sidecars say, the inherited ones included; strings may hold anything."""


@dataclass(frozen=True)
class SessionScans:
    """What is there of one person in one session."""

    participant: str
    session: str | None
    """Labels without ``sub-`` and ``ses-``; None where the data set has no sessions."""
    scans: Mapping[Modality, Scan]
    """One whole scan per modality, chosen."""
    crops: Mapping[Side, Mapping[Modality, Scan]] = field(default_factory=dict)
    """Ready-made crops in CorObl space, as in the head, per side and modality; instead of scans."""
    transforms: Mapping[Modality, Path] = field(default_factory=dict)
    """Ready-made ITK files of crops (scan to CorObl), per modality."""
    left_aside: tuple[Path, ...] = ()
    """Other scans of the same modalities that were not chosen."""

    @property
    def name(self) -> str:
        """How files of this session begin: ``sub-01`` or ``sub-01_ses-1``."""
        return f"sub-{self.participant}" + (f"_ses-{self.session}" if self.session else "")


LabelSource = Literal["prediction", "manual", "imported"]


@dataclass(frozen=True)
class LabelDifference:
    """How much two label maps of one crop differ in one label."""

    name: str
    dice: float | None
    """Overlap, 0 to 1; None when neither label map has the label."""
    voxels_changed: int
    """Voxels that have the label in one of both only."""
    voxels_united: int
    """Voxels that have the label in either."""


@dataclass(frozen=True)
class Work:
    """What a person did in the editor until they approved."""

    seconds: float = 0.0
    """With the side open and in use."""
    painted: Mapping[str, int] = field(default_factory=dict)
    """Label name -> voxels that their tools changed, each time counted; erased ones under ``background``."""

    def __add__(self, more: Work) -> Work:
        names = dict.fromkeys([*self.painted, *more.painted])
        painted = {name: self.painted.get(name, 0) + more.painted.get(name, 0) for name in names}
        return Work(self.seconds + more.seconds, painted)


@dataclass(frozen=True, kw_only=True)
class Approval:
    """A person approved the label map of one side: a line of the ledger, and what the rooms above are given.

    The approved label map is `OutputLayout.approved_label`, on the grid of the crop, as in the head.
    """

    when: str
    """ISO 8601."""
    rater: str
    participant: str
    session: str | None
    """Labels without ``sub-`` and ``ses-``."""
    hemi: Side
    source: LabelSource
    """What the person approved: the network's prediction as it is, their correction, or another tool's label map."""
    source_sha256: str = ""
    """Of the bytes of the file that was approved."""
    label_sha256: str
    """Of voxels and affine of the label map (`bidsapp.content.image_sha256`)."""
    file_sha256: str = ""
    """Of the bytes of the approved file that we wrote."""
    crop_sha256: Mapping[Modality, str]
    """Of voxels and affine of each crop that it was drawn on."""
    crop_file_sha256: Mapping[Modality, str] = field(default_factory=dict)
    """Of the bytes of each crop."""
    transform_sha256: Mapping[Modality, str | None]
    """Of the bytes of each modality's transform; None for crops without one."""
    labels: Mapping[int, str]
    """value -> name."""
    accepted: tuple[str, ...] = ()
    """Guards that the person overruled."""
    comment: str = ""
    model: str | None = None
    """Name of the model whose prediction was shown, if any."""
    model_sha256: str | None = None
    """Digest of that model."""
    effort: tuple[LabelDifference, ...] = ()
    """From the prediction that was shown to the approved label; empty without a prediction."""
    version: str = ""
    """Of HippoTune."""
    decision: str = ""
    """Fingerprint of the row of the review table that said so."""
    work: Work | None = None
    """What the person did in the editor; None where they did not use it."""

    @property
    def key(self) -> SideKey:
        """The side that it is about."""
        return self.participant, self.session, self.hemi

    @property
    def voxels_changed(self) -> int | None:
        """From the prediction to the approved label, summed over labels; None where nobody counted."""
        return sum(one.voxels_changed for one in self.effort) if self.effort else None

    @property
    def share_changed(self) -> float | None:
        """The same as a part of the union of both, 0 to 1; None where nobody counted, or no label has a voxel."""
        united = sum(one.voxels_united for one in self.effort)
        return (self.voxels_changed or 0) / united if united else None

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
        return side_name(self.key)


@dataclass(frozen=True)
class LabelTrust:
    """Who answers for the labels of a training: numbers, never names."""

    by: Literal["user", "review"] = "user"
    """``user``: they gave a folder of pairs. ``review``: each label was approved through review."""
    approvals: int = 0
    raters: int = 0
    """How many approved labels, by how many people; 0 for ``user``."""

    def __str__(self) -> str:
        if self.by == "user":
            return "labels vouched for by the user"
        raters = f"{self.raters} rater" + ("s" if self.raters != 1 else "")
        return f"labels approved through review ({self.approvals} by {raters})"
