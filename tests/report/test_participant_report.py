from __future__ import annotations

import base64
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bidsapp.corobl.quality import Judgement
from bidsapp.pictures.drawing import Picture, as_picture, new_figure
from bidsapp.report.participant_report import (
    Concern,
    CropPictures,
    Failure,
    LabelVolume,
    ModelPart,
    ParticipantPage,
    ScanPart,
    SessionPart,
    SideFiles,
    SidePart,
    correction_lines,
    itksnap_line,
    render_participant_page,
    write_participant_page,
)
from bidsapp.report.picture_files import read_picture
from tests.report.page_parser import NASTY, Page

GREEN = Judgement("green", "peak", 1.98, "the peak is fine")
AMBER = Judgement("amber", "volume_mm3", 1720.0, "the volume is small")
RED = Judgement("red", "nmi_in_crops", 1.021, "the template does not fit")
FILES = SideFiles(
    ("sub-01/L_T1w.nii.gz",), "sub-01/L_dseg.nii.gz", "sub-01/L.txt", "labels/sub-01/anat/L_manual.nii.gz"
)


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> Path:
    """One PNG per name, 30 x 20 pixels."""
    folder = tmp_path_factory.mktemp("figures")
    for name in ("head", "sagittal", "coronal", "axial", "slices"):
        (folder / f"{name}.png").write_bytes(as_picture(new_figure(30, 20, "black"), "").png)
    return folder


def make_side(figures: Path, hemi="L", judgements=(GREEN,)) -> SidePart:
    return SidePart(
        hemi=hemi,
        files=FILES,
        pictures=(
            CropPictures(
                "T1w",
                {plane: figures / f"{plane}.png" for plane in ("sagittal", "coronal", "axial")},
                figures / "slices.png",
            ),
        ),
        judgements=judgements,
        volumes=(
            LabelVolume(1, "Anterior", "#56B4E9", 70235, 1996.44),
            LabelVolume(20, "Posterior", "#E69F00", 55977, 1591.12),
        ),
        model=ModelPart("my-model", "ab12cd34ef56" + "0" * 52),
        review="corrected by a person",
    )


def make_session(figures: Path, session=None, registration=(GREEN,), sides=None) -> SessionPart:
    scan = ScanPart(
        "T1w",
        "sub-01/anat/sub-01_T1w.nii.gz",
        warnings=("qform and sform disagree",),
        facts=(("Manufacturer", "Acme"),),
        registration=registration,
        head=figures / "head.png",
    )
    sides = sides or (make_side(figures, "L"), make_side(figures, "R"))
    return SessionPart(session, (scan,), sides, left_aside=("sub-01/anat/sub-01_run-2_T1w.nii.gz",))


def make_page(*sessions: SessionPart, failures=()) -> ParticipantPage:
    return ParticipantPage("01", "2026-01-02 03:04", {"HippoTune": "9.8.7"}, sessions, failures)


def test_everything_is_said(figures):
    page = Page(render_participant_page(make_page(make_session(figures))))
    page.assert_it_is_safe()
    for text in (
        *("sub-01", "2026-01-02 03:04", "HippoTune", "9.8.7", "Green: nothing suspicious"),
        *("sub-01/anat/sub-01_T1w.nii.gz", "qform and sform disagree", "Manufacturer", "Acme", "run-2_T1w.nii.gz"),
        *("the peak is fine", "peak", "1.980", "Left hippocampus", "Right hippocampus"),
        *("Anterior", "70,235", "1,996.4", "Posterior", "55,977", "1,591.1", "126,212", "3,587.6"),
        *("my-model", "ab12cd34ef56", "corrected by a person", FILES.correction, "labels/review.tsv"),
        *("every measure is as in good results", "look at the pictures", "neurological"),
        *("Coronal slices from front to back", itksnap_line(FILES), *correction_lines(FILES)),
    ):
        assert text in page.text, text
    assert "ab12cd34ef560" not in page.text and "--c: #56B4E9" in page.html
    assert len(page.every("img")) == 1 + 2 * 4
    assert all((image["width"], image["height"]) == ("30", "20") and image["alt"] for image in page.every("img"))


def test_pictures_are_those_of_the_files(figures):
    page = Page(render_participant_page(make_page(make_session(figures))))
    content = base64.b64encode((figures / "head.png").read_bytes()).decode()
    assert page.every("img")[0]["src"] == f"data:image/png;base64,{content}"


@pytest.mark.parametrize(
    ("registration", "left", "headline", "level"),
    [
        ((GREEN,), (GREEN,), "Green: nothing suspicious", "green"),
        ((), (), "Green: nothing suspicious", "green"),
        ((GREEN,), (AMBER,), "Amber: look at the left hippocampus", "amber"),
        ((AMBER,), (AMBER, AMBER), "Amber: look at the registration of the T1w and the left hippocampus", "amber"),
        ((RED, AMBER), (AMBER,), "Red: do not use unseen: the registration of the T1w", "red"),
        ((AMBER,), (RED,), "Red: do not use unseen: the left hippocampus", "red"),
    ],
)
def test_the_verdict_is_of_the_worst(figures, registration, left, headline, level):
    sides = (make_side(figures, "L", left), make_side(figures, "R"))
    page = make_page(make_session(figures, registration=registration, sides=sides))
    parsed = Page(render_participant_page(page))
    assert headline in parsed.text and page.level == level
    assert [one["class"] for one in parsed.every("div") if "verdict" in one.get("class", "")] == [f"verdict {level}"]


