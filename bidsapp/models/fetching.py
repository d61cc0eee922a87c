"""Fetch a model: the only module of HippoTune that touches the network."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urljoin, urlsplit

import requests
import urllib3
from pooch import HTTPDownloader

from bidsapp import __version__
from bidsapp.content import file_sha256
from bidsapp.errors import BadDataError, CannotWriteError, NoInputError, UsageError
from bidsapp.exchange.archives import MAX_TOTAL_BYTES, MIB
from bidsapp.files import replace_atomically, sweep_unfinished, write_json
from bidsapp.layout import ModelPlaces
from bidsapp.models.registry import RegistryEntry
from bidsapp.models.shelf import (
    COMMAND,
    SUFFIXES,
    FetchRecord,
    by_hand,
    fetch_line,
    find_file,
    locate_model,
    read_record,
)

log = logging.getLogger(__name__)

SECONDS_WITHOUT_A_BYTE = 60.0


def fetch_model(entry: RegistryEntry, places: ModelPlaces, *, accept_unverified: bool = False) -> Path:
    """Fetch the model's file to the models folder, check it, and write beside it where it came from.

    A good file that is there already is not fetched again.

    Parameters
    ----------
    accept_unverified
        Take a file for which no checksum is known.

    Returns
    -------
    Path
        The file; or the file or folder that a lab's own entry names.

    Raises
    ------
    NoInputError
        When its address is not known, or it cannot be reached, or the connection is cut.
    UsageError
        When no checksum is known and `accept_unverified` was not given.
    BadDataError
        When what was fetched, or a file that is there already, is not the model.
    CannotWriteError
        When the models folder cannot be written.
    """
    if entry.path:
        log.info("%s is a file of yours, nothing is fetched", entry.name)
        return locate_model(entry.name, places)
    there = find_file(entry.name, places)
    if there and (entry.url is None or _is_good(there, entry, places)):
        log.info("%s is there already: %s", entry.name, there)
        return there
    if entry.url is None:
        raise NoInputError(
            f"the exact address of the file of {entry.name} is not known; its page is {entry.page}",
            by_hand(entry, places),
        )
    if entry.sha256 is None and not accept_unverified:
        raise UsageError(
            f"no checksum is known for {entry.name}: nobody can tell whether {entry.url} still gives what its authors "
            "put there",
            f"If you trust it: {fetch_line(entry, places)}",
        )
    if there:
        log.warning("%s is not the model %s, which is fetched", there, entry.name)
    if there is None or there.parent != places.models:  # other folders may not be ours to write to
        there = places.fetched(entry.name, _suffix(entry.url))
    _download(entry, entry.url, there, places)
    return there


def _is_good(there: Path, entry: RegistryEntry, places: ModelPlaces) -> bool:
    """Whether it is the model; False where it may be replaced."""
    record = read_record(entry.name, places)
    expected = entry.sha256 or (record.sha256 if record else None)
    if there.is_file() and expected and file_sha256(there) == expected:
        return True
    if entry.sha256 is None or not there.is_file():
        raise BadDataError(f"{there} is there, and no checksum says what it is", "Move it away, or use it as it is.")
    return False


def _suffix(url: str) -> str:
    """The ending of the last part of the address that has a known one (zenodo's may end with /content)."""
    for part in reversed(unquote(urlsplit(url).path).split("/")):
        for suffix in SUFFIXES:
            if part.lower().endswith(suffix):
                return suffix
    return SUFFIXES[-1]


def _download(entry: RegistryEntry, url: str, target: Path, places: ModelPlaces) -> None:
    """Let pooch fetch the file; `pooch.retrieve` would leave it unsynced and readable for its owner alone."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file, _explain_network(url, entry, places):
            digest = _transfer(url, file)
        if entry.sha256 and digest != entry.sha256:
            raise BadDataError(
                f"{url} gave a file whose sha256 is {digest}, the registry says {entry.sha256}; nothing was kept",
                "Try again; if it stays so, ask those who wrote the registry entry, and do not use the file.",
            )
        record = FetchRecord(url, digest, datetime.now(UTC).isoformat(timespec="seconds"), entry.sha256 is not None)
        write_json(places.fetch_record(entry.name), {"name": entry.name, **asdict(record)})
        log.info("sha256 %s (%s)", digest, "as the registry says" if entry.sha256 else "noted, not verified")

    sweep_unfinished(target.parent, alone=False, below=False)
    log.info("fetching %s from %s to %s", entry.name, url, target)
    try:
        replace_atomically(target, write)
    except CannotWriteError as error:
        raise CannotWriteError(error.message, f"{error.hint} --to DIR names another folder.") from error


def _transfer(url: str, file: IO[bytes]) -> str:
    """Write what the server gives; returns its sha256."""
    limited = _LimitedFile(file, url)
    download = HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=MIB,
        timeout=SECONDS_WITHOUT_A_BYTE,
        headers={"User-Agent": f"hippotune/{__version__}", "Accept-Encoding": "identity"},
        hooks={"response": check_answer},
    )
    download(url, limited, None)
    if limited.size == 0:
        raise BadDataError(f"{url} gave an empty file", "Look at the address in the registry.")
    return limited.sha256.hexdigest()


class _RefusedError(Exception):
    """A server answers with an error instead of the file."""

    def __init__(self, code: int, reason: str) -> None:
        self.code, self.reason = code, reason


class _LimitedFile:
    """A file that takes no more bytes than a model may have, and the fingerprint of what was written."""

    def __init__(self, file: IO[bytes], url: str) -> None:
        self.size, self.sha256 = 0, hashlib.sha256()
        self._file, self._url = file, url

    def write(self, chunk: bytes) -> None:
        """Take a part, as pooch hands it over."""
        self.size += len(chunk)
        if self.size > MAX_TOTAL_BYTES:
            raise _too_large(self._url)
        self.sha256.update(chunk)
        self._file.write(chunk)

    def flush(self) -> None:
        """Pooch asks for it after every part; the file is synced once, at its end."""


def check_answer(response: requests.Response, **_how_it_was_asked: object) -> None:
    """Look at the answer of a server before a byte is taken; called at every redirect too.

    A redirect from https to http is refused: anyone on the way could answer for that address.
    """
    url, headers = response.url, response.headers
    if response.is_redirect:
        target = urljoin(url, headers["Location"])
        if urlsplit(target).scheme not in (("https",) if url.startswith("https:") else ("http", "https")):
            raise NoInputError(
                f"{url} leads to {target} (the server says {response.status_code}), which is not safe and not allowed",
                "Ask those who wrote the registry entry for another address.",
            )
        return
    if response.status_code != requests.codes.ok:
        raise _RefusedError(response.status_code, response.reason)
    if headers.get("Content-Type", "").lower().startswith("text/html"):
        raise BadDataError(f"{url} gave a web page, not a model", "Is there a login page on the way? Open it once.")
    declared = headers.get("Content-Length", "")
    if not (declared.isascii() and declared.isdigit()):
        headers.pop("Content-Length", None)  # pooch would take it for a number
    elif int(declared) > MAX_TOTAL_BYTES:
        raise _too_large(url)


def _too_large(url: str) -> BadDataError:
    return BadDataError(f"{url} is larger than any model ({MAX_TOTAL_BYTES // MIB} MiB)", "Look at the address.")


@contextmanager
def _explain_network(url: str, entry: RegistryEntry, places: ModelPlaces) -> Iterator[None]:
    """Say which address failed and how; errors of the disk are left to the caller."""
    try:
        yield
    except _RefusedError as error:
        raise NoInputError(
            f"{url} was not found or not given: the server says {error.code} {error.reason}",
            f"Look at the address in {entry.listed_in}." if error.code < 500 else "Try again later.",
        ) from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise NoInputError(f"{url}: the connection was cut; nothing was kept", "Try again.") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:  # requests lets some pass
        raise NoInputError(f"{url} cannot be reached: {_reason(error)}", _elsewhere(entry, places)) from error


def _reason(error: BaseException) -> str:
    """The first cause: requests and urllib3 wrap it in words of their own."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__


def _elsewhere(entry: RegistryEntry, places: ModelPlaces) -> str:
    own = " --registry FILE" if entry.listed_in == places.registry else ""
    unverified = "" if entry.sha256 else " --accept-unverified"
    return (
        f"On a machine with a network: {COMMAND} fetch {entry.name} --to DIR{own}{unverified}; then copy the files in "
        f"DIR to {places.models}, here."
    )
