"""The models folder: which models are in it, whether they are what was fetched, and what to do where they are not.

Nothing here touches the network.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from bidsapp.content import file_sha256
from bidsapp.errors import BadDataError, HippoTuneError, NoInputError, UsageError
from bidsapp.files import expand_home, read_json, typed_json
from bidsapp.layout import ModelPlaces, OutputLayout
from bidsapp.models.registry import NAME, Registry, RegistryEntry, load_registry

log = logging.getLogger(__name__)

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".model")
"""The last is for addresses that end otherwise; what a file is, its first bytes say."""
COMMAND = "hippotune-models"


@dataclass(frozen=True)
class FetchRecord:
    """What is written beside a model when it is fetched."""

    url: str
    sha256: str
    date: str
    verified: bool
    """Whether the registry stated the same sha256."""


def model_path(given: str, places: ModelPlaces | None, output: OutputLayout, *, otherwise: str) -> Path:
    """The file or folder that ``--model`` means: a path that exists, else a name.

    Parameters
    ----------
    places
        Where names are looked up; None: nowhere.
    output, otherwise
        Of `model_choices`, for the message.

    Raises
    ------
    NoInputError
        When there is no such file or folder, or the model was not fetched yet.
    UsageError
        When nothing has this name.
    BadDataError
        When the file is not what was fetched, or a registry is damaged.
    """
    path = expand_home(given).absolute()
    if path.exists():
        return path
    if places is None or not is_name(given):
        raise NoInputError(
            f"--model {given}: there is no such file or folder",
            f"Choose one: {model_choices(places, output, otherwise=otherwise)}.",
        )
    if given not in names(load_registry(places), places):
        raise UsageError(
            f"--model {given}: no model has this name, and there is no such file or folder",
            f"Choose one: {model_choices(places, output, otherwise=otherwise)}.",
        )
    return locate_model(given, places)


def model_choices(places: ModelPlaces | None, output: OutputLayout, *, otherwise: str) -> str:
    """What ``--model`` takes: `otherwise`, the exports of the models in OUTPUT_DIR, names, paths."""
    trained = sorted(output.models.glob("*/export/current.zip")) if output.models.is_dir() else []
    named = names(load_registry(places), places) if places else []
    return ", ".join(f"--model {one}" for one in (otherwise, *map(str, trained), *named, "FILE.zip or FOLDER"))


def locate_model(name: str, places: ModelPlaces) -> Path:
    """The file or folder of the model of a name; its sha256 is checked where one is known.

    Raises
    ------
    UsageError
        When nothing has this name.
    NoInputError
        When it was not fetched yet.
    BadDataError
        When the file is not what was fetched, or a registry is damaged.
    """
    registry = load_registry(places)
    entry = registry.get(name)
    if entry and entry.path:
        return _own(entry)
    file = find_file(name, places)
    if file is None:
        if entry is None:
            raise UsageError(
                f"no model has the name {name}", f"Choose one: {', '.join(names(registry, places)) or 'none'}."
            )
        raise NoInputError(f"the model {name} was not fetched to {places.models} yet", how_to_fetch(entry, places))
    record = read_record(name, places)
    expected = (entry.sha256 if entry else None) or (record.sha256 if record else None)
    if expected is None:
        log.warning("no checksum is known for %s; it is taken as it is", file)
    elif file.is_file() and file_sha256(file) != expected:
        raise BadDataError(
            f"{file} is not the model {name}: its sha256 is another", "Move it away and fetch the model again."
        )
    return file


def _own(entry: RegistryEntry) -> Path:
    """The path that a lab's entry names."""
    path = entry.path
    if path is None or not path.exists():
        raise NoInputError(f"{path}, which {entry.listed_in} names for {entry.name}, does not exist", "Mend the path.")
    if entry.sha256 and path.is_file() and file_sha256(path) != entry.sha256:
        raise BadDataError(
            f"{path} is not the model {entry.name}: its sha256 is not the one in {entry.listed_in}",
            "Take the file as it was, or mend the list.",
        )
    return path


def find_file(name: str, places: ModelPlaces) -> Path | None:
    """The file or folder of that name in the first models folder that has one; None: there is none."""
    if not is_name(name):
        return None
    found = _files(name, places)
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise BadDataError(
            f"{found[0].parent} holds several models of the name {name}: {listed}", "Move all but one away."
        )
    return found[0] if found else None


def _files(name: str, places: ModelPlaces) -> list[Path]:
    """All of that name in the first folder that has any."""
    for folder in places.folders:
        candidates = [places.fetched(name, suffix, folder) for suffix in (*SUFFIXES, "")]
        try:
            found = [path for path in candidates if path.exists()]
        except OSError as error:
            raise NoInputError(f"{folder} cannot be read: {error.strerror}", "Give --models-dir.") from error
        if found:
            return found
    return []


def is_name(text: str) -> bool:
    """Whether a text can be the name of a model; otherwise it is meant as a path."""
    return bool(re.fullmatch(NAME, text))


def names(registry: Registry, places: ModelPlaces) -> list[str]:
    """Every name of a model: the registry's, then those of other files in the models folders."""
    unlisted = dict.fromkeys(name for folder in places.folders for name in _names_in(folder) if name not in registry)
    return [*registry, *unlisted]


def _names_in(folder: Path) -> list[str]:
    try:
        files = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError:
        return []
    found = dict.fromkeys(_name_of(file) for file in files if not file.name.startswith("."))
    return [name for name in found if name and is_name(name)]


def _name_of(file: Path) -> str | None:
    if file.is_dir():
        return file.name
    return next((file.name.removesuffix(one) for one in SUFFIXES if file.name.endswith(one)), None)


def availability(name: str, entry: RegistryEntry | None, places: ModelPlaces) -> str:
    """Whether a model is here, in two or three words."""
    if entry and entry.path:
        return "here" if entry.path.exists() else "its path is missing"
    files = _files(name, places)
    if len(files) > 1:
        return "several files"
    if files:
        record = read_record(name, places)
        return "fetched" if record and record.verified else "here, unverified"
    return "not fetched" if entry and entry.url else "get it by hand"


def how_to_fetch(entry: RegistryEntry, places: ModelPlaces) -> str:
    """The command to run, or what to do by hand where no address is known to fetch from."""
    if entry.url is None:
        return by_hand(entry, places)
    return f"Run: {fetch_line(entry, places)}"


def fetch_line(entry: RegistryEntry, places: ModelPlaces) -> str:
    """The command that fetches a model to the models folder."""
    own = f" --registry {quote(str(places.registry))}" if entry.listed_in == places.registry else ""
    unverified = "" if entry.sha256 else " --accept-unverified"
    return f"{COMMAND} fetch {entry.name} --to {quote(str(places.models))}{own}{unverified}"


def by_hand(entry: RegistryEntry, places: ModelPlaces) -> str:
    """What to do where only a page is known."""
    return (
        f"Download its file from {entry.page} with a browser, save it as {places.models / entry.name} with its own "
        "ending (.tar.gz, .zip, ...), and look at it with: "
        f"{COMMAND} check {entry.name} --models-dir {quote(str(places.models))}"
    )


def read_record(name: str, places: ModelPlaces) -> FetchRecord | None:
    """What was written beside a model when it was fetched; None: nothing, or nothing that can be read."""
    found = _files(name, places)
    try:
        content = read_json(places.fetch_record(name, found[0].parent if found else None))
        record: FetchRecord = typed_json(FetchRecord, content, more=True)
        return record
    except (HippoTuneError, ValueError):
        return None
