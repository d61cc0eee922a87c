"""Train the built-in model: real people of the Decathlon and simulated ones, through our own group level.

    python models/train_default.py --msd ../shared/data/msd_hippocampus

Writes pairs, the model's folder and ``default.zip`` below models/output; given again, it goes on where it stopped.
The pairs show blocks turned and filled, which nobody else has: the fingerprints in the archive are of the blocks as the
Decathlon has them. ``--fingerprint ARCHIVE`` writes those alone.
Options that are not its own go to `group` (``--nprocs 1``, ``--set optimizer.learning_rate=1e-3``, ...).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp.cli import main as run_py  # noqa: E402
from bidsapp.errors import PartialFailureError  # noqa: E402
from bidsapp.exchange.export import write_zip  # noqa: E402
from bidsapp.exchange.loading import MANIFEST  # noqa: E402
from bidsapp.files import replace_atomically  # noqa: E402
from bidsapp.images.orientation import NETWORK_SPACE, turn_volume  # noqa: E402
from bidsapp.images.volumes import read_volume  # noqa: E402
from bidsapp.layout import ModelLayout  # noqa: E402
from bidsapp.model_dir.fingerprints import FINGERPRINTS, describe_fingerprints, fingerprint  # noqa: E402
from bidsapp.model_dir.split import place_people, write_split  # noqa: E402
from bidsapp.model_dir.state import read_state  # noqa: E402
from bidsapp.models_cli import main as models_cli  # noqa: E402
from bidsapp.pairs.check_pairs import image_digest  # noqa: E402
from bidsapp.records import Split, SplitRow  # noqa: E402
from bidsapp.sharing.share import read_export  # noqa: E402
from bidsapp.tsv import write_tsv  # noqa: E402
from demo.simulate import simulate_people  # noqa: E402
from models.msd_pairs import GRID_MM, block_files, read_blocks, write_held_out_pair, write_training_pairs  # noqa: E402

MSD = ROOT.parent / "shared" / "data" / "msd_hippocampus"
OUTPUT = ROOT / "models" / "output"
SEED = 42
SIMULATED_PEOPLE = 60
VALIDATION, TEST = 0.1, 0.2
"""Parts of the 200 people of the Decathlon: 20 and 40; simulated people are trained on only."""

ITERATIONS = (2500, 4000)
"""Of each training segment: the first from scratch, the others from a lower peak of the learning rate."""
SETTINGS = {
    "training.channels": "T1w",
    "training.seed": str(SEED),
    "training.batch_size": "2",
    "training.patch_size": "40 72 40",
    "training.spacing_mm": "1 1 1",
    "training.features": "16 32 64 128",
    "training.validation_interval": "100",
    "training.validation_batches": "10",
    "training.checkpoint_interval": "100",
    "optimizer.name": "adamw",
    "optimizer.learning_rate": "5e-3",
    "optimizer.warmup_iterations": "50",
    "optimizer.next_peak": "0.4",
    # crops of real heads are turned by what registration leaves, and by how people differ
    "augmentation.rotation_probability": "0.6",
    "augmentation.rotation_degrees": "-20 20",
    "augmentation.scaling_probability": "0.5",
    "augmentation.scaling_factor": "0.75 1.3",
    "augmentation.elastic_probability": "0.3",
    "augmentation.bias_field_probability": "0.3",
    "augmentation.field_of_view_probability": "0.2",
}
ACCEPTED = "border, shift, volume, pieces"
"""Findings that do not refuse a pair: blocks are shifted on the way into the crop, and simulated people are varied.

