"""The review level: what people decided about label maps is checked, and what passes is recorded as approved.

Every side with a crop has a row in labels/review.tsv. A row that says `approved` is looked up: the correction that
a person saved, else another tool's label map, else the prediction. Guards look at it; what they let pass is copied,
fingerprinted and written into the ledger, and only that becomes a training pair.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bidsapp import __version__
from bidsapp.errors import NoInputError, PartialFailureError
from bidsapp.files import sweep_unfinished
from bidsapp.guards.label_guards import DEFAULT_LIMITS
from bidsapp.layout import OutputLayout
from bidsapp.logs import add_log_file
from bidsapp.printable import plural, printable
from bidsapp.progress import progress_over
from bidsapp.records import LeftIs, SideKey
from bidsapp.report.people_pages import sides_with_a_crop
from bidsapp.report.review_pictures import draw_side
from bidsapp.report.review_report import STATES, ReviewLine, count_states, write_review_page
from bidsapp.review.decisions import ReviewDesk, SideOutcome, State
from bidsapp.review.imports import import_labels
from bidsapp.review.labels_dataset import describe_labels_dataset
from bidsapp.review.ledger import labels_lock
from bidsapp.review.settings import read_limits, write_limits
from bidsapp.review.snapshots import ImageSnapshots
from bidsapp.review.table import ReviewTable, add_rows, read_review_table
from bidsapp.serving import ServeOptions

log = logging.getLogger(__name__)

_COLOURS: dict[State, str] = {"refused": "31", "needs_edit": "33", "open": "33", "rejected": "2", "approved": "32"}


@dataclass(frozen=True)
class ReviewRequest:
    """What the command line asks of the review level."""

    layout: OutputLayout
    derivatives: tuple[Path, ...] = ()
    """Data sets of other tools whose label maps are brought in for review."""
    fix_header: bool = False
    """Give corrections that differ from their crop in the header alone the crop's header."""
    dry_run: bool = False
    training_dir: Path | None = None
    """A folder of pairs that were made elsewhere, to be looked at instead of the crops."""
    left_is: LeftIs | None = None
    participant_pattern: str | None = None
    """How its left sides are stored, and how to find a person in an id: as the group level takes them."""
    serve: ServeOptions | None = None
    """Let people decide in the browser; None: act on what the table says."""


def run(request: ReviewRequest) -> None:
    """Add rows, check decisions, record approvals, and show where the review stands.

    Raises
    ------
    PartialFailureError
        When rows could not be read, or labels were refused.
    NoInputError
        When there is nothing to review.
    CannotWriteError
        When another run works on the labels for long, or the table was changed meanwhile.
    """
    layout = request.layout
    if request.training_dir is not None:
        _review_pairs(request, request.training_dir)
        return
    sides = sides_with_a_crop(layout)
    if not sides:
        raise NoInputError(
            f"{layout.root} has no crops to review", "Run first: run.py BIDS_DIR OUTPUT_DIR participant --model MODEL"
        )
    if request.dry_run:
        log.info("dry run: %s would be reviewed; nothing was written to %s", plural(len(sides), "side"), layout.labels)
        return
    when = datetime.now().astimezone().replace(microsecond=0)
    with labels_lock(layout):
        sweep_unfinished(layout.labels, alone=False)
        describe_labels_dataset(layout)
        add_log_file(layout.review_log(f"{when:%Y-%m-%dT%H%M%S}"))
        log.debug("HippoTune %s, %s", __version__, request)
        images = ImageSnapshots()
        words = [problem for folder in request.derivatives for problem in import_labels(layout, folder, sides, images)]
        table = _open_table(layout, sides)
        if request.serve is None:
            lines = _review(request, table, when, images)
    if request.serve is not None:
        _serve(layout, request.serve, words)
        return
    outcomes = [line.outcome for line in lines]
    words += [f"line {problem.line}: {problem.words}" for problem in table.problems]
    write_review_page(layout.review_page, lines, problems=words, written=f"{when:%Y-%m-%d %H:%M}")
    _show(outcomes, words)
    _conclude(layout, outcomes, words)


