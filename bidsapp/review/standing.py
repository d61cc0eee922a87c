"""Approvals that still hold, looked up one side at a time; what was found out is kept until a file changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bidsapp.bids.facts import recorded_facts
from bidsapp.content import Signature, signature
from bidsapp.errors import HippoTuneError
from bidsapp.layout import OutputLayout, sidecar
from bidsapp.records import Approval, SideKey
from bidsapp.review.candidates import volume_factor
from bidsapp.review.events import LedgerEvent, last_events
from bidsapp.review.ledger import why_refused
from bidsapp.review.snapshots import ImageSnapshots


class _Judged(NamedTuple):
    event: Approval
    files: Signature
    refused: str | None
    volumes_mm3: Mapping[str, float] | None


class StandingApprovals:
    """What the ledger's approvals are worth: a label whose voxels, crop or transform changed is worth nothing."""

    def __init__(self, layout: OutputLayout, images: ImageSnapshots | None = None) -> None:
        """`images` is what the run has read before; None: nothing."""
        self._layout, self._images = layout, images or ImageSnapshots()
        self._judged: dict[SideKey, _Judged] = {}
        self._lock = threading.Lock()

    def why_refused(self, event: Approval) -> str | None:
        """Say why an approved label can no longer be used; None when it can. Raises as `why_refused` of the ledger."""
        with self._lock:
            return self._judge(event).refused

    def find_out(self, events: Iterable[LedgerEvent], go_on: Callable[[], bool]) -> None:
        """Look at all approvals ahead of time, which takes a while where there are many, as long as `go_on` says so."""
        for event in last_events(events).values():
            if not go_on():
                return
            if isinstance(event, Approval):
                self._volumes(event)

    def volumes_of_others(self, events: Iterable[LedgerEvent], participant: str) -> dict[str, list[float]]:
        """Label name -> one volume, in mm3 of the scan, per other person: the mean of their sides and sessions.

        Parameters
        ----------
        events
            The ledger, in its order.
        """
        people: dict[str, dict[str, list[float]]] = {}
        for event in last_events(events).values():
            if not isinstance(event, Approval) or event.participant == participant:
                continue
            for name, volume in (self._volumes(event) or {}).items():
                people.setdefault(name, {}).setdefault(event.participant, []).append(volume)
        return {name: [float(np.mean(one)) for one in volumes.values()] for name, volumes in people.items()}

    def _volumes(self, event: Approval) -> Mapping[str, float] | None:
        with self._lock:
            judged = self._judge(event)
            if judged.refused is None and judged.volumes_mm3 is None:
                try:
                    volumes = self._measure(event)
                except (HippoTuneError, OSError, KeyError, TypeError, ValueError):
                    volumes = {}  # that person's own row says what is wrong
                judged = self._judged[event.key] = judged._replace(volumes_mm3=volumes)
            return judged.volumes_mm3

    def _judge(self, event: Approval) -> _Judged:
        files = signature(self._files(event))
        known = self._judged.get(event.key)
        if known is None or known.event != event or known.files != files:
            refused = why_refused(self._layout, event, self._images)
            for path in self._images_of(event):
                self._images[path].drop_voxels()
            known = self._judged[event.key] = _Judged(event, files, refused, None)
        return known

    def _files(self, event: Approval) -> list[Path]:
        session, images = self._layout.session(event.participant, event.session), self._images_of(event)
        transforms = [session.transform(modality) for modality in event.crop_sha256]
        return [*images, *map(sidecar, images[1:]), *transforms]

    def _images_of(self, event: Approval) -> list[Path]:
        """Its label map, then its crops."""
        session = self._layout.session(event.participant, event.session)
        crops = [session.crop(event.hemi, modality) for modality in event.crop_sha256]
        return [self._layout.approved_label(*event.key), *crops]

    def _measure(self, event: Approval) -> dict[str, float]:
        """Volumes of an approval that stands, whose crop is therefore the one that its sidecar is about."""
        label, crop, *_ = self._images_of(event)
        image = self._images[label]
        counts = np.bincount(image.labels.ravel(), minlength=max(event.labels, default=0) + 1)
        voxel_mm3 = image.grid.voxel_mm3 * volume_factor(recorded_facts(crop) or {})
        image.drop_voxels()
        return {name: float(counts[value]) * voxel_mm3 for value, name in event.labels.items()}
