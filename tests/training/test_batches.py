"""Batch i is a function of (seed, i), whoever prepares it."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from bidsapp.config import AugmentationSettings, preset_settings
from bidsapp.training.augmentation import BiasFieldTransform, FieldOfViewTransform, training_transforms
from bidsapp.training.batches import Batches, _wait_for, iterate
from tests.conftest import ROOT

PATCH = (16, 24, 16)
EVERYTHING = AugmentationSettings(
    **{name: 1.0 for name in AugmentationSettings.__dataclass_fields__ if name.endswith("_probability")}
)


class FakeCases:
    """Three cases of random voxels, as nnU-Net's dataset serves them."""

    identifiers = ("a", "b", "c")

    def load_case(self, identifier: str) -> tuple[np.ndarray, np.ndarray, None, dict[str, object]]:
        generator = np.random.default_rng(ord(identifier))
        image = generator.normal(size=(1, 30, 40, 30)).astype(np.float32)
        label = np.zeros((1, 30, 40, 30), np.int16)
        label[0, 10:20, 15:25, 10:20] = 1
        return image, label, None, {"class_locations": {1: np.argwhere(label == 1)}}


@pytest.fixture
def batches() -> Batches:
    return make_batches()


def make_batches() -> Batches:
    transforms = training_transforms(
        PATCH, spacing_mm=1.0, deep_supervision_scales=[[1, 1, 1], [0.5, 0.5, 0.5]], settings=EVERYTHING
    )
    labels = SimpleNamespace(all_labels=[0, 1], has_ignore_label=False)
    loader = nnUNetDataLoader(FakeCases(), 2, (20, 30, 20), PATCH, labels, 0.33, transforms=transforms)
    return Batches(loader, seed=5, stream="training")


def numbers(batch: dict[str, object]) -> Iterator[np.ndarray]:
    yield batch["data"].numpy()
    yield from (scale.numpy() for scale in batch["target"])


def same(one: dict[str, object], other: dict[str, object]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(numbers(one), numbers(other), strict=True))


def test_a_batch_is_the_same_whenever_it_is_asked_for(batches: Batches) -> None:
    first = batches[3]
    batches[4]
    torch.rand(1), np.random.rand()
    assert same(batches[3], first)
    assert not same(batches[4], first)


def test_asking_for_a_batch_leaves_the_random_generators_alone(batches: Batches) -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    expected = np.random.RandomState(1).rand()
    batches[0]
    assert np.random.rand() == expected
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(batches: Batches, workers: int) -> None:
    alone = list(iterate(batches, 2, 6, workers=0, pin_memory=False))
    together = list(iterate(batches, 2, 6, workers=workers, pin_memory=False))
    assert len(alone) == 4
    assert all(same(one, other) for one, other in zip(alone, together, strict=True))


def prepared(batches: Batches, stop: int, **options: object) -> Iterator[dict[str, object]]:
    return iterate(batches, 0, stop, workers=2, pin_memory=False, **options)  # type: ignore[arg-type]


def assert_all_come(batches: Batches, together: Iterator[dict[str, object]], stop: int) -> None:
    received = list(together)
    assert len(received) == stop
    assert all(same(batch, batches[number]) for number, batch in enumerate(received))
    assert not multiprocessing.active_children()


def test_a_worker_that_is_killed_is_named_and_the_rest_is_prepared_here(
    batches: Batches, caplog: pytest.LogCaptureFixture
) -> None:
    together = prepared(batches, 40)
    first = next(together)
    (victim, _) = multiprocessing.active_children()
    victim.kill()
    assert_all_come(batches, itertools.chain([first], together), 40)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"process {victim.pid} was ended by SIGKILL" in warning
    assert "this process prepares the batches itself" in warning


def test_workers_that_fall_silent_are_given_up(
    batches: Batches, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bidsapp.training.batches.SILENCE_SECONDS", 4.0)
    together = prepared(batches, 40)
    first = next(together)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, signal.SIGSTOP)
    assert_all_come(batches, itertools.chain([first], together), 40)
    assert "no batch came for 4 s" in caplog.text


