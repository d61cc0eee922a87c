"""How robust is the registration? `python -m benchmarks.registration [--data DIR] [--head FILE ...] [--cases N]`.

Simulates T1w and T2w heads and inputs that are no use, registers all of them, and prints one line each and
a summary. A case fails when a hippocampus is more than 10 mm from where the template has it, or less than
98 % of it is in the crop. `--data` is a folder of BIDS datasets; heads with a `*_label-hippocampus_dseg`
beside them (1 left, 2 right) are judged against it, others against the template's hippocampus as it lies
in the untouched head.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.simulated_heads import Contrast, Source, noise, simulate
from bidsapp.arrays import FloatArray
from bidsapp.corobl.grid import GRIDS
from bidsapp.corobl.measures import contain_native_mask
from bidsapp.corobl.quality import Level, judge_registration, worst_level
from bidsapp.corobl.registration import Registration, register_to_template
from bidsapp.corobl.template import hippocampus_points, load_hippocampus, load_template
from bidsapp.corobl.transforms import apply
from bidsapp.images.volumes import Volume, read_volume
from bidsapp.records import SIDES, Side

CENTROID_LIMIT_MM, CONTAINED_LIMIT = 10.0, 0.98
STRIPPED_MM3 = 2.2e6
UNSUITABLE: tuple[tuple[Contrast, float], ...] = (("CT", 1.0), ("PDw", 5.0))
T1W_CASES, T1W_HARD, T2W_CASES = 30, 12, 10


@dataclass(frozen=True)
class Outcome:
    """One simulated head."""

    error_mm: float
    contained: float
    seconds: float
    level: Level

    @property
    def failed(self) -> bool:
        """Whether a hippocampus is off or cut."""
        return self.error_mm > CENTROID_LIMIT_MM or self.contained < CONTAINED_LIMIT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of BIDS datasets with whole-head T1w")
    parser.add_argument("--head", type=Path, nargs="*", default=[], help="more T1w heads")
    parser.add_argument("--cases", type=int, default=T1W_CASES, help="at most so many of each kind")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    sources = [template_source()]
    for path in [*heads_below(arguments.data), *arguments.head]:
        sources.append(real_source(path, arguments.threads))
    whole = [source for source in sources if "stripped" not in source.name]
    t1w = [run_case(whole, case, "T1w", arguments.threads) for case in range(min(T1W_CASES, arguments.cases))]
    t2w = [
        run_case(whole, T1W_CASES + case, "T2w", arguments.threads) for case in range(min(T2W_CASES, arguments.cases))
    ]
    useless = islice(unsuitable(whole), arguments.cases)
    unflagged = [name for name, volume in useless if run_unsuitable(name, volume, arguments.threads) != "red"]
    summarise("T1w", t1w)
    summarise("T2w", t2w)
    print(f"unsuitable inputs that were not flagged: {', '.join(unflagged) or 'none'}")


def summarise(name: str, outcomes: list[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.failed]
    missed = sum(outcome.level != "red" for outcome in failed)
    alarms = sum(outcome.level == "red" for outcome in outcomes) - (len(failed) - missed)
    errors = [outcome.error_mm for outcome in outcomes]
    seconds = [outcome.seconds for outcome in outcomes]
    print(
        f"{name}: {len(failed)} of {len(outcomes)} failed ({missed} unnoticed), {alarms} right ones flagged; "
        f"centroid error median {np.median(errors):.2f}, worst {max(errors):.2f} mm; "
        f"CPU median {np.median(seconds):.1f}, worst {max(seconds):.1f} s"
    )


def run_case(sources: list[Source], case: int, contrast: Contrast, threads: int) -> Outcome:
    hard = case < T1W_HARD or (contrast == "T2w" and case % 2 == 0)
    simulated = simulate(sources[case % len(sources)], case, contrast, hard=hard)
    registration, seconds = register_timed(simulated.scan, threads)
    compared = [compare(registration, side, simulated.hippocampi[side]) for side in SIDES]
    level = worst_level(judge_registration(registration.quality))
    outcome = Outcome(max(e for e, _ in compared), min(share for _, share in compared), seconds, level)
    words = f"{outcome.error_mm:5.2f} mm, {outcome.contained:.1%}{' FAILED' if outcome.failed else ''}"
    report(simulated.name, registration, seconds, words)
    return outcome


def run_unsuitable(name: str, volume: Volume, threads: int) -> Level:
    registration, seconds = register_timed(volume, threads)
    report(name, registration, seconds, "")
    return worst_level(judge_registration(registration.quality))


def compare(registration: Registration, side: Side, points: FloatArray) -> tuple[float, float]:
    """Return the distance of the centroids in CorObl, in mm, and the share of points inside the crop."""
    corobl = apply(np.linalg.inv(registration.native_from_corobl), points)
    voxels = apply(np.linalg.inv(GRIDS[side].affine), corobl)
    inside = ((voxels >= -0.5) & (voxels <= np.array(GRIDS[side].shape) - 0.5)).all(axis=1)
    expected = apply(GRIDS[side].affine, np.argwhere(load_hippocampus(side)).mean(axis=0))
    return float(np.linalg.norm(corobl.mean(axis=0) - expected)), float(inside.mean())


def register_timed(volume: Volume, threads: int) -> tuple[Registration, float]:
    start = time.process_time()
    registration = register_to_template(volume, threads=threads)
    return registration, time.process_time() - start


def report(name: str, registration: Registration, cost: float, outcome: str) -> None:
    quality = registration.quality
    level = worst_level(judge_registration(quality))
    low, _, high = sorted(quality.sizes)
    print(
        f"{name:28s} {cost:5.1f} s search {registration.search} crops {quality.nmi_in_crops:.4f} "
        f"brain {quality.nmi_in_brain:.4f} peak {quality.peak:.2f} sizes {low:.2f}-{high:.2f} "
        f"{level:6s} {outcome}",
        flush=True,
    )


def unsuitable(sources: list[Source]) -> Iterator[tuple[str, Volume]]:
    for case in range(3):
        yield f"noise-{case}", noise(case)
    yield "constant", Volume(np.full((100, 100, 100), 7, np.float32), np.diag([2.0, 2, 2, 1]))
    for case, source in enumerate(sources):
        for contrast, thick_mm in UNSUITABLE:
            simulated = simulate(source, 100 + case, contrast, hard=False, thick_mm=thick_mm)
            yield simulated.name, simulated.scan


def template_source() -> Source:
    template = load_template()
    return mapped_source("CIT168", template.head.at_2_mm, np.eye(4))


def heads_below(data: Path | None) -> list[Path]:
    return sorted(data.glob("*/sub-*/anat/*_T1w.nii.gz")) if data else []


def real_source(path: Path, threads: int) -> Source:
    """Register the head as it is, print how, and take its hippocampi from the label or the template."""
    scan = read_volume(path, "scan")
    registration, cost = register_timed(scan, threads)
    stripped = np.count_nonzero(scan.data) * np.prod(scan.spacing_mm) < STRIPPED_MM3
    name = f"{path.parts[-4] if 'anat' in path.parts else ''}{path.name.split('_')[0].split('.')[0]}"
    name += "-stripped" if stripped else ""
    source = mapped_source(name, scan, registration.native_from_template)
    labels = labels_of(path)
    if labels is None:
        report(source.name, registration, cost, "")
        return source
    source = replace(source, hippocampi=split_sides(labels))
    native_from_corobl = registration.native_from_corobl
    for side, mask in source.hippocampi.items():
        found = contain_native_mask(Volume(mask.data > 0.5, mask.affine), native_from_corobl, GRIDS[side], side)
        report(source.name, registration, cost, f"{side}: {found}")
    return source


def split_sides(labels: Volume) -> dict[Side, Volume]:
    values = zip(SIDES, (1, 2), strict=True)
    return {side: Volume((labels.data == value).astype(np.float32), labels.affine) for side, value in values}


def labels_of(path: Path) -> Volume | None:
    if "anat" not in path.parts:
        return None
    name = path.name.replace("_T1w", "_label-hippocampus_dseg")
    found = sorted(path.parents[2].glob(f"derivatives/*/*/anat/{name}"))
    return read_volume(found[0], "scan") if found else None


def mapped_source(name: str, head: Volume, native_from_template: FloatArray) -> Source:
    """Carry the template's brain and hippocampi to a head's own grid."""
    template = load_template()
    voxel_from_template = np.linalg.inv(head.affine) @ native_from_template
    to_brain = np.linalg.inv(template.brain.affine) @ np.linalg.inv(native_from_template) @ head.affine
    brain = ndimage.affine_transform(template.brain.data, to_brain[:3, :3], to_brain[:3, 3], head.data.shape, order=1)
    tight = ndimage.binary_erosion(brain > 0.5, iterations=max(1, round(4 / head.spacing_mm.min())))
    hippocampi = {}
    for side in SIDES:
        voxels = np.rint(apply(voxel_from_template, hippocampus_points(side))).astype(int)
        voxels = voxels[((voxels >= 0) & (voxels < head.data.shape)).all(axis=1)]
        mask = np.zeros(head.data.shape, dtype=np.float32)
        mask[tuple(voxels.T)] = 1
        hippocampi[side] = Volume(mask, head.affine)
    return Source(name, head, Volume(tight.astype(np.float32), head.affine), hippocampi)


if __name__ == "__main__":
    main()
