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
from typing import Any, get_args

from bidsapp.bids.people import shorten_list
from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.evaluation.scores import MeasureSummary
from bidsapp.exchange.archives import MAX_MEMBER_BYTES, open_archive
from bidsapp.exchange.export import write_zip
from bidsapp.exchange.loading import MANIFEST, LoadedModel, load_model
from bidsapp.files import check_values, create_bytes_once, parse_json, read_json
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.fingerprints import FINGERPRINTS, fingerprints_of_training, read_fingerprints
from bidsapp.model_dir.state import SCRATCH, ModelState, read_state
from bidsapp.models.licences import Parent, check_licence, check_parents
from bidsapp.pairs.origins import say_kinds
from bidsapp.records import LabelKind
from bidsapp.sharing.model_card import LabelScores, Score, SharedModel, citation, model_card
from bidsapp.sharing.privacy import known_secrets, scan_for_leaks
from bidsapp.tsv import read_tsv

log = logging.getLogger(__name__)

CARD, CITATION = "MODEL_CARD.md", "CITATION.cff"
EXPORT_AGAIN = "Export it with the group level, --iterations 0."
FEWEST_PEOPLE = 5  # ages of fewer say too much of each
_PARENT = {
    "name": str,
    "license": str | None,
    "people": dict[str, int] | None,
    "labels": list[str] | None,
    "channels": list[str] | None,
}
_MANIFEST = {
    "hippotune": str,
    "nnunetv2": str,
    "iterations": int | None,
    "people": dict[str, int],
    "space": str,
    "labels_from": dict[str, Any],
    "label_kinds": dict[str, dict[str, int]],
    "leakage": str,
    "pairs": list[str],
    "storage": dict[str, str],
    "parents": list[dict[str, Any]],
}
"""What the card reads of hippotune.json; older versions said less, and there may be more."""
_SUMMARY = {
    "labels": dict[str, dict[str, MeasureSummary]],
    "all_labels": dict[str, MeasureSummary],
    "too_few": bool,
    "notes": list[str],
}
"""The same of summary.json."""


@dataclass(frozen=True)
class Packed:
    """An export as files in memory.

    Attributes
    ----------
    dataset
        The one folder at the top.
    files
        Name below `dataset` -> content, without the manifest.
    """

    dataset: str
    manifest: dict[str, Any]
    files: dict[str, bytes]


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
    packed, state = read_export(layout.current_export), read_state(layout)
    parents = _parents(packed.manifest, state)
    check_parents(licence, parents)
    for parent in parents:
        if parent.licence is None:
            log.warning("%s, from which this model was trained, states no licence: ask its owner first", parent.name)
    demographics = _demographics(participants, state) if include_demographics and participants else ()
    if with_fingerprints:
        packed.manifest[FINGERPRINTS] = _fingerprints(layout, state)
    model = _describe(
        packed, loaded, layout, state, licence=licence, title=title, authors=tuple(authors), parents=parents,
        demographics=demographics, about=about,
    )  # fmt: skip
    files = _files(packed, model)
    _refuse_leaks(files, layout, state, destination, model.authors)
    _write(files, destination)
    return destination


def _fingerprints(layout: ModelLayout, state: ModelState | None) -> dict[str, object]:
    if state is None:
        raise NoInputError(f"{layout.state} does not exist: no fingerprints can be made", "Export without them.")
    return fingerprints_of_training(state)


def read_export(archive: Path) -> Packed:
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
        check_values(manifest, _MANIFEST, needed=("hippotune", "nnunetv2"))
        check_values(manifest.get("labels_from", {}), {"statement": str})
        for parent in manifest.get("parents", ()):
            check_values(parent, _PARENT, needed=("name",))
    except ValueError as error:
        raise BadDataError(f"{name} in {archive} cannot be used: {error}", EXPORT_AGAIN) from error
    inside = {name.removeprefix(f"{dataset}/"): one for name, one in content.items()}
    del inside[MANIFEST]
    return Packed(dataset, manifest, inside)


