"""How far two raters of one side agree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bidsapp.arrays import IntArray
from bidsapp.images.fingerprints import is_same_image
from bidsapp.images.volumes import read_volume
from bidsapp.layout import OutputLayout
from bidsapp.records import SideKey
from bidsapp.review.effort import LabelDifference, label_differences
from bidsapp.review.events import ApprovedEvent, LedgerEvent
from bidsapp.review.superseded import find_superseded


@dataclass(frozen=True)
class Agreement:
    """Two raters."""

    earlier: str
    later: str
    """Who they are, in the order of their approvals."""
    labels: tuple[LabelDifference, ...]
    """Overlap and disagreement per label name."""


def agreement(layout: OutputLayout, events: Iterable[LedgerEvent], key: SideKey) -> Agreement | None:
    """Compare what the last two raters of a side approved.

    Of each rater the last approval counts, unless it was withdrawn. The earlier label map is read from
    ``labels/superseded/``, or is the present one when both approved the same. None when there are not two raters,
    when they saw different crops, or when a label map is no longer there.

    Parameters
    ----------
    events
        The ledger, in its order.

    Raises
    ------
    BadDataError
        When a label map is damaged.
    """
    standing = _standing_approvals(event for event in events if event.key == key)
    if len(standing) < 2:
        return None
    earlier, later = standing[-2:]
    if (earlier.crop_sha256, earlier.transform_sha256) != (later.crop_sha256, later.transform_sha256):
        return None
    first, second = _read_version(layout, earlier), _read_version(layout, later)
    if first is None or second is None:
        return None
    return Agreement(earlier.rater, later.rater, label_differences(first, earlier.labels, second, later.labels))


def _standing_approvals(events: Iterable[LedgerEvent]) -> list[ApprovedEvent]:
    """The last approval of each rater, in their order; a withdrawal takes back the approval right before it."""
    standing: dict[str, ApprovedEvent] = {}
    last = None
    for event in events:
        if isinstance(event, ApprovedEvent):
            last = event.rater.lower()
            standing.pop(last, None)
            standing[last] = event
        elif last is not None:
            standing.pop(last, None)
    return list(standing.values())


def _read_version(layout: OutputLayout, event: ApprovedEvent) -> IntArray | None:
    present = layout.approved_label(*event.key)
    digests = {"bytes_sha256": event.file_sha256, "voxels_sha256": event.label_sha256}
    is_present = present.exists() and is_same_image(present, **digests)
    path = present if is_present else find_superseded(layout, present, event.label_sha256)
    return None if path is None else np.rint(read_volume(path, "any").data).astype(np.int32)
