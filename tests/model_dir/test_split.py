from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.model_dir.split import (
    SPLIT_NAMES,
    check_locked,
    decide_split,
    pairs_in,
    place_people,
    read_split,
    write_split,
)
from bidsapp.records import Pair, Split, SplitRow


def people(number: int, start: int = 1) -> list[str]:
    return [f"sub-{index:02d}" for index in range(start, start + number)]


def sizes(split: Split, present: list[str] | None = None) -> tuple[int, ...]:
    members = split.people if present is None else set(present)
    return tuple(len(split.people_in(name) & members) for name in SPLIT_NAMES)


def of(**places: str) -> Split:
    """A split from ``s1="train"``."""
    return Split(tuple(SplitRow(person, name) for person, name in places.items()))


# `printf 0:sub-05 | sha256sum` begins 004a, sub-02 64cb, sub-03 687d, sub-04 7a30, sub-01 a06b
ORDER_WITH_SEED_0 = ["sub-05", "sub-02", "sub-03", "sub-04", "sub-01"]


def test_five_people_are_placed_as_by_hand():
    split = place_people(Split(), people(5), seed=0)
    # First the empty parts: of 1 person train lacks .6; of 2, validation and test lack .4 each, and test
    # comes first. Then of 4, train lacks 2.4 - 1; of 5, 3 - 2.
    expected = dict(zip(ORDER_WITH_SEED_0, ["train", "test", "validation", "train", "train"], strict=True))
    assert {row.participant_id: row.split for row in split.rows} == expected
    assert [row.participant_id for row in split.rows] == ORDER_WITH_SEED_0
    assert {row.generation for row in split.rows} == {1}


def test_the_seed_and_nothing_else_decides():
    forward, backward = (place_people(Split(), order, seed=1) for order in (people(20), people(20)[::-1]))
    assert forward == backward
    assert forward != place_people(Split(), people(20), seed=2)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(3, (1, 1, 1)), (4, (2, 1, 1)), (7, (4, 1, 2)), (8, (5, 1, 2)), (10, (6, 2, 2)), (200, (120, 40, 40))],
)
def test_sizes_with_the_default_fractions(number, expected):
    assert sizes(place_people(Split(), people(number), seed=0)) == expected


@pytest.mark.parametrize(
    ("validation_fraction", "test_fraction", "expected"),
    [(0, 0, (8, 1, 1)), (0.1, 0.3, (6, 1, 3)), (0.05, 0.05, (8, 1, 1)), (0.4, 0.5, (1, 4, 5))],
)
def test_sizes_with_other_fractions(validation_fraction, test_fraction, expected):
    split = place_people(
        Split(), people(10), seed=3, validation_fraction=validation_fraction, test_fraction=test_fraction
    )
    assert sizes(split) == expected


@pytest.mark.parametrize(("validation_fraction", "test_fraction"), [(0.5, 0.5), (-0.1, 0.2), (0.2, -0.1), (0.9, 0.2)])
def test_fractions_that_leave_nothing_for_training(validation_fraction, test_fraction):
    with pytest.raises(UsageError, match=f"validation {validation_fraction} and test {test_fraction}"):
        place_people(Split(), people(9), seed=0, validation_fraction=validation_fraction, test_fraction=test_fraction)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_fewer_than_three_people_are_refused(number):
    with pytest.raises(BadDataError, match=f"needs 3 people, not {number}: ") as caught:
        place_people(Split(), people(number), seed=0)
    assert "--participant-pattern" in caught.value.hint


names = st.from_regex(r"sub-[a-z0-9]{1,4}", fullmatch=True)


@given(st.lists(st.sets(names, min_size=3, max_size=12), min_size=1, max_size=6), st.integers(0, 5))
def test_nobody_ever_moves_and_rows_stay_first(waves, seed):
    split = Split()
    for generation, present in enumerate(waves, start=1):
        before = split
        try:
            split = place_people(before, present, seed=seed, generation=generation)
        except BadDataError:  # all that are left belong to two parts
            assert not present - before.people or len(present - before.people) < 3
            continue
        assert split.rows[: len(before.rows)] == before.rows
        assert split.people == before.people | present
        assert {row.generation for row in split.rows[len(before.rows) :]} <= {generation}
        assert min(sizes(split, list(present))) >= 1
        check_locked(before, split)


