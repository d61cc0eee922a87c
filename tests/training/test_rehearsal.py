"""Earlier pairs, brought to the names of a new training."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.layout import ModelLayout
from bidsapp.pairs.check_pairs import CheckedPairs
from bidsapp.records import LabelTable, Split, SplitRow
from bidsapp.training.dataset import Parts, write_raw_dataset
from bidsapp.training.rehearsal import EarlierPairs, choose_rehearsal, earlier_pairs
from tests.training_folder import TrainingFolder

MERGED = LabelTable({5: "Hippocampus"})
NOTHING = CheckedPairs((), MERGED, {}, {}, ())
RENAMES = {"Anterior": "Hippocampus", "Posterior": "Hippocampus"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = TrainingFolder(tmp_path / "earlier")
    for person in ("sub-01", "sub-02", "sub-03"):
        made.pair(f"{person}_hemi-R")
    (made.path / "labels.tsv").write_text("index\tname\n1\tAnterior\n2\tPosterior\n")
    return made.path


def read(folder: Path, table: LabelTable = MERGED, renames: dict[str, str | None] | None = None) -> EarlierPairs:
    return earlier_pairs(folder, table, ("T1w",), RENAMES if renames is None else renames, part="train")


def test_values_become_those_that_the_network_learns(folder: Path, tmp_path: Path) -> None:
    chosen = choose_rehearsal(read(folder), Split(()), {}, NOTHING)
    assert chosen.values == {1: 1, 2: 1}
    layout = ModelLayout(tmp_path / "model")
    write_raw_dataset(layout, Parts((), (), ()), {}, MERGED, ("T1w",), rehearsal=chosen)
    label = nibabel.load(layout.raw_labels("Tr") / "rehearsal-sub-01_hemi-R.nii.gz")
    values, counts = np.unique(np.asarray(label.dataobj), return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {0: 5 * 6 * 7 - 3, 1: 3}


def test_what_the_earlier_training_did_not_draw_is_not_background(folder: Path) -> None:
    cases = [f"sub-0{number}_hemi-R" for number in (1, 2, 3)]
    table = LabelTable({1: "Anterior", 2: "Posterior", 3: "Cyst"})
    assert read(folder, table, {}).checked.annotated == dict.fromkeys(cases, frozenset({"Anterior", "Posterior"}))
    assert read(folder, LabelTable({1: "Anterior"}), {}).checked.annotated == {}
    assert read(folder, LabelTable({1: "Anterior"}), {}).values == {1: 1, 2: 0}


def test_what_one_case_did_not_draw_goes_with_it(folder: Path) -> None:
    """sub-01 draws Anterior alone: half of a merged label is not that label."""
    path = folder / "sub-01_hemi-R_lbl.nii.gz"
    label = nibabel.load(path)
    values = np.asarray(label.dataobj)
    nibabel.save(nibabel.Nifti1Image(values * (values == 1), label.affine), path)
    (folder / "annotated.tsv").write_text("id\tlabels\nsub-01_hemi-R\tAnterior\n")
    both = LabelTable({1: "Anterior", 2: "Posterior"})
    assert read(folder, both, {}).checked.annotated == {"sub-01_hemi-R": frozenset({"Anterior"})}
    merged = read(folder)
    assert merged.checked.annotated == {"sub-01_hemi-R": frozenset()}
    chosen = choose_rehearsal(merged, Split(()), {}, NOTHING)
    assert chosen.checked.annotated == {"rehearsal-sub-01_hemi-R": frozenset()}


def test_who_is_held_out_here_or_in_a_model_before_is_not_rehearsed(folder: Path) -> None:
    earlier = read(folder)
    images = {person: earlier.checked.images[f"{person}_hemi-R"][0] for person in ("sub-01", "sub-02", "sub-03")}
    split = Split((SplitRow("sub-01", "test"), SplitRow("sub-02", "validation"), SplitRow("sub-03", "train")))
    kept = choose_rehearsal(earlier, split, {}, NOTHING)
    assert [(pair.case, pair.participant) for pair in kept.pairs] == [("rehearsal-sub-03_hemi-R", "sub-03")]
    assert kept.checked.image_people == {images["sub-03"]: "sub-03"}

    other_name = Split((SplitRow("patient-7", "test"),))
    kept = choose_rehearsal(earlier, other_name, {images["sub-02"]: "patient-7"}, NOTHING)
    assert [pair.participant for pair in kept.pairs] == ["sub-01", "sub-03"]

    with pytest.raises(BadDataError, match="nothing is left to rehearse"):
        choose_rehearsal(earlier, Split(()), {}, earlier.checked)


def test_errors_say_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="does not exist"):
        read(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"no label of .* \(Anterior, Posterior\) is one of Hippocampus"):
        read(folder, MERGED, {})
    with pytest.raises(UsageError, match="has pairs of 1 channels, this training is of T1w, T2w"):
        earlier_pairs(folder, MERGED, ("T1w", "T2w"), RENAMES, part="train")
