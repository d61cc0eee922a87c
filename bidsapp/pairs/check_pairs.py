"""Check the content of training pairs before any work, and report everything that is wrong at once."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bidsapp.arrays import Array
from bidsapp.errors import BadDataError
from bidsapp.guards.label_guards import NEVER_ACCEPTED, Finding
from bidsapp.guards.likeness import Orientation
from bidsapp.guards.pair_guards import FolderFindings, PairFacts, judge_pairs, look_at_pair
from bidsapp.images.grids import Grid
from bidsapp.images.orientation import NETWORK_SPACE, Storage, axes_of, bring_to_grid, network_axes, turn_volume
from bidsapp.images.volumes import Volume, VolumeError, read_volume
from bidsapp.labels.tables import LARGEST_VALUE, label_table_from_values, well_known_table
from bidsapp.pairs.annotated import Annotated, table_of_case
from bidsapp.pairs.pairs import FoundPairs, pair_finding
from bidsapp.pairs.pairs_table import PairRow
from bidsapp.printable import plural
from bidsapp.progress import progress_over
from bidsapp.records import Hemi, LabelTable, Pair

logger = logging.getLogger(__name__)

GRID_TOLERANCE_MM = 1e-3
"""The same corner voxel of image and label may lie this far apart."""

WHOLE_TOLERANCE = 1e-3
"""Label values may be this far from whole: integers stored with a scale factor come back as 0.99998."""

MOST_LABELS = 255
"""More different values in one label map than this are taken for an image."""

OTHER_SCALE = 8
"""From so many times the usual voxel size on, it is another unit (cm for mm), not another resolution."""

_VALUES_SHOWN = 5
_FEWEST_TO_COMPARE = 3
_UNIT_HINT = "Correct the voxel sizes in the header, of all files of the pair."
_GUARD_HINT = (
    "Correct the label, or, where it is right, write {guard} into its pair's row of pairs.tsv, in the column accept."
)
_TURNED_HINT = (
    "Their headers, or the sides that were given for them, are wrong. Left sides that were flipped in their voxels "
    "need --left-is flipped, left ones as in the head --left-is as-in-head; else give the right sides in the column "
    "hemi of pairs.tsv, or store the pairs anew under true headers."
)
_FLIP_HINT = (
    "Store the pair as it is in the head, under a header that says so. Left sides that were flipped in their voxels "
    "need --left-is flipped, all others --left-is as-in-head, or either word in the column left of pairs.tsv."
)


class BadPairsError(BadDataError):
    """Pairs that cannot be used; the message holds one line per finding."""

    def __init__(self, findings: tuple[Finding, ...], pairs: int) -> None:
        cases = len({finding.case for finding in findings})
        folder = findings[0].file.parent
        hints = dict.fromkeys(finding.hint for finding in findings if finding.hint)
        super().__init__(
            f"{cases} of {pairs} pairs in {folder} cannot be used:\n{format_findings(findings)}",
            "\n".join([*hints, "Correct these files, or leave their pairs out with --skip-bad-pairs."]),
        )
        self.findings = findings


@dataclass(frozen=True)
class CheckedPairs:
    """Pairs that are fit for use, and why the others are not."""

    pairs: tuple[Pair, ...]
    """In the order of their ids."""
    table: LabelTable
    """Names of the label values."""
    content: dict[str, str]
    """case -> SHA-256 of its voxels, grid and label as the network sees them. It changes whenever a pair must be
    imported again, and not when a file is only compressed or stored in another number type."""
    images: dict[str, list[str]]
    """case -> SHA-256 of every channel's voxels: it knows a person's image again under any id. After those come that
    of the mirrored image (whose side and header may be told otherwise elsewhere), and of images that were turned those
    of the voxels as they are stored, and with axis 0 reversed: HippoTune 0.1.0 knew them so."""
    findings: tuple[Finding, ...]
    """Everything about the pairs that were left out; empty when none was."""
    values: dict[str, frozenset[int]] = field(default_factory=dict)
    """case -> values that its label map holds."""

    @property
    def annotated(self) -> dict[str, frozenset[str]]:
        """case -> names of the labels that it annotates, of the cases that do not annotate all."""
        return {pair.case: pair.annotated for pair in self.pairs if pair.annotated is not None}

    @property
    def image_people(self) -> dict[str, str]:
        """Digest of every image as the network sees it -> its person."""
        return {image: pair.participant for pair in self.pairs for image in self.images[pair.case][: len(pair.images)]}

    @property
    def left_out(self) -> tuple[str, ...]:
        """Ids of the pairs that were left out."""
        return tuple(sorted({finding.case for finding in self.findings}))


@dataclass(frozen=True, eq=False)
class _PairContent:
    """What was read of one pair. The fields below `spacing_mm` are filled only when there are no findings."""

    findings: list[Finding]
    image_digests: dict[Path, str]
    spacing_mm: float | None = None
    further_digests: list[str] = field(default_factory=list)
    values: frozenset[int] = frozenset()
    content: str = ""
    facts: PairFacts | None = None


ShowPair = Callable[[Pair, Volume, Volume], None]
"""Called with a pair, and its first image and label map in network space."""


@dataclass(frozen=True, eq=False)
class ExaminedPairs:
    """What a check found in a folder of pairs, before it is decided whether they are used."""

    found: FoundPairs
    examined: tuple[_PairContent, ...]
    table: LabelTable | None
    """Names of the label values; None: nobody gave any."""
    annotated: Annotated
    findings: tuple[Finding, ...]
    """What keeps pairs from being used, by case and file."""
    accepted: tuple[Finding, ...] = ()
    """What a person overruled."""
    notes: tuple[str, ...] = ()
    """Remarks on the folder as a whole; they keep no pair from being used."""
    usual: Orientation | None = None
    """How most labels have to be turned to have the template's orientation; None: it cannot be told."""
    turned: str = ""
    """The problem in words, where most labels have another orientation than the template's; else empty."""

    @property
    def content(self) -> dict[str, str]:
        """Case -> fingerprint, of the pairs that could be read."""
        return {pair.case: one.content for pair, one in self._pairs() if one.content}

    @property
    def volumes_mm3(self) -> dict[str, Mapping[int, float]]:
        """Case -> label value -> volume, 0 for the whole hippocampus, of the pairs that the guards looked at."""
        return {pair.case: one.facts.volumes_mm3 for pair, one in self._pairs() if one.facts is not None}

    def _pairs(self) -> list[tuple[Pair, _PairContent]]:
        return list(zip(self.found.pairs, self.examined, strict=True))


