"""The registry: models by name, as we ship it and as a lab adds to it. Nothing here touches the network."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.files import expand_home, open_file
from bidsapp.layout import ModelPlaces
from bidsapp.printable import is_control

ARCHITECTURE = "nnU-Net v2"
UNKNOWN_LICENCE = "unknown"
RESERVED_NAMES = ("none", "scratch")
MAX_REGISTRY_BYTES = 2**20
MAX_TEXT = 2000
NAME = r"[A-Za-z0-9][A-Za-z0-9_+-]{0,99}"


@dataclass(frozen=True)
class RegistryEntry:
    """What is known of a model before its file is opened.

    Attributes
    ----------
    channels
        Names of the images that it takes, in order.
    labels
        Names; empty: not known.
    url
        The file itself; None: not known, or `path`.
    page
        Where people find the file: a web page or the address of a DOI.
    path
        A file or folder of this machine, absolute; a lab's own.
    sha256
        Of the file, lower case; None: nobody stated it.
    verified
        Whether those who wrote the list ran the model.
    listed_in
        The file that the entry stands in.
    """

    name: str
    title: str
    channels: tuple[str, ...]
    listed_in: Path
    space: str = "corobl"
    labels: tuple[str, ...] = ()
    architecture: str = ARCHITECTURE
    url: str | None = None
    page: str | None = None
    path: Path | None = None
    sha256: str | None = None
    licence: str = UNKNOWN_LICENCE
    citation: str = ""
    verified: bool = False
    note: str = ""

    @property
    def address(self) -> str:
        """The best that is known of where it is."""
        return self.url or (str(self.path) if self.path else "") or str(self.page)

    @property
    def modality(self) -> str:
        """As ``--modality`` spells it."""
        return "+".join(self.channels)


Registry = Mapping[str, RegistryEntry]


def load_registry(places: ModelPlaces) -> dict[str, RegistryEntry]:
    """All entries by name: ours first, then the lab's.

    Raises
    ------
    NoInputError
        When the lab's file does not exist.
    BadDataError
        When something in a file is not as it must be, or a name stands for two models.
    """
    entries = read_registry(places.shipped_registry)
    if places.registry is None:
        return entries
    taken = {name.lower(): entry for name, entry in entries.items()}
    for name, entry in read_registry(places.registry).items():
        if name.lower() in taken:
            raise BadDataError(
                f"{places.registry}: {name} is already the name of a model in {taken[name.lower()].listed_in}",
                "Choose another name for yours.",
            )
        entries[name] = entry
    return entries


def read_registry(path: Path) -> dict[str, RegistryEntry]:
    """The entries of one file by name; see `load_registry` for what is raised."""
    tables = _parse(path)
    entries: dict[str, RegistryEntry] = {}
    for name, table in tables.items():
        if not re.fullmatch(NAME, name) or name.lower() in RESERVED_NAMES:
            raise _bad(path, ascii(name), "is no name for a model: letters, digits and _+-, neither none nor scratch")
        if name.lower() in {one.lower() for one in entries}:
            raise _bad(path, name, "stands for two models; disks do not all tell upper from lower case")
        entries[name] = _entry(name, table, path)
    return entries


def _parse(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NoInputError(f"the registry {path} does not exist", "Name a TOML file that lists models.")
    try:
        with open_file(path) as stream:
            content = stream.read(MAX_REGISTRY_BYTES + 1)
    except OSError as error:
        raise NoInputError(f"the registry {path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_REGISTRY_BYTES:
        raise BadDataError(f"the registry {path} is larger than {MAX_REGISTRY_BYTES} bytes", "Is it the right file?")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadDataError(f"the registry {path} cannot be read as TOML: {error}", "Mend that line.") from error


def _entry(name: str, table: object, path: Path) -> RegistryEntry:
    if not isinstance(table, dict):
        raise _bad(path, name, "must be a table: [NAME], and below it title, channels, ...")
    for key in table:
        if key not in _READERS:
            raise _bad(path, f"{name}.{key}", f"is not known; known are {', '.join(_READERS)}")
    for key in ("title", "channels"):
        if key not in table:
            raise _bad(path, f"{name}.{key}", "is missing")
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            values[key] = _READERS[key](value)
        except ValueError as error:
            raise _bad(path, f"{name}.{key}", str(error)) from None
    if "page" in values and "doi" in values:
        raise _bad(path, name, "has a page and a doi; one says where people find it")
    values["page"] = values.pop("doi", values.get("page"))
    if not any(values.get(key) for key in ("url", "path", "page")):
        raise _bad(path, name, "does not say where the model is: url, path, page or doi")
    if values.get("url") and values.get("path"):
        raise _bad(path, name, "has a url and a path; one says where the model is")
    if values.get("path"):
        values["path"] = path.absolute().parent / expand_home(values["path"])
    return RegistryEntry(name=name, listed_in=path, **values)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"must be a text of at most {MAX_TEXT} characters")
    if any(map(is_control, value)):
        raise ValueError("holds control characters")
    return value


def _filled(value: object) -> str:
    text = _text(value).strip()
    if not text:
        raise ValueError("is empty")
    return text


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list of texts")
    names = tuple(_filled(one) for one in value)
    if len(set(names)) < len(names):
        raise ValueError("names one twice")
    return names


def _channels(value: object) -> tuple[str, ...]:
    names = _names(value)
    if not names:
        raise ValueError("is empty")
    return names


def _architecture(value: object) -> str:
    if value != ARCHITECTURE:
        raise ValueError(f"must be {ARCHITECTURE!r}, the only one that runs here")
    return ARCHITECTURE


def _url(value: object) -> str:
    text = _filled(value)
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must be an address that starts with https:// or http://; a file of yours goes to path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user name or password; it would be shown to everybody")
    return text


def _doi(value: object) -> str:
    text = _filled(value).removeprefix("https://doi.org/").removeprefix("doi:")
    if not re.fullmatch(r"10\.\d{4,9}/[!-~]+", text):
        raise ValueError("must look like 10.5281/zenodo.1234567")
    return f"https://doi.org/{text}"


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError("must be 64 digits from 0 to f; leave it out where nobody stated it")
    return value.lower()


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


_READERS: dict[str, Callable[[object], object]] = {
    "title": _filled,
    "channels": _channels,
    "space": _filled,
    "labels": _names,
    "architecture": _architecture,
    "url": _url,
    "page": _url,
    "doi": _doi,
    "path": _filled,
    "sha256": _sha256,
    "licence": _filled,
    "citation": _text,
    "verified": _boolean,
    "note": _text,
}
"""Key -> what turns its value into ours; raises ValueError with what is wrong."""


def _bad(path: Path, key: str, reason: str) -> BadDataError:
    return BadDataError(f"{path}: {key} {reason}", "Mend it; bidsapp/models/registry.toml shows the form.")
