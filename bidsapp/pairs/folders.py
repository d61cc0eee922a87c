"""Folders of training pairs as people have them: ours, one level deeper, nnU-Net's raw data, AutoTop's tree."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bidsapp.bids.people import shorten_list
from bidsapp.errors import BadDataError, NoInputError
from bidsapp.files import read_json
from bidsapp.labels.tables import LARGEST_VALUE, is_label_name
from bidsapp.records import LabelTable, LeftIs

logger = logging.getLogger(__name__)

LOOKED_FOR = (
    "Looked for <id>_img.nii.gz (several channels: <id>_img_0000.nii.gz, <id>_img_0001.nii.gz, ...) with "
    "<id>_lbl.nii.gz, or .nii, directly in this folder or one level deeper; for imagesTr, labelsTr and dataset.json "
    "of nnU-Net; and for <subject>/hemi-L/img.nii.gz with manual_lbl, lbl or niftynet_lbl of Hippocampal_AutoTop."
)

_FILE = re.compile(r"(?P<case>.+)_(?:lbl|img(?:_(?P<channel>[0-9]{4}))?)(?P<suffix>\.nii(?:\.gz)?)", re.DOTALL)
_NNUNET_IMAGE = re.compile(r"(?P<case>.+?)(?:_(?P<channel>[0-9]{4}))?\.nii(?:\.gz)?", re.DOTALL)
_NIFTI = re.compile(r"\.nii(\.|$)", re.IGNORECASE)
_NIFTI_SUFFIX = re.compile(r"\.nii(?:\.gz)?$")
_AUTOTOP_LABELS = ("manual_lbl", "lbl", "niftynet_lbl")
"""Whichever comes first counts: a person's, then whatever else, then the network's."""


@dataclass
class CaseFiles:
    """Files of one id; channel None is an image without a number."""

    label_path: str
    image_path: str
    channel_path: str
    """Where the label map, the only image, and one channel (``{channel}``) belong, for messages."""
    images: dict[int | None, list[Path]] = field(default_factory=lambda: defaultdict(list))
    labels: list[Path] = field(default_factory=list)

    @property
    def channels(self) -> tuple[int, ...]:
        """Numbers of the channels that there are."""
        return tuple(sorted(channel or 0 for channel in self.images))

    @property
    def first(self) -> Path:
        """Any one of them."""
        return min(path for paths in (*self.images.values(), self.labels) for path in paths)


@dataclass(frozen=True)
class PairFolder:
    """What a folder holds."""

    cases: dict[str, CaseFiles]
    """Id -> its files."""
    others: tuple[Path, ...] = ()
    """Other NIfTI files, which are ignored."""
    table: LabelTable | None = None
    channels: tuple[str, ...] = ()
    """Names of labels and images that the folder itself gives."""
    left_is: LeftIs | None = None
    """What its left sides are, where its kind says so."""


def open_pair_folder(folder: Path) -> PairFolder:
    """Find out which kind of folder it is and list its pairs; says what is ignored.

    Hidden files are passed over.

    Raises
    ------
    NoInputError
        When the folder is missing, is a file, or holds no file of a pair.
    BadDataError
        When it cannot be listed, or its dataset.json cannot be used.
    """
    paths = _list_folder(folder)
    found = _plain(paths)
    deeper = [path for path in paths if path.is_dir()]
    if not found.cases:
        found = _nnunet(folder) or _autotop(deeper) or replace(_one_level_deeper(deeper), others=found.others)
    if not found.cases:
        mentioned = mention(list(found.others))
        raise NoInputError(f"{folder} holds no training pairs", f"{LOOKED_FOR} {mentioned}".strip())
    if found.others:
        names = shorten_list(str(path.relative_to(folder)) for path in found.others)
        logger.warning("Ignored, as no name of a training pair: %s", names)
    return found


def mention(paths: list[Path]) -> str:
    """Name a few files that were found where others were looked for."""
    return f"Found instead: {', '.join(path.name for path in paths[:5])}." if paths else ""


def _list_folder(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError as error:
        raise NoInputError(f"{folder} does not exist", LOOKED_FOR) from error
    except NotADirectoryError as error:
        raise NoInputError(f"{folder} is a file, not a folder", LOOKED_FOR) from error
    except OSError as error:
        raise BadDataError(f"{folder} cannot be listed: {error.strerror}") from error


def _plain(paths: Iterable[Path]) -> PairFolder:
    """``<id>_img`` and ``<id>_lbl`` among `paths`."""
    cases: dict[str, CaseFiles] = {}
    others = []
    for path in paths:
        match = _FILE.fullmatch(path.name)
        if match is None:
            if _NIFTI.search(path.name):
                others.append(path)
            continue
        start = f"{path.parent}/{match['case']}"
        files = cases.setdefault(
            match["case"],
            CaseFiles(f"{start}_lbl.nii.gz", f"{start}_img.nii.gz", start + "_img_{channel}.nii.gz"),
        )
        if path.name.endswith("_lbl" + match["suffix"]):
            files.labels.append(path)
        else:
            files.images[_number(match["channel"])].append(path)
    return PairFolder(cases, tuple(others))


def _one_level_deeper(folders: Iterable[Path]) -> PairFolder:
    """Pairs in the folders inside; ids begin with the folder's name where they would not tell pairs apart else."""
    inside = {folder: _plain(_list_folder(folder)) for folder in folders}
    inside = {folder: found for folder, found in inside.items() if found.cases}
    ids = [case for found in inside.values() for case in found.cases]
    telling = len(set(ids)) == len(ids) and all(re.search("[0-9]", case) for case in ids)
    sided = any(re.fullmatch("(?i)l|r|left|right|lh|rh|hemi-?[lr]", folder.name) for folder in inside)
    return PairFolder(
        {
            case if telling and not sided else f"{folder.name}_{case}": files
            for folder, found in inside.items()
            for case, files in found.cases.items()
        },
        tuple(path for found in inside.values() for path in found.others),
    )


