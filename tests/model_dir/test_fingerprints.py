"""What an export knows of its images: the same image is known however it is stored, and damage is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.images.orientation import NETWORK_SPACE, turn_volume
from bidsapp.images.volumes import Volume, read_volume
from bidsapp.model_dir.fingerprints import (
    FINGERPRINTS,
    MOST_FINGERPRINTS,
    Fingerprints,
    describe_fingerprints,
    fingerprint,
    fingerprints_of_training,
    read_fingerprints,
)
from bidsapp.model_dir.lineage import Lineage, parts_by_fingerprint
from bidsapp.model_dir.state import ModelState, Segment, TrainedCase
from bidsapp.pairs.check_pairs import check_pairs, image_digest
from bidsapp.pairs.membership import Membership, find_in_training
from bidsapp.pairs.pairs import find_pairs
from bidsapp.records import Split, SplitRow
from tests.training_folder import OBLIQUE, SHAPE, TrainingFolder

VOXELS = np.random.default_rng(3).integers(0, 200, SHAPE).astype(np.uint8)
A, B = "a" * 64, "b" * 64
SOURCE = Path("theirs.zip")

Storing = Callable[[TrainingFolder, nibabel.Nifti1Image], Path]


def as_stored(folder: TrainingFolder, name: str, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    return folder.write(name, np.ascontiguousarray(array), affine)


def turned(axes: str) -> Storing:
    """Axes in another order and direction, as the header says."""

    def store(folder: TrainingFolder, image: nibabel.Nifti1Image) -> Path:
        volume = turn_volume(_volume(folder, image), axes)
        return as_stored(folder, "turned.nii.gz", volume.data, volume.affine)

    return store


def _volume(folder: TrainingFolder, image: nibabel.Nifti1Image) -> Volume:
    nibabel.save(image, folder.path / "original.nii.gz")
    return read_volume(folder.path / "original.nii.gz", "pair")


STORED: dict[str, Storing] = {
    "as it was": lambda folder, image: as_stored(folder, "one.nii.gz", VOXELS),
    "not compressed": lambda folder, image: as_stored(folder, "one.nii", VOXELS),
    "single precision": lambda folder, image: as_stored(folder, "one.nii.gz", VOXELS.astype(np.float32)),
    "double precision": lambda folder, image: as_stored(folder, "one.nii", VOXELS.astype(np.float64)),
    "big endian": lambda folder, image: as_stored(folder, "one.nii", VOXELS.astype(">i2")),
    "flipped in its voxels": lambda folder, image: as_stored(folder, "one.nii.gz", VOXELS[::-1]),
    "another place": lambda folder, image: as_stored(folder, "one.nii.gz", VOXELS, np.diag([-1.0, 1, 1, 1])),
    "RAS": turned("RAS"),
    "LPS": turned("LPS"),
    "other order": turned("SRA"),
    "other order, reversed": turned("PIL"),
}


@pytest.fixture
def known() -> Fingerprints:
    """What an export says whose one training image was stored as its network saw it (LAS) in single precision."""
    return Fingerprints({fingerprint(image_digest(VOXELS.astype(np.float32))): "train", A: "test"})


@pytest.mark.parametrize("stored", STORED)
def test_the_same_image_is_known_however_it_is_stored(stored: str, folder: TrainingFolder, known: Fingerprints) -> None:
    path = STORED[stored](folder, nibabel.Nifti1Image(VOXELS, OBLIQUE))
    found = find_in_training(str(path), known)
    assert (found.is_known, found.part, found.person) == (True, "train", None)


@pytest.mark.parametrize("hemi", ["hemi-R", "hemi-L", "hemi-Lflip", "acq-x"])
@pytest.mark.parametrize("stored", STORED)
def test_a_pair_of_it_is_known_whatever_side_it_is_taken_for(
    stored: str, hemi: str, folder: TrainingFolder, known: Fingerprints
) -> None:
    path = STORED[stored](folder, nibabel.Nifti1Image(VOXELS, OBLIQUE))
    image = nibabel.load(path)
    pairs = TrainingFolder(folder.path / "pairs")
    pairs.write(f"sub-07_{hemi}_img.nii.gz", np.asanyarray(image.dataobj), image.affine)
    label = np.zeros(image.shape, np.uint8)
    label[1, 2, 3] = 1
    pairs.write(f"sub-07_{hemi}_lbl.nii.gz", label, image.affine)
    checked = check_pairs(find_pairs(pairs.path, left_is="flipped" if hemi == "hemi-Lflip" else "as-in-head"))
    (digests,) = checked.images.values()
    assert parts_by_fingerprint(Lineage(fingerprints=known.parts), digests) == {"train"}


@pytest.mark.parametrize("change", ["one voxel", "cropped", "mirrored back to front"])
def test_another_image_is_not_known(change: str, folder: TrainingFolder, known: Fingerprints) -> None:
    other = {"one voxel": VOXELS.copy(), "cropped": VOXELS[1:], "mirrored back to front": VOXELS[:, ::-1]}[change]
    if change == "one voxel":
        other[0, 0, 0] += 1
    assert find_in_training(str(as_stored(folder, "other.nii.gz", other)), known) == Membership()


def test_what_is_written_is_read_again() -> None:
    stated = describe_fingerprints({B: "train", A: "test"}, ["older"])
    assert read_fingerprints({FINGERPRINTS: stated}, SOURCE) == Fingerprints({B: "train", A: "test"}, ("older",))
    assert read_fingerprints({"license": "CC0-1.0"}, SOURCE) is None


GOOD: dict[str, Any] = describe_fingerprints({A: "train"})


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (None, "they are no object"),
        ([A], "they are no object"),
        ({"train": [A]}, "they are no object"),
        (GOOD | {"names": []}, "they are no object"),
        (GOOD | {"salt": "other"}, "the salt is 'other'"),
        (GOOD | {"salt": ["\x1b[2J"]}, r"the salt is \['\\x1b"),
        (GOOD | {"train": A}, "train is 'aaa"),
        (GOOD | {"test": {A: 1}}, "test is {'aaa"),
        (GOOD | {"train": [A.upper()]}, "train holds 'AAA"),
        (GOOD | {"train": [A[1:]]}, "train holds 'aaa"),
        (GOOD | {"train": [5]}, "train holds 5"),
        (GOOD | {"train": [f"{A}\n"]}, "train holds 'aaa"),
        (GOOD | {"test": [A]}, "is in train and in test"),
        (GOOD | {"train": [A] * (MOST_FINGERPRINTS + 1)}, "more than 100000"),
        (GOOD | {"unchecked": "older"}, "unchecked is 'older'"),
        (GOOD | {"unchecked": ["<script>"]}, "unchecked is"),
        (GOOD | {"unchecked": ["older"] * 51}, "unchecked is"),
    ],
)
def test_damaged_ones_are_refused(stated: object, said: str) -> None:
    with pytest.raises(BadDataError, match=said) as raised:
        read_fingerprints({FINGERPRINTS: stated}, SOURCE)
    assert str(raised.value).startswith("the fingerprints in theirs.zip cannot be used: ")


STATE = ModelState(
    base="scratch",
    labels={1: "Head"},
    required_labels=(),
    channels=("T1w",),
    split=Split((SplitRow("sub-01", "train"), SplitRow("sub-02", "test"))),
    segments=(Segment(0, 10, "exported"),),
    image_people={"image of 01": "sub-01", "image of 02": "sub-02", "image of 03": "sub-03"},
    inherited=Split((SplitRow("sub-03", "validation"),)),
    fingerprints={A: "test"},
    unchecked=("older",),
    storage=dict(NETWORK_SPACE),
)


def test_a_training_gives_those_of_all_whom_it_knew() -> None:
    known = read_fingerprints({FINGERPRINTS: fingerprints_of_training(STATE)}, SOURCE)
    assert known == Fingerprints(
        {
            fingerprint("image of 01"): "train",
            fingerprint("image of 02"): "test",
            fingerprint("image of 03"): "validation",
            A: "test",
        },
        ("older",),
    )


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [
        (replace(STATE, image_people={}), NoInputError, "knows no image"),
        (replace(STATE, storage={}), UsageError, "not turned to one orientation"),
        (replace(STATE, storage={"R": "LIP", "L": "RIP"}), UsageError, "not turned to one orientation"),
        (
            replace(STATE, cases={"sub-01_x": TrainedCase("sub-01", "R", "train", "0", axes="LIP")}),
            UsageError,
            "not turned to one orientation",
        ),
        (
            replace(STATE, image_people={str(number): "sub-01" for number in range(MOST_FINGERPRINTS)}),
            UsageError,
            "are more than 100000",
        ),
    ],
)
def test_none_that_nobody_could_find_again(state: ModelState, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        fingerprints_of_training(state)
