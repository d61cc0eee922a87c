import json
import math
from dataclasses import replace

import numpy as np
import pytest

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.evaluation.scores import (
    MEASURES,
    read_scores,
    say_of_scores,
    say_unlearned,
    score_case,
    summarise,
    write_scores,
    write_summary,
)
from bidsapp.records import CaseScore, LabelTable

LABELS = LabelTable({1: "Anterior", 2: "Posterior"})
SCORE = CaseScore("sub-01", "sub-01_hemi-R", "R", "Anterior", 0.8, 1.5, 0.5, -12.0, -3.0)
LOST = CaseScore("sub-02", "sub-02_hemi-Lflip", "L", "Anterior", 0.0, math.nan, math.nan, -400.0, -100.0)


def with_dice(*values, people=None, label="Anterior"):
    owners = people or [f"sub-{index:02d}" for index in range(len(values))]
    return [
        replace(SCORE, participant_id=owner, case=f"{owner}_{index}", label=label, dice=value)
        for index, (owner, value) in enumerate(zip(owners, values, strict=True))
    ]


def test_a_case_has_one_score_per_label():
    """Anterior 4 of 6 voxels found, the rest called Posterior; 0.3 x 0.3 x 1 mm."""
    reference = np.array([1, 1, 1, 1, 1, 1, 2, 2, 0, 0]).reshape(10, 1, 1)
    prediction = np.array([1, 1, 1, 1, 2, 2, 2, 2, 0, 0]).reshape(10, 1, 1)
    anterior, posterior = score_case(
        prediction, reference, (0.3, 0.3, 1.0), LABELS, participant="sub-01", case="sub-01_hemi-R", hemi="R"
    )
    assert (anterior.participant_id, anterior.case, anterior.hemi) == ("sub-01", "sub-01_hemi-R", "R")
    assert (anterior.label, posterior.label) == ("Anterior", "Posterior")
    assert anterior.dice == pytest.approx(8 / 10)
    assert posterior.dice == pytest.approx(4 / 6)
    assert anterior.volume_error_mm3 == pytest.approx(-2 * 0.09)
    assert posterior.volume_error_percent == pytest.approx(100.0)
    # The two lost voxels are 0.3 and 0.6 mm from the rest: 4 x 0 one way, 4 x 0, .3, .6 the other.
    assert anterior.assd_mm == pytest.approx(0.9 / 10)
    assert anterior.hd95_mm == pytest.approx(0.3 + 0.75 * 0.3)


def test_a_label_in_neither_map_is_undefined():
    nothing = np.zeros((2, 2, 2), int)
    for score in score_case(nothing, nothing, (1, 1, 1), LABELS, participant="a", case="a", hemi="n/a"):
        assert math.isnan(score.dice) and math.isnan(score.hd95_mm) and score.volume_error_mm3 == 0


def test_scores_tsv_is_as_documented(tmp_path):
    write_scores(tmp_path / "scores.tsv", [replace(SCORE, dice=1 / 3), replace(LOST, label_from="corrected")])
    assert (tmp_path / "scores.tsv").read_text().splitlines() == [
        "participant_id\tcase\themi\tlabel\tdice\thd95_mm\tassd_mm\tvolume_error_mm3\tvolume_error_percent\tlabel_from",
        "sub-01\tsub-01_hemi-R\tR\tAnterior\t0.333333\t1.5\t0.5\t-12.0\t-3.0\timported",
        "sub-02\tsub-02_hemi-Lflip\tL\tAnterior\t0.0\tn/a\tn/a\t-400.0\t-100.0\tcorrected",
    ]


