"""Several sessions are prepared at a time, each in a process; results come as they are ready."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from logging.handlers import QueueHandler, QueueListener
from multiprocessing.queues import Queue

from bidsapp.errors import CannotWriteError
from bidsapp.lock import folder_lock
from bidsapp.logs import ROOT
from bidsapp.participants.crops import prepare_session
from bidsapp.participants.job import Job, Prepared

Outcome = Callable[[], Prepared]
"""Gives the prepared session, or raises what went wrong."""

OpenPool = Callable[[int], ProcessPoolExecutor]

_AHEAD = 2
"""Sessions that may wait prepared while another is segmented."""


def prepare_all(jobs: Sequence[Job], processes: int) -> Generator[tuple[Job, Outcome], None, None]:
    """Yield every job with its outcome; with one process, preparing happens when the outcome is asked for.

    A job is locked against other runs until the next one is asked for.
    """
    if processes == 1:
        for job in jobs:
            with ExitStack() as lock:
                yield job, _lock(job, lock) or partial(prepare_session, job)
        return
    yield from _prepare_in_processes(jobs, processes)


def _prepare_in_processes(jobs: Sequence[Job], processes: int) -> Generator[tuple[Job, Outcome], None, None]:
    waiting = deque(jobs)
    running: dict[Future[Prepared], tuple[Job, ExitStack]] = {}
    with ExitStack() as screen:
        open_pool = _relay_messages(screen)
        pool = open_pool(processes)
        try:
            while waiting or running:
                while waiting and len(running) < processes + _AHEAD:
                    job, lock = waiting.popleft(), ExitStack()
                    failure = _lock(job, lock)
                    if failure is not None:
                        yield job, failure
                        continue
                    running[pool.submit(prepare_session, job)] = job, lock
                ready = wait(running, return_when=FIRST_COMPLETED).done
                if any(isinstance(future.exception(), BrokenProcessPool) for future in ready):
                    # a process was killed, and nobody can tell for which session: each of them alone
                    pool.shutdown()
                    wait(running)
                    for future in list(running):
                        job, lock = running.pop(future)
                        with lock:
                            yield job, _outcome_alone(job, future, open_pool)
                    pool = open_pool(processes)
                    continue
                for future in ready:
                    job, lock = running.pop(future)
                    with lock:
                        yield job, future.result
        finally:
            for _, lock in running.values():
                lock.close()
            if running or waiting:
                for child in multiprocessing.active_children():
                    child.terminate()
            pool.shutdown(cancel_futures=True)


def _outcome_alone(job: Job, future: Future[Prepared], open_pool: OpenPool) -> Outcome:
    """The outcome of a session whose pool broke: what it had reached, else that of another try by itself."""
    if not isinstance(future.exception(), BrokenProcessPool):
        return future.result
    with open_pool(1) as pool:
        again = pool.submit(prepare_session, job)
        wait([again])
    return again.result


def _relay_messages(stack: ExitStack) -> OpenPool:
    """Let what processes say go above the bar on our screen and into our log; returns what opens a pool of them."""
    context = multiprocessing.get_context("spawn")
    messages: Queue[logging.LogRecord] = context.Queue()
    listener = QueueListener(messages, *logging.getLogger(ROOT).handlers, respect_handler_level=True)
    listener.start()
    stack.callback(listener.stop)
    return lambda processes: ProcessPoolExecutor(
        processes, mp_context=context, initializer=_start_process, initargs=(messages,)
    )


def _start_process(messages: Queue[logging.LogRecord]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what a Ctrl-C ends
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(QueueHandler(messages))


def _lock(job: Job, stack: ExitStack) -> Outcome | None:
    """Lock a session; where another run holds it, the outcome that says so."""
    try:
        stack.enter_context(folder_lock(job.layout.session_lock(job.name)))
    except CannotWriteError as error:
        return partial(_fail, error)
    return None


def _fail(error: CannotWriteError) -> Prepared:
    raise error
