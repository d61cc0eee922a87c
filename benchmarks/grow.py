"""A second scanner, learned with and without rehearsal: what is gained there, and what is forgotten of the first.

    python benchmarks/grow.py ../shared/data/msd_hippocampus [--iterations 300] [--part 1] [--keep DIR]

A model is trained on 100 people of the Medical Segmentation Decathlon's Task04. The second scanner is the one that
`benchmarks.finetune.other_scanner` states (contrast remapped, 2 mm slices, noise); 20 other people were seen there, 40
more test it. The model goes on from the first twice, for as many iterations: on the new people alone, and with
`--rehearse` of the first model's training people. `--source-test` is the first model's own 30 test people.
Intervals are 95 % bootstrap intervals over people, differences are paired by person.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.finetune import (  # noqa: E402
    SEED,
    add_part_and_keep,
    interval_text,
    place,
    run_group,
    some,
    write_pairs,
)
from bidsapp.evaluation.scores import read_scores  # noqa: E402
from bidsapp.files import read_json  # noqa: E402
from bidsapp.layout import ModelLayout  # noqa: E402

SOURCE = {"train": 100, "validation": 10, "test": 30}
TARGET = {"train": 14, "validation": 6, "test": 40}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="Task04_Hippocampus with imagesTr and labelsTr")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--source-iterations", type=int, default=600)
    add_part_and_keep(parser)
    arguments = parser.parse_args()
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        _benchmark(arguments, arguments.keep)
        return
    with tempfile.TemporaryDirectory() as folder:
        _benchmark(arguments, Path(folder))


def _benchmark(arguments: argparse.Namespace, folder: Path) -> None:
    images = sorted((arguments.data / "imagesTr").glob("*.nii.gz"))
    np.random.default_rng(SEED).shuffle(images)
    source_size, target_size = (
        {part: some(people, arguments.part) for part, people in sizes.items()} for sizes in (SOURCE, TARGET)
    )
    first = images[: sum(source_size.values())]
    second = images[len(first) :][: sum(target_size.values())]
    labels = arguments.data / "labelsTr"
    write_pairs(folder / "first-pairs", first, labels, changed=False)
    write_pairs(folder / "second-pairs", second, labels, changed=True)
    source = ModelLayout(folder / "first")
    place(source, first, source_size["train"], source_size["validation"])
    run_group(folder / "first-pairs", source, "--iterations", arguments.source_iterations)
    go_on = ("--model", source.root, "--source-test", source.root)
    for name, iterations, options in (
        ("untouched", 0, go_on),
        ("without rehearsal", arguments.iterations, go_on),
        ("with rehearsal", arguments.iterations, (*go_on, "--rehearse", source.root)),
    ):
        layout = ModelLayout(folder / name.replace(" ", "-"))
        place(layout, second, target_size["train"], target_size["validation"])
        run_group(folder / "second-pairs", layout, "--iterations", iterations, *options)
        result = read_json(layout.state)["segments"][-1]["result"]
        forgotten = result["comparisons"]["source test"]["overall"]
        low, high = forgotten["interval_95"] or (float("nan"), float("nan"))  # none of very few people
        by_person: dict[str, list[float]] = {}
        for score in read_scores(layout.scores):
            by_person.setdefault(score.participant_id, []).append(score.dice)
        target = interval_text(np.array([np.mean(dice) for dice in by_person.values()]))
        print(
            f"{name}: second scanner {target}, {len(by_person)} people; first scanner {forgotten['after']:.3f}, "
            f"{forgotten['mean']:+.3f} ({low:+.3f} to {high:+.3f}), {forgotten['people']} people",
            flush=True,
        )


if __name__ == "__main__":
    main()
