"""Write what the built-in model says of the template's crops: tests/models/test_default_model.py holds it to that.

    python tools/make_default_labels.py

To be run once for every new bidsapp/models/default.zip, never to make a test pass.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp.exchange.loading import load_model  # noqa: E402
from bidsapp.prediction import Predictor, choose_device  # noqa: E402
from bidsapp.records import SIDES, Side  # noqa: E402
from demo.simulate import DATA, TEMPLATE_SPACING_MM  # noqa: E402

OUTPUT = ROOT / "tests" / "models" / "data"


def template_labels(predictor: Predictor, side: Side) -> nib.Nifti1Image:
    """The label map of a side's crop of the CIT168 template, as in the head."""
    crop = nib.load(DATA / f"tpl-CIT168_hemi-{side}_space-corobl_T1w.nii.gz")
    flip = slice(None, None, -1 if side == "L" else 1)
    image = np.ascontiguousarray(crop.get_fdata(dtype=np.float32)[None, flip])
    labels = predictor.predict_array(image, (TEMPLATE_SPACING_MM,) * 3)[flip]
    return nib.Nifti1Image(labels.astype(np.uint8), crop.affine)


def main() -> None:
    """Write both sides."""
    predictor = Predictor(load_model(ROOT / "bidsapp" / "models" / "default.zip"), choose_device("cpu"), cores=1)
    for side in SIDES:
        nib.save(template_labels(predictor, side), OUTPUT / f"tpl-CIT168_hemi-{side}_desc-default_dseg.nii.gz")


if __name__ == "__main__":
    main()
