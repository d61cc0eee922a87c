"""Pairs of an earlier training pass the guards that this training's own pass. They are simulated from the atlas."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from bidsapp.images.orientation import axes_of
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.state import ModelState, Segment, TrainedCase, write_state
from bidsapp.pairs.check_pairs import BadPairsError, check_pairs
from bidsapp.pairs.pairs import find_pairs
from bidsapp.pairs.pairs_table import read_pairs_tables
from bidsapp.records import LabelTable, Pair, Split, SplitRow
from bidsapp.training.dataset import Parts, write_raw_dataset
from bidsapp.training.rehearsal import EarlierPairs, choose_rehearsal, earlier_pairs
from demo.simulate import simulate_people
from tests.training.test_rehearsal import NOTHING

TABLE = LabelTable({1: "Anterior", 2: "Posterior"})
FAULTY = "sub-003_hemi-R"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "pairs"
    simulate_people(folder, 5, 7, spacing_mm=1.0)
    return folder


@pytest.fixture
def folder(people: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(people, tmp_path / "pairs"))


def change(folder: Path, case: str, *, mirror: bool = False, exchange: bool = False) -> None:
    for what in ("img", "lbl"):
        path = folder / f"{case}_{what}.nii.gz"
        stored = nibabel.load(path)
        array = np.asanyarray(stored.dataobj)[:: -1 if mirror else 1]
        if exchange and what == "lbl":
            array = np.where(array > 0, 3 - array, 0).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array), stored.affine), path)


def read(folder: Path, **options: object) -> EarlierPairs:
    return earlier_pairs(folder, TABLE, ("T1w",), {}, part="train", **options)


def as_model(folder: Path, root: Path, hemi: str = "", axes: str | None = None) -> ModelLayout:
    """A MODEL_DIR that was trained on the pairs of a folder; with `axes`, on arrays that lie so."""
    found = find_pairs(folder)
    pairs = tuple(pair if axes is None else replace(pair, axes=axes) for pair in found.pairs if hemi in pair.hemi)
    checked = check_pairs(replace(found, pairs=pairs), table=TABLE)
    layout = ModelLayout(root)
    write_raw_dataset(layout, Parts(pairs, (), ()), checked.content, TABLE, ("T1w",))
    cases = {p.case: TrainedCase(p.participant, p.hemi, "train", checked.content[p.case]) for p in pairs}
    split = Split(tuple(SplitRow(person, "train") for person in sorted({pair.participant for pair in pairs})))
    state = ModelState("scratch", TABLE.names, (), ("T1w",), split, (Segment(0, 10, "exported"),), cases=cases)
    write_state(layout, state)
    return layout


@pytest.mark.parametrize("of_model", [False, True])
def test_a_mirrored_pair_is_refused_by_name_or_left_out(folder: Path, tmp_path: Path, of_model: bool) -> None:
    change(folder, FAULTY, mirror=True)
    place = as_model(folder, tmp_path / "model").root if of_model else folder
    with pytest.raises(BadPairsError, match=rf"1 of 10 pairs .*(?s:.*){FAULTY}.*with left and right mirrored"):
        read(place)
    earlier = read(place, skip_bad_pairs=True)
    assert earlier.left_out == (FAULTY,)
    chosen = choose_rehearsal(earlier, Split(), {}, NOTHING)
    assert chosen.left_out == (f"rehearsal-{FAULTY}",) and len(chosen.pairs) == 9


def test_what_is_accepted_is_taken(folder: Path, tmp_path: Path) -> None:
    """In a table of this training, or in that of the model, whatever its copy looks like."""
    change(folder, FAULTY, exchange=True)
    layout = as_model(folder, tmp_path / "model")
    for place in (folder, layout.root):
        with pytest.raises(BadPairsError, match="Anterior lies where the others have Posterior"):
            read(place)
    table = tmp_path / "pairs.tsv"
    table.write_text(f"id\taccept\n{FAULTY}\tswapped\n")
    assert len(read(folder, rows=read_pairs_tables(table)).pairs) == 10
    content = check_pairs(find_pairs(folder), table=TABLE).content[FAULTY]
    layout.pairs_table.write_text(f"id\taccept\tcontent\n{FAULTY}\tswapped\t{content[:12]}\n")
    assert len(read(layout.root).pairs) == 10
    layout.pairs_table.write_text(f"id\taccept\tcontent\n{FAULTY}\tswapped\t{'0' * 12}\n")
    with pytest.raises(BadPairsError):
        read(layout.root)


def arrays(pairs: tuple[Pair, ...]) -> dict[str, bytes]:
    """The label of each pair as a network is shown it."""
    from bidsapp.training.import_pairs import load_pair

    return {pair.case: np.ascontiguousarray(load_pair(pair).label).astype(np.uint8).tobytes() for pair in pairs}


@pytest.mark.parametrize("axes", ["RAS", "LAS"])
def test_left_sides_alone_of_a_model_of_0_1_0_are_rehearsed_in_network_space(
    folder: Path, tmp_path: Path, axes: str
) -> None:
    """Under a true header; stored LAS they were learned mirrored."""
    upright = arrays(tuple(pair for pair in find_pairs(folder).pairs if pair.hemi == "L"))
    layout = as_model(folder, tmp_path / "model", "L", axes)
    assert {axes_of(nibabel.load(path).affine) for path in layout.raw_labels("Tr").iterdir()} == {axes}
    assert arrays(read(layout.root).pairs) == upright


def test_left_sides_alone_that_were_flipped_under_the_old_header_stay_as_they_lie(folder: Path, tmp_path: Path) -> None:
    upright = arrays(tuple(pair for pair in find_pairs(folder).pairs if pair.hemi == "L"))
    layout = as_model(folder, tmp_path / "model", "L")
    for path in [*layout.raw_labels("Tr").iterdir(), *layout.raw_labels("Tr").parent.glob("imagesTr/*")]:
        stored = nibabel.load(path)
        affine = stored.affine @ np.diag([-1, 1, 1, 1])
        nibabel.save(nibabel.Nifti1Image(np.asanyarray(stored.dataobj), affine), path)
        assert axes_of(affine) == "LAS"
    assert arrays(read(layout.root).pairs) == upright
