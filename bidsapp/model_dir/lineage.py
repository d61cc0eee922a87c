"""Where a model comes from, and the places that people had there: nobody whom it was tested on is ever trained on."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from bidsapp.errors import BadDataError, HippoTuneError
from bidsapp.exchange.loading import LoadedModel
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.fingerprints import fingerprint, read_fingerprints
from bidsapp.model_dir.split import add_places
from bidsapp.model_dir.state import SCRATCH, ModelState, read_state
from bidsapp.models.licences import stated_licence
from bidsapp.printable import people_text, plural
from bidsapp.records import Pair, Split, SplitName, SplitRow

log = logging.getLogger(__name__)

MOST_PARENTS, MOST_NAMES, MOST_DIGESTS = 50, 255, 1000


@dataclass(frozen=True)
class Lineage:
    """What is known of the models before a new one."""

    parents: tuple[dict[str, Any], ...] = ()
    """Facts that may leave, the nearest model first: name, license, digest, people, labels, channels."""
    inherited: Split = field(default_factory=Split)
    """Places of everybody whom the models before knew."""
    image_people: Mapping[str, str] = field(default_factory=dict)
    """Digest of their images -> their person."""
    unchecked: tuple[str, ...] = ()
    """Names of the models before whose people are not known: no leakage can be ruled out."""
    ancestors: tuple[str, ...] = ()
    """Digests of all models before, their earlier exports included, as far as they are known: any of them may have
    drawn the labels that were approved as predicted."""
    fingerprints: Mapping[str, SplitName] = field(default_factory=dict)
    """Of images that exports before knew, of nobody who is named -> their part (`bidsapp.model_dir.fingerprints`)."""


def lineage_of(model: LoadedModel, asked: Path, *, licence: str | None = None) -> Lineage:
    """What becomes of the people of a model that is started from.

    Parameters
    ----------
    asked
        What was given as the model: its MODEL_DIR, a file in its ``export``, or any other file.
    licence
        What a registry says, for models that state none themselves.

    Raises
    ------
    BadDataError
        When the model brings fingerprints that cannot be used, or its state.json is damaged.
    """
    parents = _genealogy(model, licence)
    home = _home(asked)
    state = read_state(home) if home is not None else None
    stated = _digests(model.facts.get("ancestors"))
    own = (model.digest, *stated, *(str(one["digest"]) for one in parents if one["digest"]))
    if home is None or state is None:
        known = read_fingerprints(model.facts, model.source)
        return Lineage(
            parents,
            unchecked=tuple(str(one["name"]) for one in parents) if known is None else known.unchecked,
            ancestors=tuple(dict.fromkeys(own)),
            fingerprints={} if known is None else known.parts,
        )
    return Lineage(
        parents,
        ancestors=tuple(dict.fromkeys((*own, *known_digests(home, state)))),
        inherited=add_places(state.split, state.inherited),
        image_people=dict(state.image_people),
        unchecked=state.unchecked,
        fingerprints=state.fingerprints,
    )


def lineage_so_far(state: ModelState) -> Lineage:
    """The same of a model that was begun before."""
    return Lineage(
        state.parents, state.inherited, state.image_people, state.unchecked, state.ancestors, state.fingerprints
    )


def known_digests(layout: ModelLayout, state: ModelState) -> tuple[str, ...]:
    """Digests of all that a model was: the models before it, and each of its own exports.

    Exports of versions that did not note their digest are read, as far as they are there.
    """
    found = [*state.ancestors, *(str(parent["digest"]) for parent in state.parents if parent.get("digest"))]
    if state.base != SCRATCH:
        found.append(state.base)
    for segment in state.segments:
        noted = segment.result.get("digest")
        archive = layout.exported_model(segment.target)
        if noted:
            found.append(str(noted))
        elif segment.result and archive.is_file():
            found += _digest_of(archive)
    return tuple(dict.fromkeys(found))


def _digest_of(archive: Path) -> list[str]:
    from bidsapp.exchange.loading import load_model

    try:
        return [load_model(archive).digest]
    except HippoTuneError as error:
        log.warning("labels that %s drew are not recognised: %s", archive.name, error)
        return []


def refuse_leaks(lineage: Lineage, split: Split, pairs: Iterable[Pair], images: Mapping[str, list[str]]) -> None:
    """Refuse a split in which somebody has another place than in a model before, by id or by what the images show.

    Parameters
    ----------
    split
        As decided.
    images
        case -> digests of its images.

    Raises
    ------
    BadDataError
        Naming everybody concerned.
    """
    before = {row.participant_id: row.split for row in lineage.inherited.rows}
    now = {row.participant_id: row for row in split.rows}
    moved = [_moved(person, before[person], row) for person, row in now.items()
             if person in before and before[person] != row.split]  # fmt: skip
    for pair in pairs:
        known = {lineage.image_people[image] for image in images[pair.case] if image in lineage.image_people}
        for person in sorted(known - {pair.participant}):
            place, row = before.get(person), now[pair.participant]
            if place is not None and place != row.split:
                moved.append(f"{pair.case} shows {_moved(person, place, row)}")
        row = now[pair.participant]
        parts = parts_by_fingerprint(lineage, images[pair.case])
        moved += [f"{pair.case} shows {_moved('somebody', part, row)}" for part in sorted(parts - {row.split})]
    if moved:
        raise BadDataError(
            f"people whom a model before knows would change their part: {'; '.join(dict.fromkeys(moved))}",
            "A test person must never be trained on, in no later model. Correct split.tsv (of the model, or "
            "labels/split.tsv of the data set), or leave these people out.",
        )


def places_by_image(lineage: Lineage, pairs: Iterable[Pair], images: Mapping[str, list[str]]) -> Split:
    """Places of those whose images a model before knows, whatever they are called there; of two places the first."""
    before = {row.participant_id: row.split for row in lineage.inherited.rows}
    places: dict[str, SplitName] = {}
    for pair in pairs:
        known = (lineage.image_people.get(image, "") for image in images[pair.case])
        parts = [*(before[person] for person in known if person in before),
                 *sorted(parts_by_fingerprint(lineage, images[pair.case]))]  # fmt: skip
        if parts:
            places.setdefault(pair.participant, parts[0])
    return Split(tuple(SplitRow(person, part) for person, part in places.items()))


def parts_by_fingerprint(known: Lineage | ModelState, images: Iterable[str]) -> set[SplitName]:
    """Where exports before had images with these digests."""
    if not known.fingerprints:
        return set()
    prints = map(fingerprint, images)
    return {known.fingerprints[one] for one in prints if one in known.fingerprints}


def say_leakage(lineage: Lineage) -> str:
    """What is known of leakage, in words for the log, the report and the card; empty for a model from scratch."""
    if lineage.unchecked:
        return (
            f"leakage against {', '.join(lineage.unchecked)} could not be checked: whom it was trained on is not known"
        )
    if lineage.parents:
        people, images = len(lineage.inherited.rows), len(lineage.fingerprints)
        checked = " and ".join(
            [people_text(people)] * (people > 0 or not images) + [plural(images, "image")] * (images > 0)
        )
        return f"nobody changed their part: {checked} of the models before were checked"
    return ""


def _moved(person: str, before: SplitName, now: SplitRow) -> str:
    return f"{person}, who was in {before}, in {now.split}"


def _home(asked: Path) -> ModelLayout | None:
    """The MODEL_DIR that a path is, or is exported from."""
    asked = asked.resolve()
    candidates = [asked] if asked.is_dir() else [asked.parent.parent] if asked.parent.name == "export" else []
    return next((ModelLayout(folder) for folder in candidates if ModelLayout(folder).state.is_file()), None)


def _genealogy(model: LoadedModel, licence: str | None) -> tuple[dict[str, Any], ...]:
    facts = model.facts
    own = {
        "name": model.name,
        "license": stated_licence(facts.get("license")) or stated_licence(licence),
        "digest": model.digest,
        "people": facts.get("people"),
        "labels": list(model.labels.values()),
        "channels": list(model.channels),
    }
    before = facts.get("parents")
    listed = before[:MOST_PARENTS] if isinstance(before, list) else []
    return tuple(_checked(one) for one in (own, *listed) if isinstance(one, dict))


def _digests(stated: object) -> tuple[str, ...]:
    """What a model's file says of the models before it, as far as it is digests."""
    listed = stated[:MOST_DIGESTS] if isinstance(stated, list) else []
    return tuple(one for one in listed if isinstance(one, str) and re.fullmatch(r"[0-9a-f]{64}", one))


def _checked(stated: Mapping[str, Any]) -> dict[str, Any]:
    """What a model's file says of a model before it, as far as it is of the right kind: it will be passed on."""
    people = stated.get("people")
    counts = people if isinstance(people, dict) else {}
    return {
        "name": _words([stated.get("name")])[0] if _words([stated.get("name")]) else "a model without a name",
        "license": stated_licence(stated.get("license")),
        "digest": digest if re.fullmatch(r"[0-9a-f]{64}", digest := str(stated.get("digest"))) else None,
        "people": {part: counts[part] for part in get_args(SplitName) if isinstance(counts.get(part), int)} or None,
        "labels": _words(stated.get("labels")),
        "channels": _words(stated.get("channels")),
    }


def _words(stated: object) -> list[str]:
    """Names of letters, digits and a few signs; whatever else is listed is left out."""
    listed = stated[:MOST_NAMES] if isinstance(stated, list) else []
    return [one for one in listed if isinstance(one, str) and re.fullmatch(r"[\w .+'-]{1,100}", one)]
