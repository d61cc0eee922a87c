"""Where labels come from: told by the ledger, kept beside the pairs, in the state, and with whoever learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bidsapp.errors import BadDataError
from bidsapp.layout import ModelLayout, origins_file
from bidsapp.model_dir.state import LabelTrust, ModelState, Segment, TrainedCase, read_state, write_state
from bidsapp.pairs.approved import gather_approved, update_training_folder
from bidsapp.pairs.origins import count_kinds, judge_corrections, read_origins, say_kinds, with_origins, write_origins
from bidsapp.records import LabelDifference, LabelKind, LabelOrigin, LabelSource, Pair, Split, SplitRow
from bidsapp.review.selection import Wanted
from bidsapp.training.rehearsal import earlier_pairs
from tests.approvals import ApprovedLabels
from tests.training_folder import TrainingFolder

MODEL = "5" * 64
ORIGINS = {
    "sub-01_hemi-R": LabelOrigin("corrected", 120, MODEL, 0.03),
    "sub-02_hemi-R": LabelOrigin("as_predicted", None, MODEL),
    "sub-03_hemi-R": LabelOrigin("drawn"),
}


@pytest.mark.parametrize(
    ("source", "model", "changed", "origin"),
    [
        ("prediction", MODEL, 0, LabelOrigin("as_predicted", None, MODEL)),
        ("manual", MODEL, 120, LabelOrigin("corrected", 120, MODEL)),
        ("manual", MODEL, None, LabelOrigin("corrected", None, MODEL)),
        ("manual", MODEL, 0, LabelOrigin("as_predicted", None, MODEL)),  # saved, and nothing changed
        ("manual", None, None, LabelOrigin("drawn")),
        ("imported", MODEL, 120, LabelOrigin("imported")),
    ],
)
def test_an_approval_says_how_its_label_came_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: LabelSource, model: str | None, changed: int | None,
    origin: LabelOrigin,
) -> None:  # fmt: skip
    approved = ApprovedLabels(tmp_path / "out", monkeypatch)
    approval = approved.add("01", "L")
    effort = () if changed is None else (LabelDifference("A", None, changed, 0),)
    approved.approvals[approval.name] = replace(
        approval, source=source, model="theirs" if model else None, model_sha256=model, effort=effort
    )
    folder = tmp_path / "training"
    update_training_folder(folder, gather_approved(approved.layout, Wanted()), ("T1w",))
    assert read_origins(origins_file(folder), ["sub-01_hemi-Lflip"]) == {"sub-01_hemi-Lflip": origin}


def test_the_table_is_as_documented(tmp_path: Path) -> None:
    write_origins(tmp_path / "origins.tsv", ORIGINS)
    assert (tmp_path / "origins.tsv").read_text().splitlines() == [
        "id\tlabel_from\tvoxels_changed\tmodel_sha256\tshare_changed",
        f"sub-01_hemi-R\tcorrected\t120\t{MODEL}\t0.03",
        f"sub-02_hemi-R\tas_predicted\tn/a\t{MODEL}\tn/a",
        "sub-03_hemi-R\tdrawn\tn/a\tn/a\tn/a",
    ]
    assert read_origins(tmp_path / "origins.tsv", ORIGINS) == ORIGINS


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("sub-09\tdrawn", "line 2: there is no pair 'sub-09'"),
        ("sub-01_hemi-R\tdrawn\nsub-01_hemi-R\tdrawn", "line 3: sub-01_hemi-R stands twice"),
        ("sub-01_hemi-R\tguessed", "label_from is 'guessed'"),
        ("sub-01_hemi-R\tcorrected\tmany", "voxels_changed is 'many'"),
        ("sub-01_hemi-R\tcorrected\t-5", "voxels_changed is '-5'"),
        ("sub-01_hemi-R\tcorrected\t" + "9" * 5000, "voxels_changed is '999"),
        ("sub-01_hemi-R\tas_predicted\tn/a\tthe built-in", "model_sha256 is 'the built-in'"),
        ("sub-01_hemi-R\tcorrected\t5\tn/a\t1.5", "share_changed is '1.5'"),
        ("sub-01_hemi-R\tcorrected\t5\tn/a\tnan", "share_changed is 'nan'"),
    ],
)
def test_a_cell_that_does_not_fit_is_named(tmp_path: Path, row: str, said: str) -> None:
    path = tmp_path / "origins.tsv"
    path.write_text(f"id\tlabel_from\tvoxels_changed\tmodel_sha256\tshare_changed\n{row}\n")
    with pytest.raises(BadDataError) as caught:
        read_origins(path, ORIGINS)
    assert said in caught.value.message
    assert str(path) in caught.value.message


def test_what_is_not_listed_was_imported() -> None:
    pairs = [Pair(case, case[:6], "R", (Path("img"),), Path("lbl")) for case in ("sub-01_hemi-R", "sub-07_hemi-R")]
    told = with_origins(pairs, ORIGINS)
    assert [pair.origin for pair in told] == [ORIGINS["sub-01_hemi-R"], LabelOrigin("imported")]
    assert say_kinds(count_kinds(pair.origin for pair in told)) == "1 corrected, 1 imported"


@pytest.mark.parametrize(
    ("told", "least", "kind"),
    [
        (LabelOrigin("corrected", 9, MODEL, 0.009), 0.01, "as_predicted"),
        (LabelOrigin("corrected", 10, MODEL, 0.01), 0.01, "corrected"),
        (LabelOrigin("corrected", 1, MODEL, 0.001), 0, "corrected"),
        (LabelOrigin("corrected", 1, MODEL), 0.01, "corrected"),  # nobody knows the share
        (LabelOrigin("imported", 1, MODEL, 0.001), 0.01, "imported"),
        (LabelOrigin("as_predicted", 500, MODEL, 0.5), 0.01, "as_predicted"),
    ],
)
def test_a_correction_that_changed_next_to_nothing_is_still_the_prediction(
    told: LabelOrigin, least: float, kind: LabelKind
) -> None:
    pair = Pair("a", "a", "R", (Path("img"),), Path("lbl"), origin=told)
    assert judge_corrections([pair], least) == (replace(pair, origin=replace(told, kind=kind)),)


def test_a_folder_that_is_rehearsed_says_so_too(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "pairs")
    for case in ORIGINS:
        folder.pair(case)
    (folder.path / "labels.tsv").write_text("index\tname\n1\tAnterior\n2\tPosterior\n")
    write_origins(origins_file(folder.path), ORIGINS)
    from bidsapp.labels.tables import read_label_table

    table = read_label_table(folder.path / "labels.tsv")
    found = earlier_pairs(folder.path, table, ("MRI",), {}, part="train")
    assert {pair.case: pair.origin for pair in found.pairs} == ORIGINS
    found = earlier_pairs(folder.path, table, ("MRI",), {}, part="train", least_changed=0.04)
    assert say_kinds(count_kinds(pair.origin for pair in found.pairs)) == "1 drawn, 2 approved as predicted"


def state(vouched: LabelTrust) -> ModelState:
    return ModelState(
        "scratch", {1: "A"}, (), ("T1w",), Split((SplitRow("sub-01", "train"),)),
        (Segment(0, 10, "testing", vouched=vouched),),
        {"sub-01_hemi-R": TrainedCase("sub-01", "R", "train", "0", origin=ORIGINS["sub-01_hemi-R"])},
        ancestors=(MODEL,),
    )  # fmt: skip


def test_the_state_keeps_it(tmp_path: Path) -> None:
    layout = ModelLayout(tmp_path)
    write_state(layout, state(LabelTrust()))
    assert read_state(layout) == state(LabelTrust())


@pytest.mark.parametrize(("by", "kind"), [("user", "imported"), ("review", "unknown")])
def test_a_state_of_an_older_version_is_read(tmp_path: Path, by: str, kind: str) -> None:
    """Whether a person corrected what was approved is not known then, so nothing is scored on it."""
    layout = ModelLayout(tmp_path)
    write_state(layout, state(LabelTrust(by)))  # type: ignore[arg-type]
    content = json.loads(layout.state.read_text())
    del content["ancestors"], content["cases"]["sub-01_hemi-R"]["origin"]
    layout.state.write_text(json.dumps(content))
    found = read_state(layout)
    assert found is not None
    assert found.cases["sub-01_hemi-R"].origin == LabelOrigin(kind)  # type: ignore[arg-type]
    assert found.ancestors == ()


def test_a_state_with_another_kind_is_refused(tmp_path: Path) -> None:
    layout = ModelLayout(tmp_path)
    write_state(layout, state(LabelTrust()))
    layout.state.write_text(layout.state.read_text().replace("corrected", "guessed"))
    with pytest.raises(BadDataError, match="'guessed'"):
        read_state(layout)
