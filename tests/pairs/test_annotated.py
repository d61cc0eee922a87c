from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bidsapp.errors import BadDataError
from bidsapp.pairs.annotated import read_annotated, table_of_case, write_annotated
from bidsapp.pairs.check_pairs import BadPairsError, check_pairs
from bidsapp.pairs.pairs import find_pairs
from bidsapp.records import LabelTable
from tests.training_folder import TrainingFolder

TABLE = LabelTable({1: "Anterior", 2: "Posterior"}, frozenset({"Posterior"}))
CASES = {"sub-01_hemi-R", "sub-02_hemi-R"}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "annotated.tsv"
    path.write_text(text)
    return path


def test_only_cases_that_lack_something_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path, "id\tlabels\nsub-01_hemi-R\tAnterior\nsub-02_hemi-R\tPosterior, Anterior\n")
    found = read_annotated(path, CASES, TABLE)
    assert found == {"sub-01_hemi-R": frozenset({"Anterior"})}
    write_annotated(path, found)
    assert read_annotated(path, CASES, TABLE) == found
    write_annotated(path, {})
    assert not path.exists()


def test_a_left_side_may_be_called_as_its_files_are(tmp_path: Path) -> None:
    path = written(tmp_path, "id\tlabels\nsub-01_hemi-L\tAnterior\n")
    assert read_annotated(path, {"sub-01_hemi-Lflip"}, TABLE) == {"sub-01_hemi-Lflip": frozenset({"Anterior"})}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("sub-03_hemi-R\tAnterior", "line 2: there is no pair 'sub-03_hemi-R'"),
        ("sub-01_hemi-R\tAnterior Head", "line 2: Head is no label"),
        ("sub-01_hemi-R\t", "line 2: nothing is no label"),
        ("sub-01_hemi-R\tAnterior\nsub-01_hemi-R\tPosterior", "line 3: sub-01_hemi-R stands twice"),
    ],
)
def test_errors_name_the_line(row: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=problem):
        read_annotated(written(tmp_path, f"id\tlabels\n{row}\n"), CASES, TABLE)


def test_without_label_names_it_means_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"no labels\.tsv"):
        read_annotated(written(tmp_path, "id\tlabels\n"), CASES, None)


def test_what_a_case_does_not_annotate_is_not_required_of_it() -> None:
    assert table_of_case(TABLE, frozenset({"Anterior"})) == LabelTable({1: "Anterior"})
    assert table_of_case(TABLE, None) == TABLE


def test_a_pair_must_not_hold_what_it_is_said_not_to_annotate(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "pairs")
    folder.pair("sub-01_hemi-R")
    folder.image("sub-02_hemi-R_img.nii.gz")
    label = np.zeros((5, 6, 7), np.uint8)
    label[1, 2, 3] = 1
    folder.write("sub-02_hemi-R_lbl.nii.gz", label)
    partly = {case: frozenset({"Anterior"}) for case in CASES}
    with pytest.raises(BadPairsError) as caught:
        check_pairs(find_pairs(folder.path), table=TABLE, annotated=partly)
    assert [finding.case for finding in caught.value.findings] == ["sub-01_hemi-R"]
    assert "this pair annotates only Anterior" in caught.value.message
    good = check_pairs(find_pairs(folder.path), table=TABLE, annotated={"sub-02_hemi-R": frozenset({"Anterior"})})
    assert good.annotated == {"sub-02_hemi-R": frozenset({"Anterior"})}
    required_of_all = LabelTable({1: "Anterior", 2: "Posterior"})
    whole = check_pairs(find_pairs(folder.path), table=required_of_all)
    assert whole.content["sub-02_hemi-R"] != good.content["sub-02_hemi-R"], "another meaning is another pair"
    assert whole.content["sub-01_hemi-R"] == good.content["sub-01_hemi-R"]
