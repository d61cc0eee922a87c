"""Writing files so that a reader never meets half of one; reading them so that no content stops a run."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import math
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bidsapp.errors import BadDataError, CannotWriteError, NoInputError, way_to_read, way_to_write
from bidsapp.printable import printable

if TYPE_CHECKING:
    from pydantic import ValidationError

DEEPEST_JSON = 100
"""Levels of lists and objects; what nnU-Net, BIDS and we write has fewer than ten."""
_UNFINISHED = re.compile(r"\.(tmp-(?P<kernel>[0-9a-f]{8})-[0-9a-f]{16}|[0-9]+(?=\.)|[0-9a-f]{32})(\..*)?")
"""Names of `create_beside`, and those that 0.1.0 gave: the process's number or a hash before the file's name."""

LOCK_ENDING = ".lock"
"""How every lock's name ends, and so the files of those who wait for one, beside it."""

NOBODY_WRITES_SECONDS = 24 * 3600.0
"""What nobody has written to for so long is no writer's, also where the clocks of two machines differ."""

NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
"""How disks without hard links, and some file servers, refuse one."""

_KINDS = {
    "string_type": "a text", "int_type": "a whole number", "float_type": "a number", "bool_type": "true or false",
    "list_type": "a list", "tuple_type": "a list", "dict_type": "an object", "model_type": "an object",
    "dataclass_type": "an object",
}  # fmt: skip
"""Kinds of values by the errors of pydantic that want them, in the words of people who write files."""

_PIECE_BYTES = 2**20
_NO_KERNEL_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF}


@contextmanager
def temporary_beside(path: Path, *, private: bool = False) -> Iterator[Path]:
    """An empty file of our own beside `path`, to be filled and renamed; what is left of it is removed at the end."""
    temporary, descriptor = create_beside(path, private=private)
    try:
        yield temporary
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


def create_beside(path: Path, *, private: bool = False) -> tuple[Path, int]:
    """Create a file beside `path`; returns it and its descriptor, with the kernel's lock that tells it is in use.

    Nobody can foretell its name, so nobody can put a link there. It ends like `path`, so writers that go by the
    suffix work, and is short, so `path` may be as long as names can be. Only its owner can read a `private` one.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
    kernel = _short(kernel_of(path.parent.stat()))
    ending = path.name if path.name == LOCK_ENDING else "".join(path.suffixes[-2:])
    while True:
        temporary = path.with_name(f".tmp-{kernel}-{secrets.token_hex(8)}{ending}")
        descriptor = os.open(temporary, flags, 0o600 if private else 0o666)
        if has_kernel_lock(descriptor) is not False and is_at(temporary, descriptor):
            return temporary, descriptor
        os.close(descriptor)  # swept in this very moment


def sweep_unfinished(folder: Path, *, alone: bool, below: bool = True) -> None:
    """Remove what killed writers left in a folder: on this machine at once, for the kernel tells that they are dead.

    Parameters
    ----------
    alone
        Nobody else may write here now, so what another machine left goes too; else after a day. Whoever waits for the
        lock that keeps others out has a file beside it, which stays for that day.
    below
        Look into folders in it too.
    """
    if not folder.is_dir():
        return
    with suppress(OSError):  # somebody else's, or gone: it stands in nobody's way
        found = [path for path in (folder.rglob(".*") if below else folder.glob(".*"))
                 if _UNFINISHED.fullmatch(path.name) and (path.is_symlink() or path.is_file())]  # fmt: skip
        if not found:
            return
        with temporary_beside(folder / "now") as now:
            present = now.stat().st_mtime
        for path in found:
            nobodys = alone and not path.name.endswith(LOCK_ENDING)
            if _is_dead(path, old=nobodys or present - path.lstat().st_mtime > NOBODY_WRITES_SECONDS):
                path.unlink(missing_ok=True)


def _is_dead(path: Path, *, old: bool) -> bool:
    """Whether nobody writes to a file: as the kernel knows where it was made here, else where it is `old`."""
    name = _UNFINISHED.fullmatch(path.name)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # a link, or another's
        return old
    try:
        locked = has_kernel_lock(descriptor)
        here = name is not None and name["kernel"] == _short(kernel_of(path.parent.stat()))
        return locked is not False and (old or (bool(locked) and here))
    finally:
        os.close(descriptor)


def has_kernel_lock(descriptor: int) -> bool | None:
    """Try for the kernel's lock on an open file (flock), which ends with us; None where there is no such thing."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_KERNEL_LOCKS:
            return None
        raise
    return True