def check_pairs(
    found: FoundPairs,
    *,
    table: LabelTable | None = None,
    annotated: Annotated | None = None,
    skip_bad_pairs: bool = False,
) -> CheckedPairs:
    """Read every pair once, one at a time, and collect what is wrong with it.

    Findings are those of `found` and: files that cannot be read as 3D volumes, grids that differ by more than
    1e-3 mm at a corner, NaN or infinite voxels, empty label maps, label values that are not whole numbers or
    not in `table` or that a pair does not annotate (`annotated`, see `bidsapp.pairs.annotated`), labels that
    `table` requires and a pair lacks, images of one value, voxels of another scale than the others', and the same
    image under two people. A label or channel whose axes run otherwise is brought to those of the first image.
    Without a `table` the values found are named as a protocol does whose values can be told from all others
    (`bidsapp.labels.tables.well_known_table`), else ``label-1``, ``label-2``, ..., and a warning says so.

    Raises
    ------
    BadPairsError
        With all findings, unless `skip_bad_pairs`.
    BadDataError
        When no pair is left.
    """
    return choose_pairs(examine_pairs(found, table=table, annotated=annotated), skip_bad_pairs=skip_bad_pairs)


def examine_pairs(
    found: FoundPairs,
    *,
    table: LabelTable | None = None,
    annotated: Annotated | None = None,
    guarded: bool = False,
    rows: Mapping[str, PairRow] | None = None,
    show_pair: ShowPair | None = None,
) -> ExaminedPairs:
    """Read every pair once, one at a time, and collect what is wrong with it, as `check_pairs` says.

    Parameters
    ----------
    guarded
        Hold the pairs against each other and the template too (`bidsapp.guards.pair_guards`).
    rows
        What a person accepts, by case.
    show_pair
        Called with every pair that can be read.
    """
    logger.info("Checking the content of %s", plural(len(found.pairs), "pair"))
    partly = annotated or {}
    examined = [
        _examine(pair, table, partly.get(pair.case), found.storage if guarded else None, show_pair)
        for pair in progress_over(found.pairs, "pairs")
    ]
    findings = [*found.findings, *(finding for one in examined for finding in one.findings)]
    findings += _same_image_findings(found.pairs, examined) + _scale_findings(found.pairs, examined)
    values = frozenset[int]().union(*(one.values for one in examined))
    accepted: list[Finding] = []
    judged = FolderFindings({}, (), None)
    if guarded:
        named = table or label_table_from_values(values)
        judged, refused, accepted = _ask_guards(found.pairs, examined, named, partly, rows or {})
        findings += refused
    ordered = sorted(dict.fromkeys(findings), key=lambda finding: (finding.case, finding.file))
    return ExaminedPairs(
        found,
        tuple(examined),
        table,
        partly,
        tuple(ordered),
        tuple(accepted),
        judged.notes,
        judged.usual,
        judged.turned,
    )


