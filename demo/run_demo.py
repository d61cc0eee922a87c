"""The whole job on this machine's CPU: simulated people in, a trained, tested model out, a real head segmented.

The people are simulated from the CIT168 atlas (see simulate.py): the scores show that everything works, not
how well the model does on real heads. The real head is Colin27 (see data/colin27/README).
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp.cli import main  # noqa: E402
from bidsapp.layout import ModelLayout, OutputLayout  # noqa: E402
from demo.simulate import simulate_people  # noqa: E402

OUTPUT = ROOT / "demo" / "output"
HEAD = ROOT / "demo" / "data" / "colin27"
PEOPLE, SEED, ITERATIONS = 12, 42, 300


def run() -> int:
    """Simulate, train, test, segment a real head; returns the exit code."""
    began = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    pairs, model, derivatives = OUTPUT / "pairs", OUTPUT / "model", OUTPUT / "derivatives"
    print(f"1. simulating {PEOPLE} people (two sides each) from the CIT168 atlas in {_shown(pairs)}")
    pairs.mkdir(parents=True)
    simulate_people(pairs, PEOPLE, SEED)
    code = _run(
        2,
        *(pairs, OUTPUT / "unused", "group", "--training-dir", pairs, "--model-dir", model),
        *("--preset", "tiny", "--iterations", ITERATIONS),
    )
    if code == 0:
        code = _run(3, HEAD, derivatives, "participant", "--model", ModelLayout(model).current_export)
    print(f"\nThe demo took {time.monotonic() - began:.0f} s. The people of the training are simulated from one atlas:")
    print("their scores say that everything works here, not how good the model is on real heads.")
    if code == 0:
        print(f"Open {ModelLayout(model).report}: the training and its scores,")
        print(f"and  {OutputLayout(derivatives).index}: a real head, segmented with that model.")
    return code


def _run(step: int, *words: object) -> int:
    """Run a command line as a user would, and show it."""
    shown = [_shown(word) if isinstance(word, Path) else str(word) for word in words]
    print(f"{step}. run.py {' '.join(shown)}")
    return main([str(word) for word in words])


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(run())