def _autotop(subjects: Iterable[Path]) -> PairFolder | None:
    """``<subject>/hemi-L/img.nii(.gz)`` with a label map beside it; its left sides are flipped."""
    cases: dict[str, CaseFiles] = {}
    others: list[Path] = []
    for subject in subjects:
        for side in _list_folder(subject):
            if not (side.name.startswith("hemi-") and side.is_dir()):
                continue
            files: dict[str, list[Path]] = defaultdict(list)
            for path in _list_folder(side):
                if _NIFTI_SUFFIX.search(path.name):
                    files[_NIFTI_SUFFIX.sub("", path.name)].append(path)
            images, label = files.pop("img", []), next((name for name in _AUTOTOP_LABELS if name in files), None)
            if images:
                found = CaseFiles(f"{side}/manual_lbl.nii.gz", f"{side}/img.nii.gz", f"{side}/img.nii.gz")
                found.images[None] = images
                found.labels = files.pop(label, []) if label else []
                cases[f"{subject.name}_{side.name}"] = found
            others += [path for paths in files.values() for path in paths]
    if not cases:
        return None
    logger.info(
        "a tree of Hippocampal_AutoTop: its left sides are flipped in their voxels; --left-is as-in-head says otherwise"
    )
    return PairFolder(cases, tuple(sorted(others)), left_is="flipped")


def _nnunet(folder: Path) -> PairFolder | None:
    """``imagesTr``, ``labelsTr`` and dataset.json of nnU-Net, v1's and the Decathlon's too."""
    images, labels, description = (folder / name for name in ("imagesTr", "labelsTr", "dataset.json"))
    if not images.is_dir() or not labels.is_dir():
        return None
    content = read_json(description) if description.exists() else {}
    if not isinstance(content, dict):
        raise BadDataError(f"{description} is no description of a data set", "Restore nnU-Net's dataset.json.")
    _refuse_other_files(description, content)
    cases: dict[str, CaseFiles] = {}
    others = []

    def of_case(case: str) -> CaseFiles:
        start = f"{images}/{case}"
        paths = f"{labels}/{case}.nii.gz", start + "_0000.nii.gz", start + "_{channel}.nii.gz"
        return cases.setdefault(case, CaseFiles(*paths))

    for path in _list_folder(labels):
        if _NIFTI_SUFFIX.search(path.name):
            of_case(_NIFTI_SUFFIX.sub("", path.name)).labels.append(path)
        else:
            others.append(path)
    for path in _list_folder(images):
        match = _NNUNET_IMAGE.fullmatch(path.name)
        if match is None:
            others.append(path)
        elif _NIFTI_SUFFIX.sub("", path.name) in cases:  # the Decathlon's images have no number
            of_case(_NIFTI_SUFFIX.sub("", path.name)).images[None].append(path)
        else:
            of_case(match["case"]).images[_number(match["channel"])].append(path)
    for name in ("imagesTs", "labelsTs"):
        if (folder / name).is_dir():
            logger.info("%s is not trained on: it is not known who drew its labels", folder / name)
    channels = tuple(_by_number(description, content, "channel_names") or _by_number(description, content, "modality"))
    return PairFolder(cases, tuple(others), _nnunet_table(description, content), channels)


def _number(digits: str | None) -> int | None:
    return None if digits is None else int(digits)


def _refuse_other_files(description: Path, content: dict[str, Any]) -> None:
    ending = content.get("file_ending", ".nii.gz")
    if ending not in (".nii.gz", ".nii"):
        raise BadDataError(f"{description}: file_ending is {ending!r}", "Save images and labels as NIfTI files.")


def _by_number(description: Path, content: dict[str, Any], key: str) -> list[str]:
    """Names of channels in the order of their numbers; empty where there are none."""
    named = content.get(key, {})
    try:
        return [re.sub(r"[^\w.+-]+", "-", str(named[number])).strip("-") for number in sorted(named, key=int)]
    except (TypeError, ValueError) as error:
        raise BadDataError(
            f"{description}: {key} is {named!r}, not a number and a name per channel", 'As in {"0": "T1w"}.'
        ) from error


def _nnunet_table(description: Path, content: dict[str, Any]) -> LabelTable | None:
    """Names of labels: v2 has name -> value, v1 value -> name."""
    labels = content.get("labels")
    if not labels:
        return None
    names: dict[int, str] = {}
    try:
        turned = {name: value for value, name in labels.items()} if "0" in labels else labels
        for name, value in turned.items():
            names[_value(name, value)] = re.sub(r"[^A-Za-z0-9_-]+", "-", str(name)).strip("-")
    except (AttributeError, TypeError, ValueError) as error:
        raise BadDataError(
            f"{description}: labels cannot be used: {error}", "Give every label one name and one value."
        ) from error
    names.pop(0, None)
    doubtful = [name for name in names.values() if not is_label_name(name) or [*names.values()].count(name) > 1]
    if doubtful:
        raise BadDataError(
            f"{description}: {doubtful[0]!r} cannot be the name of a label",
            "Write labels.tsv beside it: one line per label, index, tab, name.",
        )
    return LabelTable(dict(sorted(names.items()))) if names else None


def _value(name: object, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"{name} is {value!r}, not one value")
    number = int(value)
    if not 0 <= number <= LARGEST_VALUE:
        raise ValueError(f"{name} is {number}; values run from 0 to {LARGEST_VALUE}")
    return number
