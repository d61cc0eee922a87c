"""Every family of names that is known from other people's folders, and what must not be taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidsapp.pairs.names import people_kept_apart, plain_participant, read_names, say_grouping

FAMILIES = {
    "HippUnfold's recipes": {
        "hcp_165032_hemiR": ("hcp_165032", "R"),
        "hcp_165032_hemiL": ("hcp_165032", "L"),
        "hcp_100206L": ("hcp_100206", "L"),
        "hcp_100206R": ("hcp_100206", "R"),
    },
    "words behind": {"132118_left": ("132118", "L"), "132118_right": ("132118", "R"), "7_RIGHT": ("7", "R")},
    "words in front": {"left_100206": ("100206", "L"), "Right-100206": ("100206", "R")},
    "words without separators": {"100206left": ("100206", "L"), "right100206": ("100206", "R")},
    "FreeSurfer's": {"lh_100206": ("100206", "L"), "rh.100206": ("100206", "R"), "7-lh": ("7", "L")},
    "letters behind": {"100206_R": ("100206", "R"), "100206_L": ("100206", "L"), "7-l": ("7", "L")},
    "letters in front": {"R_100206": ("100206", "R"), "L_100206": ("100206", "L")},
    "letters before numbers": {"R100206": ("100206", "R"), "L100206": ("100206", "L"), "R7": ("7", "R")},
    "AutoTop's": {
        "T1_sub132118_hemiL": ("sub132118", "L"),
        "T2_sub132118_hemiR": ("sub132118", "R"),
        "T1_sub-100206_hemi-L": ("sub-100206", "L"),
        "T2_sub-100206_hemi-R": ("sub-100206", "R"),
    },
    "one side each": {"1L": ("1", "L"), "2R": ("2", "R"), "3L": ("3", "L")},
    "in the middle": {"P7-left-scan1": ("P7", "L"), "P7_R_T1w": ("P7", "R"), "P8_L_T1w": ("P8", "L")},
    "hemi with a word": {"x1_hemi-left": ("x1", "L"), "x1_hemiright": ("x1", "R"), "x2_hemisphere-L": ("x2", "L")},
    "flipped": {"100206_Lflip": ("100206", "L"), "5_hemi-Lflip": ("5", "L"), "5_hemi-R": ("5", "R")},
    "letters in a BIDS label": {"sub-01L": ("sub-01", "L"), "sub-01R": ("sub-01", "R"), "sub-02R": ("sub-02", "R")},
    "words in words": {
        "1_leftHippo": ("1_Hippo", "L"),
        "1_rightHippo": ("1_Hippo", "R"),
        "2_LeftHippo": ("2_Hippo", "L"),
    },
    "letters before words": {"7_LHipp": ("7_Hipp", "L"), "7_RHipp": ("7_Hipp", "R"), "8_RHipp": ("8_Hipp", "R")},
    "small letters before words": {"lHC_01": ("HC_01", "L"), "rHC_01": ("HC_01", "R")},
    "letters behind words": {
        "hippoL_01": ("hippo_01", "L"),
        "hippoR_01": ("hippo_01", "R"),
        "hippoR_02": ("hippo_02", "R"),
    },
    "OASIS'": {
        "OAS1_0061_MR1": ("OAS1_0061", "n/a"),
        "OAS1_0061_MR2_L": ("OAS1_0061", "L"),
        "OAS1_0061_MR2_R": ("OAS1_0061", "R"),
    },
    "points in time": {"P01_t1": ("P01", "n/a"), "P01_t2": ("P01", "n/a"), "P02_t1": ("P02", "n/a")},
    "months": {"s7_m0_left": ("s7", "L"), "s7_m12_left": ("s7", "L"), "s8_m12_right": ("s8", "R")},
    "dates": {
        "sub1_20200101": ("sub1", "n/a"),
        "sub1_20200630_left": ("sub1", "L"),
        "T1w_sub2_2019-12-31_right": ("sub2", "R"),
        "002_S_0413_2011.05.01": ("002_S_0413", "n/a"),
    },
    "dates of visits": {"7_m0_20200101": ("7", "n/a"), "7_m12_20210101T1030": ("7", "n/a"), "8_m0": ("8", "n/a")},
    "small and capital letters": {
        "Sub01": ("Sub01", "n/a"),
        "sub01_left": ("Sub01", "L"),
        "SUB02_20200101": ("SUB02", "n/a"),
        "sub02_20210101": ("SUB02", "n/a"),
        "Sub-03_hemi-R": ("sub-03", "R"),
        "sub-03_hemi-L": ("sub-03", "L"),
    },
    "letters in both cases": {"P7L": ("P7", "L"), "p7R": ("P7", "R"), "P8R": ("P8", "R")},
    "sessions": {"a_ses2": ("a", "n/a"), "a_ses-1": ("a", "n/a"), "b_baseline": ("b", "n/a"), "b_run-2": ("b", "n/a")},
    "modalities": {"T1w_9": ("9", "n/a"), "t2_9": ("9", "n/a"), "9_FLAIR": ("9", "n/a"), "b500_9": ("9", "n/a")},
    "ours": {
        "sub-01_ses-a_hemi-Lflip": ("sub-01", "L"),
        "sub-01_ses-b_hemi-R": ("sub-01", "R"),
        "sub-01_T1w": ("sub-01", "n/a"),
    },
}

NO_SIDES_NO_SESSIONS = {
    "the Decathlon's": ["hippocampus_003", "hippocampus_243"],
    "one letter for all": ["R001", "R002", "R040"],
    "one letter behind all": ["7_R", "8_R"],
    "two sites, nobody twice": ["R001", "L002", "R003"],
    "initials and names": ["LSmith", "RJones", "LHipp"],
    "names": ["subjectL", "patientR", "McLeft_1", "brightX"],
    "scanners": ["siteA_MR1", "siteA_MR2"],
    "one L among others": ["7L", "8", "9"],
    "words in words": ["chemi-L", "lefty_3", "brightness_4", "bluelh_2", "hemispherectomy_1", "hemiplegia_2"],
    "people called like months": ["siteA_m01", "siteA_m02", "siteB_m01"],
    "many numbers": [f"study1_m{number:02d}" for number in range(1, 9)],
    "many dates": [f"site1_202001{day:02d}" for day in range(1, 9)],
    "people called like dates": ["P_20190101", "P_20190102", "20200101"],
    "numbers that are no dates": ["site1_20201301", "site1_20200132", "site1_18991231", "site1_202001011"],
    "BIDS labels in both cases": ["sub-A1", "sub-a1"],
    "nothing but a word": ["T1", "T2", "m01", "img"],
    "ordinary": ["patient 7", "subject-7", "a.b", "img_x"],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_grouped_by_sense(family):
    names = read_names(FAMILIES[family])
    assert {case: (name.participant, name.hemi) for case, name in names.items()} == FAMILIES[family]
    assert not any(name.problem for name in names.values())
    assert {name.flipped for case, name in names.items() if "flip" in case} <= {True}


@pytest.mark.parametrize("family", NO_SIDES_NO_SESSIONS)
def test_what_only_looks_like_a_side_or_session_stays_a_person(family):
    cases = NO_SIDES_NO_SESSIONS[family]
    names = read_names(cases)
    assert {case: (name.participant, name.hemi) for case, name in names.items()} == {c: (c, "n/a") for c in cases}
    assert say_grouping(names) == ""


def test_an_unknown_side_is_a_problem():
    assert read_names(["x_hemi-B"])["x_hemi-B"].problem.startswith("has hemi-B in its id")


@given(
    st.lists(st.from_regex(r"[ACDG-KM][A-Z]{0,2}[0-9]{1,5}", fullmatch=True), min_size=2, max_size=6, unique=True),
    st.sampled_from(["{}_hemi-{}", "{}_hemi{}", "{}_{}", "{}-{}", "{}{}", "{1}_{0}", "T1_{}_{}", "{}_{}_t1"]),
)
def test_both_sides_of_everybody_are_found(people, pattern):
    cases = {pattern.format(person, side): (person, side) for person in people for side in "LR"}
    names = read_names(cases)
    assert {case: (name.participant, name.hemi) for case, name in names.items()} == cases


def test_the_grouping_is_said_in_one_line():
    cases = [f"hcp_{number}{side}" for number in range(100, 106) for side in "LR"]
    names = read_names(cases)
    assert say_grouping(names) == "12 ids are 6 people: they differ by the side only"
    assert say_grouping(names, example=True).startswith(f"{say_grouping(names)} (hcp_100L, hcp_100R are hcp_100;")
    assert "side and session" in say_grouping(read_names([f"{case}_t{t}" for case in cases for t in (1, 2)]))
    dated = [f"sub{number}_202{year}0101" for number in range(6) for year in (0, 1)]
    assert say_grouping(read_names(dated)) == "12 ids are 6 people: they differ by the session only"
    assert say_grouping(read_names(["Sub01", "sub01", "sub02"])).endswith(
        "are 2 people: they differ by the letter case only"
    )
    assert say_grouping(read_names(["sub-01_hemi-L", "sub-01_hemi-R", "sub-02_ses-1"])) == ""


def test_people_of_a_split_keep_their_names_and_what_that_keeps_apart_is_told():
    known = {"1L", "1R", "2L", "7"}
    names = read_names(["1L", "1R", "2L", "2R", "3L", "3R"], known)
    assert [name.participant for name in names.values()] == ["1L", "1R", "2L", "2L", "3", "3"]
    assert [name.hemi for name in names.values()] == ["L", "R", "L", "R", "L", "R"]
    assert people_kept_apart(names) == [("1L", "1R")]


def test_dates_and_spellings_that_a_split_knows_keep_their_names():
    known = {"sub1_20200101", "sub1_20210101", "Anna", "anna", "P7"}
    cases = ["sub1_20200101", "sub1_20210101", "sub1_20220101", "sub2_20200101", "Anna", "anna", "ANNA", "p7"]
    names = read_names(cases, known)
    assert [names[case].participant for case in cases] == [
        "sub1_20200101", "sub1_20210101", "sub1_20200101", "sub2", "Anna", "anna", "Anna", "P7",
    ]  # fmt: skip
    assert people_kept_apart(names) == [("Anna", "anna"), ("sub1_20200101", "sub1_20210101")]


@pytest.mark.parametrize(
    ("case", "person"), [("hcp_1L", "hcp_1L"), ("p_hemi-R", "p"), ("a_sub-1_x", "sub-1"), ("hemi-L", "hemi-L")]
)
def test_the_names_of_0_1_0_are_remembered(case, person):
    assert plain_participant(case) == person
