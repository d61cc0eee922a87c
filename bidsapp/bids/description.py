"""Read the dataset_description.json of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.files import parse_json, read_bytes

FILE_NAME = "dataset_description.json"


def require_dataset(root: Path) -> None:
    """Make sure that `root` is the top folder of a BIDS data set.

    Raises
    ------
    NoInputError
        When there is no such folder, or no dataset_description.json in it.
    BadDataError
        When dataset_description.json is not a JSON object.
    """
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise NoInputError(f"{root} {problem}", "Name the top folder of a BIDS data set.")
    path = root / FILE_NAME
    if not path.is_file():
        raise NoInputError(f"{root} has no {FILE_NAME}, so it is not a BIDS data set", _way_out(root))
    read_description(path)


def read_description(path: Path) -> dict[str, Any]:
    """Read a dataset_description.json.

    Raises
    ------
    NoInputError
        When it does not exist or may not be read.
    BadDataError
        When it is not a JSON object.
    """
    content = parse_json(read_bytes(path), str(path), "Correct it.", strict=False)
    if not isinstance(content, dict):
        raise BadDataError(f"{path} holds a {type(content).__name__}, not a JSON object", "Correct it.")
    return content


def _way_out(root: Path) -> str:
    """Point to the data set that was probably meant: one level up or down."""
    try:
        nearby = [root.parent, *sorted(path for path in root.iterdir() if path.is_dir())]
    except OSError:
        nearby = [root.parent]
    meant = [str(path) for path in nearby if (path / FILE_NAME).is_file()]
    if meant:
        return f"Name the top folder of the data set; did you mean {' or '.join(meant[:3])}?"
    return f'Name the top folder of a BIDS data set, or add {FILE_NAME}: {{"Name": "...", "BIDSVersion": "1.10.0"}}.'