def choose_pairs(
    seen: ExaminedPairs, *, skip_bad_pairs: bool = False, begun: bool = False, kept: Collection[str] = ()
) -> CheckedPairs:
    """Refuse a folder with pairs that are not fit for use, or leave these out.

    Parameters
    ----------
    begun
        A model was trained on pairs of this orientation, so a folder that is turned as a whole is only a warning.
    kept
        Cases that keep the orientation in which that model was trained on them, although they would be turned
        otherwise now. That one of them is turned is only a warning, too.

    Raises
    ------
    BadPairsError
        With all findings, unless `skip_bad_pairs`.
    BadDataError
        When no pair is left.
    """
    warned = tuple(one for one in seen.findings if one.guard == "flip" and one.case in kept)
    if warned:
        logger.warning("Pairs of another orientation than the others, kept as this model was trained on them:\n%s",
                       format_findings(warned))  # fmt: skip
    findings, partly = tuple(one for one in seen.findings if one not in warned), seen.annotated
    bad = {finding.case for finding in findings}
    for one in seen.accepted:
        logger.warning("accepted: %s: %s (%s)", one.case, one.problem, one.guard)
    for note in seen.notes:
        logger.warning("%s", note)
    if seen.turned and begun:
        logger.warning("%s: this model was begun with pairs of that orientation", seen.turned)
    elif seen.turned:
        raise BadDataError(seen.turned, _TURNED_HINT)
    if findings and not skip_bad_pairs:
        raise BadPairsError(findings, len({pair.case for pair in seen.found.pairs} | bad))
    pairs = zip(seen.found.pairs, seen.examined, strict=True)
    good = [(pair, one) for pair, one in pairs if pair.case not in bad]
    if not good:
        raise BadDataError(f"No pair is fit for use:\n{format_findings(findings)}", "Correct these files.")
    if findings:
        logger.warning("Pairs left out: %d\n%s", len(bad), format_findings(findings))
    values = frozenset[int]().union(*(one.values for _, one in good))
    return CheckedPairs(
        pairs=tuple(replace(pair, annotated=partly.get(pair.case)) for pair, _ in good),
        table=_name_values(values, seen.table),
        content={pair.case: one.content for pair, one in good},
        images={pair.case: [*one.image_digests.values(), *one.further_digests] for pair, one in good},
        findings=findings,
        values={pair.case: one.values for pair, one in good},
    )


def _ask_guards(
    pairs: Sequence[Pair],
    examined: Sequence[_PairContent],
    table: LabelTable,
    annotated: Annotated,
    rows: Mapping[str, PairRow],
) -> tuple[FolderFindings, list[Finding], list[Finding]]:
    """Ask the guards about all pairs; returns their verdict, the findings that refuse pairs, and accepted findings."""
    whole = [(pair, one) for pair, one in zip(pairs, examined, strict=True) if one.facts is not None]
    judged = judge_pairs({pair.case: one.facts for pair, one in whole if one.facts}, table, annotated)
    refused: list[Finding] = []
    accepted: list[Finding] = []
    for pair, one in whole:
        words = rows[pair.case].accepts(one.content) if pair.case in rows else frozenset()
        for verdict in judged.pairs.get(pair.case, ()):
            may = verdict.guard not in NEVER_ACCEPTED
            hint = _GUARD_HINT.format(guard=verdict.guard) if may else _FLIP_HINT
            finding = replace(verdict, hint=hint, case=pair.case, file=pair.label)
            (accepted if may and verdict.guard in words else refused).append(finding)
    return judged, refused, accepted


def format_findings(findings: Iterable[Finding]) -> str:
    """Align findings as lines of id, file and problem."""
    rows = [("pair", "file", "problem"), *((one.case, one.file.name, one.problem) for one in findings)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"  {case:<{widths[0]}}  {file:<{widths[1]}}  {problem}" for case, file, problem in rows)


def image_problems(voxels: Array) -> list[str]:
    """Say what is wrong with the voxels of an image; they may have any shape and number type."""
    problems = _not_finite(voxels)
    if not problems and voxels.min() == voxels.max():
        problems.append(f"holds one value only: {voxels.flat[0]:g}")
    return problems


