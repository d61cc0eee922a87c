"""Reduce Colin27, a real person's head, to the small BIDS data set in demo/data/colin27.

    apt-get download mricron-data && dpkg -x mricron-data_*.deb mricron
    python tools/make_colin27.py mricron/usr/share/mricron/templates/ch2.nii.gz

Voxels of 1.25 instead of 1 mm, faint background set to 0: 1.8 instead of 3.5 MB.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

DATA_SET = Path(__file__).parents[1] / "demo" / "data" / "colin27"
SPACING_MM = 1.25
BACKGROUND = 8
DESCRIPTION = {
    "Name": "Colin27, one real head",
    "BIDSVersion": "1.10.0",
    "DatasetType": "raw",
    "License": "McGill, see README",
    "Authors": ["Colin J. Holmes", "Rick Hoge", "Louis Collins", "Roger Woods", "Arthur W. Toga", "Alan C. Evans"],
}
README = """\
Colin27, one real head
======================

The mean of 27 T1-weighted scans of one person, in MNI space: C. J. Holmes, R. Hoge, L. Collins, R. Woods, A. W. Toga,
A. C. Evans: Enhancement of MR images using registration for signal averaging. Journal of Computer Assisted Tomography
22 (1998), 324-333. Taken from ch2.nii.gz of MRIcron; changed by us (tools/make_colin27.py): voxels of 1.25 instead of
1 mm, faint background set to 0.

Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University. Permission to use, copy, modify, and distribute this software and its documentation for any purpose and
without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors and McGill
University make no representations about the suitability of this software for any purpose. It is provided "as is"
without express or implied warranty. The authors are not responsible for any data loss, equipment damage, property
loss, or injury to subjects or patients resulting from the use or misuse of this software package.
"""


def main() -> None:
    """Write the data set from the file given on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("head", type=Path)
    anat = DATA_SET / "sub-colin27" / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    nib.save(reduce(nib.load(parser.parse_args().head)), anat / "sub-colin27_T1w.nii.gz")
    sidecar = {"Modality": "MR", "SeriesDescription": "Mean of 27 registered scans of one person"}
    (anat / "sub-colin27_T1w.json").write_text(json.dumps(sidecar, indent=2) + "\n", encoding="utf-8")
    (DATA_SET / "dataset_description.json").write_text(json.dumps(DESCRIPTION, indent=2) + "\n", encoding="utf-8")
    (DATA_SET / "README").write_text(README, encoding="utf-8")


def reduce(head: nib.Nifti1Image) -> nib.Nifti1Image:
    """Resample to `SPACING_MM` by cubic splines, after a blur that keeps fine texture from folding."""
    data = ndimage.gaussian_filter(head.get_fdata(dtype=np.float32), 0.4 * (SPACING_MM - 1))
    shape = tuple(int(size / SPACING_MM) for size in data.shape)
    first = (SPACING_MM - 1) / 2
    coarse = ndimage.affine_transform(data, np.diag([SPACING_MM] * 3), first, shape, order=3)
    coarse[coarse < BACKGROUND] = 0
    affine = head.affine @ np.diag([*[SPACING_MM] * 3, 1])
    affine[:3, 3] = head.affine[:3, :3] @ np.full(3, first) + head.affine[:3, 3]
    image = nib.Nifti1Image(np.clip(np.rint(coarse), 0, 255).astype(np.uint8), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 4)
    image.set_qform(affine, 4)
    return image


if __name__ == "__main__":
    main()
