"""Batch i is a pure function of (seed, i): the cases, the crops and the augmentation follow from them.

So nothing random has to be saved in a checkpoint, and the number of workers does not change a result.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from torch.utils.data import DataLoader, Dataset

from bidsapp.errors import BadDataError

Stream = Literal["training", "validation"]
Batch = dict[str, Any]

SHARE_OF_MEMORY = 0.25  # of what is free, for cases kept uncompressed


class CasesInMemory(nnUNetDatasetBlosc2):
    """nnU-Net's preprocessed cases, uncompressed in memory as far as they fit.

    Reading, decompressing and unpickling a case for every patch costs more than cutting the patch out.
    Worker processes are forked and share what was loaded before.
    """

    def __init__(self, folder: str, identifiers: list[str], *, limit_bytes: float) -> None:
        super().__init__(folder, identifiers)
        self._cases: dict[str, tuple[Any, ...]] = {}
        for identifier in self.identifiers:
            try:
                data, segmentation, previous, properties = super().load_case(identifier)
            except Exception as error:
                raise BadDataError(
                    f"the preprocessed case {identifier} in {folder} is damaged: {error}",
                    "Delete that folder and give the same command again: it is made anew.",
                ) from error
            limit_bytes -= data.nbytes + segmentation.nbytes
            if limit_bytes < 0:
                break
            self._cases[identifier] = (data[:], segmentation[:], previous, properties)

    def load_case(self, identifier: str) -> tuple[Any, ...]:
        """Image (channels, z, y, x), segmentation (1, z, y, x), None, properties."""
        return self._cases.get(identifier) or super().load_case(identifier)


class Batches(Dataset[Batch]):
    """Batches by number: `batches[i]` is the same whoever asks, whenever."""

    def __init__(self, loader: nnUNetDataLoader, *, seed: int, stream: Stream) -> None:
        self._loader = loader
        self._entropy = (seed, 0 if stream == "training" else 1)

    def __getitem__(self, number: int) -> Batch:
        with _seeded((*self._entropy, number)):
            return self._loader.generate_train_batch()


def iterate(batches: Batches, start: int, stop: int, *, workers: int, pin_memory: bool) -> Iterator[Batch]:
    """Batches `start` to `stop` - 1 in order, prepared ahead by `workers` processes (0: by this one)."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_leave_signals_to_the_parent,
    )
    return iter(loader)


def _leave_signals_to_the_parent(_worker: int) -> None:
    """Ctrl-C and a cluster's SIGTERM reach every process; the parent finishes its iteration and then stops us."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _seeded(entropy: tuple[int, ...]) -> Iterator[None]:
    """Seed all three random generators, use one thread, and leave both as they were."""
    state = np.random.SeedSequence(entropy).generate_state(3)
    python_state, numpy_state, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(int(state[0]))
            np.random.seed(int(state[1]))
            torch.manual_seed(int(state[2]))
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_num_threads(threads)
