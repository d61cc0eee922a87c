from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bidsapp.corobl.grid import GRIDS
from bidsapp.images.volumes import Volume
from bidsapp.labels.colours import label_colours
from bidsapp.pictures.drawing import SIDE_COLOURS, Picture
from bidsapp.pictures.heads import (
    HIPPOCAMPUS_COLOUR,
    box_in_plane,
    head_picture,
    template_landmarks,
)
from bidsapp.pictures.outlines import coronal_slices_picture, outline_pictures, thumbnail_picture


def pixels(picture: Picture) -> np.ndarray:
    """RGB, shape (rows, columns, 3); the PNG really has the size that is said."""
    image = Image.open(io.BytesIO(picture.png))
    assert image.format == "PNG" and image.size == (picture.width, picture.height)
    return np.asarray(image.convert("RGB")).astype(int)


def places(rgb: np.ndarray, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels in a colour."""
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return np.nonzero(np.abs(rgb - wanted).max(axis=2) < 40)


def landmark(affine: np.ndarray, shape: tuple[int, int, int] = (20, 30, 10)) -> Volume:
    """A box with a hippocampus of 4 voxels in its middle."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(size // 2 - 2, size // 2 + 2) for size in shape)] = True
    return Volume(mask, affine)


def shifted(*origin_mm: float) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 3] = origin_mm
    return affine


def test_a_box_is_cut_at_its_faces():
    """Voxels of 1 mm from 5, 0 and -3: faces half a voxel further out."""
    corners = box_in_plane(landmark(shifted(5, 0, -3)), 2, 0.0)
    assert sorted(map(tuple, corners)) == [(4.5, -0.5, 0), (4.5, 29.5, 0), (24.5, -0.5, 0), (24.5, 29.5, 0)]
    sides_mm = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
    assert sorted(sides_mm) == [20, 20, 30, 30]  # around, not across


def test_a_pitched_box_is_cut_as_a_longer_rectangle():
    """A box of 20 x 20 x 20 mm, turned by 45 degrees about R, is 20 sqrt 2 = 28.28 mm long through its middle."""
    half = np.sqrt(0.5)
    affine = np.array([[1, 0, 0, 0], [0, half, half, 0], [0, -half, half, 0], [0, 0, 0, 1.0]])
    middle = affine @ [9.5, 9.5, 9.5, 1]
    corners = box_in_plane(landmark(affine, (20, 20, 20)), 2, middle[2])
    assert corners.shape == (4, 3)
    assert np.ptp(corners[:, 1]) == pytest.approx(20 / half)
    assert np.ptp(corners[:, 0]) == pytest.approx(20)


def test_a_plane_beside_the_box_cuts_nothing():
    assert box_in_plane(landmark(np.eye(4)), 0, 100.0).shape == (0, 3)


def test_boxes_and_hippocampi_stand_where_they_are_in_the_head():
    """A head of 100 x 132 x 100 mm with 2 mm voxels; left box about x = -25, right box about x = 25."""
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -49, -65, -49
    head = np.random.default_rng(0).uniform(0, 50, (50, 66, 50))
    marks = {"L": landmark(shifted(-34.5, -14.5, -4.5)), "R": landmark(shifted(15.5, -14.5, -4.5))}
    picture = head_picture(Volume(head, affine), marks)
    rgb = pixels(picture)
    assert rgb.shape == (round(1188 / 332 * 132), 1200, 3)
    scale = 1188 / 332
    coronal = 132 * scale + 6  # where the coronal plane begins
    for side, middle_mm in (("L", 25), ("R", 75)):
        rows, columns = places(rgb[:, round(coronal) : round(coronal + 100 * scale)], SIDE_COLOURS[side])
        assert (columns.min() + columns.max()) / 2 == pytest.approx(middle_mm * scale, abs=3)
        assert np.ptp(columns) == pytest.approx(20 * scale, abs=5)
        assert np.ptp(rows) == pytest.approx(10 * scale, abs=5)
    rows, columns = places(rgb[:, : round(132 * scale)], SIDE_COLOURS["L"])
    assert not len(rows)  # the sagittal plane goes through the right one
    rows, columns = places(rgb[:, : round(132 * scale)], HIPPOCAMPUS_COLOUR)
    assert np.ptp(columns) == pytest.approx(4 * scale, abs=4)
    assert (columns.min() + columns.max()) / 2 == pytest.approx((66 + 0.5) * scale, abs=4)


def test_the_head_is_upright():
    """A bright block at the front and top of the head: on the right and high up in the sagittal plane."""
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -49, -49, -49
    head = np.zeros((50, 50, 50))
    head[:, 40:46, 38:44] = 100
    rgb = pixels(head_picture(Volume(head, affine), {"R": landmark(shifted(10, -15, -5))}))
    bright = rgb[:, :390].min(axis=2) > 200
    bright[:, :30] = bright[:, 365:] = bright[:30] = bright[365:] = False
    rows, columns = np.nonzero(bright)
    assert columns.mean() / 396 == pytest.approx(0.86, abs=0.02)
    assert rows.mean() / 396 == pytest.approx(1 - 0.82, abs=0.02)


