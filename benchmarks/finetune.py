"""Fine-tuning against training from scratch and against the untouched source, on people whom none of them saw.

    python benchmarks/finetune.py ../shared/data/msd_hippocampus [--iterations 1 10 40 300] [--part 1] [--keep DIR]

The source is trained on 100 people of the Medical Segmentation Decathlon's Task04 (anterior and posterior
hippocampus). The target is made from other people of it and differs on purpose, in a way that `other_scanner` states:
the contrast is remapped, slices are 2 mm thick, noise is added, and the two labels are merged into one. Ten people
train and validate the target, 40 others test it. Everything runs through `run.py ... group`, preset `tiny`, at equal
iterations.
Differences are paired by person; intervals are 95 % bootstrap intervals over people.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp.cli import main as run_py  # noqa: E402
from bidsapp.evaluation.metrics import dice  # noqa: E402
from bidsapp.evaluation.scores import read_scores  # noqa: E402
from bidsapp.layout import ModelLayout  # noqa: E402
from bidsapp.model_dir.split import write_split  # noqa: E402
from bidsapp.records import Split, SplitRow  # noqa: E402

SOURCE_PEOPLE, SOURCE_HELD_OUT = 100, 20
TARGET_TRAIN, TARGET_VALIDATION, TARGET_TEST = 7, 3, 40
THICK_MM, GAMMA, NOISE_SD = 2.0, 2.5, 0.05
SEED, RESAMPLES = 42, 10_000


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        _benchmark(arguments, arguments.keep)
        return
    with tempfile.TemporaryDirectory() as folder:
        _benchmark(arguments, Path(folder))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="Task04_Hippocampus with imagesTr and labelsTr")
    parser.add_argument("--iterations", type=int, nargs="+", default=[1, 10, 40, 300])
    parser.add_argument("--source-iterations", type=int, default=600)
    add_part_and_keep(parser)
    return parser


def add_part_and_keep(parser: argparse.ArgumentParser) -> None:
    """Two options that `benchmarks.grow` has as well."""
    parser.add_argument("--part", type=float, default=1.0, help="of the people, to see that everything runs")
    parser.add_argument("--keep", type=Path, help="leave the models here")


def some(people: int, part: float) -> int:
    """A part of so many people, two at least."""
    return max(2, round(people * part))


def _benchmark(arguments: argparse.Namespace, folder: Path) -> None:
    images = sorted((arguments.data / "imagesTr").glob("*.nii.gz"))
    np.random.default_rng(SEED).shuffle(images)
    taught, held_out, train, validation, test = (
        some(people, arguments.part)
        for people in (SOURCE_PEOPLE, SOURCE_HELD_OUT, TARGET_TRAIN, TARGET_VALIDATION, TARGET_TEST)
    )
    source_people = images[: taught + held_out]
    target_people = images[len(source_people) :][: train + validation + test]
    source_pairs, target_pairs = folder / "source-pairs", folder / "target-pairs"
    for pairs, people, change in ((source_pairs, source_people, False), (target_pairs, target_people, True)):
        write_pairs(pairs, people, arguments.data / "labelsTr", changed=change, merged=change)
    source = ModelLayout(folder / "source")
    place(source, source_people, taught, held_out // 2)
    run_group(source_pairs, source, "--iterations", arguments.source_iterations)
    names = folder / "names.tsv"
    names.write_text("from_name\tto_name\nAnterior\tHippocampus\nPosterior\tHippocampus\n")
    untouched = _scores_of_the_untouched_source(folder, source, target_pairs, target_people[train + validation :])
    print(f"{len(untouched)} test people of the target; untouched source: Dice {_mean(untouched)}")
    for iterations in arguments.iterations:
        scores = {}
        for kind, options in (("scratch", ()), ("finetuned", ("--model", source.root, "--label-map", names))):
            layout = ModelLayout(folder / f"{kind}-{iterations}")
            place(layout, target_people, train, validation)
            run_group(target_pairs, layout, "--iterations", iterations, *options)
            scores[kind] = {score.participant_id: score.dice for score in read_scores(layout.scores)}
        ours = scores["finetuned"]
        print(
            f"{iterations:4d} iterations: scratch {_mean(scores['scratch'])}, fine-tuned {_mean(ours)}; "
            f"fine-tuned less scratch {_difference(ours, scores['scratch'])}, "
            f"less the untouched source {_difference(ours, untouched)}",
            flush=True,
        )


def write_pairs(folder: Path, images: list[Path], labels: Path, *, changed: bool, merged: bool = False) -> None:
    """A training folder; `changed`: as `other_scanner` would have seen them, `merged`: with one label."""
    folder.mkdir(exist_ok=True)
    names = "1\tHippocampus\n" if merged else "1\tAnterior\n2\tPosterior\n"
    (folder / "labels.tsv").write_text("index\tname\n" + names)
    for path in images:
        image, label = nib.load(path), nib.load(labels / path.name)
        array, values = np.asarray(image.dataobj, dtype=np.float32), np.rint(np.asarray(label.dataobj)).astype(np.uint8)
        affine = image.affine
        if changed:
            array, values, affine = other_scanner(array, values, affine, seed=len(array) * 1000 + array.shape[1])
        if merged:
            values = (values > 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(array, affine), folder / f"{person_of(path)}_img.nii.gz")
        nib.save(nib.Nifti1Image(values, affine), folder / f"{person_of(path)}_lbl.nii.gz")


def other_scanner(
    image: np.ndarray, label: np.ndarray, affine: np.ndarray, *, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same person elsewhere: contrast remapped (grey and white drift apart), 2 mm slices, noise."""
    low, high = np.percentile(image, [1, 99])
    scaled = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    remapped = scaled**GAMMA
    thick = ndimage.gaussian_filter1d(remapped, THICK_MM / 2.355, axis=2)
    noisy = thick + np.random.default_rng(seed).normal(0, NOISE_SD, thick.shape)
    step = int(THICK_MM)
    coarse = affine @ np.diag([1, 1, step, 1])
    return noisy[:, :, ::step].astype(np.float32), label[:, :, ::step], coarse


