"""Approvals: what a person vouched for, and whether it is still what they saw."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.images.fingerprints import is_same_image
from bidsapp.layout import OutputLayout
from bidsapp.lock import folder_lock
from bidsapp.records import Approval, Side, SideKey
from bidsapp.review.effort import share_changed
from bidsapp.review.events import ApprovedEvent, LedgerEvent, last_events, read_events
from bidsapp.review.label_fingerprints import transform_sha256

PATIENCE_SECONDS = 600.0
"""A review of some hundred sides, or writing their pairs, takes minutes."""


@dataclass(frozen=True)
class Approvals:
    """Approved sides of a data set."""

    valid: tuple[Approval, ...]
    """Label, crop and transform are what the ledger says; in order of name."""
    refused: dict[str, str]
    """``sub-01[_ses-1]_hemi-L`` -> why an approved label can no longer be used."""


def labels_lock(layout: OutputLayout) -> AbstractContextManager[None]:
    """Held by who records decisions, and by who reads what was approved: nobody meets half of a decision.

    Hold it for one decision, or one run over the table, not while a person looks. Raises `CannotWriteError` when
    somebody else does for longer than `PATIENCE_SECONDS`.
    """
    return folder_lock(layout.review_lock, patience_seconds=PATIENCE_SECONDS)


def find_approvals(layout: OutputLayout) -> Approvals:
    """Find approved labels and crops with pybids, and check each against the ledger.

    A label is refused when the ledger does not know it or says that it was withdrawn, when its voxels or affine, those
    of a crop, or the bytes of a transform are no longer what was approved, and when one of them is missing.

    Raises
    ------
    BadDataError
        When the ledger is damaged, or pybids cannot index the data set.
    """
    events = last_events(read_events(layout.ledger))
    labels, misnamed = _find_labels(layout)
    crops = _find_crops(layout) if events else frozenset()
    valid: list[Approval] = []
    refused = {path.name.partition("_space-")[0]: f"{path} has a name that review never gives" for path in misnamed}
    for key in sorted({*events, *labels}, key=lambda one: _name(layout, one)):
        event = events.get(key)
        reason = _why_refused(layout, event, key, labels, crops)
        if reason is None and isinstance(event, ApprovedEvent):
            valid.append(to_approval(layout, event))
        elif reason is not None:
            refused[_name(layout, key)] = reason
    return Approvals(tuple(valid), refused)


def to_approval(layout: OutputLayout, event: ApprovedEvent) -> Approval:
    """Hand an event to those who train."""
    session = layout.session(event.participant, event.session)
    return Approval(
        participant=event.participant,
        session=event.session,
        hemi=event.hemi,
        rater=event.rater,
        date=event.when,
        label=layout.approved_label(*event.key),
        crops={modality: session.crop(event.hemi, modality) for modality in event.crop_sha256},
        labels=event.labels,
        label_sha256=event.label_sha256,
        crop_sha256=event.crop_sha256,
        transform_sha256=event.transform_sha256,
        source=event.source,
        model=event.model,
        comment=event.comment,
        decision=event.decision,
        source_sha256=event.source_sha256,
        model_sha256=event.model_sha256,
        voxels_changed=sum(one.voxels_changed for one in event.effort) if event.effort else None,
        share_changed=share_changed(event.effort),
    )


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


def _name(layout: OutputLayout, key: SideKey) -> str:
    participant, session, hemi = key
    return f"{layout.session(participant, session).name}_hemi-{hemi}"


def _why_refused(
    layout: OutputLayout,
    event: LedgerEvent | None,
    key: SideKey,
    labels: Collection[SideKey],
    crops: Collection[Path],
) -> str | None:
    """Say in words why a side cannot be used; None when it can."""
    path = layout.approved_label(*key)
    if event is None:
        return f"{path} was not approved through review: {layout.ledger.name} does not know it"
    if not isinstance(event, ApprovedEvent):
        why = f": {event.reason}" if event.reason else ""
        return f"{path}: the approval was withdrawn by {event.rater or 'somebody'} on {event.when}{why}"
    if key not in labels:
        return f"{path}, approved by {event.rater} on {event.when}, is missing"
    try:
        if not is_same_image(path, bytes_sha256=event.file_sha256, voxels_sha256=event.label_sha256):
            return f"{path} was changed after {event.rater} approved it on {event.when}"
        return next(_changes_below(layout, event, crops), None)
    except (BadDataError, NoInputError) as error:
        return error.message


def _changes_below(layout: OutputLayout, event: ApprovedEvent, crops: Collection[Path]) -> Iterator[str]:
    session = layout.session(event.participant, event.session)
    for modality, digest in event.crop_sha256.items():
        path = session.crop(event.hemi, modality)
        if path.absolute() not in crops:
            yield f"the crop {path} that it was drawn on is missing"
        elif not is_same_image(path, bytes_sha256=event.crop_file_sha256.get(modality, ""), voxels_sha256=digest):
            yield f"the crop {path} is not the one that it was drawn on"
        elif transform_sha256(session, modality) != event.transform_sha256.get(modality):
            yield f"the transform {session.transform(modality)} is not the one that its crop was made with"