def label_problems(voxels: Array, table: LabelTable | None) -> list[str]:
    """Say what is wrong with the voxels of a label map; they may have any shape and number type."""
    problems = _not_finite(voxels) or _not_whole(voxels)
    if problems:
        return problems
    low, high = round(float(voxels.min())), round(float(voxels.max()))
    if low < 0 or high > LARGEST_VALUE:
        return [f"holds the value {low if low < 0 else high}; label values run from 0 to {LARGEST_VALUE}"]
    counts = _count_values(voxels)
    if not counts:
        return ["holds no label: all voxels are 0"]
    if table is not None:
        return _not_in_table(counts, table) + _missing_labels(counts, table)
    if len(counts) > MOST_LABELS:
        return [f"holds {len(counts)} different values: is it an image?"]
    return []


def grid_problems(grid: Grid, reference: Grid) -> list[str]:
    """Say where a grid differs from the one of the image."""
    if grid.shape != reference.shape:
        return [f"is {_times(grid.shape)} voxels, and the image is {_times(reference.shape)}"]
    distance_mm = grid.distance_mm(reference)
    if distance_mm > GRID_TOLERANCE_MM:
        return [f"is up to {distance_mm:.4g} mm from the image: their affines differ"]
    return []


def _examine(
    pair: Pair,
    table: LabelTable | None,
    annotated: frozenset[str] | None,
    storage: Storage | None,
    show_pair: ShowPair | None,
) -> _PairContent:
    """Read and check one pair; with `storage` the guards look at it, in network space whatever the model's is."""
    stored, findings = _read(pair)
    alike = (
        {
            path: bring_to_grid(volume, stored[pair.images[0]].grid, tolerance_mm=GRID_TOLERANCE_MM) or volume
            for path, volume in stored.items()
        }
        if pair.images[0] in stored
        else stored
    )
    volumes = {path: turn_volume(volume, pair.axes) for path, volume in alike.items()}
    own_table = table and table_of_case(table, annotated)
    for path, volume in volumes.items():
        is_label = path == pair.label
        problems = label_problems(volume.data, own_table) if is_label else image_problems(volume.data)
        if problems and is_label and annotated is not None:
            problems[-1] += f"; this pair annotates only {', '.join(sorted(annotated))}"
        if pair.images[0] in volumes:
            problems += grid_problems(volume.grid, volumes[pair.images[0]].grid)
        findings += [pair_finding(pair.case, path, problem) for problem in problems]
    digests = {path: image_digest(volumes[path].data) for path in pair.images if path in volumes}
    spacing_mm = _mean_spacing_mm(volumes[pair.images[0]].grid) if pair.images[0] in volumes else None
    if findings:
        return _PairContent(findings, digests, spacing_mm)
    label = np.rint(volumes[pair.label].data)
    parts = [*digests.values(), _digest(volumes[pair.images[0]].affine, "<f4"), _digest(label, "<i2")]
    parts += sorted(annotated or ())
    content = hashlib.sha256(" ".join(parts).encode()).hexdigest()
    further = [digest for path in pair.images for digest in _further_digests(stored[path], volumes[path])]
    facts = None
    if storage is not None or show_pair is not None:
        axes = network_axes(pair.hemi, truthful=pair.truthful, storage={**NETWORK_SPACE, **_without_side(storage)})
        upright = [turn_volume(alike[path], axes) for path in (pair.images[0], pair.label)]
        image, labels = upright[0], Volume(np.rint(upright[1].data).astype(np.int16), upright[1].affine)
        if storage is not None:
            facts = look_at_pair(labels.data, image.data, image.spacing_mm.tolist(), own_table)
        if show_pair is not None:
            show_pair(pair, image, labels)
    return _PairContent([], digests, spacing_mm, further, frozenset(_count_values(label)), content, facts)


def _without_side(storage: Storage | None) -> dict[Hemi, str]:
    return {"n/a": storage["n/a"]} if storage and "n/a" in storage else {}


def _further_digests(stored: Volume, turned: Volume) -> list[str]:
    """Of the same image in network space of the other side, and as it is stored, axis 0 reversed too."""
    axes, spaces = axes_of(turned.affine), set(NETWORK_SPACE.values())
    arrays = [turn_volume(turned, other).data for other in sorted(spaces - {axes})]
    if turned is not stored:
        arrays.append(stored.data)
    if turned is not stored or axes not in spaces:  # else one space is the other with axis 0 reversed
        arrays.append(stored.data[::-1])
    return list(dict.fromkeys(map(image_digest, arrays)))


def _read(pair: Pair) -> tuple[dict[Path, Volume], list[Finding]]:
    """Read the files of a pair as they are stored."""
    volumes: dict[Path, Volume] = {}
    findings = []
    for path in (*pair.images, pair.label):
        try:
            volume = read_volume(path, "pair")
        except VolumeError as error:
            findings.append(pair_finding(pair.case, path, error.problem, error.hint))
        else:
            volumes[path] = volume
    return volumes, findings


