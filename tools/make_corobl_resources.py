"""Make `bidsapp/corobl/resources` from HippUnfold's wheel: `make_corobl_resources.py WHEEL`.

The whole-head CIT168 T1w goes to 2 mm, a brain mask is cut out of it, and the two hippocampus masks are
stored as uint8. Same wheel, same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

RESOURCES = Path(__file__).resolve().parent.parent / "bidsapp" / "corobl" / "resources"
INSIDE = "hippunfold/resources/CITI168"
SPACING_MM = 2.0
TISSUE = 105
"""Above it, the template's 8-bit values are grey and white matter, and marrow, which erosion removes."""


def read_from_wheel(wheel: Path, name: str) -> nib.Nifti1Image:
    """Read one gzipped NIfTI file of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return nib.Nifti1Image.from_bytes(gzip.decompress(archive.read(f"{INSIDE}/{name}")))


def to_two_millimetres(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Resample onto a 2 mm grid with axes in RAS order, smoothed first so that nothing aliases."""
    image = nib.as_closest_canonical(image)
    spacing = float(image.affine[0, 0])
    sigma = np.sqrt(SPACING_MM**2 - spacing**2) / 2.355 / spacing
    smooth = ndimage.gaussian_filter(image.get_fdata(dtype=np.float32), sigma)
    extent = spacing * np.array(image.shape)
    shape = np.floor(extent / SPACING_MM).astype(int)
    first = ((extent - shape * SPACING_MM) + SPACING_MM - spacing) / 2
    data = ndimage.affine_transform(
        smooth, np.full(3, SPACING_MM / spacing), first / spacing, tuple(shape), order=1, mode="nearest"
    )
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = np.round(image.affine[:3, 3] + first, 4)
    return nib.Nifti1Image(np.rint(data).astype(np.uint8), affine)


def cut_out_brain(head: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return the mask of the brain in the 2 mm head: bright tissue, freed from the scalp by erosion."""
    cores = ndimage.binary_erosion(np.asarray(head.dataobj) > TISSUE, iterations=2)
    parts, _ = ndimage.label(cores)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    brain = ndimage.binary_dilation(parts == sizes.argmax(), iterations=3)
    brain = ndimage.binary_closing(np.pad(brain, 6), iterations=5)[6:-6, 6:-6, 6:-6]
    return nib.Nifti1Image(ndimage.binary_fill_holes(brain).astype(np.uint8), head.affine)


def write(image: nib.Nifti1Image, name: str) -> None:
    """Write gzipped NIfTI without a time stamp."""
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, 2)
    image.set_qform(image.affine, 2)
    (RESOURCES / name).write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0))


def main() -> None:
    """Write the four images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path, help="hippunfold-0.5.11-py3-none-any.whl")
    wheel = parser.parse_args().wheel
    head = to_two_millimetres(read_from_wheel(wheel, "T1w_head_700um.nii.gz"))
    write(head, "tpl-CIT168_res-2_T1w.nii.gz")
    write(cut_out_brain(head), "tpl-CIT168_res-2_desc-brain_mask.nii.gz")
    for side in "LR":
        mask = read_from_wheel(wheel, f"Mask_300umCoronalOblique_hemi-{side}.nii.gz")
        data = (np.asarray(mask.dataobj) > 0.5).astype(np.uint8)
        write(
            nib.Nifti1Image(data, np.round(mask.affine, 4)),
            f"tpl-CIT168_hemi-{side}_space-corobl_desc-hippocampus_mask.nii.gz",
        )


if __name__ == "__main__":
    main()
