"""From scans of one person in one session to CorObl crops: register, correct the bias, resample once."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from scipy import ndimage

from bidsapp.arrays import FloatArray
from bidsapp.corobl.bias import estimate_bias
from bidsapp.corobl.coregistration import register_to_t1w
from bidsapp.corobl.levels import to_isotropic
from bidsapp.corobl.registration import Registration, register_to_template
from bidsapp.corobl.resampling import resample_to_crop
from bidsapp.corobl.template import load_template
from bidsapp.errors import BadDataError
from bidsapp.images.grids import Grid
from bidsapp.images.volumes import Volume
from bidsapp.records import Modality, Side

PREPROCESSING_VERSION = 1
"""Raised whenever the same scan gives another crop: crops of an earlier version are made again."""

_VIEW_MM = 1.5
_SCALP_MM, _TISSUE, _STRIPPED = 20.0, 0.2, 0.1


def register_scans(
    volumes: Mapping[Modality, Volume], wanted: Collection[Modality], *, rigid: bool
) -> dict[Modality, Registration]:
    """Register the `wanted` scans to the template; a T2w goes through the same session's T1w where there is one.

    Raises
    ------
    BadDataError
        When a scan holds one value only.
    """
    for modality, volume in volumes.items():
        if volume.data.min() == volume.data.max():
            raise BadDataError(
                f"the {modality} scan holds nothing but the value {volume.data.flat[0]:g}",
                "Look at the file: its conversion or masking went wrong.",
            )
    found: dict[Modality, Registration] = {}
    t1w = volumes.get("T1w")
    if t1w is not None:
        found["T1w"] = register_to_template(t1w, rigid=rigid)
    if "T2w" in wanted:
        t2w = volumes["T2w"]
        found["T2w"] = (
            register_to_template(t2w, rigid=rigid) if t1w is None else register_to_t1w(t2w, t1w, found["T1w"])
        )
    return {modality: found[modality] for modality in wanted}


def make_crops(
    volume: Volume, native_from_corobl: FloatArray, grids: Mapping[Side, Grid], *, bias_correction: bool
) -> tuple[dict[Side, Volume], bool]:
    """Correct the bias field, if asked, and resample a scan once to crops on the grids of their sides.

    Returns
    -------
    The crops, float32 and as in the head; and whether the bias was corrected: N4 has no meaning for images with
    negative values.
    """
    log_bias = estimate_bias(volume) if bias_correction else None
    crops = {
        side: Volume(resample_to_crop(volume, native_from_corobl, grid, log_bias), grid.affine)
        for side, grid in grids.items()
    }
    return crops, log_bias is not None


def view_in_template(volume: Volume, registration: Registration) -> Volume:
    """Bring a scan to the axes of the template at 1.5 mm, for a person to look at."""
    head = load_template().head.at_2_mm
    affine = np.diag([*[_VIEW_MM] * 3, 1.0])
    affine[:3, 3] = head.affine[:3, 3]
    shape = tuple((np.array(head.data.shape) * head.spacing_mm / _VIEW_MM).astype(int))
    coarse = to_isotropic(volume, _VIEW_MM)
    source = np.linalg.inv(coarse.affine) @ registration.native_from_template @ affine
    data = ndimage.affine_transform(coarse.data, source[:3, :3], source[:3, 3], shape, order=1)
    return Volume(data, affine)


def is_skull_stripped(view: Volume) -> bool:
    """Tell from a scan in template axes (`view_in_template`) whether skull and scalp were removed.

    Compares the mean intensity where the template has a head within 20 mm outside the brain's rim with the
    one inside the brain: whole heads reach .3 and more, stripped ones 0.
    """
    template = load_template()
    outside = template.brain.data == 0
    near = ndimage.distance_transform_edt(outside, sampling=template.brain.spacing_mm) <= _SCALP_MM
    head = template.head.at_2_mm
    scalp = outside & near & (head.data > _TISSUE * np.percentile(head.data, 99))
    view_from_head = np.linalg.inv(view.affine) @ head.affine
    on_head = ndimage.affine_transform(
        view.data, view_from_head[:3, :3], view_from_head[:3, 3], head.data.shape, order=1
    )
    return bool(np.abs(on_head[scalp]).mean() < _STRIPPED * np.abs(on_head[~outside]).mean())
