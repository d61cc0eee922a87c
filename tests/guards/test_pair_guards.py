"""The guards at the door of other people's pairs. Pairs are simulated from the atlas, at 1 mm."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from bidsapp.cli import main
from bidsapp.errors import BadDataError
from bidsapp.exchange.loading import LoadedModel, load_model
from bidsapp.guards.label_guards import Finding
from bidsapp.guards.likeness import ORIENTATIONS, relative, turn
from bidsapp.guards.pair_guards import PairFacts, judge_pairs, look_at_pair
from bidsapp.layout import ModelPlaces
from bidsapp.models.shelf import locate_model
from bidsapp.records import LabelTable, Pair
from bidsapp.training.parent_fit import MirrorFit, fit_both_ways, refuse_mirrored, refuse_pairs_mirrored_to_parent
from demo.simulate import simulate_people, simulate_side
from models.msd_pairs import block_files
from models.train_default import place_blocks

TABLE = LabelTable({1: "Anterior", 2: "Posterior"})
FAULTY = "sub-003_hemi-R"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "pairs"
    simulate_people(folder, 6, 7, spacing_mm=1.0)
    return folder


@pytest.fixture
def folder(people: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(people, tmp_path / "pairs"))


def load(folder: Path, case: str) -> tuple[np.ndarray, np.ndarray]:
    image, label = (nibabel.load(folder / f"{case}_{what}.nii.gz") for what in ("img", "lbl"))
    return image.get_fdata(dtype=np.float32), np.asanyarray(label.dataobj).astype(np.int16)


def cases(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix("_lbl.nii.gz") for path in folder.glob("*_lbl.nii.gz"))


def look(image: np.ndarray, labels: np.ndarray, spacing_mm: float = 1.0) -> PairFacts:
    return look_at_pair(labels, image, (spacing_mm,) * 3, TABLE)


@pytest.fixture(scope="module")
def facts(people: Path) -> dict[str, PairFacts]:
    return {case: look(*load(people, case)) for case in cases(people)}


Planted = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def both(change: Callable[[np.ndarray], np.ndarray]) -> Planted:
    return lambda image, labels: (change(image), change(labels))


def label(change: Callable[[np.ndarray], np.ndarray]) -> Planted:
    return lambda image, labels: (image, change(labels))


def moved(*steps: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda labels: ndimage.shift(labels, steps, order=0)


def with_stray(labels: np.ndarray) -> np.ndarray:
    labels = labels.copy()
    labels[1:4, 1:4, 1:4] = 1
    return labels


FAULTS: dict[str, tuple[str, Planted]] = {
    "mirrored left to right": ("flip", both(lambda array: array[::-1])),
    "mirrored front to back": ("flip", both(lambda array: array[:, ::-1])),
    "mirrored up and down": ("flip", both(lambda array: array[:, :, ::-1])),
    "turned around axis 0": ("flip", both(lambda array: array[:, ::-1, ::-1])),
    "turned around axis 2": ("flip", both(lambda array: array[::-1, ::-1])),
    "axes 0 and 2 exchanged": ("flip", both(lambda array: array.transpose(2, 1, 0))),
    "axes 1 and 2 exchanged": ("flip", both(lambda array: array.transpose(0, 2, 1))),
    "all axes exchanged": ("flip", both(lambda array: array.transpose(1, 2, 0))),
    "label mirrored on its image": ("flip", label(lambda array: array[::-1])),
    "image mirrored under its label": ("flip shift", lambda image, labels: (image[::-1], labels)),
    "label moved to the front": ("shift", label(moved(0, 6, 0))),
    "label moved up": ("shift", label(moved(0, 0, 6))),
    "values exchanged": ("swapped", label(lambda array: np.where(array > 0, 3 - array, 0))),
    "merged": ("required", label(lambda array: np.minimum(array, 1))),
    "stray piece": ("pieces", label(with_stray)),
    "cut by the border": ("border", both(lambda array: array[:, :, 22:])),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(people: Path, facts: dict[str, PairFacts], fault: str) -> None:
    guard, plant = FAULTS[fault]
    image, labels = plant(*load(people, FAULTY))
    found = judge_pairs(facts | {FAULTY: look(image, labels)}, TABLE, {}).pairs
    assert {one.guard for one in found[FAULTY]} & set(guard.split())
    assert set(found) == {FAULTY}


def test_good_pairs_are_let_pass(facts: dict[str, PairFacts]) -> None:
    assert judge_pairs(facts, TABLE, {}).pairs == {}


def test_blocks_and_crops_of_other_voxels_are_compared(people: Path, facts: dict[str, PairFacts]) -> None:
    """Half of the pairs on a grid of 0.5 mm, one of them mirrored."""
    fine = {}
    for case in cases(people)[::2]:
        image, labels = load(people, case)
        fine[case] = look(ndimage.zoom(image, 2, order=1), ndimage.zoom(labels, 2, order=0), 0.5)
    assert judge_pairs(facts | fine, TABLE, {}).pairs == {}
    case = next(iter(fine))
    image, labels = load(people, case)
    mirrored = look(ndimage.zoom(image, 2, order=1)[::-1], ndimage.zoom(labels, 2, order=0)[::-1], 0.5)
    found = judge_pairs(facts | fine | {case: mirrored}, TABLE, {}).pairs
    assert [one.guard for one in found[case]] == ["flip"]


def test_a_label_that_some_pairs_do_not_annotate_is_not_missed(people: Path, facts: dict[str, PairFacts]) -> None:
    image, labels = load(people, FAULTY)
    merged = facts | {FAULTY: look(image, np.minimum(labels, 1))}
    found = judge_pairs(merged, TABLE, {FAULTY: frozenset({"Anterior"})}).pairs
    assert not any(one.guard == "required" for one in found.get(FAULTY, ()))


def test_few_pairs_are_held_against_the_template_alone(people: Path, facts: dict[str, PairFacts]) -> None:
    image, labels = load(people, FAULTY)
    three = dict(list(facts.items())[:3])
    said = judge_pairs(three | {FAULTY: look(image[::-1], labels[::-1])}, TABLE, {})
    assert [one.guard for one in said.pairs[FAULTY]] == ["flip"]
    assert "too few to compare with each other" in said.notes[0]


def test_an_unusual_shape_is_no_flip_where_its_image_lies_as_the_others_do(facts: dict[str, PairFacts]) -> None:
    """This one's front looks like a back; mirrored, its image tells."""
    (image,), labels = simulate_side(21, "L", 42, ("T1w",), 1.0)
    arrays = image.get_fdata(dtype=np.float32), np.asanyarray(labels.dataobj).astype(np.int16)
    assert "unusual" not in judge_pairs(facts | {"unusual": look(*arrays)}, TABLE, {}).pairs
    found = judge_pairs(facts | {"unusual": look(*(array[::-1] for array in arrays))}, TABLE, {}).pairs
    assert [one.guard for one in found["unusual"]] == ["flip"]


