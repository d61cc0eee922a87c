"""Model files as a mapping name -> bytes: a folder, a zip or a tar, and nothing of it is written to the disk.

Whoever made an archive decided what it declares: every name is checked before anything is read, and every read has a
limit that holds whatever the archive says of its sizes.

A zip has its directory at the end, and any file in it can be read alone. A tar that is compressed can only be read from
the start: going back means to decompress it all again. So a tar is gone through once to learn its names, small files
that are needed first are kept on the way, and checkpoints are read in the order in which they come.
"""

from __future__ import annotations

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol, cast

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.files import open_file
from bidsapp.printable import printable

MIB = 2**20
MAX_MEMBERS = 20_000
MAX_MEMBER_BYTES = 4096 * MIB  # one checkpoint of a large network with its optimizer is 1 GiB
MAX_TOTAL_BYTES = 16384 * MIB  # five such folds, with what nnU-Net adds
MAX_RATIO = 100  # weights hardly shrink; a bomb made of zeros reaches 1000
FREE_BYTES = 64 * MIB  # so much may come out whatever went in
MAX_HEADER_BYTES = 16 * MIB
CHUNK_BYTES = MIB
CONTROL_CHARACTERS = frozenset(map(chr, [*range(32), 127]))
HINT = "Pack it again from nnU-Net's results folder, or ask its owner for another copy."
DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError,
    RuntimeError, OSError, OverflowError,
)  # fmt: skip


class Members(Protocol):
    """Files by their names (relative, with ``/``), in the order in which they are best read."""

    origin: Path
    """What they come from, for messages."""
    names: tuple[str, ...]

    def read(self, name: str, limit: int) -> bytes:
        """The content of a file of at most `limit` bytes.

        Raises
        ------
        BadDataError
            When it is larger, damaged, or not what its archive declares.
        """
        ...


class FolderMembers:
    """Files below a folder that the user named."""

    def __init__(self, root: Path, names: tuple[str, ...]) -> None:
        self.origin = root
        self.names = names

    def read(self, name: str, limit: int) -> bytes:
        """See `Members`."""
        path = self.origin / name
        if not path.is_file():  # a pipe or a device would be read for ever
            raise BadDataError(f"{path} is not a file", "Name another model.")
        try:
            with open_file(path) as stream:
                return _read_all(stream, limit, str(path))
        except OSError as error:
            raise NoInputError(f"{path} cannot be read: {error.strerror}", "Look at its permissions.") from error


