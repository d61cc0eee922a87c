"""Approved labels as training pairs: the folder MODEL_DIR/training, laid out as --training-dir takes it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bidsapp.content import file_sha256, image_sha256, settings_sha256
from bidsapp.errors import BadDataError, NothingMatchesError
from bidsapp.files import read_json, write_json
from bidsapp.images.orientation import NETWORK_SPACE, turn_volume
from bidsapp.images.volumes import Volume, VolumeError, read_volume
from bidsapp.images.writing import new_image, write_image
from bidsapp.labels.label_map import common_table, read_label_map, renumber, unused_names, value_map
from bidsapp.labels.tables import read_label_table, write_label_table
from bidsapp.layout import (
    OutputLayout,
    annotation_file,
    approved_pairs_file,
    label_table_file,
    origins_file,
    pair_images,
    pair_label,
)
from bidsapp.pairs.annotated import write_annotated
from bidsapp.pairs.check_pairs import label_problems
from bidsapp.pairs.origins import write_origins
from bidsapp.records import Approval, LabelTable, LabelTrust, Modality
from bidsapp.review.decisions import why_outdated
from bidsapp.review.ledger import Approvals, find_approvals
from bidsapp.review.selection import Wanted, select_approvals
from bidsapp.review.snapshots import ImageSnapshots
from bidsapp.review.table import read_review_table

logger = logging.getLogger(__name__)

CHANNEL_ORDER: tuple[Modality, ...] = ("T1w", "T2w")
_FORMAT = 1  # of what we write; another number makes all pairs anew
_REVIEW_HINT = (
    "Approve labels first: run.py BIDS_DIR OUTPUT_DIR review lists what is open and how to approve it. "
    "Or give pairs that you vouch for with --training-dir."
)


@dataclass(frozen=True)
class ApprovedSides:
    """The approved labels that are used, and how they are brought together."""

    output: OutputLayout
    """Where they are."""
    approvals: tuple[Approval, ...]
    """At least one, in order of name."""
    refused: dict[str, str]
    """``sub-01[_ses-1]_hemi-L`` -> why an approval no longer holds."""
    table: LabelTable
    """The common names and values."""
    values: dict[str, dict[int, int]]
    """Name of an approval -> (value in its label map -> value in `table`, 0 for background)."""

    @property
    def people(self) -> frozenset[str]:
        """Everybody, as ``sub-01``."""
        return frozenset(f"sub-{approval.participant}" for approval in self.approvals)

    @property
    def annotated(self) -> dict[str, frozenset[str]]:
        """Case -> names in `table` that its protocol draws, of the cases whose protocol lacks some."""
        names = self.table.names
        drawn = {
            case_of(one): frozenset(names[value] for value in self.values[one.name].values() if value)
            for one in self.approvals
        }
        return {case: known for case, known in drawn.items() if known and known != frozenset(names.values())}

    @property
    def vouched(self) -> LabelTrust:
        """Who answers for the labels, in numbers."""
        return LabelTrust("review", len(self.approvals), len({approval.rater for approval in self.approvals}))


def gather_approved(
    output: OutputLayout,
    wanted: Wanted,
    *,
    label_map: Path | None = None,
    model_table: LabelTable | None = None,
    parent_labels: Collection[str] = (),
) -> ApprovedSides:
    """Find the approved labels, choose among them, and bring their label tables together.

    The common table is OUTPUT_DIR/labels/labels.tsv, else the one that the model was begun with, else that of the
    first approval. Says what is refused, left out and renumbered.

    Parameters
    ----------
    parent_labels
        Names of the model that is started from, which `label_map` may list too.

    Raises
    ------
    NothingMatchesError
        When nothing is approved, nothing of it can be used, or a filter matches nothing.
    BadDataError
        When a label has a name that the common table lacks, and no label map for it.
    """
    images = ImageSnapshots()
    found = find_approvals(output, images=images) if output.labels.is_dir() else Approvals((), {})
    if not found.valid and not found.refused:
        raise NothingMatchesError(f"no label is approved in {output.labels}", _REVIEW_HINT)
    found = _leave_out_changed(output, found, images)
    selection = select_approvals(found.valid, found.refused, wanted)
    for name, reason in selection.left_out.items():
        logger.info("left out: %s (%s)", name, reason)
    for name, reason in selection.refused.items():
        logger.warning("refused: %s: %s", name, reason)
    if not selection.chosen:
        refused = [f"{name}: {reason}" for name, reason in selection.refused.items()]
        what = "; ".join(refused) or f"all {len(selection.left_out)} are left out by the choice of people"
        raise NothingMatchesError(f"no approved label can be used: {what}", _REVIEW_HINT)
    names = read_label_map(label_map) if label_map else {}
    for name in unused_names(names, selection.chosen):
        if name not in parent_labels:
            logger.warning("%s maps %r, which no approved label has", label_map, name)
    standing = read_label_table(output.label_names) if output.label_names.exists() else model_table
    table = common_table(selection.chosen, names, standing=standing)
    values = {approval.name: value_map(approval.labels, table, names) for approval in selection.chosen}
    _say_renumbering(selection.chosen, table, values)
    return ApprovedSides(output, selection.chosen, selection.refused, table, values)


def _leave_out_changed(output: OutputLayout, found: Approvals, images: ImageSnapshots) -> Approvals:
    """Leave out approvals whose row says something else by now, or whose correction changed."""
    table = read_review_table(output.review_table)
    reasons: dict[str, str | None] = {}
    for approval in found.valid:
        reasons[approval.name] = why_outdated(output, table, approval, images)
        images.drop_voxels()
    fallen = {name: reason for name, reason in reasons.items() if reason}
    return Approvals(tuple(one for one in found.valid if one.name not in fallen), found.refused | fallen)


def common_modalities(approvals: Iterable[Approval]) -> tuple[Modality, ...]:
    """Name the modalities that all approvals have, in the order of channels.

    Raises `BadDataError` that lists who differs from most.
    """
    of_each = {approval.name: modalities_of(approval) for approval in approvals}
    counts: dict[tuple[Modality, ...], int] = {}
    for modalities in of_each.values():
        counts[modalities] = counts.get(modalities, 0) + 1
    usual = max(counts, key=lambda modalities: (counts[modalities], modalities))
    others = [f"{name} ({' and '.join(modalities)})" for name, modalities in of_each.items() if modalities != usual]
    if others:
        raise BadDataError(
            f"{counts[usual]} approved labels were drawn on {' and '.join(usual)}, others not: {', '.join(others)}",
            "A network has one set of channels: leave them out with --exclude-participant-label or --subset.",
        )
    return usual


def modalities_of(approval: Approval) -> tuple[Modality, ...]:
    """What a label was drawn on, in the order of channels."""
    return tuple(modality for modality in CHANNEL_ORDER if modality in approval.crop_sha256)


def case_of(approval: Approval) -> str:
    """The id of a pair in network space: ``sub-01[_ses-1]_hemi-R``, or ``..._hemi-Lflip``."""
    return f"{approval.name}flip" if approval.hemi == "L" else approval.name


def crop_of(output: OutputLayout, approval: Approval, modality: Modality) -> Path:
    """A crop that a label was drawn on."""
    return output.session(approval.participant, approval.session).crop(approval.hemi, modality)


def read_crop(output: OutputLayout, approval: Approval, modality: Modality) -> Volume:
    """A crop as in the head, single precision; raises `VolumeError`."""
    path = crop_of(output, approval, modality)
    volume = read_volume(path, "pair")
    _require_approved(approval, path, volume, approval.crop_sha256[modality])
    return Volume(volume.data.astype(np.float32), volume.affine)


def read_label(output: OutputLayout, approval: Approval, values: Mapping[int, int]) -> Volume:
    """The approved label map as in the head, with other values.

    Raises
    ------
    BadDataError
        When it cannot be read, is no label map, or holds a value that `values` does not have.
    """
    path = output.approved_label(*approval.key)
    volume = read_volume(path, "pair")
    _require_approved(approval, path, volume, approval.label_sha256)
    problems = label_problems(volume.data, None)
    if problems:
        raise VolumeError(path, problems[0])
    label = renumber(np.rint(volume.data).astype(np.int64), values, file=path)
    return Volume(label, volume.affine)


def _require_approved(approval: Approval, path: Path, volume: Volume, digest: str) -> None:
    """What is read must be what was approved, whatever happened to the file since it was checked."""
    if approval.decision and image_sha256(volume.data, volume.affine) != digest:
        raise BadDataError(f"{path} is not what {approval.rater} approved", "Run review: it says what changed.")


def update_training_folder(folder: Path, sides: ApprovedSides, modalities: Sequence[Modality]) -> None:
    """Make `folder` hold exactly the pairs of `sides`, left sides flipped, labels.tsv and origins.tsv.

    Pairs that are what they were are not touched; those without an approval now are removed and named; those that
    somebody changed are written again and named.

    Raises
    ------
    BadDataError
        When `folder` holds pairs that are not ours (nothing is changed then), or a file cannot be read.
    CannotWriteError
        When the disk is full or permission is missing.
    """
    record = _read_record(folder)
    _refuse_others_pairs(folder, record)
    wanted = {case_of(approval): approval for approval in sides.approvals}
    sources = {case: _source(approval, sides, modalities) for case, approval in wanted.items()}
    _remove(folder, record, [case for case in record if case not in wanted])
    kept = {
        case: record[case] for case in wanted if case in record and _is_current(folder, record[case], sources[case])
    }
    changed_by_hand = [
        case for case in wanted.keys() - kept.keys() if record.get(case, {}).get("source") == sources[case]
    ]
    if changed_by_hand:
        logger.warning(
            "changed in %s since they were written, and written again: %s", folder, ", ".join(changed_by_hand)
        )
    _write_record(folder, kept | {case: {"source": "", "files": {}} for case in wanted if case not in kept})
    written = {
        case: {"source": sources[case], "files": _write_pair(folder, approval, sides, modalities)}
        for case, approval in wanted.items()
        if case not in kept
    }
    _write_record(folder, kept | written)
    table_file = label_table_file(folder)
    if not table_file.exists() or read_label_table(table_file) != sides.table:
        write_label_table(table_file, sides.table)
    write_annotated(annotation_file(folder), sides.annotated)
    write_origins(origins_file(folder), {case: approval.origin for case, approval in wanted.items()})
    for case, known in sides.annotated.items():
        logger.info("%s annotates %s alone: what it does not draw is not learned from it", case, ", ".join(known))
    logger.info("training pairs in %s: %d written, %d as they were", folder, len(written), len(kept))


def _say_renumbering(approvals: Iterable[Approval], table: LabelTable, values: Mapping[str, Mapping[int, int]]) -> None:
    same: dict[str, list[str]] = {}
    for approval in approvals:
        changes = [
            f"{approval.labels[old]} {old} -> {f'{table.names[new]} {new}' if new else 'background'}"
            for old, new in values[approval.name].items()
            if old != new or approval.labels[old] != table.names[new]
        ]
        if changes:
            same.setdefault(", ".join(changes), []).append(approval.name)
    for changes_text, names in same.items():
        logger.info("labels brought together by name (%s): %s", changes_text, ", ".join(names))


def _source(approval: Approval, sides: ApprovedSides, modalities: Sequence[Modality]) -> str:
    """Fingerprint of everything that a pair is made from."""
    return settings_sha256(
        {
            "format": _FORMAT,
            "label": approval.label_sha256,
            "crops": [(modality, approval.crop_sha256[modality]) for modality in modalities],
            "values": sorted(sides.values[approval.name].items()),
        }
    )


def _write_pair(
    folder: Path, approval: Approval, sides: ApprovedSides, modalities: Sequence[Modality]
) -> dict[str, str]:
    """Write images and label in network space; gives file name -> SHA-256."""
    case = case_of(approval)
    volumes = [read_crop(sides.output, approval, modality) for modality in modalities]
    volumes.append(read_label(sides.output, approval, sides.values[approval.name]))
    paths = (*pair_images(folder, case, len(modalities)), pair_label(folder, case))
    for path, volume in zip(paths, volumes, strict=True):
        turned = turn_volume(volume, NETWORK_SPACE[approval.hemi])
        write_image(path, new_image(turned.data, turned.affine))
    return {path.name: file_sha256(path) for path in paths}


def _read_record(folder: Path) -> dict[str, dict[str, Any]]:
    path = approved_pairs_file(folder)
    if not path.exists():
        return {}
    hint = f"Delete {folder}; it is made again."
    content = read_json(path, hint)
    try:
        return {str(case): {"source": str(known["source"]), "files": dict(known["files"])}
                for case, known in content["pairs"].items()}  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadDataError(f"{path} cannot be used: {error}", hint) from error


def _write_record(folder: Path, record: Mapping[str, Mapping[str, Any]]) -> None:
    write_json(approved_pairs_file(folder), {"pairs": dict(sorted(record.items()))})


def _refuse_others_pairs(folder: Path, record: Iterable[str]) -> None:
    ours = tuple(record)
    others = [path.name for path in _pair_files(folder) if not any(_belongs(path, case) for case in ours)]
    if others:
        raise BadDataError(
            f"{folder} holds {len(others)} files that were not made from approved labels: {', '.join(others[:5])}",
            f"Train on them with --training-dir {folder}, or move them, or choose another --model-dir.",
        )


def _remove(folder: Path, record: Mapping[str, Any], cases: Sequence[str]) -> None:
    """Remove pairs, and what a killed run left half-written."""
    for leftover in folder.glob(".*.nii.gz"):
        leftover.unlink()
    for case in cases:
        for path in _pair_files(folder):
            if _belongs(path, case):
                path.unlink()
    if cases:
        logger.info("removed from %s, as not approved or not chosen now: %s", folder, ", ".join(cases))


def _pair_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.nii*") if not path.name.startswith("."))


def _belongs(path: Path, case: str) -> bool:
    return path.name.startswith((f"{case}_img", f"{case}_lbl"))


def _is_current(folder: Path, known: Mapping[str, Any], source: str) -> bool:
    files: Mapping[str, str] = known["files"]
    return known["source"] == source and all(
        (folder / name).is_file() and file_sha256(folder / name) == digest for name, digest in files.items()
    )
