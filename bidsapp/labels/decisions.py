"""What becomes of a person's decision about one side: recorded, refused with its reasons, or still open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from bidsapp.arrays import IntArray
from bidsapp.content import file_sha256
from bidsapp.corobl.grid import VOXEL_VOLUME_MM3
from bidsapp.errors import BadDataError, HippoTuneError
from bidsapp.files import read_json, write_json
from bidsapp.labels.agreement import agreement
from bidsapp.labels.approval import ReviewedLabel, ShownPrediction, approve, withdraw
from bidsapp.labels.candidates import SOURCE_WORDS, Candidate, SideFacts, find_candidate, label_table_of, read_side
from bidsapp.labels.events import ApprovedEvent, LedgerEvent, last_events, read_events
from bidsapp.labels.guards import Finding, GuardLimits, accept, check_label
from bidsapp.labels.label_file import LabelFile, fix_header, read_label_file
from bidsapp.labels.ledger import find_approvals
from bidsapp.labels.review_table import ReviewRow
from bidsapp.layout import OutputLayout
from bidsapp.participants.job import read_facts
from bidsapp.records import Approval, LabelTable, Side, SideKey

State = Literal["refused", "approved", "needs_edit", "rejected", "open"]
ANEW = "Look again, then write another date into the row."


@dataclass(frozen=True, eq=False)
class SideOutcome:
    """Where the review of one side stands.

    Attributes
    ----------
    rater, comment
        As in the table.
    source
        What was or would be approved, in words; empty where nobody drew anything and nothing was predicted.
    reasons
        Why it is refused, in words.
    notes
        What else a person should know, in words.
    label
        The label map that it is about; None: there is none.
    """

    key: SideKey
    state: State
    rater: str = ""
    source: str = ""
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    comment: str = ""
    label: Path | None = None

    @property
    def name(self) -> str:
        """``sub-01[_ses-1]_hemi-L``."""
        return side_name(self.key)


@dataclass(frozen=True, eq=False)
class _Inspection:
    """A label map as the guards saw it."""

    file: LabelFile
    table: LabelTable | None
    findings: tuple[Finding, ...]


class ReviewDesk:
    """One run of the review: the ledger and the approvals as they stood at its beginning.

    Parameters
    ----------
    mend_headers
        Give corrections that differ from their crop in the header alone the crop's header.
    """

    def __init__(self, layout: OutputLayout, limits: GuardLimits, *, when: datetime, mend_headers: bool) -> None:
        self.layout = layout
        self._limits, self._when, self._mend_headers = limits, when, mend_headers
        self._events: Sequence[LedgerEvent] = read_events(layout.ledger)
        self._last = last_events(self._events)
        found = find_approvals(layout)
        self._valid = {approval.name: approval for approval in found.valid}
        self._refused = found.refused
        self._drawn_on = self._read_drawn_on()

    def decide(self, row: ReviewRow) -> SideOutcome:
        """Do what a row says; whatever stands in the way becomes a reason in words."""
        about = SideOutcome(row.key, "open", row.rater, comment=row.comment)
        try:
            return self._decide(row, about)
        except HippoTuneError as error:
            state: State = "refused" if row.status == "approved" else _state_of(row)
            return replace(about, state=state, reasons=(". ".join(filter(None, (error.message, error.hint))),))

    def close(self) -> None:
        """Remember on which crop every correction was drawn that was seen for the first time."""
        write_json(self.layout.drawn_on, self._drawn_on)

    def _decide(self, row: ReviewRow, about: SideOutcome) -> SideOutcome:
        if row.status != "approved":
            withdraw(self.layout, row.key, rater=row.rater, when=self._when, reason=f"{row.status}: {row.comment}")
        side = read_side(self.layout, *row.key)
        candidate = find_candidate(self.layout, side)
        about = replace(
            about,
            source=SOURCE_WORDS[candidate.source] if candidate else "",
            label=candidate.path if candidate else None,
            notes=self._notes(row, side),
        )
        if row.status != "approved":
            return replace(about, state=_state_of(row))
        last = self._last.get(row.key)
        if last is not None and last.decision == row.decision:
            return self._stand_by(about, last, candidate)
        if candidate is None:
            return replace(about, state="refused", reasons=("there is no label map to approve",))
        return self._approve(row, about, side, candidate)

    def _stand_by(self, about: SideOutcome, last: LedgerEvent, candidate: Candidate | None) -> SideOutcome:
        """The row says what it said before: does what was approved still hold?"""
        if not isinstance(last, ApprovedEvent):
            return replace(about, state="refused", reasons=(f"{last.reason} {ANEW}",))
        if about.name in self._refused:
            return replace(about, state="refused", reasons=(f"{self._refused[about.name]}. {ANEW}",))
        drawn = candidate if candidate is not None and candidate.source != "prediction" else None
        if drawn is not None and file_sha256(drawn.path) != last.source_sha256:
            file = read_label_file(drawn.path, about.key[2])
            approved = read_label_file(self.layout.approved_label(*about.key), about.key[2])
            same = file.labels is not None and approved.labels is not None and (file.labels == approved.labels).all()
            if not same:
                words = f"{drawn.path.name} changed after it was approved on {last.when}. {ANEW}"
                return replace(about, state="refused", reasons=(words,))
        return replace(about, state="approved", label=self.layout.approved_label(*about.key))

    def _approve(self, row: ReviewRow, about: SideOutcome, side: SideFacts, candidate: Candidate) -> SideOutcome:
        if not row.rater.strip():
            return replace(
                about, state="refused", reasons=("nobody is named: write who approves into the column rater",)
            )
        inspection = self._inspect(side, candidate)
        remaining = accept(inspection.findings, row.accept)
        notes = (*about.notes, *inspection.file.normalised, *(f.words for f in remaining if not f.blocks))
        reasons = tuple(f"{finding.guard}: {finding.words}" for finding in remaining if finding.blocks)
        labels, table = inspection.file.labels, inspection.table
        if reasons or labels is None or table is None:
            return replace(about, state="refused", reasons=reasons, notes=notes)
        approve(
            self.layout,
            row.key,
            ReviewedLabel(
                file=candidate.path,
                source=candidate.source,
                labels=labels,
                names=table.names,
                modalities=tuple(side.crops),
                prediction=self._shown(side),
            ),
            rater=row.rater,
            when=self._when,
            accepted=row.accept,
            comment=row.comment,
            decision=row.decision,
        )
        return replace(about, state="approved", notes=notes, label=self.layout.approved_label(*row.key))

    def _inspect(self, side: SideFacts, candidate: Candidate) -> _Inspection:
        file = read_label_file(candidate.path, side.hemi)
        only_header = [finding.guard for finding in file.findings] == ["header"]
        if only_header and self._mend_headers and candidate.source == "manual":
            original = fix_header(candidate.path, side.hemi)
            file = read_label_file(candidate.path, side.hemi)
            file = replace(file, normalised=(*file.normalised, f"the header was mended, {original.name} is as it was"))
        table = label_table_of(self.layout, side, candidate)
        findings = [*file.findings, *self._check_age(side, candidate)]
        if table is None:
            words = f"nobody says what its values mean: write {self.layout.label_names} (columns index, name)"
            findings.append(Finding("file", words))
        if file.labels is not None and table is not None and not any(finding.blocks for finding in file.findings):
            findings += check_label(
                file.labels,
                side=side.hemi,
                table=table,
                prediction=self._predicted(side),
                other_side=self._other_side(side),
                approved_volumes_mm3=self._volumes_of_others(side.participant),
                volume_factor=side.volume_factor,
                source=candidate.source,
                limits=self._limits,
            )
        return _Inspection(file, table, tuple(findings))

    def _check_age(self, side: SideFacts, candidate: Candidate) -> list[Finding]:
        """A correction that was seen on another crop before is stale."""
        if candidate.source == "prediction":
            return []
        name = side_name(side.key)
        now: dict[str, object] = {"label": file_sha256(candidate.path), "crop": side.crop_sha256}
        seen = self._drawn_on.get(name)
        if seen and seen["label"] == now["label"] and seen["crop"] != now["crop"]:
            return [Finding("stale", f"{candidate.path.name} was drawn on an earlier version of the crop")]
        self._drawn_on[name] = now
        return []

    def _read_drawn_on(self) -> dict[str, dict[str, object]]:
        path = self.layout.drawn_on
        try:
            return dict(read_json(path)) if path.exists() else {}
        except ValueError as error:
            raise BadDataError(f"{path} is damaged: {error}", "Remove it: it is made again.") from error

    def _notes(self, row: ReviewRow, side: SideFacts) -> tuple[str, ...]:
        notes = []
        last = self._last.get(row.key)
        newer = side.prediction and isinstance(last, ApprovedEvent) and last.model_sha256
        if newer and side.prediction and side.prediction["model_sha256"] != newer:
            notes.append(f"the prediction is newer than the approval (model {side.prediction['model']})")
        both = agreement(self.layout, self._events, row.key)
        if both:
            dice = ", ".join(f"{one.name} {one.dice:.2f}" for one in both.labels if one.dice is not None)
            notes.append(f"{both.earlier} and {both.later} agree with Dice {dice}")
        return tuple(notes)

    def _predicted(self, side: SideFacts) -> IntArray | None:
        return _read_labels(self._prediction_path(side.key)) if side.prediction else None

    def _shown(self, side: SideFacts) -> ShownPrediction | None:
        labels, facts = self._predicted(side), side.prediction
        if labels is None or facts is None:
            return None
        names = {int(value): name for value, name in facts["labels"].items()}
        return ShownPrediction(labels, names, facts["model"], facts["model_sha256"])

    def _other_side(self, side: SideFacts) -> IntArray | None:
        other: Side = "R" if side.hemi == "L" else "L"
        path = self._prediction_path((side.participant, side.session, other))
        return _read_labels(path) if read_facts(path) else None

    def _prediction_path(self, key: SideKey) -> Path:
        return self.layout.session(*key[:2]).prediction(key[2])

    def _volumes_of_others(self, participant: str) -> dict[str, list[float]]:
        volumes: dict[str, list[float]] = {}
        for person, found in self._approved_volumes:
            for name, volume in found.items() if person != participant else ():
                volumes.setdefault(name, []).append(volume)
        return volumes

    @cached_property
    def _approved_volumes(self) -> list[tuple[str, dict[str, float]]]:
        return [(approval.participant, self._volumes_of(approval)) for approval in self._valid.values()]

    def _volumes_of(self, approval: Approval) -> dict[str, float]:
        labels = _read_labels(approval.label)
        side = read_side(self.layout, approval.participant, approval.session, approval.hemi)
        voxel_mm3 = VOXEL_VOLUME_MM3 * side.volume_factor
        return {name: float(np.count_nonzero(labels == value)) * voxel_mm3 for value, name in approval.labels.items()}


def side_name(key: SideKey) -> str:
    """``sub-01[_ses-1]_hemi-L``."""
    participant, session, hemi = key
    return f"sub-{participant}" + (f"_ses-{session}" if session else "") + f"_hemi-{hemi}"


def _state_of(row: ReviewRow) -> State:
    return row.status if row.status in ("needs_edit", "rejected") else "open"


def _read_labels(path: Path) -> IntArray:
    return np.asarray(nib.load(path).dataobj).astype(np.int32)
