"""Simulate people: training pairs made from the CIT168 template by random anatomy and random scanners.

    python demo/simulate.py FOLDER --people 12 --seed 42

Each person has a right and a (flipped) left hippocampus, cut into an anterior and a posterior label. The
template crops in demo/data are turned, scaled, sheared, shifted and smoothly warped; half of the people keep
the real texture, the other half are painted anew from eight tissue classes; then come blur, gamma, bias field
and noise. A person's two sides share head size, contrast and scanner, and have warps of their own.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]
Coordinates = NDArray[np.float32]
Affine = NDArray[np.float64]

DATA = Path(__file__).parent / "data"
TEMPLATE_SPACING_MM = 0.6
NETWORK_SPACING_MM = 0.3
ANTERIOR_FROM_Y_MM = -8.0
"""CorObl y of the uncal apex in the template: behind it the cross-section halves.

In front lie 46 % (right) and 44 % (left) of the hippocampus, much as in the Medical Segmentation Decathlon.
"""
LABELS = {1: "Anterior", 2: "Posterior"}
SIDES = {"R": "R", "L": "Lflip"}
BACKGROUND_CLASSES = 7

# How far people differ once registered to CorObl. Limits are two standard deviations; what falls beyond is
# clipped.
ROTATION_DEGREES = 14.0
SCALE = 1.12
SHEAR = 0.12
SHIFT_MM = 4.0
WARPS_MM = ((20.0, 3.0), (8.0, 1.2))
"""(distance between control points, largest displacement) of each layer of the warp."""

README = """\
SIMULATED DATA. Nobody's brain was scanned for these images.

{people} people (seed {seed}) were simulated from one template: CIT168 (Pauli, Nili and Tyszka 2018,
CC BY 4.0), in the CorObl crops of HippUnfold (MIT). Pairs are in network space: left sides are flipped
(hemi-Lflip).
Anterior and posterior are divided by a plane at the uncal apex of the template.
Good for trying out and testing the software. A model trained on them is not fit for studies.
"""


@dataclass(frozen=True)
class Template:
    """One side of the template in network space, 0.6 mm, shape (64, 128, 64).

    Attributes
    ----------
    images
        modality -> intensities from 0 to 1.
    hippocampus
        Probability from 0 to 1.
    affine
        Array indices to CorObl RAS mm, truthful for the flipped left side too.
    """

    images: dict[str, Volume]
    hippocampus: Volume
    affine: Affine

    @property
    def centre_mm(self) -> NDArray[np.float64]:
        """Centre of the hippocampus, in mm from the corner of the array, along its axes."""
        from scipy.ndimage import center_of_mass

        return (np.array(center_of_mass(self.hippocampus)) + 0.5) * TEMPLATE_SPACING_MM


@dataclass(frozen=True)
class Scanner:
    """What a person's scan of one modality looks like, on both sides.

    Attributes
    ----------
    tissue
        Shift of the mean intensity of the hippocampus and of each background class; None keeps the real
        texture.
    gamma
        Exponent on intensities.
    blur_mm, noise, bias
        Standard deviations: blur, white noise, and the logarithm of the bias field.
    """

    tissue: tuple[float, ...] | None
    gamma: float
    blur_mm: float
    noise: float
    bias: float


def main() -> None:
    """Simulate what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    pairs = simulate_people(arguments.folder, arguments.people, arguments.seed)
    print(f"people simulated: {arguments.people}; {len(pairs)} pairs are in {arguments.folder}")


