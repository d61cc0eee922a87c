"""Do the guards catch faults, and let good labels pass? `python -m benchmarks.guards [--data DIR] [--cases N]`.

Writes every kind of fault into every good label map and prints which guard speaks how often, and how often a good
label map is refused: as a correction against its prediction, with the review's limits.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.good_labels import GoodCase, good_cases
from benchmarks.label_faults import FAULTS, check_fault, check_file, good_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of real label maps; without it the template's is warped")
    parser.add_argument("--cases", type=int, default=60, help="good label maps")
    parser.add_argument("--faulty", type=int, default=60, help="how many of them are spoiled")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    caught: dict[str, Counter[str]] = {fault.name: Counter() for fault in FAULTS}
    wrong: dict[str, list[str]] = {}
    spoiled = 0
    seconds = []
    with TemporaryDirectory() as folder:
        for number, case in enumerate(good_cases(arguments.data, arguments.cases, arguments.seed)):
            start = time.perf_counter()
            if words := refusals(case, Path(folder)):
                wrong[case.name] = words
            seconds.append(time.perf_counter() - start)
            if number < arguments.faulty:
                spoiled += 1
                for fault in FAULTS:
                    rng = np.random.default_rng([arguments.seed, 4, number])
                    spoken = check_fault(fault, case, Path(folder), rng)
                    caught[fault.name].update(spoken)
                    caught[fault.name]["right"] += bool(spoken & fault.guards)
                    if not spoken & fault.guards:
                        print(f"missed: {fault.name} of {case.name}; spoke: {', '.join(sorted(spoken)) or 'nobody'}")
    print_table(caught, spoiled)
    print(f"\ngood labels refused: {len(wrong)} of {len(seconds)}; seconds a check, files read: {np.mean(seconds):.2f}")
    for name, words in wrong.items():
        print(f"  {name}: {'; '.join(words)}")


def refusals(case: GoodCase, folder: Path) -> list[str]:
    """What blocks a good label map."""
    path = folder / "good.nii.gz"
    path.write_bytes(good_file(case))
    return [f"{finding.guard}: {finding.problem}" for finding in check_file(path, case) if finding.blocks]


def print_table(caught: dict[str, Counter[str]], spoiled: int) -> None:
    """Print one line per fault: share caught by the guard that should, and all guards that spoke."""
    print(f"| fault ({spoiled} cases) | guard | caught | also spoke |\n| --- | --- | --- | --- |")
    for fault in FAULTS:
        spoke = caught[fault.name]
        others = ", ".join(f"{name} {n}" for name, n in spoke.most_common() if name not in {"right", *fault.guards})
        share = spoke["right"] / spoiled if spoiled else 0.0
        print(f"| {fault.name} | {' or '.join(sorted(fault.guards))} | {share:.1%} | {others} |")


if __name__ == "__main__":
    main()
