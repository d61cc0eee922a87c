"""Let pybids look through a data set: which anatomical files are there, and what their names say."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bidsapp.bids.people import LABEL
from bidsapp.errors import BadDataError

logger = logging.getLogger(__name__)

_CONFIGS = ("bids", "derivatives")
_NOT_ENTITIES = {"scans", "fmap"}
_NO_LABELS = "(?<!_dseg)(?<!_probseg)(?<!_mask)"
_PLACE = re.compile(
    rf"sub-(?P<sub>{LABEL})/(?:ses-(?P<ses>{LABEL})/)?(?:anat/|warps/)?"
    rf"sub-(?P<file_sub>{LABEL})(?:_ses-(?P<file_ses>{LABEL}))?_[^/]+"
)


@dataclass(frozen=True)
class IndexedFile:
    """A file and what its name says."""

    root: Path
    """The data set."""
    relative: str
    """The path below `root`, with ``/``."""
    entities: dict[str, str | int]
    """pybids' names (subject, acquisition, ...) -> value; ``run`` is a number, all others are strings."""

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.root / self.relative

    @property
    def name(self) -> str:
        """The file's name without folders."""
        return self.relative.rpartition("/")[2]

    @property
    def participant(self) -> str:
        """The label without ``sub-``, ``""`` for a file that counts for everybody."""
        return str(self.entities.get("subject", ""))

    @property
    def session(self) -> str | None:
        """The label without ``ses-``."""
        session = self.entities.get("session")
        return None if session is None else str(session)

    @property
    def extension(self) -> str:
        """``.nii.gz``, ``.json``, ..."""
        return str(self.entities.get("extension", ""))


def index_anatomy(
    root: Path, *, participants: Collection[str] = (), sessions: Collection[str] = ()
) -> list[IndexedFile]:
    """List images in ``anat`` (no label maps), the JSON files that may describe them, and ITK files of transforms.

    Links are listed wherever they lead, and be it nowhere. Entities are read from the path below `root` only: pybids
    by itself would take ``sub-99`` or ``run-2`` from the folders above. Files whose names contradict their folders
    are left out with a warning.

    Parameters
    ----------
    root
        The top folder of a data set.
    participants, sessions
        Labels to look at; empty: all. Files without a session are looked at in any case.

    Raises
    ------
    BadDataError
        When pybids cannot index the data set.
    """
    return _index(root, _unwanted(participants, sessions))


def index_label_maps(root: Path) -> list[IndexedFile]:
    """List the label maps in the ``anat`` folders of a data set, see `index_anatomy`."""
    anat = rf"sub-{LABEL}(?:/ses-{LABEL})?(?:/anat(?:/sub-[^/]+_dseg\.nii\.gz)?)?"
    return _index(root, re.compile(rf"^(?!/{anat}$)"))


def _index(root: Path, unwanted: re.Pattern[str]) -> list[IndexedFile]:
    pybids = _pybids()
    root = root.absolute()
    ignore = [unwanted, *_closed_folders(root, unwanted)]
    indexer = pybids.BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=ignore)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layout = pybids.BIDSLayout(root, validate=False, config=list(_CONFIGS), indexer=indexer)
        paths = sorted(layout.get(return_type="filename"))
    except Exception as error:  # whatever pybids trips over is a matter of the data
        hint = "Check its dataset_description.json (GeneratedBy) and, if there is one, layout_config.json."
        raise BadDataError(f"{root} cannot be indexed by pybids: {error}", hint) from error

    configs = _load_configs()
    files = []
    for path in paths:
        relative = Path(path).relative_to(root).as_posix()
        entities = pybids.parse_file_entities(f"/{relative}", config=configs)
        if "subject" in entities and not _agrees_with_folders(relative):
            logger.warning("Ignored, as its name and its folders name different people or sessions: %s", path)
            continue
        plain = {name: int(value) if isinstance(value, int) else str(value) for name, value in entities.items()}
        files.append(IndexedFile(root, relative, plain))
    return files


def _closed_folders(root: Path, unwanted: re.Pattern[str]) -> list[re.Pattern[str]]:
    """Match the folders of people that may not be looked into, which would cost everybody's; a warning names them."""
    closed: list[str] = []
    for person in sorted(root.glob("sub-*")):
        if unwanted.search(f"/{person.name}"):  # one of many jobs must not look through all people
            continue
        for folder in (person, *(path for below in ("ses-*", "anat", "ses-*/anat") for path in person.glob(below))):
            if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
                logger.warning("%s cannot be read: nothing in it is used; look at its permissions", folder)
                closed.append(folder.relative_to(root).as_posix())
    return [re.compile(rf"^/(?:{'|'.join(map(re.escape, closed))})(?:/.*)?$")] if closed else []


def entity_names() -> tuple[str, ...]:
    """Name all entities that `index_anatomy` can find in a file name."""
    names = {name for config in _load_configs() for name in config.entities}
    return tuple(sorted(names - _NOT_ENTITIES))


def _load_configs() -> list[Any]:
    models = _pybids().models
    return [models.Config.load(name) for name in _CONFIGS]


def _pybids() -> Any:
    """Import pybids, which reads its settings then."""
    try:
        import bids.layout
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        hint = (
            "It reads pybids_config.json in the home folder and in the one that the command is given in, and the file "
            "that PYBIDS_CONFIG names: mend it, or move it away."
        )
        raise BadDataError(f"pybids cannot read its settings: {error}", hint) from error
    return bids.layout


def _unwanted(participants: Collection[str], sessions: Collection[str]) -> re.Pattern[str]:
    """Match each path, as pybids sees it below the root, that need not be looked at."""
    person = rf"sub-(?:{_either(participants)})(?:/ses-(?:{_either(sessions)}))?"
    file = rf"/sub-[^/]+(?:{_NO_LABELS}\.nii(?:\.gz)?|_T[12]w\.json|_xfm\.txt)"
    wanted = rf"/(?:[^/]*T[12]w\.json|{person}(?:/sub-[^/]+_T[12]w\.json|/(?:anat|warps)(?:{file})?)?)"
    return re.compile(rf"^(?!{wanted}$)")


def _either(labels: Collection[str]) -> str:
    return "|".join(re.escape(label) for label in sorted(labels)) or LABEL


def _agrees_with_folders(relative: str) -> bool:
    match = _PLACE.fullmatch(relative)
    if match is None:
        return False
    return match["sub"] == match["file_sub"] and match["ses"] in {None, match["file_ses"]}