def test_five_pairs_are_held_against_each_other(people: Path, facts: dict[str, PairFacts]) -> None:
    five = dict(list(facts.items())[:5])
    assert judge_pairs(five, TABLE, {}).pairs == {}
    case = next(iter(five))
    image, labels = load(people, case)
    found = judge_pairs(five | {case: look(image, np.where(labels > 0, 3 - labels, 0))}, TABLE, {}).pairs
    assert [one.guard for one in found[case]] == ["swapped"]


def test_specks_and_other_shapes_say_nothing() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(20, 20, 20))
    speck, ball = np.zeros((2, 20, 20, 20), np.int16)
    speck[3, 4, 5] = 1
    ball[5:14, 5:14, 5:14] = 1
    for labels in (speck, ball):
        facts = {f"sub-{number}": look(image, labels) for number in range(9)}
        assert judge_pairs(facts, LabelTable({1: "thing"}), {}).pairs == {}


def test_a_folder_that_is_mirrored_is_told_from_the_template(people: Path) -> None:
    mirrored = {case: look(*(array[::-1] for array in load(people, case))) for case in cases(people)}
    said = judge_pairs(mirrored, TABLE, {})
    assert said.usual == ((0, 1, 2), (-1, 1, 1))
    assert "12 of 12 labels fit the template's hippocampus better with left and right mirrored" in said.turned
    assert said.pairs == {}


