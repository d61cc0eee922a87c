"""Find what there is to work on: per person and session the scans, or ready-made crops of them."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bidsapp.bids.description import require_dataset
from bidsapp.bids.filters import Rules, read_filters
from bidsapp.bids.index import IndexedFile, entity_names, index_anatomy
from bidsapp.bids.links import bids_uri, dataset_links
from bidsapp.bids.metadata import Sidecars
from bidsapp.bids.people import LABEL, check_labels, clean_labels, list_folders, shorten_list
from bidsapp.bids.selection import NIFTI, crops, itk_transforms, preprocessed_scans, raw_scans
from bidsapp.errors import NothingMatchesError
from bidsapp.records import SIDES, Modality, Scan, SessionScans, Side

logger = logging.getLogger(__name__)

_NO_RULES: Rules = {}
_MOST_REASONS = 5
_OTHER_FORMAT = re.compile(r"_T[12]w\.(?!nii$|nii\.gz$|json$)[^/]+$")
_Key = tuple[str, str | None]


@dataclass(frozen=True)
class Found:
    """What there is to work on, and what is not."""

    sessions: tuple[SessionScans, ...]
    """In the order of participants and sessions."""
    left_out: dict[str, str]
    """Name (``sub-02`` or ``sub-02_ses-1``) -> reason, of people and sessions that were looked at and lack
    something."""


@dataclass(frozen=True)
class _Query:
    """What the user asks for; labels are without prefix, empty ones mean all."""

    modalities: tuple[Modality, ...]
    helpers: tuple[Modality, ...]
    participants: tuple[str, ...]
    sessions: tuple[str, ...]
    rules: Mapping[Modality, Rules]
    filters: Path | None

    @property
    def wanted(self) -> tuple[Modality, ...]:
        return tuple(dict.fromkeys((*self.modalities, *self.helpers)))

    def rules_for(self, modality: Modality) -> Rules:
        return self.rules.get(modality, _NO_RULES)


class _Dataset:
    """The files of one data set by person and session."""

    def __init__(self, link: str, root: Path, files: Sequence[IndexedFile]) -> None:
        self.link = link
        self.root = root
        self._sidecars = Sidecars(files)
        self._files: dict[_Key, list[IndexedFile]] = defaultdict(list)
        for file in files:
            if file.participant and file.extension != ".json":
                self._files[file.participant, file.session].append(file)
        self._sessions: dict[str, set[str | None]] = defaultdict(set)
        for participant, session in self._files:
            self._sessions[participant].add(session)

    def sessions(self, participant: str) -> frozenset[str | None]:
        return frozenset(self._sessions.get(participant, ()))

    def files(self, key: _Key) -> Sequence[IndexedFile]:
        return self._files.get(key, ())

    def scan(self, file: IndexedFile, modality: Modality) -> Scan:
        return Scan(file.path, modality, bids_uri(self.link, file.relative), self._sidecars.metadata(file))


def find_sessions(
    bids_dir: Path,
    *,
    modalities: Sequence[Modality],
    helpers: Sequence[Modality] = (),
    derivatives: Sequence[Path] = (),
    participants: Sequence[str] = (),
    exclude: Sequence[str] = (),
    sessions: Sequence[str] = (),
    filters: Path | None = None,
) -> Found:
    """Choose, per person and session, one whole scan per modality, or ready-made crops in CorObl space.

    Looked at, in this order: crops of each of `derivatives`, ``desc-preproc`` scans of each of `derivatives`, scans
    of `bids_dir`. Sides of crops that lack a modality are not used; with crops, the scan of `bids_dir` goes before a
    preprocessed one, and one of another data set than that of the crops is not used. Scans of a derivative data set
    without a session are not used for people who have sessions in `bids_dir`. Images are not opened.

    Parameters
    ----------
    modalities
        What each session must have.
    helpers
        What is put into `SessionScans.scans` too when it is there.
    derivatives
        Data sets of other tools.
    participants, exclude, sessions
        Labels with or without prefix, also several with commas between them; none: all.
    filters
        See `bidsapp.bids.filters.read_filters`; they hold for scans and crops of all data sets.

    Raises
    ------
    NoInputError
        When a data set or `filters` does not exist.
    BadDataError
        When a dataset_description.json or `filters` is damaged.
    UsageError
        When a label is empty or `filters` asks for something unknown.
    NothingMatchesError
        When a label does not exist, or nothing at all is left.
    """
    links = dataset_links(bids_dir, derivatives)
    for root in links.values():
        require_dataset(root)
    query = _Query(
        tuple(modalities),
        tuple(helpers),
        clean_labels(participants, "sub-"),
        clean_labels(sessions, "ses-"),
        read_filters(filters, entity_names()) if filters is not None else {},
        filters,
    )
    people, left_out = _select_people(links, query, clean_labels(exclude, "sub-"))
    datasets = [
        _Dataset(link, root, index_anatomy(root, participants=query.participants, sessions=query.sessions))
        for link, root in links.items()
    ]
    _check_sessions(links, datasets, people, query)

    found: list[SessionScans] = []
    for participant in people:
        chosen, reasons = _look_at_person(participant, datasets, query)
        found += chosen
        left_out |= reasons
    if not found:
        raise _nothing(links, query, left_out)
    return Found(tuple(found), dict(sorted(left_out.items())))


def _select_people(
    links: Mapping[str, Path], query: _Query, exclude: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """List the people to look at; folders that name nobody are reported unless people were asked for by name."""
    roots = list(links.values())
    folders = [list_folders(root, "sub-") for root in roots]
    existing = frozenset[str]().union(*(folder.labels for folder in folders))
    check_labels((*query.participants, *exclude), existing, prefix="sub-", roots=roots)
    people = sorted((frozenset(query.participants) or existing) - frozenset(exclude))
    if query.participants:
        return people, {}
    reason = f"is not the name of a person: behind sub- stands something else than {LABEL}"
    return people, {name: reason for folder in folders for name in folder.misnamed}


def _check_sessions(
    links: Mapping[str, Path], datasets: Sequence[_Dataset], people: Sequence[str], query: _Query
) -> None:
    """Raise `NothingMatchesError` for a session that nobody of `people` has."""
    if not query.sessions:
        return
    folders = [root / f"sub-{person}" for root in links.values() for person in people]
    existing = {label for folder in folders if folder.is_dir() for label in list_folders(folder, "ses-").labels}
    named = {session for data in datasets for person in people for session in data.sessions(person) if session}
    check_labels(query.sessions, existing | named, prefix="ses-", roots=list(links.values()))


def _look_at_person(
    participant: str, datasets: Sequence[_Dataset], query: _Query
) -> tuple[list[SessionScans], dict[str, str]]:
    """Choose the files of each session, or say why there are none."""
    keys = _sessions_to_look_at(participant, datasets, query)
    chosen = []
    left_out = {}
    for key in keys:
        session = _choose_files(key, datasets, query)
        if _is_complete(session, query):
            chosen.append(session)
        elif _has_some(session, query):
            left_out[session.name] = _what_is_missing(session, [key], datasets, query)
    if not chosen and not left_out and (keys or query.participants or not query.sessions):
        nobody = SessionScans(participant, None, {})
        left_out[nobody.name] = _what_is_missing(nobody, keys, datasets, query)
    return chosen, left_out


def _sessions_to_look_at(participant: str, datasets: Sequence[_Dataset], query: _Query) -> list[_Key]:
    raw = datasets[0]
    labels = {label for data in datasets for label in data.sessions(participant)}
    if query.sessions:
        labels &= set(query.sessions)
    elif None in labels - raw.sessions(participant) and _has_scans_in_sessions(participant, raw, query):
        logger.info("sub-%s: derivatives without a session are not used, as BIDS_DIR has sessions", participant)
        labels.discard(None)
    return [(participant, label) for label in sorted(labels, key=lambda label: label or "")]


def _has_scans_in_sessions(participant: str, raw: _Dataset, query: _Query) -> bool:
    keys = [(participant, label) for label in raw.sessions(participant) if label is not None]
    return any(raw_scans(raw.files(key), modality, {}) for key in keys for modality in query.modalities)


def _choose_files(key: _Key, datasets: Sequence[_Dataset], query: _Query) -> SessionScans:
    """Choose scans and crops; what is missing is missing in the result."""
    participant, session = key
    source, ready = _choose_crops(key, datasets, query)
    scans: dict[Modality, Scan] = {}
    for modality in query.wanted:
        scan = _choose_scan(key, modality, datasets, query, crop_source=source)
        if scan is not None:
            scans[modality] = scan
    transforms: dict[Modality, Path] = {}
    if source is not None:
        for modality in query.modalities:
            files = itk_transforms(source.files(key), modality)
            if files:
                transforms[modality] = files[0].path
    used = {scan.path for scan in scans.values()} | {crop.path for side in ready.values() for crop in side.values()}
    others = tuple(path for path in _all_candidates(key, datasets, query) if path not in used)
    return SessionScans(participant, session, scans, ready, transforms, others)


def _choose_crops(
    key: _Key, datasets: Sequence[_Dataset], query: _Query
) -> tuple[_Dataset | None, dict[Side, dict[Modality, Scan]]]:
    """Take the sides that have all modalities from the first data set that has such a side."""
    for data in datasets[1:]:
        ready: dict[Side, dict[Modality, Scan]] = {}
        for side in SIDES:
            files = {m: crops(data.files(key), side, m, query.rules_for(m)) for m in query.modalities}
            if files and all(files.values()):
                ready[side] = {modality: data.scan(found[-1], modality) for modality, found in files.items()}
        if ready:
            return data, ready
    return None, {}


def _choose_scan(
    key: _Key, modality: Modality, datasets: Sequence[_Dataset], query: _Query, *, crop_source: _Dataset | None
) -> Scan | None:
    rules = query.rules_for(modality)
    raw, *others = datasets
    from_raw = [(raw, raw_scans(raw.files(key), modality, rules))]
    if crop_source is not None:  # a transform starts at the scan that the crop was cut from
        choices = [*from_raw, (crop_source, preprocessed_scans(crop_source.files(key), modality, rules))]
    else:
        choices = [(data, preprocessed_scans(data.files(key), modality, rules)) for data in others] + from_raw
    return next((data.scan(files[-1], modality) for data, files in choices if files), None)


def _all_candidates(key: _Key, datasets: Sequence[_Dataset], query: _Query) -> list[Path]:
    """List every scan and crop of the session, whatever the filters say."""
    raw, *others = datasets
    files: list[IndexedFile] = []
    for modality in query.wanted:
        files += raw_scans(raw.files(key), modality, {})
        for data in others:
            files += preprocessed_scans(data.files(key), modality, {})
            files += [crop for side in SIDES for crop in crops(data.files(key), side, modality, {})]
    return sorted({file.path for file in files})


def _is_complete(session: SessionScans, query: _Query) -> bool:
    return bool(session.crops) or all(modality in session.scans for modality in query.modalities)


def _has_some(session: SessionScans, query: _Query) -> bool:
    return any(modality in session.scans for modality in query.modalities)


def _what_is_missing(session: SessionScans, keys: Sequence[_Key], datasets: Sequence[_Dataset], query: _Query) -> str:
    """Write e.g. ``no T2w image; there is: T1w``."""
    missing = [modality for modality in query.modalities if modality not in session.scans]
    files = [file for data in datasets for key in keys for file in data.files(key) if file.extension in NIFTI]
    there = {file.name if file.entities["suffix"] in missing else str(file.entities["suffix"]) for file in files}
    where = f" in {_name_sessions(query)}" if query.sessions and session.session is None else ""
    passing = f" that passes {query.filters}" if any(modality in query.rules for modality in missing) else ""
    there |= {
        name for data in datasets for key in keys or [(session.participant, None)] for name in _unread(data.root, key)
    }
    return f"no {' and no '.join(missing)} image{passing}{where}; there is: {shorten_list(there)}"


def _unread(root: Path, key: _Key) -> list[str]:
    """What lies beside the scans of a session in a format that is not read, or cannot be looked at, in words."""
    participant, session = key
    person = root / f"sub-{participant}"
    folders = [person / f"ses-{session}" / "anat"] if session else [person / "anat", *sorted(person.glob("ses-*/anat"))]
    found = []
    for folder in folders:
        try:
            names = [path.name for path in sorted(folder.iterdir())]
        except PermissionError:
            found.append(f"{folder.relative_to(root)} (may not be read)")
        except OSError:
            continue
        else:
            images = [name for name in names if _OTHER_FORMAT.search(name)]
            found += [f"{name} (not NIfTI: convert it to .nii.gz)" for name in images]
    return found


def _nothing(links: Mapping[str, Path], query: _Query, left_out: Mapping[str, str]) -> NothingMatchesError:
    """Say what was looked for and where, and what is there instead."""
    of = shorten_list(f"sub-{label}" for label in query.participants) if query.participants else "anybody"
    parts = [f"no {' + '.join(query.modalities)} of {of}"]
    if query.sessions:
        parts.append(f"in {_name_sessions(query)}")
    if query.rules:
        parts.append(f"that passes {query.filters}")
    parts.append(f"in {', '.join(map(str, links.values()))}")
    reasons = [f"{name}: {reason}" for name, reason in sorted(left_out.items())]
    if len(reasons) > _MOST_REASONS:
        reasons[_MOST_REASONS:] = [f"and {len(reasons) - _MOST_REASONS} more"]
    return NothingMatchesError(" ".join(parts), ". ".join(reasons) or "Nobody is left to look at.")


def _name_sessions(query: _Query) -> str:
    return " or ".join(f"ses-{label}" for label in query.sessions)
