import nibabel as nib
import numpy as np
import pytest

from demo.simulate import (
    ANTERIOR_FROM_Y_MM,
    DATA,
    _interpolate,
    load_template,
    simulate_people,
    simulate_side,
)

ML_PER_VOXEL = 0.001


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    simulate_people(folder, 3, 42, spacing_mm=1.0)
    return folder


def voxels(folder, name):
    return np.asanyarray(nib.load(folder / f"{name}.nii.gz").dataobj)


def test_the_folder_is_what_training_expects(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "README",
        "labels.tsv",
        *(
            f"sub-{person:03d}_hemi-{side}_{kind}.nii.gz"
            for person in (1, 2, 3)
            for side in ("Lflip", "R")
            for kind in ("img", "lbl")
        ),
    ]
    assert (folder / "labels.tsv").read_text() == "index\tname\n1\tAnterior\n2\tPosterior\n"
    assert "SIMULATED" in (folder / "README").read_text()


@pytest.mark.parametrize(
    ("hemi", "x_step", "origin"), [("R", -0.3, (41.5, -50.5, -31.5)), ("L", 0.3, (-40.4, -51.1, -32.7))]
)
def test_the_grid_is_that_of_network_space(tmp_path, hemi, x_step, origin):
    sitk = pytest.importorskip("SimpleITK")
    images, label = simulate_side(0, hemi, 42, ["T1w"], 0.3)
    expected = np.diag([x_step, 0.3, 0.3, 1])
    expected[:3, 3] = origin
    for volume in (*images, label):
        assert volume.shape == (128, 256, 128)
        assert np.allclose(volume.affine, expected, atol=1e-5)
        assert volume.header["qform_code"] == volume.header["sform_code"] == 1
    nib.save(label, tmp_path / "label.nii")
    assert len(set(sitk.ReadImage(str(tmp_path / "label.nii")).GetSpacing())) == 1  # no noise between axes


@pytest.mark.parametrize("person", ["sub-001", "sub-002", "sub-003"])
@pytest.mark.parametrize(("side", "sign"), [("R", 1), ("Lflip", -1)])
def test_the_anatomy_is_plausible(folder, person, side, sign):
    label = voxels(folder, f"{person}_hemi-{side}_lbl")
    affine = nib.load(folder / f"{person}_hemi-{side}_lbl.nii.gz").affine
    anterior, posterior = (nib.affines.apply_affine(affine, np.argwhere(label == value)) for value in (1, 2))
    assert set(np.unique(label)) == {0, 1, 2}
    assert anterior[:, 1].mean() > posterior[:, 1].mean() + 15
    assert (sign * np.concatenate([anterior, posterior])[:, 0] > 2).all()  # on the right side of the midline
    assert 2 < np.count_nonzero(label) * ML_PER_VOXEL < 6.5
    assert 0.3 < len(anterior) / np.count_nonzero(label) < 0.6


def test_a_flipped_left_side_looks_like_a_right_one():
    right, left = (load_template(hemi).images["T1w"].ravel() for hemi in "RL")
    unflipped = load_template("L").images["T1w"][::-1].ravel()
    assert np.corrcoef(right, left)[0, 1] > 0.5 > np.corrcoef(right, unflipped)[0, 1]


@pytest.mark.parametrize(("hemi", "fraction"), [("R", 0.464), ("L", 0.441)])
def test_the_plane_at_the_uncal_apex_halves_the_template(hemi, fraction):
    template = load_template(hemi)
    x, y, z = np.nonzero(template.hippocampus > 0.5)
    y_mm = nib.affines.apply_affine(template.affine, np.stack([x, y, z], axis=1))[:, 1]
    assert np.mean(y_mm >= ANTERIOR_FROM_Y_MM) == pytest.approx(fraction, abs=0.001)


def test_people_are_reproducible_and_stay_when_more_are_asked_for(folder, tmp_path):
    simulate_people(tmp_path, 1, 42, spacing_mm=1.0)
    for path in tmp_path.glob("sub-*"):
        assert np.array_equal(nib.load(path).dataobj, nib.load(folder / path.name).dataobj)


def test_everybody_and_every_seed_is_different(folder):
    first = voxels(folder, "sub-001_hemi-R_lbl")
    others = [voxels(folder, "sub-002_hemi-R_lbl"), voxels(folder, "sub-001_hemi-Lflip_lbl")]
    others.append(np.asanyarray(simulate_side(0, "R", 43, ["T1w"], 1.0)[1].dataobj))
    assert not any(np.array_equal(first, other) for other in others)


def test_modalities_are_channels_of_one_anatomy(folder, tmp_path):
    simulate_people(tmp_path, 1, 42, modalities=("T1w", "T2w"), spacing_mm=1.0)
    t1w, t2w = (voxels(tmp_path, f"sub-001_hemi-R_img_{channel}") for channel in ("0000", "0001"))
    fluid = t2w > np.percentile(t2w, 97)
    assert t1w[fluid].mean() < np.percentile(t1w, 30)  # bright in one, dark in the other
    assert np.array_equal(voxels(tmp_path, "sub-001_hemi-R_lbl"), voxels(folder, "sub-001_hemi-R_lbl"))


def test_interpolation_keeps_the_corner_of_the_grid():
    """Voxels of half the size lie a quarter of a voxel either side of the old centres."""
    ramp = np.array([0.0, 1.0], np.float32).reshape(2, 1, 1)
    assert _interpolate(ramp, (4, 2, 2), 0.5, order=1)[:, 0, 1] == pytest.approx([0, 0.25, 0.75, 1])


def test_the_data_that_we_carry_stay_small():
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 3_000_000
    assert "CC BY 4.0" in (DATA / "ATTRIBUTION.md").read_text()
