"""The file of --bids-filter-file: which scans count, in fMRIPrep's form."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bidsapp.errors import BadDataError
from bidsapp.files import parse_json, read_bytes
from bidsapp.records import Modality

ANY = "*"
"""Any value, but the entity must be there."""

Wanted = str | int | None
Rules = Mapping[str, tuple[Wanted, ...]]
"""entity -> values of which one must be met; None: the entity is absent."""

_MODALITIES: dict[str, Modality] = {"t1w": "T1w", "t2w": "T2w"}
_OTHERS_OF_FMRIPREP = {"flair", "bold", "sbref", "fmap", "roi", "dwi", "asl"}
_SHORT = {"sub": "subject", "ses": "session", "acq": "acquisition", "rec": "reconstruction", "ce": "ceagent"}
_PREFIXES = {"subject": "sub-", "session": "ses-"}
_EXAMPLE = 'Example: {"T1w": {"acquisition": "hires", "run": 2}, "T2w": {"session": ["1", "2"]}}'


def read_filters(path: Path, entity_names: Collection[str]) -> dict[Modality, Rules]:
    """Read ``{"T1w": {"acquisition": "hires", "run": 2, "reconstruction": null}, "T2w": {...}}``.

    Values are strings, whole numbers, null (the entity is absent), ``"*"`` (it is there), or lists of these. Keys
    are taken in any case; what fMRIPrep knows and we have no use for, such as ``bold``, is passed over.

    Raises
    ------
    NoInputError
        When there is no such file.
    BadDataError
        When it is not a JSON object; with the value, for an unknown key or entity, or a value of another type.
    """
    content = _read_object(path)
    filters: dict[Modality, Rules] = {}
    for key, entities in content.items():
        if key.lower() in _OTHERS_OF_FMRIPREP:
            continue
        modality = _MODALITIES.get(key.lower())
        if modality is None:
            raise BadDataError(f"{path}: unknown key {key!r}", f"The keys are T1w and T2w. {_EXAMPLE}")
        if modality in filters:
            raise BadDataError(f"{path}: {modality} stands twice, once as {key!r}", "Keep one.")
        if not isinstance(entities, dict):
            raise BadDataError(f"{path}: {key!r} holds {json.dumps(entities)}, not an object", _EXAMPLE)
        filters[modality] = {
            _check_entity(path, key, name, entity_names): _read_values(path, key, name, value)
            for name, value in entities.items()
        }
    return filters


def matches(entities: Mapping[str, str | int], rules: Rules) -> bool:
    """Tell whether a file's entities meet all `rules`."""
    return all(any(_equal(entities.get(name), value) for value in wanted) for name, wanted in rules.items())


def _equal(value: str | int | None, wanted: Wanted) -> bool:
    if wanted is None or value is None:
        return value is wanted
    if wanted == ANY:
        return True
    if isinstance(value, int) or isinstance(wanted, int):
        numbers = [str(number) for number in (value, wanted)]
        return all(number.isdecimal() for number in numbers) and len({number.lstrip("0") for number in numbers}) == 1
    return value == wanted


def _read_object(path: Path) -> dict[str, Any]:
    content = parse_json(read_bytes(path, "Name a JSON file with --bids-filter-file."), str(path), _EXAMPLE)
    if not isinstance(content, dict):
        raise BadDataError(f"{path} holds a {type(content).__name__}, not a JSON object", _EXAMPLE)
    return content


def _check_entity(path: Path, key: str, name: str, entity_names: Collection[str]) -> str:
    if name in entity_names:
        return name
    meant = _SHORT.get(name.lower(), name.lower())
    hint = f"Did you mean {meant!r}?" if meant in entity_names else f"There is: {', '.join(entity_names)}."
    raise BadDataError(f"{path}: unknown entity {name!r} for {key!r}", hint)


def _read_values(path: Path, key: str, name: str, value: object) -> tuple[Wanted, ...]:
    values = value if isinstance(value, list) else [value]
    wanted: list[Wanted] = []
    for item in values:
        if isinstance(item, bool) or not (item is None or isinstance(item, str | int)):
            hint = 'Write a string, a whole number, null (absent), "*" (any), or a list of these.'
            raise BadDataError(f"{path}: {name!r} for {key!r} is {json.dumps(item)}", hint)
        wanted.append(item.removeprefix(_PREFIXES.get(name, "")) if isinstance(item, str) else item)
    if not wanted:
        raise BadDataError(f"{path}: {name!r} for {key!r} is an empty list, which nothing can match", "Remove it.")
    return tuple(wanted)
