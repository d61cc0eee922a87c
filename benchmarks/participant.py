"""Speed and memory of the participant level, its segmentation against nnUNetv2_predict, in one run.

    python benchmarks/participant.py [--head FILE ...] [--hemi L R] [--model EXPORT.zip] [--large] [--rounds 1]

1. Preprocessing: `run.py ... participant --model none --nprocs 1` on one T1w, N4 and both sides, in a process of
   its own: wall time and peak memory.
2. Segmentation: `run.py ... participant --model X` on heads whose crops are there already (both spaces, pages), against
   `nnUNetv2_predict --disable_tta` called once per person and side on the same crops, left ones flipped. Label maps
   are compared voxel for voxel. `--large` takes a 31 M parameter network at 0.3 mm with random weights.

Without --head, the bundled head of Colin27 is taken four times (turned by a few degrees).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp.files import read_json, write_json  # noqa: E402
from bidsapp.images.orientation import NETWORK_SPACE, turn_volume  # noqa: E402
from bidsapp.images.volumes import read_volume  # noqa: E402
from bidsapp.images.writing import new_image, write_image  # noqa: E402
from bidsapp.layout import OutputLayout  # noqa: E402
from bidsapp.machine import usable_cores  # noqa: E402
from bidsapp.nnunet_names import NNUNET_CONFIGURATION  # noqa: E402
from bidsapp.records import SIDES, Side  # noqa: E402

HEAD = ROOT / "demo" / "data" / "colin27" / "sub-colin27" / "anat" / "sub-colin27_T1w.nii.gz"
PEOPLE = 4
SAMPLE_SECONDS = 0.2
LARGE_FEATURES = (32, 64, 128, 256, 320, 320)
LABELS = 8


@dataclass(frozen=True)
class Cost:
    """Of one command, its children included."""

    seconds: float
    memory_gb: float


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.command_file:
        print(json.dumps(_measure(read_json(arguments.command_file))))
        return
    with tempfile.TemporaryDirectory() as folder:
        _benchmark(arguments, Path(folder))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", type=Path, nargs="+", default=[HEAD] * PEOPLE, help="T1w heads")
    parser.add_argument("--model", type=Path, help="an exported model (default: a tiny one is trained shortly)")
    parser.add_argument("--large", action="store_true", help="31 M parameters at 0.3 mm, random weights")
    parser.add_argument("--hemi", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--iterations", type=int, default=120, help="of the tiny model's training")
    parser.add_argument("--features", type=int, nargs="+", default=LARGE_FEATURES, help="per stage, of --large")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--command-file", type=Path, help=argparse.SUPPRESS)
    return parser


def _benchmark(arguments: argparse.Namespace, folder: Path) -> None:
    data, layout = _data_set(folder / "data", arguments.head), OutputLayout(folder / "out")
    run = [sys.executable, str(ROOT / "run.py"), str(data), str(layout.root), "participant", "--hemi", *arguments.hemi]
    print(f"{usable_cores()} cores, {len(arguments.head)} people")
    first = _cost([*run, "--model", "none", "--nprocs", "1", "--participant-label", "0"], folder)
    sides = " and ".join(arguments.hemi)
    print(f"preprocessing of one T1w, N4, hemi {sides}: {first.seconds:.1f} s, peak {first.memory_gb:.2f} GB")
    _cost([*run, "--model", "none"], folder)
    model = arguments.model or _tiny_model(folder, arguments.iterations)
    if arguments.large:
        model = _large_model(model, tuple(arguments.features), folder)
    results = folder / "results"
    nnunet = {"nnUNet_raw": str(folder), "nnUNet_preprocessed": str(folder), "nnUNet_results": str(results)}
    dataset = _install(model, results)
    crops = list(product(range(len(arguments.head)), arguments.hemi))
    pairs = []
    for _ in range(arguments.rounds):
        ours = _cost([*run, "--model", str(model)], folder)
        theirs, same = _peer(layout, dataset, folder, nnunet, crops)
        pairs.append((ours, theirs))
        print(f"ours {ours.seconds:.1f} s, {ours.memory_gb:.2f} GB; nnUNetv2_predict {theirs.seconds:.1f} s, "
              f"{theirs.memory_gb:.2f} GB; {same}")  # fmt: skip
        for path in layout.root.rglob("*desc-nnunet*"):
            path.unlink()
    print(f"ratio of wall time, theirs / ours: {median(theirs.seconds / ours.seconds for ours, theirs in pairs):.2f}")
    print(f"ratio of peak memory, ours / theirs: {median(o.memory_gb / t.memory_gb for o, t in pairs):.2f}")


def _data_set(data: Path, heads: list[Path]) -> Path:
    """A BIDS data set of the heads; one that comes again is moved a little, so that crops differ."""
    write_json(data / "dataset_description.json", {"Name": "benchmark", "BIDSVersion": "1.10.0"})
    for index, head in enumerate(heads):
        image = nib.load(head)
        angle = np.radians(3 * heads[:index].count(head))
        turn = np.array([[np.cos(angle), -np.sin(angle), 0, 0], [np.sin(angle), np.cos(angle), 0, 0],
                         [0, 0, 1, 0], [0, 0, 0, 1]])  # fmt: skip
        path = data / f"sub-{index}" / "anat" / f"sub-{index}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), turn @ image.affine), path)
    return data


def _tiny_model(folder: Path, iterations: int) -> Path:
    from demo.simulate import simulate_people

    simulate_people(folder / "pairs", 8, 7, spacing_mm=1.0)
    command = [sys.executable, str(ROOT / "run.py"), str(folder), str(folder / "unused"), "group"]
    options = ["--training-dir", str(folder / "pairs"), "--model-dir", str(folder / "model"), "--preset", "tiny"]
    subprocess.run([*command, *options, "--iterations", str(iterations)], check=True, stdout=subprocess.DEVNULL)
    return folder / "model" / "export" / "current.zip"


def _large_model(plans_of: Path, features: tuple[int, ...], folder: Path) -> Path:
    """A network of HippUnfold's size with another model's plans: patch 128^3 at 0.3 mm, six stages, eight labels."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from bidsapp.exchange.export import build_model_folder, round_weights, zip_model

    with zipfile.ZipFile(plans_of) as packed:
        names = {Path(name).name: name for name in packed.namelist()}
        plans, dataset_json = (json.loads(packed.read(names[name])) for name in ("plans.json", "dataset.json"))
    dataset_json["labels"] = {"background": 0} | {f"label-{value}": value for value in range(1, LABELS + 1)}
    configuration = plans["configurations"][NNUNET_CONFIGURATION]
    configuration |= {"patch_size": [128, 128, 128], "spacing": [0.3, 0.3, 0.3]}
    stages = len(features)
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": list(features),
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    torch.manual_seed(1)
    manager = PlansManager(plans)
    network = nnUNetTrainer.build_network_architecture(
        manager, manager.get_configuration(NNUNET_CONFIGURATION), 1, LABELS + 1, enable_deep_supervision=True
    )
    print(f"{sum(weight.numel() for weight in network.parameters()) / 1e6:.1f} M parameters")
    weights = round_weights(network.state_dict(), half=True)
    model = {"name": "large", "weights": weights, "plans": plans, "dataset_json": dataset_json, "facts": {}}
    zip_model(build_model_folder(folder / "large", **model), folder / "large.zip")
    return folder / "large.zip"