def test_concerns_come_worst_first_before_everything_else(figures):
    sides = (make_side(figures, "L", (AMBER, GREEN)), make_side(figures, "R", (RED,)))
    session = make_session(figures, registration=(AMBER,), sides=sides)
    assert session.concerns == (
        Concern("red", "right hippocampus", RED.words),
        Concern("amber", "registration of the T1w", AMBER.words),
        Concern("amber", "left hippocampus", AMBER.words),
    )
    text = Page(render_participant_page(make_page(session))).words
    top = text[: text.index("Was the head found?")]
    assert top.index("■ Red right hippocampus: the template") < top.index("▲ Amber registration of the T1w: the volume")


def test_tables_show_the_worst_judgement_first(figures):
    session = make_session(figures, registration=(GREEN, AMBER, RED))
    text = Page(render_participant_page(make_page(session))).words
    table = text[text.index("Was the head found?") : text.index("Left hippocampus ● Green")]
    assert table.index(RED.words) < table.index(AMBER.words) < table.index(GREEN.words)


def test_sessions_are_named_and_can_be_linked_to(figures):
    sessions = (make_session(figures, "1"), make_session(figures, "2", registration=(AMBER,)))
    page = Page(render_participant_page(make_page(*sessions)))
    assert "Amber: look at ses-2, registration of the T1w" in page.text
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert {"ses-1", "ses-2", "ses-1-L", "ses-2-head", "versions"} <= set(identifiers)
    assert len(identifiers) == len(set(identifiers))
    targets = {link["href"][1:] for link in page.every("a") if link["href"].startswith("#")}
    assert targets <= set(identifiers)


def test_without_sessions_there_is_no_heading_of_a_session(figures):
    page = Page(render_participant_page(make_page(make_session(figures))))
    assert "ses-" not in page.text
    assert {link["href"] for link in page.every("a")} >= {"#session-head", "#session-L", "index.html"}


def test_failures_are_said_beside_the_results(figures):
    failure = Failure("01", "2", "the file is truncated.", "logs/x/sub-01_ses-2.log")
    page = Page(render_participant_page(make_page(make_session(figures, "1"), failures=(failure,))))
    for text in (
        "Failed: sub-01_ses-2 has no results of the newest run",
        "Green: nothing suspicious",
        "the file is truncated.",
        "logs/x/sub-01_ses-2.log",
    ):
        assert text in page.text


def test_a_person_who_only_failed_has_a_page():
    failure = Failure("01", None, "there is nothing.", "logs/x/sub-01.log")
    page = Page(render_participant_page(make_page(failures=(failure,))))
    assert "Failed: sub-01 has no results" in page.text and "Green: nothing" not in page.text
    page.assert_it_is_safe()


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_missing_or_damaged_picture_is_said_to_be_missing(figures, tmp_path, content):
    if content is not None:
        (tmp_path / "gone.png").write_bytes(content)
    gone = tmp_path / "gone.png"
    side = replace(make_side(figures), pictures=(CropPictures("T1w", {"sagittal": gone}, gone),))
    session = make_session(figures, sides=(side,))
    session = replace(session, scans=(replace(session.scans[0], head=gone),))
    page = Page(render_participant_page(make_page(session)))
    assert page.words.count("No picture: gone.png is missing.") == 3
    assert not page.every("img") and str(tmp_path) not in page.html


def test_crops_alone_have_neither_model_nor_volumes(figures):
    side = replace(
        make_side(figures), model=None, volumes=(), judgements=(), review=None, files=replace(FILES, prediction=None)
    )
    page = Page(render_participant_page(make_page(make_session(figures, sides=(side,)))))
    assert "No model was used" in page.text and "Volume [mm³]" not in page.text
    assert "cp -n" not in page.text and itksnap_line(side.files) in page.text


def test_ready_made_crops_were_not_registered(figures):
    session = replace(make_session(figures), scans=(ScanPart("T1w", "crop.nii.gz"),))
    page = Page(render_participant_page(make_page(session)))
    assert "The crops came ready-made" in page.text and "template has its hippocampi" not in page.text


def test_volumes_that_are_not_known_are_not_available(figures):
    volumes = (LabelVolume(1, "a", "#56B4E9", 10, None), LabelVolume(2, "b", "#E69F00", 5, 1.0))
    side = replace(make_side(figures), volumes=volumes)
    page = Page(render_participant_page(make_page(make_session(figures, sides=(side,)))))
    assert "n/a" in page.text and "all labels15n/a" in page.words


