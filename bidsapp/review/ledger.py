"""Approvals: what a person approved, and whether the files are still those that they saw."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bidsapp.content import file_sha256
from bidsapp.errors import BadDataError, NoInputError
from bidsapp.layout import OutputLayout, SessionLayout
from bidsapp.lock import folder_lock
from bidsapp.records import Approval, Modality, Side, SideKey, side_name
from bidsapp.review.events import Ledger, LedgerEvent
from bidsapp.review.snapshots import ImageSnapshots

PATIENCE_SECONDS = 600.0
"""A review of some hundred sides, or writing their pairs, takes minutes."""


@dataclass(frozen=True)
class Approvals:
    """Approved sides of a data set."""

    valid: tuple[Approval, ...]
    """Label, crop and transform are what the ledger says; in order of name."""
    refused: dict[str, str]
    """``sub-01[_ses-1]_hemi-L`` -> why an approved label can no longer be used."""


def labels_lock(layout: OutputLayout, *, patience_seconds: float = PATIENCE_SECONDS) -> AbstractContextManager[None]:
    """Held by who records decisions, and by who reads what was approved: nobody meets half of a decision.

    Hold it for one decision, or one run over the table, not while a person looks. Raises `CannotWriteError` when
    somebody else does for longer than `patience_seconds`.
    """
    return folder_lock(layout.review_lock, patience_seconds=patience_seconds)


def find_approvals(
    layout: OutputLayout, ledger: Ledger | None = None, images: ImageSnapshots | None = None
) -> Approvals:
    """Find approved labels and crops with pybids, and check each against the ledger.

    A label is refused when the ledger does not know it or says that it was withdrawn, when its voxels or affine, those
    of a crop, or the bytes of a transform are no longer what was approved, and when one of them is missing.

    Parameters
    ----------
    ledger, images
        What this run has read before; None: nothing.

    Raises
    ------
    BadDataError
        When the ledger is damaged, or pybids cannot index the data set.
    """
    events, images = (ledger or Ledger(layout.ledger)).last, images or ImageSnapshots()
    labels, misnamed = _find_labels(layout)
    crops = _find_crops(layout) if events else frozenset()
    valid: list[Approval] = []
    refused = {path.name.partition("_space-")[0]: f"{path} has a name that review never gives" for path in misnamed}
    for key in sorted({*events, *labels}, key=side_name):
        event = events.get(key)
        reason = _why_refused(layout, event, key, labels, crops, images)
        images.drop_voxels()
        if reason is None and isinstance(event, Approval):
            valid.append(event)
        elif reason is not None:
            refused[side_name(key)] = reason
    return Approvals(tuple(valid), refused)


def why_refused(layout: OutputLayout, event: Approval, images: ImageSnapshots) -> str | None:
    """Say of one approval what `find_approvals` says of all: why its label can no longer be used; None when it can."""
    session = layout.session(event.participant, event.session)
    crops = {session.crop(event.hemi, modality) for modality in event.crop_sha256}
    labels = {event.key} if layout.approved_label(*event.key).is_file() else set()
    there = {crop.absolute() for crop in crops if crop.is_file()}
    return _why_refused(layout, event, event.key, labels, there, images)


def _find_labels(layout: OutputLayout) -> tuple[frozenset[SideKey], list[Path]]:
    """Sides that have an approved label, and files that claim to be one under another name."""
    from bidsapp.bids.index import index_label_maps

    if not layout.labels.is_dir():
        return frozenset(), []
    keys, misnamed = set(), []
    for file in index_label_maps(layout.labels):
        if file.entities.get("desc") != "approved":
            continue
        key = _key(file.participant, file.session, file.entities.get("hemi"))
        if key and layout.approved_label(*key).absolute() == file.path:
            keys.add(key)
        else:
            misnamed.append(file.path)
    return frozenset(keys), misnamed


def _find_crops(layout: OutputLayout) -> frozenset[Path]:
    from bidsapp.bids.index import index_anatomy

    return frozenset(
        file.path
        for file in index_anatomy(layout.root)
        if file.entities.get("desc") == "preproc" and file.entities.get("space") == "corobl"
    )


def _key(participant: str, session: str | None, hemi: object) -> SideKey | None:
    sides: Mapping[object, Side] = {"L": "L", "R": "R"}
    return (participant, session, sides[hemi]) if hemi in sides else None


def _why_refused(
    layout: OutputLayout,
    event: LedgerEvent | None,
    key: SideKey,
    labels: Collection[SideKey],
    crops: Collection[Path],
    images: ImageSnapshots,
) -> str | None:
    """Say in words why a side cannot be used; None when it can."""
    path = layout.approved_label(*key)
    if event is None:
        return f"{path} was not approved through review: {layout.ledger.name} does not know it"
    if not isinstance(event, Approval):
        why = f": {event.reason}" if event.reason else ""
        return f"{path}: the approval was withdrawn by {event.rater or 'somebody'} on {event.when}{why}"
    if key not in labels:
        return f"{path}, approved by {event.rater} on {event.when}, is missing"
    try:
        if not images[path].holds(bytes_sha256=event.file_sha256, voxels_sha256=event.label_sha256):
            return f"{path} was changed after {event.rater} approved it on {event.when}"
        return next(_changes_below(layout, event, crops, images), None)
    except (BadDataError, NoInputError) as error:
        return error.message


def _changes_below(
    layout: OutputLayout, event: Approval, crops: Collection[Path], images: ImageSnapshots
) -> Iterator[str]:
    session = layout.session(event.participant, event.session)
    for modality, digest in event.crop_sha256.items():
        path = session.crop(event.hemi, modality)
        if path.absolute() not in crops:
            yield f"the crop {path} that it was drawn on is missing"
        elif not images[path].holds(bytes_sha256=event.crop_file_sha256.get(modality, ""), voxels_sha256=digest):
            yield f"the crop {path} is not the one that it was drawn on"
        elif transform_sha256(session, modality) != event.transform_sha256.get(modality):
            yield f"the transform {session.transform(modality)} is not the one that its crop was made with"


def transform_sha256(session: SessionLayout, modality: Modality) -> str | None:
    """Fingerprint of the bytes of a transform; None when there is none."""
    path = session.transform(modality)
    return file_sha256(path) if path.exists() else None
