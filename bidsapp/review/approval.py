"""Record what a person decided: approve a label map, or take the approval back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from bidsapp import __version__
from bidsapp.arrays import IntArray
from bidsapp.bids.facts import recorded_facts
from bidsapp.bids.sidecars import approved_sidecar
from bidsapp.content import file_sha256, image_sha256
from bidsapp.errors import BadDataError, NoInputError
from bidsapp.files import explain_write_errors, write_json
from bidsapp.images.volumes import Volume
from bidsapp.images.writing import new_image, write_image
from bidsapp.labels.tables import write_label_table
from bidsapp.layout import OutputLayout, label_names, sidecar
from bidsapp.records import Approval, LabelSource, LabelTable, Modality, SideKey, Work, side_name
from bidsapp.review.effort import label_differences
from bidsapp.review.events import Ledger, WithdrawnEvent, event_facts
from bidsapp.review.labels_dataset import uri_from_labels
from bidsapp.review.ledger import transform_sha256
from bidsapp.review.snapshots import ImageSnapshots
from bidsapp.review.superseded import keep_superseded

_SAME_IN_ONE_DECISION = (
    "rater",
    "source",
    "label_sha256",
    "crop_sha256",
    "transform_sha256",
    "labels",
    "accepted",
    "comment",
    "decision",
)
_IN_THE_NAME = {"event", "participant", "session", "hemi"}


@dataclass(frozen=True, eq=False)
class ShownPrediction:
    """The prediction that a person was shown."""

    labels: IntArray
    """Shape (128, 256, 128), as in the head."""
    names: Mapping[int, str]
    """value -> name, of the model."""
    model: str
    model_sha256: str


@dataclass(frozen=True, eq=False)
class ReviewedLabel:
    """A label map that passed the guards."""

    file: Path
    """Where it was read from, below OUTPUT_DIR."""
    source: LabelSource
    labels: Volume
    """Whole numbers, on the grid of the crop, as in the head."""
    names: Mapping[int, str]
    """value -> name."""
    modalities: tuple[Modality, ...]
    """Of the crops that it was drawn on."""
    prediction: ShownPrediction | None = None
    """None when there was none."""


def approve(
    layout: OutputLayout,
    key: SideKey,
    label: ReviewedLabel,
    *,
    rater: str,
    when: datetime,
    accepted: Collection[str] = (),
    comment: str = "",
    decision: str = "",
    work: Work | None = None,
    ledger: Ledger | None = None,
    images: ImageSnapshots | None = None,
) -> Approval:
    """Write the approved label map with its table, then the line of the ledger that makes it count, last the sidecar.

    An approved label that stood there is copied to ``labels/superseded/`` before. Nothing is written when the ledger
    already ends with this approval and the file is intact. Stopped before the ledger has it, the label does not
    count, and the same call completes it; after that, `complete_sidecar` does. So a sidecar that says what the ledger
    does not know means that a ledger was lost. One process at a time may approve a side.

    Parameters
    ----------
    ledger, images
        What this run has read before; None: nothing.

    Raises
    ------
    NoInputError
        When a crop or `label.file` is missing.
    BadDataError
        When nobody is named as rater, or a value has no name; or a crop or the ledger is damaged.
    CannotWriteError
        When the disk is full or a folder cannot be written.
    """
    ledger, images = ledger or Ledger(layout.ledger), images or ImageSnapshots()
    if not rater.strip():
        raise BadDataError(f"{side_name(key)} is approved by nobody", f"Name the rater in {layout.review_table.name}.")
    unnamed = sorted(set(np.unique(label.labels.data).tolist()) - {0, *label.names})
    if unnamed:
        raise BadDataError(f"{label.file} holds values without a name: {unnamed}")
    last = ledger.last.get(key)
    event = _make_event(layout, key, label, images)
    event = replace(
        event,
        when=when.isoformat(),
        rater=rater.strip(),
        accepted=tuple(sorted(accepted)),
        comment=comment,
        decision=decision,
        work=work,
    )
    path = layout.approved_label(*key)
    if isinstance(last, Approval) and _is_same_decision(last, event) and _is_intact(images, path, last):
        complete_sidecar(layout, last, label.file)
        return last
    if path.exists() and not _is_intact(images, path, event):
        keep_superseded(layout, path, when)
    # The order matters to a run that is killed: the label alone counts for nothing, the ledger's line makes it count,
    # and the sidecar repeats the line for readers of BIDS. So a sidecar without a line tells of a lost ledger.
    _write_label(path, label)
    event = replace(event, file_sha256=file_sha256(path))
    write_label_table(label_names(path), LabelTable(dict(sorted(label.names.items()))))
    ledger.append(event)
    complete_sidecar(layout, event, label.file)
    return event


def complete_sidecar(layout: OutputLayout, event: Approval, drawn: Path) -> None:
    """Write the sidecar of an approved label unless it is about this approval: a run may have been stopped before.

    Parameters
    ----------
    drawn
        The file that was approved.
    """
    label = layout.approved_label(*event.key)
    known = recorded_facts(label) or {}
    if (known.get("when"), known.get("file_sha256")) == (event.when, event.file_sha256):
        return
    session = layout.session(event.participant, event.session)
    crops = [session.crop(event.hemi, modality) for modality in event.crop_sha256]
    content = approved_sidecar(
        manual=event.source == "manual",
        sources=[uri_from_labels(layout, path) for path in (drawn, *crops)],
        facts={name: value for name, value in event_facts(event).items() if name not in _IN_THE_NAME},
    )
    write_json(sidecar(label), content)


def withdraw(
    layout: OutputLayout,
    key: SideKey,
    *,
    rater: str,
    when: datetime,
    reason: str = "",
    ledger: Ledger | None = None,
) -> bool:
    """Take an approval back, and tell whether there was one: the ledger first, then the label moves to superseded.

    What an earlier call that was stopped left behind is tidied up.

    Raises
    ------
    BadDataError
        When the ledger is damaged.
    CannotWriteError
        When the disk is full or a folder cannot be written.
    """
    ledger = ledger or Ledger(layout.ledger)
    last = ledger.last.get(key)
    if last is None:
        return False
    if isinstance(last, Approval):
        ledger.append(WithdrawnEvent(when.isoformat(), rater.strip(), *key, reason))
    path = layout.approved_label(*key)
    if path.exists():
        keep_superseded(layout, path, when)
        with explain_write_errors(path):
            for file in (label_names(path), sidecar(path), path):  # the image last: with it, all is gone
                file.unlink(missing_ok=True)
    return isinstance(last, Approval)


def _make_event(layout: OutputLayout, key: SideKey, label: ReviewedLabel, images: ImageSnapshots) -> Approval:
    """What the ledger will say of the files, but for the fingerprint of the one that is still to be written."""
    participant, session, hemi = key
    files, shown = layout.session(participant, session), label.prediction
    crops = {modality: images[files.crop(hemi, modality)] for modality in label.modalities}
    return Approval(
        when="",
        rater="",
        participant=participant,
        session=session,
        hemi=hemi,
        source=label.source,
        source_sha256=images[label.file].file_sha256,
        label_sha256=image_sha256(label.labels.data, label.labels.affine),
        file_sha256="",
        crop_sha256={modality: crop.image_sha256 for modality, crop in crops.items()},
        crop_file_sha256={modality: crop.file_sha256 for modality, crop in crops.items()},
        transform_sha256={modality: transform_sha256(files, modality) for modality in crops},
        labels=dict(sorted(label.names.items())),
        accepted=(),
        comment="",
        model=shown.model if shown else None,
        model_sha256=shown.model_sha256 if shown else None,
        effort=label_differences(label.labels.data, label.names, shown.labels, shown.names) if shown else (),
        version=__version__,
    )


def _is_same_decision(recorded: Approval, event: Approval) -> bool:
    """Compare what a person decided and about which files; a newer prediction makes no new approval."""
    return all(getattr(recorded, name) == getattr(event, name) for name in _SAME_IN_ONE_DECISION)


def _is_intact(images: ImageSnapshots, path: Path, event: Approval) -> bool:
    try:
        return images[path].holds(bytes_sha256=event.file_sha256, voxels_sha256=event.label_sha256)
    except (NoInputError, BadDataError):
        return False


def _write_label(path: Path, label: ReviewedLabel) -> None:
    number_type = np.uint8 if label.labels.data.max(initial=0) <= np.iinfo(np.uint8).max else np.uint16
    write_image(path, new_image(label.labels.data.astype(number_type), label.labels.affine))
