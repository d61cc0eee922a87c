"""How pairs are turned for a model, and what it keeps of it."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient

from bidsapp.config import Settings
from bidsapp.errors import BadDataError
from bidsapp.files import write_json
from bidsapp.images.grids import Grid
from bidsapp.images.orientation import axes_of, turned_grid
from bidsapp.layout import ModelLayout, OutputLayout
from bidsapp.levels import segment_pairs as segment_pairs_module
from bidsapp.levels.request import GroupRequest
from bidsapp.levels.segment_pairs import PairSource, SegmentPairs, check_segment_pairs, trained_cases
from bidsapp.model_dir.lineage import Lineage
from bidsapp.model_dir.state import ModelState, Segment, read_state, write_state
from bidsapp.nnunet_names import TURNS_TO_RAS
from bidsapp.pairs.pairs import FoundPairs, find_pairs, say_pairs
from bidsapp.records import LabelTrust, Split, SplitRow
from bidsapp.training.dataset import divide, write_raw_dataset
from tests.tiny_model import tiny_plans
from tests.training_folder import SHAPE, TrainingFolder


def store(folder: TrainingFolder, case: str, axes: str, x_mm: float = 20) -> None:
    """Write a pair whose array is 5 x 6 x 7 when it is turned to LAS or RAS."""
    grid = turned_grid(Grid(SHAPE, np.array([[1.0, 0, 0, x_mm], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])), axes)
    folder.pair(case, grid.affine, grid.shape)


@pytest.fixture
def request_(folder: TrainingFolder, tmp_path) -> GroupRequest:
    return GroupRequest(ModelLayout(tmp_path / "model"), OutputLayout(tmp_path / "out"), training_dir=folder.path)


def take(request: GroupRequest, state: ModelState | None = None, lineage: Lineage | None = None) -> SegmentPairs:
    source = PairSource(request.training_dir, LabelTrust("user"))
    return check_segment_pairs(request, source, state, Settings(), parent=None, lineage=lineage or Lineage())


def record(request: GroupRequest, chosen: SegmentPairs, reader: str = "SimpleITKIO") -> ModelState:
    """Write raw data and state as the group level does."""
    parts = divide(chosen.checked.pairs, chosen.split)
    checked = chosen.checked
    write_raw_dataset(request.layout, parts, checked.content, checked.table, chosen.channels, reader=reader)
    state = ModelState(
        "scratch", checked.table.names, (), chosen.channels, chosen.split, (Segment(0, 10, "exported"),),
        cases=trained_cases(parts, chosen), image_people=checked.image_people, storage=chosen.storage,
    )  # fmt: skip
    write_state(request.layout, state)
    return read_state(request.layout)


def as_begun_by_0_1_0(state: ModelState) -> ModelState:
    return replace(state, storage={}, cases={case: replace(known, axes="") for case, known in state.cases.items()})


def find_as_stored(folder: Path, **options: object) -> FoundPairs:
    """As 0.1.0 took pairs: nothing is turned."""
    found = find_pairs(folder, **options)
    return replace(found, pairs=tuple(replace(pair, axes=found.stored[pair.case]) for pair in found.pairs))


def axes_in_raw(request: GroupRequest) -> dict[str, str]:
    labels = [*request.layout.raw_labels("Tr").glob("*.nii.gz"), *request.layout.raw_labels("Ts").glob("*.nii.gz")]
    return {path.name.removesuffix(".nii.gz"): axes_of(nibabel.load(path).affine) for path in labels}


def test_sides_of_one_person_are_never_divided(folder, request_):
    for number in range(6):
        store(folder, f"hcp_10020{number}R", "LAS")
        store(folder, f"hcp_10020{number}L", "RAS", x_mm=-20)
    chosen = take(request_)
    assert chosen.split.people == {f"hcp_10020{number}" for number in range(6)}
    assert {(pair.hemi, pair.axes) for pair in chosen.checked.pairs} == {("R", "LAS"), ("L", "RAS")}
    parts = divide(chosen.checked.pairs, chosen.split)
    for part in (parts.train, parts.validation, parts.test):
        assert len(part) == 2 * len({pair.participant for pair in part})


def test_the_storage_is_decided_once_and_kept(folder, request_):
    for number in range(4):
        store(folder, f"block{number}", "RPI")
    state = record(request_, take(request_))
    assert state.storage == {"R": "LAS", "L": "RAS", "n/a": "RAS"}
    assert set(axes_in_raw(request_).values()) == {"RAS"}
    for number in range(4, 20):  # most are mirrored against the first now
        store(folder, f"block{number}", "LAS")
    later = take(request_, state)
    assert {pair.axes for pair in later.checked.pairs} == {"RAS"}
    assert later.storage == state.storage


def test_nothing_is_decided_for_pairs_that_are_not_there(folder, request_):
    for number in range(3):
        store(folder, f"sub-{number}_hemi-R", "LAS")
    state = record(request_, take(request_))
    assert state.storage == {"R": "LAS", "L": "RAS"}
    for number in range(5):
        store(folder, f"block{number}", "LAS")
    assert take(request_, state).storage == {"R": "LAS", "L": "RAS", "n/a": "LAS"}


@pytest.mark.parametrize("stored", [("LAS", "LAS", "RPI"), ("RAS", "RAS", "RAS"), ("ASR", "LIP", "ASR")])
def test_a_model_of_0_1_0_goes_on_as_it_began(folder, request_, stored, caplog):
    for number, axes in enumerate(stored):
        store(folder, f"sub-{number}_hemi-R", axes)
    begun = record(request_, take(request_))
    # 0.1.0 wrote what it was given
    written = take(request_)
    kept = {pair.case: axes for pair, axes in zip(written.checked.pairs, stored, strict=True)}
    pairs = tuple(replace(pair, axes=kept[pair.case]) for pair in written.checked.pairs)
    old = replace(written, checked=replace(written.checked, pairs=pairs, content=dict.fromkeys(kept, "0.1.0")))
    state = as_begun_by_0_1_0(record(request_, old))
    assert axes_in_raw(request_) == kept and begun.storage["R"] == "LAS"
    assert {case: known.axes for case, known in state.cases.items()} == dict.fromkeys(kept, "")

    store(folder, "sub-9_hemi-R", "LPI")
    caplog.clear()
    chosen = take(request_, state)
    usual = max(stored, key=stored.count)
    assert {pair.case: pair.axes for pair in chosen.checked.pairs} == kept | {"sub-9_hemi-R": usual}
    assert chosen.storage["R"] == usual
    odd = {case: axes for case, axes in kept.items() if axes != usual}
    assert ("HippoTune 0.1.0" in caplog.text) == bool(odd or usual != "LAS")
    kept_lines = [line for line in say_pairs(chosen.found) if line.startswith("with other axes")]
    told = ", ".join(f"{list(odd.values()).count(axes)} {axes}" for axes in dict.fromkeys(odd.values()))
    assert kept_lines == [f"with other axes than their side has now, as HippoTune 0.1.0 left them: {told}"] * bool(odd)
    after = record(request_, chosen)
    assert {case: known.axes for case, known in after.cases.items() if known.axes} == odd
    again = take(request_, after)
    assert [pair.axes for pair in again.checked.pairs] == [pair.axes for pair in chosen.checked.pairs]
    assert again.checked.content == chosen.checked.content


def seen_by_reader(request: GroupRequest) -> dict[str, np.ndarray]:
    """What a network is shown whose plans name a reader that turns voxels to RAS."""
    files = [*request.layout.raw_images("Tr").iterdir(), *request.layout.raw_images("Ts").iterdir()]
    return {path.name: NibabelIOWithReorient().read_images([str(path)])[0] for path in files}


@pytest.mark.parametrize("axes", ["LAS", "RAS", "LPI", "RPI", "PIR", "AIL", "SRA"])
@pytest.mark.parametrize("hemi", ["R", "Lflip"])
def test_a_model_of_0_1_0_that_turns_to_ras_sees_what_it_saw(folder, request_, axes, hemi, monkeypatch, caplog):
    for number in range(3):
        store(folder, f"sub-{number}_hemi-{hemi}", axes, x_mm=20 if hemi == "R" else -20)
    request_ = replace(request_, left_is=None if hemi == "R" else "flipped")
    monkeypatch.setattr(segment_pairs_module, "find_pairs", find_as_stored)
    old = take(request_)
    monkeypatch.undo()
    state = as_begun_by_0_1_0(record(request_, old, reader=TURNS_TO_RAS))
    write_json(request_.layout.plans, tiny_plans() | {"image_reader_writer": TURNS_TO_RAS})
    before = seen_by_reader(request_)

    store(folder, f"sub-9_hemi-{hemi}", axes, x_mm=20 if hemi == "R" else -20)
    chosen = take(request_, state)
    assert {pair.axes for pair in chosen.checked.pairs} <= {"LAS", "RAS"}
    after_state = record(request_, chosen, reader=TURNS_TO_RAS)
    after = seen_by_reader(request_)
    assert len(after) == len(before) + 1
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
    assert "turned otherwise" not in caplog.text
    again = record(request_, take(request_, after_state), reader=TURNS_TO_RAS)
    assert again.storage == after_state.storage and again.cases == after_state.cases


def test_people_of_an_old_split_keep_their_names_and_the_leak_is_told(folder, request_, caplog):
    for number in range(3):
        for side, axes, x_mm in (("R", "LAS", 20), ("L", "RAS", -20)):
            store(folder, f"{number}{side}", axes, x_mm)
    places = ("test", "train", "train", "train", "train", "validation")
    rows = tuple(SplitRow(f"{number}{side}", place) for (number, side), place in
                 zip(((number, side) for number in range(3) for side in "RL"), places, strict=True))  # fmt: skip
    state = as_begun_by_0_1_0(replace(record(request_, take(request_)), split=Split(rows)))
    (request_.layout.split).unlink(missing_ok=True)
    state = replace(state, image_people={})
    chosen = take(request_, state)
    assert {pair.participant for pair in chosen.checked.pairs} == {row.participant_id for row in rows}
    assert "several names of one person are in test as well as in train or validation: 0L/0R" in caplog.text
    assert "several names of one person are in validation as well as in train: 2L/2R" in caplog.text
    assert "1L/1R" not in caplog.text
    assert take(request_).split.people == {"0", "1", "2"}


def test_the_table_wins_and_says_what_was_found(folder, request_, caplog):
    caplog.set_level(logging.INFO)
    for case in ("a", "b", "c", "d_hemi-L"):
        store(folder, case, "LAS", x_mm=-20)
    request_.layout.root.mkdir()
    request_.layout.pairs_table.write_text(
        "id\tparticipant\themi\tleft\tcomment\na\tP1\tR\tn/a\tmine\nb\tP1\tL\tas-in-head\tn/a\nd_hemi-L\tn/a\tn/a\tflipped\t\n"
        "z\tP9\tL\tn/a\tn/a\n"
    )
    chosen = take(request_)
    assert {pair.case: (pair.participant, pair.hemi, pair.axes) for pair in chosen.checked.pairs} == {
        "a": ("P1", "R", "LAS"),
        "b": ("P1", "L", "RAS"),
        "c": ("c", "n/a", "LAS"),
        "d_hemi-Lflip": ("d", "L", "LAS"),
    }
    assert "pairs that are not here: z" in caplog.text
    lines = [line.split("\t") for line in request_.layout.pairs_table.read_text().splitlines()]
    found = {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[1:]}
    assert (found["a"]["comment"], found["a"]["participant"]) == ("mine", "P1")
    assert (found["b"]["stored"], found["b"]["turned_to"], found["b"]["person"]) == ("LAS", "RAS", "P1")
    assert (found["c"]["participant"], found["c"]["person"], found["c"]["side"]) == ("n/a", "c", "n/a")
    assert found["z"]["participant"] == "P9" and "d_hemi-L" in found


def test_nothing_is_turned_anew_under_the_weights_in_silence(folder, request_, caplog):
    for number in range(3):
        store(folder, f"sub-{number}_hemi-L", "LAS", x_mm=-20)
    request_ = replace(request_, left_is="as-in-head")
    state = record(request_, take(request_))
    take(request_, state)
    assert "turned otherwise" not in caplog.text
    request_.layout.pairs_table.write_text("id\tleft\nsub-1_hemi-L\tflipped\n")
    changed = take(request_, state)
    assert [pair.axes for pair in changed.checked.pairs] == ["RAS", "LAS", "RAS"]
    assert "turned otherwise than when this model was trained" in caplog.text
    assert "because ids or tables changed: 1 pair: sub-1_hemi-Lflip" in caplog.text


def test_a_dry_run_writes_no_table(folder, request_):
    for number in range(3):
        store(folder, f"block{number}", "LAS")
    take(replace(request_, dry_run=True))
    assert not request_.layout.root.exists()


def test_a_state_with_axes_that_are_none_is_refused(folder, request_):
    for number in range(3):
        store(folder, f"block{number}", "LAS")
    record(request_, take(request_))
    content = json.loads(request_.layout.state.read_text())
    for damage in ({"storage": {"R": "LAX"}}, {"storage": {"Q": "LAS"}}, {"storage": {"R": None}}):
        request_.layout.state.write_text(json.dumps(content | damage))
        with pytest.raises(Exception, match="storage"):
            read_state(request_.layout)


def test_nobody_of_an_old_model_gets_another_name_for_being_turned(folder, request_, monkeypatch):
    for number in range(3):
        store(folder, f"sub-{number}_hemi-R", "RAS")
    monkeypatch.setattr(segment_pairs_module, "find_pairs", find_as_stored)
    state = as_begun_by_0_1_0(record(request_, take(request_)))
    monkeypatch.undo()
    assert set(axes_in_raw(request_).values()) == {"RAS"}
    for path in folder.path.glob("sub-1_*"):
        path.rename(path.with_name(path.name.replace("sub-1", "sub-9")))
    for path in folder.path.glob("sub-[02]_*"):
        path.unlink()
    for number in range(4, 7):  # what most of the known ones look like is not known here
        store(folder, f"sub-{number}_hemi-R", "RAS")
    with pytest.raises(BadDataError, match="sub-9_hemi-R belongs to sub-9, before to sub-1"):
        take(request_, state)


def test_plans_that_are_none_are_refused_by_name(folder, request_):
    for number in range(3):
        store(folder, f"sub-{number}_hemi-R", "LAS")
    state = as_begun_by_0_1_0(record(request_, take(request_)))
    request_.layout.plans.parent.mkdir(parents=True, exist_ok=True)
    for content in ("{}", "[]", "{"):
        request_.layout.plans.write_text(content)
        with pytest.raises(BadDataError, match=request_.layout.plans.name):
            take(request_, state)


@pytest.mark.parametrize(("left_is", "axes"), [("as-in-head", "RAS"), ("flipped", "LAS")])
def test_what_left_sides_are_is_decided_once(folder, request_, left_is, axes):
    for number in range(3):
        store(folder, f"sub-{number}_hemi-L", "LAS", x_mm=-20)
    state = record(request_, take(replace(request_, left_is=left_is)))
    again = take(request_, state)  # nothing says it now, and these shapes cannot tell
    assert {pair.axes for pair in again.checked.pairs} == {axes}
    assert again.checked.content == {case: known.content for case, known in state.cases.items()}
    store(folder, "sub-9_hemi-L", "LAS", x_mm=-20)
    with pytest.raises(BadDataError, match=r"(?s)1 of 4 pairs.*sub-9_hemi-L_img") as refused:
        take(request_, state)
    assert "sub-0" not in str(refused.value)
