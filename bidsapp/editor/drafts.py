"""What a person painted and has not saved yet: on the disk after each stroke, so that nothing ends with the server."""

from __future__ import annotations

import hashlib
import json
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import nibabel as nib
import numpy as np

from bidsapp.content import Signature, signature
from bidsapp.errors import BadDataError, HippoTuneError, NoInputError
from bidsapp.files import explain_write_errors, read_json, write_json
from bidsapp.images.headers import FileGrid
from bidsapp.images.volumes import read_grid
from bidsapp.images.writing import label_image_like, write_image
from bidsapp.layout import OutputLayout
from bidsapp.printable import printable
from bidsapp.records import Modality, Work
from bidsapp.review.corrections import read_on_grid

_MARK = "HippoTune draft of "
_GZIP = 31  # zlib's number for a stream with gzip's header and checksum


@dataclass(frozen=True, eq=False)
class Draft:
    """An unfinished drawing."""

    labels: np.ndarray
    """Whole numbers, (i, j, k) of the crop."""
    version: str
    """Of the side, when the drawing began."""
    crop: str
    """Mark of the crop that it began on, see `crop_mark`; empty where the file does not say."""
    writer: str
    """Mark of the tab that wrote it last."""
    seen: Signature
    """The file that it was read from."""


def crop_mark(crop_sha256: Mapping[Modality, str]) -> str:
    """Make one short word of the fingerprints of a side's crops: there is little room in a NIfTI header."""
    return _mark(json.dumps(crop_sha256, sort_keys=True))


def unpack_voxels(body: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Make voxels (i, j, k) of what a page sends: gzip of little-endian 16-bit numbers, i running fastest.

    Never more is unpacked than the crop has voxels.

    Raises
    ------
    BadDataError
        When it is no gzip, or holds another number of voxels.
    """
    expected = int(np.prod(shape)) * 2
    stream = zlib.decompressobj(_GZIP)
    try:
        content = stream.decompress(body, expected + 1)
        if len(content) == expected and not stream.eof:
            content += stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise BadDataError(f"the drawing came damaged: {error}", "Draw once more; it is sent again.") from error
    if len(content) != expected or not stream.eof or stream.unused_data:
        raise BadDataError(f"the drawing has another number of voxels than its crop, {expected // 2}")
    return np.frombuffer(content, "<u2").reshape(shape, order="F").astype(np.uint16)


class Drafts:
    """The drafts of one OUTPUT_DIR, by the name of their side."""

    def __init__(self, layout: OutputLayout) -> None:
        self._layout = layout
        self._changing = threading.Lock()

    def write(self, side: str, grid: FileGrid, labels: np.ndarray, version: str, *, crop: str, tab: str) -> None:
        """Keep a drawing in place of the side's last one.

        One that another tab wrote, or that does not fit the grid, is kept under another name. The crop that a drawing
        began on stays with it.

        Parameters
        ----------
        labels
            Whole numbers, (i, j, k) of `grid`.
        crop
            Mark of the crop that the page shows.

        Raises
        ------
        CannotWriteError
            When the disk is full or the folder cannot be written.
        """
        writer, path = _mark(tab), self._layout.draft(side)
        with self._changing:
            try:
                last = self.read(side, grid)
                if last is not None:
                    crop = last.crop or crop
                aside = last is not None and last.writer != writer
            except BadDataError:
                aside = True
            if aside:
                _set_aside(path)
            image = label_image_like(labels, grid)
            image.header["descrip"] = f"{_MARK}{version} {crop}".encode("ascii")
            image.header["aux_file"] = writer.encode("ascii")
            write_image(path, image)

    def read(self, side: str, grid: FileGrid) -> Draft | None:
        """The side's draft; None where there is none.

        Raises
        ------
        BadDataError
            When it is damaged, or was drawn on another grid than the crop has now.
        """
        path = self._layout.draft(side)
        try:
            seen = signature([path])
            header = read_grid(path, "any").header
            version, _, crop = _words(header, "descrip").removeprefix(_MARK).partition(" ")
            return Draft(read_on_grid(path, grid), version, crop, _words(header, "aux_file"), seen)
        except NoInputError:
            return None
        except BadDataError as error:
            hint = f"Look at {path}, and move it away."
            raise BadDataError(f"the unsaved drawing of {side} cannot be used: {error.message}", hint) from error

    def exists(self, side: str) -> bool:
        """Whether there is one."""
        return self._layout.draft(side).exists()

    def remove(self, side: str, seen: Signature | None = None) -> None:
        """Forget the side's draft, if there is one; with `seen`, only where no other came since."""
        path = self._layout.draft(side)
        with self._changing, explain_write_errors(path):
            if seen is None or signature([path]) == seen:
                path.unlink(missing_ok=True)


def _mark(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:20]


def _words(header: nib.Nifti1Header, name: str) -> str:
    return printable(bytes(header[name]).rstrip(b"\0").decode("ascii", "replace"))


def _set_aside(path: Path) -> None:
    stem = path.name.removesuffix(".nii.gz")
    names = (path.with_name(f"{stem}-{number}.nii.gz") for number in count(2))
    with explain_write_errors(path):
        path.rename(next(name for name in names if not name.exists()))


class WorkCounts:
    """How long people worked on sides that are not approved yet."""

    def __init__(self, layout: OutputLayout) -> None:
        self._layout = layout

    def read(self, side: str) -> Work:
        """What was counted so far; a record that is damaged counts as none."""
        try:
            content = read_json(self._layout.editing_work(side))
            return Work(float(content["seconds"]), {str(name): int(n) for name, n in content["painted"].items()})
        except (HippoTuneError, KeyError, TypeError, ValueError, AttributeError):
            return Work()

    def add(self, side: str, more: Work) -> Work:
        """Add to it. Raises `CannotWriteError`."""
        total = self.read(side) + more
        if more.seconds or more.painted:
            path = self._layout.editing_work(side)
            write_json(path, {"seconds": round(total.seconds, 1), "painted": dict(total.painted)})
        return total

    def remove(self, side: str) -> None:
        """Forget it: the ledger has it now."""
        with explain_write_errors(self._layout.editing_work(side)):
            self._layout.editing_work(side).unlink(missing_ok=True)