def _review_pairs(request: ReviewRequest, folder: Path) -> None:
    """Look at a folder of pairs: table and page, and what keeps pairs from being trained on."""
    from bidsapp.images.orientation import mirrored_axes
    from bidsapp.levels.pair_folder import ShownPairs, are_mirrored, examine_folder
    from bidsapp.pairs.check_pairs import format_findings
    from bidsapp.pairs.left_headers import true_headers
    from bidsapp.pairs.pairs import find_pairs, say_pairs
    from bidsapp.pairs.pairs_table import read_pairs_tables

    layout = request.layout
    rows = read_pairs_tables(layout.pairs_table)
    choices: dict[str, Any] = {
        "participant_pattern": request.participant_pattern,
        "left_is": request.left_is,
        "rows": rows,
        "by_content": true_headers,
    }
    found = find_pairs(folder, **choices)
    shown = None if request.dry_run else ShownPairs(layout.pairs_table, layout.pairs_page)
    seen = examine_folder(folder, found, rows, shown=shown)
    if are_mirrored(seen):
        log.warning("%s; nothing says which side they show, so they are mirrored", seen.turned)
        found = find_pairs(folder, **choices, storage={"n/a": mirrored_axes(found.storage["n/a"])})
        seen = examine_folder(folder, found, rows, shown=shown)
    for line in (*say_pairs(found, example=True), *([seen.turned] if seen.turned else []), *seen.notes):
        log.info("%s", line)
    if shown is not None:
        log.info("look at:   %s", shown.page)
        log.info("decide in: %s", shown.table)
    bad = {one.case for one in seen.findings}
    if seen.turned or bad:
        listed = f":\n{format_findings(seen.findings)}" if bad else ""
        words = f"{len(bad)} of {len({pair.case for pair in found.pairs} | bad)} pairs would be refused{listed}"
        hints = dict.fromkeys(one.hint for one in seen.findings if one.hint)
        raise PartialFailureError(f"{seen.turned}; {words}" if seen.turned else words, "\n".join(hints))
    log.info("%s, and nothing was found", plural(len(found.pairs), "pair"))


def _serve(layout: OutputLayout, options: ServeOptions, problems: Sequence[str]) -> None:
    from bidsapp.editor.server import serve

    for problem in problems:
        log.warning(printable(problem))
    serve(layout, options)


def _open_table(layout: OutputLayout, sides: Sequence[SideKey]) -> ReviewTable:
    """The table, with a row for every side."""
    write_limits(layout.review_settings, DEFAULT_LIMITS)
    added = add_rows(layout.review_table, read_review_table(layout.review_table), sides)
    if added:
        log.info("%d new rows, pending, in %s", added, layout.review_table)
    table = read_review_table(layout.review_table)
    for note in table.sheet.notes:
        log.info("%s: %s", layout.review_table.name, note)
    return table


def _review(request: ReviewRequest, table: ReviewTable, when: datetime, images: ImageSnapshots) -> list[ReviewLine]:
    """Act on the table, and draw every side while its voxels are in memory."""
    layout = request.layout
    limits = read_limits(layout.review_settings)
    desk = ReviewDesk(layout, limits, images, when=when, mend_headers=request.fix_header)
    lines = []
    try:
        for rows in progress_over(list(table.rows_of_sides().values()), "sides"):
            outcome = desk.decide(rows)
            lines.append(ReviewLine(outcome, draw_side(layout, outcome.key, outcome.label, images)))
            images.drop_voxels()
    finally:
        desk.close()
    return lines


def _show(outcomes: Sequence[SideOutcome], problems: Sequence[str]) -> None:
    """One line per side on the screen, in colour on a terminal; those who need a person come last, where eyes are."""
    for outcome in sorted(outcomes, key=lambda one: (-STATES.index(one.state), one.name)):
        said = "; ".join((*outcome.reasons, *outcome.notes))
        by = f" by {outcome.rater}" if outcome.rater else ""
        words = f"{outcome.name}: {outcome.source or 'nothing'}{by}{f' ({said})' if said else ''}"
        state, colour = outcome.state.replace("_", " "), _COLOURS[outcome.state]
        log.info("  %-10s %s", state, printable(words), extra={"colour": colour})
    for problem in problems:
        log.warning(printable(problem))


def _conclude(layout: OutputLayout, outcomes: Sequence[SideOutcome], problems: Sequence[str]) -> None:
    log.info("%s", count_states(outcomes))
    log.info("decide in: %s", layout.review_table)
    log.info("look at:   %s", layout.review_page)
    refused = [f"{one.name}: {'; '.join(one.reasons)}" for one in outcomes if one.state == "refused"]
    if refused or problems:
        raise PartialFailureError(
            "not approved:\n  " + "\n  ".join(map(printable, [*refused, *problems])),
            "Mend what is named, and run review again.",
        )
