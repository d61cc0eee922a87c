"""Whether a model's training knew a person or an image, so that nobody is taken for new who is not.

People are told by their ids, images by their voxels: what state.json noted when the pairs were checked. An export with
fingerprints knows images alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bidsapp.errors import NoInputError, UsageError
from bidsapp.files import expand_home
from bidsapp.images.orientation import NETWORK_SPACE, axes_of, is_mirrored, turn_volume
from bidsapp.images.volumes import read_volume
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.fingerprints import Fingerprints, fingerprint, read_fingerprints
from bidsapp.model_dir.split import add_places
from bidsapp.model_dir.state import ModelState, read_state
from bidsapp.pairs.check_pairs import image_digest
from bidsapp.records import SplitName

IMAGE_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Membership:
    """What a model's training knew of one person or image."""

    person: str | None = None
    """Whose it is, by the model's ids; None: nobody knows."""
    part: SplitName | None = None
    """Where that person or image is."""
    flipped: bool = False
    """Whether the image is known mirrored against how it is stored, as left sides are."""

    @property
    def is_known(self) -> bool:
        """Whether the training knew it."""
        return self.person is not None or self.part is not None


def known_training(model: Path) -> ModelState | Fingerprints:
    """What a model says of its training: all of it in its MODEL_DIR, images alone in an export with fingerprints.

    Raises
    ------
    NoInputError
        When it says nothing: an export without fingerprints, or no model at all.
    BadDataError
        When its state.json or the export is damaged.
    """
    state = read_state(ModelLayout(model)) if model.is_dir() else None
    if state is not None:
        return state
    known = _fingerprints(model)
    if known is None:
        what = (
            "holds no state.json" if model.is_dir() else "has no fingerprints" if model.exists() else "does not exist"
        )
        raise NoInputError(
            f"could not be checked: {model} {what}; only the MODEL_DIR in which a model was trained, or an export with "
            "fingerprints, knows what it was trained on",
            "Name that MODEL_DIR, or ask those who trained the model.",
        )
    return known


def _fingerprints(model: Path) -> Fingerprints | None:
    from bidsapp.exchange.loading import load_model

    try:
        loaded = load_model(model)
    except (NoInputError, UsageError):  # no model in that folder, or several
        return None
    return read_fingerprints(loaded.facts, loaded.source)


def find_in_training(what: str, known: ModelState | Fingerprints) -> Membership:
    """Look a person's id or an image file up.

    A file is known when its voxels are, as they are stored, with the first axis reversed, or turned by its header as
    pairs are, whatever its name, compression and number type. The same scan resampled in another way has other voxels
    and is not recognised.

    Parameters
    ----------
    what
        A file, or an id as the model's split.tsv has it; ``sub-`` may be left out. Fingerprints know no ids.

    Raises
    ------
    NoInputError
        When it is meant as a file and there is none.
    VolumeError
        When the file cannot be read as a volume.
    """
    if is_image(what):
        return _find_image(expand_home(what), known)
    if isinstance(known, Fingerprints):
        return Membership()
    given = set(known.image_people.values()) | known.inherited.people
    person = next((one for one in (what, f"sub-{what}") if one in given), None)
    return Membership(person, _places(known).get(person or ""))


def is_image(what: str) -> bool:
    """Whether it is meant as a file; everything else is the id of a person."""
    path = expand_home(what)
    return what.endswith(IMAGE_SUFFIXES) or path.is_file() or len(path.parts) > 1


def _places(state: ModelState) -> dict[str, SplitName]:
    return {row.participant_id: row.split for row in add_places(state.split, state.inherited).rows}


def _find_image(path: Path, known: ModelState | Fingerprints) -> Membership:
    if not path.exists():
        raise NoInputError(f"{path} does not exist", "Name an image file, or the id of a person (sub-01).")
    volume = read_volume(path, "pair")
    ways = [(volume.data, False), (volume.data[::-1], True)]
    stored = axes_of(volume.affine)
    storage, people, places, prints = (
        ({}, {}, {}, known.parts)
        if isinstance(known, Fingerprints)
        else (known.storage, known.image_people, _places(known), known.fingerprints)
    )
    for axes in dict.fromkeys([*NETWORK_SPACE.values(), *storage.values()]):
        ways.append((turn_volume(volume, axes).data, is_mirrored(stored, axes)))
    for voxels, flipped in ways:
        digest = image_digest(voxels)
        person = people.get(digest)
        if person is not None:
            return Membership(person, places.get(person), flipped)
        if (part := prints.get(fingerprint(digest))) is not None:
            return Membership(None, part, flipped)
    return Membership()