def test_scores_are_read_back(tmp_path):
    score = replace(SCORE, label_from="as_predicted")
    write_scores(tmp_path / "scores.tsv", [score, replace(LOST, hemi="n/a")])
    first, second = read_scores(tmp_path / "scores.tsv")
    assert first == score
    assert math.isnan(second.hd95_mm) and second.hemi == "n/a" and second.volume_error_percent == -100.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\tdice\t", "\tdsc\t", "no column .dice."),
        ("0.8", "good", "'good'"),
        ("\tR\t", "\tright\t", "'right'"),
        ("imported", "guessed", "'guessed'"),
    ],
)
def test_a_broken_table_is_named(tmp_path, old, new, message):
    path = tmp_path / "scores.tsv"
    write_scores(path, [SCORE])
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(BadDataError, match=message) as caught:
        read_scores(path)
    assert str(path) in caught.value.message


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(NoInputError, match=r"scores\.tsv"):
        read_scores(tmp_path / "scores.tsv")


def test_mean_and_spread_per_label_and_over_all():
    summary = summarise([*with_dice(0.6, 0.8), *with_dice(0.2, 0.4, label="Posterior")], seed=1)
    assert (summary.people, summary.cases) == (2, 2)
    assert list(summary.labels) == ["Anterior", "Posterior"]
    assert summary.labels["Posterior"]["dice"].mean == pytest.approx(0.3)
    assert summary.all_labels["dice"].mean == pytest.approx(0.5)
    assert summary.labels["Anterior"]["dice"].sd == pytest.approx(0.1 * math.sqrt(2))


def test_two_people_give_the_interval_from_one_to_the_other():
    """Of all draws 1/4 holds only the first (mean 1), 1/4 only the second (mean 0)."""
    summary = summarise(with_dice(1.0, 1.0, 0.0, people=["a", "a", "b"]), seed=1)
    dice = summary.labels["Anterior"]["dice"]
    assert dice.mean == pytest.approx(2 / 3)
    assert dice.interval_95 == (0.0, 1.0)
    assert (dice.people, dice.scores, dice.undefined) == (2, 3, 0)


def test_the_interval_is_that_of_the_mean():
    values = np.random.default_rng(3).normal(0.8, 0.05, 200)
    dice = summarise(with_dice(*values), seed=1).all_labels["dice"]
    half_width = 1.96 * values.std() / math.sqrt(200)
    assert dice.interval_95 == pytest.approx((values.mean() - half_width, values.mean() + half_width), abs=6e-4)


def test_a_second_side_of_the_same_people_adds_no_certainty():
    people, values = [f"sub-{index}" for index in range(8)], np.linspace(0.5, 0.9, 8)
    one_side = with_dice(*values, people=people)
    both_sides = with_dice(*values, *values, people=people * 2)
    assert summarise(both_sides, 1).all_labels["dice"].interval_95 == pytest.approx(
        summarise(one_side, 1).all_labels["dice"].interval_95
    )


def test_one_person_has_a_mean_and_no_interval():
    dice = summarise(with_dice(0.7, 0.9, people=["a", "a"]), seed=1).all_labels["dice"]
    assert dice.mean == pytest.approx(0.8)
    assert dice.interval_95 is None
    assert (dice.people, dice.scores) == (1, 2)


def test_undefined_scores_are_left_out_and_counted():
    summary = summarise([SCORE, LOST], seed=1).all_labels
    assert summary["dice"].mean == pytest.approx(0.4)
    hd95 = summary["hd95_mm"]
    assert (hd95.mean, hd95.sd, hd95.interval_95) == (1.5, None, None)
    assert (hd95.people, hd95.scores, hd95.undefined) == (1, 1, 1)


def test_the_same_seed_gives_the_same_summary():
    scores = with_dice(0.2, 0.9, 0.7, 0.8)
    assert summarise(scores, seed=4) == summarise(scores, seed=4)


def test_the_order_of_rows_does_not_matter():
    scores = with_dice(0.2, 0.9, 0.7, 0.8)
    assert summarise(scores, 4).all_labels["dice"].interval_95 == pytest.approx(
        summarise(scores[::-1], 4).all_labels["dice"].interval_95
    )


