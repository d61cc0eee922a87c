"""One side as the page shows it: its images, label maps and names, all on the grid of its crop."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bidsapp.editor.drafts import Drafts, crop_mark
from bidsapp.editor.sides import Sides
from bidsapp.errors import BadDataError, HippoTuneError, NoInputError
from bidsapp.guards.label_guards import NEVER_ACCEPTED, Finding
from bidsapp.images.headers import FileGrid
from bidsapp.images.writing import label_image_like
from bidsapp.labels.colours import label_colours
from bidsapp.layout import OutputLayout
from bidsapp.records import Side, SideKey, side_name
from bidsapp.review.candidates import Candidate, SideFacts, find_candidate, read_side
from bidsapp.review.corrections import crop_grid, editing_table, read_on_grid
from bidsapp.review.decisions import Inspection

Json = dict[str, Any]
PREDICTION, CORRECTION, DRAFT = "prediction.nii.gz", "correction.nii.gz", "draft.nii.gz"


@dataclass(frozen=True, eq=False)
class _Shown:
    """What there is of a side, and what is wrong with it in words."""

    side: SideFacts
    grid: FileGrid
    candidate: Candidate | None
    notes: tuple[str, ...]


def describe_side(sides: Sides, drafts: Drafts, key: SideKey) -> Json:
    """Everything of a side but its voxels, and but what the guards say, which takes a while.

    Raises
    ------
    BadDataError
        When its crop, the table or the ledger is damaged.
    """
    name, table = side_name(key), sides.books().table
    line, row = sides.line(name), table.deciding_rows().get(key)
    version = sides.version(key, table)
    shown = _look(sides.layout, key)
    label_maps, notes = _label_maps(sides.layout, drafts, shown, version)
    names, unnamed = _names(sides.layout, shown)
    return {
        "id": name,
        "participant": key[0],
        "session": key[1],
        "hemi": key[2],
        "status": line.status,
        "recorded": line.recorded,
        "rater": line.rater,
        "comment": row.comment if row else "",
        "accept": sorted(row.accept) if row else [],
        "level": line.level,
        "trust": line.trust,
        "reasons": line.reasons,
        "seconds_spent": line.seconds_spent,
        "corrected": line.corrected,
        "source": shown.candidate.source if shown.candidate else None,
        "labels": names,
        "grid": {"shape": shown.grid.shape, "affine": shown.grid.affine.tolist()},
        "images": _images(shown.side),
        **label_maps,
        "other": _other_side(sides, key),
        "notes": [*shown.notes, *notes, *unnamed],
        "guards_never_accepted": sorted(NEVER_ACCEPTED),
        "version": version,
    }


def read_file(layout: OutputLayout, drafts: Drafts, key: SideKey, name: str) -> Path | bytes:
    """One of the files that `describe_side` names: a crop as it lies, or a label map written anew on the crop's grid.

    Raises
    ------
    NoInputError
        When there is none of that name.
    BadDataError
        When it is damaged, or lies elsewhere than its crop.
    """
    side = read_side(layout, *key)
    for modality in side.crops:
        if name == f"{modality}.nii.gz":
            return layout.session(key[0], key[1]).crop(key[2], modality)
    grid = crop_grid(layout, side)
    if name == DRAFT:
        draft = drafts.read(side_name(key), grid)
        if draft is not None:
            return _packed(grid, draft.labels)
    elif name == PREDICTION and side.prediction:
        return _packed(grid, read_on_grid(_prediction(layout, key), grid))
    elif name == CORRECTION:
        candidate = find_candidate(layout, side)
        if candidate is not None and candidate.source != "prediction":
            return _packed(grid, read_on_grid(candidate.path, grid))
    raise NoInputError(f"{side_name(key)} has no {name}")


def describe_findings(layout: OutputLayout, key: SideKey, inspection: Inspection | None) -> list[Json]:
    """What the guards say, with places in voxels of the crop's file."""
    if inspection is None:
        return []
    side = read_side(layout, *key)
    to_crop = np.linalg.inv(crop_grid(layout, side).affine) @ side.grid.affine
    return [_finding(one, inspection, to_crop) for one in inspection.findings]


