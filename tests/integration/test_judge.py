"""Labels that the model itself drew judge nobody: the usual case of step 4, with the real engine.

Nothing here depends on what a network learned: labels are the simulated ones, and only the ledger says who drew them.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bidsapp.cli import main
from bidsapp.exchange.loading import load_model
from bidsapp.layout import ModelLayout, origins_file
from bidsapp.model_dir.split import read_split
from bidsapp.models.shelf import ModelPlaces, locate_model
from bidsapp.models_cli import main as hippotune_models
from bidsapp.records import LabelDifference
from tests.approvals import ApprovedLabels

PEOPLE, CORRECTED = 10, ("P03", "P07")
ONE_STEP = ("--preset", "tiny", "--iterations", "1", "--set", "training.validation_batches=1", "--device", "cpu")


def group(approved: ApprovedLabels, layout: ModelLayout, *options: object) -> int:
    words = (
        approved.layout.root.parent,
        approved.layout.root,
        "group",
        "--model-dir",
        layout.root,
        *ONE_STEP,
        *options,
    )
    return main([str(word) for word in words])


def say_who_drew(approved: ApprovedLabels, model: str) -> None:
    """Nearly all sides were approved as `model` predicted them; one side each of two people was corrected.

    The other side of these two was saved with hardly a voxel changed.
    """
    for name, approval in approved.approvals.items():
        saved = approval.participant in CORRECTED
        changed = (120 if approval.hemi == "L" else 3) if saved else 0
        approved.approvals[name] = replace(
            approval,
            source="manual" if saved else "prediction",
            model="a model",
            model_sha256=model,
            effort=(LabelDifference("whole", None, changed, 3000),),
        )


def result(layout: ModelLayout) -> dict:
    return json.loads(layout.state.read_text())["segments"][-1]["result"]


def test_a_model_is_never_worse_than_the_one_that_drew_the_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    approved = ApprovedLabels(tmp_path / "out", monkeypatch)
    approved.simulate(PEOPLE)
    built_in = load_model(locate_model("default", ModelPlaces(None, tmp_path / "none"))).digest
    say_who_drew(approved, built_in)
    layout = ModelLayout(tmp_path / "model")

    assert group(approved, layout, "--model", "default") == 0
    said = capsys.readouterr().out
    assert "200 images of the models before were checked" in said
    assert "could not be checked" not in said
    small = "(training.least_changed), so they count as approved as predicted: sub-P03_hemi-R, sub-P07_hemi-R"
    assert f"corrected in less than 1 % of their voxels {small}" in said
    places = {row.participant_id: row.split for row in read_split(layout.split).rows}
    assert {places[f"sub-{person}"] for person in CORRECTED} == {"validation", "test"}
    assert "too few to tell: 1 side was corrected; correct 5 more, each of another person (there are 1: add" in said
    assert "is worse" not in said
    assert "test scores: too few to tell: 1 side of 1 person" in said
    comparison = result(layout)["comparisons"]["validation"]
    assert (comparison["verdict"], comparison["sides"], comparison["drawn_sides"]) == ("too few to tell", 1, 3)
    assert result(layout)["accepted"]
    assert layout.current_export.exists()

    corrected = {f"sub-{person}_hemi-Lflip" for person in CORRECTED}
    with layout.scores.open() as stream:
        kinds = {row["case"]: row["label_from"] for row in csv.DictReader(stream, delimiter="\t")}
    assert kinds == {case: "corrected" if case in corrected else "as_predicted" for case in kinds}
    summary = json.loads(layout.summary.read_text())
    assert (summary["cases"], summary["consistency"]["cases"], summary["too_few"]) == (1, 3, True)
    with origins_file(layout.training).open() as stream:
        rows = {row["id"]: row for row in csv.DictReader(stream, delimiter="\t")}
    assert {case for case, row in rows.items() if row["voxels_changed"] == "120"} == corrected
    assert {row["model_sha256"] for row in rows.values()} == {built_in}
    report = layout.report.read_text()
    assert "too few to tell" in report
    assert "Consistency, no score" in report

    # the next first pass is done with the new model: its earlier export, and the built-in one, are still its own
    drawn_by_us = result(layout)["digest"]
    assert drawn_by_us == load_model(layout.current_export).digest != built_in
    say_who_drew(approved, drawn_by_us)
    assert group(approved, layout) == 0
    assert "too few to tell: 1 side was corrected" in capsys.readouterr().out
    assert result(layout)["comparisons"]["validation"]["drawn_sides"] == 3

    published = tmp_path / "ours.zip"
    assert hippotune_models(["export", str(layout.root), str(published), "--license", "CC-BY-SA-4.0"]) == 0
    assert set(load_model(published).facts["ancestors"]) >= {built_in, drawn_by_us}

    # a model that has nothing to do with them drew the labels: both contenders are held to the same
    say_who_drew(approved, "f" * 64)
    assert group(approved, layout) in (0, 3)
    assert "too few to tell: 2 people, 6 are needed" in capsys.readouterr().out
    assert result(layout)["comparisons"]["validation"]["sides"] == 4