def is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def kernel_of(there: os.stat_result) -> str:
    """Which running kernel, and which mount of it a file is on: who has the same sees the same locks."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        boot = socket.gethostname()
    return f"{boot} {there.st_dev}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it to the disk, and rename it to `path`.

    The temporary name ends like `path`, so writers that go by the suffix work.

    Raises
    ------
    CannotWriteError
        When the disk is full, the folder is read-only, or permission is missing. What stood at `path`
        is untouched.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_beside(path) as temporary:
            write(temporary)
            sync(temporary)
            temporary.replace(path)


def create_once(path: Path, text: str, *, private: bool = False) -> bool:
    """Write `text` in UTF-8 if there is no file yet, also when several processes try at once; tell whether we did.

    Nobody ever reads half of it, and what is there is never replaced. On disks without hard links two processes may
    write one after the other. Only its owner can read a `private` file.

    Raises
    ------
    CannotWriteError
        When the disk is full, the folder is read-only, or permission is missing.
    """
    return create_bytes_once(path, text.encode(), private=private)


def create_bytes_once(path: Path, content: bytes, *, private: bool = False) -> bool:
    """Do the same with bytes."""
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return False
        with temporary_beside(path, private=private) as temporary:
            temporary.write_bytes(content)
            sync(temporary)
            return _claim(temporary, path)


def _claim(temporary: Path, path: Path) -> bool:
    """Give a finished file its name unless that is taken."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        temporary.replace(path)
    return True


def sync(path: Path) -> None:
    """Make sure that a file's content is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write at `path` into `CannotWriteError`."""
    reasons = {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EFBIG,
        errno.ENOTDIR,
        errno.ENOENT,
        errno.EEXIST,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.EIO,
        errno.ELOOP,
        errno.ENXIO,
        errno.ESTALE,
    }
    try:
        yield
    except OSError as error:
        if error.errno not in reasons:
            raise
        raise CannotWriteError(f"{path} cannot be written: {error.strerror}", way_to_write(error)) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically in UTF-8."""
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` atomically."""
    replace_atomically(path, lambda temporary: temporary.write_bytes(content))


def copy_file(source: Path, target: Path) -> None:
    """Copy a file atomically.

    Raises
    ------
    NoInputError
        When there is no such file, it may not be read, or a pipe or a device is in its place.
    CannotWriteError
        See `replace_atomically`.
    """
    with explain_read_errors(source):
        stream = open_file(source)
    with stream:
        replace_atomically(target, lambda temporary: _fill(temporary, stream))


def _fill(path: Path, stream: IO[bytes]) -> None:
    with path.open("wb") as target:
        shutil.copyfileobj(stream, target, _PIECE_BYTES)


def write_json(path: Path, content: Any) -> None:
    """Write `content` atomically as indented JSON."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def expand_home(path: str | Path) -> Path:
    """Replace ``~`` and ``~name`` in front; a home that nobody knows stays as it is written."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises where there is no such home


def read_bytes(path: Path, hint: str = "") -> bytes:
    """Read a whole file.

    Raises
    ------
    NoInputError
        When there is no such file, or it may not be read; `hint` says what to do.
    """
    with explain_read_errors(path, hint), open_file(path) as stream:
        return stream.read()


@contextmanager
def explain_read_errors(path: Path, hint: str = "") -> Iterator[None]:
    """Turn the operating system's refusals to read `path` into `NoInputError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise NoInputError(f"{path} does not exist", hint) from error
    except OSError as error:
        raise NoInputError(f"{path} cannot be read: {error.strerror}", hint or way_to_read(error)) from error


def open_file(path: Path) -> io.BufferedReader:
    """Open a file for reading.

    Raises
    ------
    OSError
        Also for a pipe, a socket or a device in its place (or a link to one): reading those may never end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would block here
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))


def read_text(path: Path, hint: str = "Save it as UTF-8.") -> str:
    """Read a text in UTF-8, with or without a byte order mark.

    Raises
    ------
    NoInputError
        When there is no such file, or it may not be read.
    BadDataError
        When it is no text: in another encoding, or with zero bytes.
    """
    return decode_text(read_bytes(path), str(path), hint)


