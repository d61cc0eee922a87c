"""A case as nnU-Net preprocessed it, in files of numbers that run nothing, whoever wrote them.

nnU-Net itself keeps a pickle, which runs what it asks for, beside files of blosc2, which may hold expressions to be
computed. A MODEL_DIR may come from somebody else, so its cases are plain arrays.
"""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bidsapp.content import file_sha256
from bidsapp.errors import BadDataError
from bidsapp.files import replace_atomically
from bidsapp.layout import ModelLayout

HINT = "Delete that folder and give the same command again: it is made anew."
_DAMAGE = (OSError, ValueError, EOFError, KeyError, TypeError, OverflowError, MemoryError, zipfile.BadZipFile,
           NotImplementedError, RuntimeError)  # fmt: skip


def write_case(
    layout: ModelLayout, case: str, image: np.ndarray, segmentation: np.ndarray, properties: dict[str, Any]
) -> None:
    """Write what nnU-Net's preprocessor gave: image (channels, z, y, x), segmentation (1, z, y, x), class locations.

    Raises
    ------
    CannotWriteError
        When there is no room.
    """
    files = layout.preprocessed_case(case)
    locations = {str(label): np.asarray(rows, dtype=np.int32).reshape(-1, image.ndim)
                 for label, rows in properties["class_locations"].items()}  # fmt: skip
    replace_atomically(files[0], partial(_save, array=image.astype(np.float32, copy=False)))
    replace_atomically(files[1], partial(_save, array=segmentation))
    replace_atomically(files[2], lambda temporary: np.savez(temporary, allow_pickle=False, **locations))


def _save(path: Path, array: np.ndarray) -> None:
    np.save(path, array, allow_pickle=False)


def read_case(
    layout: ModelLayout, case: str, *, channels: int, largest_label: int
) -> tuple[np.ndarray, np.ndarray, None, dict[str, Any]]:
    """What nnU-Net's loader wants of a case: image and segmentation, mapped from the disk, None, properties.

    Raises
    ------
    BadDataError
        When a file is not what `write_case` writes, or not of this network.
    """
    image, segmentation, locations = layout.preprocessed_case(case)
    voxels, labels = _read_voxels(image, "f"), _read_voxels(segmentation, "i")
    if voxels.shape[0] != channels or labels.shape != (1, *voxels.shape[1:]) or not voxels.size:
        raise BadDataError(f"{image} is {voxels.shape}, and {segmentation.name} is {labels.shape}", HINT)
    if labels.max() > largest_label or labels.min() < -1:
        raise BadDataError(f"{segmentation} holds values that are not learned: {labels.min()} to {labels.max()}", HINT)
    return voxels, labels, None, {"class_locations": _read_locations(locations, labels.shape, largest_label)}


def _read_voxels(path: Path, kind: str) -> np.ndarray:
    try:
        if not path.is_file():
            raise ValueError("it is not a file")  # a pipe or a device would be read for ever
        array = np.lib.format.open_memmap(path, mode="r")  # never objects
    except _DAMAGE as error:
        raise BadDataError(f"{path} is damaged: {error}", HINT) from error
    if array.ndim != 4 or array.dtype.kind != kind or array.dtype.itemsize > 4:
        raise BadDataError(f"{path} holds {array.ndim} dimensions of {array.dtype}", HINT)
    return array


def _read_locations(path: Path, shape: tuple[int, ...], largest_label: int) -> dict[int, np.ndarray]:
    """Label -> voxels (n, 4) of it, as many as nnU-Net draws from."""
    try:
        if not path.is_file():
            raise ValueError("it is not a file")
        with zipfile.ZipFile(path) as container:
            stored = all(info.compress_type == zipfile.ZIP_STORED for info in container.infolist())
            declared = sum(info.file_size for info in container.infolist())
        if not stored or declared > path.stat().st_size:
            raise ValueError("it declares more than it holds")
        with np.load(path, allow_pickle=False) as arrays:
            found = {int(name): arrays[name] for name in arrays.files}
    except _DAMAGE as error:
        raise BadDataError(f"{path} is damaged: {error}", HINT) from error
    for label, rows in found.items():
        fits = rows.ndim == 2 and rows.shape[1] == len(shape) and rows.dtype == np.int32
        if not 0 < label <= largest_label or not fits or not ((rows >= 0) & (rows < shape)).all():
            raise BadDataError(f"{path} names voxels of label {label} that are not there", HINT)
    return found


def write_marker(layout: ModelLayout, case: str, content: str) -> None:
    """Note what a case was made from, and what its files are; comes last, so that a killed run does the case again."""
    text = "\n".join([content, *(f"{_stamp(path)} {file_sha256(path)}" for path in layout.preprocessed_case(case))])
    path = layout.preprocessed_hashes / case
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def is_whole(layout: ModelLayout, case: str, content: str) -> bool:
    """Whether a case was made from `content`, and every file of it is the one that was written then.

    Files are hashed only where a size or time of change is not what was noted: in copies, or after damage. Otherwise
    these suffice, since nothing rests on the hash but that a damaged case is made anew: whoever forges both could write
    the marker too, and `read_case` runs nothing and checks what it reads.
    """
    files = layout.preprocessed_case(case)
    try:
        noted, *lines = (layout.preprocessed_hashes / case).read_text(encoding="utf-8").split("\n")
        if noted != content or len(lines) != len(files) or not all(path.is_file() for path in files):
            return False
        stamps = [_stamp(path) for path in files]
        if all(line.startswith(f"{stamp} ") for line, stamp in zip(lines, stamps, strict=True)):
            return True
        return [line.rpartition(" ")[2] for line in lines] == [file_sha256(path) for path in files]
    except (OSError, UnicodeDecodeError):
        return False


def forget_cases(layout: ModelLayout, kept: set[str]) -> None:
    """Remove every file here that is not of a case in `kept`: of people who left, of killed runs, of other versions."""
    wanted = {path for case in kept for path in (*layout.preprocessed_case(case), layout.preprocessed_hashes / case)}
    for folder in (layout.preprocessed_cases, layout.preprocessed_hashes):
        for path in folder.iterdir():
            if path not in wanted and (path.is_symlink() or not path.is_dir()):
                path.unlink(missing_ok=True)
