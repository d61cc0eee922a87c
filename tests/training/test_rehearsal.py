"""Earlier pairs, brought to the names of a new training."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.layout import ModelLayout
from bidsapp.records import LabelTable, Split, SplitRow
from bidsapp.training.dataset import Parts, write_raw_dataset
from bidsapp.training.rehearsal import EarlierPairs, choose_rehearsal, earlier_pairs
from tests.training.training_folder import TrainingFolder

MERGED = LabelTable({5: "Hippocampus"})
RENAMES = {"Anterior": "Hippocampus", "Posterior": "Hippocampus"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = TrainingFolder(tmp_path / "earlier")
    for person in ("sub-01", "sub-02", "sub-03"):
        made.pair(f"{person}_hemi-R")
    (made.path / "labels.tsv").write_text("index\tname\n1\tAnterior\n2\tPosterior\n")
    return made.path


def read(folder: Path, table: LabelTable = MERGED, renames: dict[str, str | None] | None = None) -> EarlierPairs:
    return earlier_pairs(folder, table, 1, RENAMES if renames is None else renames, part="train")


def test_values_become_those_that_the_network_learns(folder: Path, tmp_path: Path) -> None:
    chosen = choose_rehearsal(read(folder), Split(()), ())
    assert chosen.values == {1: 1, 2: 1}
    layout = ModelLayout(tmp_path / "model")
    write_raw_dataset(layout, Parts((), (), ()), {}, MERGED, ("T1w",), rehearsal=chosen)
    label = nibabel.load(layout.raw_labels("Tr") / "rehearsal-sub-01_hemi-R.nii.gz")
    values, counts = np.unique(np.asarray(label.dataobj), return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {0: 5 * 6 * 7 - 3, 1: 3}


def test_what_the_earlier_training_did_not_draw_is_not_background(folder: Path) -> None:
    table = LabelTable({1: "Anterior", 2: "Posterior", 3: "Cyst"})
    assert read(folder, table, {}).annotated == {"Anterior", "Posterior"}
    assert read(folder, LabelTable({1: "Anterior"}), {}).annotated is None
    assert read(folder, LabelTable({1: "Anterior"}), {}).values == {1: 1, 2: 0}


def test_who_is_held_out_here_is_not_rehearsed(folder: Path) -> None:
    earlier = read(folder)
    split = Split((SplitRow("sub-01", "test"), SplitRow("sub-02", "validation"), SplitRow("sub-03", "train")))
    kept = choose_rehearsal(earlier, split, ())
    assert [(pair.case, pair.participant) for pair in kept.pairs] == [("rehearsal-sub-03_hemi-R", "sub-03")]
    with pytest.raises(BadDataError, match="nothing is left to rehearse"):
        choose_rehearsal(earlier, split, earlier.checked.images["sub-03_hemi-R"])


def test_errors_say_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="does not exist"):
        read(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"no label of .* \(Anterior, Posterior\) is one of Hippocampus"):
        read(folder, MERGED, {})
    with pytest.raises(UsageError, match="has pairs of 1 channels, this training 2"):
        earlier_pairs(folder, MERGED, 2, RENAMES, part="train")