def test_two_modalities_are_shown_apart(figures):
    side = make_side(figures)
    side = replace(side, pictures=(*side.pictures, replace(side.pictures[0], modality="T2w")))
    session = make_session(figures, sides=(side,))
    session = replace(session, scans=(*session.scans, replace(session.scans[0], modality="T2w", registration=(AMBER,))))
    page = Page(render_participant_page(make_page(session)))
    assert "registration of the T2w" in page.text and page.text.count("Anterior") == 1
    assert len(page.every("img")) == 2 + 2 * 4


def test_names_are_text_and_never_html_or_shell(figures):
    nasty = SideFiles((f"crop {NASTY}", f"other {NASTY}"), f"seg {NASTY}", f"txt {NASTY}", f"labels/{NASTY}/x.nii.gz")
    judgement = Judgement("red", f"measure {NASTY}", 1.0, f"words {NASTY}")
    side = replace(
        make_side(figures, judgements=(judgement,)),
        files=nasty,
        volumes=(LabelVolume(1, f"label {NASTY}", "#56B4E9", 1, 1.0),),
        model=ModelPart(f"model {NASTY}", f"{NASTY}"),
        review=f"review {NASTY}",
        pictures=(CropPictures(f"modality {NASTY}", {}, Path(f"file {NASTY}")),),
    )
    scan = ScanPart(f"T1w {NASTY}", f"path {NASTY}", (f"warning {NASTY}",), ((f"fact {NASTY}", f"text {NASTY}"),))
    session = SessionPart(f"ses {NASTY}", (scan,), (side,), (f"aside {NASTY}",))
    failure = Failure(f"who {NASTY}", None, f"reason {NASTY}", f"log {NASTY}")
    page = ParticipantPage(
        f"person {NASTY}", f"written {NASTY}", {f"program {NASTY}": f"version {NASTY}"}, (session,), (failure,)
    )
    parsed = Page(render_participant_page(page))
    parsed.assert_it_is_safe()
    names = "path warning fact text aside measure words label model review person written program version reason log"
    for name in (*names.split(), "ses", "T1w", "who"):
        assert f"{name} {NASTY}" in parsed.text, name
    assert " 49 " not in parsed.text
    line = next(line for line in parsed.text.splitlines() if line.startswith("itksnap -g"))
    expected = ["itksnap", "-g", nasty.crops[0], "-o", nasty.crops[1], "-s", nasty.prediction, "-l", nasty.label_file]
    assert shlex.split(line) == expected


def test_the_line_that_looks():
    assert itksnap_line(FILES) == "itksnap -g sub-01/L_T1w.nii.gz -s sub-01/L_dseg.nii.gz -l sub-01/L.txt"
    bare = SideFiles(("a b.nii.gz",), None, None, "labels/x.nii.gz")
    assert itksnap_line(bare) == "itksnap -g 'a b.nii.gz'"
    assert correction_lines(bare) == ("mkdir -p labels", "itksnap -g 'a b.nii.gz'")


def test_correction_lines_copy_once_and_never_over_a_persons_work(tmp_path):
    """Run by a real shell, with a program in the place of ITK-SNAP that says what it was given."""
    files = SideFiles(("$(touch x) crop.nii.gz",), "it's a seg.nii.gz", "l.txt", "labels/sub 01/it's mine.nii.gz")
    (tmp_path / files.prediction).write_text("predicted")
    script = "itksnap() { printf '%s|' \"$@\"; }\n" + "\n".join(correction_lines(files))
    run = [subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)]
    correction = tmp_path / files.correction
    assert correction.read_text() == "predicted"
    correction.write_text("corrected")
    run.append(subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True))
    assert correction.read_text() == "corrected" and not (tmp_path / "x").exists()
    expected = f"-g|{files.crops[0]}|-s|{files.correction}|-l|l.txt|"
    assert [one.stdout for one in run] == [expected, expected]


def test_pages_of_real_size_stay_small(tmp_path):
    """Noise as bad as it gets: head of 1200 x 475 greys, planes and slices for both sides; below 3 MB in files."""
    rng = np.random.default_rng(0)
    figure = new_figure(1200, 475, "black")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(rng.uniform(size=(60, 150)), cmap="gray", interpolation="bilinear")
    path = tmp_path / "head.png"
    path.write_bytes(as_picture(figure, "").png)
    side = replace(make_side(tmp_path), pictures=(CropPictures("T1w", {"axial": path}, path),))
    session = replace(make_session(tmp_path, sides=(side, side)), scans=(ScanPart("T1w", "x", head=path),))
    assert len(render_participant_page(make_page(session))) < 3_000_000


def test_the_page_is_written_whole(figures, tmp_path):
    page = make_page(make_session(figures))
    write_participant_page(tmp_path / "sub-01.html", page)
    assert (tmp_path / "sub-01.html").read_text(encoding="utf-8") == render_participant_page(page)
    assert list(tmp_path.iterdir()) == [tmp_path / "sub-01.html"]


def test_a_saved_picture_is_read_with_its_size(figures):
    picture = read_picture(figures / "head.png", "a head")
    assert isinstance(picture, Picture) and (picture.width, picture.height, picture.alt) == (30, 20, "a head")
    assert read_picture(None, "") is None
