"""What the JSON sidecars say of an image, by BIDS' inheritance principle."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from bidsapp.bids.index import IndexedFile
from bidsapp.errors import HippoTuneError
from bidsapp.files import parse_json, read_bytes

logger = logging.getLogger(__name__)

_NOT_COMPARED = {"extension", "datatype"}


class Sidecars:
    """The JSON files of one data set, read when an image asks for them and only once.

    pybids' own index of metadata reads all of them, takes three times as long, and gives up the whole data set for
    one damaged file.
    """

    def __init__(self, files: Iterable[IndexedFile]) -> None:
        self._by_folder: dict[PurePosixPath, list[IndexedFile]] = defaultdict(list)
        for file in files:
            if file.extension == ".json":
                self._by_folder[PurePosixPath(file.relative).parent].append(file)
        self._contents: dict[Path, dict[str, Any] | None] = {}

    def metadata(self, image: IndexedFile) -> dict[str, Any]:
        """Merge all sidecars that apply; the nearer and the more specific one wins.

        Empty when one of them is damaged, since what it overrides is unknown; a warning names it.
        """
        merged: dict[str, Any] = {}
        for sidecar in self._applying_to(image):
            content = self._read(sidecar.path)
            if content is None:
                return {}
            merged |= content
        return merged

    def _applying_to(self, image: IndexedFile) -> list[IndexedFile]:
        folders = list(PurePosixPath(image.relative).parents)[::-1]
        applying = []
        for folder in folders:
            here = [file for file in self._by_folder.get(folder, ()) if _applies(file, image)]
            applying += sorted(here, key=lambda file: (len(file.entities), file.relative))
        return applying

    def _read(self, path: Path) -> dict[str, Any] | None:
        if path not in self._contents:
            self._contents[path] = _read_object(path)
        return self._contents[path]


def _applies(sidecar: IndexedFile, image: IndexedFile) -> bool:
    compared = sidecar.entities.items()
    return all(image.entities.get(name) == value for name, value in compared if name not in _NOT_COMPARED)


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        content = parse_json(read_bytes(path), str(path), strict=False)
    except HippoTuneError as error:
        logger.warning("%s: its image is used without metadata", error.message)
        return None
    if not isinstance(content, dict):
        logger.warning("%s holds no JSON object: its image is used without metadata", path)
        return None
    return content
