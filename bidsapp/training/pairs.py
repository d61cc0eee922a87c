"""Find training pairs by the names of their files, and say whose they are and which side they show."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine

from bidsapp.corobl.grid import GRIDS
from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.files import expand_home
from bidsapp.records import Hemi, LeftIs, Pair
from bidsapp.training.orientation import (
    NETWORK_SPACE,
    Storage,
    axes_of,
    is_mirrored,
    left_header_is_true,
    network_axes,
    storage_without_side,
    turned_grid,
)
from bidsapp.training.pairs_table import network_case
from bidsapp.training.volumes import Grid, VolumeError, grid_distance_mm, read_grid

logger = logging.getLogger(__name__)

COROBL_LEFT_GRID = Grid(GRIDS["L"].shape, np.asarray(GRIDS["L"].affine, dtype=np.float64))
"""HippUnfold's grid of left crops, as in the head (RAS, mm)."""

LOOKED_FOR = (
    "Looked for <id>_img.nii.gz (several channels: <id>_img_0000.nii.gz, <id>_img_0001.nii.gz, ...) with "
    "<id>_lbl.nii.gz, or .nii, directly in this folder."
)

_BEGINS_A_FORMULA = ("=", "+", "-", "@")
LONGEST_ID_BYTES = 180
"""File systems take names of 255 bytes; ours add suffixes, and while a file is written, something random in front."""

_LEFT_GRID_TOLERANCE_MM = 0.01
_FILE = re.compile(r"(?P<case>.+)_(?:lbl|img(?:_(?P<channel>[0-9]{4}))?)(?P<suffix>\.nii(?:\.gz)?)", re.DOTALL)
_PERSON = re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9+]+")
_HEMI = re.compile(r"(?<![A-Za-z0-9])hemi-(?P<side>[A-Za-z0-9]+)")
_LEFT_HINT = "Say what the hemi-L files are: --left-is flipped, or --left-is as-in-head."


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one file of one pair.

    Attributes
    ----------
    case
        The pair, by the id that nnU-Net would use.
    file
        The file to correct or to add.
    problem
        What is wrong and the value that was met, to be read after the file's name.
    hint
        What to do about it, ``""`` when the problem says it.
    """

    case: str
    file: Path
    problem: str
    hint: str = ""


@dataclass(frozen=True)
class FoundPairs:
    """Complete pairs in the order of their ids, and what is wrong with names and sides.

    A pair that a finding names by its `case` is not fit for use. `storage` is what they are turned to.
    """

    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...]
    storage: Storage = field(default_factory=lambda: NETWORK_SPACE)


@dataclass
class _CaseFiles:
    """Files of one id; channel None is ``_img`` without a number."""

    images: dict[int | None, list[Path]] = field(default_factory=lambda: defaultdict(list))
    labels: list[Path] = field(default_factory=list)

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(sorted(channel or 0 for channel in self.images))

    @property
    def first(self) -> Path:
        return min(path for paths in (*self.images.values(), self.labels) for path in paths)


ByContent = Callable[[Sequence[Pair], Sequence[Pair]], Mapping[str, bool]]
"""Of left sides (the first), tell by what they show whether their headers are true, by case; all pairs come second.

