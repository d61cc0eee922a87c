"""Image files as one run meets them: each is hashed once and read once, however many steps ask for it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bidsapp.arrays import IntArray
from bidsapp.bids.facts import read_facts
from bidsapp.content import file_sha256, image_sha256, signature
from bidsapp.images.fingerprints import read_image_sha256
from bidsapp.images.grids import Grid
from bidsapp.images.volumes import FileVolume, read_volume


class ImageSnapshot:
    """One image file. Each part is read when it is first asked for; errors are those of `read_volume`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._volume: FileVolume | None = None

    @cached_property
    def file_sha256(self) -> str:
        """Fingerprint of the bytes."""
        return file_sha256(self.path)

    @cached_property
    def image_sha256(self) -> str:
        """Fingerprint of voxels and affine."""
        slope, intercept = self.volume.file.header.get_slope_inter()
        if (slope or 1.0, intercept or 0.0) != (1.0, 0.0):  # the fingerprint is of values scaled in single precision
            return read_image_sha256(self.path)
        return image_sha256(self.volume.data, self.volume.affine)

    @property
    def volume(self) -> FileVolume:
        """Voxels in the file's number type, shape (i, j, k), with affine and header. Nobody may change them."""
        if self._volume is None:
            self._volume = read_volume(self.path, "any")
        return self._volume

    @property
    def labels(self) -> IntArray:
        """The voxels as whole numbers, shape (i, j, k): a copy."""
        return np.rint(self.volume.data).astype(np.int32)

    @cached_property
    def grid(self) -> Grid:
        """Where the voxels are. Whoever asks for it looks at the voxels next, so the file is opened once for both."""
        return self.volume.grid

    def holds(self, *, bytes_sha256: str, voxels_sha256: str) -> bool:
        """Whether this is the image of a fingerprint; where the bytes are equal, no voxels are read."""
        return self.file_sha256 == bytes_sha256 or self.image_sha256 == voxels_sha256

    def drop_voxels(self) -> None:
        """Free the memory of the voxels; fingerprints and grid stay."""
        self._volume = None


class ImageSnapshots:
    """The snapshots of a run, by path. A file that was replaced or saved again in between gets a new one."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], ImageSnapshot]] = {}
        self._in_use: set[ImageSnapshot] = set()
        """Those that were asked for since voxels were dropped: of thousands, a handful."""

    def __getitem__(self, path: Path) -> ImageSnapshot:
        """The snapshot of a file, also of one that is missing: that is an error of its parts."""
        (version,) = signature([path])
        if version is None:
            return ImageSnapshot(path)
        known = self._known.get(path)
        if known is None or known[0] != version:
            known = self._known[path] = (version, ImageSnapshot(path))
        self._in_use.add(known[1])
        return known[1]

    def facts(self, path: Path) -> dict[str, Any] | None:
        """See `bidsapp.bids.facts.read_facts`."""
        return read_facts(path, lambda image: self[image].file_sha256)

    def drop_voxels(self) -> None:
        """Free the memory of all voxels: when a side is done."""
        for snapshot in self._in_use:
            snapshot.drop_voxels()
        self._in_use.clear()
