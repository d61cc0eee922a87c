"""Heads in other poses are found, and what is no head is flagged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bidsapp.corobl.coregistration import register_to_t1w
from bidsapp.corobl.grid import TEMPLATE_FROM_COROBL
from bidsapp.corobl.quality import Quality, judge_registration, worst_level
from bidsapp.corobl.registration import Registration, register_to_template
from bidsapp.corobl.search import SearchSpace
from bidsapp.corobl.similarity import normalised_mutual_information, take_samples
from bidsapp.corobl.template import crops_centre, hippocampus_points, load_template
from bidsapp.corobl.transforms import apply
from bidsapp.images.volumes import Volume
from bidsapp.records import SIDES

GOOD = Quality(1.1, 1.1, 2.0, 0.4, (1.1, 1.0, 0.9), 1.0, 1.0)


def distances_mm(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    points = np.concatenate([hippocampus_points(side)[::100] for side in SIDES])
    return np.linalg.norm(apply(found, points) - apply(true, points), axis=1)


def test_a_turned_and_shifted_head_is_found(turned_registration: Registration, turned_affine: np.ndarray) -> None:
    assert distances_mm(turned_registration.native_from_template, turned_affine).max() < 1.0
    assert worst_level(judge_registration(turned_registration.quality)) == "green"
    assert turned_registration.search == 1
    np.testing.assert_allclose(
        turned_registration.native_from_corobl,
        turned_registration.native_from_template @ TEMPLATE_FROM_COROBL,
    )


def test_the_same_head_gives_the_same_bits_and_rigid_keeps_sizes(
    turned_registration: Registration, turned_scan: Volume
) -> None:
    rigid = register_to_template(turned_scan, rigid=True)
    assert rigid.quality == turned_registration.quality
    np.testing.assert_allclose(np.linalg.svd(rigid.native_from_template[:3, :3])[1], 1)
    np.testing.assert_allclose(
        apply(rigid.native_from_template, crops_centre()),
        apply(turned_registration.native_from_template, crops_centre()),
    )


def test_a_stripped_and_cut_brain_is_found(template_scan: Volume) -> None:
    brain = load_template().brain.data * template_scan.data
    cut = Volume(brain[:, 10:80, 8:60], template_scan.affine.copy())
    cut.affine[:3, 3] = (100, 200, -300)
    true = np.eye(4)
    true[:3, 3] = cut.affine[:3, 3] - apply(template_scan.affine, np.array([0.0, 10, 8]))
    registration = register_to_template(cut)
    assert distances_mm(registration.native_from_template, true).max() < 1.0
    assert worst_level(judge_registration(registration.quality)) == "green"


def test_a_slab_is_found_through_the_t1w(
    template_scan: Volume, turned_scan: Volume, turned_registration: Registration, turned_affine: np.ndarray
) -> None:
    affine = np.array([[1.2, 0, 0, -70], [0, 2.4, 0, -50], [0, 0, 1.2, -70], [0, 0, 0, 1]])
    moved = turned_affine.copy()
    moved[:3, 3] += (6, -5, 4)
    slab_from_template = np.linalg.inv(turned_affine) @ moved
    source = np.linalg.inv(template_scan.affine) @ np.linalg.inv(slab_from_template) @ affine
    t1w = ndimage.affine_transform(template_scan.data, source[:3, :3], source[:3, 3], (110, 26, 110), order=1)
    t2w = np.where(t1w > 20, 280 - t1w, 5) + np.random.default_rng(2).normal(0, 4, t1w.shape)
    in_scan = turned_affine @ affine
    registration = register_to_t1w(Volume(t2w.astype(np.float32), in_scan), turned_scan, turned_registration)
    true = turned_affine @ slab_from_template
    assert distances_mm(registration.native_from_template, true).max() < 1.0
    assert registration.quality.coregistration is not None
    assert registration.quality.coregistration.moved_mm == pytest.approx(9, abs=2)
    assert {j.level for j in judge_registration(registration.quality) if j.measure.startswith("slab")} == {"green"}


def noise() -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(70, 80, 70)), 2)
    return (100 + 900 * smooth).astype(np.float32)


def constant() -> np.ndarray:
    return np.full((60, 70, 60), 9, dtype=np.float32)


@pytest.mark.parametrize("data", [noise(), constant()], ids=["noise", "constant"])
def test_what_is_no_head_is_red(data: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bidsapp.corobl.registration.SECOND_SEARCH", SearchSpace((0,), (1,), 1))  # saves time
    registration = register_to_template(Volume(data, np.diag([2.5, 2.5, 2.5, 1])))
    assert worst_level(judge_registration(registration.quality)) == "red"


def test_a_ct_is_red_although_its_bones_fit(template_scan: Volume) -> None:
    brain = load_template().brain.data > 0
    inner = ndimage.binary_erosion(brain, iterations=2)
    units = np.where(template_scan.data > 20, 40.0, -1000.0)
    units[brain & ~inner] = 1200
    units[inner] = 30 + 8 * (template_scan.data[inner] < 130)
    noisy = units + np.random.default_rng(0).normal(0, 8, units.shape)
    registration = register_to_template(Volume(noisy.astype(np.float32), template_scan.affine))
    judgements = {judgement.measure: judgement for judgement in judge_registration(registration.quality)}
    assert judgements["contrast"].level == "red"
    assert judgements["contrast"].value < 0.03


@pytest.mark.parametrize(
    ("change", "measure", "level"),
    [
        ({}, None, "green"),
        ({"nmi_in_crops": 1.0379}, "nmi_in_crops", "red"),
        ({"nmi_in_crops": 1.0449}, "nmi_in_crops", "amber"),
        ({"peak": 1.2}, "peak", "red"),
        ({"contrast": 0.01}, "contrast", "red"),
        ({"sizes": (1.0, 0.9, 0.59)}, "sizes", "red"),
        ({"sizes": (1.35, 1.0, 0.9)}, "sizes", "amber"),
        ({"share_in_field": 0.5}, "share_in_field", "red"),
        ({"thickest_mm": 3.0}, "thickest_mm", "amber"),
        ({"thickest_mm": 5.0}, "thickest_mm", "red"),
    ],
)
def test_every_gate_speaks_for_itself(change: dict[str, float], measure: str | None, level: str) -> None:
    judgements = judge_registration(Quality(**{**GOOD.__dict__, **change}))
    assert worst_level(judgements) == level
    assert [judgement.measure for judgement in judgements if judgement.level != "green"] == (
        [measure] if measure else []
    )


def test_mutual_information_of_an_image_with_itself_and_with_nothing() -> None:
    data = np.repeat(np.arange(4.0, dtype=np.float32), 16).reshape(4, 4, 4)
    volume = Volume(data, np.eye(4))
    samples = take_samples(volume, np.ones((4, 4, 4), dtype=bool), 4)
    assert normalised_mutual_information(samples, volume, np.eye(4)) == pytest.approx(2)
    constant_volume = Volume(np.full((4, 4, 4), 3, np.float32), np.eye(4))
    assert normalised_mutual_information(samples, constant_volume, np.eye(4)) == pytest.approx(1)