def test_orientations_are_undone_by_their_relatives() -> None:
    array = np.arange(27).reshape(3, 3, 3)
    for orientation in ORIENTATIONS:
        for usual in ORIENTATIONS[::7]:
            assert np.array_equal(turn(turn(array, relative(orientation, usual)), usual), turn(array, orientation))


def write(folder: Path, case: str, image: np.ndarray, labels: np.ndarray) -> None:
    affine = nibabel.load(folder / f"{case}_img.nii.gz").affine
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(image), affine), folder / f"{case}_img.nii.gz")
    nibabel.save(
        nibabel.Nifti1Image(np.ascontiguousarray(labels.astype(np.uint8)), affine), folder / f"{case}_lbl.nii.gz"
    )


def accept(table: Path, case: str, word: str) -> None:
    lines = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    column = lines[0].index("accept")
    for cells in lines:
        if cells[0] == case:
            cells[column] = word
    table.write_text("".join("\t".join(cells) + "\n" for cells in lines), encoding="utf-8")


def review(folder: Path, out: Path, *options: object) -> int:
    return main([str(folder), str(out), "review", "--training-dir", str(folder), *map(str, options)])


def test_review_shows_a_folder_and_names_what_is_wrong(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    image, labels = load(folder, FAULTY)
    write(folder, FAULTY, image, np.where(labels > 0, 3 - labels, 0))
    truncated = folder / "sub-005_hemi-R_img.nii.gz"
    truncated.write_bytes(truncated.read_bytes()[:3000])
    assert review(folder, out) == 1
    said = capsys.readouterr()
    assert "2 of 12 pairs would be refused" in said.out
    assert "Anterior lies where the others have Posterior" in said.out
    page = (out / "pairs.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 11
    places = [page.index(f">{case}<br>") for case in (FAULTY, "sub-001_hemi-R")]
    assert places[0] < places[1]
    assert "swapped" in (out / "pairs.tsv").read_text(encoding="utf-8")


def test_a_person_may_accept_what_a_guard_says_of_these_voxels_only(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    image, labels = load(folder, FAULTY)
    swapped = np.where(labels > 0, 3 - labels, 0)
    write(folder, FAULTY, image, swapped)
    assert review(folder, out) == 1
    accept(out / "pairs.tsv", FAULTY, "swapped")
    assert review(folder, out) == 0
    assert "accepted: swapped" in (out / "pairs.html").read_text(encoding="utf-8")
    write(folder, FAULTY, image + 1, swapped)
    assert review(folder, out) == 1


def test_a_flip_is_never_accepted(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    write(folder, FAULTY, *(array[::-1] for array in load(folder, FAULTY)))
    assert review(folder, out) == 1
    accept(out / "pairs.tsv", FAULTY, "flip")
    assert review(folder, out) == 1
    assert "left and right mirrored" in capsys.readouterr().out


def group(folder: Path, out: Path, *options: object) -> int:
    words = (folder, out, "group", "--training-dir", folder, "--preset", "tiny", "--dry-run", *options)
    return main([str(word) for word in words])


def test_group_refuses_or_leaves_out_what_review_names(folder: Path, tmp_path: Path, capsys, caplog) -> None:
    write(folder, FAULTY, *(array[::-1] for array in load(folder, FAULTY)))
    assert group(folder, tmp_path / "out") == 65
    said = capsys.readouterr().out
    assert f"{FAULTY}  {FAULTY}_lbl.nii.gz  with left and right mirrored" in said
    assert group(folder, tmp_path / "out", "--skip-bad-pairs") == 0
    assert "Pairs left out: 1" in capsys.readouterr().out


def test_a_folder_of_right_sides_that_are_mirrored_is_refused_with_the_way_out(
    folder: Path, tmp_path: Path, capsys
) -> None:
    for case in cases(folder):
        write(folder, case, *(array[::-1] for array in load(folder, case)))
    assert group(folder, tmp_path / "out") == 65
    said = capsys.readouterr().out
    assert "12 of 12 labels fit the template's hippocampus better with left and right mirrored" in said
    assert "--left-is flipped" in said


def test_blocks_of_unknown_sides_are_mirrored_where_all_need_it(folder: Path, tmp_path: Path, capsys) -> None:
    for number, case in enumerate(cases(folder)):
        image, labels = (array[::-1] for array in load(folder, case))
        for what in ("img", "lbl"):
            (folder / f"{case}_{what}.nii.gz").unlink()
        for what, array in (("img", image), ("lbl", labels.astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array), np.eye(4)), folder / f"b{number}_{what}.nii")
    assert review(folder, tmp_path / "out") == 0
    table = (tmp_path / "out" / "pairs.tsv").read_text(encoding="utf-8").splitlines()
    turned_to = table[0].split("\t").index("turned_to")
    assert {line.split("\t")[turned_to] for line in table[1:]} == {"LAS"}


def test_left_sides_tell_by_their_shapes_whether_their_headers_are_true(folder: Path, tmp_path: Path) -> None:
    """Flipped in their voxels, under headers that stayed as those of right sides."""
    for case in [case for case in cases(folder) if "Lflip" in case]:
        other = case.replace("hemi-Lflip", "hemi-R")
        affine = nibabel.load(folder / f"{other}_img.nii.gz").affine
        image, labels = load(folder, case)
        for what, array in (("img", image), ("lbl", labels.astype(np.uint8))):
            (folder / f"{case}_{what}.nii.gz").unlink()
            name = f"{case.replace('Lflip', 'L')}_{what}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array), affine), folder / name)
    assert review(folder, tmp_path / "out") == 0
    lines = [line.split("\t") for line in (tmp_path / "out" / "pairs.tsv").read_text(encoding="utf-8").splitlines()]
    turned_to = lines[0].index("turned_to")
    assert {line[turned_to] for line in lines[1:]} == {"LAS"}


@pytest.mark.parametrize(("make", "said"), [("missing", "does not exist"), ("empty", "no training pairs")])
def test_review_of_no_pairs_says_so(tmp_path: Path, capsys, make: str, said: str) -> None:
    folder = tmp_path / "folder"
    if make == "empty":
        folder.mkdir()
    code = main([str(tmp_path), str(tmp_path / "out"), "review", "--training-dir", str(folder)])
    assert code == 66
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--fix-header", "--derivatives"])
def test_review_of_pairs_refuses_flags_of_crops(folder: Path, tmp_path: Path, capsys, flag: str) -> None:
    words = [flag, folder] if flag == "--derivatives" else [flag]
    assert review(folder, tmp_path / "out", *words) == 2
    assert "--training-dir" in capsys.readouterr().out


class _KnowsOneSide:
    """Segments what is brightest where the low end of axis 0 is dark: a model that saw one side only."""

    labels = {1: "hippocampus"}  # noqa: RUF012

    def predict_array(self, images: np.ndarray, spacing_mm: object) -> np.ndarray:
        half = images.shape[1] // 2
        return (images[0] > 1).astype(np.uint8) * (images[0, :half].mean() < images[0, half:].mean())


@pytest.mark.parametrize("reverse", [False, True])
def test_the_model_before_tells_mirrored_pairs(tmp_path: Path, reverse: bool) -> None:
    pairs = []
    for number in range(4):
        labels = np.zeros((20, 20, 20), np.uint8)
        labels[8:12, 8:12, 8:12] = 1
        image = np.full((20, 20, 20), -1.0)
        image[12:] = 0.5
        image[labels > 0] = 2
        arrays = (image[::-1], labels[::-1]) if reverse else (image, labels)
        paths = [tmp_path / f"sub-{number}_{what}.nii.gz" for what in ("img", "lbl")]
        for path, array in zip(paths, arrays, strict=True):
            nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array), np.eye(4)), path)
        pairs.append(Pair(f"sub-{number}", f"sub-{number}", "R", (paths[0],), paths[1]))
    fit = fit_both_ways(_KnowsOneSide(), pairs, [0], {1: "hippocampus"})
    assert fit == MirrorFit((0.0,) * 4, (1.0,) * 4) if reverse else MirrorFit((1.0,) * 4, (0.0,) * 4)
    if reverse:
        with pytest.raises(BadDataError, match=r"4 of 4 pairs fit it better mirrored: Dice 1.00 against 0.00"):
            refuse_mirrored(fit, "R", "parent.zip")
    else:
        refuse_mirrored(fit, "R", "parent.zip")


