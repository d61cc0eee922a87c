"""The BIDS validator looks through the input before any work: what stops a run, and what is only told.

The validator is the official one (bids-validator-deno, its schema inside). It runs without the right to use the
network or to write, so that it can fetch nothing and change nothing.
"""

from __future__ import annotations

import logging
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bidsapp.bids.description import FILE_NAME, read_description, require_dataset
from bidsapp.bids.people import clean_labels
from bidsapp.errors import BadDataError, BidsValidationError
from bidsapp.files import parse_json

logger = logging.getLogger(__name__)

_OF_ONE_IMAGE = {"EMPTY_FILE", "NIFTI_HEADER_UNREADABLE", "SYMLINK_BROKEN"}
"""Damage that is met again where the image is read, and there it costs one person, not everybody."""

_FIELDS_THAT_MATTER = {"", "Name", "BIDSVersion", "DatasetType"}
"""Of dataset_description.json; the others (authors, funding, references) tell nothing of a scan."""

_MOST_FILES = 3
_MOST_IN_LOG = 20


class _NotRunError(Exception):
    """Why the validator gave no answer."""


@dataclass(frozen=True)
class Complaint:
    """One thing that the validator says."""

    code: str
    severity: str
    """``error`` or ``warning``."""
    location: str
    """Path below BIDS_DIR that begins with ``/``; a folder's ends with it too."""
    about: str = ""
    """The field of a JSON file, or ``""``."""
    words: str = ""
    """What the code means."""

    @property
    def place(self) -> str:
        """``/dataset_description.json (Name)``."""
        return f"{self.location} ({self.about})" if self.about else self.location


@dataclass(frozen=True)
class Validation:
    """What was found in a data set."""

    errors: tuple[Complaint, ...] = ()
    """They stop the run."""
    passed_over: tuple[Complaint, ...] = ()
    """Errors that do not."""
    warnings: tuple[Complaint, ...] = ()
    """They never do."""

    def write_to_log(self) -> None:
        """Write every error where details go, and of each kind of warning how many there are and some of the files."""
        for title, complaints in (("error", self.errors), ("error passed over", self.passed_over)):
            for complaint in complaints:
                words = " ".join(complaint.words.split())
                logger.debug("BIDS %s: %s %s: %s", title, complaint.code, complaint.place, words)
        kinds: dict[tuple[str, str], list[Complaint]] = defaultdict(list)
        for complaint in self.warnings:  # 44 of them per scan are nothing unusual
            kinds[complaint.code, complaint.about].append(complaint)
        for (code, about), same in sorted(kinds.items()):
            places = ", ".join(complaint.location for complaint in same[:_MOST_IN_LOG])
            words = " ".join(same[0].words.split())
            logger.debug("BIDS warning: %s %s, %s: %s: %s", code, about, _count(same, "time"), places, words)

    def require_valid(self, bids_dir: Path) -> None:
        """Say in a line what was found; raises `BidsValidationError` for errors that stop the run."""
        if self.errors:
            raise BidsValidationError(
                f"{bids_dir} is not valid BIDS, {_count(self.errors, 'error')}:\n  "
                + "\n  ".join(shorten(self.errors)),
                "Mend what is named (the log has every complaint), or give --skip-bids-validation to go on as it is.",
            )
        if self.passed_over:
            listed = "; ".join(shorten(self.passed_over))
            logger.warning("BIDS validation passed over %s: %s", _count(self.passed_over, "error"), listed)
        logger.info("BIDS validation: no errors that stop us, %s (in the log)", _count(self.warnings, "warning"))


