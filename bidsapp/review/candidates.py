"""Which label map a side has: a person's correction, else another tool's, else the network's prediction."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bidsapp.corobl.grid import GRIDS, without_noise
from bidsapp.errors import BadDataError
from bidsapp.images.grids import Grid
from bidsapp.images.orientation import turned_grid
from bidsapp.labels.tables import read_label_table
from bidsapp.layout import OutputLayout, SessionLayout, label_names
from bidsapp.records import MODALITIES, SIDES, LabelSource, LabelTable, Modality, Side, SideKey
from bidsapp.review.protection import as_saved, unread_labels
from bidsapp.review.snapshots import ImageSnapshots

SOURCE_WORDS: Mapping[LabelSource, str] = {
    "prediction": "prediction",
    "manual": "correction",
    "imported": "another tool's label map",
}


@dataclass(frozen=True)
class Candidate:
    """The label map that a decision about a side is about."""

    source: LabelSource
    path: Path


@dataclass(frozen=True)
class SideFacts:
    """What OUTPUT_DIR says of a side."""

    files: SessionLayout
    participant: str
    session: str | None
    hemi: Side
    crops: Mapping[Modality, Mapping[str, Any]]
    """Facts of the crop of each modality; see `read_facts`."""
    prediction: Mapping[str, Any] | None
    """Facts of the network's label map; None where there is none, or where it belongs to another crop."""
    images: ImageSnapshots = field(default_factory=ImageSnapshots, compare=False, repr=False)
    """What was read of the side's images, and what will be."""

    @property
    def key(self) -> SideKey:
        """The side."""
        return self.participant, self.session, self.hemi

    @property
    def grids(self) -> CropGrids:
        """Of the crops of both sides."""
        return CropGrids(self.files, self.images)

    @property
    def grid(self) -> Grid:
        """Of its crops, which all modalities share."""
        return self.grids[self.hemi]

    @property
    def crop_sha256(self) -> dict[Modality, str]:
        """Of voxels and affine of each crop."""
        return {modality: facts["crop_sha256"] for modality, facts in self.crops.items()}

    @property
    def volume_factor(self) -> float:
        """See `volume_factor`."""
        return volume_factor(next(iter(self.crops.values())))


def volume_factor(crop: Mapping[str, Any]) -> float:
    """Volume in the head over volume in CorObl, from the facts of a crop; 1 where the transform is not known."""
    return abs(crop["registration"].get("determinant") or 1.0)


class CropGrids(Mapping[Side, Grid]):
    """The grids of a session's crops, from their headers, as in the head; of a side without a crop, that of a new one.

    A crop is opened when its grid is first asked for: few decisions need the other side's.
    """

    def __init__(self, files: SessionLayout, images: ImageSnapshots) -> None:
        self._files, self._images = files, images

    def __getitem__(self, side: Side) -> Grid:
        crops = (self._files.crop(side, modality) for modality in MODALITIES)
        path = next((crop for crop in crops if crop.exists()), None)
        return GRIDS[side] if path is None else turned_grid(without_noise(self._images[path].grid), "LAS")

    def __iter__(self) -> Iterator[Side]:
        return iter(SIDES)

    def __len__(self) -> int:
        return len(SIDES)


def read_side(
    layout: OutputLayout,
    participant: str,
    session: str | None,
    hemi: Side,
    images: ImageSnapshots | None = None,
) -> SideFacts:
    """Read the sidecars of a side.

    Parameters
    ----------
    images
        What this run has read before; None: nothing.

    Raises
    ------
    BadDataError
        When no crop of it is there and whole.
    """
    files, images = layout.session(participant, session), images or ImageSnapshots()
    crops = {modality: facts for modality in MODALITIES if (facts := images.facts(files.crop(hemi, modality)))}
    if not crops:
        raise BadDataError(
            f"{files.crop(hemi, 'T1w')} is missing, or does not belong to its sidecar",
            "Restore it, or run participant again.",
        )
    prediction = images.facts(files.prediction(hemi))
    if prediction and any(
        modality not in crops or crops[modality]["crop_sha256"] != digest
        for modality, digest in prediction["crop_sha256"].items()
    ):
        prediction = None
    return SideFacts(layout.session(participant, session), participant, session, hemi, crops, prediction, images)


def find_candidate(layout: OutputLayout, side: SideFacts) -> Candidate | None:
    """The label map of a side; None where nobody drew one and none was predicted.

    Raises
    ------
    BadDataError
        When it cannot be told which file is meant: two corrections, or one under a name that nobody looks for.
    """
    imported = layout.imported_label(*side.key)
    _refuse_strangers(layout, side)
    manual = [path for path in as_saved(layout.manual_label(*side.key)) if os.path.lexists(path)]
    if len(manual) > 1:
        raise BadDataError(f"{manual[0].name} and {manual[1].name} are both there", "Keep the one that counts.")
    if manual:
        return Candidate("manual", manual[0])
    if imported.exists():
        return Candidate("imported", imported)
    if side.prediction:
        return Candidate("prediction", layout.session(side.participant, side.session).prediction(side.hemi))
    return None


def _refuse_strangers(layout: OutputLayout, side: SideFacts) -> None:
    """A correction under another name would be passed over, and the prediction approved in its place."""
    for path in unread_labels(layout, *side.key):
        wanted = layout.manual_label(*side.key).relative_to(layout.root)
        raise BadDataError(
            f"{path.relative_to(layout.root)} looks like a label map of this side, and nobody looks for it there or "
            "under that name",
            f"A correction is {wanted}: save it as that, in NIfTI (.nii.gz or .nii), or move it away.",
        )


def label_table_of(layout: OutputLayout, side: SideFacts, candidate: Candidate) -> LabelTable | None:
    """Names of the values of a label map: its own tool's or model's, else people's own table; None: nobody says.

    A correction may have a table beside it: that of the other tool's label map that it began from.
    """
    if candidate.source == "imported":
        names = (side.images.facts(candidate.path) or {}).get("labels")
        return LabelTable({int(value): name for value, name in names.items()}) if names else None
    beside = label_names(candidate.path)
    if candidate.source == "manual" and beside.exists():
        return read_label_table(beside)
    if layout.label_names.exists() and candidate.source != "prediction":
        return read_label_table(layout.label_names)
    if side.prediction:
        return LabelTable({int(value): name for value, name in side.prediction["labels"].items()})
    return None