Cases that it cannot tell are missing from its answer.
"""


def find_pairs(
    folder: Path,
    *,
    participant_pattern: str | None = None,
    left_is: LeftIs | None = None,
    storage: Storage | None = None,
    by_content: ByContent | None = None,
) -> FoundPairs:
    """List the pairs directly inside `folder`.

    A person is the ``sub-<label>`` in the id, else the id without its ``hemi`` entity, so that both sides of
    a head are one person. Every pair is to be turned by its header (`bidsapp.training.orientation`). Whether the
    header of a left side is true is told by its id and its grid, by `left_is`, or by `by_content`; else it is a
    finding. ``hemi-L`` becomes ``hemi-Lflip``, as network space has it. Hidden files are ignored; other NIfTI files
    are ignored with a warning.

    Parameters
    ----------
    folder
        Files ``<id>_img.nii.gz`` (or ``_img_0000``, ``_img_0001``, ... for channels) and ``<id>_lbl.nii.gz``,
        or ``.nii``.
    participant_pattern
        A regular expression, searched in the id, whose one group is the person.
    left_is
        What all left files are.
    storage
        Of the model that is trained; None: network space, and the majority's handedness where no side is known.
    by_content
        Asked about left sides of which nothing else says whether their headers are true.

    Raises
    ------
    NoInputError
        When the folder is missing, is a file, or holds no file of a pair.
    UsageError
        When `participant_pattern` is not a regular expression with one group.
    """
    folder = expand_home(folder).resolve()
    pattern = _compile_pattern(participant_pattern)
    cases, others = _group_files(_list_folder(folder))
    if not cases:
        raise NoInputError(f"{folder} holds no training pairs", " ".join([LOOKED_FOR, _mention(others)]).strip())
    if others:
        logger.warning("Ignored, as no name of a training pair: %s", ", ".join(path.name for path in others))

    usual = _usual_channels(cases.values())
    described: list[_Described] = []
    findings: list[Finding] = []
    for case, files in sorted(cases.items()):
        missing = _file_findings(case, files, usual, others)
        findings += missing
        if not missing:
            one, doubts = _describe(case, files, pattern, left_is)
            described.append(one)
            findings += doubts
    pairs, doubts, storage = _orient(described, storage, by_content)
    findings += [*doubts, *_collisions(pairs)]
    return FoundPairs(tuple(sorted(pairs, key=lambda pair: pair.case)), tuple(findings), storage)


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


def _list_folder(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError as error:
        raise NoInputError(f"{folder} does not exist", LOOKED_FOR) from error
    except NotADirectoryError as error:
        raise NoInputError(f"{folder} is a file, not a folder", LOOKED_FOR) from error
    except OSError as error:
        raise BadDataError(f"{folder} cannot be listed: {error.strerror}") from error


def _group_files(paths: Iterable[Path]) -> tuple[dict[str, _CaseFiles], list[Path]]:
    """Sort files by id; the second result is every other NIfTI file."""
    cases: dict[str, _CaseFiles] = defaultdict(_CaseFiles)
    others = []
    for path in paths:
        match = _FILE.fullmatch(path.name)
        if match is None:
            if re.search(r"\.nii(\.|$)", path.name, re.IGNORECASE):
                others.append(path)
        elif path.name.endswith("_lbl" + match["suffix"]):
            cases[match["case"]].labels.append(path)
        else:
            channel = None if match["channel"] is None else int(match["channel"])
            cases[match["case"]].images[channel].append(path)
    return dict(cases), others


def _mention(paths: list[Path]) -> str:
    return f"Found instead: {', '.join(path.name for path in paths[:5])}." if paths else ""


def _usual_channels(cases: Iterable[_CaseFiles]) -> tuple[int, ...]:
    """Channels of most cases, with gaps filled; when undecided, the larger number."""
    counts = Counter(files.channels for files in cases if files.images)
    if not counts:
        return (0,)
    usual = max(counts, key=lambda channels: (counts[channels], len(channels)))
    return tuple(range(max(usual) + 1))


def _file_findings(case: str, files: _CaseFiles, usual: tuple[int, ...], others: list[Path]) -> list[Finding]:
    """Say what is missing, double, or named in a way that cannot be stored."""
    if not case.isprintable() or case != case.strip():
        problem = f"has the id {case!r}, with control characters or blanks at an end"
        return [Finding(repr(case), files.first, problem, "Rename it.")]
    if case[0] in _BEGINS_A_FORMULA:
        problem = f"has an id that begins with {case[0]!r}: a spreadsheet would take it for a formula"
        return [Finding(case, files.first, problem, "Rename it.")]
    if len(os.fsencode(case)) > LONGEST_ID_BYTES:
        problem = (
            f"has an id of {len(os.fsencode(case))} bytes, and {LONGEST_ID_BYTES} leave room for the names made of it"
        )
        return [Finding(case, files.first, problem, "Rename it.")]
    findings = []
    for paths in (*files.images.values(), files.labels):
        if len(paths) > 1:
            problem = f"stands beside {paths[0].name}: which one counts?"
            findings.append(Finding(case, paths[1], problem, "Keep one of .nii and .nii.gz."))
    similar = _mention([path for path in others if path.name.startswith(case)])
    folder = files.first.parent
    if not files.labels:
        findings.append(Finding(case, folder / f"{case}_lbl.nii.gz", "is missing", similar))
    if not files.images:
        name = f"{case}_img.nii.gz" if usual == (0,) else f"{case}_img_0000.nii.gz"
        findings.append(Finding(case, folder / name, "is missing", similar))
    else:
        findings += _channel_findings(case, files, usual)
    return findings


def _channel_findings(case: str, files: _CaseFiles, usual: tuple[int, ...]) -> list[Finding]:
    if None in files.images and len(files.images) > 1:
        numbered = next(paths[0] for channel, paths in files.images.items() if channel is not None)
        problem = f"stands beside {numbered.name}: which is channel 0000?"
        return [Finding(case, files.images[None][0], problem, "Number all channels of an image.")]
    wanted = " ".join(f"{channel:04d}" for channel in usual)
    findings = []
    for channel in sorted(set(usual) - set(files.channels)):
        path = files.first.parent / f"{case}_img_{channel:04d}.nii.gz"
        findings.append(Finding(case, path, f"is missing: other pairs have the channels {wanted}"))
    for channel in sorted(set(files.channels) - set(usual)):
        path = files.images[channel][0]
        findings.append(Finding(case, path, f"is one channel too many: other pairs have {wanted}"))
    return findings


def _describe(
    case: str, files: _CaseFiles, pattern: re.Pattern[str] | None, left_is: LeftIs | None
) -> tuple[_Described, list[Finding]]:
    images = tuple(files.images[channel][0] for channel in sorted(files.images, key=lambda number: number or 0))
    participant = _participant(case, pattern)
    name, hemi, word, problem = _side(case)
    said = None if word == "Lflip" and left_is == "as-in-head" else left_is
    try:
        grid = read_grid(images[0])
    except VolumeError:  # which the check of the content reports
        grid = None
    pair = Pair(name, participant, hemi, images, files.labels[0])
    findings = [Finding(pair.case, images[0], problem)] if problem else []
    if pattern is not None and not participant:
        problem = f"has the id {case!r}, in which --participant-pattern {pattern.pattern!r} finds nobody"
        findings.append(Finding(pair.case, images[0], problem))
    if participant[:1] in _BEGINS_A_FORMULA:
        problem = f"is of the person {participant!r}, whose name a spreadsheet would take for a formula"
        findings.append(Finding(pair.case, images[0], problem, "Rename it, or give another --participant-pattern."))
    return _Described(pair, grid, word, said), findings


def _participant(case: str, pattern: re.Pattern[str] | None) -> str:
    """Name the person, ``""`` when `pattern` does not match."""
    if pattern is not None:
        match = pattern.search(case)
        return (match[1] or "").strip() if match else ""
    match = _PERSON.search(case)
    if match:
        return match[0]
    without_side = "_".join(part for part in case.split("_") if not _HEMI.fullmatch(part))
    return without_side or case


def _side(case: str) -> tuple[str, Hemi, str, str]:
    """The id in network space, the side, the word for it in the id, and what is wrong with that word."""
    entity = _HEMI.search(case)
    if entity is None:
        return case, "n/a", "", ""
    match entity["side"]:
        case "R":
            return case, "R", "R", ""
        case "Lflip":
            return case, "L", "Lflip", ""
        case "L":
            return network_case(case), "L", "L", ""
        case other:
            return case, "n/a", "", f"has hemi-{other} in its id, not hemi-R, hemi-L or hemi-Lflip"


@dataclass(frozen=True)
class _Described:
    """A pair by its names, with what its header and a person say of it."""

    pair: Pair
    grid: Grid | None
    word: str
    said: LeftIs | None


def _orient(
    described: list[_Described], storage: Storage | None, by_content: ByContent | None
) -> tuple[list[Pair], list[Finding], Storage]:
    """Decide whose header is true, and into which axes every pair is turned."""
    axes = {one.pair.case: axes_of(one.grid.affine) for one in described if one.grid is not None}
    if storage is None:
        sideless = [axes[one.pair.case] for one in described if one.pair.hemi == "n/a" and one.pair.case in axes]
        storage = dict(NETWORK_SPACE) | {"n/a": storage_without_side(sideless)}
    mirrored = [is_mirrored(axes[one.pair.case], NETWORK_SPACE["R"]) for one in described
                if one.pair.hemi == "R" and one.pair.case in axes]  # fmt: skip
    right = "RAS" if 2 * sum(mirrored) > len(mirrored) else "LAS"
    pairs, undecided = [], {}
    for one in described:
        truthful = _is_true(one, right) if one.pair.hemi == "L" else True
        if truthful is None:
            undecided[one.pair.case] = one
        pairs.append(_turned(one.pair, truthful is not False, storage))
    told = by_content([pair for pair in pairs if pair.case in undecided], pairs) if by_content and undecided else {}
    pairs = [_turned(pair, told[pair.case], storage) if pair.case in told else pair for pair in pairs]
    return pairs, [_undecided(one) for case, one in undecided.items() if case not in told], storage


def _turned(pair: Pair, truthful: bool, storage: Storage) -> Pair:
    axes = network_axes(pair.hemi, truthful=truthful, storage=storage)
    return replace(pair, axes=axes, truthful=truthful)


def _is_true(one: _Described, right: str) -> bool | None:
    """Whether the header of a left side is true; None: name, header and person do not say."""
    if one.grid is None:
        return True
    center = apply_affine(one.grid.affine, (np.array(one.grid.shape) - 1) / 2)
    on_left_grid = _is_corobl_left(turned_grid(one.grid, "LAS"))
    if on_left_grid and one.said == "flipped":
        logger.warning("%s lies in the left CorObl grid; flipped already, as --left-is says", one.pair.images[0].name)
    return left_header_is_true(
        named_flipped=one.word == "Lflip",
        said=one.said,
        like_right=not is_mirrored(axes_of(one.grid.affine), right),
        left_of_midline=bool(center[0] < 0),
        on_left_grid=on_left_grid,
    )


def _undecided(one: _Described) -> Finding:
    image = one.pair.images[0]
    if one.word == "Lflip":
        problem = "is hemi-Lflip, and is stored like a right side: was it flipped in its voxels under the old header?"
        return Finding(one.pair.case, image, problem, "If so, --left-is flipped says it; else name it hemi-L.")
    shape = " x ".join(map(str, one.grid.shape if one.grid else ()))
    problem = f"is hemi-L, and its grid ({shape}) is not the left CorObl grid: is it flipped or as in the head?"
    return Finding(one.pair.case, image, problem, _LEFT_HINT)


def _is_corobl_left(grid: Grid) -> bool:
    return grid.shape == COROBL_LEFT_GRID.shape and grid_distance_mm(grid, COROBL_LEFT_GRID) <= _LEFT_GRID_TOLERANCE_MM


def _collisions(pairs: list[Pair]) -> list[Finding]:
    """Report pairs that would share an id, such as a ``hemi-L`` to be renamed beside a ``hemi-Lflip``."""
    by_case: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_case[pair.case].append(pair)
    return [
        Finding(case, pair.images[0], f"is one of {len(same)} images that would be called {case}", "Keep one.")
        for case, same in by_case.items()
        if len(same) > 1
        for pair in same
    ]
