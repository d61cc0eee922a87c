"""What is to be done for one session, and how to tell that it was done before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bidsapp.bids.facts import read_facts
from bidsapp.content import file_sha256, settings_sha256
from bidsapp.corobl.preprocessing import PREPROCESSING_VERSION
from bidsapp.errors import BadDataError
from bidsapp.layout import OutputLayout, SessionLayout
from bidsapp.records import Modality, SessionScans, Side

_LONGEST_NAME = 170
"""File systems take names of 255 bytes; ours add suffixes, and while a file is written, something random in front."""


@dataclass(frozen=True)
class CropOptions:
    """How crops are made."""

    modalities: tuple[Modality, ...]
    """The channels, in the order that the network wants."""
    sides: tuple[Side, ...]
    """The crops that were asked for."""
    rigid: bool = False
    bias_correction: bool = True


@dataclass(frozen=True)
class Job:
    """One session."""

    scans: SessionScans
    layout: OutputLayout
    """OUTPUT_DIR."""
    log: Path
    """Its log file."""
    options: CropOptions
    persons_work: Mapping[Side, str] = field(default_factory=dict)
    """Sides that a person worked on, and what they did in words: their crops are kept."""
    kept_predictions: Mapping[Side, str] = field(default_factory=dict)
    """Sides whose prediction a person changed by hand, or approved while no copy of it is recorded yet."""
    force: bool = False
    """Make everything again."""
    replace_crops: bool = False
    """Move people's labels away where a crop changes, instead of keeping the crop."""

    @property
    def name(self) -> str:
        """``sub-01`` or ``sub-01_ses-1``."""
        return self.scans.name

    @property
    def done(self) -> SessionLayout:
        """The session's files in OUTPUT_DIR."""
        return self.layout.session(self.scans.participant, self.scans.session)

    @property
    def unfinished(self) -> SessionLayout:
        """Where new ones are made."""
        return self.layout.unfinished(self.scans.participant, self.scans.session)

    @property
    def work_in_words(self) -> str:
        """``hemi-L has a corrected label``."""
        return "; ".join(f"hemi-{side} {reason}" for side, reason in self.persons_work.items())


@dataclass(frozen=True)
class Prepared:
    """Where the crop of each side is: `Job.done` when it was there already, else `Job.unfinished`."""

    crops: Mapping[Side, SessionLayout]
    seconds: float = 0.0
    """How long preparing took."""

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that have a crop."""
        return tuple(self.crops)


def require_short_name(session: SessionScans) -> None:
    """Refuse a person and session whose files could not be stored; raises `BadDataError`."""
    if len(session.name) > _LONGEST_NAME:
        room = f"{_LONGEST_NAME} leave room for the names made of it"
        raise BadDataError(
            f"{session.name} has {len(session.name)} characters, and {room}",
            "Give the person and the session shorter labels.",
        )


def crop_key(options: CropOptions, modality: Modality, inputs: Mapping[Modality, str]) -> str:
    """Fingerprint of everything that decides how the crops of one modality look.

    Parameters
    ----------
    inputs
        Fingerprints of the scans' files.
    """
    used = {name: digest for name, digest in inputs.items() if name == modality or modality == "T2w"}
    return settings_sha256(
        {
            "inputs": used,
            "rigid": options.rigid,
            "bias_correction": options.bias_correction,
            "version": PREPROCESSING_VERSION,
        }
    )


def crop_facts(layout: SessionLayout, side: Side, modalities: tuple[Modality, ...]) -> list[dict[str, Any]] | None:
    """The facts of all channels of a crop; None when one is not there or damaged."""
    found = [read_facts(layout.crop(side, modality)) for modality in modalities]
    return [facts for facts in found if facts] if all(found) else None


def has_its_transform(layout: SessionLayout, modality: Modality, facts: Mapping[str, Any]) -> bool:
    """Whether the transform beside a crop is the one that its facts tell of; none where they tell of none."""
    transform = layout.transform(modality)
    if facts["transform_sha256"] is None:
        return not transform.exists()
    return transform.exists() and file_sha256(transform) == facts["transform_sha256"]
