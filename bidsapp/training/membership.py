"""Whether a model's training knew a person or an image, so that nobody is taken for new who is not.

People are told by their ids, images by their voxels: what state.json noted when the pairs were checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bidsapp.errors import NoInputError
from bidsapp.files import expand_home
from bidsapp.layout import ModelLayout
from bidsapp.records import SplitName
from bidsapp.training.check_pairs import image_digest
from bidsapp.training.orientation import NETWORK_SPACE, axes_of, is_mirrored, turn_volume
from bidsapp.training.split import add_places
from bidsapp.training.state import ModelState, read_state
from bidsapp.training.volumes import read_volume

IMAGE_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Membership:
    """What a model's training knew of one person or image.

    Attributes
    ----------
    person
        Whose it is, by the model's ids; None: the training knew nothing of it.
    part
        Where that person is.
    flipped
        Whether the image is known mirrored against how it is stored, as left sides are.
    """

    person: str | None = None
    part: SplitName | None = None
    flipped: bool = False


def known_training(model_dir: Path) -> ModelState:
    """What the folder of a model says of its training.

    Raises
    ------
    NoInputError
        When it says nothing: an export, or no model at all.
    BadDataError
        When its state.json is damaged.
    """
    state = read_state(ModelLayout(model_dir)) if model_dir.is_dir() else None
    if state is None:
        what = "holds no state.json" if model_dir.is_dir() else "is a file" if model_dir.exists() else "does not exist"
        raise NoInputError(
            f"could not be checked: {model_dir} {what}; only the MODEL_DIR in which a model was trained knows whom and "
            "what it was trained on, an export does not",
            "Name that MODEL_DIR, or ask those who trained the model.",
        )
    return state


def find_in_training(what: str, state: ModelState) -> Membership:
    """Look a person's id or an image file up.

    A file is known when its voxels are, as they are stored, with the first axis reversed, or turned by its header as
    pairs are, whatever its name, compression and number type. The same scan resampled in another way has other voxels
    and is not recognised.

    Parameters
    ----------
    what
        A file, or an id as the model's split.tsv has it; ``sub-`` may be left out.

    Raises
    ------
    NoInputError
        When it is meant as a file and there is none.
    VolumeError
        When the file cannot be read as a volume.
    """
    places = {row.participant_id: row.split for row in add_places(state.split, state.inherited).rows}
    if is_image(what):
        person, flipped = _whose_image(expand_home(what), state)
    else:
        given = set(state.image_people.values()) | state.inherited.people
        person, flipped = next((one for one in (what, f"sub-{what}") if one in given), None), False
    return Membership(person, places.get(person) if person else None, flipped)


def is_image(what: str) -> bool:
    """Whether it is meant as a file; everything else is the id of a person."""
    path = expand_home(what)
    return what.endswith(IMAGE_SUFFIXES) or path.is_file() or len(path.parts) > 1


def _whose_image(path: Path, state: ModelState) -> tuple[str | None, bool]:
    if not path.exists():
        raise NoInputError(f"{path} does not exist", "Name an image file, or the id of a person (sub-01).")
    volume = read_volume(path)
    ways = [(volume.array, False), (volume.array[::-1], True)]
    stored = axes_of(volume.grid.affine)
    for axes in dict.fromkeys([*NETWORK_SPACE.values(), *state.storage.values()]):
        ways.append((turn_volume(volume, axes).array, is_mirrored(stored, axes)))
    for voxels, flipped in ways:
        person = state.image_people.get(image_digest(voxels))
        if person is not None:
            return person, flipped
    return None, False
