"""The pairs that a model is scored on: its own, and those of another training."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from bidsapp.layout import ModelLayout
from bidsapp.model_dir.state import ModelState, TrainedCase
from bidsapp.records import LabelOrigin, LabelTable, Split, SplitRow
from bidsapp.training.rehearsal import earlier_pairs
from bidsapp.training.testing import pairs_of_others, pairs_of_part
from tests.training_folder import TrainingFolder

LABELS = LabelTable({1: "Posterior", 2: "Cyst"})
STATE = ModelState("scratch", dict(LABELS.names), (), ("T1w",), Split((SplitRow("sub-01", "train"),)))


def test_pairs_of_others_have_the_values_and_names_of_this_network_and_nobody_it_was_trained_on(tmp_path: Path) -> None:
    made = TrainingFolder(tmp_path / "earlier")
    for person in ("sub-01", "sub-02"):
        made.pair(f"{person}_hemi-R")
    (made.path / "labels.tsv").write_text("index\tname\n1\tAnterior\n2\tPosterior\n")
    earlier = earlier_pairs(made.path, LABELS, ("T1w",), {}, part="test")
    written = tmp_path / "written"
    (pair,) = pairs_of_others(earlier, STATE, written, reader="SimpleITKIO")
    assert (pair.participant, pair.hemi, pair.annotated) == ("sub-02", "R", frozenset({"Posterior"}))
    assert pair.images == (written / "sub-02_hemi-R_0000.nii.gz",) and pair.images[0].is_file()
    before = np.asarray(nibabel.load(made.path / "sub-02_hemi-R_lbl.nii.gz").dataobj)
    values = np.asarray(nibabel.load(pair.label).dataobj)
    assert set(np.unique(values)) == {0, 1} and np.count_nonzero(values) == np.count_nonzero(before == 2)


def test_pairs_of_a_part_are_those_in_raw_data_without_rehearsed_ones(tmp_path: Path) -> None:
    layout, drawn = ModelLayout(tmp_path), LabelOrigin("drawn")
    state = ModelState(
        "scratch", dict(LABELS.names), (), ("T1w", "T2w"), Split(()),
        cases={
            "b": TrainedCase("sub-02", "L", "train", "0", ("Cyst",), origin=drawn),
            "a": TrainedCase("sub-01", "R", "train", "0"),
            "rehearsal-c": TrainedCase("sub-03", "R", "train", "0", rehearsal=True),
            "t": TrainedCase("sub-04", "R", "test", "0"),
        },
    )  # fmt: skip
    first, second = pairs_of_part(layout, state, "train")
    assert (first.case, first.annotated, first.origin) == ("a", None, LabelOrigin())
    assert (second.case, second.annotated, second.origin) == ("b", frozenset({"Cyst"}), drawn)
    assert second.images == layout.raw_case("Tr", "b", 2) and second.label == layout.raw_labels("Tr") / "b.nii.gz"
    assert [pair.label for pair in pairs_of_part(layout, state, "test")] == [layout.raw_labels("Ts") / "t.nii.gz"]
