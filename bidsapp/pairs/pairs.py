"""Find training pairs, and say whose they are, which side they show, and how they are to be turned."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bidsapp.bids.people import shorten_list
from bidsapp.corobl.grid import GRIDS
from bidsapp.errors import UsageError
from bidsapp.files import expand_home
from bidsapp.guards.label_guards import Finding
from bidsapp.images.grids import Grid
from bidsapp.images.orientation import (
    NETWORK_SPACE,
    Storage,
    axes_of,
    is_mirrored,
    left_header_is_true,
    mirrored_axes,
    network_axes,
    storage_of_right,
    storage_without_side,
    turned_grid,
)
from bidsapp.images.volumes import VolumeError, read_grid, read_volume
from bidsapp.pairs.folders import CaseFiles, mention, open_pair_folder
from bidsapp.pairs.names import Name, read_names, say_grouping
from bidsapp.pairs.pairs_table import PairRow, network_case
from bidsapp.records import Hemi, LabelTable, LeftIs, Pair

logger = logging.getLogger(__name__)

_BEGINS_A_FORMULA = ("=", "+", "-", "@")
LONGEST_ID_BYTES = 180
"""File systems take names of 255 bytes; ours add suffixes, and while a file is written, something random in front."""

_LEFT_GRID_TOLERANCE_MM = 0.01
_FLIPPED_HINT = (
    "If so, --left-is flipped says it; else name it hemi-L, or write as-in-head in the column left of pairs.tsv."
)
_LEFT_HINT = (
    "Say what the left files are: --left-is flipped, or --left-is as-in-head; or fill in the column left of pairs.tsv."
)


@dataclass(frozen=True)
class FoundPairs:
    """Complete pairs in the order of their ids, and what is wrong with names and sides.

    A pair that a finding names by its `case` is not fit for use.
    """

    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...]
    storage: Storage = field(default_factory=lambda: NETWORK_SPACE)
    """What the pairs are turned to."""
    stored: Mapping[str, str] = field(default_factory=dict)
    """Case -> axes of its first image as it is stored, where its header can be read."""
    table: LabelTable | None = None
    channels: tuple[str, ...] = ()
    """Names of labels and images that the folder itself gives, if any."""
    names: Mapping[str, Name] = field(default_factory=dict)
    """Case -> what its id, a table or a pattern say."""


ByContent = Callable[[Sequence[Pair], Sequence[Pair]], Mapping[str, bool]]
"""Takes left sides and all pairs, and decides by their content whether the headers of the left ones are true.