def image_digest(voxels: Array) -> str:
    """Fingerprint of an image's voxels as the network sees them, wherever they lie: `ModelState.image_people`."""
    return _digest(voxels, "<f4")


def _digest(array: Array, number_type: str) -> str:
    """SHA-256 of shape and values, whatever the number type and memory order were."""
    with np.errstate(over="ignore"):
        canonical = np.ascontiguousarray(array.T, dtype=number_type)
    return hashlib.sha256(f"{array.shape} {number_type}".encode() + canonical.tobytes()).hexdigest()


def _same_image_findings(pairs: Iterable[Pair], examined: Iterable[_PairContent]) -> list[Finding]:
    by_digest: dict[str, list[tuple[Pair, Path]]] = defaultdict(list)
    for pair, one in zip(pairs, examined, strict=True):
        for path, digest in one.image_digests.items():
            by_digest[digest].append((pair, path))
    findings = []
    for same in by_digest.values():
        for pair, path in same:
            twin = next((other for other in same if other[0].participant != pair.participant), None)
            if twin:
                problem = f"of {pair.participant} is the same image as {twin[1].name} of {twin[0].participant}"
                findings.append(pair_finding(pair.case, path, problem))
    return findings


def _mean_spacing_mm(grid: Grid) -> float:
    return float(np.prod(grid.spacing_mm)) ** (1 / 3)


def _scale_findings(pairs: Iterable[Pair], examined: Iterable[_PairContent]) -> list[Finding]:
    """Tell pairs whose voxels are so much larger or smaller than usual that somebody mistook the unit."""
    sizes = {pair: one.spacing_mm for pair, one in zip(pairs, examined, strict=True) if one.spacing_mm is not None}
    if len(sizes) < _FEWEST_TO_COMPARE:
        return []
    usual = float(np.median(list(sizes.values())))
    return [
        pair_finding(
            pair.case, pair.images[0], f"has voxels of {size:.3g} mm, other pairs of {usual:.3g} mm", _UNIT_HINT
        )
        for pair, size in sizes.items()
        if not usual / OTHER_SCALE < size < usual * OTHER_SCALE
    ]


def _not_finite(voxels: Array) -> list[str]:
    if voxels.dtype.kind != "f":
        return []
    with np.errstate(over="ignore"):
        number = voxels.size - int(np.isfinite(voxels.astype(np.float32, copy=False)).sum())
    return [f"holds {number} NaN or infinite voxels"] if number else []


def _not_whole(voxels: Array) -> list[str]:
    if voxels.dtype.kind != "f":
        return []
    uneven = voxels[np.abs(voxels - np.rint(voxels)) > WHOLE_TOLERANCE]
    if not uneven.size:
        return []
    values = _enumerate(f"{value:g}" for value in np.unique(uneven))
    return [f"holds values that are not whole numbers ({uneven.size} voxels): {values}"]


def _count_values(voxels: Array) -> dict[int, int]:
    """Count the voxels of every value but 0 in an array of whole numbers from 0 to `LARGEST_VALUE`."""
    flat = voxels.ravel(order="K")
    counts = np.bincount((np.rint(flat) if flat.dtype.kind == "f" else flat).astype(np.intp))
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts) if value}


def _not_in_table(counts: dict[int, int], table: LabelTable) -> list[str]:
    unknown = [f"{value} ({number} voxels)" for value, number in counts.items() if value not in table.names]
    return [f"holds values that the label table does not name: {_enumerate(unknown)}"] if unknown else []


def _missing_labels(counts: dict[int, int], table: LabelTable) -> list[str]:
    missing = [
        f"{name} ({value})" for value, name in table.names.items() if name in table.required and value not in counts
    ]
    return [f"lacks the required labels {_enumerate(missing)}"] if missing else []


def _name_values(values: frozenset[int], table: LabelTable | None) -> LabelTable:
    if table is None:
        known = well_known_table(values)
        if known is not None:
            return known
        named = label_table_from_values(values)
        logger.warning("There is no labels.tsv: labels are called %s", ", ".join(named.names.values()))
        return named
    unused = [name for value, name in table.names.items() if value not in values]
    if unused:
        logger.warning("No pair holds the labels %s: they cannot be learned", ", ".join(unused))
    return table


def _enumerate(items: Iterable[str]) -> str:
    """List the first few and count the rest."""
    listed = list(items)
    rest = len(listed) - _VALUES_SHOWN
    return ", ".join(listed[:_VALUES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