def _finding(one: Finding, inspection: Inspection, to_crop: np.ndarray) -> Json:
    place, label = None, None
    if one.voxel is not None:
        place = [round(float(index)) for index in (to_crop @ [*one.voxel, 1.0])[:3]]
        labels, table = inspection.file.labels, inspection.table
        if labels is not None and table is not None:
            label = table.names.get(int(labels[one.voxel]))
    return {
        "guard": one.guard,
        "label": label,
        "message": one.problem,
        "blocks": one.blocks,
        "acceptable": one.guard not in NEVER_ACCEPTED,
        "place": place,
    }


def _look(layout: OutputLayout, key: SideKey) -> _Shown:
    side = read_side(layout, *key)
    try:
        return _Shown(side, crop_grid(layout, side), find_candidate(layout, side), ())
    except HippoTuneError as error:  # two corrections, or one that nobody reads: the rest can be looked at
        words = " ".join(filter(None, (error.message, error.hint)))
        return _Shown(side, crop_grid(layout, side), None, (words,))


def _label_maps(
    layout: OutputLayout, drafts: Drafts, shown: _Shown, version: str
) -> tuple[Mapping[str, str | bool | None], Sequence[str]]:
    """Addresses of the label maps that can be shown, and why others cannot."""
    notes: list[str] = []
    found: dict[str, str | bool | None] = {
        "prediction": None,
        "correction": None,
        "draft": None,
        "draft_outdated": False,
    }
    name, candidate = side_name(shown.side.key), shown.candidate
    if shown.side.prediction:
        found["prediction"] = _url(name, PREDICTION)
    if candidate is not None and candidate.source != "prediction":
        try:
            read_on_grid(candidate.path, shown.grid)
            found["correction"] = _url(name, CORRECTION)
        except HippoTuneError as error:
            notes.append(error.message)
    try:
        draft = drafts.read(name, shown.grid)
        if draft is not None:
            outdated = draft.version != version or draft.crop not in ("", crop_mark(shown.side.crop_sha256))
            found |= {"draft": _url(name, DRAFT), "draft_outdated": outdated}
    except BadDataError as error:
        notes.append(f"{error.message} {error.hint}")
    return found, notes


def _names(layout: OutputLayout, shown: _Shown) -> tuple[list[Json], list[str]]:
    """Values, names and colours of what can be painted."""
    try:
        table = editing_table(layout, shown.side)
    except HippoTuneError as error:
        return [], [error.message]
    if table is None:
        return [], [f"nobody says what labels there are: write {layout.label_names} (columns index, name)"]
    colours = label_colours(table.names)
    return [{"value": value, "name": name, "color": colours[value]} for value, name in table.names.items()], []


def _images(side: SideFacts) -> list[Json]:
    return [{"modality": modality, "url": _url(side_name(side.key), f"{modality}.nii.gz")} for modality in side.crops]


def _other_side(sides: Sides, key: SideKey) -> Json | None:
    """The other hemisphere of the same session, for comparison."""
    hemi: Side = "R" if key[2] == "L" else "L"
    name = side_name((key[0], key[1], hemi))
    if name not in sides.by_id():
        return None
    try:
        shown = _look(sides.layout, (key[0], key[1], hemi))
    except HippoTuneError:
        return None
    file = None
    if shown.candidate is not None:
        file = PREDICTION if shown.candidate.source == "prediction" else CORRECTION
    return {"id": name, "images": _images(shown.side), "labels": _url(name, file) if file else None}


def _prediction(layout: OutputLayout, key: SideKey) -> Path:
    return layout.session(key[0], key[1]).prediction(key[2])


def _url(name: str, file: str) -> str:
    return f"/api/sides/{name}/files/{file}"


def _packed(grid: FileGrid, labels: np.ndarray) -> bytes:
    return gzip.compress(label_image_like(labels, grid).to_bytes(), compresslevel=1)
