"""Small pictures of label maps over their crops, drawn once per version of a label map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bidsapp.errors import HippoTuneError
from bidsapp.files import write_bytes
from bidsapp.images.orientation import turn_volume
from bidsapp.layout import OutputLayout
from bidsapp.pictures.outlines import thumbnail_picture
from bidsapp.records import SideKey
from bidsapp.review.candidates import CropGrids
from bidsapp.review.label_file import read_label_file
from bidsapp.review.snapshots import ImageSnapshots


def draw_side(layout: OutputLayout, key: SideKey, label: Path | None, images: ImageSnapshots) -> Path | None:
    """Return the picture of a side's label map; None where the label map or the crop cannot be shown."""
    participant, session, hemi = key
    files = layout.session(participant, session)
    if label is None or label == files.prediction(hemi):
        return files.thumbnail(hemi)
    try:
        return _draw(layout, key, label, images)
    except (HippoTuneError, OSError, ValueError):
        return None  # the row says what is wrong


def _draw(layout: OutputLayout, key: SideKey, label: Path, images: ImageSnapshots) -> Path | None:
    participant, session, hemi = key
    files = layout.session(participant, session)
    picture = layout.review_picture(key, images[label].file_sha256[:12])
    if picture.exists():
        return picture
    labels = read_label_file(label, hemi, CropGrids(files, images), images).labels
    crop = next((path for modality in ("T1w", "T2w") if (path := files.crop(hemi, modality)).exists()), None)
    if labels is None or crop is None:
        return None
    image = turn_volume(images[crop].volume, "LAS")  # as the labels lie
    values = [int(value) for value in np.unique(labels) if value]
    drawn = thumbnail_picture(image, labels, values)
    for old in picture.parent.glob(layout.review_picture(key, "*").name):
        old.unlink(missing_ok=True)
    write_bytes(picture, drawn.png)
    return picture
