"""The archive to publish: an exported model with its licence, its card and how to cite it."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, get_args

from pydantic import BaseModel, BeforeValidator

from bidsapp.bids.people import shorten_list
from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.evaluation.scores import MeasureSummary
from bidsapp.exchange.archives import MAX_MEMBER_BYTES, open_archive
from bidsapp.exchange.export import write_zip
from bidsapp.exchange.loading import MANIFEST, LoadedModel, load_model
from bidsapp.exchange.plans import Json
from bidsapp.files import check_values, create_bytes_once, parse_json, read_json, typed_json
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.fingerprints import FINGERPRINTS, fingerprints_of_training, read_fingerprints
from bidsapp.model_dir.state import SCRATCH, ModelState, read_state
from bidsapp.models.licences import Parent, check_licence, check_parents
from bidsapp.pairs.origins import say_kinds
from bidsapp.records import LabelKind
from bidsapp.sharing.model_card import SharedModel, citation, model_card
from bidsapp.sharing.privacy import known_secrets, scan_for_leaks
from bidsapp.tsv import read_tsv

log = logging.getLogger(__name__)

CARD, CITATION = "MODEL_CARD.md", "CITATION.cff"
EXPORT_AGAIN = "Export it with the group level, --iterations 0."
_SUMMARY = {
    "labels": dict[str, dict[str, MeasureSummary]],
    "all_labels": dict[str, MeasureSummary],
    "too_few": bool,
    "notes": list[str],
}
"""What the card needs of summary.json."""
FEWEST_PEOPLE = 5  # ages of fewer say too much of each


def _statement(labels_from: object) -> object:
    if not isinstance(labels_from, dict):
        raise ValueError(f"is {ascii(labels_from)[:80]}, not an object")
    return labels_from.get("statement", "how the labels came is not known")


class Manifest(BaseModel):
    """What the card needs of hippotune.json; older versions wrote less, and there may be more."""

    hippotune: str
    nnunetv2: str
    iterations: int | None = None
    people: dict[str, int] = {}
    """Part of the split -> number of people."""
    space: str = "network space"
    labels_from: Annotated[str, BeforeValidator(_statement)] = "how the labels came is not known"
    label_kinds: dict[str, dict[str, int]] = {}
    """Part of the split -> kind of label -> how many; empty in exports of older versions."""
    leakage: str = ""
    pairs: list[str] = []
    storage: dict[str, str] = {}
    parents: tuple[Parent, ...] = ()


@dataclass(frozen=True)
class Export:
    """One of our exports, in memory."""

    dataset: str
    """The one folder at the top."""
    manifest: Json
    """hippotune.json as it is: what is not in `stated` is passed on."""
    stated: Manifest
    files: dict[str, bytes]
    """Name below `dataset` -> content, without the manifest."""


def export_model(
    model_dir: Path,
    destination: Path,
    *,
    licence: str,
    include_demographics: bool = False,
    participants: Path | None = None,
    title: str | None = None,
    authors: Sequence[str] = (),
    about: str = "",
    with_fingerprints: bool = False,
) -> Path:
    """Write the newest export of `model_dir` as an archive to publish.

    It is the export that plain nnU-Net installs, with ``MODEL_CARD.md``, ``CITATION.cff`` and a manifest that names
    the licence below the same Dataset folder.

    Parameters
    ----------
    licence
        SPDX id, or ``LicenseRef-...``.
    include_demographics, participants
        Say how old the people are (mean, SD, range) and of which sex, from this participants.tsv.
    authors
        As ``Family, Given``, or names of groups.
    about
        Markdown for the card: which data, for whom, where the model ends.
    with_fingerprints
        Let it answer whether an image was in its training, as `bidsapp.model_dir.fingerprints` does.

    Returns
    -------
    Path
        `destination`.

    Raises
    ------
    UsageError
        When the licence is not known or breaks that of a parent, `destination` exists, or ages are asked for without
        a table.
    NoInputError
        When there is no export, no table of participants, or nothing to make fingerprints of.
    BadDataError
        When the export was changed, or what would be packed holds what must not leave.
    """
    licence = check_licence(licence)
    layout = ModelLayout(model_dir)
    if destination.exists():
        raise UsageError(f"{destination} exists", "Name a new file; nothing that may be published is overwritten.")
    if include_demographics and participants is None:
        raise UsageError("ages and sex are asked for, and no participants.tsv is named", "Name that of BIDS_DIR.")
    if not layout.current_export.is_file():
        raise NoInputError(f"{layout.current_export} does not exist", "Train and export with the group level first.")
    loaded = load_model(layout.current_export)  # verifies every file
    export, state = read_export(layout.current_export), read_state(layout)
    parents = _parents(export.stated, state)
    check_parents(licence, parents)
    for parent in parents:
        if parent.license is None:
            log.warning("%s, from which this model was trained, states no licence: ask its owner first", parent.name)
    demographics = _demographics(participants, state) if include_demographics and participants else ()
    if with_fingerprints:
        export.manifest[FINGERPRINTS] = _fingerprints(layout, state)
    model = _describe(
        export, loaded, layout, state, licence=licence, title=title, authors=tuple(authors), parents=parents,
        demographics=demographics, about=about,
    )  # fmt: skip
    files = _files(export, model)
    _refuse_leaks(files, layout, state, destination, model.authors)
    _write(files, destination)
    return destination


def _fingerprints(layout: ModelLayout, state: ModelState | None) -> dict[str, object]:
    if state is None:
        raise NoInputError(f"{layout.state} does not exist: no fingerprints can be made", "Export without them.")
    return fingerprints_of_training(state)


def read_export(archive: Path) -> Export:
    """The files of one of our exports.

    Raises
    ------
    BadDataError
        When it is none.
    """
    with open_archive(archive, lambda name: False, 0) as members:
        content = {name: members.read(name, MAX_MEMBER_BYTES) for name in members.names}
    folders = {PurePosixPath(name).parts[0] for name in content}
    dataset = folders.pop() if len(folders) == 1 else ""
    name = f"{dataset}/{MANIFEST}"
    try:
        manifest = parse_json(content[name], f"{name} in {archive}")
    except (KeyError, BadDataError) as error:
        raise BadDataError(f"{archive} is no export of HippoTune", EXPORT_AGAIN) from error
    try:
        stated = typed_json(Manifest, manifest, more=True)
    except ValueError as error:
        raise BadDataError(f"{name} in {archive} cannot be used: {error}", EXPORT_AGAIN) from error
    inside = {name.removeprefix(f"{dataset}/"): one for name, one in content.items()}
    del inside[MANIFEST]
    return Export(dataset, manifest, stated, inside)


def _files(export: Export, model: SharedModel) -> dict[str, bytes]:
    """Name in the archive -> content, the manifest included."""
    files = export.files | {CARD: model_card(model).encode(), CITATION: citation(model).encode()}
    manifest = export.manifest | {
        "license": model.licence,
        "title": model.title,
        "authors": list(model.authors),
        "parents": export.manifest.get("parents")
        or [{"name": parent.name, "license": parent.license} for parent in model.parents],
    }
    manifest["sha256"] = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    files[MANIFEST] = (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode()
    return {f"{export.dataset}/{name}": files[name] for name in sorted(files)}


def _refuse_leaks(
    files: Mapping[str, bytes], layout: ModelLayout, state: ModelState | None, destination: Path, authors: Iterable[str]
) -> None:
    public = [word for author in authors for word in (author, *author.replace(",", " ").split())]
    known = known_secrets(layout, state).without(public)
    leaks = [*scan_for_leaks(files, known), *scan_for_leaks({destination.name: b""}, known)]
    if leaks:
        raise BadDataError(
            f"not exported, it holds what must not leave: {shorten_list(map(str, leaks))}",
            "Change the name, title or label that is at fault; a model trained by an older version is exported anew "
            "with --iterations 0.",
        )


def _write(files: Mapping[str, bytes], destination: Path) -> None:
    stream = io.BytesIO()
    write_zip(stream, files.items())
    if not create_bytes_once(destination, stream.getvalue()):
        raise UsageError(f"{destination} exists", "Name a new file; nothing that may be published is overwritten.")


def _parents(stated: Manifest, state: ModelState | None) -> tuple[Parent, ...]:
    """What the export says of the models that it was trained from, else what state.json says."""
    if not stated.parents and state is not None and state.base != SCRATCH:
        return (Parent(f"a model with the digest {state.base}"),)
    return stated.parents


def _describe(
    export: Export,
    loaded: LoadedModel,
    layout: ModelLayout,
    state: ModelState | None,
    *,
    licence: str,
    title: str | None,
    authors: tuple[str, ...],
    parents: tuple[Parent, ...],
    demographics: tuple[str, ...],
    about: str,
) -> SharedModel:
    stated = export.stated
    scores, notes = _scores(layout, state, stated)
    known = read_fingerprints(export.manifest, loaded.source)
    return SharedModel(
        title=title or f"{loaded.name}: hippocampus on {', '.join(loaded.channels)}",
        dataset=export.dataset,
        licence=licence,
        authors=authors,
        people=stated.people,
        iterations=stated.iterations,
        channels=loaded.channels,
        labels=tuple(name for _, name in sorted(loaded.labels.items())),
        spacing_mm=_spacing_mm(loaded),
        space=stated.space,
        labels_from=stated.labels_from,
        scores=scores,
        score_notes=notes,
        label_kinds=_label_kinds(stated),
        demographics=demographics,
        parents=parents,
        about=about,
        leakage=stated.leakage,
        fingerprints=len(known.parts) if known else 0,
        pairs=tuple(stated.pairs),
        storage=stated.storage,
        versions={"HippoTune": stated.hippotune, "nnunetv2": stated.nnunetv2},
    )


def _spacing_mm(loaded: LoadedModel) -> tuple[float, float, float]:
    """Voxel size (x, y, z): plans hold it along the axes that nnU-Net turned to the front."""
    planned = loaded.plans["configurations"][loaded.configuration]["spacing"]
    z, y, x = (float(planned[axis]) for axis in loaded.plans["transpose_backward"])
    return x, y, z


def _label_kinds(stated: Manifest) -> str:
    """How the labels to train on came about, in words; empty for exports of older versions."""
    counts = stated.label_kinds.get("train", {})
    return say_kinds({kind: counts[kind] for kind in get_args(LabelKind) if kind in counts})


def _scores(
    layout: ModelLayout, state: ModelState | None, stated: Manifest
) -> tuple[dict[str, dict[str, MeasureSummary]], tuple[str, ...]]:
    """The test of exactly these weights, by label and over all, and what must be said with it.

    Nothing where the model was trained or tested again since, and no numbers of too few people.
    """
    current = state.current if state is not None else None
    of_these = current is not None and (current.stage, current.target) == ("exported", stated.iterations)
    if not of_these or not layout.summary.is_file():
        log.warning("the card states no scores: %s holds none of exactly this export", layout.test)
        return {}, ()
    summary = read_json(layout.summary)
    try:
        check_values(summary, _SUMMARY, needed=("labels", "all_labels"))
        measured = {**summary["labels"], "all labels": summary["all_labels"]}
        scores: dict[str, dict[str, MeasureSummary]] = {
            name: {key: typed_json(MeasureSummary, measures[key], name=f"{name}.{key}") for key in ("dice", "hd95_mm")}
            for name, measures in measured.items()
        }
    except (KeyError, ValueError) as error:
        raise BadDataError(f"{layout.summary} cannot be used: {error}", "Test again with --iterations 0.") from error
    return {} if summary.get("too_few") else scores, tuple(summary.get("notes", ()))


def _demographics(table: Path, state: ModelState | None) -> tuple[str, ...]:
    """Mean, SD and range of the ages, and how many of each sex, of the people of the model."""
    own = [case for case in state.cases.values() if not case.rehearsal] if state else []
    people = {case.participant.removeprefix("sub-") for case in own}
    rows = read_tsv(table, ["participant_id"])
    cells = [row.cells for row in rows if row.cells["participant_id"].removeprefix("sub-") in people]
    if len(cells) < FEWEST_PEOPLE:
        log.warning("%s lists %d people of this model: no ages are stated below %d", table, len(cells), FEWEST_PEOPLE)
        return ()
    ages = [age for age in (_number(row.get("age", "")) for row in cells) if age is not None]
    lines = []
    if len(ages) >= FEWEST_PEOPLE:
        spread = f"mean {statistics.mean(ages):.0f}, SD {statistics.stdev(ages):.0f}"
        lines.append(f"Ages in years: {spread}, {min(ages):.0f} to {max(ages):.0f} ({len(ages)} of {len(people)}).")
    sexes = Counter(row.get("sex", "n/a") or "n/a" for row in cells)
    if set(sexes) != {"n/a"}:
        lines.append("Sex: " + ", ".join(f"{count} {sex}" for sex, count in sorted(sexes.items())) + ".")
    return tuple(lines)


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