@given(
    st.sets(names, min_size=3, max_size=60),
    st.floats(0.05, 0.45),
    st.floats(0.05, 0.45),
    st.integers(0, 10**6),
)
def test_fractions_are_kept_to_about_one_person(present, validation_fraction, test_fraction, seed):
    split = place_people(
        Split(), present, seed=seed, validation_fraction=validation_fraction, test_fraction=test_fraction
    )
    wanted = [1 - validation_fraction - test_fraction, validation_fraction, test_fraction]
    for size, fraction in zip(sizes(split), wanted, strict=True):
        assert abs(size - fraction * len(present)) < 2


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(0, 99))
def test_fractions_are_kept_when_people_come_in_small_groups(groups, seed):
    split, number = place_people(Split(), people(5), seed=seed), 5
    for group in groups:
        number += group
        split = place_people(split, people(number), seed=seed)
    for size, fraction in zip(sizes(split), (0.6, 0.2, 0.2), strict=True):
        assert abs(size - fraction * number) <= 1


def test_newcomers_fill_what_leavers_left():
    split = place_people(Split(), people(10), seed=0)
    test_people = split.people_in("test")
    present = [person for person in people(10) if person not in test_people] + people(2, start=11)
    later = place_people(split, present, seed=0, generation=2)
    assert later.people_in("test") == test_people | set(people(2, start=11))
    assert sizes(later, present) == (6, 2, 2)


@pytest.mark.parametrize("name", SPLIT_NAMES)
def test_a_part_with_nobody_present_is_refused(name):
    split = place_people(Split(), people(10), seed=0)
    present = split.people - split.people_in(name)
    with pytest.raises(BadDataError, match=f"Nobody who has pairs is in {name}"):
        place_people(split, present, seed=0)


LOCKED = of(a="train", b="validation", c="test", d="train")


@pytest.mark.parametrize(
    ("current", "change"),
    [
        (of(a="train", b="validation", c="train", d="train"), "c: test -> train"),
        (of(a="train", b="validation", d="train"), "c: test -> no row"),
        (of(a="test", b="validation", c="test", d="train"), "a: train -> test"),
        (of(a="train", b="test", c="test", d="train"), "b: validation -> test"),
        (of(a="validation", b="validation", c="test", d="train"), "a: train -> validation"),
        (of(b="validation", c="test", d="train"), "a: train -> no row"),
        (of(a="test", b="train", c="test", d="train"), "a: train -> test; b: validation -> train"),
    ],
)
def test_a_locked_split_refuses_every_move(current, change):
    with pytest.raises(BadDataError, match="locked") as caught:
        check_locked(LOCKED, current)
    assert change in caught.value.message and "--model-dir" in caught.value.hint


def test_a_locked_split_takes_new_rows_in_any_order():
    check_locked(LOCKED, of(e="test", d="train", c="test", b="validation", a="train", f="train"))


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column 'participant_id' in []"),
        ("participant_id\tset\na\ttrain\n", "line 1: no column 'split' in ['participant_id', 'set']"),
        ("participant_id,split\na,train\n", "line 1: no column 'participant_id' in ['participant_id,split']"),
        ("participant_id\tsplit\na\tval\n", "line 2: split is 'val' for a"),
        ("participant_id\tsplit\na\ttrain\nb\n", "line 3: split is '' for b"),
        ("participant_id\tsplit\n\ttrain\n", "line 2: no participant_id"),
        ("participant_id\tsplit\na\ttrain\n\nb\ttest\na\ttest\n", "line 5: 'a' stands twice"),
        ("participant_id\tsplit\tgeneration\na\ttrain\t0\n", "line 2: generation '0'"),
        ("participant_id\tsplit\tgeneration\na\ttrain\t1.5\n", "line 2: generation '1.5'"),
        ("participant_id\tsplit\na\ttrain\tx\n", "line 2: 'x' has no column"),
        ("participant_id\tsplit\tsplit\na\ttrain\ttest\n", "line 1: column 'split' stands twice"),
    ],
)
def test_a_hand_written_split_is_checked(tmp_path, text, message):
    path = write(tmp_path / "split.tsv", text)
    with pytest.raises(BadDataError) as caught:
        read_split(path)
    assert caught.value.message == f"{path}, {message}" or caught.value.message.startswith(f"{path}, {message} ")


def test_a_split_as_spreadsheets_save_it(tmp_path):
    text = "\ufeffsplit\tparticipant_id\tcomment\t\r\ntrain \tsub-01\t\r\n\r\n test\tsub 02\tgood\t\r\n\t\t\r\n"
    split = read_split(write(tmp_path / "split.tsv", text))
    assert split == Split((SplitRow("sub-01", "train", 1), SplitRow("sub 02", "test", 1)))


def test_a_missing_split_and_bytes_that_are_no_text(tmp_path):
    with pytest.raises(NoInputError, match=r"split\.tsv does not exist"):
        read_split(tmp_path / "split.tsv")
    (tmp_path / "split.tsv").write_bytes(b"participant_id\tsplit\n\xe9\ttrain\n")
    with pytest.raises(BadDataError, match=r"split\.tsv is not UTF-8 text \(byte 21\)"):
        read_split(tmp_path / "split.tsv")


