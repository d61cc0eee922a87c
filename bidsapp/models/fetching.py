"""Bringing a model here: the only module of HippoTune that touches the network."""

from __future__ import annotations

import hashlib
import http.client
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from bidsapp import __version__
from bidsapp.errors import BadDataError, CannotWriteError, NoInputError, UsageError
from bidsapp.files import replace_atomically, write_json
from bidsapp.layout import ModelPlaces
from bidsapp.models.archives import MAX_TOTAL_BYTES, MIB
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
    sha256_of,
)
from bidsapp.progress import progress_over

log = logging.getLogger(__name__)

SECONDS_WITHOUT_A_BYTE = 60.0


def fetch_model(entry: RegistryEntry, places: ModelPlaces, *, accept_unverified: bool = False) -> Path:
    """Bring the model's file to the models folder, check it, note where it came from; a good one is not fetched again.

    Parameters
    ----------
    accept_unverified
        Take a file whose checksum nobody stated.

    Returns
    -------
    Path
        The file; or the file or folder that a lab's own entry names.

    Raises
    ------
    NoInputError
        When its address is not known, or it cannot be reached, or the connection is cut.
    UsageError
        When nobody stated a checksum and `accept_unverified` was not given.
    BadDataError
        When what came, or what lies there, is not the model.
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
            f"nobody stated a checksum for {entry.name}: whether {entry.url} still gives what its authors put there "
            "cannot be told",
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
    if there.is_file() and expected and sha256_of(there) == expected:
        return True
    if entry.sha256 is None or not there.is_file():
        raise BadDataError(f"{there} is there, and nobody noted what it is", "Move it away, or use it as it is.")
    return False


def _suffix(url: str) -> str:
    """The ending of the last part of the address that has a known one (zenodo's may end with /content)."""
    for part in reversed(unquote(urlsplit(url).path).split("/")):
        for suffix in SUFFIXES:
            if part.lower().endswith(suffix):
                return suffix
    return SUFFIXES[-1]


def _download(entry: RegistryEntry, url: str, target: Path, places: ModelPlaces) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream, _explain_network(url, entry, places), _open(url) as response:
            digest = _copy(response, stream, entry.name, url)
        if entry.sha256 and digest != entry.sha256:
            raise BadDataError(
                f"{url} gave a file whose sha256 is {digest}, the registry says {entry.sha256}; nothing was kept",
                "Try again; if it stays so, ask those who wrote the registry entry, and do not use the file.",
            )
        noted = FetchRecord(url, digest, datetime.now(UTC).isoformat(timespec="seconds"), entry.sha256 is not None)
        write_json(places.fetch_record(entry.name), {"name": entry.name, **asdict(noted)})
        log.info("sha256 %s (%s)", digest, "as the registry says" if entry.sha256 else "noted, not verified")

    log.info("fetching %s from %s to %s", entry.name, url, target)
    try:
        replace_atomically(target, write)
    except CannotWriteError as error:
        raise CannotWriteError(error.message, "Free some space, or name another folder with --to DIR.") from error


def _open(url: str) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": f"hippotune/{__version__}"})
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=SECONDS_WITHOUT_A_BYTE)
    except urllib.error.URLError:
        raise
    except (OSError, UnicodeError) as error:  # a name that nobody can look up is a UnicodeError
        raise urllib.error.URLError(error) from error
    return response


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """From https nobody is led to an address that anyone on the way could answer for."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        schemes = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in schemes:
            raise urllib.error.URLError(f"it leads from {req.full_url} to {newurl}, which is not safe")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _copy(response: http.client.HTTPResponse, stream: IO[bytes], name: str, url: str) -> str:
    """Write what comes; returns its sha256."""
    if response.headers.get_content_type() == "text/html":
        raise BadDataError(f"{url} gave a web page, not a model", "Is there a login page on the way? Open it once.")
    declared = _declared_length(response)
    if declared is not None and declared > MAX_TOTAL_BYTES:
        raise _too_large(url)
    digest, size = hashlib.sha256(), 0
    chunks = _chunks(response)
    for chunk in progress_over(chunks, f"{name} (MiB)", total=-(-declared // MIB)) if declared else chunks:
        size += len(chunk)
        if size > MAX_TOTAL_BYTES:
            raise _too_large(url)
        digest.update(chunk)
        stream.write(chunk)
    if declared is not None and size != declared:
        raise http.client.IncompleteRead(b"", declared - size)
    if size == 0:
        raise BadDataError(f"{url} gave an empty file", "Look at the address in the registry.")
    return digest.hexdigest()


def _declared_length(response: http.client.HTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Errors of the network become `URLError`, so that those of the disk are told from them."""
    while True:
        try:
            chunk = response.read(MIB)
        except OSError as error:
            raise urllib.error.URLError(error) from error
        if not chunk:
            return
        yield chunk


def _too_large(url: str) -> BadDataError:
    return BadDataError(f"{url} is larger than any model ({MAX_TOTAL_BYTES // MIB} MiB)", "Look at the address.")


@contextmanager
def _explain_network(url: str, entry: RegistryEntry, places: ModelPlaces) -> Iterator[None]:
    """Say which address failed and how; refusals of the disk pass."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise NoInputError(
            f"{url} was not found or not given: the server says {error.code} {error.reason}",
            f"Look at the address in {entry.listed_in}." if error.code < 500 else "Try again later.",
        ) from error
    except http.client.IncompleteRead as error:
        raise NoInputError(f"{url}: the connection was cut; nothing was kept", "Try again.") from error
    except (urllib.error.URLError, http.client.HTTPException) as error:
        raise NoInputError(f"{url} cannot be reached: {_reason(error)}", _elsewhere(entry, places)) from error


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason) or type(reason).__name__


def _elsewhere(entry: RegistryEntry, places: ModelPlaces) -> str:
    own = " --registry FILE" if entry.listed_in == places.registry else ""
    unverified = "" if entry.sha256 else " --accept-unverified"
    return (
        f"On a machine with a network: {COMMAND} fetch {entry.name} --to DIR{own}{unverified}; then copy the files in "
        f"DIR to {places.models}, here."
    )