def test_a_job_that_was_suspended_has_not_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster may stop all processes of a job for an hour; the clock goes on."""

    class Suspended(SimpleQueue[object]):
        looks = 0

        def get(self, block: bool = True, timeout: float | None = None) -> object:
            self.looks += 1
            if self.looks == 1:
                raise Empty
            return super().get(block, timeout)

    hours = itertools.count(step=3600)
    queue = Suspended()
    queue.put({"number": 1})
    monkeypatch.setattr(time, "monotonic", lambda: float(next(hours)))
    assert _wait_for(queue, lambda: False) == {"number": 1}


def test_a_wish_to_stop_is_heard_while_a_batch_is_waited_for(batches: Batches) -> None:
    """The workers are stopped for good: without looking up from the wait this would never end."""
    wishes: list[int] = []
    together = prepared(batches, 10**6, stop_requested=lambda: bool(wishes))
    next(together)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, signal.SIGSTOP)
    threading.Timer(1, lambda: wishes.append(1)).start()
    list(together)
    assert wishes
    assert not multiprocessing.active_children()


def test_nothing_is_left_behind_when_the_training_goes_away(batches: Batches) -> None:
    together = prepared(batches, 10**6)
    next(together)
    together.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


IN_A_LONG_TMPDIR = """
import logging, multiprocessing
logging.basicConfig(level=logging.WARNING, format="%(message)s")
from tests.training.test_batches import make_batches, same
from bidsapp.training.batches import iterate
batches = make_batches()
together = iterate(batches, 0, 6, workers=2, pin_memory=False)
first = next(together)
print("workers", len(multiprocessing.active_children()))
print("same", all(same(one, batches[n]) for n, one in enumerate([first, *together])))
"""


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "workers 2\nsame True\n"),
        ({"files": 12}, "workers 0\nsame True\n"),  # neither pipes nor processes can be made
    ],
)
def test_workers_start_where_temporary_files_have_long_paths_or_are_done_without(
    tmp_path: Path, limits: dict[str, int], said: str
) -> None:
    folder = tmp_path / ("x" * 140)
    folder.mkdir()
    script = IN_A_LONG_TMPDIR
    if limits:
        script = script.replace(
            "batches = make", "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))\nbatches = make"
        )
    process = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, env=os.environ | {"TMPDIR": str(folder)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout == said
    assert ("this process prepares the batches itself" in process.stderr) == bool(limits)


def test_the_bias_field_shades_smoothly_and_keeps_the_mean() -> None:
    np.random.seed(0)
    transform = BiasFieldTransform((0.2, 0.2))
    field = transform.get_parameters(image=torch.zeros(1, 12, 16, 10))["field"]
    assert field.shape == (12, 16, 10)
    assert field.mean().item() == pytest.approx(1)
    assert field.std() > 0.02
    assert max(field.diff(dim=axis).abs().max() for axis in range(3)) < 0.5
    image = torch.full((1, 12, 16, 10), 3.0)
    image[0, 0, 0, 0] = -1
    shaded = transform._apply_to_image(image, field=field)
    assert shaded[0, 0, 0, 0] == -1
    assert torch.allclose(shaded[0, 5:, 5:, 5:], 4 * field[5:, 5:, 5:] - 1)


def test_beyond_a_cut_field_it_is_dark_or_noise_and_unlabelled() -> None:
    np.random.seed(0)
    torch.manual_seed(0)
    transform = FieldOfViewTransform((0.25, 0.25))
    image, label = torch.randn(2, 16, 24, 32) + 5, torch.ones(1, 16, 24, 32, dtype=torch.int16)
    seen = set()
    for _ in range(150):
        result = transform(image=image, segmentation=label)
        gone = result["segmentation"][0] == 0
        assert gone.sum() == label.numel() // 4  # a quarter of one edge
        profiles = [gone.movedim(axis, 0).flatten(1).any(1) for axis in range(3)]
        axis = next(axis for axis in range(3) if not profiles[axis].all())
        first = profiles[axis][0].item()
        assert torch.equal(result["image"][:, ~gone], image[:, ~gone])
        noisy = result["image"][0, gone].std() > 0.01
        if noisy:
            assert abs(result["image"][1, gone].mean() - image[1].mean()) < 0.2
            assert abs(result["image"][1, gone].std() - image[1].std()) < 0.2
        else:
            assert torch.equal(result["image"][:, gone].amax(1), image.amin((1, 2, 3)))
        seen.add((axis, first, bool(noisy)))
    assert seen == {(axis, first, noisy) for axis in range(3) for first in (True, False) for noisy in (True, False)}
    assert label.all()  # what was given stays as it is


def test_labels_stay_whole_numbers_and_nothing_is_mirrored() -> None:
    still = AugmentationSettings(
        **{name: 0.0 for name in AugmentationSettings.__dataclass_fields__ if name.endswith("_probability")}
    )
    transforms = training_transforms(PATCH, spacing_mm=1.0, deep_supervision_scales=None, settings=still)
    image = torch.arange(16 * 24 * 16, dtype=torch.float32).reshape(1, *PATCH)
    for _ in range(8):
        given = {"image": image.clone(), "segmentation": torch.ones(1, *PATCH, dtype=torch.int16)}
        assert torch.equal(transforms(**given)["image"], image)
    assert preset_settings("tiny").augmentation.rotation_probability > 0
    turned = training_transforms(PATCH, spacing_mm=1.0, deep_supervision_scales=None, settings=EVERYTHING)
    label = torch.zeros(1, *PATCH, dtype=torch.int16)
    label[0, 4:12, 6:18, 4:12] = 3
    result = turned(image=torch.randn(1, *PATCH), segmentation=label)["segmentation"]
    assert set(result.unique().tolist()) <= {0, 3}