def person_of(path: Path) -> str:
    """``sub-003`` of ``hippocampus_003.nii.gz``."""
    return f"sub-{path.name.removesuffix('.nii.gz').removeprefix('hippocampus_')}"


def place(layout: ModelLayout, images: list[Path], train: int, validation: int) -> None:
    """Everybody's place, written by hand, so that all models of a row have the same people."""
    parts = ["train"] * train + ["validation"] * validation
    rows = [SplitRow(person_of(path), parts[at] if at < len(parts) else "test") for at, path in enumerate(images)]  # type: ignore[arg-type]
    layout.root.mkdir(parents=True, exist_ok=True)
    write_split(layout.split, Split(tuple(rows)))


def run_group(pairs: Path, layout: ModelLayout, *options: object, fine: Collection[int] = (0,)) -> None:
    """Train the tiny preset; end with what it said where the exit code is none of `fine`."""
    if layout.report.exists():  # --keep: made by an earlier call
        return
    words = [pairs, layout.root.parent / "out", "group", "--training-dir", pairs, "--model-dir", layout.root]
    command = [str(word) for word in (*words, "--preset", "tiny", *options)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run_py(command)
    if code not in fine:
        sys.exit(f"run.py {' '.join(command)}\n{said.getvalue()}")


def _scores_of_the_untouched_source(
    folder: Path, source: ModelLayout, pairs: Path, people: list[Path]
) -> dict[str, float]:
    """Dice of the source's own predictions, its two labels taken as one."""
    import torch

    from bidsapp.exchange.loading import load_model
    from bidsapp.prediction import Predictor

    predictor = Predictor(load_model(source.root), torch.device("cpu"))
    scores = {}
    for path in people:
        person, predicted = person_of(path), folder / "predicted.nii.gz"
        predictor.predict_files([pairs / f"{person}_img.nii.gz"], predicted)
        found, drawn = (np.asarray(nib.load(file).dataobj) > 0 for file in (predicted, pairs / f"{person}_lbl.nii.gz"))
        scores[person] = dice(found, drawn)
    return scores


def _mean(scores: dict[str, float]) -> str:
    return interval_text(np.array(list(scores.values())))


def _difference(ours: dict[str, float], theirs: dict[str, float]) -> str:
    return interval_text(np.array([ours[person] - theirs[person] for person in sorted(ours)]))


def interval_text(values: np.ndarray) -> str:
    """Mean and 95 % bootstrap interval."""
    drawn = np.random.default_rng(SEED).choice(values, (RESAMPLES, len(values))).mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