A front that looks like a back is never accepted; such a simulated side is left out.
"""
TITLE = "HippoTune's built-in model: anterior and posterior hippocampus on T1w"
LICENCE = "CC-BY-SA-4.0"
ABOUT = ROOT / "models" / "about.md"


def main() -> int:
    """Make what is missing of pairs, train, test, export; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--msd", type=Path, default=MSD, help="Task04_Hippocampus of the Decathlon")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--iterations", type=int, nargs="+", default=ITERATIONS, help="of each segment")
    parser.add_argument("--simulated", type=int, default=SIMULATED_PEOPLE, help="simulated people")
    parser.add_argument("--pairs-only", action="store_true")
    parser.add_argument("--fingerprint", type=Path, metavar="ARCHIVE", help="write its fingerprints, and nothing else")
    arguments, of_group = parser.parse_known_args()
    if arguments.fingerprint:
        write_fingerprints(arguments.fingerprint, arguments.msd)
        return 0
    pairs, model = arguments.output / "pairs", ModelLayout(arguments.output / "default")
    if not pairs.exists():
        print(f"making pairs in {pairs}", flush=True)
        write_split(arguments.output / "split.tsv", make_pairs(arguments.msd, pairs, arguments.simulated))
    if arguments.pairs_only:
        return 0
    if not model.split.exists():
        model.root.mkdir(parents=True, exist_ok=True)
        write_tsv(model.pairs_table, ("id", "accept"), ((case, ACCEPTED) for case in cases_of(pairs)))
        model.split.write_bytes((arguments.output / "split.tsv").read_bytes())
    for target, length in zip(accumulate(arguments.iterations), arguments.iterations, strict=True):
        if not _is_done(model, target):
            settings = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
            words = [pairs, arguments.output, "group", "--training-dir", pairs, "--model-dir", model.root, *settings]
            code = run_py([*map(str, words), "--skip-bad-pairs", "--iterations", str(length), *of_group])
            if code not in (0, PartialFailureError.exit_code):
                return code
    archive = arguments.output / "default.zip"
    archive.unlink(missing_ok=True)
    words = [model.root, archive, "--license", LICENCE, "--title", TITLE, "--about", ABOUT]
    code = models_cli(["export", *map(str, words)])
    if not code:
        write_fingerprints(archive, arguments.msd)
    return code


def _is_done(model: ModelLayout, target: int) -> bool:
    """Whether the segment that ends at iteration `target` is trained, tested and exported."""
    state = read_state(model)
    return state is not None and any(one.target == target and one.stage == "exported" for one in state.segments)


def make_pairs(msd: Path, folder: Path, simulated_people: int) -> Split:
    """Write all pairs and labels.tsv to `folder`; returns everybody's place."""
    blocks = {f"sub-{block.person}": block for block in read_blocks(msd)}
    split = place_blocks(blocks)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    simulate_people(unfinished, simulated_people, SEED, spacing_mm=GRID_MM)
    simulated = {path.name.split("_")[0] for path in unfinished.glob("sub-*_lbl.nii.gz")}
    for row in split.rows:
        block = blocks[row.participant_id]
        if row.split == "train":
            write_training_pairs(unfinished, block, SEED)
        else:
            write_held_out_pair(unfinished, block)
    unfinished.rename(folder)
    return Split((*split.rows, *(SplitRow(person, "train", 1) for person in sorted(simulated))))


def cases_of(pairs: Path) -> list[str]:
    """Ids of all pairs."""
    return sorted(path.name.removesuffix("_lbl.nii.gz") for path in pairs.glob("*_lbl.nii.gz"))


def place_blocks(people: Collection[str]) -> Split:
    """Everybody's place, by their ids alone."""
    return place_people(Split(), people, seed=SEED, validation_fraction=VALIDATION, test_fraction=TEST)


def write_fingerprints(archive: Path, msd: Path) -> None:
    """Write into `archive` which blocks were in which part; weights and everything else stay as they are."""
    files = {f"sub-{person}": path for person, path in block_files(msd).items()}
    parts = {}
    for row in place_blocks(files).rows:
        block = turn_volume(read_volume(files[row.participant_id], "pair"), NETWORK_SPACE["L"])
        parts[fingerprint(image_digest(block.data))] = row.split
    packed = read_export(archive)
    manifest = packed.manifest | {FINGERPRINTS: describe_fingerprints(parts)}
    content = packed.files | {MANIFEST: (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode()}
    replace_atomically(archive, partial(_write_archive, packed.dataset, content))
    print(f"{archive}: {len(parts)} fingerprints, sha256 {hashlib.sha256(archive.read_bytes()).hexdigest()}")


def _write_archive(dataset: str, content: dict[str, bytes], path: Path) -> None:
    with path.open("wb") as stream:
        write_zip(stream, ((f"{dataset}/{name}", content[name]) for name in sorted(content)))


if __name__ == "__main__":
    sys.exit(main())
