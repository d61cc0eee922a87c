"""Do the guards find faulty pairs in a folder? `python -m benchmarks.pair_faults --msd DIR [--plants N]`.

Plants faults into the Decathlon's hippocampi, in folders of several kinds, a tenth of each faulty, and prints how many
are found and how many good pairs are flagged. Only the other pairs and the template are asked, no model.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp.arrays import FloatArray, IntArray  # noqa: E402
from bidsapp.guards.pair_guards import PairFacts, judge_pairs, look_at_pair  # noqa: E402
from bidsapp.records import LabelTable  # noqa: E402
from models.msd_pairs import Block, in_network_space, read_blocks  # noqa: E402

TABLE = LabelTable({1: "Anterior", 2: "Posterior", 3: "Head", 4: "Body", 5: "Tail"})
FIRST, SECOND = frozenset({"Anterior", "Posterior"}), frozenset({"Head", "Body", "Tail"})
CROP_MM = 0.3
SIZES = {"few": 8, "five": 5, "four": 4}


@dataclass(frozen=True, eq=False)
class Loaded:
    """One pair in memory, axes of network space."""

    image: FloatArray
    labels: IntArray
    spacing_mm: float
    names: frozenset[str] = FIRST

    @cached_property
    def facts(self) -> PairFacts:
        """What the guards keep of it."""
        return look_at_pair(self.labels, self.image, (self.spacing_mm,) * 3, TABLE)


Spoil = Callable[[Loaded, np.random.Generator], tuple[FloatArray, IntArray]]


def _both(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    return lambda pair, _: (change(pair.image), change(pair.labels))


def _label(change: Callable[[IntArray], IntArray]) -> Spoil:
    return lambda pair, _: (pair.image, change(pair.labels))


def _mirror(axis: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.flip(array, axis)


def _half_turn(first: int, second: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.flip(array, (first, second))


def _exchange(*axes: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array.transpose(axes)


def _shift(length_mm: float) -> Spoil:
    """Move by at least `length_mm` in a random direction, to where the label is still inside."""

    def move(pair: Loaded, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        whole = np.count_nonzero(pair.labels)
        best = pair.labels
        for _ in range(20):
            way = rng.normal(size=3)
            steps = length_mm / pair.spacing_mm * way / np.linalg.norm(way)
            best = ndimage.shift(pair.labels, np.trunc(steps + np.sign(steps) * 0.999), order=0)
            if np.count_nonzero(best) > 0.95 * whole:
                break
        return pair.image, best

    return move


def _recoded(pairs: dict[int, int]) -> Callable[[IntArray], IntArray]:
    return lambda labels: np.select(
        [labels == value for value in pairs], list(pairs.values()), labels.astype(int)
    ).astype(np.uint8)


FAULTS: dict[str, tuple[frozenset[str], Spoil]] = {
    "pair mirrored, left and right": (frozenset({"flip"}), _both(_mirror(0))),
    "pair mirrored, front and back": (frozenset({"flip"}), _both(_mirror(1))),
    "pair mirrored, up and down": (frozenset({"flip"}), _both(_mirror(2))),
    "label mirrored on its image, left and right": (frozenset({"flip"}), _label(_mirror(0))),
    "label mirrored on its image, front and back": (frozenset({"flip"}), _label(_mirror(1))),
    "label mirrored on its image, up and down": (frozenset({"flip"}), _label(_mirror(2))),
    "image mirrored under its label": (frozenset({"flip", "shift"}), lambda pair, _: (pair.image[::-1], pair.labels)),
    "pair turned by 180 degrees, around axis 0": (frozenset({"flip"}), _both(_half_turn(1, 2))),
    "pair turned by 180 degrees, around axis 1": (frozenset({"flip"}), _both(_half_turn(0, 2))),
    "pair turned by 180 degrees, around axis 2": (frozenset({"flip"}), _both(_half_turn(0, 1))),
    "label turned by 180 degrees, around axis 2": (frozenset({"flip"}), _label(_half_turn(0, 1))),
    "axes exchanged, 0 and 1": (frozenset({"flip"}), _both(_exchange(1, 0, 2))),
    "axes exchanged, 1 and 2": (frozenset({"flip"}), _both(_exchange(0, 2, 1))),
    "axes exchanged, 0 and 2": (frozenset({"flip"}), _both(_exchange(2, 1, 0))),
    "axes exchanged, all": (frozenset({"flip"}), _both(_exchange(2, 0, 1))),
    "label shifted by 5 mm": (frozenset({"shift", "flip"}), _shift(5.0)),
    "label shifted by 6 mm": (frozenset({"shift", "flip"}), _shift(6.0)),
    "label shifted by 8 mm": (frozenset({"shift", "flip"}), _shift(8.0)),
    "two labels merged": (frozenset({"required"}), _label(_recoded({2: 1, 4: 3}))),
    "values exchanged": (frozenset({"swapped"}), _label(_recoded({1: 2, 2: 1, 3: 5, 5: 3}))),
}


def second_protocol(pair: Loaded) -> Loaded:
    """The same hippocampus drawn by other rules: head, body, tail, and half a millimetre fatter."""
    labels = np.where(ndimage.gaussian_filter((pair.labels > 0).astype(np.float32), 0.8) > 0.42, 4, 0).astype(np.uint8)
    along = np.flatnonzero(labels.any(axis=(0, 2)))
    back, front = np.quantile(along, [0.25, 0.6])
    planes = np.arange(labels.shape[1])[None, :, None]
    labels = np.where(labels > 0, np.select([planes < back, planes > front], [5, 3], 4), 0).astype(np.uint8)
    return Loaded(pair.image, labels, pair.spacing_mm, SECOND)


def crop_of(block: Block, seed: int) -> Loaded:
    """The same hippocampus in a crop of 0.3 mm in the oblique plane."""
    rng = np.random.default_rng(seed)
    image, labels = in_network_space(
        block, "head" if seed % 2 else "noise", rng=rng, shift_mm=np.clip(rng.normal(0, 2.5, 3), -5, 5),
        simulated=1_000_000 + seed, spacing_mm=CROP_MM,
    )  # fmt: skip
    return Loaded(image, labels, CROP_MM)


def folders(pairs: list[Loaded], size: int, rng: np.random.Generator) -> Iterator[list[Loaded]]:
    """Folders of one size, drawn anew without end."""
    while True:
        order = rng.permutation(len(pairs))
        for start in range(0, len(order) - size + 1, size):
            yield [pairs[index] for index in order[start : start + size]]


def measure(pairs: list[Loaded], size: int, plants: int, seed: int) -> tuple[dict[str, list[int]], Counter[str]]:
    """Plant each fault `plants` times; returns found and planted per fault, and what was said of good pairs."""
    rng = np.random.default_rng(seed)
    waiting = [name for name in FAULTS for _ in range(plants)]
    rng.shuffle(waiting)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    good: Counter[str] = Counter()
    for folder in folders(pairs, size, rng):
        if not waiting:
            break
        faulty = {index: waiting.pop() for index in range(min(max(1, size // 10), len(waiting)))}
        facts, annotated = {}, {}
        for index, pair in enumerate(folder):
            if index in faulty:
                pair = Loaded(*FAULTS[faulty[index]][1](pair, rng), pair.spacing_mm, pair.names)
            case = f"{index:03d}"
            facts[case], annotated[case] = pair.facts, pair.names
        found = judge_pairs(facts, TABLE, annotated).pairs
        for index in range(len(folder)):
            said = {one.guard for one in found.get(f"{index:03d}", ())}
            if index in faulty:
                name = faulty[index]
                seen = (bool(said & FAULTS[name][0]), True, bool(said))
                counts[name] = [before + now for before, now in zip(counts[name], seen, strict=True)]
            else:
                good["pairs"] += 1
                good["flagged"] += bool(said)
                good.update(said)
    return counts, good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--msd", type=Path, default=ROOT.parent / "shared" / "data" / "msd_hippocampus")
    parser.add_argument("--plants", type=int, default=40, help="of each fault in each kind of folder")
    parser.add_argument("--crops", type=int, default=30, help="crops of 0.3 mm, made for the mixed folder")
    parser.add_argument("--kinds", nargs="+", default=["blocks", "few", "five", "four", "protocols", "grids"])
    parser.add_argument("--half", choices=["all", "odd", "even"], default="all", help="every second block alone")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    blocks = read_blocks(arguments.msd)
    blocks = {"all": blocks, "odd": blocks[1::2], "even": blocks[::2]}[arguments.half]
    plain = [Loaded(block.image, block.label, 1.0) for block in blocks]
    for kind in arguments.kinds:
        start = time.process_time()
        pairs, size = plain, min(200, len(plain))
        if kind in SIZES:
            size = min(SIZES[kind], len(plain))
        elif kind == "protocols":
            pairs = [second_protocol(pair) if index % 2 else pair for index, pair in enumerate(plain)]
        elif kind == "grids":
            crops = [crop_of(block, number) for number, block in enumerate(blocks[: arguments.crops])]
            pairs = [*crops, *plain[-arguments.crops :]]
            size = len(pairs)
        counts, good = measure(pairs, size, arguments.plants, arguments.seed)
        print(f"\n{kind}: folders of {size} pairs ({time.process_time() - start:.0f} s of CPU)\n")
        print("| fault | found by its guard | by any |\n| --- | --- | --- |")
        for name in FAULTS:
            if name in counts:
                right, planted, anyone = counts[name]
                print(f"| {name} | {right / planted:.1%} of {planted} | {anyone / planted:.1%} |")
        others = ", ".join(f"{guard} {n}" for guard, n in good.most_common() if guard not in ("pairs", "flagged"))
        share = good["flagged"] / good["pairs"]
        print(f"\ngood pairs flagged: {good['flagged']} of {good['pairs']} ({share:.1%}): {others}", flush=True)


if __name__ == "__main__":
    main()
