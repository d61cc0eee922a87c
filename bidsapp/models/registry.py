"""The registry: models by name, as we ship it and as a lab adds to it. Nothing here touches the network."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.files import expand_home, open_file, typed_json
from bidsapp.layout import ModelPlaces
from bidsapp.printable import refuse_controls

UNKNOWN_LICENCE = "unknown"
RESERVED_NAMES = ("none", "scratch")
MAX_REGISTRY_BYTES = 2**20
NAME = r"[A-Za-z0-9][A-Za-z0-9_+-]{0,99}"


def _is_filled(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text.strip()


def _differ(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("names one twice")
    return names


def _is_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must be an address that starts with https:// or http://; a file of yours goes to path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user name or password, and everybody would see it")
    return text


def _is_doi(text: str) -> str:
    text = text.removeprefix("https://doi.org/").removeprefix("doi:")
    if not re.fullmatch(r"10\.\d{4,9}/[!-~]+", text):
        raise ValueError("must look like 10.5281/zenodo.1234567")
    return f"https://doi.org/{text}"


def _is_sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError("must be 64 digits from 0 to f; leave it out where it is not known")
    return text.lower()


Text = Annotated[str, Field(max_length=2000), AfterValidator(refuse_controls)]
Filled = Annotated[Text, AfterValidator(_is_filled)]
Names = Annotated[tuple[Filled, ...], AfterValidator(_differ)]
Address = Annotated[Filled, AfterValidator(_is_address)]


class RegistryEntry(BaseModel):
    """What is known of a model before its file is opened."""

    model_config = ConfigDict(frozen=True)

    name: str
    listed_in: Path
    """The file with the entry."""
    title: Filled
    channels: Annotated[Names, Field(min_length=1)]
    """Names of the images that it takes, in order."""
    space: Filled = "corobl"
    labels: Names = ()
    """Names; empty: not known."""
    architecture: Literal["nnU-Net v2"] = "nnU-Net v2"
    """The only one that runs here."""
    url: Address | None = None
    """The file itself."""
    given_page: Address | None = Field(default=None, alias="page")
    doi: Annotated[Filled, AfterValidator(_is_doi)] | None = None
    """As an address, whatever its form in the list."""
    given_path: Filled | None = Field(default=None, alias="path")
    sha256: Annotated[Text, AfterValidator(_is_sha256)] | None = None
    """Of the file, in lower case; None: it is not known."""
    licence: Filled = UNKNOWN_LICENCE
    citation: Text = ""
    verified: bool = False
    """Whether those who wrote the list ran the model."""
    note: Text = ""

    @model_validator(mode="after")
    def _says_where_it_is_once(self) -> Self:
        if self.given_page and self.doi:
            raise ValueError("has a page and a doi; one says where people find it")
        if not (self.url or self.given_path or self.page):
            raise ValueError("does not say where the model is: url, path, page or doi")
        if self.url and self.given_path:
            raise ValueError("has a url and a path; one says where the model is")
        return self

    @property
    def page(self) -> str | None:
        """Where people find the file: a web page or the address of a DOI."""
        return self.given_page or self.doi

    @property
    def path(self) -> Path | None:
        """A file or folder of this machine, absolute; a lab's own. In the list it is relative to the list."""
        return self.listed_in.absolute().parent / expand_home(self.given_path) if self.given_path else None

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
        When something in a file is not as it must be, or two models have one name.
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
    entries: dict[str, RegistryEntry] = {}
    for name, table in _parse(path).items():
        if not re.fullmatch(NAME, name) or name.lower() in RESERVED_NAMES:
            raise _bad(path, f"{name!a} is no name for a model: letters, digits and _+-, neither none nor scratch")
        if name.lower() in {one.lower() for one in entries}:
            raise _bad(path, f"{name} is the name of two models; some disks do not tell upper from lower case")
        if not isinstance(table, dict):
            raise _bad(path, f"{name} must be a table: [NAME], and below it title, channels, ...")
        own = {"name": name, "listed_in": str(path)}
        if own.keys() & table:
            raise _bad(path, f"{name}.{min(own.keys() & table)} is not known")
        try:
            entries[name] = typed_json(RegistryEntry, table | own, name=name)
        except ValueError as error:
            raise _bad(path, str(error)) from error
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


def _bad(path: Path, what: str) -> BadDataError:
    return BadDataError(f"{path}: {what}", "Mend it; bidsapp/models/registry.toml shows the form.")
