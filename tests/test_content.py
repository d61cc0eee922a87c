from __future__ import annotations

from pathlib import Path

import numpy as np

from bidsapp.content import file_sha256, image_sha256, settings_sha256

DATA, AFFINE = np.arange(24).reshape(2, 3, 4), np.diag([0.3, 0.3, 0.3, 1])


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_image_is_known_by_voxels_and_place_not_by_its_number_type() -> None:
    known = image_sha256(DATA, AFFINE)
    assert image_sha256(DATA.astype(np.uint8), AFFINE + 1e-7) == known
    assert image_sha256(np.asfortranarray(DATA.astype(np.float64)), AFFINE) == known
    changed = DATA.copy()
    changed[1, 2, 3] = 0
    assert image_sha256(changed, AFFINE) != known
    assert image_sha256(DATA[::-1], AFFINE) != known
    assert image_sha256(DATA, AFFINE + 0.01) != known
    assert image_sha256(DATA.reshape(3, 2, 4), AFFINE) != known


def test_settings_are_known_in_any_order() -> None:
    assert (
        settings_sha256({"a": 1, "b": [2]})
        == settings_sha256({"b": [2], "a": 1})
        != settings_sha256({"a": 2, "b": [2]})
    )