def simulate_people(
    folder: Path,
    n_people: int,
    seed: int,
    *,
    modalities: Sequence[str] = ("T1w",),
    spacing_mm: float = NETWORK_SPACING_MM,
) -> list[str]:
    """Write a training folder: a pair per person and side, labels.tsv and a README that says SIMULATED.

    The first people stay the same when more are asked for. Several modalities are written as channels
    (``_img_0000``, ``_img_0001``). At 0.3 mm the grids are those of network space, 128 x 256 x 128; any other
    spacing covers the same field, 1 mm (38 x 77 x 38 voxels) being quick enough for tests.

    Returns
    -------
    The ids of the pairs, e.g. ``sub-001_hemi-Lflip``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = "".join(f"{index}\t{name}\n" for index, name in LABELS.items())
    (folder / "labels.tsv").write_text("index\tname\n" + table, encoding="utf-8")
    (folder / "README").write_text(README.format(people=n_people, seed=seed), encoding="utf-8")
    cases = []
    for person in range(n_people):
        for hemi, side in SIDES.items():
            cases.append(f"sub-{person + 1:03d}_hemi-{side}")
            images, label = simulate_side(person, hemi, seed, modalities, spacing_mm)
            _write_pair(folder, cases[-1], images, label)
    return cases


def simulate_side(
    person: int, hemi: str, seed: int, modalities: Sequence[str], spacing_mm: float
) -> tuple[list[nib.Nifti1Image], nib.Nifti1Image]:
    """Image of every modality and the label map of one hippocampus, as bytes, in network space."""
    template = load_template(hemi)
    head = np.random.default_rng((seed, person))
    scale = SCALE ** float(_within(head, 1.0))
    scanners = [_draw_scanner(head, painted=person % 2 == 1) for _ in modalities]

    rng = np.random.default_rng((seed, person, ord(hemi)))
    work_mm = max(spacing_mm, TEMPLATE_SPACING_MM)
    where = _draw_anatomy(rng, template, scale, work_mm)
    scans = [
        _scan(rng, template, modality, scanner, where, work_mm)
        for modality, scanner in zip(modalities, scanners, strict=True)
    ]
    affine = _affine_at(template, spacing_mm)
    return (
        [_to_image(_resample(scan, work_mm, spacing_mm) * 255, affine) for scan in scans],
        _to_image(_label(template, where, work_mm, spacing_mm), affine),
    )


@cache
def load_template(hemi: str) -> Template:
    """Read one side from demo/data; the left one is flipped along its first axis, affine included."""
    stem = f"tpl-CIT168_hemi-{hemi}_space-corobl"
    files = {name: nib.load(DATA / f"{stem}_{name}.nii.gz") for name in ("T1w", "T2w", "label-hipp_probseg")}
    volumes = {name: file.get_fdata(dtype=np.float32) / 255 for name, file in files.items()}
    affine = files["T1w"].affine
    if hemi == "L":
        volumes = {name: volume[::-1] for name, volume in volumes.items()}
        last = volumes["T1w"].shape[0] - 1
        affine = affine @ np.array([[-1, 0, 0, last], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return Template(images=volumes, hippocampus=volumes.pop("label-hipp_probseg"), affine=np.round(affine, 4))


def _within(rng: np.random.Generator, limit: float, count: int | None = None) -> NDArray[np.float64]:
    """Normal numbers around 0, `limit` being two standard deviations and the largest."""
    return np.clip(rng.normal(0, limit / 2, count), -limit, limit)


def _draw_scanner(rng: np.random.Generator, *, painted: bool) -> Scanner:
    tissue = tuple(_within(rng, 0.08, BACKGROUND_CLASSES + 1))
    return Scanner(
        tissue=tissue if painted else None,
        gamma=float(np.exp(_within(rng, 0.3))),
        blur_mm=rng.uniform(0.2, 0.6),
        noise=rng.uniform(0.01, 0.05),
        bias=rng.uniform(0.03, 0.12),
    )


def _draw_anatomy(rng: np.random.Generator, template: Template, scale: float, spacing_mm: float) -> Coordinates:
    """Where each voxel of a new head lies in the template: shape (3, x, y, z), in template voxels."""
    shape = _shape_at(template, spacing_mm)
    inverse = np.linalg.inv(scale * _rotation(rng) @ _shear(rng))
    centre = template.centre_mm
    from_centre = (np.indices(shape, dtype=np.float32) + 0.5) * spacing_mm - _column(centre)
    turned = np.tensordot(inverse, from_centre, axes=1) + _column(centre + _within(rng, SHIFT_MM, 3))
    warped = turned + np.stack([_displacement(rng, shape, spacing_mm) for _ in range(3)])
    return (warped / TEMPLATE_SPACING_MM - 0.5).astype(np.float32)


def _rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", _within(rng, ROTATION_DEGREES, 3), degrees=True).as_matrix()


def _shear(rng: np.random.Generator) -> NDArray[np.float64]:
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = _within(rng, SHEAR, 3)
    return shear


def _displacement(rng: np.random.Generator, shape: tuple[int, ...], spacing_mm: float) -> Volume:
    """One component of the warp in mm: a long wave and a short one."""
    waves = [limit / 2 * _smooth_field(rng, shape, spacing_mm, knots_mm) for knots_mm, limit in WARPS_MM]
    return np.sum(waves, axis=0)


def _smooth_field(rng: np.random.Generator, shape: tuple[int, ...], spacing_mm: float, knots_mm: float) -> Volume:
    """White noise of standard deviation 1 at control points, joined by cubic splines."""
    step = spacing_mm / knots_mm
    knots = rng.normal(size=[math.ceil(length * step) + 1 for length in shape])
    return _interpolate(knots.astype(np.float32), shape, step, order=3)


def _scan(
    rng: np.random.Generator,
    template: Template,
    modality: str,
    scanner: Scanner,
    where: Coordinates,
    spacing_mm: float,
) -> Volume:
    """Intensities from 0 to 1 of the head that lies `where`, as this scanner sees it."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    image = template.images[modality]
    source = image if scanner.tissue is None else _paint(image, template.hippocampus, scanner.tissue)
    head = map_coordinates(source, where, order=1, mode="mirror")
    scan = gaussian_filter(head, scanner.blur_mm / spacing_mm).clip(0, 1) ** scanner.gamma
    scan *= np.exp(scanner.bias * _smooth_field(rng, scan.shape, spacing_mm, 25.0))
    scan += rng.normal(0, scanner.noise, scan.shape)
    return np.clip(scan * 0.9, 0, 1).astype(np.float32)


