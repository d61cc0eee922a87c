"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bidsapp.errors import CannotWriteError

if TYPE_CHECKING:
    import nibabel


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a temporary file beside `path`, sync it to the disk, and rename it to `path`.

    The temporary name ends like `path`, so writers that go by the suffix work.

    Raises
    ------
    CannotWriteError
        When the disk is full, the folder is read-only, or permission is missing. What stood at `path`
        is untouched.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    with explain_write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


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
        temporary = path.with_name(f".{uuid4().hex}{path.suffix}")
        try:
            if private:
                temporary.touch(mode=0o600)
            temporary.write_bytes(content)
            sync(temporary)
            return _claim(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _claim(temporary: Path, path: Path) -> bool:
    """Give a finished file its name unless that is taken."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}:
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
    }
    try:
        yield
    except OSError as error:
        if error.errno not in reasons:
            raise
        raise CannotWriteError(
            f"{path} cannot be written: {error.strerror}", "Free some space, or choose another folder."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically in UTF-8."""
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` atomically."""
    replace_atomically(path, lambda temporary: temporary.write_bytes(content))


def copy_file(source: Path, target: Path) -> None:
    """Copy a file atomically."""
    replace_atomically(target, lambda temporary: shutil.copyfile(source, temporary))


def write_json(path: Path, content: Any) -> None:
    """Write `content` atomically as indented JSON."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_image(path: Path, image: nibabel.Nifti1Image) -> None:
    """Write a NIfTI file atomically."""
    import nibabel

    replace_atomically(path, lambda temporary: nibabel.save(image, temporary))


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
