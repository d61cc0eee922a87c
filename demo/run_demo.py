"""A real head through the built-in model, then the whole loop: train, segment, correct and approve, train on that.

The real head is Colin27 (see data/colin27/README). The people of the training are simulated from the CIT168 atlas (see
simulate.py): their scores show that everything works, not how well a model does on real heads.

    python demo/run_demo.py [--people 12] [--iterations 300 200] [--begin-with scratch]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp.bids.facts import read_facts  # noqa: E402
from bidsapp.cli import main  # noqa: E402
from bidsapp.layout import ModelLayout, OutputLayout, label_names  # noqa: E402
from bidsapp.records import SIDES  # noqa: E402
from bidsapp.tsv import read_tsv  # noqa: E402
from demo.recorded_review import PATIENTS, record_review, write_crops  # noqa: E402
from demo.simulate import simulate_people  # noqa: E402

OUTPUT = ROOT / "demo" / "output"
HEAD = ROOT / "demo" / "data" / "colin27"
SEED = 42
SOME_REFUSED = 1
"""Exit code of a review that refuses a label: here it must."""


def run() -> int:
    """Go once through the loop; returns the exit code."""
    arguments = _parser().parse_args()
    first_iterations, more_iterations = arguments.iterations
    began = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    pairs, model = OUTPUT / "pairs", ModelLayout(OUTPUT / "model")
    head, own_head, study = (OutputLayout(OUTPUT / name) for name in ("colin27", "colin27-own-model", "study"))
    code = _run("1. A real head through the built-in model", HEAD, head.root, "participant")
    if code:
        return code
    show_hippocampi(head, "colin27")
    print(f"  {time.monotonic() - began:.0f} s in all")
    _say(f"2. Simulating {arguments.people} people (two sides each) from the CIT168 atlas in {_shown(pairs)}")
    pairs.mkdir(parents=True)
    simulate_people(pairs, arguments.people, SEED)
    patients = write_crops(OUTPUT / "patients")
    steps: list[tuple[str, tuple[object, ...], int]] = [
        (
            "3. A first model of one's own, on pairs that were made elsewhere",
            (
                *(pairs, OUTPUT / "unused", "group", "--training-dir", pairs, "--model-dir", model.root),
                *("--preset", "tiny", "--model", arguments.begin_with, "--iterations", first_iterations),
            ),
            0,
        ),
        (
            "   The same head, with the crops that there are, through that model",
            (HEAD, own_head.root, "participant", "--derivatives", head.root, "--model", model.current_export),
            0,
        ),
        (
            f"4. {PATIENTS} new (simulated) people, whose CorObl crops another tool made, through that model",
            (patients, study.root, "participant", "--derivatives", patients, "--model", model.current_export),
            0,
        ),
        ("5. Everybody is listed for review", (patients, study.root, "review"), 0),
        (
            "6. A person corrected two, rejected one, approved the rest; one came back flipped",
            (patients, study.root, "review"),
            SOME_REFUSED,
        ),
        (
            "7. Training on what was approved",
            (patients, study.root, "group", "--preset", "tiny", "--iterations", more_iterations),
            0,
        ),
    ]
    for title, words, expected in steps:
        if expected == SOME_REFUSED:
            record_review(study)
        code = _run(title, *words)
        if code != expected:
            print(f"\nThe demo stopped: exit code {code} instead of {expected}.")
            return code or 1
    _conclude(time.monotonic() - began, model, head, study)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=12, help="simulated people of the first training")
    parser.add_argument(
        "--iterations", type=int, nargs=2, default=(300, 200), help="of the first and the last training"
    )
    parser.add_argument("--begin-with", default="scratch", help="what the first training begins with")
    return parser


def show_hippocampi(output: OutputLayout, person: str) -> None:
    """Print volumes and judgements of both hippocampi of a person."""
    for side in SIDES:
        path = output.session(person, None).prediction(side)
        volumes = {row.cells["name"]: float(row.cells["volume_mm3"]) for row in read_tsv(label_names(path), ["name"])}
        facts = read_facts(path) or {"level": "unknown", "judgements": []}
        parts = ", ".join(f"{name.lower()} {volume:.0f}" for name, volume in volumes.items())
        print(f"  hemi-{side}: {sum(volumes.values()):.0f} mm3 ({parts}), {facts['level']}")
        for judgement in facts["judgements"]:
            print(f"    {judgement['level']}: {judgement['words']}")


def _run(title: str, *words: object) -> int:
    """Run a command line as a user would, and show it."""
    shown = [_shown(word) if isinstance(word, Path) else str(word) for word in words]
    _say(f"{title}\n   run.py {' '.join(shown)}")
    return main([str(word) for word in words])


def _conclude(seconds: float, model: ModelLayout, head: OutputLayout, study: OutputLayout) -> None:
    scores = json.loads(model.summary.read_text(encoding="utf-8"))["all_labels"]["dice"]["mean"]
    print(f"\nThe demo took {seconds:.0f} s. Test Dice of the first model: {scores:.3f}, on people simulated from one")
    print("atlas: that says that everything works here, not how good the model is on real heads.")
    print(f"Open {model.report}: the training and its scores,")
    print(f"     {head.index}: a real head, segmented by the built-in model,")
    print(f"     {study.review_page}: who approved what, and what was refused.")


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(run())