def validate_input(
    bids_dir: Path, *, ours: Sequence[Path] = (), participants: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Validation:
    """Let the validator look through `bids_dir`, and tell what stops a run from what does not.

    Errors are passed over about the files of people who were not asked for, about single damaged images (they are
    found again where they are read, and cost one person), and about fields of dataset_description.json that tell
    nothing of a scan. A derivative data set is not looked at: names that our field uses, such as ``hemi-`` of crops,
    are not in BIDS. Where the validator does not run, that is said as a warning, and nothing is found.

    Parameters
    ----------
    ours
        Folders that are not part of the input, wherever they lie: OUTPUT_DIR, the work directory.
    participants, exclude
        Labels of people as the user gave them; none: everybody.

    Raises
    ------
    NoInputError, BadDataError
        When `bids_dir` is no data set at all.
    """
    require_dataset(bids_dir)
    if read_description(bids_dir / FILE_NAME).get("DatasetType", "raw") != "raw":
        logger.info("%s is a derivative data set: its names are not held against BIDS", bids_dir)
        return Validation()
    logger.info("the BIDS validator looks through %s; --skip-bids-validation leaves that out", bids_dir)
    try:
        complaints = _run_validator(bids_dir)
    except _NotRunError as error:
        logger.warning("the BIDS validator did not run, so the input was not checked: %s", error)
        return Validation()
    wanted, without = set(clean_labels(participants, "sub-")), set(clean_labels(exclude, "sub-"))
    not_input = [place for folder in ours if (place := _location_in(folder, bids_dir))]
    sorted_out: dict[str, list[Complaint]] = defaultdict(list)
    for complaint in complaints:
        if any(complaint.location.startswith(place) for place in not_input):
            continue
        kind = "warnings" if complaint.severity != "error" else "errors"
        if kind == "errors" and _does_not_matter(complaint, wanted, without):
            kind = "passed_over"
        sorted_out[kind].append(complaint)
    return Validation(**{kind: tuple(found) for kind, found in sorted_out.items()})


def shorten(complaints: Iterable[Complaint]) -> list[str]:
    """Write a line per code: the first files, how many more, and what the code means."""
    by_code: dict[str, list[Complaint]] = defaultdict(list)
    for complaint in complaints:
        by_code[complaint.code].append(complaint)
    lines = []
    for code, same in sorted(by_code.items()):
        places = sorted({complaint.place for complaint in same})
        more = f" and {len(places) - _MOST_FILES} more" if len(places) > _MOST_FILES else ""
        words = " ".join(same[0].words.split()).partition(". ")[0].rstrip(".")
        lines.append(f"{code}: {', '.join(places[:_MOST_FILES])}{more}" + (f" - {words}" if words else ""))
    return lines


def _does_not_matter(complaint: Complaint, wanted: set[str], without: set[str]) -> bool:
    first = complaint.location.split("/")[1] if complaint.location.startswith("/") else ""
    if first.startswith("sub-"):
        person = first.removeprefix("sub-")
        return (bool(wanted) and person not in wanted) or person in without or complaint.code in _OF_ONE_IMAGE
    return complaint.location == f"/{FILE_NAME}" and complaint.about not in _FIELDS_THAT_MATTER


def _location_in(folder: Path, bids_dir: Path) -> str | None:
    """Where `folder` is below `bids_dir`, in the validator's spelling; None where it is elsewhere."""
    try:
        return f"/{folder.resolve().relative_to(bids_dir.resolve()).as_posix()}/"
    except ValueError:
        return None


def _run_validator(bids_dir: Path) -> list[Complaint]:
    """Every complaint of the validator; raises `_NotRunError` when it gives no answer."""
    try:
        process = subprocess.run(
            [*_command(), "--format", "json", str(bids_dir)], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:
        raise _NotRunError(str(error)) from error
    try:
        answer = parse_json(process.stdout, "its answer", strict=False)["issues"]
        complaints = [_complaint(issue, answer.get("codeMessages", {})) for issue in answer["issues"]]
    except (BadDataError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = process.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[0] if said else f"it ended with {process.returncode} and no answer"
        raise _NotRunError(reason) from error
    return sorted(set(complaints), key=lambda one: (one.code, one.place))


def _command() -> list[str]:
    """The validator without its rights to use the network, to write and to start programs."""
    try:
        import bids_validator_deno
        from deno import find_deno_bin

        program = Path(str(bids_validator_deno.__file__)).with_name("bids-validator.js")
        return [str(find_deno_bin()), "run", "--no-prompt", "--allow-read", "--allow-env", str(program)]
    except ImportError as error:
        raise _NotRunError(str(error)) from error


def _complaint(issue: Mapping[str, Any], meanings: object) -> Complaint:
    code = str(issue["code"])
    meaning = str(meanings.get(code, "")) if isinstance(meanings, Mapping) else ""
    complaint = Complaint(code, str(issue["severity"]), str(issue.get("location", "")), str(issue.get("subCode", "")))
    return replace(complaint, words=meaning or str(issue.get("issueMessage", "")))


def _count(complaints: Sequence[Complaint], what: str) -> str:
    return f"{len(complaints)} {what}{'' if len(complaints) == 1 else 's'}"
