"""The names under which OUTPUT_DIR knows its input data sets, and BIDS URIs made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

RAW = "raw"


def dataset_links(bids_dir: Path, derivatives: Sequence[Path] = ()) -> dict[str, Path]:
    """Name the data sets: ``raw`` for BIDS_DIR, ``deriv1``, ``deriv2``, ... for the others in their order."""
    return {RAW: bids_dir} | {f"deriv{number}": folder for number, folder in enumerate(derivatives, start=1)}


def bids_uri(link: str, relative: str) -> str:
    """Make the URI of a file, e.g. ``bids:raw:sub-01/anat/sub-01_T1w.nii.gz``.

    Parameters
    ----------
    link
        A name from `dataset_links`.
    relative
        The file's path below that data set, with ``/``.
    """
    return f"bids:{link}:{relative}"
