"""Training speed and memory against plain nnU-Net: same cases, plan, device, cores and iterations, one run.

    python benchmarks/train.py [--pairs DIR] [--people 12] [--iterations 150] [--preset tiny] [--rounds 3]

Both trainers run in processes of their own, in turn. Plain nnU-Net uses as many augmentation workers and threads
as ours; everything else is its default (SGD, mirroring, float32 on a CPU). Dice is of the test people, predicted
by the same predictor.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp.config import apply_overrides, preset_settings  # noqa: E402
from bidsapp.files import read_json  # noqa: E402
from bidsapp.layout import ModelLayout, OutputLayout  # noqa: E402
from bidsapp.levels import group  # noqa: E402
from bidsapp.logs import prints_to_log  # noqa: E402
from bidsapp.machine import usable_cores  # noqa: E402
from bidsapp.model_dir.state import Segment, read_state  # noqa: E402
from bidsapp.nnunet_environment import nnunet_environment  # noqa: E402
from bidsapp.nnunet_names import NNUNET_CONFIGURATION, NNUNET_PLANS  # noqa: E402


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.trainer:
        print(json.dumps(_measure(arguments.trainer, ModelLayout(arguments.model_dir), arguments.iterations)))
        return
    with tempfile.TemporaryDirectory() as folder:
        pairs = arguments.pairs or _simulated(Path(folder) / "pairs", arguments.people)
        model_dir = Path(folder) / "model"
        _prepare(pairs, model_dir, arguments.preset)
        plain_dir = Path(folder) / "plain"
        shutil.copytree(model_dir, plain_dir)
        _preprocess_plain(ModelLayout(plain_dir))
        model_dirs = {"ours": model_dir, "plain nnU-Net": plain_dir}
        results: dict[str, list[dict[str, float]]] = {trainer: [] for trainer in model_dirs}
        for _ in range(arguments.rounds):
            for trainer, measured in results.items():
                measured.append(_in_a_process(trainer, model_dirs[trainer], arguments))
    _print_table(results, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="training folder (default: simulated people at 1 mm)")
    parser.add_argument("--people", type=int, default=12, help="simulated people, where there is no --pairs")
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trainer", help=argparse.SUPPRESS)
    parser.add_argument("--model-dir", type=Path, help=argparse.SUPPRESS)
    return parser


def _simulated(folder: Path, people: int) -> Path:
    from demo.simulate import simulate_people

    folder.mkdir()
    simulate_people(folder, people, 42, spacing_mm=1.0)
    return folder


def _prepare(pairs: Path, model_dir: Path, preset: str) -> None:
    """Plan once, for both."""
    output = OutputLayout(model_dir.parent / "out")
    request = group.GroupRequest(ModelLayout(model_dir), output, training_dir=pairs, iterations=1, preset=preset)
    group.run(request)


def _preprocess_plain(layout: ModelLayout) -> None:
    """Preprocess the same cases by the same plans in nnU-Net's own format, which is not ours."""
    shutil.rmtree(layout.preprocessed_cases)
    with nnunet_environment(layout), prints_to_log():
        from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

        preprocess_dataset(1, NNUNET_PLANS, configurations=(NNUNET_CONFIGURATION,), num_processes=(1,))