def _install(model: Path, results: Path) -> str:
    shutil.unpack_archive(model, results)
    return next(results.glob("Dataset*")).name


def _peer(
    layout: OutputLayout, dataset: str, folder: Path, nnunet: dict[str, str], sides: list[tuple[int, Side]]
) -> tuple[Cost, str]:
    """Call nnUNetv2_predict once per person and side, and compare."""
    seconds, memory, same = 0.0, 0.0, 0
    predict = Path(sys.executable).with_name("nnUNetv2_predict")
    for person, side in sides:
        session = layout.session(str(person), None)
        images, output = folder / "images", folder / "predicted"
        for path in (images, output):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        crop = turn_volume(read_volume(session.crop(side, "T1w"), "any"), NETWORK_SPACE[side])
        write_image(images / "case_0000.nii.gz", new_image(crop.data, crop.affine))
        words = [str(predict), "-i", str(images), "-o", str(output), "-d", dataset, "-c", NNUNET_CONFIGURATION]
        cost = _cost([*words, "-f", "0", "--disable_tta", "-device", "cpu"], folder, nnunet)
        seconds, memory = seconds + cost.seconds, max(memory, cost.memory_gb)
        theirs = turn_volume(read_volume(output / "case.nii.gz", "any"), "LAS")
        same += np.array_equal(theirs.data, read_volume(session.prediction(side), "any").data)
    return Cost(seconds, memory), f"{same} of {len(sides)} label maps are the same"


def _cost(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> Cost:
    """Run a command below a fresh process, whose children's peak memory is then the command's."""
    file = folder / "command.json"
    write_json(file, command)
    process = subprocess.run(
        [sys.executable, __file__, "--command-file", str(file)],
        env=os.environ | (environment or {}), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return Cost(**json.loads(process.stdout.splitlines()[-1]))


def _measure(command: list[str]) -> dict[str, float]:
    """Run a command; its memory is the highest sum over it and its children, shared pages counted once."""
    began, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        while process.poll() is None:
            peak = max(peak, sum(_memory_kb(one) for one in _family(process.pid)))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - began
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{output.read()[-3000:]}")
    return {"seconds": seconds, "memory_gb": peak * 1024 / 1e9}


def _family(process: int) -> list[int]:
    """A process and all that it started."""
    family = [process]
    for one in family:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                family += [int(child) for child in (thread / "children").read_text().split()]
    return family


def _memory_kb(process: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{process}/smaps_rollup").read_text().split("\nPss:")[1].split()[0])
    return 0


if __name__ == "__main__":
    main()