def decode_text(content: bytes, origin: str, hint: str = "Save it as UTF-8.") -> str:
    """Do the same with bytes that came from `origin`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadDataError(f"{origin} is not UTF-8 text (byte {error.start})", hint) from error
    if "\0" in text:
        raise BadDataError(f"{origin} is not text: byte {content.index(0)} is zero", hint)
    return text


def read_json(path: Path, hint: str = "Restore it from a backup.") -> Any:
    """Read a JSON file; see `parse_json`.

    Raises
    ------
    NoInputError
        When there is no such file, or it may not be read.
    BadDataError
        When it is not JSON as `parse_json` wants it.
    """
    return parse_json(read_bytes(path), str(path), hint)


def parse_json(content: bytes, origin: str, hint: str = "", *, strict: bool = True) -> Any:
    """Make values of JSON that nothing further on can trip over.

    Parameters
    ----------
    origin, hint
        Where it came from and what to do about it, for messages.
    strict
        Refuse a name that stands twice, NaN, infinities and whole numbers beyond 64 bits too: other people's sidecars
        may hold them. Such a whole number is a text otherwise (`int_or_text`), and the rest stays what it is.

    Raises
    ------
    BadDataError
        When it is not JSON in UTF-8, nested deeper than `DEEPEST_JSON`, or holds half a character.
    """
    text = decode_text(content, origin, hint)
    try:
        if strict:
            value = json.loads(text, object_pairs_hook=_object_without_repeats)
        else:
            value = json.loads(text, parse_int=int_or_text)
        _refuse_odd_values(value, strict=strict)
    except RecursionError as error:
        raise BadDataError(f"{origin} is nested too deeply", hint) from error
    except ValueError as error:
        raise BadDataError(f"{origin} is not JSON: {error}", hint) from error
    return value


def int_or_text(digits: str) -> int | str:
    """A whole number of JSON, or its digits where it has more than 64 bits."""
    return int(digits) if len(digits) <= 20 and int(digits).bit_length() <= 63 else digits


def check_values(content: object, kinds: Mapping[str, Any], *, needed: Collection[str] = ()) -> None:
    """Hold what an object of JSON says under the names of `kinds` against them; other names are not looked at.

    Raises
    ------
    ValueError
        With name and value: no object, another kind of value, or one of `needed` is missing.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{ascii(content)[:80]} is no object")
    for name, kind in kinds.items():
        if name in content:
            typed_json(kind, content[name], name=name, more=True)
        elif name in needed:
            raise ValueError(f"{name} is missing")


def typed_json(kind: Any, content: object, *, name: str = "", more: bool | None = False) -> Any:
    """Values of JSON as a record or another `kind` of typed value; raises ValueError with place and value.

    Parameters
    ----------
    name
        Where `content` stands, for the message.
    more
        Whether a record may hold what `kind` does not name; None: as each record's own configuration says.
    """
    from pydantic import ValidationError

    extra = None if more is None else "ignore" if more else "forbid"
    try:
        return _adapter(kind).validate_json(json.dumps(content, default=_not_json), strict=True, extra=extra)
    except ValidationError as error:
        raise ValueError(_in_words(error, name)) from error


def _in_words(error: ValidationError, name: str) -> str:
    """The first thing that pydantic found: where it stands, what it is, and what it must be."""
    first = error.errors(include_url=False)[0]
    place = printable(".".join(map(str, (*filter(None, [name]), *first["loc"]))))[:200] or "it"
    if first["type"] == "missing":
        return f"{place} is missing"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place} is not known"
    if first["type"] == "value_error":  # a check of ours says what is wrong
        return f"{place} {first['ctx']['error']}"
    kind = _KINDS.get(first["type"])
    wanted = f"it must be {kind}" if kind else re.sub(r"^\w+ should", "it must", first["msg"])
    return f"{place} is {ascii(first['input'])[:80]}: {wanted}"


def _not_json(value: object) -> dict[str, str]:
    """What TOML has and JSON has not, such as a date: it is refused where a text or a number is wanted."""
    return {type(value).__name__: str(value)}


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return content


def _refuse_odd_values(value: Any, *, strict: bool) -> None:
    level = [value]
    for _ in range(DEEPEST_JSON):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += [*one, *one.values()]
            elif isinstance(one, list):
                below += one
            elif isinstance(one, str):
                one.encode()  # half a surrogate pair is a UnicodeEncodeError, which is a ValueError
            elif isinstance(one, int) and one.bit_length() > 63:
                raise ValueError(f"a whole number has {len(str(one))} digits")
            elif strict and isinstance(one, float) and not math.isfinite(one):
                raise ValueError(f"a number is {one}")
        level = below
    if level:
        raise ValueError(f"it is nested deeper than {DEEPEST_JSON}")