def _files(packed: Packed, model: SharedModel) -> dict[str, bytes]:
    """Name in the archive -> content, the manifest included."""
    files = packed.files | {CARD: model_card(model).encode(), CITATION: citation(model).encode()}
    manifest = packed.manifest | {
        "license": model.licence,
        "title": model.title,
        "authors": list(model.authors),
        "parents": packed.manifest.get("parents") or [_stated(parent) for parent in model.parents],
    }
    manifest["sha256"] = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    files[MANIFEST] = (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode()
    return {f"{packed.dataset}/{name}": files[name] for name in sorted(files)}


def _refuse_leaks(
    files: Mapping[str, bytes], layout: ModelLayout, state: ModelState | None, destination: Path, authors: Iterable[str]
) -> None:
    told = [word for author in authors for word in (author, *author.replace(",", " ").split())]
    known = known_secrets(layout, state).without(told)
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


def _parents(manifest: Mapping[str, Any], state: ModelState | None) -> tuple[Parent, ...]:
    """What the export says of the models that it was trained from, else what state.json says."""
    listed = manifest.get("parents", [])
    if listed:
        return tuple(_parent(one) for one in listed)
    if state is not None and state.base != SCRATCH:
        return (Parent(f"a model with the digest {state.base}"),)
    return ()


def _stated(parent: Parent) -> dict[str, str | None]:
    return {"name": parent.name, "license": parent.licence}


def _parent(facts: Mapping[str, Any]) -> Parent:
    people = facts.get("people")
    trained = people.get("train") if isinstance(people, dict) else None
    labels, channels = (tuple(map(str, facts.get(key) or ())) for key in ("labels", "channels"))
    return Parent(
        str(facts["name"]), facts.get("license"), trained if isinstance(trained, int) else None, labels, channels
    )


def _describe(
    packed: Packed,
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
    manifest = packed.manifest
    scores, notes = _scores(layout, state, manifest)
    return SharedModel(
        title=title or f"{loaded.name}: hippocampus on {', '.join(loaded.channels)}",
        dataset=packed.dataset,
        licence=licence,
        authors=authors,
        people=manifest.get("people", {}),
        iterations=manifest.get("iterations"),
        channels=loaded.channels,
        labels=tuple(name for _, name in sorted(loaded.labels.items())),
        spacing_mm=_spacing_mm(loaded),
        space=manifest.get("space", "network space"),
        labels_from=manifest.get("labels_from", {}).get("statement", "how the labels came is not known"),
        scores=scores,
        score_notes=notes,
        label_kinds=_label_kinds(manifest),
        demographics=demographics,
        parents=parents,
        about=about,
        leakage=str(manifest.get("leakage", "")),
        fingerprints=len(known.parts) if (known := read_fingerprints(manifest, loaded.source)) else 0,
        pairs=tuple(map(str, manifest.get("pairs", ()))),
        storage={str(side): str(axes) for side, axes in manifest.get("storage", {}).items()},
        versions={"HippoTune": manifest["hippotune"], "nnunetv2": manifest["nnunetv2"]},
    )


def _spacing_mm(loaded: LoadedModel) -> tuple[float, float, float]:
    """Voxel size (x, y, z): plans hold it along the axes that nnU-Net turned to the front."""
    planned = loaded.plans["configurations"][loaded.configuration]["spacing"]
    z, y, x = (float(planned[axis]) for axis in loaded.plans["transpose_backward"])
    return x, y, z


def _label_kinds(manifest: Mapping[str, Any]) -> str:
    """How the labels to train on came about, in words; empty for exports of older versions."""
    counts = manifest.get("label_kinds", {}).get("train", {})
    return say_kinds({kind: counts[kind] for kind in get_args(LabelKind) if isinstance(counts.get(kind), int)})


def _scores(
    layout: ModelLayout, state: ModelState | None, manifest: Mapping[str, Any]
) -> tuple[tuple[LabelScores, ...], tuple[str, ...]]:
    """The test of exactly these weights, and what must be said with it.

    Nothing where the model was trained or tested again since, and no numbers of too few people.
    """
    current = state.current if state is not None else None
    of_these = current is not None and (current.stage, current.target) == ("exported", manifest.get("iterations"))
    if not of_these or not layout.summary.is_file():
        log.warning("the card states no scores: %s holds none of exactly this export", layout.test)
        return (), ()
    summary = read_json(layout.summary)
    try:
        check_values(summary, _SUMMARY, needed=("labels", "all_labels"))
        notes = tuple(summary.get("notes", ()))
        if summary.get("too_few"):
            return (), notes
        measured = [*summary["labels"].items(), ("all labels", summary["all_labels"])]
        scores = tuple(LabelScores(name, *(_score(of[key]) for key in ("dice", "hd95_mm"))) for name, of in measured)
        return scores, notes
    except (KeyError, ValueError) as error:
        raise BadDataError(f"{layout.summary} cannot be used: {error}", "Test again with --iterations 0.") from error


def _score(measure: Mapping[str, Any]) -> Score:
    interval = measure["interval_95"]
    return Score(measure["mean"], (interval[0], interval[1]) if interval else None)


def _demographics(table: Path, state: ModelState | None) -> tuple[str, ...]:
    """Mean, SD and range of the ages, and how many of each sex, of the people of the model."""
    own = [case for case in state.cases.values() if not case.rehearsal] if state else []
    people = {case.participant.removeprefix("sub-") for case in own}
    rows = read_tsv(table, ["participant_id"])
    cells = [row.cells for row in rows if row.cells["participant_id"].removeprefix("sub-") in people]
    if len(cells) < FEWEST_PEOPLE:
        log.warning("%s knows %d people of this model: no ages are stated below %d", table, len(cells), FEWEST_PEOPLE)
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
