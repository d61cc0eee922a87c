"""Places that people had in models before, by id and by image."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bidsapp.errors import BadDataError
from bidsapp.exchange.loading import LoadedModel, load_model
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.fingerprints import FINGERPRINTS, fingerprint
from bidsapp.model_dir.lineage import (
    Lineage,
    known_digests,
    lineage_of,
    lineage_so_far,
    places_by_image,
    refuse_leaks,
    say_leakage,
)
from bidsapp.model_dir.split import add_places
from bidsapp.model_dir.state import ModelState, Segment, read_state, write_state
from bidsapp.records import Pair, Split, SplitName, SplitRow
from tests.conftest import ROOT

BEFORE = Split((SplitRow("sub-01", "train"), SplitRow("sub-02", "test"), SplitRow("sub-03", "validation")))
LINEAGE = Lineage(({"name": "theirs"},), BEFORE, {"image of 02": "sub-02", "image of 01": "sub-01"})


def pair(person: str) -> Pair:
    return Pair(f"{person}_hemi-R", person, "R", (Path("img"),), Path("lbl"))


def check(person: str, part: SplitName, image: str) -> None:
    split = Split((SplitRow(person, part),))
    refuse_leaks(LINEAGE, split, [pair(person)], {f"{person}_hemi-R": [image]})


@pytest.mark.parametrize(
    ("person", "part", "image"),
    [
        ("sub-02", "test", "image of 02"),
        ("sub-09", "train", "new image"),
        ("sub-09", "test", "image of 02"),  # another name, the same part
        ("sub-01", "train", "new image"),  # a second session
    ],
)
def test_who_keeps_their_part_is_welcome(person: str, part: SplitName, image: str) -> None:
    check(person, part, image)


@pytest.mark.parametrize(
    ("person", "part", "image", "said"),
    [
        ("sub-02", "train", "new image", "sub-02, who was in test, in train"),
        ("sub-02", "validation", "new image", "sub-02, who was in test, in validation"),
        ("sub-01", "test", "new image", "sub-01, who was in train, in test"),
        ("sub-09", "train", "image of 02", "sub-09_hemi-R shows sub-02, who was in test, in train"),
        ("sub-09", "test", "image of 01", "sub-09_hemi-R shows sub-01, who was in train, in test"),
    ],
)
def test_who_would_change_their_part_is_named(person: str, part: SplitName, image: str, said: str) -> None:
    with pytest.raises(BadDataError, match=said):
        check(person, part, image)


PRINTS = Lineage(({"name": "theirs"},), BEFORE, {"image of 02": "sub-02"},
                 fingerprints={fingerprint("train image"): "train", fingerprint("test image"): "test"})  # fmt: skip


@pytest.mark.parametrize(
    ("part", "images", "said"),
    [
        ("train", ["new", "train image"], None),
        ("test", ["test image"], None),
        ("test", ["train image"], "sub-09_hemi-R shows somebody, who was in train, in test"),
        ("validation", ["train image"], "sub-09_hemi-R shows somebody, who was in train, in validation"),
        ("train", ["new", "test image"], "sub-09_hemi-R shows somebody, who was in test, in train"),
        ("train", ["train image", "test image"], "sub-09_hemi-R shows somebody, who was in test, in train"),
    ],
)
def test_whose_image_an_export_knows_keeps_its_part(part: SplitName, images: list[str], said: str | None) -> None:
    judge = partial(refuse_leaks, PRINTS, Split((SplitRow("sub-09", part),)), [pair("sub-09")])
    if said is None:
        judge({"sub-09_hemi-R": images})
    else:
        with pytest.raises(BadDataError, match=said):
            judge({"sub-09_hemi-R": images})


def test_people_get_the_place_of_their_images() -> None:
    images = {"one": ["new", "test image"], "two": ["image of 02"], "three": ["train image"], "four": ["new"]}
    pairs = [replace(pair(f"sub-{case}"), case=case) for case in images]
    assert places_by_image(PRINTS, pairs, images) == Split(
        (SplitRow("sub-one", "test"), SplitRow("sub-two", "test"), SplitRow("sub-three", "train"))
    )


def built_in_model() -> LoadedModel:
    return load_model(ROOT / "bidsapp" / "models" / "default.zip")


def test_of_the_built_in_model_images_are_checked(tmp_path: Path) -> None:
    lineage = lineage_of(built_in_model(), tmp_path / "default.zip")
    assert lineage.unchecked == ()
    assert Counter(lineage.fingerprints.values()) == {"train": 140, "validation": 20, "test": 40}
    assert say_leakage(lineage) == "nobody changed their part: 200 images of the models before were checked"
    known = replace(lineage, inherited=BEFORE)
    assert "3 people and 200 images of the models before were checked" in say_leakage(known)


def test_what_fingerprints_do_not_cover_could_not_be_checked(tmp_path: Path) -> None:
    model = built_in_model()
    stated = model.facts[FINGERPRINTS] | {"unchecked": ["older"]}
    lineage = lineage_of(replace(model, facts={FINGERPRINTS: stated}), tmp_path / "theirs.zip")
    assert lineage.unchecked == ("older",)
    assert "leakage against older could not be checked" in say_leakage(lineage)
    with pytest.raises(BadDataError, match=r"the fingerprints in .* cannot be used"):
        lineage_of(replace(model, facts={FINGERPRINTS: stated | {"train": ["sub-01"]}}), tmp_path / "theirs.zip")


def test_fingerprints_are_handed_on(tmp_path: Path) -> None:
    """By the MODEL_DIR that began with them: to its next segment, and to a model that starts from it."""
    state = replace(STATE_OF_PRINTS, unchecked=("older",))
    layout = ModelLayout(tmp_path / "model")
    write_state(layout, state)
    again = read_state(layout)
    assert again == state
    assert lineage_so_far(again).fingerprints == PRINTS.fingerprints
    model = built_in_model()
    assert lineage_of(model, layout.root).fingerprints == PRINTS.fingerprints


STATE_OF_PRINTS = ModelState(
    "0" * 64, {1: "Head"}, (), ("T1w",), BEFORE, (Segment(0, 10, "exported"),), fingerprints=dict(PRINTS.fingerprints)
)


def test_never_passed_where_it_could_not_be_checked() -> None:
    assert say_leakage(Lineage()) == ""
    assert "3 people of the models before were checked" in say_leakage(LINEAGE)
    said = say_leakage(Lineage(({"name": "theirs"},), BEFORE, {}, unchecked=("older",)))
    assert "leakage against older could not be checked" in said
    assert "were checked" not in said


def test_of_a_strangers_parents_only_plain_facts_are_passed_on(tmp_path: Path) -> None:
    facts = {
        "license": "CC-BY-4.0",
        "people": {"train": 7, "test": "many", "secret": 3},
        "parents": [
            {"name": "older", "license": "do as you like", "digest": "/home/me", "labels": ["CA1", "<script>", 5]},
            "no object",
            {"name": {"nested": "x"}, "people": [1, 2]},
        ],
    }
    dataset = {"labels": {"background": 0, "CA1": 1}}
    model = LoadedModel({}, dataset, (), None, "theirs", "ab" * 32, tmp_path, "SimpleITKIO", ("T1w",), facts=facts)
    lineage = lineage_of(model, tmp_path / "theirs.zip")
    plain = {"license": None, "digest": None, "people": None, "labels": [], "channels": []}
    assert lineage.parents == (
        {"name": "theirs", "license": "CC-BY-4.0", "digest": "ab" * 32, "people": {"train": 7}, "labels": ["CA1"],
         "channels": ["T1w"]},
        plain | {"name": "older", "labels": ["CA1"]},
        plain | {"name": "a model without a name"},
    )  # fmt: skip
    assert lineage.unchecked == ("theirs", "older", "a model without a name")


def test_places_are_added_and_never_moved() -> None:
    further = Split((SplitRow("sub-02", "train"), SplitRow("sub-04", "train")))
    assert add_places(BEFORE, further).rows == (*BEFORE.rows, SplitRow("sub-04", "train"))


def digest(letter: str) -> str:
    return letter * 64


def test_all_that_a_model_was_is_known_by_its_digests(tmp_path: Path) -> None:
    """Its base, its parents, what they say they were, and each of its own exports, the newest too."""
    layout = ModelLayout(tmp_path / "older")
    tested = {"generation": 1, "people": {}, "rehearsed": 0, "test_dice": {}, "comparisons": {}, "accepted": True}
    segments = tuple(Segment(at, at + 10, "exported", result=tested | {"digest": digest(letter)})
                     for at, letter in ((0, "b"), (10, "c")))  # fmt: skip
    state = ModelState(
        digest("a"), {1: "CA1"}, (), ("T1w",), BEFORE, segments,
        parents=({"name": "first", "digest": digest("d")}, {"name": "nobody knows", "digest": None}),
        ancestors=(digest("e"),),
    )  # fmt: skip
    assert set(known_digests(layout, state)) == {digest(letter) for letter in "abcde"}

    write_state(layout, state)
    dataset = {"labels": {"background": 0, "CA1": 1}}
    facts = {"ancestors": [digest("f"), "no digest", 5]}
    model = LoadedModel({}, dataset, (), None, "older", digest("9"), tmp_path, "SimpleITKIO", ("T1w",), facts=facts)
    assert set(lineage_of(model, layout.root).ancestors) == {digest(letter) for letter in "abcdef9"}
    assert set(lineage_of(model, tmp_path / "copy.zip").ancestors) == {digest("f"), digest("9")}
