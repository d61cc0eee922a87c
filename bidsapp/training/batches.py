"""Batch i is a pure function of (seed, i): its cases, crops and augmentation follow from these two numbers.

So a checkpoint holds no random state, a resumed training sees the batches that it would have seen, and neither the
number of workers nor their death changes a result. nnU-Net's own loader draws from generators of its worker processes:
there, a batch depends on how many workers there are and on which of them answers first.

Workers are forked, to share the cases in memory. A thread takes the batches from them, and the main thread waits for
that thread with a timeout: only the main thread gets signals, and it must not be the one that hangs when a worker dies
in the middle of a transfer.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.util
import os
import random
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Literal

import numpy as np
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from torch.utils.data import DataLoader, Dataset

from bidsapp.layout import ModelLayout
from bidsapp.machine import STOP_SIGNALS
from bidsapp.training.preprocessed import read_case

log = logging.getLogger(__name__)

Stream = Literal["training", "validation"]
Batch = dict[str, Any]

SHARE_OF_MEMORY = 0.25  # of what is free, for cases kept in memory
PREFETCHED = 4  # batches that each worker prepares ahead
LOOK_SECONDS = 2.0  # while waiting for a batch, between two checks for a signal
SILENCE_SECONDS = 300.0  # the slowest batch that was seen took a minute
LONGEST_SOCKET_FOLDER = 70  # bytes; /pymp-xxxxxxxx/listener-xxxxxxxx is added
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


class PreprocessedCases(nnUNetBaseDataset):
    """nnU-Net's preprocessed cases as plain arrays: in memory as far as they fit, else mapped from the disk.

    Worker processes are forked after loading, so they share the arrays in memory.

    Parameters
    ----------
    identifiers
        Their order is that of nnU-Net's loader.
    limit_bytes
        Of memory.
    channels, largest_label
        What the network takes and learns; a case with anything else is refused.
    stop_requested
        Asked between two cases; loading ends when it is true, and the other cases stay on the disk.
    """

    def __init__(
        self,
        layout: ModelLayout,
        identifiers: list[str],
        *,
        limit_bytes: float,
        channels: int,
        largest_label: int,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(str(layout.preprocessed_cases), identifiers)
        self._layout, self._channels, self._largest_label = layout, channels, largest_label
        self._cases: dict[str, tuple[Any, ...]] = {}
        for identifier in self.identifiers:
            if limit_bytes <= 0 or stop_requested():
                break
            data, segmentation, previous, properties = self._read(identifier)
            limit_bytes -= data.nbytes + segmentation.nbytes
            if limit_bytes > 0:
                self._cases[identifier] = (np.array(data), np.array(segmentation), previous, properties)

    def load_case(self, identifier: str) -> tuple[Any, ...]:
        """Image (channels, z, y, x), segmentation (1, z, y, x), None, properties."""
        return self._cases.get(identifier) or self._read(identifier)

    def _read(self, identifier: str) -> tuple[Any, ...]:
        return read_case(self._layout, identifier, channels=self._channels, largest_label=self._largest_label)

    @staticmethod
    def save_case(data: Any, seg: Any, properties: Any, output_filename_truncated: str) -> None:
        """Not used: `bidsapp.training.preprocessed` writes cases."""
        raise NotImplementedError

    @staticmethod
    def get_identifiers(folder: str) -> list[str]:
        """Not used: cases are named, never listed."""
        raise NotImplementedError


class Batches(Dataset[Batch]):
    """Batches by number: `batches[i]` is always the same, in any process and any order."""

    def __init__(self, loader: nnUNetDataLoader, *, seed: int, stream: Stream) -> None:
        self._loader = loader
        self._entropy = (seed, 0 if stream == "training" else 1)

    def __getitem__(self, number: int) -> Batch:
        with _seeded((*self._entropy, number)):
            return self._loader.generate_train_batch()


def iterate(
    batches: Batches,
    start: int,
    stop: int,
    *,
    workers: int,
    pin_memory: bool,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Generator[Batch, None, None]:
    """Batches `start` to `stop` - 1 in order, prepared ahead by `workers` processes (0: by this one).

    It ends early when `stop_requested`. When workers cannot be started, die or stop answering, this process prepares
    the remaining batches itself, and they are the same.
    """
    number = start
    if workers and stop > start:
        number += yield from _from_workers(batches, range(start, stop), workers, pin_memory, stop_requested)
    for own in range(number, stop):
        if stop_requested():
            return
        yield batches[own]


def _from_workers(
    batches: Batches, numbers: range, workers: int, pin_memory: bool, stop_requested: Callable[[], bool]
) -> Generator[Batch, None, int]:
    """Batches from workers until they fail, a stop is requested, or all `numbers` are done; returns how many."""
    others = set(multiprocessing.active_children())
    started: set[multiprocessing.process.BaseProcess] = set()
    given = 0
    wanted: SimpleQueue[bool] = SimpleQueue()
    received: SimpleQueue[Batch | Exception] = SimpleQueue()
    try:
        _keep_sockets_short()
        loader = _start_workers(batches, numbers, workers, pin_memory)
        started = set(multiprocessing.active_children()) - others
        # Taking a batch blocks when its worker hangs in the middle of it, so this thread takes them (see the top).
        threading.Thread(target=_receive, args=(loader, wanted, received), daemon=True).start()
        del loader
        wanted.put(True)
        for _ in numbers:
            batch = _wait_for(received, stop_requested)
            if batch is None:
                break
            wanted.put(True)
            yield batch
            given += 1
    except Exception as error:
        log.warning(
            "%s; from here on this process prepares the batches itself, which is slower. Perhaps there was too little "
            "memory, or they were ended from outside. The next run starts workers again",
            _say_what_happened(error, started),
        )
        log.debug("the workers failed", exc_info=error)
    finally:
        wanted.put(False)
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()  # a stuck worker ignores a polite request, and workers have nothing to save
            worker.join(LOOK_SECONDS)
    return given


def _start_workers(batches: Batches, numbers: range, workers: int, pin_memory: bool) -> Iterator[Batch]:
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=PREFETCHED,
        multiprocessing_context="fork",
        worker_init_fn=_leave_signals_to_the_parent,
    )
    on_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    finally:
        if on_main_thread:  # torch's handler raises in the middle of a step; `_wait_for` notices a dead worker too
            signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)


def _receive(loader: Iterator[Batch], wanted: SimpleQueue[bool], received: SimpleQueue[Batch | Exception]) -> None:
    """Take one batch for every True in `wanted`, until False or an error; torch itself checks that its workers live."""
    while wanted.get():
        try:
            received.put(next(loader))
        except Exception as error:
            received.put(error)
            return


def _wait_for(received: SimpleQueue[Batch | Exception], stop_requested: Callable[[], bool]) -> Batch | None:
    """The next batch; None when a stop was requested. Raises the error that the workers ended with."""
    looks = 0  # counted, not timed: a cluster may suspend a job for an hour, and then nobody has waited
    while not stop_requested():
        try:
            batch = received.get(timeout=LOOK_SECONDS)
        except Empty:
            looks += 1
            if looks * LOOK_SECONDS >= SILENCE_SECONDS:
                raise TimeoutError(f"no batch came for {SILENCE_SECONDS:.0f} s") from None
            continue
        if isinstance(batch, Exception):
            raise batch
        return batch
    return None


def _say_what_happened(error: Exception, started: set[multiprocessing.process.BaseProcess]) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    dead = [
        f"process {one.pid} was ended by {signal.Signals(-one.exitcode).name}"
        if one.exitcode < 0
        else f"process {one.pid} ended with {one.exitcode}"
        for one in started
        if one.exitcode is not None
    ]
    return f"of {len(started)} workers that prepare batches, {'; '.join(dead) or 'none ended'} ({reason})"


def _keep_sockets_short() -> None:
    """Let workers put their sockets where the path fits into the 108 bytes that systems allow for one.

    Raises
    ------
    OSError
        When there is no such folder.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST_SOCKET_FOLDER:
        return
    named = tempfile.tempdir
    for folder in SHORT_FOLDERS:
        if os.access(folder, os.W_OK | os.X_OK):
            tempfile.tempdir = folder
            try:
                multiprocessing.util.get_temp_dir()  # remembered for every process that starts from here on
            finally:
                tempfile.tempdir = named
            return
    raise OSError(f"TMPDIR ({tempfile.gettempdir()}) is too long for the path of a socket")


def _leave_signals_to_the_parent(_worker: int) -> None:
    """Ignore Ctrl-C and a cluster's signals, which reach every process: the parent finishes its step, then ends us."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _seeded(entropy: tuple[int, ...]) -> Iterator[None]:
    """Seed the generators of Python, NumPy and torch, use one thread, and restore everything afterwards.

    All three are used by nnU-Net's loader and its transforms. One thread, as workers have:
    sums over several threads may differ in their last digit.
    """
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