def test_a_head_along_other_axes_is_refused():
    with pytest.raises(ValueError, match="R, A and S"):
        head_picture(Volume(np.zeros((4, 4, 4)), np.diag([-1.0, 1, 1, 1])), template_landmarks(GRIDS))


@pytest.mark.parametrize("head", [np.zeros((40, 50, 40)), np.full((40, 50, 40), np.nan)], ids=["empty", "nan"])
def test_a_head_without_anything_is_drawn(head):
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = -80, -110, -75
    drawn = pixels(head_picture(Volume(head, affine), template_landmarks(GRIDS)))
    assert len(places(drawn, SIDE_COLOURS["R"])[0]) > 500


def test_the_boxes_of_the_template_are_pitched():
    """Seen from the side a box spans 76.8 cos 36 + 38.4 sin 36 = 84.7 mm from back to front."""
    marks = template_landmarks(GRIDS)
    assert set(marks) == {"L", "R"}
    corners = box_in_plane(marks["R"], 0, 25.0)
    assert np.ptp(corners[:, 1]) == pytest.approx(84.7, abs=0.05)
    assert np.ptp(corners[:, 2]) == pytest.approx(76.8 * 0.5878 + 38.4 * 0.8090, abs=0.05)


def crop_with_label() -> tuple[Volume, np.ndarray]:
    """40 x 60 x 40 voxels of 1 mm as in the head (axis 0 to the left), value 1 in front, 2 behind, at y = 10 to 29."""
    image = np.random.default_rng(0).uniform(0, 60, (40, 60, 40)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    label[18:22, 10:20, 18:22] = 2
    label[18:22, 20:30, 18:22] = 1
    affine = np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] = 20, -30, -20
    return Volume(image, affine), label


def test_slices_run_from_front_to_back():
    """Ten slices over 20 mm, five in a row: value 1 above, value 2 below."""
    image, label = crop_with_label()
    picture = coronal_slices_picture(image, label, (1, 2))
    rgb = pixels(picture)
    assert rgb.shape == (480, 1200, 3)  # cells of 20 x 20 mm: 4 mm of label and 8 mm around
    colours = label_colours((1, 2))
    rows, columns = places(rgb, colours[1])
    assert rows.max() < 240 and columns.min() < 240 and columns.max() > 960
    rows, columns = places(rgb, colours[2])
    assert rows.min() > 240 and columns.min() < 240 and columns.max() > 960


@pytest.mark.parametrize("empty", [None, np.zeros((40, 60, 40), np.uint8)], ids=["none", "zeros"])
def test_without_labels_slices_are_whole(empty):
    image, _ = crop_with_label()
    assert pixels(coronal_slices_picture(image, empty, (1,))).shape == (480, 1200, 3)
    assert pixels(thumbnail_picture(image, empty, (1,))).shape == (160, 160, 3)
    shown = outline_pictures(image, np.zeros(image.data.shape, np.uint8), None, (1,))
    assert [one.width_mm for one in shown] == [60, 40, 40]


@pytest.mark.parametrize(("slices", "shape"), [(1, (240, 240, 3)), (3, (240, 720, 3)), (6, (480, 1200, 3))])
def test_few_slices_are_drawn_once(slices, shape):
    image, label = crop_with_label()
    thin = np.zeros_like(label)
    thin[18:22, 30 : 30 + slices, 18:22] = 1
    assert pixels(coronal_slices_picture(image, thin, (1,))).shape == shape


def test_slices_are_neurological():
    """Bright on the right of the head, which the crop's axis 0 begins with."""
    image, label = crop_with_label()
    image.data[:19] += 500
    rgb = pixels(coronal_slices_picture(image, label, (), count=1))
    assert rgb[150:, 140:].mean() > 200 > 60 > rgb[150:, :100].mean()


def test_a_thumbnail_is_small_and_outlined():
    image, label = crop_with_label()
    picture = thumbnail_picture(image, label, (1, 2))
    assert (picture.width, picture.height) == (160, 160) and len(picture.png) < 15_000
    rows, columns = places(pixels(picture), label_colours((1, 2))[2])  # the lower median of y = 10 to 29 is 19
    assert np.ptp(columns) == pytest.approx(32, abs=4) and np.ptp(rows) == pytest.approx(32, abs=4)


@pytest.mark.parametrize("draw", [coronal_slices_picture, thumbnail_picture])
def test_other_shapes_are_refused(draw):
    with pytest.raises(ValueError, match="differ in shape"):
        draw(Volume(np.zeros((4, 4, 4)), np.eye(4)), np.zeros((4, 4, 5)), (1,))
