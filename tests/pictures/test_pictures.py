from __future__ import annotations

import base64
import io

import nibabel
import numpy as np
import pytest
from PIL import Image

from bidsapp.images.volumes import Volume
from bidsapp.labels.colours import LABEL_COLOURS, label_colours
from bidsapp.pictures.drawing import Picture
from bidsapp.pictures.outlines import (
    DARK,
    LIGHT,
    Curve,
    Dot,
    curve_picture,
    dots_picture,
    outline_pictures,
)

AXIS_ORDERS = ["RAS", "LPS", "SPR", "AIL"]


def pixels(picture: Picture) -> np.ndarray:
    """RGB, shape (rows, columns, 3); the PNG really has the size that is said."""
    image = Image.open(io.BytesIO(picture.png))
    assert image.format == "PNG" and image.size == (picture.width, picture.height)
    return np.asarray(image.convert("RGB")).astype(int)


def in_axis_order(ras: np.ndarray, spacing_mm: tuple[float, float, float], codes: str) -> tuple[np.ndarray, np.ndarray]:
    """The same head stored with other axes: array and affine."""
    affine = np.diag([*spacing_mm, 1.0])
    image = nibabel.Nifti1Image(ras, affine)
    transform = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(affine), nibabel.orientations.axcodes2ornt(tuple(codes))
    )
    turned = image.as_reoriented(transform)
    assert nibabel.aff2axcodes(turned.affine) == tuple(codes)
    return np.asarray(turned.dataobj), turned.affine


def place_of(marked: np.ndarray) -> tuple[float, float]:
    """Centre (row, column) of a marked region, as fractions of the picture."""
    rows, columns = np.nonzero(marked)
    return float(rows.mean() / marked.shape[0]), float(columns.mean() / marked.shape[1])


@pytest.mark.parametrize("codes", AXIS_ORDERS)
@pytest.mark.parametrize(
    ("plane", "row", "column"),
    [("sagittal", 2.5 / 16, 20 / 24), ("coronal", 2.5 / 16, 16 / 20), ("axial", 4 / 24, 16 / 20)],
)
def test_every_axis_order_shows_the_head_upright_and_neurological(codes, plane, row, column):
    """A bright block at the right, front and top of the head: on the right and high up in every picture.

    Its centre is voxel edge (16, 20, 13.5) of 20 x 24 x 16; the label is all of its slices, in that plane.
    """
    block = (slice(14, 18), slice(18, 22), slice(12, 15))
    across = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    head, label = np.zeros((2, 20, 24, 16), np.float32)
    head[block] = 100.0
    label[tuple(part if axis == across else slice(None) for axis, part in enumerate(block))] = 1
    (image, affine), (reference, _) = (in_axis_order(one, (1.0, 1.0, 1.0), codes) for one in (head, label))
    shown = {one.plane: one.picture for one in outline_pictures(Volume(image, affine), reference, None, ())}
    bright = pixels(shown[plane]).min(axis=2) > 128
    bright[letters_and_scale_bar(bright.shape)] = False
    assert place_of(bright) == pytest.approx((row, column), abs=0.02)


