"""Each guard on a made label of known volume, place and shape."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bidsapp.corobl.grid import GRIDS, SHAPE
from bidsapp.corobl.template import load_hippocampus
from bidsapp.guards.label_guards import GUARDS, NEVER_ACCEPTED, Finding, GuardLimits, accept, check_label
from bidsapp.guards.pieces import new_holes, new_pieces
from bidsapp.guards.placement import best_mirrored, fit
from bidsapp.records import LabelTable

TABLE = LabelTable({1: "head", 2: "tail", 3: "Cyst"}, frozenset({"head", "tail"}))


@pytest.fixture
def label() -> np.ndarray:
    labels = load_hippocampus("R").astype(np.int32)
    labels[:, :128] *= 2
    return labels


def check(labels: np.ndarray, prediction: np.ndarray | None = None, **changes) -> dict[str, Finding]:
    known = {
        "side": "R",
        "grid": GRIDS["R"],
        "table": TABLE,
        "prediction": prediction,
        "other_side": None,
        "approved_volumes_mm3": {},
        "volume_factor": 1.0,
        "source": "manual",
    }
    return {finding.guard: finding for finding in check_label(labels, **(known | changes))}


def blocking(findings: dict[str, Finding]) -> set[str]:
    return {guard for guard, finding in findings.items() if finding.blocks}


def corrected(labels: np.ndarray) -> np.ndarray:
    """A prediction that differs from a label by one layer of voxels below."""
    prediction = labels.copy()
    prediction[:, :, 1:][(labels[:, :, 1:] > 0) & (labels[:, :, :-1] == 0)] = 0
    return prediction


def test_a_good_correction_passes_with_a_note(label: np.ndarray) -> None:
    findings = check(label, corrected(label))
    assert list(findings) == ["missing"] and not blocking(findings)
    assert findings["missing"].problem == "there is no Cyst"


def test_all_guards_take_less_than_a_few_seconds(label: np.ndarray) -> None:
    start = time.process_time()
    check(label, corrected(label), other_side=label[::-1])
    assert time.process_time() - start < 3


def test_another_shape_is_a_bug_of_the_caller(label: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shape"):
        check(label[1:])


def test_nothing_labelled(label: np.ndarray) -> None:
    assert blocking(check(np.zeros_like(label), label)) == {"empty"}


def test_a_value_that_the_table_does_not_know(label: np.ndarray) -> None:
    wrong = label.copy()
    wrong[wrong == 1] = 9
    findings = check(wrong, label)
    assert {"values", "required"} <= blocking(findings)
    assert f"9 ({np.count_nonzero(label == 1)} voxels)" in findings["values"].problem
    assert findings["values"].voxel is not None
    assert wrong[findings["values"].voxel] == 9
    assert findings["required"].problem == "there is no head, which the label table requires"


@pytest.mark.parametrize("with_prediction", [True, False])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mirror_images_are_found(label: np.ndarray, axis: int, with_prediction: bool) -> None:
    findings = check(np.flip(label, axis), corrected(label) if with_prediction else None)
    assert "flip" in blocking(findings)
    assert ("left and right", "front and back", "up and down")[axis] in findings["flip"].problem


def test_the_other_sides_label_is_found(label: np.ndarray) -> None:
    # a prediction that failed cannot say so: it looks like both
    other = load_hippocampus("L").astype(np.int32)
    findings = check(other, None, other_side=corrected(other))
    assert "flip" in blocking(findings)


@pytest.mark.parametrize("steps", [(10, 0, 0), (0, 10, 0), (0, 0, -10), (6, -6, 6)])
def test_a_shift_is_found_and_measured(label: np.ndarray, steps: tuple[int, int, int]) -> None:
    moved = np.roll(label, steps, (0, 1, 2))
    findings = check(moved, corrected(label))
    assert blocking(findings) == {"shift"}
    assert fit(moved > 0, label > 0, GRIDS["R"].spacing_mm).shift_mm == pytest.approx([-0.3 * step for step in steps])
    words = {(10, 0, 0): "3.0 mm to the left", (0, 10, 0): "3.0 mm forwards", (0, 0, -10): "3.0 mm down"}
    assert words.get(steps, "1.8 mm to the left and 1.8 mm backwards and 1.8 mm up") in findings["shift"].problem


def test_a_shift_without_a_prediction_must_be_gross(label: np.ndarray) -> None:
    assert "shift" not in check(np.roll(label, 10, 1))
    assert "shift" in check(np.roll(label, 60, 1))


def test_exchanged_values(label: np.ndarray) -> None:
    findings = check(np.array([0, 2, 1])[label], corrected(label))
    assert blocking(findings) == {"swapped"}
    assert findings["swapped"].problem.startswith("head lies where the prediction has tail")


def test_volumes_far_from_other_people(label: np.ndarray) -> None:
    # median 100, spread at least 15 %: z of 2,000 mm3 is ln(20) / 0.15 = 20
    volume = np.count_nonzero(label == 1) * 0.027
    people = [volume / 20] * 5
    findings = check(label, None, approved_volumes_mm3={"head": people})
    assert blocking(findings) == {"volume"} and "robust z +20.0" in findings["volume"].problem
    assert "volume" not in check(label, None, approved_volumes_mm3={"head": people[:4]})
    assert "volume" not in check(label, None, approved_volumes_mm3={"head": people}, volume_factor=1 / 20)
    assert "volume" not in check(label, None, approved_volumes_mm3={"head": [volume * 1.5] * 9})


def test_a_volume_far_from_the_predictions(label: np.ndarray) -> None:
    half = label.copy()
    half[:, :, np.median(np.argwhere(label)[:, 2]).astype(int) :] = 0
    assert "volume" in blocking(check(label, half))
    assert "volume" not in check(label, half, limits=GuardLimits(volume_ratio=10, label_ratio=10))


def test_stray_voxels_and_holes(label: np.ndarray) -> None:
    spoiled = label.copy()
    spoiled[5, 5, 5] = 1
    findings = check(spoiled, corrected(label))
    assert blocking(findings) == {"pieces"}
    assert findings["pieces"].problem == "a stray piece of 0.03 mm3 at voxel 5, 5, 5"
    assert findings["pieces"].voxel == (5, 5, 5)
    assert "pieces" not in check(spoiled, spoiled, source="prediction")


def test_pieces_and_holes_by_hand() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[2:9, 2:9, 2:9] = True
    mask[4:6, 5, 5] = False
    mask[14, 5, 5] = True
    (piece,) = new_pieces(mask, None, (0.3, 0.3, 0.3))
    assert piece.voxel == (14, 5, 5)
    assert piece.volume_mm3 == pytest.approx(0.027) and piece.distance_mm == pytest.approx(1.5)
    (hole,) = new_holes(mask, None, (0.3, 0.3, 0.3))
    assert hole.voxel == (4, 5, 5) and hole.volume_mm3 == pytest.approx(0.054)
    assert new_pieces(mask, mask, (0.3, 0.3, 0.3)) == new_holes(mask, mask, (0.3, 0.3, 0.3)) == ()


def test_crumbs_at_the_edge_pass(label: np.ndarray) -> None:
    x, y, z = np.argwhere(label)[0]
    crumbed = label.copy()
    crumbed[x - 2, y, z] = label[x, y, z]
    assert "pieces" not in check(crumbed, label)


def test_marked_as_corrected_and_unchanged(label: np.ndarray) -> None:
    assert blocking(check(label, label)) == {"unchanged"}
    assert not blocking(check(label, label, source="prediction"))


def test_touching_the_border(label: np.ndarray) -> None:
    touching = label.copy()
    touching[:60, 120:124, 60:64] = 1
    findings = check(touching, label)
    assert "border" in blocking(findings) and "lateral" in findings["border"].problem
    assert findings["border"].voxel == (0, 120, 60)
    neighbour = label.copy()
    neighbour[:60, 120:124, 60:64] = 3
    assert "border" not in check(neighbour, label)


def test_best_mirrored_by_hand() -> None:
    ell = np.zeros(SHAPE, bool)
    ell[40:81, 100:121, 40:49] = True
    ell[40:49, 100:181, 40:49] = True
    dice, words = best_mirrored(ell[::-1], ell)
    assert words == "left and right mirrored" and dice == pytest.approx(1, abs=0.1)


def test_accepting() -> None:
    findings = (Finding("volume", "large"), Finding("flip", "mirrored"), Finding("border", "cut"))
    assert accept(findings, []) == findings
    assert accept(findings, [" Volume", "flip", "n/a", ""]) == findings[1:]
    (*_, unknown) = accept(findings, ["borders"])
    assert unknown.guard == "accept" and unknown.blocks and "'borders'" in unknown.problem
    assert "flip" in NEVER_ACCEPTED and set(GUARDS) >= NEVER_ACCEPTED


def test_a_stricter_limit_speaks_earlier(label: np.ndarray) -> None:
    moved = np.roll(label, 4, 1)
    assert "shift" not in check(moved, label)
    assert "shift" in check(moved, label, limits=GuardLimits(shift_mm=0.6, shift_gain=0.01))
