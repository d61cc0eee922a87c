"""What is to be done for one session, and how to tell that it was done before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bidsapp.content import file_sha256, settings_sha256
from bidsapp.corobl.preprocessing import PREPROCESSING_VERSION
from bidsapp.files import read_json
from bidsapp.layout import SessionLayout, sidecar
from bidsapp.records import Modality, SessionScans, Side

FACTS = "HippoTune"
"""The block of a sidecar that holds what BIDS has no word for."""


@dataclass(frozen=True)
class CropOptions:
    """How crops are made.

    Attributes
    ----------
    modalities
        The channels, in the order that the network wants.
    sides
        The crops that were asked for.
    """

    modalities: tuple[Modality, ...]
    sides: tuple[Side, ...]
    rigid: bool = False
    bias_correction: bool = True


@dataclass(frozen=True)
class Job:
    """One session.

    Attributes
    ----------
    done, unfinished
        Its files in OUTPUT_DIR, and where new ones are made.
    log
        Its log file.
    persons_work
        What a person did with a crop of this session, in words: then crops are kept.
    force
        Make everything again.
    """

    scans: SessionScans
    done: SessionLayout
    unfinished: SessionLayout
    log: Path
    options: CropOptions
    persons_work: str | None = None
    force: bool = False

    @property
    def name(self) -> str:
        """``sub-01`` or ``sub-01_ses-1``."""
        return self.scans.name


@dataclass(frozen=True)
class Prepared:
    """Where the crops of a session are.

    Attributes
    ----------
    crops
        `Job.done` when they were there already, else `Job.unfinished`.
    sides
        The sides that have a crop.
    """

    crops: SessionLayout
    sides: tuple[Side, ...]


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


def read_facts(image: Path) -> dict[str, Any] | None:
    """Our block in the sidecar of an image, when image and sidecar belong together; else None.

    A file that was cut off, changed or is missing does not belong to its sidecar.
    """
    try:
        facts = read_json(sidecar(image))[FACTS]
        return facts if facts["file_sha256"] == file_sha256(image) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def crop_facts(layout: SessionLayout, side: Side, modalities: tuple[Modality, ...]) -> list[dict[str, Any]] | None:
    """The facts of all channels of a crop; None when one is not there or damaged."""
    found = [read_facts(layout.crop(side, modality)) for modality in modalities]
    return [facts for facts in found if facts] if all(found) else None
