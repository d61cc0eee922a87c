"""Training pairs for the built-in model: real hippocampi of the Decathlon, as CorObl crops would show them.

The Medical Segmentation Decathlon (Task04) gives blocks of 1 mm voxels, cut along the head's axes with a few
millimetres of room around one hippocampus, a left one (`check_side` in check_default.py; the brainstem lies on the
high end of axis 0). Here each block is turned by `PITCH_DEGREES` into the oblique plane and put where the template's
hippocampus lies, on the grid of network space at 1 mm. Nothing in that uses a person's label but that one angle, so
test people are treated like new ones. What the block does not show of the larger crop is filled in several ways, see
`OUTSIDE`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp.corobl.grid import GRIDS, SHAPE, SPACING_MM  # noqa: E402
from bidsapp.corobl.template import load_hippocampus  # noqa: E402
from bidsapp.images.orientation import NETWORK_SPACE, turned_grid  # noqa: E402
from demo.simulate import simulate_side  # noqa: E402

Volume = NDArray[np.float32]
Outside = Literal["zero", "noise", "head"]

LABELS = {1: "Anterior", 2: "Posterior"}
GRID_MM = 1.0
PITCH_DEGREES = 23.7
"""Mean angle by which the long axes of the 200 label maps fall forwards; the standard deviation is 7.3.

In CorObl the template's long axis is level. Its own head is pitched by 36 degrees for that: the Decathlon's lie
otherwise.
"""
JITTER_MM = 2.5
"""Standard deviation of where a training block is put, along each axis; crops of real heads are off by 1.8 mm."""
SEAM_MM = 3.0
"""Over so much a block passes into the simulated head around it."""
OUTSIDE: tuple[Outside, ...] = ("head", "head", "zero", "noise")
"""What training pairs have around the block, one pair each.

head: a simulated head (demo/simulate.py) with its hippocampus in the same place and the block's intensities. zero:
nothing, as where a scan ends. noise: white, with the block's mean and standard deviation.
"""


@dataclass(frozen=True)
class Block:
    """One case of the Decathlon.

    Attributes
    ----------
    person
        Its number there, e.g. ``msd003``: nobody says which blocks are of one person.
    image, label
        Shape (R, A, S), voxels of 1 mm; values 1 anterior, 2 posterior.
    """

    person: str
    image: Volume
    label: NDArray[np.uint8]


def read_blocks(folder: Path) -> list[Block]:
    """All labelled cases of `folder`, the data set as it is distributed.

    Raises
    ------
    FileNotFoundError
        When there are none.
    """
    blocks = []
    for person, path in block_files(folder).items():
        label = nib.load(folder / "labelsTr" / path.name)
        image = nib.load(path)
        blocks.append(
            Block(
                person=person,
                image=image.get_fdata(dtype=np.float32),
                label=np.rint(label.get_fdata()).astype(np.uint8),
            )
        )
    return blocks


def block_files(folder: Path) -> dict[str, Path]:
    """Person -> image of every labelled case; raises as `read_blocks` does."""
    paths = sorted((folder / "imagesTr").glob("hippocampus_*.nii.gz"))
    if not paths:
        raise FileNotFoundError(f"{folder} has no imagesTr/hippocampus_*.nii.gz: is it the Decathlon's Task04?")
    return {f"msd{path.name.removesuffix('.nii.gz').removeprefix('hippocampus_')}": path for path in paths}


def write_training_pairs(folder: Path, block: Block, seed: int) -> None:
    """Write a pair per entry of `OUTSIDE`, each with a place and surroundings of its own."""
    number = int(block.person.removeprefix("msd"))
    for variant, outside in enumerate(OUTSIDE):
        rng = np.random.default_rng((seed, number, variant))
        shift = np.clip(rng.normal(0, JITTER_MM, 3), -2 * JITTER_MM, 2 * JITTER_MM)
        simulated = 1_000_000 + 10 * number + variant  # nobody of those who are trained on as they are
        image, label = in_network_space(block, outside, rng=rng, shift_mm=shift, simulated=simulated)
        write_pair(folder, f"sub-{block.person}_acq-{outside}{variant}_hemi-Lflip", image, label)


def write_held_out_pair(folder: Path, block: Block) -> None:
    """Write the one pair by which a person is validated or tested: real voxels, and nothing around them."""
    image, label = in_network_space(block, "zero", rng=np.random.default_rng(0))
    write_pair(folder, f"sub-{block.person}_acq-zero_hemi-Lflip", image, label)


def in_network_space(
    block: Block,
    outside: Outside,
    *,
    rng: np.random.Generator,
    shift_mm: NDArray[np.float64] | None = None,
    simulated: int = 0,
    spacing_mm: float = GRID_MM,
) -> tuple[Volume, NDArray[np.uint8]]:
    """Turn a block, put it where the hippocampus lies, and fill what is around it.

    Parameters
    ----------
    shift_mm
        From the template's place, along the grid's axes.
    simulated
        Number of the simulated person who lends a head.
    spacing_mm
        Voxel size of what comes out.

    Returns
    -------
    tuple
        Image and label map of the field of a CorObl crop, axis 0 from lateral to medial.
    """
    matrix, offset = block_from_network(block, shift_mm, spacing_mm)
    shape = network_shape(spacing_mm)

    shares = np.stack(
        [
            ndimage.affine_transform((block.label == value).astype(np.float32), matrix, offset, shape, order=1)
            for value in LABELS
        ]
    )
    label = np.where(shares.sum(axis=0) > 0.5, shares.argmax(axis=0) + 1, 0).astype(np.uint8)
    inside = _inside(block, matrix, offset, shape)
    image = ndimage.affine_transform(block.image, matrix, offset, shape, order=3, mode="nearest")
    image = np.clip(image, block.image.min(), block.image.max())
    if outside == "head":
        around = _head_around(label, image, inside, simulated, spacing_mm)
        weight = np.clip(ndimage.distance_transform_edt(inside) * spacing_mm / SEAM_MM, 0, 1)
        image = weight * image + (1 - weight) * around
    elif outside == "noise":
        image = np.where(inside, image, rng.normal(block.image.mean(), block.image.std(), shape))
    else:
        image = np.where(inside, image, 0)
    return image.astype(np.float32), label


def network_shape(spacing_mm: float) -> tuple[int, int, int]:
    """Voxels of a CorObl crop at another spacing."""
    x, y, z = (round(length * SPACING_MM / spacing_mm) for length in SHAPE)
    return x, y, z


def network_affine() -> NDArray[np.float64]:
    """Of the left flipped grid at `GRID_MM`, starting at the same corner."""
    flipped = turned_grid(GRIDS["L"], NETWORK_SPACE["L"]).affine
    affine = np.diag([GRID_MM, GRID_MM, GRID_MM, 1.0])
    affine[:3, 3] = flipped[:3, 3] + (GRID_MM - SPACING_MM) / 2
    return np.round(affine, 4)


def block_from_network(
    block: Block, shift_mm: NDArray[np.float64] | None = None, spacing_mm: float = GRID_MM
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The matrix (3, 3) and offset that take voxels of the network's grid to voxels of the block.

    The block's axis 0 runs from left to right, which in a left hippocampus is from lateral to medial, as in network
    space; its middle comes to the middle of the template's hippocampus.
    """
    angle = np.deg2rad(PITCH_DEGREES)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = spacing_mm * np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    there = _template_middle(spacing_mm) + (0 if shift_mm is None else shift_mm / spacing_mm)
    middle = (np.array(block.image.shape) - 1) / 2
    return matrix, middle - matrix @ there


