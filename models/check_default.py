"""Check the built-in model on heads that it never saw; docs/default-model.md holds what this printed.

    python models/check_default.py --data ../shared/data --mni mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz

Every head goes through `participant` as a user's would. The Decathlon's held-out people are scored as they were
distributed: in the pose and on the grid of their blocks, with the pairs and the split that train_default.py made.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

    from bidsapp.prediction import Predictor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp.bids.facts import read_facts  # noqa: E402
from bidsapp.cli import main as run_py  # noqa: E402
from bidsapp.evaluation.metrics import dice  # noqa: E402
from bidsapp.layout import OutputLayout, SessionLayout, label_names  # noqa: E402
from bidsapp.model_dir.split import read_split  # noqa: E402
from bidsapp.records import SIDES, Side  # noqa: E402
from bidsapp.tsv import read_tsv  # noqa: E402
from models.msd_pairs import Block, block_from_network, in_network_space, read_blocks  # noqa: E402

Mask = NDArray[np.bool_]

DATA = ROOT.parent / "shared" / "data"
OUTPUT = ROOT / "models" / "output"
MODEL = "default"
CHECKS = ("side", "msd", "aomic_piop2", "mni152", "colin27", "ds000011", "ds002748")
PEOPLE_FOR_SIDE = 20
MSD_CROP_MM = 0.5
"""Blocks of 1 mm lose little on their way to such crops and back."""


@dataclass(frozen=True)
class Head:
    """One session that went through `participant`."""

    output: OutputLayout
    session: SessionLayout

    def volume_mm3(self, side: Side) -> float:
        """Of the whole hippocampus, in the scan."""
        rows = read_tsv(label_names(self.session.prediction(side)), ["volume_mm3"])
        return sum(float(row.cells["volume_mm3"]) for row in rows)

    def native_mask(self, side: Side) -> Mask:
        """The whole hippocampus on the scan's grid."""
        return np.asanyarray(nib.load(self.session.native_prediction(side, "T1w")).dataobj) > 0

    def level(self, side: Side) -> str:
        """What `participant` thinks of the label map: green, amber or red."""
        facts = read_facts(self.session.prediction(side))
        return str(facts["level"]) if facts else "unknown"