def _in_a_process(trainer: str, model_dir: Path, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--trainer", trainer, "--model-dir", str(model_dir)]
    process = subprocess.run(
        [*command, "--iterations", str(arguments.iterations), "--preset", arguments.preset],
        capture_output=True, text=True,
    )  # fmt: skip
    if process.returncode:
        raise SystemExit(process.stderr)
    return json.loads(process.stdout.splitlines()[-1])


def _measure(trainer: str, layout: ModelLayout, iterations: int) -> dict[str, float]:
    with nnunet_environment(layout):
        seconds, weights = _TRAINERS[trainer](layout, iterations)
        memory = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return {
            "iterations_per_second": iterations / seconds,
            "memory_gb": sum(memory) * 1024 / 1e9,
            "dice": _test_dice(layout, weights),
        }


def _train_ours(layout: ModelLayout, iterations: int) -> tuple[float, dict]:
    import torch

    from bidsapp.training.trainer import Hardware, Watcher, inputs_of, make_trainer

    for path in (layout.checkpoint, layout.previous_checkpoint):
        path.unlink(missing_ok=True)
    state = read_state(layout)
    settings = apply_overrides(
        preset_settings("default"),
        state.segments[0].settings
        | {"training.validation_interval": "1000000", "training.validation_batches": "1"}
        | {"training.checkpoint_interval": "1000000"},
        source="benchmark",
    )
    hardware = Hardware(torch.device("cpu"), usable_cores())
    trainer = make_trainer(layout, settings, [Segment(0, iterations)], hardware, inputs_of(state))
    watcher = Watcher(*[lambda *_: None] * 3, stop_requested=lambda: False)
    began = time.perf_counter()
    trainer.run_training(watcher)
    return time.perf_counter() - began, trainer.network.state_dict()


def _train_plain(layout: ModelLayout, iterations: int) -> tuple[float, dict]:
    import torch

    from bidsapp.training.trainer import Hardware

    hardware = Hardware(torch.device("cpu"), usable_cores())
    os.environ["nnUNet_n_proc_DA"] = str(hardware.workers)  # noqa: SIM112
    torch.set_num_threads(hardware.threads)
    with prints_to_log():
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        plans = read_json(layout.plans) | {"continue_training": False}
        dataset_json = read_json(layout.raw_dataset / "dataset.json")
        trainer = nnUNetTrainer(plans, NNUNET_CONFIGURATION, 0, dataset_json, torch.device("cpu"))
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, iterations, 1
        trainer.initialize()
        began = time.perf_counter()
        trainer.run_training()
        return time.perf_counter() - began, trainer.network.state_dict()


_TRAINERS: dict[str, Callable[[ModelLayout, int], tuple[float, dict]]] = {
    "ours": _train_ours,
    "plain nnU-Net": _train_plain,
}


def _test_dice(layout: ModelLayout, weights: dict) -> float:
    import torch

    from bidsapp.exchange.loading import LoadedModel
    from bidsapp.model_dir.nnunet_files import network_labels
    from bidsapp.prediction import Predictor
    from bidsapp.training.testing import ScoredModel, pairs_of_part, predict_and_score

    dataset_json = read_json(layout.raw_dataset / "dataset.json")
    plans = read_json(layout.plans)
    model = LoadedModel(
        plans,
        dataset_json,
        (weights,),
        None,
        name=layout.name,
        digest="",
        source=layout.root,
        reader=plans["image_reader_writer"],
        channels=tuple(dataset_json["channel_names"].values()),
    )
    scored = ScoredModel(Predictor(model, torch.device("cpu")))
    tested = pairs_of_part(layout, read_state(layout), "test")
    scores = predict_and_score(tested, network_labels(layout), scored, layout.test, what="test people")
    return float(np.mean([score.dice for score in scores]))


def _print_table(results: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    print(
        f"\n{arguments.preset}, {arguments.iterations} iterations, {usable_cores()} cores, "
        f"median of {arguments.rounds} rounds in turn\n"
    )
    print(f"{'':15} {'iterations/s':>12} {'peak GB':>8} {'test Dice':>9}")
    for trainer, measured in results.items():
        middle = {key: median(one[key] for one in measured) for key in measured[0]}
        print(f"{trainer:15} {middle['iterations_per_second']:12.2f} {middle['memory_gb']:8.2f} {middle['dice']:9.3f}")
    ours, theirs = results["ours"], results["plain nnU-Net"]
    for key, name in (("iterations_per_second", "iterations per second"), ("memory_gb", "peak memory")):
        ratio = median(one[key] / other[key] for one, other in zip(ours, theirs, strict=True))
        print(f"ratio of {name}, ours / plain: {ratio:.2f}")


if __name__ == "__main__":
    main()
