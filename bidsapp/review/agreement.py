"""How far two raters of one side agree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bidsapp.arrays import IntArray
from bidsapp.layout import OutputLayout
from bidsapp.records import Approval, LabelDifference, SideKey
from bidsapp.review.effort import label_differences
from bidsapp.review.events import LedgerEvent
from bidsapp.review.snapshots import ImageSnapshots
from bidsapp.review.superseded import find_superseded


@dataclass(frozen=True)
class Agreement:
    """Two raters."""

    earlier: str
    later: str
    """Who they are, in the order of their approvals."""
    labels: tuple[LabelDifference, ...]
    """Overlap and disagreement per label name."""


def agreement(
    layout: OutputLayout, events: Iterable[LedgerEvent], key: SideKey, images: ImageSnapshots
) -> Agreement | None:
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
    approvals = _last_of_each_rater(event for event in events if event.key == key)
    if len(approvals) < 2:
        return None
    earlier, later = approvals[-2:]
    if (earlier.crop_sha256, earlier.transform_sha256) != (later.crop_sha256, later.transform_sha256):
        return None
    first, second = _read_version(layout, earlier, images), _read_version(layout, later, images)
    if first is None or second is None:
        return None
    return Agreement(earlier.rater, later.rater, label_differences(first, earlier.labels, second, later.labels))


def _last_of_each_rater(events: Iterable[LedgerEvent]) -> list[Approval]:
    """The last approval of each rater, in their order; a withdrawal takes back the approval right before it."""
    last_of: dict[str, Approval] = {}
    last = None
    for event in events:
        if isinstance(event, Approval):
            last = event.rater.lower()
            last_of.pop(last, None)
            last_of[last] = event
        elif last is not None:
            last_of.pop(last, None)
    return list(last_of.values())


def _read_version(layout: OutputLayout, event: Approval, images: ImageSnapshots) -> IntArray | None:
    present = layout.approved_label(*event.key)
    digests = {"bytes_sha256": event.file_sha256, "voxels_sha256": event.label_sha256}
    is_present = present.exists() and images[present].holds(**digests)
    path = present if is_present else find_superseded(layout, present, event.label_sha256, images)
    return None if path is None else images[path].labels