def main() -> int:
    """Run the checks that the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"of {', '.join(CHECKS)} (default: all)")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--mni", type=Path, help="nilearn's MNI152 template")
    parser.add_argument("--nprocs", default="1")
    parser.add_argument("--no-bias-correction", action="store_true", help="as of participant: quicker")
    parser.add_argument("--blocks", type=int, default=PEOPLE_FOR_SIDE, help="whose side is looked at")
    parser.add_argument("--steps", type=int, default=60, help="of the registration that carries a mask over")
    arguments = parser.parse_args()
    checks = {
        "side": partial(check_side, arguments.data, arguments.blocks),
        "msd": partial(check_msd, arguments.data / "msd_hippocampus", arguments.output, arguments.model),
        "aomic_piop2": partial(check_aomic, arguments),
        "mni152": partial(check_mni, arguments),
        "colin27": partial(check_colin, arguments),
        "ds000011": partial(show_volumes, arguments, "ds000011"),
        "ds002748": partial(show_volumes, arguments, "ds002748"),
    }
    for name in arguments.checks or CHECKS:
        print(f"\n{name}", flush=True)
        checks[name]()
    return 0


def segment(arguments: argparse.Namespace, bids_dir: Path) -> list[Head]:
    """Send a data set through `participant`."""
    output = OutputLayout(arguments.output / "check" / bids_dir.name)
    words = [bids_dir, output.root, "participant", "--model", arguments.model, "--nprocs", arguments.nprocs]
    words += ["--no-bias-correction"] * arguments.no_bias_correction
    if run_py([str(word) for word in words]):
        raise SystemExit(f"participant failed on {bids_dir}")
    people = sorted(path.name.removeprefix("sub-") for path in output.root.glob("sub-*") if path.is_dir())
    return [Head(output, SessionLayout(output.root, person)) for person in people]


def show(head: Head, scores: dict[Side, float] | None = None) -> None:
    """Print volumes, judgements and scores of a head."""
    left, right = (head.volume_mm3(side) for side in ("L", "R"))
    apart = abs(left - right) / ((left + right) / 2)
    levels = "/".join(head.level(side) for side in ("L", "R"))
    line = f"  {head.session.name:14} left {left:5.0f} mm3, right {right:5.0f} mm3, {apart:4.0%} apart, {levels}"
    print(line + "".join(f", Dice {side} {value:.3f}" for side, value in (scores or {}).items()), flush=True)


def show_volumes(arguments: argparse.Namespace, name: str) -> None:
    """Heads without a reference: volumes, and the pages to look at."""
    for head in segment(arguments, arguments.data / name):
        show(head)


def check_aomic(arguments: argparse.Namespace) -> None:
    """Against FreeSurfer's label, on the scan's grid."""
    folder = arguments.data / "aomic_piop2"
    (path,) = folder.glob("derivatives/freesurfer/sub-0001/anat/*_label-hippocampus_dseg.nii.gz")
    reference = np.asanyarray(nib.load(path).dataobj)
    for head in segment(arguments, folder):
        show(head, {side: dice(head.native_mask(side), reference == value) for side, value in (("L", 1), ("R", 2))})


def check_mni(arguments: argparse.Namespace) -> None:
    """Against HippUnfold's subfields, merged, on the template's grid."""
    if arguments.mni is None:
        print("  left out: name the template of nilearn (nilearn/datasets/data in its wheel) with --mni")
        return
    folder = arguments.output / "check" / "data" / "mni152"
    anat = folder / "sub-mni152" / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(arguments.mni, anat / "sub-mni152_T1w.nii.gz")
    description = {"Name": "MNI152", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (folder / "dataset_description.json").write_text(json.dumps(description), encoding="utf-8")
    (head,) = segment(arguments, folder)
    scores = {}
    for side in SIDES:
        name = f"tpl-MNI152NLin2009aSym_hemi-{side}_space-T1w_desc-subfields_dseg.nii.gz"
        reference = nib.load(arguments.data / "mni2009asym_hippocampus" / name)
        scores[side] = dice(head.native_mask(side), _on_grid_of(reference, nib.load(arguments.mni)))
    show(head, scores)


def _on_grid_of(labels: nib.Nifti1Image, grid: nib.Nifti1Image) -> Mask:
    """What is labelled, at the nearest voxels of another grid."""
    voxels = np.linalg.inv(labels.affine) @ grid.affine
    data = (labels.get_fdata() > 0).astype(np.uint8)
    return ndimage.affine_transform(data, voxels[:3, :3], voxels[:3, 3], grid.shape, order=0) > 0


def check_colin(arguments: argparse.Namespace) -> None:
    """Against the CIT168 mask, carried over by a deformable registration of crop to crop."""
    (head,) = segment(arguments, ROOT / "demo" / "data" / "colin27")
    scores: dict[Side, float] = {}
    for side in SIDES:
        reference = carried_over_mask(head.session.crop(side, "T1w"), side, arguments.steps)
        predicted = np.asanyarray(nib.load(head.session.prediction(side)).dataobj) > 0
        scores[side] = dice(predicted, reference)
    show(head, scores)


def carried_over_mask(crop: Path, side: Side, steps: int) -> Mask:
    """The template's hippocampus in a crop: B-splines every 6 mm, mutual information."""
    import SimpleITK as sitk  # noqa: N813

    fixed = sitk.Shrink(sitk.ReadImage(str(crop), sitk.sitkFloat32), [2, 2, 2])
    template = ROOT / "demo" / "data" / f"tpl-CIT168_hemi-{side}_space-corobl_T1w.nii.gz"
    moving = sitk.ReadImage(str(template), sitk.sitkFloat32)
    knots = [round(size * spacing / 6) for size, spacing in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.2, 42)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([3, 2])
    method.SetSmoothingSigmasPerLevel([1.2, 0.6])
    method.SetOptimizerAsLBFGSB(numberOfIterations=steps)
    affine = _carry(fixed, moving, min(100, 2 * steps))
    method.SetMovingInitialTransform(affine)
    method.SetInitialTransform(sitk.BSplineTransformInitializer(fixed, knots), inPlace=False)
    warp = sitk.CompositeTransform([affine, method.Execute(fixed, moving)])
    probability = sitk.ReadImage(str(template).replace("T1w", "label-hipp_probseg"), sitk.sitkFloat32)
    carried = sitk.Resample(probability, sitk.ReadImage(str(crop)), warp, sitk.sitkLinear, 0.0)
    return sitk.GetArrayFromImage(carried).transpose(2, 1, 0) > 127


def _carry(fixed: sitk.Image, moving: sitk.Image, steps: int) -> sitk.Transform:
    import SimpleITK as sitk  # noqa: N813

    affine = sitk.AffineTransform(3)
    affine.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint([size / 2 for size in fixed.GetSize()]))
    first = sitk.ImageRegistrationMethod()
    first.SetMetricAsMattesMutualInformation(32)
    first.SetMetricSamplingStrategy(first.RANDOM)
    first.SetMetricSamplingPercentage(0.2, 42)
    first.SetInterpolator(sitk.sitkLinear)
    first.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, steps)
    first.SetOptimizerScalesFromPhysicalShift()
    first.SetShrinkFactorsPerLevel([3])
    first.SetSmoothingSigmasPerLevel([1.2])
    first.SetInitialTransform(affine, inPlace=True)
    first.Execute(fixed, moving)
    return affine