def test_a_model_before_that_cannot_tell_says_nothing() -> None:
    refuse_mirrored(MirrorFit((0.02, 0.0, 0.1), (0.3, 0.35, 0.3)), "R", "poor.zip")
    refuse_mirrored(MirrorFit((0.88, 0.9, 0.87), (0.9, 0.91, 0.89)), "R", "trained-with-mirroring.zip")
    refuse_mirrored(MirrorFit((0.2, 0.9), (0.9, 0.95)), "R", "two-pairs.zip")


@pytest.fixture(scope="module")
def built_in(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(locate_model("default", ModelPlaces(None, tmp_path_factory.mktemp("none"))))


def test_the_built_in_model_tells_how_real_pairs_lie_that_it_never_saw(
    built_in: LoadedModel, shared_data: Path, caplog
) -> None:
    """Of blocks of unknown side, stored in network space."""
    caplog.set_level(logging.INFO)
    msd = shared_data / "msd_hippocampus"
    files = {f"sub-{person}": path for person, path in block_files(msd).items()}
    held_out = sorted(place_blocks(list(files)).people_in("test"))[:5]
    pairs = [Pair(person, person, "n/a", (files[person],), msd / "labelsTr" / files[person].name, axes="RAS")
             for person in held_out]  # fmt: skip
    options = {"names": built_in.labels, "channels": ("T1w",), "device": "cpu", "cores": 1}
    refuse_pairs_mirrored_to_parent(built_in, pairs, **options)
    assert "segments 5 pairs without a side" in caplog.text
    with pytest.raises(BadDataError, match=r"5 of 5 pairs fit it better mirrored: Dice 0") as raised:
        refuse_pairs_mirrored_to_parent(built_in, [replace(pair, axes="LAS") for pair in pairs], **options)
    assert "column hemi" in raised.value.hint
    refuse_pairs_mirrored_to_parent(built_in, pairs, **options | {"channels": ("T2w",)})  # it never saw such images


def test_a_folder_that_is_mirrored_to_the_model_before_is_refused_in_the_dry_run(
    folder: Path, tmp_path: Path, capsys
) -> None:
    """Where the front of the hippocampus alone is drawn, the template cannot tell."""
    (folder / "labels.tsv").write_text("index\tname\n1\tAnterior\n")
    for path in [path for path in folder.glob("sub-*") if path.name > "sub-004"]:
        path.unlink()
    for case in cases(folder):
        image, labels = load(folder, case)
        write(folder, case, image[::-1], (labels == 1)[::-1])
    words = ("--model", "default", "--model-dir", tmp_path / "model", "--device", "cpu", "--nprocs", 1)
    assert group(folder, tmp_path / "out", *words) == 65
    said = capsys.readouterr().out
    assert "the left sides are mirrored to what" in said and "give --left-is flipped" in said
    assert not (tmp_path / "model").exists()


def test_findings_of_the_border_name_it() -> None:
    labels = np.zeros((20, 30, 20), np.int16)
    labels[:6, 10:20, 5:12] = 1
    said = look(np.zeros(labels.shape), labels).alone
    assert said == (Finding("border", "its label ends at the lateral border of the image: the hippocampus is cut"),)
