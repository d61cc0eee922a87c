"""What counts as a person's work on a crop."""

from __future__ import annotations

from pathlib import Path

import pytest

from bidsapp.errors import BadDataError
from bidsapp.layout import OutputLayout
from bidsapp.records import SIDES, Side
from bidsapp.review.candidates import SideFacts, find_candidate
from bidsapp.review.protection import persons_files, persons_work, unread_labels
from bidsapp.review.table import read_review_table

HEADER = "participant_id\tsession_id\themi\tstatus\trater\n"


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path)


def work(layout: OutputLayout, session: str | None = None, hemi: Side = "L") -> str | None:
    return persons_work(layout, read_review_table(layout.review_table), "01", session, hemi)


def test_without_labels_nobody_worked(layout: OutputLayout) -> None:
    assert work(layout) is None
    assert persons_files(layout, "01", None, "L") == ()


@pytest.mark.parametrize(
    ("row", "session", "hemi", "protects"),
    [
        ("sub-01\tn/a\tL\tapproved\tme", None, "L", True),
        ("01\t\tl\tRejected\tme", None, "L", True),
        ("sub-01\tn/a\tL\tneeds_edit\t", None, "L", True),
        ("sub-01\tn/a\tL\taproved\tme", None, "L", True),
        ("sub-01\tn/a\tL\tpending\tme\nsub-01\tn/a\tL\tpending\tme", None, "L", True),
        ("sub-01\tn/a\tL\tpending\t", None, "L", False),
        ("sub-01\tn/a\tL\t\t", None, "L", False),
        ("sub-01\tn/a\tL\tapproved\tme", None, "R", False),
        ("sub-01\tses-1\tL\tapproved\tme", None, "L", False),
        ("sub-01\tses-1\tL\tapproved\tme", "1", "L", True),
        ("sub-01\t1\tL\tapproved\tme", "1", "L", True),
        ("sub-02\tn/a\tL\tapproved\tme", None, "L", False),
    ],
)
def test_a_decision_protects_its_side(
    layout: OutputLayout, row: str, session: str | None, hemi: Side, protects: bool
) -> None:
    layout.labels.mkdir()
    layout.review_table.write_text(HEADER + row + "\n")
    assert (work(layout, session, hemi) is not None) == protects


@pytest.mark.parametrize("kind", ["manual", "approved"])
def test_a_label_file_protects_its_side(layout: OutputLayout, kind: str) -> None:
    path = (layout.manual_label if kind == "manual" else layout.approved_label)("01", "1", "R")
    path.parent.mkdir(parents=True)
    path.touch()
    assert work(layout, "1", "R")
    assert work(layout, "1", "L") is work(layout, None, "R") is None
    assert persons_files(layout, "01", "1", "R") == (path,)