def check_msd(folder: Path, output: Path, model: str) -> None:
    """Anterior and posterior of the held-out people, through finer oblique crops and back to their blocks' grid."""
    tested = read_split(output / "split.tsv").people_in("test")
    blocks = [block for block in read_blocks(folder) if f"sub-{block.person}" in tested]
    predictor = _predictor(model)
    scores = np.array([_score_block(predictor, block) for block in blocks])
    rng = np.random.default_rng(42)
    for name, values in zip(("anterior", "posterior", "whole"), scores.T, strict=True):
        means = rng.choice(values, (2000, len(values))).mean(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        interval = f"{low:.3f} to {high:.3f}"
        print(f"  {name:10} Dice {values.mean():.4f} ({interval}), lowest {values.min():.3f}, {len(values)} people")


def _predictor(model: str) -> Predictor:
    from bidsapp.exchange.loading import load_model
    from bidsapp.layout import ModelPlaces
    from bidsapp.models.shelf import locate_model
    from bidsapp.prediction import Predictor, choose_device

    path = Path(model) if Path(model).exists() else locate_model(model, ModelPlaces(None, OUTPUT))
    return Predictor(load_model(path), choose_device("cpu"), cores=1)


def _score_block(predictor: Predictor, block: Block) -> tuple[float, float, float]:
    """Dice of anterior, posterior and both together."""
    image, _ = in_network_space(block, "zero", rng=np.random.default_rng(0), spacing_mm=MSD_CROP_MM)
    predicted = predictor.predict_array(image[None], (MSD_CROP_MM,) * 3)
    matrix, offset = block_from_network(block, spacing_mm=MSD_CROP_MM)
    back = np.linalg.inv(matrix)
    shares = [
        ndimage.affine_transform(
            (predicted == value).astype(np.float32), back, -back @ offset, block.image.shape, order=1
        )
        for value in (0, 1, 2)
    ]
    labels = np.argmax(shares, axis=0)
    anterior, posterior = (dice(labels == value, block.label == value) for value in (1, 2))
    return anterior, posterior, dice(labels > 0, block.label > 0)


def check_side(data: Path, people: int) -> None:
    """Which side the Decathlon's blocks are of: their shape against hippocampi of both sides."""
    blocks = read_blocks(data / "msd_hippocampus")[:people]
    for name, mask in _labelled_sides(data):
        margins = [_overlap(block.label > 0, mask) - _overlap(block.label[::-1] > 0, mask) for block in blocks]
        as_is = sum(margin > 0 for margin in margins)
        print(
            f"  {name:24} fits better as it is {as_is} of {len(margins)}, by {np.mean(margins):+.3f} Dice", flush=True
        )


def _labelled_sides(data: Path) -> Iterator[tuple[str, Mask]]:
    """Name and mask (1 mm, along the head's axes from left to right, back to front, bottom to top) of known sides."""
    (path,) = data.glob("aomic_piop2/derivatives/freesurfer/sub-0001/anat/*_label-hippocampus_dseg.nii.gz")
    labels = nib.as_closest_canonical(nib.load(path))
    for side, value in (("L", 1), ("R", 2)):
        yield f"AOMIC, FreeSurfer, {side}", _boxed(np.asanyarray(labels.dataobj) == value)
    for side in SIDES:
        name = f"tpl-MNI152NLin2009aSym_hemi-{side}_space-T1w_desc-subfields_dseg.nii.gz"
        labels = nib.as_closest_canonical(nib.load(data / "mni2009asym_hippocampus" / name))
        yield f"MNI152, HippUnfold, {side}", _boxed(labels.get_fdata() > 0)


def _boxed(mask: Mask, room: int = 8) -> Mask:
    filled = np.argwhere(mask)
    low, high = filled.min(axis=0) - room, filled.max(axis=0) + room + 1
    return mask[tuple(slice(max(0, one), other) for one, other in zip(low, high, strict=True))]


def _overlap(mask: Mask, reference: Mask) -> float:
    """Largest soft Dice of two masks after turning, shifting and one scale."""
    from scipy.spatial.transform import Rotation

    fixed = ndimage.gaussian_filter(reference.astype(np.float32), 1)
    moving = ndimage.gaussian_filter(mask.astype(np.float32), 1)
    here, there = (np.array(ndimage.center_of_mass(one)) for one in (fixed, moving))
    size = (mask.sum() / reference.sum()) ** (1 / 3)

    def distance(pose: NDArray[np.float64]) -> float:
        turn = Rotation.from_euler("xyz", pose[:3] * 10, degrees=True).as_matrix() * size
        moved = ndimage.affine_transform(moving, turn, there + pose[3:] - turn @ here, fixed.shape, order=1)
        return -2 * float((fixed * moved).sum() / ((fixed**2).sum() + (moved**2).sum()))

    return -float(optimize.minimize(distance, np.zeros(6), method="Powell", options={"maxiter": 4}).fun)


if __name__ == "__main__":
    sys.exit(main())
