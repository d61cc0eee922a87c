"""What we write: the same bytes each time, one geometry in both forms, compressed only when the name says so."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from bidsapp.images.volumes import read_volume
from bidsapp.images.writing import ALIGNED_CODE, new_image, write_image

AFFINE = np.array([[0, 0.1, -2.0, 5], [2, 0, 0, 6], [0, -2, -0.1, 7], [0, 0, 0, 1]])
DATA = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def test_the_same_content_is_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii.gz", new_image(DATA, AFFINE))
    write_image(tmp_path / "other" / "b.nii.gz", new_image(DATA.copy(), AFFINE.copy()))
    packed = (tmp_path / "a.nii.gz").read_bytes()
    assert packed == (tmp_path / "other" / "b.nii.gz").read_bytes()
    write_image(tmp_path / "a.nii", new_image(DATA, AFFINE))
    assert (tmp_path / "a.nii").read_bytes() == gzip.decompress(packed)


def test_both_forms_say_where_the_voxels_are(tmp_path: Path) -> None:
    straight = np.diag([-0.3, 0.3, 0.3, 1.0])
    write_image(tmp_path / "a.nii.gz", new_image(DATA, straight))
    header = nib.load(tmp_path / "a.nii.gz").header
    for matrix, code in (header.get_sform(coded=True), header.get_qform(coded=True)):
        np.testing.assert_allclose(matrix, straight, atol=1e-6)
        assert code == ALIGNED_CODE
    assert header.get_xyzt_units()[0] == "mm"
    volume = read_volume(tmp_path / "a.nii.gz", "pair")
    np.testing.assert_array_equal(volume.data, DATA)
    assert volume.data.dtype == DATA.dtype