@pytest.mark.parametrize(("participant", "session"), [("edit01", None), ("01", "manual"), ("hemiL", "seg2")])
def test_a_name_that_speaks_of_labels_makes_no_label_map_of_a_crop(
    layout: OutputLayout, participant: str, session: str | None
) -> None:
    for hemi in SIDES:
        for path in (
            layout.session(participant, session).crop(hemi, "T1w"),
            layout.manual_label(participant, session, hemi),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert [unread_labels(layout, participant, session, hemi) for hemi in SIDES] == [(), ()]


STRANGERS = [
    "labels/sub-01/anat/sub-01_hemi-L_space-corobl_desc-manual_dseg.mgz",
    "labels/sub-01/anat/sub-01_hemi-L_space-corobl_desc-manual_dseg.nrrd",
    "labels/sub-01/anat/sub-01_hemi-L_space-corobl_desc-manual_dseg.seg.nrrd",
    "labels/sub-01/anat/sub-01_hemi-L_space-corobl_desc-manual_dseg.hdr",
    "labels/sub-01/anat/sub-01_hemi-L_space-corobl_desc-manual_dseg.img",
    "labels/sub-01/anat/sub-01_hemi-L_space-corobl_desc-manual_dseg.mha",
    "labels/sub-01/anat/sub-01_hemi-L_space-corobl_desc-manual_dseg.NII.GZ",
    "labels/sub-01/anat/sub-01_hemi-L_space-corobl_desc-manual_dseg (1).nii.gz",
    "labels/sub-01/anat/sub-01_hemi-L_space-corobl_desc-manual_dseg.nii (1).gz",
    "labels/sub-01/anat/sub-01_hemi-L_space-corobl_desc-Manual_dseg.nii.gz",
    "labels/sub-01/anat/sub-01_hemi-l_space-corobl_desc-manual_dseg.nii.gz",
    "labels/sub-01/anat/sub-01_space-corobl_desc-manual_dseg.nii.gz",
    "labels/sub-01/anat/correction.nii.gz",
    "labels/sub-01/sub-01_hemi-L_space-corobl_desc-manual_dseg.nii.gz",
    "labels/sub-01_hemi-L_space-corobl_desc-manual_dseg.nii.gz",
    "sub-01/anat/sub-01_hemi-L_space-corobl_desc-manual_dseg.nii.gz",
    "sub-01/anat/sub-01_hemi-L_space-corobl_desc-nnunet_dseg (1).nii.gz",
    "sub-01/sub-01_hemi-L_space-corobl_desc-manual_dseg.mgz",
    "sub-01_hemi-L_manual.nii.gz",
]


@pytest.mark.parametrize("name", STRANGERS)
def test_what_looks_like_a_label_of_a_side_is_never_passed_over(layout: OutputLayout, name: str) -> None:
    path = layout.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert unread_labels(layout, "01", None, "L") == (path,)
    assert path.name in (work(layout) or "")
    assert (path in persons_files(layout, "01", None, "L")) == name.startswith("labels/")
    assert unread_labels(layout, "01", None, "R") == (() if "hemi" in name else (path,))
    with pytest.raises(BadDataError, match="looks like a label map of this side") as caught:
        find_candidate(layout, SideFacts(layout.session("01", None), "01", None, "L", {}, None))
    assert name in caught.value.message
    assert str(layout.manual_label("01", None, "L").relative_to(layout.root)) in caught.value.hint
    assert unread_labels(layout, "02", None, "L") == unread_labels(layout, "0", None, "L") == ()


def test_what_is_ours_or_set_aside_is_no_stranger(layout: OutputLayout) -> None:
    made, drawn = layout.session("01", None), layout.manual_label("01", None, "L")
    for path in (
        *(made.crop("L", modality) for modality in ("T1w", "T2w")),
        made.prediction("L"),
        *made.native_predictions("L"),
        drawn,
        drawn.with_suffix(""),
        layout.approved_label("01", None, "L"),
        layout.imported_label("01", None, "L"),
        drawn.with_name(f"{drawn.name}.orig"),
        drawn.with_name(f"{drawn.name}.bak"),
        drawn.with_name(f".123.{drawn.name}"),
        layout.labels / "sub-01" / "figures" / "a.png",
        layout.superseded("2026-01-01") / drawn.relative_to(layout.labels),
        made.anat / "sub-01_T1w.nii.gz",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert unread_labels(layout, "01", None, "L") == unread_labels(layout, "01", None, "R") == ()


def test_a_label_without_its_session_belongs_to_every_session(layout: OutputLayout) -> None:
    path = layout.manual_label("01", None, "L")
    path.parent.mkdir(parents=True)
    path.touch()
    other = layout.manual_label("01", "2", "L")
    other.parent.mkdir(parents=True)
    other.touch()
    assert unread_labels(layout, "01", "1", "L") == unread_labels(layout, "01", "2", "L") == (path,)
    crop = layout.session("01", None).crop("L", "T1w")
    crop.parent.mkdir(parents=True)
    crop.touch()
    assert unread_labels(layout, "01", "1", "L") == unread_labels(layout, "01", None, "L") == ()
