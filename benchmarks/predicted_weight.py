"""How often should labels train that were approved as the model predicted them? `training.predicted_weight`, measured.

    python benchmarks/predicted_weight.py [--people 48 12 6 40] [--weights 0 0.1 0.25 0.5 1] [--iterations 150]

People are simulated (`demo.simulate`, 1 mm). Most training people have the built-in model's predictions for labels,
approved as they were; some have their true labels, as if corrected. Others with true labels validate and test. A model
goes on from the built-in one, and one begins from scratch, with each weight, preset `tiny`. A prediction that the
checks of pairs refuse is left out, as a person would reject it. Intervals are 95 % bootstrap intervals over people.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.finetune import SEED, interval_text, run_group  # noqa: E402
from bidsapp.evaluation.scores import read_scores  # noqa: E402
from bidsapp.exchange.loading import load_model  # noqa: E402
from bidsapp.layout import ModelLayout, origins_file  # noqa: E402
from bidsapp.model_dir.split import write_split  # noqa: E402
from bidsapp.pairs.origins import write_origins  # noqa: E402
from bidsapp.printable import people_text  # noqa: E402
from bidsapp.records import LabelOrigin, Split, SplitName, SplitRow  # noqa: E402
from demo.simulate import simulate_people  # noqa: E402

BUILT_IN = ROOT / "bidsapp" / "models" / "default.zip"
FINE = (0, 1, 3)
"""Exit codes: all is well, a prediction was left out, or the model is worse than the one before, which is measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("PREDICTED", "CORRECTED", "VALIDATION", "TEST")
    parser.add_argument("--people", type=int, nargs=4, metavar=names, default=[48, 12, 6, 40])
    parser.add_argument("--weights", type=float, nargs="+", default=[0, 0.1, 0.25, 0.5, 1])
    parser.add_argument("--begin-with", nargs="+", choices=("default", "scratch"), default=["default", "scratch"])
    parser.add_argument("--iterations", type=int, default=150)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _benchmark(arguments, Path(folder))


def _benchmark(arguments: argparse.Namespace, folder: Path) -> None:
    predicted, corrected, validation, test = arguments.people
    cases = simulate_people(folder / "pairs", sum(arguments.people), SEED, spacing_mm=1.0)
    people = list(dict.fromkeys(case.partition("_")[0] for case in cases))
    _predict(folder / "pairs", [case for case in cases if case.partition("_")[0] in people[:predicted]])
    parts: list[SplitName] = [*["train"] * (predicted + corrected), *["validation"] * validation, *["test"] * test]  # type: ignore[list-item]
    split = Split(tuple(map(SplitRow, people, parts)))
    for begin in arguments.begin_with:
        for weight in arguments.weights:
            layout = ModelLayout(folder / f"{begin}-{weight:g}")
            layout.root.mkdir()
            write_split(layout.split, split)
            options = ["--iterations", arguments.iterations, "--set", f"training.predicted_weight={weight:g}"]
            options += ["--skip-bad-pairs"] + ([] if begin == "scratch" else ["--model", begin])
            run_group(folder / "pairs", layout, *options, fine=FINE)
            by_person: dict[str, list[float]] = {}
            for score in read_scores(layout.scores):
                by_person.setdefault(score.participant_id, []).append(score.dice)
            dice = interval_text(np.array([np.mean(one) for one in by_person.values()]))
            print(f"{begin}, weight {weight:g}: Dice {dice}, {people_text(len(by_person))}", flush=True)


def _predict(pairs: Path, cases: list[str]) -> None:
    """Give cases the built-in model's predictions for labels, and say so in origins.tsv."""
    import torch

    from bidsapp.prediction import Predictor

    model = load_model(BUILT_IN)
    predictor = Predictor(model, torch.device("cpu"))
    for case in cases:
        predictor.predict_files([pairs / f"{case}_img.nii.gz"], pairs / f"{case}_lbl.nii.gz")
    write_origins(origins_file(pairs), {case: LabelOrigin("as_predicted", 0, model.digest) for case in cases})


if __name__ == "__main__":
    main()