class ZipMembers:
    """Files of a zip."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.origin = path
        self._archive = archive
        infos = archive.infolist()
        _check_total([info.file_size for info in infos], path)
        for info in infos:
            clean_name(info.orig_filename, path, folder=info.orig_filename.endswith("/"))
            _check_zip_member(info, path)
        files = [info for info in infos if not info.orig_filename.endswith("/")]
        names = check_names([info.orig_filename for info in files], path)
        self._infos = dict(zip(names, files, strict=True))
        self.names = tuple(names)

    def read(self, name: str, limit: int) -> bytes:
        """See `Members`."""
        info = self._infos[name]
        with explain_damage(self.origin), self._archive.open(info) as stream:
            return _read_all(stream, limit, f"{name} in {self.origin}", info.file_size)


class TarMembers:
    """Files of a tar, plain or compressed; small ones that `keep` asks for are read while listing."""

    def __init__(self, path: Path, stream: IO[bytes], keep: Callable[[str], bool], keep_limit: int) -> None:
        self.origin = path
        self._stream = stream
        self._spans: dict[str, tuple[int, int]] = {}
        self._kept: dict[str, bytes] = {}
        names: list[str] = []
        spans: list[tuple[int, int]] = []
        with explain_damage(path):
            archive = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115 - the stream outlives it
            for count, info in enumerate(archive):
                _check_tar_member(info, count, path)
                name = clean_name(info.name, path, folder=info.isdir())
                if info.isdir():
                    continue
                names.append(name)
                spans.append((info.offset_data, info.size))
                if keep(name) and info.size <= keep_limit:
                    self._kept[name] = self._read_at(info.offset_data, info.size, name)
            stream.seek(archive.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise BadDataError(f"{path} is cut off: the end of the tar is missing", HINT)
            while stream.read(CHUNK_BYTES):  # the checksum of the compressed stream comes last
                pass
        _check_total([size for _, size in spans], path)
        self.names = tuple(check_names(names, path))
        self._spans = dict(zip(self.names, spans, strict=True))

    def read(self, name: str, limit: int) -> bytes:
        """See `Members`."""
        if name in self._kept and len(self._kept[name]) <= limit:
            return self._kept[name]
        offset, size = self._spans[name]
        if size > limit:
            raise _too_large(f"{name} in {self.origin}", limit)
        with explain_damage(self.origin):
            return self._read_at(offset, size, name)

    def _read_at(self, offset: int, size: int, name: str) -> bytes:
        self._stream.seek(offset)
        parts: list[bytes] = []
        left = size
        while left:
            part = self._stream.read(min(left, CHUNK_BYTES))
            if not part:
                raise BadDataError(f"{self.origin} is cut off in {name}", HINT)
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


class CappedStream:
    """A readable, seekable stream that gives no more than `limit` bytes, whatever is asked of it."""

    def __init__(self, stream: IO[bytes], limit: int, path: Path) -> None:
        self._stream, self._limit, self._path = stream, limit, path

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes."""
        if size < 0 or size > MAX_HEADER_BYTES:
            raise BadDataError(f"{self._path} has a header of {size} bytes", HINT)
        content = self._stream.read(size)
        self._check_end(self._stream.tell())
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to `offset` from the start."""
        if whence:
            raise ValueError("only from the start")
        self._check_end(offset)
        return self._stream.seek(offset)

    def tell(self) -> int:
        """Where the stream is."""
        return self._stream.tell()

    def _check_end(self, end: int) -> None:
        if end > self._limit:
            raise BadDataError(
                f"{self._path} holds or declares more than {_amount(self._limit)} and is not unpacked", HINT
            )


@contextmanager
def open_archive(path: Path, keep: Callable[[str], bool], keep_limit: int) -> Iterator[Members]:
    """Open a zip, or a tar that is plain or compressed with gzip or xz. Its first bytes decide, not its name.

    Parameters
    ----------
    keep, keep_limit
        Names of files, and their largest size, that a tar reads on its way.

    Raises
    ------
    BadDataError
        When it is none of these, damaged, too large, or holds what a model has no use for: absolute names,
        ``..``, links, devices, encrypted files, a name twice.
    """
    try:
        file = open_file(path)
    except OSError as error:
        raise NoInputError(f"{path} cannot be read: {error.strerror}", "Look at its permissions.") from error
    with file:
        with explain_damage(path):
            head = file.read(512)
            size = file.seek(0, 2)
            file.seek(0)
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            with explain_damage(path):
                archive = zipfile.ZipFile(file)
                members = ZipMembers(path, archive)
            yield members
            return
        with explain_damage(path):
            stream, limit = _decompressed(file, head, size, path)
        try:
            yield TarMembers(path, cast(IO[bytes], CappedStream(stream, limit, path)), keep, keep_limit)
        finally:
            stream.close()


def _decompressed(file: IO[bytes], head: bytes, size: int, path: Path) -> tuple[IO[bytes], int]:
    limit = min(MAX_TOTAL_BYTES, max(FREE_BYTES, MAX_RATIO * size))
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file)), limit
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast(IO[bytes], lzma.LZMAFile(file)), limit
    if head[257:262] == b"ustar":
        return file, MAX_TOTAL_BYTES
    raise BadDataError(f"{path} is not an archive: expected .zip, .tar, .tar.gz or .tar.xz", HINT)


def check_names(names: list[str], path: Path) -> list[str]:
    """Names of an archive's files, without ``./``.

    Raises
    ------
    BadDataError
        For a name that would leave its folder, that two files have, or that holds control characters.
    """
    clean = [clean_name(name, path) for name in names]
    if len(clean) > MAX_MEMBERS:
        raise BadDataError(f"{path} holds {len(clean)} files; a model has at most {MAX_MEMBERS}", HINT)
    if len(set(clean)) < len(clean):
        twice = next(name for name in clean if clean.count(name) > 1)
        raise BadDataError(f"{path} holds {twice} twice", HINT)
    return clean


def clean_name(name: str, path: Path, *, folder: bool = False) -> str:
    """One name without ``./``, which may be nothing for a `folder`; see `check_names`."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    reason = ""
    if name.startswith("/") or name[1:2] == ":":
        reason = "an absolute path"
    elif ".." in parts:
        reason = "a path with .."
    elif "\\" in name:
        reason = "a path with a backslash"
    elif CONTROL_CHARACTERS & set(name):
        reason = "a name with control characters"
    elif not parts and not folder:
        reason = "a file without a name"
    if reason:
        raise BadDataError(f"{path} holds {reason}: {name!r}", HINT)
    return "/".join(parts)


@contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """Turn what the libraries raise on damaged archives into `BadDataError`."""
    try:
        yield
    except DAMAGED as error:
        raise BadDataError(f"{path} is damaged: {printable(str(error)) or type(error).__name__}", HINT) from error


def _check_zip_member(info: zipfile.ZipInfo, path: Path) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadDataError(f"{path} holds a link or a device: {info.filename!r}", HINT)
    if info.flag_bits & 0x1:
        raise BadDataError(f"{path} is encrypted: {info.filename!r}", "Pack it again without a password.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadDataError(f"{path} uses a compression that is not read safely: {info.filename!r}", HINT)
    if info.file_size > max(FREE_BYTES, MAX_RATIO * info.compress_size):
        raise BadDataError(
            f"{path} would grow more than {MAX_RATIO} times in {info.filename!r} and is not unpacked", HINT
        )


def _check_tar_member(info: tarfile.TarInfo, count: int, path: Path) -> None:
    if count >= MAX_MEMBERS:
        raise BadDataError(f"{path} holds more than {MAX_MEMBERS} files", HINT)
    plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse()
    if not plain and not info.isdir():
        raise BadDataError(f"{path} holds a link or a device: {info.name!r}", HINT)


def _check_total(sizes: list[int], path: Path) -> None:
    if sum(sizes) > MAX_TOTAL_BYTES:
        raise BadDataError(
            f"{path} declares {_amount(sum(sizes))}; more than {_amount(MAX_TOTAL_BYTES)} is not unpacked", HINT
        )


def _read_all(stream: IO[bytes], limit: int, name: str, declared: int | None = None) -> bytes:
    """Read to the end; `limit` holds while reading, for what is declared may be false."""
    parts: list[bytes] = []
    total = 0
    if declared is not None and declared > limit:
        raise _too_large(name, limit)
    while part := stream.read(CHUNK_BYTES):
        total += len(part)
        if total > limit:
            raise _too_large(name, limit)
        parts.append(part)
    if declared is not None and total != declared:
        raise BadDataError(f"{name} has {total} bytes where {declared} are declared", HINT)
    return b"".join(parts)


def _too_large(name: str, limit: int) -> BadDataError:
    return BadDataError(f"{name} is larger than {_amount(limit)}", HINT)


def _amount(size: int) -> str:
    return f"{size / MIB:.0f} MiB" if size >= MIB else f"{size} bytes"
