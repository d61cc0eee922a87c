"""Pack a trained model, and search it before it may leave."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

from bidsapp.exchange.export import zip_model
from bidsapp.files import copy_file
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.lineage import known_digests, lineage_so_far, say_leakage
from bidsapp.model_dir.state import ModelState
from bidsapp.pairs.origins import count_kinds
from bidsapp.records import LabelTrust
from bidsapp.sharing.privacy import known_secrets, scan_archive

log = logging.getLogger(__name__)


def pack_model(layout: ModelLayout, state: ModelState, folder: Path, iteration: int) -> tuple[Path, tuple[str, ...]]:
    """Pack the model in `folder` and search it; one that must not leave gets a name that nobody takes for an export.

    Returns
    -------
    tuple of Path and tuple of str
        The archive, and what it holds that must not leave, each with its place.
    """
    staged = layout.staged_export(iteration)
    zip_model(folder, staged)
    leaks = tuple(str(leak) for leak in scan_archive(staged, known_secrets(layout, state)))
    for leak in leaks:
        log.debug("must not leave: %s", leak)
    date = datetime.now().strftime("%Y-%m-%d")
    archive = layout.refused_export(iteration, date) if leaks else layout.exported_model(iteration)
    copy_file(staged, archive)
    return archive, leaks


def public_facts(layout: ModelLayout, state: ModelState, iteration: int) -> dict[str, object]:
    """The facts of its training that an export states: numbers, never people."""
    own = [case for case in state.cases.values() if not case.rehearsal]
    people = {part: len({case.participant for case in own if case.split == part})
              for part in ("train", "validation", "test")}  # fmt: skip
    return {
        "iterations": iteration,
        "rehearsed_pairs": len(state.cases) - len(own),
        "people": people,
        "labels": list(state.labels.values()),
        "channels": list(state.channels),
        "labels_from": say_trust([segment.vouched for segment in state.segments]),
        "space": "network space: left hemispheres are flipped along the first axis",
        "storage": {side: axes for side, axes in state.storage.items() if side in {case.hemi for case in own}},
        "pairs": list(dict.fromkeys(line for segment in state.segments for line in segment.pairs)),
        "parents": list(state.parents),
        "leakage": say_leakage(lineage_so_far(state)),
        "ancestors": list(known_digests(layout, state)),
        "label_kinds": {
            part: count_kinds(case.origin for case in own if case.split == part)
            for part in ("train", "validation", "test")
        },
    }


def say_trust(vouched: list[LabelTrust]) -> dict[str, object]:
    """Who answers for the labels of all segments: the user as soon as one segment took their word; numbers."""
    last = vouched[-1]
    in_part = any(one.by == "user" for one in vouched)
    statement = LabelTrust("user") if in_part else last
    facts: dict[str, object] = {"statement": str(statement)}
    if last.by == "review":
        facts |= {"approvals": last.approvals, "raters": last.raters}
    return facts
