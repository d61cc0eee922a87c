from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidsapp.corobl.grid import GRIDS
from bidsapp.images.orientation import (
    axes_of,
    is_mirrored,
    left_header_is_true,
    mirrored_axes,
    network_axes,
    storage_of_right,
    storage_without_side,
    turn_volume,
)
from bidsapp.images.volumes import Volume
from tests.flip import LEFT_FLIPPED_AFFINE
from tests.training_folder import OBLIQUE

ALL_AXES = ["".join(letters) for order in permutations(("LR", "PA", "IS")) for letters in product(*order)]
LEFT, RIGHT, ASKED = (-1, 0.5, 2), (1, 0.5, 2), None


def head() -> Volume:
    """A right side (rising to the left, to the front and up) stored LAS, with blocks of 1 x 2 x 3 mm."""
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    return Volume(array, np.array([[-1.0, 0, 0, 30], [0, 2, 0, -5], [0, 0, 3, 7], [0, 0, 0, 1]]))


@pytest.mark.parametrize("axes", ALL_AXES)
def test_turning_moves_no_voxel_in_the_head_and_back_is_the_same(axes):
    turned = turn_volume(head(), axes)
    assert axes_of(turned.affine) == axes and turned.grid.shape == turned.data.shape
    # voxel (1, 2, 3) of the stored array has the value 23 and lies at x 29, y -1, z 16
    index = np.argwhere(turned.data == 23)[0]
    np.testing.assert_allclose(turned.affine @ [*index, 1], [29, -1, 16, 1], atol=1e-12)
    back = turn_volume(turned, "LAS")
    np.testing.assert_array_equal(back.data, head().data)
    np.testing.assert_allclose(back.affine, head().affine, atol=1e-12)


@given(st.sampled_from(ALL_AXES), st.floats(-0.7, 0.7), st.floats(-0.7, 0.7))
def test_oblique_volumes_are_turned_without_resampling(axes, first, second):
    rotation = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(first, second, 0))
    volume = Volume(head().data, rotation @ OBLIQUE)
    turned = turn_volume(volume, axes)
    assert axes_of(turned.affine) == axes
    assert sorted(turned.data.ravel()) == list(range(24))
    for index in np.ndindex(2, 3, 4):
        place = np.argwhere(turned.data == volume.data[index])[0]
        where = turned.affine @ [*place, 1]
        np.testing.assert_allclose(where, volume.affine @ [*index, 1], atol=1e-9)


def test_nothing_to_do_gives_back_the_same():
    volume = head()
    assert turn_volume(volume, "LAS") is volume and turn_volume(volume, "") is volume


def test_the_left_crop_as_in_the_head_is_flipped_by_its_grid():
    array = np.zeros(GRIDS["L"].shape, np.uint8)
    array[1, 2, 3] = 1
    turned = turn_volume(Volume(array, GRIDS["L"].affine), "RAS")
    np.testing.assert_allclose(turned.affine, LEFT_FLIPPED_AFFINE, atol=1e-9)
    assert np.argwhere(turned.data).tolist() == [[126, 2, 3]]


@pytest.mark.parametrize(
    ("hemi", "truthful", "axes"), [("R", True, "LAS"), ("L", True, "RAS"), ("L", False, "LAS"), ("n/a", True, "RAS")]
)
def test_the_rule(hemi, truthful, axes):
    assert network_axes(hemi, truthful=truthful) == axes


def test_a_model_that_began_otherwise_keeps_its_axes():
    storage = storage_of_right("RPI", "LAS")
    assert network_axes("R", truthful=True, storage=storage) == "RPI"
    assert network_axes("L", truthful=True, storage=storage) == "LPI"
    assert network_axes("L", truthful=False, storage=storage) == "RPI"
    assert network_axes("n/a", truthful=True, storage=storage) == "LAS"


@pytest.mark.parametrize("axes", ["LAS", "RPI", "ASR", "LIP"])
def test_right_and_left_hippocampi_look_alike_in_network_space(axes):
    """The left side of a symmetric head is its right one mirrored; both may be stored in any axes."""
    right = turn_volume(head(), axes)
    mirror = np.diag([-1.0, 1, 1, 1]) @ head().affine
    left = turn_volume(Volume(head().data, mirror), axes)
    ours = [turn_volume(one, network_axes(hemi, truthful=True)).data for hemi, one in (("R", right), ("L", left))]
    np.testing.assert_array_equal(ours[0], ours[1])
    # flipped in its voxels under the old header, as c3d -flip and NumPy do
    across = next(number for number, letter in enumerate(axes) if letter in "LR")
    kept = Volume(np.flip(left.data, across), left.affine)
    np.testing.assert_array_equal(turn_volume(kept, network_axes("L", truthful=False)).data, ours[0])


@pytest.mark.parametrize(
    ("flipped", "said", "like_right", "left", "on_grid", "true"),
    [
        (False, None, True, True, True, True),  # exact left grid, as in the head
        (False, None, False, True, False, True),  # left of the midline, stored otherwise than right ones
        (False, None, True, True, False, None),  # AutoTop's, or as in the head: who knows
        (False, None, False, False, False, None),  # no coordinates of a head
        (True, None, False, True, False, True),  # our exports
        (True, None, False, False, False, True),
        (True, None, True, True, False, None),  # header kept, or not flipped
        (True, None, True, False, False, False),  # c3d -flip: a mirrored world
        (False, "as-in-head", True, True, False, True),
        (False, "as-in-head", False, False, False, True),
        (False, "flipped", True, True, False, False),  # in the voxels
        (False, "flipped", True, True, True, False),
        (False, "flipped", False, True, False, True),  # by the grid
        (True, "flipped", True, True, False, False),
    ],
)
def test_whether_a_left_header_is_true(flipped, said, like_right, left, on_grid, true):
    told = left_header_is_true(
        named_flipped=flipped, said=said, like_right=like_right, left_of_midline=left, on_left_grid=on_grid
    )
    assert told is true


@pytest.mark.parametrize("axes", ALL_AXES)
def test_mirroring_is_known_from_the_names_of_axes(axes):
    assert is_mirrored(axes, mirrored_axes(axes)) and not is_mirrored(axes, axes)
    assert storage_without_side([axes]) == ("LAS" if is_mirrored(axes, "RAS") else "RAS")


def test_a_tie_goes_to_ras():
    assert storage_without_side(["LAS", "RAS"]) == storage_without_side([]) == "RAS"
