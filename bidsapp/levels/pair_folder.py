"""Check a folder of pairs from a user, and list every pair with its findings in a table and on a page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from bidsapp.guards.label_guards import WHOLE, Finding
from bidsapp.guards.likeness import MIRRORED
from bidsapp.images.volumes import Volume
from bidsapp.labels.tables import label_table_from_values, read_label_table
from bidsapp.layout import annotation_file, label_table_file
from bidsapp.pairs.annotated import Annotated, read_annotated
from bidsapp.pairs.check_pairs import ExaminedPairs, examine_pairs
from bidsapp.pairs.pairs import FoundPairs
from bidsapp.pairs.pairs_table import CONTENT, PairRow, update_pairs_table
from bidsapp.pictures.drawing import Picture
from bidsapp.records import LabelTable, Pair
from bidsapp.report.pairs_page import PairLine, pair_picture, write_pairs_page

log = logging.getLogger(__name__)

WHOLE_VALUE = 0


@dataclass(frozen=True)
class ShownPairs:
    """Where a folder is shown: its table, its page, and address and words of the page to go back to."""

    table: Path
    page: Path
    back: tuple[str, str] | None = None


def examine_folder(
    folder: Path,
    found: FoundPairs,
    rows: Mapping[str, PairRow],
    *,
    table: LabelTable | None = None,
    shown: ShownPairs | None = None,
) -> ExaminedPairs:
    """Check the pairs of a folder and compare them with each other; write table and page, also when pairs are refused.

    Parameters
    ----------
    rows
        Case -> its row in pairs.tsv.
    table
        Names of the label values; None: those that the folder gives.
    shown
        None: nothing is written.

    Raises
    ------
    BadDataError
        When labels.tsv or annotated.tsv cannot be read.
    CannotWriteError
        When table or page cannot be written.
    """
    table, annotated = labels_of_folder(folder, found, table)
    if shown is None:
        return examine_pairs(found, table=table, annotated=annotated, guarded=True, rows=rows)
    values: dict[int, None] = dict.fromkeys(table.names if table else ())  # in the order of their colours
    pictures: dict[str, Picture] = {}

    def draw(pair: Pair, image: Volume, labels: Volume) -> None:
        values.update(dict.fromkeys(int(value) for value in np.unique(labels.data) if value))
        pictures[pair.case] = pair_picture(image.data, labels.data, image.spacing_mm.tolist(), list(values))

    seen = examine_pairs(found, table=table, annotated=annotated, guarded=True, rows=rows, show_pair=draw)
    names = label_table_from_values(values).names | (table.names if table else {})
    _show(shown, folder, seen, {value: names[value] for value in values}, pictures)
    log.info("every pair, with what was found: %s", shown.page)
    return seen


def labels_of_folder(folder: Path, found: FoundPairs, table: LabelTable | None) -> tuple[LabelTable | None, Annotated]:
    """The names of label values, and which of them pairs annotate that do not annotate all."""
    labels, partly = label_table_file(folder), annotation_file(folder)
    table = table or (read_label_table(labels) if labels.exists() else found.table)
    cases = {*(pair.case for pair in found.pairs), *(finding.case for finding in found.findings)}
    return table, read_annotated(partly, cases, table) if partly.exists() else {}


def are_mirrored(seen: ExaminedPairs) -> bool:
    """Whether pairs without a side are mirrored left to right, compared with the template."""
    return bool(seen.turned) and seen.usual == MIRRORED and all(pair.hemi == "n/a" for pair in seen.found.pairs)


def _show(
    shown: ShownPairs, folder: Path, seen: ExaminedPairs, names: Mapping[int, str], pictures: Mapping[str, Picture]
) -> None:
    cells = {pair.case: _cells(pair, seen, names) for pair in seen.found.pairs}
    update_pairs_table(shown.table, cells)
    known = {WHOLE_VALUE: WHOLE, **names}
    refused, accepted = _by_case(seen.findings), _by_case(seen.accepted)
    cases = dict.fromkeys([*cells, *refused])
    lines = [
        PairLine(
            case,
            pictures.get(case),
            {known[value]: volume for value, volume in sorted(seen.volumes_mm3.get(case, {}).items())},
            [f"{one.guard or one.file.name}: {one.problem}" for one in refused.get(case, [])],
            [f"{one.guard}: {one.problem}" for one in accepted.get(case, [])],
            {name: cells[case][name] for name in ("person", "side", "stored", "turned_to")} if case in cells else None,
        )
        for case in cases
    ]
    notes = [seen.turned, *seen.notes] if seen.turned else list(seen.notes)
    write_pairs_page(
        shown.page, lines, names=names, notes=notes, folder=folder.name, back=shown.back,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )  # fmt: skip


def _cells(pair: Pair, seen: ExaminedPairs, names: Mapping[int, str]) -> dict[str, str]:
    """The cells of a pair: its person and side, how it is stored and turned, volumes, findings, fingerprint."""
    volumes = seen.volumes_mm3.get(pair.case, {})
    of_pair = [one for one in (*seen.findings, *seen.accepted) if one.case == pair.case]
    return {
        "person": pair.participant,
        "side": pair.hemi,
        "stored": seen.found.stored.get(pair.case, ""),
        "turned_to": pair.axes,
        "findings": ", ".join(dict.fromkeys(one.guard or "file" for one in of_pair)),
        **{f"{name}_mm3": f"{volumes[value]:.0f}" if value in volumes else "" for value, name in names.items()},
        CONTENT: seen.content.get(pair.case, ""),
    }


def _by_case(findings: tuple[Finding, ...]) -> dict[str, list[Finding]]:
    grouped: dict[str, list[Finding]] = {}
    for one in findings:
        grouped.setdefault(one.case, []).append(one)
    return grouped
