"""Licences under which a model may be shared, by their SPDX ids, and what they ask of models made from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from bidsapp.errors import UsageError

Demand = Literal["the same licence", "no commercial use", "no derivatives"]

HUGGING_FACE = {
    "Apache-2.0": "apache-2.0",
    "BSD-2-Clause": "bsd-2-clause",
    "BSD-3-Clause": "bsd-3-clause",
    "CC-BY-3.0": "cc-by-3.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "CC-BY-NC-ND-4.0": "cc-by-nc-nd-4.0",
    "CC-BY-NC-SA-4.0": "cc-by-nc-sa-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC0-1.0": "cc0-1.0",
    "GPL-3.0-only": "gpl-3.0",
    "GPL-3.0-or-later": "gpl-3.0",
    "AGPL-3.0-only": "agpl-3.0",
    "LGPL-3.0-only": "lgpl-3.0",
    "MIT": "mit",
    "MPL-2.0": "mpl-2.0",
    "ODC-By-1.0": "odc-by",
    "ODbL-1.0": "odbl",
    "PDDL-1.0": "pddl",
}
"""SPDX id -> the word for it in the front matter of a Hugging Face model card."""

OTHER = "LicenseRef-"
_OTHER_ID = re.compile(rf"{OTHER}[A-Za-z0-9.-]+")
_SHARE_ALIKE = re.compile(r"-SA-|^A?GPL-|^ODbL-")


@dataclass(frozen=True)
class Parent:
    """A model that this one was trained from, as exports list it."""

    name: str
    license: str | None = None
    """SPDX id; None where it is not known."""
    people: dict[str, int] | None = None
    """Part of the split -> how many people it was trained, validated and tested on; None where that is not known."""
    labels: tuple[str, ...] | None = None
    """What it segmented; None where that is not known."""
    channels: tuple[str, ...] | None = None
    """In which images."""


def check_licence(licence: str) -> str:
    """The SPDX id in its own spelling.

    Raises
    ------
    UsageError
        When it is none that we know and no ``LicenseRef-``.
    """
    by_spelling = {known.casefold(): known for known in HUGGING_FACE}
    if licence.casefold() in by_spelling:
        return by_spelling[licence.casefold()]
    if _OTHER_ID.fullmatch(licence):
        return licence
    raise UsageError(
        f"{licence!r} is no licence that is known here: {', '.join(HUGGING_FACE)}",
        f"Name one by its SPDX id, or your own terms as {OTHER}name (letters, digits, dots and dashes).",
    )


def stated_licence(licence: object) -> str | None:
    """The licence that a model's file states; None where it states none, or one that is not known here."""
    try:
        return check_licence(licence) if isinstance(licence, str) else None
    except UsageError:
        return None


def demands(licence: str | None) -> tuple[Demand, ...]:
    """The conditions of a licence for a changed version that is passed on."""
    if licence is None:
        return ()
    asked: list[Demand] = []
    if "-ND-" in licence:
        asked.append("no derivatives")
    if _SHARE_ALIKE.search(licence):
        asked.append("the same licence")
    if "-NC-" in licence:
        asked.append("no commercial use")
    return tuple(asked)


def check_parents(licence: str, parents: tuple[Parent, ...]) -> None:
    """Raise `UsageError` when `licence` breaks what a parent's licence asks."""
    for parent in parents:
        for demand in demands(parent.license):
            kept = (demand == "the same licence" and licence == parent.license) or (
                demand == "no commercial use" and demand in demands(licence)
            )
            if not kept:
                raise UsageError(
                    f"{licence} conflicts with the licence of {parent.name}, {parent.license}, which asks for {demand}",
                    "This model was trained from it and cannot be shared."
                    if demand == "no derivatives"
                    else f"Share it under {parent.license}, or ask the owner of {parent.name}.",
                )
