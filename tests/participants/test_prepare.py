"""Headers of real life: whatever way a file says where its voxels are, the crops are those of the head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.bids.facts import read_facts
from bidsapp.corobl.transforms import read_transform
from bidsapp.errors import BadDataError
from bidsapp.layout import OutputLayout
from bidsapp.participants.crops import prepare_session
from bidsapp.participants.job import CropOptions, Job
from bidsapp.records import SIDES, Modality, Scan, SessionScans
from tests.conftest import ROOT

HEAD = ROOT / "demo" / "data" / "colin27" / "sub-colin27" / "anat" / "sub-colin27_T1w.nii.gz"
Change = Callable[[nib.Nifti1Image], nib.Nifti1Image]


def prepare(
    folder: Path, images: dict[Modality, nib.Nifti1Image], *modalities: Modality, suffix: str = ".nii.gz"
) -> Job:
    """Prepare a session whose scans are `images`, without bias correction (for speed)."""
    scans = {}
    folder.mkdir(exist_ok=True)
    for modality, image in images.items():
        path = folder / f"sub-01_{modality}{suffix}"
        nib.save(image, path)
        scans[modality] = Scan(path, modality, f"bids:raw:{path.name}")
    job = Job(
        SessionScans("01", None, scans),
        OutputLayout(folder / "out"),
        folder / "log",
        CropOptions(modalities or ("T1w",), SIDES, bias_correction=False),
    )
    assert prepare_session(job).crops == dict.fromkeys(SIDES, job.unfinished)
    return job


def crop_of(job: Job, side: str, modality: str = "T1w") -> np.ndarray:
    return nib.load(job.unfinished.crop(side, modality)).get_fdata()


def facts_of(job: Job, modality: str = "T1w") -> dict:
    facts = read_facts(job.unfinished.crop("L", modality))
    assert facts is not None
    return facts


@pytest.fixture(scope="module")
def head() -> nib.Nifti1Image:
    return nib.load(HEAD)


@pytest.fixture(scope="module")
def plain(head: nib.Nifti1Image, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return prepare(tmp_path_factory.mktemp("plain"), {"T1w": head})


def scaled_las(head: nib.Nifti1Image) -> nib.Nifti1Image:
    image = nib.as_closest_canonical(head).as_reoriented([[0, -1], [1, 1], [2, 1]])
    stored = nib.Nifti1Image(np.asanyarray(image.dataobj).astype(np.int16), image.affine)
    stored.header.set_slope_inter(2.5, 10)
    return stored


def pir_with_nan_and_a_fourth_dimension(head: nib.Nifti1Image) -> nib.Nifti1Image:
    image = head.as_reoriented([[2, 1], [0, -1], [1, -1]])
    data = image.get_fdata()[..., None]
    data[:2] = np.nan
    return nib.Nifti1Image(data, image.affine)


def oblique_sform_and_another_qform(head: nib.Nifti1Image) -> nib.Nifti1Image:
    angle = np.radians(15)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = nib.Nifti1Image(np.asanyarray(head.dataobj), None)
    image.set_sform(turn @ head.affine, 1)
    image.set_qform(head.affine, 1)
    return image


def thick_uint16(head: nib.Nifti1Image) -> nib.Nifti1Image:
    data = np.asanyarray(head.dataobj)[:, :, : head.shape[2] // 2 * 2].astype(np.uint16)
    affine = head.affine @ np.diag([1, 1, 2, 1])
    affine[:3, 3] += head.affine[:3, 2] / 2
    return nib.Nifti1Image((data[..., ::2] + data[..., 1::2]) * 100, affine)


@pytest.mark.parametrize(
    ("change", "suffix", "least", "warning"),
    [
        (scaled_las, ".nii.gz", 0.99, None),
        (pir_with_nan_and_a_fourth_dimension, ".nii.gz", 0.99, "not numbers"),
        (oblique_sform_and_another_qform, ".nii.gz", 0.97, "disagree by"),
        (thick_uint16, ".nii", 0.9, None),
    ],
)
def test_every_header_leads_to_the_same_crops(
    change: Change, suffix: str, least: float, warning: str | None, head: nib.Nifti1Image, plain: Job, tmp_path: Path
) -> None:
    job = prepare(tmp_path, {"T1w": change(head)}, suffix=suffix)
    for side in SIDES:
        assert np.corrcoef(crop_of(job, side).ravel(), crop_of(plain, side).ravel())[0, 1] > least
    facts = facts_of(job)
    assert facts["registration"]["level"] == "green"
    assert facts["warnings"] == [] if warning is None else warning in " ".join(facts["warnings"])


def test_a_t2w_slab_goes_through_the_t1w(head: nib.Nifti1Image, plain: Job, tmp_path: Path) -> None:
    """A slab across the long axis of the hippocampi, with T2w contrast, moved by 5 mm against the T1w."""
    data = head.get_fdata()
    t2w = np.where(data > 20, 255 - data, 0)[:, 55:115]
    affine = head.affine.copy()
    affine[:3, 3] = nib.affines.apply_affine(head.affine, (0, 55, 0)) + np.array((3, -4, 0))
    job = prepare(tmp_path, {"T1w": head, "T2w": nib.Nifti1Image(t2w.astype(np.int16), affine)}, "T1w", "T2w")
    moved = read_transform(job.unfinished.transform("T2w")) @ np.linalg.inv(
        read_transform(job.unfinished.transform("T1w"))
    )
    np.testing.assert_allclose(moved[:3, 3] - (3, -4, 0), 0, atol=1.5)
    for side in SIDES:
        t1w, other = crop_of(job, side), crop_of(job, side, "T2w")
        np.testing.assert_array_equal(t1w, crop_of(plain, side))
        inside = (t1w > 40) & (other > 0)
        assert np.corrcoef(t1w[inside], other[inside])[0, 1] < -0.8
    measures = {one["measure"] for one in facts_of(job, "T2w")["registration"]["judgements"]}
    assert {"slab_nmi", "slab_peak", "slab_moved_mm"} <= measures


def test_noise_is_flagged_red_and_never_silent(head: nib.Nifti1Image, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(100, 20, (64, 64, 64)).astype(np.float32)
    job = prepare(tmp_path, {"T1w": nib.Nifti1Image(noise, np.diag([3.0, 3, 3, 1]))})
    assert facts_of(job)["registration"]["level"] == "red"


def test_a_scan_of_one_value_is_refused(tmp_path: Path) -> None:
    flat = nib.Nifti1Image(np.full((40, 40, 40), 5, np.uint8), np.diag([4.0, 4, 4, 1]))
    with pytest.raises(BadDataError, match="nothing but the value 5"):
        prepare(tmp_path, {"T1w": flat})
