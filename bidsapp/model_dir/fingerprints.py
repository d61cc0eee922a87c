"""Fingerprints by which an export knows the images of its training, without the images and without anybody's name.

A fingerprint is a salted hash of an image's voxels as the network saw them. Whoever holds an image can ask whether it
was there; nobody can make an image, a person or a scan of it. The salt is public: the same image has the same
fingerprint in every export.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.images.orientation import NETWORK_SPACE
from bidsapp.model_dir.split import SPLIT_NAMES, add_places
from bidsapp.model_dir.state import ModelState
from bidsapp.records import SplitName

FINGERPRINTS = "fingerprints"
"""Their name in ``hippotune.json``: an object of the salt, lists by part, and models before that they do not cover."""

SALT = "hippotune-voxels-1"
MOST_FINGERPRINTS = 100_000
MOST_NAMES = 50


@dataclass(frozen=True)
class Fingerprints:
    """What an export knows of its images."""

    parts: Mapping[str, SplitName]
    """Fingerprint -> part of the split."""
    unchecked: tuple[str, ...] = ()
    """Names of models before it whose images are not among them."""


def fingerprint(digest: str) -> str:
    """Of an image whose voxels have this digest (`bidsapp.pairs.check_pairs.image_digest`)."""
    return hashlib.sha256(f"{SALT} {digest}".encode()).hexdigest()


def describe_fingerprints(parts: Mapping[str, SplitName], unchecked: Iterable[str] = ()) -> dict[str, object]:
    """What ``hippotune.json`` says; sorted, so that their order tells nothing."""
    stated: dict[str, object] = {"salt": SALT}
    for name in SPLIT_NAMES:
        stated[name] = sorted(one for one, part in parts.items() if part == name)
    return stated | {"unchecked": list(unchecked)}


def fingerprints_of_training(state: ModelState) -> dict[str, object]:
    """Fingerprints of every image that a model, and those before it whose MODEL_DIR was known, were ever given.

    Raises
    ------
    NoInputError
        When the state knows no image.
    UsageError
        When its images were not turned to one orientation, so that nobody could find them again, or are too many.
    """
    turned = {*state.storage.values(), *(case.axes for case in state.cases.values() if case.axes)}
    if not state.image_people:
        raise NoInputError("state.json knows no image: no fingerprints can be made", "Export without them.")
    if not turned or not turned <= set(NETWORK_SPACE.values()):
        raise UsageError(
            "no fingerprints can be made: this model was begun by HippoTune 0.1.0, whose images were not turned to one "
            "orientation",
            "Export without them, or train anew in another --model-dir.",
        )
    places = {row.participant_id: row.split for row in add_places(state.split, state.inherited).rows}
    own = {fingerprint(image): places.get(person, "train") for image, person in state.image_people.items()}
    parts = {**state.fingerprints, **own}
    if len(parts) > MOST_FINGERPRINTS:
        raise UsageError(f"{len(parts)} fingerprints are more than {MOST_FINGERPRINTS}", "Export without them.")
    return describe_fingerprints(parts, state.unchecked)


def read_fingerprints(facts: Mapping[str, Any], source: Path) -> Fingerprints | None:
    """Those that an export brings (`facts` of its ``hippotune.json``); None where it brings none.

    Raises
    ------
    BadDataError
        When they are not what `describe_fingerprints` gives: with them a leak would be overlooked.
    """
    if FINGERPRINTS not in facts:
        return None
    stated = facts[FINGERPRINTS]
    if not isinstance(stated, dict) or stated.keys() != {"salt", *SPLIT_NAMES, "unchecked"}:
        raise _damaged(source, f"they are no object of salt, {', '.join(SPLIT_NAMES)} and unchecked")
    if stated["salt"] != SALT:
        raise _damaged(source, f"the salt is {ascii(stated['salt'])[:80]}, not {SALT!r}")
    for name in (*SPLIT_NAMES, "unchecked"):
        if not isinstance(stated[name], list):
            raise _damaged(source, f"{name} is {ascii(stated[name])[:80]}, not a list")
    if sum(len(stated[name]) for name in SPLIT_NAMES) > MOST_FINGERPRINTS:
        raise _damaged(source, f"they are more than {MOST_FINGERPRINTS}")
    parts: dict[str, SplitName] = {}
    for name in SPLIT_NAMES:
        for one in stated[name]:
            if not isinstance(one, str) or not re.fullmatch("[0-9a-f]{64}", one):
                raise _damaged(source, f"{name} holds {ascii(one)[:80]}")
            if parts.setdefault(one, name) != name:
                raise _damaged(source, f"{one} is in {parts[one]} and in {name}")
    unchecked = stated["unchecked"]
    if len(unchecked) > MOST_NAMES or not all(_is_name(one) for one in unchecked):
        raise _damaged(source, f"unchecked is {ascii(unchecked)[:80]}")
    return Fingerprints(parts, tuple(unchecked))


def _is_name(stated: object) -> bool:
    return isinstance(stated, str) and re.fullmatch(r"[\w .+'-]{1,100}", stated) is not None


def _damaged(source: Path, problem: str) -> BadDataError:
    return BadDataError(f"the fingerprints in {source} cannot be used: {problem}", "Take the export as it was made.")