Returns case -> answer, without the cases that it cannot decide.
"""


def pair_finding(case: str, file: Path, problem: str, hint: str = "") -> Finding:
    """Say what is wrong with a file of a pair; no guard found it."""
    return Finding("", problem, hint=hint, case=case, file=file)


def find_pairs(
    folder: Path,
    *,
    participant_pattern: str | None = None,
    left_is: LeftIs | None = None,
    rows: Mapping[str, PairRow] | None = None,
    known_people: Collection[str] = (),
    storage: Storage | None = None,
    kept: Mapping[str, str] | None = None,
    by_content: ByContent | None = None,
) -> FoundPairs:
    """List the pairs of `folder` (`bidsapp.pairs.folders`), whose they are, and how they are to be turned.

    People and sides are read from the ids (`bidsapp.pairs.names`). Every pair is to be turned by its header
    (`bidsapp.images.orientation`). Whether the header of a left side is true is told by its id and its grid, by
    `left_is`, or by `by_content`; else it is a finding. ``hemi-L`` becomes ``hemi-Lflip``, as network space has it.

    Parameters
    ----------
    participant_pattern
        A regular expression, searched in the id, whose one group is the person.
    left_is
        What all left files are.
    rows
        What a table says of pairs, by case; it wins over everything else.
    known_people
        Names in a split, which stay.
    storage
        Of the model that is trained; None: network space. Where it has nothing for pairs without a side, they are
        turned to what most of them need no mirroring for.
    kept
        Case -> axes that it was trained with before, where they are not those of `storage`.
    by_content
        Asked about left sides for which nothing else tells whether their headers are true.

    Raises
    ------
    NoInputError
        When the folder is missing, is a file, or holds no file of a pair.
    BadDataError
        When the folder cannot be listed, or describes itself wrongly.
    UsageError
        When `participant_pattern` is not a regular expression with one group.
    """
    folder = expand_home(folder).resolve()
    pattern = _compile_pattern(participant_pattern)
    listed = open_pair_folder(folder)
    rows = rows or {}
    _mention_rows_without_pair(rows, listed.cases)
    names = _names(listed.cases, pattern, rows, known_people)
    usual = _usual_channels(listed.cases.values())
    described: list[_UnturnedPair] = []
    findings: list[Finding] = []
    for case, files in sorted(listed.cases.items()):
        missing = _file_findings(case, files, usual, list(listed.others))
        findings += missing
        if not missing:
            one, doubts = _describe(case, files, names[case], rows, left_is or listed.left_is)
            described.append(one)
            findings += doubts
    kept = kept or {}
    storage = _storage(described, kept) | dict(storage or {})
    pairs, doubts = _orient(described, storage, kept, by_content)
    findings += [*doubts, *_collisions(pairs)]
    return FoundPairs(
        tuple(sorted(pairs, key=lambda pair: pair.case)),
        tuple(findings),
        storage,
        {one.pair.case: one.axes for one in described if one.axes},
        listed.table,
        listed.channels,
        {network_case(case): name for case, name in names.items()},
    )


def turn_pairs_of_model(pairs: Iterable[Pair], storage: Storage, by_content: ByContent) -> list[Pair]:
    """Decide how pairs from nnU-Net's raw data of one model are turned for another model. Left sides there are flipped.

    Left sides that are stored like right ones were flipped without a change of the header, unless `by_content` finds
    that HippoTune 0.1.0 left them as they are in the head.
    """
    described = []
    for pair in pairs:
        grid = read_grid(pair.label, "pair")
        described.append(_UnturnedPair(pair, grid, axes_of(grid.affine), flipped=True, left_is=None))

    def decide(lefts: Sequence[Pair], others: Sequence[Pair]) -> dict[str, bool]:
        return {pair.case: False for pair in lefts} | dict(by_content(lefts, others))

    return _orient(described, _storage(described, {}) | dict(storage), {}, decide)[0]


def is_kept_otherwise(pair: Pair, storage: Storage) -> bool:
    """Whether a pair is turned to other axes than its side would be now."""
    return pair.axes != network_axes(pair.hemi, truthful=pair.truthful, storage=storage)


def say_pairs(found: FoundPairs, *, example: bool = False) -> list[str]:
    """Lines on how pairs were grouped, stored and turned; without `example` they name nobody."""
    turned = [pair for pair in found.pairs if found.stored.get(pair.case, pair.axes) != pair.axes]
    stored = Counter(found.stored.values())
    lines = [say_grouping(found.names, example=example)]
    if turned:
        how = ", ".join(f"{axes} ({number})" for axes, number in stored.most_common())
        lines.append(f"{len(turned)} of {len(found.pairs)} pairs were turned by their headers; stored were {how}")
    untrue = [pair for pair in found.pairs if not pair.truthful]
    if untrue:
        lines.append(f"{len(untrue)} left sides were flipped in their voxels under the old header")
    otherwise = Counter(pair.axes for pair in found.pairs if is_kept_otherwise(pair, found.storage))
    if otherwise:
        how = ", ".join(f"{number} {axes}" for axes, number in otherwise.most_common())
        lines.append(f"with other axes than their side has now, as HippoTune 0.1.0 left them: {how}")
    return [line for line in lines if line]


def _compile_pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"--participant-pattern {text!r} is not a regular expression: {error}") from error
    if pattern.groups != 1:
        raise UsageError(
            f"--participant-pattern {text!r} has {pattern.groups} groups, not one",
            "Put parentheses around the part that names the person, e.g. '(P[0-9]+)'.",
        )
    return pattern


def _mention_rows_without_pair(rows: Mapping[str, PairRow], cases: Iterable[str]) -> None:
    absent = sorted(rows.keys() - {network_case(case) for case in cases})
    if absent:
        logger.info("pairs.tsv has rows of pairs that are not here: %s", shorten_list(absent))


def _names(
    cases: Iterable[str], pattern: re.Pattern[str] | None, rows: Mapping[str, PairRow], known: Collection[str]
) -> dict[str, Name]:
    """What ids say, then `pattern`, then the table."""
    names = read_names(cases, known)
    if pattern is not None:
        names = {case: replace(name, participant=_match(pattern, case)) for case, name in names.items()}
    for case, name in names.items():
        row = rows.get(network_case(case))
        if row is not None:
            hemi = row.hemi or name.hemi
            names[case] = replace(
                name,
                participant=row.participant or name.participant,
                hemi=hemi,
                flipped=name.flipped and hemi == "L",
                problem="" if row.hemi else name.problem,
            )
    nobody = [case for case, name in names.items() if not name.participant]
    return names | {
        case: replace(
            names[case],
            problem=f"has the id {case!r}, in which --participant-pattern {pattern and pattern.pattern!r} finds nobody",
        )
        for case in nobody
    }


def _match(pattern: re.Pattern[str], case: str) -> str:
    match = pattern.search(case)
    return (match[1] or "").strip() if match else ""


def _usual_channels(cases: Iterable[CaseFiles]) -> tuple[int, ...]:
    """Channels of most cases, with gaps filled; when undecided, the larger number."""
    counts = Counter(files.channels for files in cases if files.images)
    if not counts:
        return (0,)
    usual = max(counts, key=lambda channels: (counts[channels], len(channels)))
    return tuple(range(max(usual) + 1))


def _file_findings(case: str, files: CaseFiles, usual: tuple[int, ...], others: list[Path]) -> list[Finding]:
    """Say what is missing, double, or named in a way that cannot be stored."""
    if not case.isprintable() or case != case.strip():
        problem = f"has the id {case!r}, with control characters or blanks at an end"
        return [pair_finding(repr(case), files.first, problem, "Rename it.")]
    if case[0] in _BEGINS_A_FORMULA:
        problem = f"has an id that begins with {case[0]!r}: a spreadsheet would take it for a formula"
        return [pair_finding(case, files.first, problem, "Rename it.")]
    if len(os.fsencode(case)) > LONGEST_ID_BYTES:
        problem = (
            f"has an id of {len(os.fsencode(case))} bytes, and {LONGEST_ID_BYTES} leave room for the names made of it"
        )
        return [pair_finding(case, files.first, problem, "Rename it.")]
    findings = []
    for paths in (*files.images.values(), files.labels):
        if len(paths) > 1:
            problem = f"stands beside {paths[0].name}: which one counts?"
            findings.append(pair_finding(case, paths[1], problem, "Keep one of .nii and .nii.gz."))
    similar = mention([path for path in others if path.name.startswith(case)])
    if not files.labels:
        findings.append(pair_finding(case, Path(files.label_path), "is missing", similar))
    if not files.images:
        path = files.image_path if usual == (0,) else files.channel_path.replace("{channel}", "0000")
        findings.append(pair_finding(case, Path(path), "is missing", similar))
    else:
        findings += _channel_findings(case, files, usual)
    return findings


def _channel_findings(case: str, files: CaseFiles, usual: tuple[int, ...]) -> list[Finding]:
    if None in files.images and len(files.images) > 1:
        numbered = next(paths[0] for channel, paths in files.images.items() if channel is not None)
        problem = f"stands beside {numbered.name}: which is channel 0000?"
        return [pair_finding(case, files.images[None][0], problem, "Number all channels of an image.")]
    wanted = " ".join(f"{channel:04d}" for channel in usual)
    findings = []
    for channel in sorted(set(usual) - set(files.channels)):
        path = Path(files.channel_path.replace("{channel}", f"{channel:04d}"))
        findings.append(pair_finding(case, path, f"is missing: other pairs have the channels {wanted}"))
    for channel in sorted(set(files.channels) - set(usual)):
        path = files.images[channel][0]
        findings.append(pair_finding(case, path, f"is one channel too many: other pairs have {wanted}"))
    return findings


@dataclass(frozen=True)
class _UnturnedPair:
    """A pair before it is decided how it is turned."""

    pair: Pair
    grid: Grid | None
    """Of the first image; None where it cannot be read."""
    axes: str
    """As it is stored; empty where the image cannot be read."""
    flipped: bool
    """Whether its id calls it flipped."""
    left_is: LeftIs | None
    """What the table or --left-is says of it."""


def _describe(
    case: str, files: CaseFiles, name: Name, rows: Mapping[str, PairRow], left_is: LeftIs | None
) -> tuple[_UnturnedPair, list[Finding]]:
    images = tuple(files.images[channel][0] for channel in sorted(files.images, key=lambda number: number or 0))
    pair = Pair(network_case(case), name.participant, name.hemi, images, files.labels[0])
    row = rows.get(pair.case)
    said = None if name.flipped and left_is == "as-in-head" else left_is
    try:
        grid = read_grid(images[0], "pair")
    except VolumeError:  # which the check of the content reports
        grid = None
    findings = [pair_finding(pair.case, images[0], name.problem)] if name.problem else []
    if name.participant[:1] in _BEGINS_A_FORMULA:
        problem = f"is of the person {name.participant!r}, whose name a spreadsheet would take for a formula"
        findings.append(
            pair_finding(pair.case, images[0], problem, "Rename it, or give another --participant-pattern.")
        )
    axes = axes_of(grid.affine) if grid else ""
    return _UnturnedPair(pair, grid, axes, name.flipped, (row and row.left) or said), findings


def _storage(described: Sequence[_UnturnedPair], kept: Mapping[str, str]) -> dict[Hemi, str]:
    """What a new model is given; of one that was begun before states said so, what most of its pairs have."""
    before: dict[Hemi, Counter[str]] = {side: Counter() for side in ("R", "L", "n/a")}
    for one in described:
        if one.pair.case in kept:
            before[one.pair.hemi][kept[one.pair.case]] += 1
    right, left, sideless = (before[side].most_common(1) for side in ("R", "L", "n/a"))
    axes = NETWORK_SPACE["R"]
    if right:
        axes = right[0][0]
    elif left:  # flipped, by the grid or not: the array of a right side either way
        axes = left[0][0] if not is_mirrored(left[0][0], axes) else mirrored_axes(left[0][0])
    stored = [one.axes for one in described if one.pair.hemi == "n/a" and one.axes]
    return storage_of_right(axes, sideless[0][0] if sideless else storage_without_side(stored))


def _orient(
    described: Sequence[_UnturnedPair], storage: Storage, kept: Mapping[str, str], by_content: ByContent | None
) -> tuple[list[Pair], list[Finding]]:
    """Decide whose header is true, and into which axes every pair is turned."""
    mirrored = [is_mirrored(one.axes, NETWORK_SPACE["R"]) for one in described if one.pair.hemi == "R" and one.axes]
    right = "RAS" if 2 * sum(mirrored) > len(mirrored) else "LAS"
    pairs, undecided = [], {}
    for one in described:
        truthful = _is_true(one, right) if one.pair.hemi == "L" else True
        if truthful is None and one.pair.case not in kept:
            undecided[one.pair.case] = one
        pairs.append(_turned(one.pair, truthful is not False, storage))
    decided = by_content([pair for pair in pairs if pair.case in undecided], pairs) if by_content and undecided else {}
    pairs = [_turned(pair, decided[pair.case], storage) if pair.case in decided else pair for pair in pairs]
    pairs = [replace(pair, axes=kept[pair.case]) if pair.case in kept else pair for pair in pairs]
    return pairs, [_undecided(one) for case, one in undecided.items() if case not in decided and _is_whole(one)]


def _turned(pair: Pair, truthful: bool, storage: Storage) -> Pair:
    axes = network_axes(pair.hemi, truthful=truthful, storage=storage)
    return replace(pair, axes=axes, truthful=truthful)


def _is_true(one: _UnturnedPair, right: str) -> bool | None:
    """Whether the header of a left side is true; None: neither its id, its header nor a person tells."""
    if one.grid is None:
        return True
    on_left_grid = turned_grid(one.grid, "LAS").distance_mm(GRIDS["L"]) <= _LEFT_GRID_TOLERANCE_MM
    if on_left_grid and one.left_is == "flipped":
        logger.warning(
            "%s has the left CorObl grid, and is taken as flipped already because of --left-is", one.pair.images[0].name
        )
    return left_header_is_true(
        named_flipped=one.flipped,
        said=one.left_is,
        like_right=not is_mirrored(one.axes, right),
        left_of_midline=bool(one.grid.centre_mm[0] < 0),
        on_left_grid=on_left_grid,
    )


def _is_whole(one: _UnturnedPair) -> bool:
    """Whether the first image can be read; if not, the check of the content reports it."""
    try:
        read_volume(one.pair.images[0], "pair")
    except VolumeError:
        return False
    return True


def _undecided(one: _UnturnedPair) -> Finding:
    image = one.pair.images[0]
    if one.flipped:
        problem = (
            "is called flipped, and is stored like a right side: was it flipped in its voxels under the old header?"
        )
        return pair_finding(
            one.pair.case,
            image,
            problem,
            _FLIPPED_HINT,
        )
    shape = " x ".join(map(str, one.grid.shape if one.grid else ()))
    problem = f"is a left side, and its grid ({shape}) is not the left CorObl grid: is it flipped or as in the head?"
    return pair_finding(one.pair.case, image, problem, _LEFT_HINT)


def _collisions(pairs: list[Pair]) -> list[Finding]:
    """Report pairs that would share an id, such as a ``hemi-L`` to be renamed beside a ``hemi-Lflip``."""
    by_case: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_case[pair.case].append(pair)
    return [
        pair_finding(case, pair.images[0], f"is one of {len(same)} images that would be called {case}", "Keep one.")
        for case, same in by_case.items()
        if len(same) > 1
        for pair in same
    ]
