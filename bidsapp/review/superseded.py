"""Label maps that are replaced or withdrawn are copied to ``labels/superseded/`` first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain, count
from pathlib import Path

from bidsapp.files import copy_file, read_bytes
from bidsapp.layout import OutputLayout, label_names, sidecar
from bidsapp.review.snapshots import ImageSnapshots


def keep_superseded(layout: OutputLayout, label: Path, when: datetime) -> None:
    """Copy a label map, its sidecar and its table to ``labels/superseded/<date>/``, unless the same are there already.

    A second version on one day goes to ``<date>-2``, and so on.
    """
    files = [path for path in (label, sidecar(label), label_names(label)) if path.exists()]
    if any(_holds(layout, folder, files) for folder in _folders(layout)):
        return
    folder = _free_folder(layout, files, when)
    for path in reversed(files):  # the image last: with it, all is there
        copy_file(path, folder / path.relative_to(layout.labels))


def keep_copy(path: Path, folder: Path, name: Path) -> None:
    """Copy a file to `folder` / `name`, or to ``<folder>-2`` and so on where another version is there already.

    Raises `NoInputError` when it cannot be read, or is a pipe or a device.
    """
    for place in chain([folder], (folder.with_name(f"{folder.name}-{number}") for number in count(2))):
        copy = place / name
        if not copy.exists():
            copy_file(path, copy)
            return
        if read_bytes(copy) == read_bytes(path):
            return


def find_superseded(layout: OutputLayout, label: Path, label_sha256: str, images: ImageSnapshots) -> Path | None:
    """Find an earlier version of a label map by the fingerprint of its voxels and affine.

    Raises `BadDataError` when a copy that stands in the way is damaged.
    """
    copies = (folder / label.relative_to(layout.labels) for folder in _folders(layout))
    return next((path for path in copies if path.exists() and images[path].image_sha256 == label_sha256), None)


def _folders(layout: OutputLayout) -> list[Path]:
    root = layout.all_superseded
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _holds(layout: OutputLayout, folder: Path, files: Sequence[Path]) -> bool:
    copies = [(folder / path.relative_to(layout.labels), path) for path in files]
    return all(copy.exists() and read_bytes(copy) == read_bytes(path) for copy, path in copies)


def _free_folder(layout: OutputLayout, files: Sequence[Path], when: datetime) -> Path:
    image = files[0].relative_to(layout.labels)
    begun = (folder for folder in _folders(layout) if any(_holds(layout, folder, [one]) for one in files[1:]))
    free = (folder for folder in chain(begun, _names(layout, when)) if not (folder / image).exists())
    return next(free)  # where a run that was stopped began, if there is one


def _names(layout: OutputLayout, when: datetime) -> Iterator[Path]:
    date = when.date().isoformat()
    yield layout.superseded(date)
    for number in count(2):
        yield layout.superseded(f"{date}-{number}")
