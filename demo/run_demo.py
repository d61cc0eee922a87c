"""The whole job on this machine's CPU: simulated people in; a trained, tested, exported model out.

The people are simulated from the CIT168 atlas (see simulate.py): the scores show that everything works, not
how well the model does on real heads.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp.cli import main  # noqa: E402
from bidsapp.layout import ModelLayout  # noqa: E402
from demo.simulate import simulate_people  # noqa: E402

OUTPUT = ROOT / "demo" / "output"
PEOPLE, SEED, ITERATIONS = 12, 42, 300


def run() -> int:
    """Simulate, train, test; returns the exit code."""
    began = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    pairs, model = OUTPUT / "pairs", OUTPUT / "model"
    print(f"1. simulating {PEOPLE} people (two sides each) from the CIT168 atlas in {_shown(pairs)}")
    pairs.mkdir(parents=True)
    simulate_people(pairs, PEOPLE, SEED)
    command = [
        *(str(pairs), str(OUTPUT / "derivatives"), "group"),
        *("--training-dir", str(pairs), "--model-dir", str(model)),
        *("--preset", "tiny", "--iterations", str(ITERATIONS)),
    ]
    print("2. run.py " + " ".join(_shown(Path(word)) if word.startswith("/") else word for word in command))
    code = main(command)
    print(f"\nThe demo took {time.monotonic() - began:.0f} s. These people are simulated from one atlas:")
    print("their scores say that everything works here, not how good the model is on real heads.")
    if code == 0:
        print(f"Open {ModelLayout(model).report} in a browser.")
    return code


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(run())
