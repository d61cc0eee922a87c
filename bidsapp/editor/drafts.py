"""What a person painted and has not saved yet: on the disk after each stroke, so that nothing ends with the server."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from bidsapp.errors import BadDataError, HippoTuneError, NoInputError
from bidsapp.files import explain_write_errors, read_json, write_json
from bidsapp.images.headers import FileGrid
from bidsapp.images.volumes import read_grid
from bidsapp.images.writing import label_image_like, write_image
from bidsapp.layout import OutputLayout
from bidsapp.printable import printable
from bidsapp.records import Work
from bidsapp.review.corrections import read_on_grid

_MARK = "HippoTune draft of "
_GZIP = 31  # zlib's number for a stream with gzip's header and checksum


@dataclass(frozen=True, eq=False)
class Draft:
    """An unfinished drawing.

    Attributes
    ----------
    labels
        Whole numbers, (i, j, k) of the crop.
    version
        Of the side, when the drawing began.
    """

    labels: np.ndarray
    version: str


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

    def write(self, side: str, grid: FileGrid, labels: np.ndarray, version: str) -> None:
        """Keep a drawing in place of the side's last one. Raises `CannotWriteError`."""
        image = label_image_like(labels, grid)
        image.header["descrip"] = f"{_MARK}{version}".encode("ascii")
        write_image(self._layout.draft(side), image)

    def read(self, side: str, grid: FileGrid) -> Draft | None:
        """The side's draft; None where there is none.

        Raises
        ------
        BadDataError
            When it is damaged, or was drawn on another grid than the crop has now.
        """
        path = self._layout.draft(side)
        try:
            words = bytes(read_grid(path, "any").header["descrip"]).rstrip(b"\0").decode("ascii", "replace")
            return Draft(read_on_grid(path, grid), printable(words.removeprefix(_MARK)))
        except NoInputError:
            return None
        except BadDataError as error:
            hint = f"Look at {path}, and move it away."
            raise BadDataError(f"the unsaved drawing of {side} cannot be used: {error.message}", hint) from error

    def exists(self, side: str) -> bool:
        """Whether there is one."""
        return self._layout.draft(side).exists()

    def remove(self, side: str) -> None:
        """Forget the side's draft, if there is one."""
        with explain_write_errors(self._layout.draft(side)):
            self._layout.draft(side).unlink(missing_ok=True)


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
