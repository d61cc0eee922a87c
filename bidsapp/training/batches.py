"""Batch i is a pure function of (seed, i): the cases, the crops and the augmentation follow from them.

So nothing random has to be saved in a checkpoint, and the number of workers does not change a result.
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
PREFETCHED = 4  # batches per worker
LOOK_SECONDS = 2.0  # between two looks at a signal and at the workers while a batch is waited for
SILENCE_SECONDS = 300.0  # the slowest batch that was seen took a minute
LONGEST_SOCKET_FOLDER = 70  # bytes; /pymp-xxxxxxxx/listener-xxxxxxxx is added
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


class PreprocessedCases(nnUNetBaseDataset):
    """nnU-Net's preprocessed cases as plain arrays, read into memory as far as they fit, else mapped from the disk.

    Worker processes are forked and share what was loaded before.

    Parameters
    ----------
    identifiers
        Their order is that of nnU-Net's loader.
    limit_bytes
        Of memory.
    channels, largest_label
        What the network takes and learns; a case with anything else is refused.
    stop_requested
        Asked between two cases; the rest is left on the disk then.
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
    """Batches by number: `batches[i]` is the same whoever asks, whenever."""

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

    It ends early when `stop_requested`. When workers cannot be started, die or fall silent, this process prepares the
    rest itself: a batch does not depend on who makes it.
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
    """The first of `numbers`, or all, as far as workers give them; returns how many."""
    others = set(multiprocessing.active_children())
    started: set[multiprocessing.process.BaseProcess] = set()
    given = 0
    wanted: SimpleQueue[bool] = SimpleQueue()
    received: SimpleQueue[Batch | Exception] = SimpleQueue()
    try:
        _keep_sockets_short()
        loader = _start_workers(batches, numbers, workers, pin_memory)
        started = set(multiprocessing.active_children()) - others
        # a worker that hangs while it hands over a batch holds whoever takes it: never the one who hears signals
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
            "%s; from here on this process prepares the batches itself, which is slower. Was there too little memory, "
            "or did somebody end them? The next run starts workers again",
            _say_what_happened(error, started),
        )
        log.debug("the workers failed", exc_info=error)
    finally:
        wanted.put(False)
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()  # a gentle end could wait for a stuck one; they hold nothing
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
        if on_main_thread:  # torch would raise in the middle of a step when a worker dies; waiting notices it as well
            signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)


def _receive(loader: Iterator[Batch], wanted: SimpleQueue[bool], received: SimpleQueue[Batch | Exception]) -> None:
    """One batch for every wish, until there are none or an error; torch looks now and then whether workers live."""
    while wanted.get():
        try:
            received.put(next(loader))
        except Exception as error:
            received.put(error)
            return


def _wait_for(received: SimpleQueue[Batch | Exception], stop_requested: Callable[[], bool]) -> Batch | None:
    """The next batch; None when it is not wanted any more. Raises what befell the workers."""
    looks = 0  # not the clock: a job that a cluster suspended for an hour has not waited
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
    """Let workers meet where the path of a socket fits into the 108 bytes that systems have for it.

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
                multiprocessing.util.get_temp_dir()  # kept for all processes that are started from here on
            finally:
                tempfile.tempdir = named
            return
    raise OSError(f"TMPDIR ({tempfile.gettempdir()}) is too long for the path of a socket")


def _leave_signals_to_the_parent(_worker: int) -> None:
    """Ctrl-C and a cluster's signals reach every process; the parent finishes its iteration and then ends us."""
    for number in STOP_SIGNALS:
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