def test_before_the_first_training_a_hand_written_split_counts(tmp_path, caplog):
    path = write(tmp_path / "split.tsv", "participant_id\tsplit\nsub-09\ttest\nsub-01\ttest\nsub-02\tvalidation\n")
    split = decide_split(path, people(5), seed=0)
    assert split.rows[:3] == (
        SplitRow("sub-09", "test"),
        SplitRow("sub-01", "test"),
        SplitRow("sub-02", "validation"),
    )
    assert split.people_in("train") == {"sub-03", "sub-04", "sub-05"}
    assert {row.generation for row in split.rows} == {1}
    assert "rows kept in split.tsv: sub-09" in caplog.text
    assert path.read_text().count("\n") == 4  # deciding writes nothing


@pytest.mark.parametrize(("row", "person"), [("01", "sub-01"), ("sub-P1", "P1")])
def test_people_spelled_otherwise_are_not_taken_for_strangers(tmp_path, row, person):
    path = write(tmp_path / "split.tsv", f"participant_id\tsplit\n{row}\ttest\n")
    with pytest.raises(BadDataError, match=f"names '{row}', and the pairs call this person '{person}'"):
        decide_split(path, [person, "x", "y"], seed=0)


def test_after_training_people_join_with_the_next_generation(tmp_path):
    path = tmp_path / "split.tsv"
    first = decide_split(path, people(5), seed=0)
    write_split(path, first)
    second = decide_split(path, people(8), seed=0, locked=first)
    assert second.rows[:5] == first.rows
    assert [row.generation for row in second.rows[5:]] == [2, 2, 2]


def test_after_training_moves_are_refused_and_a_lost_file_comes_back(tmp_path):
    path = tmp_path / "split.tsv"
    locked = decide_split(path, people(5), seed=0)
    assert decide_split(path, people(5), seed=99, locked=locked) == locked
    write_split(path, locked)
    path.write_text(path.read_text().replace("sub-02\ttest", "sub-02\ttrain"))
    with pytest.raises(BadDataError, match="sub-02: test -> train"):
        decide_split(path, people(5), seed=0, locked=locked)


def test_both_sides_and_all_sessions_of_a_person_go_together():
    pairs = [
        Pair(f"{person}_ses-{session}_hemi-{side}", person, "n/a", (), Path(f"{person}_lbl.nii.gz"))
        for person in people(6)
        for session in (1, 2)
        for side in ("Lflip", "R")
    ]
    split = place_people(Split(), {pair.participant for pair in pairs}, seed=0)
    parts = {name: pairs_in(split, name, pairs) for name in SPLIT_NAMES}
    assert sorted(map(len, parts.values())) == [4, 4, 16]
    seen = [{pair.participant for pair in part} for part in parts.values()]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 6


def parts_of(split: Split, someone: list[str]) -> dict[str, int]:
    return {name: len(split.people_in(name) & set(someone)) for name in SPLIT_NAMES}


@pytest.mark.parametrize(
    ("number", "judges", "expected"),
    [
        (12, 1, (0, 0, 1)),
        (12, 2, (0, 1, 1)),
        (12, 3, (1, 1, 1)),
        (12, 6, (4, 1, 1)),  # of 6, train lacks 3.6 - 3; validation and test 1.2 - 1
        (12, 7, (4, 1, 2)),
        (3, 1, (0, 0, 1)),
        (4, 3, (1, 1, 1)),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_people_whose_labels_can_be_scored_are_spread(number, judges, expected, seed):
    """The others fill up, so that the parts are as large as without."""
    everybody = people(number)
    scored = everybody[-judges:]
    split = place_people(Split(), everybody, seed=seed, judges=scored)
    assert tuple(parts_of(split, scored).values()) == expected
    assert sizes(split) == sizes(place_people(Split(), everybody, seed=seed))


@pytest.mark.parametrize("judges", [None, people(12), []])
def test_where_all_are_alike_nothing_changes(judges):
    assert place_people(Split(), people(12), seed=4, judges=judges) == place_people(Split(), people(12), seed=4)


def test_who_has_a_place_keeps_it_when_their_label_is_corrected():
    before = place_people(Split(), people(10), seed=0)
    trained = sorted(before.people_in("train"))[:4]
    after = place_people(before, people(13), seed=0, judges=[*trained, "sub-11", "sub-12"], generation=2)
    assert after.rows[:10] == before.rows
    newcomers = {row.participant_id: row.split for row in after.rows[10:]}
    assert {newcomers["sub-11"], newcomers["sub-12"]} == {"validation", "test"}


def test_no_part_stays_empty_for_the_judges():
    held_out = of(**{"sub-01": "test", "sub-02": "validation"})
    split = place_people(held_out, people(4), seed=0, judges=["sub-03", "sub-04"])
    assert split.people_in("train")