def letters_and_scale_bar(shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.indices(shape)
    y, x = rows / shape[0], columns / shape[1]
    return (x < 0.06) | (x > 0.94) | (y < 0.06) | (y > 0.93)


def test_a_label_is_outlined_where_it_lies_and_in_its_colour():
    """Value 1 lies in the left half of the head, value 2 in the right half."""
    label = np.zeros((20, 10, 10), np.uint8)
    label[2:6, 3:7, 3:7] = 1
    label[14:18, 3:7, 3:7] = 2
    shown = {one.plane: one for one in outline_pictures(Volume(np.zeros(label.shape), np.eye(4)), label, None, (1, 2))}
    rgb = pixels(shown["coronal"].picture)
    for value, left, right in ((1, 2, 6), (2, 14, 18)):
        coloured = np.abs(rgb - _rgb(label_colours((1, 2))[value])).max(axis=2) < 30
        columns = np.nonzero(coloured.any(axis=0))[0] / rgb.shape[1] * 20
        assert columns.min() == pytest.approx(left, abs=0.15)
        assert columns.max() == pytest.approx(right, abs=0.15)


def test_a_dashed_prediction_shows_even_where_it_coincides_with_the_reference():
    label = np.zeros((12, 12, 12), np.uint8)
    label[4:8, 4:8, 4:8] = 1
    image = Volume(50.0 + np.indices(label.shape)[0], np.eye(4))
    alone, both = (pixels(outline_pictures(image, label, prediction, (1,))[2].picture) for prediction in (None, label))
    differs = np.abs(alone - both).max(axis=2) > 60
    assert differs.sum() > 200


def test_pixels_are_square_in_mm():
    """10 x 20 x 10 voxels of 1 x 0.5 x 3 mm are 10 x 10 x 30 mm; the longest edge has 640 pixels."""
    label = np.ones((10, 20, 10), np.uint8)
    shown = outline_pictures(Volume(np.zeros(label.shape), np.diag([1, 0.5, 3, 1.0])), label, None, (1,))
    assert [(one.plane, one.picture.width, one.picture.height) for one in shown] == [
        ("sagittal", 213, 640),
        ("coronal", 213, 640),
        ("axial", 213, 213),
    ]
    assert [one.width_mm for one in shown] == [10, 10, 10]
    for one in shown:
        pixels(one.picture)


def test_pictures_show_the_labels_with_8_mm_around_them():
    """4 voxels of 2 mm and 4 more on each side: 12 x 2 mm of a grid of 40."""
    label = np.zeros((40, 40, 40), np.uint8)
    label[18:22, 18:22, 18:22] = 1
    image = Volume(label, np.diag([2, 2, 2, 1.0]))
    assert {one.width_mm for one in outline_pictures(image, label, label, (1,))} == {24.0}


def test_empty_maps_and_images_without_numbers_are_drawn():
    image = np.full((6, 6, 6), np.nan)
    nothing = np.zeros(image.shape, np.uint8)
    assert len(outline_pictures(Volume(image, np.eye(4)), nothing, nothing, (1,))) == 3


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        outline_pictures(Volume(np.zeros((2, 2, 2)), np.eye(4)), np.zeros((2, 2, 3)), None, (1,))


def test_eight_labels_have_eight_colours():
    colours = label_colours(range(1, 10))
    assert len(set(list(colours.values())[:8])) == 8
    assert colours[9] == colours[1] == LABEL_COLOURS[0]


def test_a_data_uri_is_the_png():
    picture = Picture(b"\x89PNG", 1, 1, "")
    head, _, content = picture.data_uri.partition(",")
    assert head == "data:image/png;base64" and base64.b64decode(content) == b"\x89PNG"


def test_curves_rise_where_values_rise():
    """Iterations 0 to 100, values 0 to 1: low on the left, high on the right."""
    curve = Curve((0, 100), (0.0, 1.0), "#ff0000")
    picture = curve_picture([curve], theme=LIGHT, boundaries=(0, 100), alt="", y_limits=(0, 1))
    assert (picture.width, picture.height) == (640, 300)
    red = pixels(picture)
    rows, columns = np.nonzero((red[..., 0] > 200) & (red[..., 1] < 60) & (red[..., 2] < 60))
    assert rows[columns < 120].mean() > 200 and rows[columns > 560].mean() < 80


def test_the_second_segment_is_shaded():
    curve = Curve((0, 400), (0.0, 1.0), "#ff0000")
    rgb = pixels(curve_picture([curve], theme=LIGHT, boundaries=(0, 100, 400), alt=""))
    assert tuple(rgb[20, 100]) == (255, 255, 255)
    assert tuple(rgb[20, 300]) == tuple(_rgb(LIGHT.band))


def test_curves_with_gaps_and_without_points_are_drawn():
    curves = [Curve((1, 2, 3), (float("nan"), float("inf"), 1.0), "#ff0000"), Curve((), (), "#00ff00", dashed=True)]
    assert pixels(curve_picture(curves, theme=DARK, boundaries=(), alt=""))[0, 0].tolist() == _rgb(DARK.paper).tolist()


def test_dots_stand_at_their_values_with_one_row_per_label():
    """Left sides have 0.2 and 0.3, right ones 0.7 and 0.8: blue about a quarter, orange about three quarters."""
    rows = {
        "$(rm -rf)$ _x": (Dot(0.2, "L"), Dot(0.3, "L")),
        "b" * 40: (Dot(0.7, "R"), Dot(float("nan"), "L"), Dot(0.8, "R")),
    }
    picture = dots_picture(rows, theme=LIGHT, limits=(0, 1), alt="all")
    assert (picture.width, picture.height) == (640, 198)
    rgb = pixels(picture)
    start, length = 0.22 * 640, 0.75 * 640
    blue = place_of((rgb[..., 2] > 150) & (rgb[..., 0] < 80))
    orange = place_of((rgb[..., 0] > 200) & (rgb[..., 2] < 70))
    assert blue[1] * 640 == pytest.approx(start + 0.25 * length, abs=4)
    assert orange[1] * 640 == pytest.approx(start + 0.75 * length, abs=4)
    assert blue[0] < 0.4 < orange[0]


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
