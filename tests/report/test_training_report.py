from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import time
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from bidsapp import config
from bidsapp.errors import BadDataError
from bidsapp.evaluation.scores import summarise
from bidsapp.images.volumes import VolumeError
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.state import ModelState, Segment, TrainedCase
from bidsapp.records import CaseScore, LabelKind, LabelOrigin, LabelTrust, Split
from bidsapp.report.pages import render_page
from bidsapp.report.training_facts import TrainingReport, _export_facts, gather_training_report
from bidsapp.report.training_report import _curves, cases_to_show, render_training_report, write_training_report

NASTY = "<script>alert('x')</script> $(touch /tmp/pwned) \"'&{{ 7 * 7 }}"
WRITTEN = "2026-01-02 03:04"
BY_USER = LabelTrust()


class Page(HTMLParser):
    """What a browser would find: text, and every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.tags = "", []
        self._silent = False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._silent = tag in {"script", "style"}

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        if not self._silent:
            self.text += data

    def every(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def make_model(
    root: Path,
    *,
    dice: dict[str, list[float]],
    kinds: dict[str, LabelKind] | None = None,
    labels: tuple[str, ...] = ("Anterior", "Posterior"),
    iterations: tuple[int, ...] = (100,),
    history: bool = True,
    vouched: LabelTrust = BY_USER,
) -> TrainingReport:
    """Gather the report of a tiny tested model; `dice` gives every case one value per label."""
    layout = ModelLayout(root)
    values = dict(enumerate(labels, start=1))
    for folder in (layout.raw_images("Ts"), layout.raw_labels("Ts"), layout.test, layout.export):
        folder.mkdir(parents=True)
    (layout.raw_dataset / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "T1w"},
                "labels": {"background": 0} | {name: value for value, name in values.items()},
            }
        )
    )
    label = np.zeros((12, 16, 10), np.uint8)
    for value in values:
        label[3:9, 3 + value, 3:7] = value
    noise = np.random.default_rng(0).normal(size=label.shape).astype(np.float32)
    for case in dice:
        for path, array in (
            (layout.raw_images("Ts") / f"{case}_0000.nii.gz", noise),
            (layout.raw_labels("Ts") / f"{case}.nii.gz", label),
            (layout.test_prediction(case), np.roll(label, 1, axis=0)),
        ):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([-0.3, 0.3, 0.6, 1])), path)
    archive = layout.exported_model(iterations[-1])
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("Dataset777_m/hippotune.json", "{}")
    scores = [
        CaseScore(
            f"person {case}",
            case,
            "R",
            name,
            value,
            math.nan if value == 0 else 1.25,
            0.5,
            -12.0,
            -3.0,
            label_from=(kinds or {}).get(case, "imported"),
        )
        for case, row in dice.items()
        for name, value in zip(labels, row, strict=True)
    ]
    ends = (0, *iterations)
    used = config.as_overrides(config.Settings())
    state = ModelState(
        base="scratch",
        labels=values,
        required_labels=(),
        channels=("T1w",),
        split=Split(()),
        segments=tuple(
            Segment(start, end, "testing", used | {"training.iterations": str(end - start)}, vouched=vouched)
            for start, end in pairwise(ends)
        ),
        cases={
            "train-a": TrainedCase("train", "L", "train", "ab" * 32),
            "train-b": TrainedCase("train", "R", "train", "cd" * 32),
        }
        | {
            case: TrainedCase(
                f"person {case}",
                "R",
                "test",
                "ef" * 32,
                origin=LabelOrigin((kinds or {}).get(case, "imported"), 77, None, 0.125),
            )
            for case in dice
        },
        versions={"hippotune": "9.8.7", "torch": "2.6.0"},
    )
    return gather_training_report(
        layout,
        state,
        config.apply_overrides(config.Settings(), {"loss.name": "dice"}, source="test"),
        history=[
            {
                "iteration": iteration,
                "training_loss": -iteration / 100,
                "validation_loss": math.nan,
                "dice": dict.fromkeys(labels, 0.5),
                "learning_rate": 0.01,
            }
            for iteration in ((50, 100) if history else ())
        ],
        source_dice={},
        scores=scores,
        summary=summarise(scores, seed=1),
        archive=archive,
        written=WRITTEN,
    )


THREE_CASES = {"low": [0.1, 0.3], "high": [0.9, 0.7], "between": [0.5, 0.4]}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> TrainingReport:
    return make_model(tmp_path_factory.mktemp("models") / "my model", dice=THREE_CASES)


@pytest.fixture(scope="module")
def html(report) -> str:
    return render_training_report(report)


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_the_headline_says_what_was_trained_on_whom(page):
    text = " ".join(page.text.split())
    assert "my model Trained from scratch to segment Anterior, Posterior in T1w images, on labels vouched" in text
    # mean of .1 .3 .9 .7 .5 .4
    assert "Mean test Dice, all labels0.48395 % interval" in text
    assert "Tested on3 people6 scores" in text
    assert "Training people12 pairs" in text
    assert "Training100iterations in 1 segment" in text


def test_the_score_table_has_the_numbers_of_every_label(html):
    """Anterior: .1 .9 .5, mean .5, SD .4."""
    rows = re.findall(r"<tr>.*?Anterior</th>(.*?)</tr>", html)
    cells = re.findall(r">([^<]*)</td>", rows[0])
    assert cells[:2] == ["0.500", "0.400"] and cells[3:] == ["3", "3", "0"]


def test_best_median_and_worst_are_pictured_in_three_planes(page):
    described = [image["alt"] for image in page.every("img") if "slice" in image["alt"]]
    assert described == [
        f"{case}: {plane} slice with the outlines of the labels"
        for case in ("high", "between", "low")
        for plane in ("sagittal", "coronal", "axial")
    ]


def test_every_picture_is_in_the_page_and_has_the_size_it_says(page):
    images = page.every("img")
    assert len(images) == 9 + 2 + 3
    for image in images:
        head, _, content = image["src"].partition(",")
        assert head == "data:image/png;base64"
        shown = Image.open(io.BytesIO(base64.b64decode(content)))
        assert shown.size == (int(image["width"]), int(image["height"]))
        shown.load()


def test_nothing_is_loaded_from_anywhere(page, html):
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "srcset", "href", "data", "poster", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    assert "url(" not in html and "@import" not in html and "http:" not in html and "https:" not in html


def test_only_our_script_may_run(page, html):
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(meta["content"] for meta in page.every("meta") if "Content-Security-Policy" in meta.values())
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy


def test_text_from_files_is_escaped(tmp_path):
    report = make_model(tmp_path / "m", dice={"case": [0.5, 0.6]}, labels=(NASTY, "Posterior"))
    case = replace(report.cases[0], case=f"case {NASTY}", participant=f"person {NASTY}")
    pairs = tuple(replace(pair, participant=f"pair {NASTY}") for pair in report.pairs)
    html = render_training_report(
        replace(report, cases=(case,), pairs=pairs, model=f"model {NASTY}", channels=(f"channel {NASTY}",))
    )
    page = Page(html)
    assert html.count("<script") == 1 and "alert('x')" not in html
    for name in (f"case {NASTY}", f"person {NASTY}", f"pair {NASTY}", f"model {NASTY}", f"channel {NASTY}"):
        assert name in page.text
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]


def test_commands_are_quoted_and_name_the_dataset(tmp_path, page):
    text = page.text
    assert "nnUNetv2_install_pretrained_model_from_zip 'export/my model-100.zip'\n" in text
    assert "nnUNetv2_predict -d 777 -c 3d_fullres -f 0 -i IMAGES -o PREDICTIONS\n" in text
    nasty = Page(render_training_report(make_model(tmp_path / "$(touch x);'", dice={"a": [1, 1]}))).text
    assert """_from_zip 'export/$(touch x);'"'"'-100.zip'\n""" in nasty


def test_paths_are_relative_to_the_model(report, html):
    assert "export/current.zip" in html and "test/scores.tsv" in html and "nnunet/" in html
    assert str(report.cases[0].image.parents[4]) not in html


def test_settings_that_differ_are_listed_first_and_highlighted(html):
    changed, everything = html.split("<summary>All ")
    assert "<code>loss.name</code></td><td>dice</td>" in changed and "optimizer.momentum" not in changed
    assert '<tr class="changed"><td class="name"><code>loss.name' in everything
    assert '<tr><td class="name"><code>optimizer.momentum' in everything


def test_versions_and_hashes_are_named(report, page):
    assert "9.8.7" in page.text and "2.6.0" in page.text and WRITTEN in page.text
    assert report.export.sha256 in page.text and len(report.export.sha256) == 64
    assert "abababababab" in page.text and "ababababababa" not in page.text


def test_segments_say_what_changed(tmp_path):
    report = make_model(tmp_path / "m", dice=THREE_CASES, iterations=(100, 300))
    assert [(one.start, one.target, one.peak_learning_rate) for one in report.segments] == [
        (0, 100, "0.01"),
        (100, 300, "0.002"),
    ]
    assert report.segments[1].changed == {"training.iterations": ("100", "200")}
    text = Page(render_training_report(report)).text
    assert "100 to 300" in text and "training.iterations 100 → 200" in text and "in 2 segments" in text


def test_without_training_there_are_no_curves(tmp_path):
    page = Page(render_training_report(make_model(tmp_path / "m", dice=THREE_CASES, iterations=(0,), history=False)))
    assert "Nothing was trained here" in page.text
    assert len(page.every("img")) == 9 + 2


@pytest.mark.parametrize(
    ("dice", "roles"),
    [
        ({"a": [0.5]}, [("the only scored case", "a")]),
        ({"a": [0.5], "b": [0.7]}, [("best", "b"), ("median and worst", "a")]),
        ({"a": [0.5], "b": [0.7], "c": [0.6], "d": [0.1]}, [("best", "b"), ("median", "a"), ("worst", "d")]),
        ({"a": [math.nan], "b": [0.7]}, [("the only scored case", "b")]),
        ({"a": [math.nan], "b": [math.nan]}, [("no Dice is defined", "a")]),
    ],
)
def test_cases_are_chosen_by_mean_dice(tmp_path, dice, roles):
    report = make_model(tmp_path / "m", dice=dice, labels=("Hippocampus",))
    assert [(role, case.case) for role, case in cases_to_show(report.cases)] == roles


@pytest.mark.parametrize(("value", "role"), [(0.5, "the only scored case"), (math.nan, "no Dice is defined")])
def test_one_case_is_pictured_once(tmp_path, value, role):
    page = Page(render_training_report(make_model(tmp_path / "m", dice={"a": [value]}, labels=("Hippocampus",))))
    assert role in page.text
    assert len([image for image in page.every("img") if "slice" in image["alt"]]) == 3


def test_undefined_scores_are_not_available_and_counted(tmp_path):
    report = make_model(tmp_path / "m", dice={"a": [math.nan, 0.5], "b": [math.nan, 0.7]})
    text = " ".join(Page(render_training_report(report)).text.split())
    assert "Anteriorn/an/an/a002" in text  # mean, SD, interval, people, scores, undefined
    assert "2 scores, 2 undefined" in text
    assert "nan" not in text.replace("Predicted minus", "")


def test_negative_numbers_have_a_minus_sign(page):
    assert "−12" in page.text and "−3.0" in page.text


def test_many_cases_and_labels_stay_small_and_quick(tmp_path):
    """200 cases of 8 labels: pictures of three cases, and all rows in the table."""
    rng = np.random.default_rng(1)
    labels = tuple(f"Subfield-{number}" for number in range(8))
    report = make_model(
        tmp_path / "m", dice={f"case{n:03d}": list(rng.uniform(0.5, 0.9, 8)) for n in range(200)}, labels=labels
    )
    start = time.process_time()
    html = render_training_report(report)
    assert time.process_time() - start < 5
    page = Page(html)
    assert len([image for image in page.every("img") if "slice" in image["alt"]]) == 9
    assert all(f"case{n:03d}" in page.text for n in range(200))
    assert len(html) < 6_000_000


def test_the_page_is_written_whole(tmp_path, report, html):
    write_training_report(tmp_path / "report.html", report)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_a_missing_image_is_named(report):
    case = replace(report.cases[0], image=Path("gone_0000.nii.gz"))
    with pytest.raises(VolumeError, match=r"gone_0000\.nii\.gz"):
        render_training_report(replace(report, cases=(case,)))


def test_an_archive_that_is_no_model_is_refused(tmp_path):
    layout = ModelLayout(tmp_path)
    layout.export.mkdir()
    (layout.export / "x.zip").write_text("no archive")
    with pytest.raises(BadDataError, match="not an exported model"):
        _export_facts(layout, layout.export / "x.zip")


def test_templates_are_part_of_the_package():
    names = {entry.name for entry in resources.files("bidsapp.report").joinpath("templates").iterdir()}
    assert names == {
        "page.html.j2",
        "page.css",
        "page.js",
        "training.html.j2",
        "macros.html.j2",
        "participant.html.j2",
        "index.html.j2",
        "pairs.html.j2",
        "review.html.j2",
    }


def test_a_name_that_is_missing_is_an_error():
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        render_page("training.html.j2", {})


@pytest.mark.parametrize(
    ("vouched", "said", "command"),
    [
        (BY_USER, "labels vouched for by the user", "group --training-dir TRAINING_DIR --model-dir MODEL_DIR"),
        (
            LabelTrust("review", 12, 2),
            "labels approved through review (12 by 2 raters)",
            "OUTPUT_DIR group --model-dir MODEL_DIR",
        ),
    ],
)
def test_it_says_who_vouched_and_how_to_train_on(tmp_path: Path, vouched: LabelTrust, said: str, command: str) -> None:
    page = Page(render_training_report(make_model(tmp_path / "m", dice=THREE_CASES, vouched=vouched)))
    assert f"on {said}." in page.text
    assert command in page.text
    assert "Without a GPU add -device cpu" in page.text


MIXED: dict[str, LabelKind] = {"a": "as_predicted", "b": "as_predicted", "c": "as_predicted", "low": "corrected",
                               "high": "corrected", "mid": "drawn"}  # fmt: skip


def test_labels_that_a_model_drew_stand_apart(tmp_path):
    """Corrected or drawn: .5, .9, .7; approved as predicted: 1."""
    dice = {"a": [1.0], "b": [1.0], "c": [1.0], "low": [0.5], "high": [0.9], "mid": [0.7]}
    report = make_model(tmp_path / "m", dice=dice, kinds=MIXED, labels=("Hippocampus",))
    page = Page(render_training_report(report))
    text = " ".join(page.text.split())
    assert "Mean test Dice, all labels0.70095 % interval 0.500 to 0.900" in text
    assert "Tested on3 people3 scores" in text
    assert "Consistency with 3 sides of 3 people whose label was approved as predicted: Dice 1.000" in text
    assert "Consistency, no score" in text
    assert "2 corrected, 1 drawn, 3 approved as predicted" in text
    assert [(role, case.case) for role, case in cases_to_show(report.cases)] == [
        ("best", "high"),
        ("median", "mid"),
        ("worst", "low"),
    ]
    assert "corrected7712.50 %n/aefefefefefef" in text  # kind, voxels changed, their share, model, content of a pair
    assert "corrected in less than 1 % of its voxels counts as approved as predicted" in text


def test_too_few_labels_of_people_leave_no_headline(tmp_path):
    dice = {"a": [1.0], "b": [1.0], "c": [1.0], "low": [0.5]}
    text = Page(render_training_report(make_model(tmp_path / "m", dice=dice, kinds=MIXED, labels=("H",)))).text
    text = " ".join(text.split())
    assert "Mean test Dice, all labelstoo few to tell" in text
    assert "Tested on1 person1 score" in text
    assert "Test scores: too few to tell: 1 side of 1 person" in text


def test_only_labels_that_a_model_drew_are_no_score(tmp_path):
    dice = {"a": [1.0], "b": [1.0], "c": [1.0]}
    text = Page(render_training_report(make_model(tmp_path / "m", dice=dice, kinds=MIXED, labels=("H",)))).text
    assert "Mean test Dice, all labelstoo few to tell" in " ".join(text.split())


def test_a_network_that_has_not_learned_says_so(tmp_path):
    dice = {"a": [0.0, 0.0], "b": [0.0, 0.0], "c": [0.0, 0.1]}
    text = Page(render_training_report(make_model(tmp_path / "m", dice=dice, iterations=(60,)))).text
    assert "The network has not learned yet: 60 iterations are few; see the curve." in " ".join(text.split())


def test_curves_of_both_kinds_of_label(report):
    """A training without a label of either kind has no such curve."""
    point = report.history[0]
    stayed = replace(point, dice={}, consistency=dict.fromkeys(point.dice, 0.9))
    assert set(_curves(report)) == {"loss", "dice", "rate"}
    assert set(_curves(replace(report, history=(stayed,)))) == {"loss", "consistency", "rate"}
    assert set(_curves(replace(report, history=(point, stayed)))) == {"loss", "dice", "consistency", "rate"}