def _paint(image: Volume, hippocampus: Volume, tissue: Sequence[float]) -> Volume:
    """Replace the texture by one shifted mean per class: seven shades of background, and the hippocampus."""
    edges = np.quantile(image, np.linspace(0, 1, BACKGROUND_CLASSES + 1)[1:-1])
    shades = np.digitize(image, edges)
    means = np.array([np.median(image[shades == shade]) for shade in range(BACKGROUND_CLASSES)]) + tissue[1:]
    inside = np.median(image[hippocampus > 0.5]) + tissue[0]
    return (hippocampus * inside + (1 - hippocampus) * means[shades]).astype(np.float32)


def _label(template: Template, where: Coordinates, work_mm: float, spacing_mm: float) -> NDArray[np.uint8]:
    """1 anterior and 2 posterior of the plane, where the warped probability exceeds a half."""
    from scipy.ndimage import map_coordinates

    probability = map_coordinates(template.hippocampus, where, order=1, mode="constant")
    inside = (_resample(probability, work_mm, spacing_mm) > 0.5).astype(np.uint8)
    y_mm = _resample(where[1], work_mm, spacing_mm) * TEMPLATE_SPACING_MM + template.affine[1, 3]
    return inside * np.where(y_mm >= ANTERIOR_FROM_Y_MM, np.uint8(1), np.uint8(2))


def _resample(volume: Volume, from_mm: float, to_mm: float) -> Volume:
    """Linear interpolation to another spacing over the same field."""
    step = to_mm / from_mm
    return _interpolate(volume, tuple(round(length / step) for length in volume.shape), step, order=1)


def _interpolate(volume: Volume, shape: tuple[int, ...], step: float, order: int) -> Volume:
    """Spline interpolation to voxels of `step` old voxels, both grids starting at the same corner.

    One small matrix per axis: many times faster than `scipy.ndimage.zoom`.
    """
    from scipy.ndimage import affine_transform

    for length in shape:  # the first axis is replaced by a new last one, three times
        known = volume.shape[0]
        weights = affine_transform(
            np.eye(known, dtype=np.float32),
            [step, 1],
            [0.5 * step - 0.5, 0],
            (length, known),
            order=order,
            mode="nearest",
        )
        volume = np.tensordot(volume, weights, axes=(0, 1))
    return volume


def _shape_at(template: Template, spacing_mm: float) -> tuple[int, ...]:
    return tuple(round(length * TEMPLATE_SPACING_MM / spacing_mm) for length in template.hippocampus.shape)


def _affine_at(template: Template, spacing_mm: float) -> Affine:
    """Affine of the grid of another spacing that starts at the same corner."""
    step = spacing_mm / TEMPLATE_SPACING_MM
    affine = template.affine @ np.diag([step, step, step, 1])
    affine[:3, 3] += template.affine[:3, :3] @ np.full(3, 0.5 * step - 0.5)
    return np.round(affine, 4)


def _column(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector.reshape(3, 1, 1, 1)


def _to_image(volume: Volume | NDArray[np.uint8], affine: Affine) -> nib.Nifti1Image:
    image = nib.Nifti1Image(np.rint(volume).astype(np.uint8), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    return image


def _write_pair(folder: Path, case: str, images: list[nib.Nifti1Image], label: nib.Nifti1Image) -> None:
    channels = [""] if len(images) == 1 else [f"_{channel:04d}" for channel in range(len(images))]
    for channel, image in zip(channels, images, strict=True):
        nib.save(image, folder / f"{case}_img{channel}.nii.gz")
    nib.save(label, folder / f"{case}_lbl.nii.gz")


if __name__ == "__main__":
    main()
