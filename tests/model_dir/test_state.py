"""state.json and what lies around it, as somebody else may have left them: refused with file, value and way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bidsapp.errors import BadDataError
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.split import read_split
from bidsapp.model_dir.state import ModelState, Segment, TrainedCase, read_state, write_state
from bidsapp.records import LabelTrust, Split, SplitRow

SPLIT = Split((SplitRow("01", "train"), SplitRow("02", "validation"), SplitRow("03", "test", 2)))
RESULT = {
    "generation": 1, "people": {"train": 1, "validation": 1, "test": 1}, "rehearsed": 0,
    "test_dice": {"mean": 0.8, "interval_95": [0.7, 0.9], "people": 1}, "comparisons": {}, "accepted": True,
}  # fmt: skip
STATE = ModelState(
    base="scratch",
    labels={1: "Head", 17: "Tail"},
    required_labels=("Head",),
    channels=("T1w", "T2w"),
    split=SPLIT,
    segments=(
        Segment(0, 10, "exported", {"training.seed": "1"}, result=RESULT),
        Segment(10, 20, left_out=["x"], vouched=LabelTrust("review", 3, 2)),
    ),
    cases={
        "a case": TrainedCase("01", "R", "train", "hash", ("Head",)),
        "b": TrainedCase("9", "L", "train", "h", rehearsal=True),
    },
    image_people={"digest": "01"},
    fingerprints={"print": "test"},
    versions={"torch": "2"},
    parents=({"name": "before", "people": None},),
    inherited=Split((SplitRow("04", "train"),)),
    parent_labels={1: 2},
    parent_channels=(0,),
)


@pytest.fixture
def layout(tmp_path: Path) -> ModelLayout:
    layout = ModelLayout(tmp_path / "model")
    write_state(layout, STATE)
    return layout


def test_what_was_written_is_read(layout: ModelLayout) -> None:
    assert read_state(layout) == STATE
    layout.state.unlink()
    assert read_state(layout) is None


def test_a_state_without_what_came_later_is_read(layout: ModelLayout) -> None:
    content = json.loads(layout.state.read_text())
    for name in ("parents", "new_labels", "inherited", "unchecked", "fingerprints", "parent_labels", "parent_channels"):
        del content[name]
    for segment in content["segments"]:
        del segment["vouched"], segment["result"]
    layout.state.write_text(json.dumps(content))
    state = read_state(layout)
    assert state
    assert (state.inherited, state.segments[1].vouched) == (Split(), LabelTrust())


Change = Callable[[dict[str, Any]], object]


def last(**values: object) -> Change:
    return lambda content: content["segments"][1].update(values)


def in_result(**values: object) -> Change:
    return lambda content: content["segments"][0]["result"].update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(version=2), "not written by this version"),
        (lambda c: c.pop("base"), "base is"),
        (lambda c: c.update(surprise=1), "surprise is not known"),
        (lambda c: c.update(segments=[]), "segments is empty"),
        (lambda c: c.update(segments={}), "segments is {}"),
        (lambda c: c.update(segments=[1]), "segments.0"),
        (last(target="20"), "segments.1.target is '20'"),
        (last(target=-20), "from 10 to -20"),
        (last(target=10**12), "from 10 to 1000000000000"),
        (last(target=True), "segments.1.target is True"),
        (last(target=20.5), "segments.1.target is 20.5"),
        (last(start=5), "from 5 to 20, after 10"),
        (last(stage="baking"), "segments.1.stage is 'baking'"),
        (last(settings=["a"]), "segments.1.settings is ['a']"),
        (last(settings={"a": 1}), "segments.1.settings.a is 1"),
        (last(result=[]), "segments.1.result is []"),
        (last(left_out="x"), "segments.1.left_out is 'x'"),
        (last(vouched={"by": "nobody"}), "segments.1.vouched.by is 'nobody'"),
        (lambda c: c["segments"][0].update(stage="training"), "segments.0 is training, and another one follows"),
        (in_result(people=3), "segments.0.result: people is 3"),
        (in_result(generation="x"), "segments.0.result: generation is 'x'"),
        (in_result(test_dice={"mean": "good"}), "segments.0.result: test_dice.mean"),
        (in_result(comparisons={"validation": {"verdict": "better"}}), "segments.0.result cannot be read"),
        (lambda c: c["segments"][0].update(result={"people": {}}), "segments.0.result: generation is missing"),
        (lambda c: c.update(labels={"x": "Head"}), "labels.x"),
        (lambda c: c.update(labels={"1": 2}), "labels.1 is 2"),
        (lambda c: c.update(labels={}), "labels are {}"),
        (lambda c: c.update(labels={"-4": "Head"}), "labels are {-4"),
        (lambda c: c.update(channels=[]), "channels is empty"),
        (lambda c: c.update(channels="T1w"), "channels is 'T1w'"),
        (lambda c: c.update(split=3), "split.rows is 3"),
        (lambda c: c["split"].append(c["split"][0]), "somebody twice"),
        (lambda c: c["split"][0].update(split="spare"), "split.rows.0.split is 'spare'"),
        (lambda c: c["split"][0].update(generation="1"), "split.rows.0.generation is '1'"),
        (lambda c: c.update(image_people=[1]), "image_people is [1]"),
        (lambda c: c.update(fingerprints={"print": "trian"}), "fingerprints.print is 'trian'"),
        (lambda c: c.update(parents=["x"]), "parents.0 is 'x'"),
        (lambda c: c.update(parent_labels={"1": "x"}), "parent_labels.1 is 'x'"),
        (lambda c: c["cases"].update({"../../b": c["cases"].pop("b")}), "'../../b' is no name of a file"),
        (lambda c: c["cases"].update({"..": c["cases"].pop("b")}), "'..' is no name of a file"),
        (lambda c: c["cases"].update({"a\0": c["cases"].pop("b")}), "no name of a file"),
        (lambda c: c["cases"]["b"].update(hemi="X"), "cases.b.hemi is 'X'"),
        (lambda c: c["cases"]["a case"].update(split="test"), "a case is in test, and 01 is not"),
        (lambda c: c["cases"]["b"].update(annotated="Head"), "cases.b.annotated is 'Head'"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_place(layout: ModelLayout, change: Change, said: str) -> None:
    content = json.loads(layout.state.read_text())
    change(content)
    layout.state.write_text(json.dumps(content))
    with pytest.raises(BadDataError) as refusal:
        read_state(layout)
    assert str(layout.state) in refusal.value.message
    assert said in refusal.value.message
    assert "--model-dir" in refusal.value.hint


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"\xff\xfe{", b"[" * 100_000, b'{"version": 1' + b"0" * 5000 + b"}", b'{"version": 1}'],
)
def test_what_is_no_state_is_refused(layout: ModelLayout, text: bytes) -> None:
    layout.state.write_bytes(text)
    with pytest.raises(BadDataError, match=r"state\.json"):
        read_state(layout)


@pytest.mark.parametrize("generation", ["9" * 5000, "0", "-1", "1.5", "1000000", "x", "²"])
def test_a_generation_is_a_small_number(tmp_path: Path, generation: str) -> None:
    path = tmp_path / "split.tsv"
    path.write_text(f"participant_id\tsplit\tgeneration\n01\ttrain\t{generation}\n", encoding="utf-8")
    with pytest.raises(BadDataError) as refusal:
        read_split(path)
    assert f"{path}, line 2: generation" in refusal.value.message
    assert len(refusal.value.message) < 300