def test_no_scores_are_no_summary():
    with pytest.raises(ValueError, match="no scores"):
        summarise([], seed=1)


def test_summary_json_holds_null_and_never_nan(tmp_path):
    write_summary(tmp_path / "summary.json", summarise([LOST], seed=1), iterations=200)
    content = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert content["labels"]["Anterior"]["hd95_mm"] == {
        "mean": None,
        "sd": None,
        "interval_95": None,
        "people": 0,
        "scores": 0,
        "undefined": 1,
    }
    assert set(content["all_labels"]) == set(MEASURES)


def test_a_table_of_an_older_version_counts_as_imported(tmp_path):
    path = tmp_path / "scores.tsv"
    write_scores(path, [SCORE])
    path.write_text(path.read_text().replace("\tlabel_from", "").replace("\timported", ""))
    assert read_scores(path) == [SCORE]


MIXED = [
    *(replace(one, label_from="corrected") for one in with_dice(0.6, 0.7, 0.8, people=["a", "b", "c"])),
    *(replace(one, label_from="as_predicted") for one in with_dice(1.0, 0.9, people=["a", "d"])),
    *(replace(one, label_from="unknown") for one in with_dice(0.8, people=["e"])),
]


def test_what_a_model_drew_is_no_score():
    """Corrected: (.6 + .7 + .8) / 3; of the others (1 + .9 + .8) / 3."""
    summary = summarise(MIXED, seed=1)
    assert summary.all_labels["dice"].mean == pytest.approx(0.7)
    assert (summary.people, summary.cases) == (3, 3)
    assert summary.consistency.labels["Anterior"]["dice"].mean == pytest.approx(0.9)
    assert (summary.consistency.people, summary.consistency.cases) == (3, 3)
    assert summary.too_few == ""
    assert say_of_scores(summary, 100) == [
        "consistency with 3 sides of 3 people whose label was approved as predicted: Dice 0.900, which is no score"
    ]


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["as_predicted"] * 4, "0 sides of 0 people"),
        (["corrected", "as_predicted", "as_predicted", "as_predicted"], "1 side of 1 person"),
        (["corrected", "drawn", "as_predicted", "unknown"], "2 sides of 2 people"),
        (["corrected", "drawn", "imported", "as_predicted"], ""),
    ],
)
def test_too_few_labels_of_people_give_words_in_place_of_a_headline(tmp_path, kinds, said):
    scores = [replace(one, label_from=kind) for one, kind in zip(with_dice(*[0.9] * 4), kinds, strict=True)]
    summary = summarise(scores, seed=1)
    wanted = f"too few to tell: {said} with a corrected, drawn or imported label, 3 people are needed" if said else ""
    assert summary.too_few == wanted
    write_summary(tmp_path / "summary.json", summary, iterations=100)
    content = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert content["too_few"] == bool(said)
    assert (content["all_labels"]["dice"]["mean"] is None) == ("corrected" not in kinds)
    assert (f"test scores: {wanted}" in content["notes"]) == bool(said)


@pytest.mark.parametrize(
    ("dice", "iterations", "said"),
    [
        ((0.0, 0.0), 60, "has not learned yet: 60 iterations are few; see the curve"),
        ((0.8, 0.1), 1234, "has not learned Posterior yet: 1,234 iterations are few; see the curve"),
        (
            (0.0, 0.0),
            50_000,
            "has not learned yet, after 50,000 iterations: see the curve, the labels and the settings",
        ),
        ((0.8, 0.2), 60, ""),
    ],
)
@pytest.mark.parametrize("kind", ["imported", "as_predicted"])
def test_a_network_that_has_not_learned_is_told_from_one_that_has(dice, iterations, said, kind):
    anterior, posterior = dice
    scores = [*with_dice(anterior, anterior), *with_dice(posterior, posterior, label="Posterior")]
    summary = summarise([replace(one, label_from=kind) for one in scores], seed=1)
    assert say_unlearned(summary, iterations) == said
