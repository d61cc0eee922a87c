"""Is the registration right? Measures, and the gates that judge them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bidsapp.arrays import FloatArray
from bidsapp.corobl.levels import Pyramid
from bidsapp.corobl.similarity import normalised_mutual_information, take_samples
from bidsapp.corobl.template import Template, inside_crops
from bidsapp.corobl.transforms import apply

BINS = 32

@dataclass(frozen=True)
class Quality:
    nmi_in_crops: float
    nmi_in_brain: float
    peak: float
    singular_values: tuple[float, float, float]

    @property
    def is_good(self) -> bool:
        return self.nmi_in_crops >= 1.038 and self.nmi_in_brain >= 1.05 and self.peak>=1.3


def measure_quality(template: Template, head: Pyramid, native_from_template: FloatArray) -> Quality:
    fixed = template.head.at_2_mm
    pts = apply(fixed.affine, np.argwhere(np.ones(fixed.data.shape, bool)).astype(float))
    s = take_samples(fixed, inside_crops(pts).reshape(fixed.data.shape), BINS)
    crops = normalised_mutual_information(s, head.at_2_mm, native_from_template)
    from bidsapp.corobl.registration import brain_mask_on
    f4 = template.head.at_4_mm
    s4 = take_samples(f4, brain_mask_on(f4, template), BINS)
    nb = normalised_mutual_information(s4, head.at_4_mm, native_from_template)
    sh = []
    for ax in range(3):
        for sg in (-8, 8):
            m = np.eye(4); m[ax, 3] = sg
            sh.append(normalised_mutual_information(s4, head.at_4_mm, native_from_template @ m))
    peak = (nb - 1) / max(max(sh) - 1, 1e-9)
    return Quality(crops, nb, peak, tuple(float(v) for v in np.linalg.svd(native_from_template[:3, :3])[1]))
