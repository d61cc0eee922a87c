"""Fingerprints of content, whatever files are called or when they were saved, and signatures of files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bidsapp.files import explain_read_errors, open_file

Signature = tuple[tuple[int, ...] | None, ...]


def file_sha256(path: Path) -> str:
    """Fingerprint of a file's bytes; raises `NoInputError` when it is missing or cannot be read."""
    with explain_read_errors(path), open_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def image_sha256(data: np.ndarray, affine: np.ndarray) -> str:
    """Fingerprint of voxels and where they are: a save with another compression or number type keeps it.

    Parameters
    ----------
    data
        (i, j, k), any number type; compared as single precision.
    affine
        (4, 4), voxel indices to millimetres; compared to 1e-4 mm, as headers store it.
    """
    digest = hashlib.sha256(str(data.shape).encode())
    digest.update(np.ascontiguousarray(data, dtype="<f4").tobytes())
    digest.update((np.round(affine, 4) + 0.0).astype("<f4").tobytes())
    return digest.hexdigest()


def settings_sha256(settings: Mapping[str, Any]) -> str:
    """Fingerprint of names and plain values, in any order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def signature(paths: Iterable[Path]) -> Signature:
    """Which files lie at `paths`: another one whenever one was written, replaced or removed."""
    found: list[tuple[int, ...] | None] = []
    for path in paths:
        try:
            there = os.stat(path)  # noqa: PTH116 - a string or a path, and thousands of them
            found.append((there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)