def _template_middle(spacing_mm: float) -> NDArray[np.float64]:
    """Middle of the box around the template's left hippocampus, in voxels of the network's field."""
    voxels = np.argwhere(load_hippocampus("L")[::-1])
    in_crop = (voxels.min(axis=0) + voxels.max(axis=0)) / 2
    return (in_crop + 0.5) * SPACING_MM / spacing_mm - 0.5


def _inside(
    block: Block, matrix: NDArray[np.float64], offset: NDArray[np.float64], shape: tuple[int, int, int]
) -> NDArray[np.bool_]:
    """Where the block has voxels."""
    where = np.tensordot(matrix, np.indices(shape), axes=1) + offset.reshape(3, 1, 1, 1)
    last = (np.array(block.image.shape) - 1).reshape(3, 1, 1, 1)
    return np.logical_and(where >= 0, where <= last).all(axis=0)


def _head_around(
    label: NDArray[np.uint8], image: Volume, inside: NDArray[np.bool_], simulated: int, spacing_mm: float
) -> Volume:
    """A simulated head with its hippocampus where the block's is, in the block's intensities."""
    (scan,), truth = simulate_side(simulated, "L", 0, ("T1w",), spacing_mm)
    shift = np.array(ndimage.center_of_mass(label > 0)) - ndimage.center_of_mass(np.asanyarray(truth.dataobj) > 0)
    head = ndimage.shift(scan.get_fdata(dtype=np.float32), shift, order=1, mode="nearest")
    ranks = np.linspace(0, 1, 65)
    known, wanted = np.quantile(head[inside], ranks), np.quantile(image[inside], ranks)
    return np.interp(head, known, wanted).astype(np.float32)


def write_pair(folder: Path, case: str, image: Volume, label: NDArray[np.uint8]) -> None:
    """Write ``<case>_img.nii.gz`` and ``<case>_lbl.nii.gz``."""
    affine = network_affine()
    for volume, name in ((image, "img"), (label, "lbl")):
        saved = nib.Nifti1Image(volume, affine)
        saved.header.set_xyzt_units("mm")
        nib.save(saved, folder / f"{case}_{name}.nii.gz")
