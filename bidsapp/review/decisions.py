"""Decisions about sides: each is recorded, refused with its reasons, or still open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bidsapp.arrays import IntArray
from bidsapp.errors import BadDataError, HippoTuneError
from bidsapp.files import read_json, write_json
from bidsapp.guards.label_guards import Finding, GuardLimits, accept, check_label
from bidsapp.images.volumes import Volume
from bidsapp.layout import OutputLayout
from bidsapp.records import Approval, LabelTable, Side, SideKey, Work, side_name
from bidsapp.review.agreement import agreement
from bidsapp.review.approval import ReviewedLabel, ShownPrediction, approve, complete_sidecar, withdraw
from bidsapp.review.candidates import (
    SOURCE_WORDS,
    Candidate,
    CropGrids,
    SideFacts,
    find_candidate,
    label_table_of,
    read_side,
)
from bidsapp.review.events import Ledger, LedgerEvent
from bidsapp.review.label_file import LabelFile, fix_header, read_label_file
from bidsapp.review.protection import is_of
from bidsapp.review.snapshots import ImageSnapshots
from bidsapp.review.standing import StandingApprovals
from bidsapp.review.table import ReviewRow, ReviewTable

State = Literal["refused", "approved", "needs_edit", "rejected", "open"]
ANEW = "Look again, then edit the row (another date, a comment): that makes it a new decision."

_DAMAGE = (OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError)
"""What files lead to that are not what they should be, where nobody expected it."""


@dataclass(frozen=True, eq=False)
class SideOutcome:
    """Where the review of one side stands."""

    key: SideKey
    state: State
    rater: str = ""
    source: str = ""
    """What was or would be approved, in words; empty where nobody drew anything and nothing was predicted."""
    reasons: tuple[str, ...] = ()
    """Why it is refused, in words."""
    notes: tuple[str, ...] = ()
    """What else a person should know, in words."""
    comment: str = ""
    """`rater` and `comment`: as in the table."""
    label: Path | None = None
    """The label map that it is about; None: there is none."""
    findings: tuple[Finding, ...] = ()
    """Of the guards, where they looked at the label map: those that the person did not accept."""

    @property
    def name(self) -> str:
        """``sub-01[_ses-1]_hemi-L``."""
        return side_name(self.key)


@dataclass(frozen=True, eq=False)
class Inspection:
    """A label map as the guards saw it."""

    file: LabelFile
    table: LabelTable | None
    """Names of its values; None: nobody says."""
    findings: tuple[Finding, ...]


class ReviewDesk:
    """One run of the review.

    A decision is about what the last run of review saw. When the prediction changed since then, or another tool's
    label map came in, the person has not seen it, and has to look and decide again.

    Parameters
    ----------
    images
        What the run has read before. Whoever calls `decide` drops their voxels when a side is done.
    mend_headers
        Give corrections that differ from their crop in the header alone the crop's header.
    standing
        What is known of earlier approvals; None: nothing.
    work
        What the person did in the editor, for the ledger.
    """

    def __init__(
        self,
        layout: OutputLayout,
        limits: GuardLimits,
        images: ImageSnapshots,
        *,
        when: datetime,
        mend_headers: bool = False,
        standing: StandingApprovals | None = None,
        work: Work | None = None,
    ) -> None:
        self.layout = layout
        self._limits, self._images, self._when, self._mend_headers = limits, images, when, mend_headers
        self._standing, self._work = standing or StandingApprovals(layout, images), work
        self._ledger = Ledger(layout.ledger)
        self._approved_before = tuple(self._ledger.events)
        self._shown = _read_shown(layout)
        self._inspected: tuple[SideKey, Inspection] | None = None

    def decide(self, rows: Sequence[ReviewRow]) -> SideOutcome:
        """Act on the rows of one side: of several decisions, the last one counts.

        Whatever prevents it becomes a reason in words.
        """
        decided = [row for row in rows if row.status != "pending"] or rows[-1:]
        outcome = None
        for row in decided:
            if row is not decided[-1] and self._is_recorded(row):
                continue
            outcome = self._decide_safely(row)
        assert outcome is not None  # noqa: S101 - the last row is always decided
        return outcome

    def look(self, key: SideKey) -> Inspection | None:
        """A person sees the side now: remember what it shows, and return what the guards say of its label map, if any.

        Raises
        ------
        BadDataError
            When the crop is missing, it cannot be told which label map is meant, or a file beside them is damaged.
        """
        side = read_side(self.layout, *key, self._images)
        candidate = find_candidate(self.layout, side)
        self._show(side, candidate)
        try:
            return self._inspect(side, candidate) if candidate else None
        except _DAMAGE as error:
            raise BadDataError(_damage_words(error), "Restore it, or run participant again.") from error

    def recall(self, key: SideKey, inspection: Inspection) -> None:
        """The guards looked at this side, these files and these limits already: spare them to look again."""
        self._inspected = key, inspection

    def rehearse(self, row: ReviewRow) -> SideOutcome:
        """Say what would become of an approval; nothing is written. Any other status would withdraw one."""
        if row.status != "approved":
            raise ValueError("only an approval can be rehearsed")
        return self._decide_safely(row, record=False)

    def close(self) -> None:
        """Remember what every side showed."""
        write_json(self.layout.shown, self._shown)

    def _decide_safely(self, row: ReviewRow, *, record: bool = True) -> SideOutcome:
        about = SideOutcome(row.key, "open", row.rater, comment=row.comment)
        state: State = "refused" if row.status == "approved" else _state_of(row)
        try:
            return self._decide(row, about, record=record)
        except HippoTuneError as error:
            return replace(about, state=state, reasons=(". ".join(filter(None, (error.message, error.hint))),))
        except _DAMAGE as error:
            return replace(about, state=state, reasons=(_damage_words(error),))

    def _is_recorded(self, row: ReviewRow) -> bool:
        return any(event.key == row.key and is_of(row, event) for event in self._ledger.events)

    def _decide(self, row: ReviewRow, about: SideOutcome, *, record: bool) -> SideOutcome:
        last = self._ledger.last.get(row.key)
        notes: list[str] = []
        if row.status == "pending" and not row.rater and isinstance(last, Approval):
            words = f"{last.rater} approved it on {last.when}, and its row is gone or pending: write the status again"
            return replace(about, state="refused", reasons=(words,))
        if row.status != "approved" and withdraw(
            self.layout,
            row.key,
            rater=row.rater,
            when=self._when,
            reason=f"{row.status}: {row.comment}",
            ledger=self._ledger,
        ):
            notes.append("its approval was withdrawn")
        side = read_side(self.layout, *row.key, self._images)
        candidate = find_candidate(self.layout, side)
        about = replace(
            about,
            source=SOURCE_WORDS[candidate.source] if candidate else "",
            label=candidate.path if candidate else None,
            notes=(*notes, *self._notes(row, side)),
        )
        before = self._show(side, candidate)
        if row.status != "approved":
            return replace(about, state=_state_of(row))
        if last is not None and is_of(row, last):
            return self._check_recorded(about, last, candidate)
        if candidate is None:
            return replace(about, state="refused", reasons=("there is no label map to approve",))
        changed = _what_changed(before, self._shown[about.name], candidate)
        if changed:
            return replace(about, state="refused", reasons=(f"{changed}. {ANEW}",))
        if last is None and self._ledger_was_lost(row):
            words = f"it is approved in its sidecar, and {self.layout.ledger.name} does not know it"
            return replace(about, state="refused", reasons=(f"{words}: restore the ledger. Or: {ANEW}",))
        return self._approve(row, about, side, candidate, record=record)

    def _show(self, side: SideFacts, candidate: Candidate | None) -> dict[str, Any]:
        """Remember what a side shows now; returns what it showed at the last review."""
        name = side_name(side.key)
        before = self._shown.get(name, {})
        now: dict[str, Any] = {"source": candidate.source if candidate else None, "label": None}
        if candidate is not None and candidate.path.exists():
            now["label"] = self._image_sha256(candidate.path)
        same_drawing = before.get("source") == now["source"] and before.get("label") == now["label"]
        now["crop"] = before.get("crop") if same_drawing and before.get("crop") else side.crop_sha256
        self._shown[name] = now
        return before

    def _image_sha256(self, path: Path) -> str | None:
        """None for what is no image."""
        try:
            return self._images[path].image_sha256
        except HippoTuneError:
            return None

    def _ledger_was_lost(self, row: ReviewRow) -> bool:
        facts = self._images.facts(self.layout.approved_label(*row.key)) or {}
        return bool(facts) and row.is_decision(facts.get("decision", ""), facts.get("comment"))

    def _check_recorded(self, about: SideOutcome, last: LedgerEvent, candidate: Candidate | None) -> SideOutcome:
        """The row is the decision that the ledger holds: does what was approved still count?"""
        if not isinstance(last, Approval):
            return replace(about, state="refused", reasons=(f"{last.reason}. {ANEW}",))
        refused = self._standing.why_refused(last)
        if refused:
            return replace(about, state="refused", reasons=(f"{refused}. {ANEW}",))
        why = why_drawing_changed(self.layout, last, candidate, self._images)
        if why:
            return replace(about, state="refused", reasons=(f"{why}. {ANEW}",))
        if candidate is not None and candidate.source == last.source:
            complete_sidecar(self.layout, last, candidate.path)
        return replace(about, state="approved", label=self.layout.approved_label(*last.key))

    def _approve(
        self, row: ReviewRow, about: SideOutcome, side: SideFacts, candidate: Candidate, *, record: bool
    ) -> SideOutcome:
        if not row.rater.strip():
            words = "nobody is named: write who approves into the column rater"
            return replace(about, state="refused", reasons=(words,))
        inspection = self._inspect(side, candidate)
        remaining = accept(inspection.findings, row.accept)
        notes = (*about.notes, *inspection.file.normalised, *(f.problem for f in remaining if not f.blocks))
        reasons = tuple(f"{finding.guard}: {finding.problem}" for finding in remaining if finding.blocks)
        labels, table = inspection.file.labels, inspection.table
        about = replace(about, notes=notes, findings=remaining)
        if reasons or labels is None or table is None:
            return replace(about, state="refused", reasons=reasons)
        if not record:
            return replace(about, state="approved")
        approve(
            self.layout,
            row.key,
            ReviewedLabel(
                file=candidate.path,
                source=candidate.source,
                labels=Volume(labels, side.grid.affine),
                names=table.names,
                modalities=tuple(side.crops),
                prediction=self._prediction(side),
            ),
            rater=row.rater,
            when=self._when,
            accepted=row.accept,
            comment=row.comment,
            decision=row.decision,
            work=self._work,
            ledger=self._ledger,
            images=self._images,
        )
        return replace(about, state="approved", label=self.layout.approved_label(*row.key))

    def _inspect(self, side: SideFacts, candidate: Candidate) -> Inspection:
        """Let the guards look; the side looked at last is not looked at again."""
        if self._inspected is None or self._inspected[0] != side.key:
            self._inspected = side.key, self._inspect_anew(side, candidate)
        return self._inspected[1]

    def _inspect_anew(self, side: SideFacts, candidate: Candidate) -> Inspection:
        file = read_label_file(candidate.path, side.hemi, side.grids, self._images)
        only_header = [finding.guard for finding in file.findings] == ["header"]
        if only_header and self._mend_headers and candidate.source == "manual":
            original = fix_header(candidate.path, side.grid)
            file = read_label_file(candidate.path, side.hemi, side.grids, self._images)
            file = replace(file, normalised=(*file.normalised, f"the header was mended, {original.name} is as it was"))
        table = label_table_of(self.layout, side, candidate)
        findings = [*file.findings, *self._check_age(side, candidate)]
        if table is None:
            words = f"nobody says what its values mean: write {self.layout.label_names} (columns index, name)"
            findings.append(Finding("file", words))
        if file.labels is not None and table is not None:
            findings += check_label(
                file.labels,
                side=side.hemi,
                grid=side.grid,
                table=table,
                prediction=self._predicted(side),
                other_side=self._other_side(side),
                approved_volumes_mm3=self._standing.volumes_of_others(self._approved_before, side.participant),
                volume_factor=side.volume_factor,
                source=candidate.source,
                limits=self._limits,
            )
        return Inspection(file, table, tuple(findings))

    def _check_age(self, side: SideFacts, candidate: Candidate) -> list[Finding]:
        """Tell a label map that was drawn on another crop than the one that is there."""
        if candidate.source == "imported":
            facts = self._images.facts(candidate.path)
            if facts is None:
                return [Finding("file", f"{candidate.path.name} was changed: a correction is saved as desc-manual")]
            if facts["crop_sha256"] != side.crop_sha256:
                return [Finding("stale", "it was brought in for an earlier version of the crop")]
            if facts["on_our_crop"] is False:
                return [Finding("stale", "it was drawn on another crop: the one beside it is not ours")]
            if facts["on_our_crop"] is None:
                return [Finding("stale", "nobody can tell on which crop it was drawn: look closely", blocks=False)]
        if candidate.source == "manual" and self._shown[side_name(side.key)]["crop"] != side.crop_sha256:
            return [Finding("stale", f"{candidate.path.name} was drawn on an earlier version of the crop")]
        return []

    def _notes(self, row: ReviewRow, side: SideFacts) -> tuple[str, ...]:
        notes = []
        last = self._ledger.last.get(row.key)
        newer = side.prediction and isinstance(last, Approval) and last.model_sha256
        if newer and side.prediction and side.prediction["model_sha256"] != newer:
            notes.append(f"the prediction is newer than the approval (model {side.prediction['model']})")
        both = agreement(self.layout, self._ledger.events, row.key, self._images)
        if both:
            dice = ", ".join(f"{one.name} {one.dice:.2f}" for one in both.labels if one.dice is not None)
            notes.append(f"{both.earlier} and {both.later} agree with Dice {dice}")
        return tuple(notes)

    def _predicted(self, side: SideFacts) -> IntArray | None:
        return self._images[self._prediction_path(side.key)].labels if side.prediction else None

    def _prediction(self, side: SideFacts) -> ShownPrediction | None:
        labels, facts = self._predicted(side), side.prediction
        if labels is None or facts is None:
            return None
        names = {int(value): name for value, name in facts["labels"].items()}
        return ShownPrediction(labels, names, facts["model"], facts["model_sha256"])

    def _other_side(self, side: SideFacts) -> IntArray | None:
        other: Side = "R" if side.hemi == "L" else "L"
        path = self._prediction_path((side.participant, side.session, other))
        return self._images[path].labels if self._images.facts(path) else None

    def _prediction_path(self, key: SideKey) -> Path:
        return self.layout.session(*key[:2]).prediction(key[2])


def why_outdated(layout: OutputLayout, table: ReviewTable, approval: Approval, images: ImageSnapshots) -> str | None:
    """Say why an approval of the ledger counts no longer: its row says something else, or what was drawn changed.

    None when it counts. An approval that did not come of the table has no row to be held against, and counts.
    """
    if not approval.decision:
        return None
    if any(problem.key == approval.key for problem in table.problems):
        return f"its row in {layout.review_table.name} cannot be used: run review"
    row = table.deciding_rows().get(approval.key)
    if row is None:
        return f"its row in {layout.review_table.name} is gone: run review"
    if row.status != "approved":
        return f"its row in {layout.review_table.name} changed to {row.status!r} since: run review"
    if not row.is_decision(approval.decision, approval.comment):
        return f"its row in {layout.review_table.name} was edited since: run review"
    try:
        candidate = find_candidate(layout, read_side(layout, *approval.key, images))
    except HippoTuneError as error:
        return error.message
    return why_drawing_changed(layout, approval, candidate, images)


def why_drawing_changed(
    layout: OutputLayout, approval: Approval, candidate: Candidate | None, images: ImageSnapshots
) -> str | None:
    """Say how what a person drew differs from what was approved; None when it does not, or when nothing was drawn."""
    source = candidate.source if candidate and candidate.source != "prediction" else None
    if approval.source != "prediction" and source is None:
        return f"the {SOURCE_WORDS[approval.source]} that was approved on {approval.when} is gone"
    if candidate is None or source is None or images[candidate.path].file_sha256 == approval.source_sha256:
        return None
    if source != approval.source:
        return f"a {SOURCE_WORDS[source]} came after the {SOURCE_WORDS[approval.source]} was approved"
    grids = CropGrids(layout.session(approval.participant, approval.session), images)
    drawn, approved = (
        read_label_file(path, approval.hemi, grids, images).labels
        for path in (candidate.path, layout.approved_label(*approval.key))
    )
    if drawn is not None and approved is not None and np.array_equal(drawn, approved):
        return None
    return (
        f"{candidate.path.name} changed after it was approved by {approval.rater} on {approval.when}: "
        f"saved last {_when_and_by_whom(candidate.path)}"
    )


def _when_and_by_whom(path: Path) -> str:
    """``on 2026-11-25 13:40 by ada``, as the file system knows it."""
    when = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    try:
        return f"on {when} by {path.owner()}"
    except KeyError:  # a user without a name, as in containers
        return f"on {when} by user {path.stat().st_uid}"


def _what_changed(before: dict[str, Any], now: dict[str, Any], candidate: Candidate) -> str | None:
    """What a person who decided after the last review has not seen; a correction is their own work."""
    if not before or candidate.source == "manual":
        return "the correction is gone" if before.get("source") == "manual" and candidate.source != "manual" else None
    if before.get("source") != candidate.source:
        was = SOURCE_WORDS.get(before["source"], "nothing") if before.get("source") else "nothing"
        return f"at the last review there was {was}, now it is {SOURCE_WORDS[candidate.source]}"
    if before.get("label") != now["label"]:
        return f"the {SOURCE_WORDS[candidate.source]} changed since the last review"
    return None


def _read_shown(layout: OutputLayout) -> dict[str, dict[str, Any]]:
    path = layout.shown
    if not path.exists():
        return {}
    hint = "Restore it from a backup; without it, every side counts as never shown."
    content = read_json(path, hint)
    try:
        if all(isinstance(one, dict) and {"source", "label", "crop"} <= one.keys() for one in content.values()):
            return dict(content)
        raise ValueError("its entries are not those of review")
    except (ValueError, AttributeError) as error:
        raise BadDataError(f"{path} is damaged: {error}", hint) from error


def _damage_words(error: Exception) -> str:
    return f"a file of this side is damaged ({type(error).__name__}: {error})"


def _state_of(row: ReviewRow) -> State:
    return row.status if row.status in ("needs_edit", "rejected") else "open"
