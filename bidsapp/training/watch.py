"""What a person sees of a training while it runs: progress with time left, TensorBoard, a clean stop."""

from __future__ import annotations

import logging
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np

from bidsapp.layout import ModelLayout
from bidsapp.machine import STOP_SIGNALS
from bidsapp.training.trainer import Validation, ValidationPicture, Watcher

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0
ITERATIONS_BEFORE_ESTIMATE = 10
LONG_ON_CPU = timedelta(days=1)
LABEL_COLOURS = np.array(
    [[228, 26, 28], [55, 126, 184], [77, 175, 74], [255, 127, 0], [152, 78, 163], [255, 255, 51], [247, 129, 191]]
)


@contextmanager
def watch_training(layout: ModelLayout, *, start: int, target: int, slow_device: bool) -> Iterator[Watcher]:
    """Show progress and write TensorBoard events for iterations `start` to `target`.

    A signal of `bidsapp.machine.STOP_SIGNALS` asks for a stop after the current iteration.
    """
    with _stop_on_signals() as stop_requested, _silent_event_threads():
        events = _Events(layout.tensorboard, purge_step=start + 1)
        progress = _Progress(start, target, slow_device)
        try:
            yield Watcher(
                step=progress.step,
                validated=lambda validation, picture: _validated(events, progress, validation, picture),
                parent_validated=lambda dice: _draw_parent_line(layout, dice, target),
                stop_requested=stop_requested,
            )
        finally:
            progress.close()
            events.close()


class _Events:
    """Event files for TensorBoard. They are only for looking: where they cannot be written, the training goes on."""

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._writer: SummaryWriter | None = None
        with self._as_far_as_it_goes():
            self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def write(self, scalars: Mapping[str, float], step: int, picture: np.ndarray | None = None) -> None:
        """Add numbers by tag, and a picture (rows, columns, 3)."""
        with self._as_far_as_it_goes():
            if self._writer is None:
                return
            for tag, value in scalars.items():
                self._writer.add_scalar(tag, value, step)
            if picture is not None:
                self._writer.add_image("validation (image, label, prediction)", picture, step, dataformats="HWC")
            self._writer.flush()

    def close(self) -> None:
        with self._as_far_as_it_goes():
            if self._writer is not None:
                self._writer.close()

    @contextmanager
    def _as_far_as_it_goes(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            log.warning(
                "%s cannot be written: %s; the training goes on without further curves there",
                self._folder, error.strerror or error,
            )  # fmt: skip


@contextmanager
def _silent_event_threads() -> Iterator[None]:
    """TensorBoard's thread raises the errors that `_Events` gets as well, so its traceback is kept off the screen."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if "tensorboard" in type(args.thread).__module__:
            log.debug("TensorBoard's thread ended: %s", args.exc_value)
        else:
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


class _Progress:
    """A bar on a terminal, lines elsewhere; speed and time left in both."""

    def __init__(self, start: int, target: int, slow_device: bool) -> None:
        from tqdm import tqdm

        self.start, self.target, self.slow_device = start, target, slow_device
        self.began = self.last_line = time.monotonic()
        self.iteration = start
        self.measured = "not validated yet"
        on_terminal = sys.stderr.isatty()
        self.bar = tqdm(total=target, initial=start, unit="it", disable=not on_terminal, dynamic_ncols=True)
        self.lines = not on_terminal

    @property
    def speed(self) -> float:
        """Iterations per second since the run began."""
        return (self.iteration - self.start) / max(time.monotonic() - self.began, 1e-9)

    @property
    def left(self) -> timedelta:
        """Time to the target at this speed."""
        seconds = (self.target - self.iteration) / max(self.speed, 1e-9)
        return timedelta(seconds=min(round(seconds), 10**9))

    def step(self, iteration: int, loss: Callable[[], float]) -> None:
        self.iteration = iteration
        self.bar.update()
        now = time.monotonic()
        if iteration - self.start == ITERATIONS_BEFORE_ESTIMATE and self.slow_device:
            self._estimate()
        if now - self.last_line > (SECONDS_BETWEEN_LINES if self.lines else 2.0):
            self.last_line = now
            self.show(loss())

    def show(self, loss: float) -> None:
        if self.lines:
            log.info(
                "iteration %d of %d, loss %.3f, %s, %.2f iterations/s, %s left",
                self.iteration, self.target, loss, self.measured, self.speed, self.left,
            )  # fmt: skip
        else:
            self.bar.set_postfix_str(f"loss {loss:.3f}, {self.measured}")

    def _estimate(self) -> None:
        log.info("on this CPU the training will take about %s", self.left)
        if self.left > LONG_ON_CPU:
            log.warning(
                "That is long. A GPU is far faster; for a CPU there is --preset tiny (in another --model-dir), "
                "or fewer --iterations."
            )

    def close(self) -> None:
        self.bar.close()


def _validated(events: _Events, progress: _Progress, validation: Validation, picture: ValidationPicture) -> None:
    progress.measured = _say_measured(validation)
    progress.show(validation.training_loss)
    step = validation.iteration
    scalars = {
        "loss/training": validation.training_loss,
        "loss/validation": validation.validation_loss,
        **_tagged("dice", validation.dice, validation.mean_dice),
        **_tagged("consistency", validation.consistency, validation.mean_consistency),
        "learning_rate": validation.learning_rate,
        "speed/iterations_per_second": progress.speed,
        "memory/peak_GB": _peak_memory_gb(),
    }
    events.write(scalars, step, _paint(picture))
    details = "; ".join(
        f"{what} " + ", ".join(f"{label} {value:.3f}" for label, value in of_labels.items())
        for what, of_labels in (("Dice", validation.dice), ("consistency", validation.consistency))
        if of_labels
    )
    log.debug("validation at %d: loss %.4f, %s", step, validation.validation_loss, details)


def _tagged(what: str, of_labels: Mapping[str, float], mean: float) -> dict[str, float]:
    """TensorBoard's names of the values of either kind of label; none where there is no such label."""
    return (
        {f"{what}/mean": mean, **{f"{what}/{label}": value for label, value in of_labels.items()}} if of_labels else {}
    )


def _say_measured(validation: Validation) -> str:
    if validation.dice:
        return f"validation Dice {validation.mean_dice:.3f}"
    return f"consistency {validation.mean_consistency:.3f} with labels approved as predicted"


def _draw_parent_line(layout: ModelLayout, dice: Mapping[str, float], target: int) -> None:
    """Draw the parent's Dice as a level line from iteration 0 to `target`: TensorBoard shows it as a second run."""
    log.info(
        "validation Dice of the parent, before training: %s",
        ", ".join(f"{name} {value:.3f}" for name, value in dice.items()),
    )
    scalars = {"dice/mean": float(np.mean(list(dice.values()))), **{f"dice/{name}": one for name, one in dice.items()}}
    events = _Events(layout.tensorboard_source)
    for step in (0, target):
        events.write(scalars, step)
    events.close()


def _paint(picture: ValidationPicture) -> np.ndarray:
    """Image, image with label, image with prediction, side by side; (rows, columns, 3) bytes."""
    low, high = np.percentile(picture.image, [1, 99])
    grey = np.clip((picture.image - low) / max(high - low, 1e-6) * 255, 0, 255)
    plain = np.repeat(grey[..., None], 3, axis=-1)
    return np.concatenate([plain, _tint(plain, picture.label), _tint(plain, picture.prediction)], axis=1).astype(
        np.uint8
    )


def _tint(plain: np.ndarray, label: np.ndarray) -> np.ndarray:
    values = label.astype(int)
    colours = LABEL_COLOURS[(values - 1) % len(LABEL_COLOURS)]
    return np.where((values > 0)[..., None], 0.5 * plain + 0.5 * colours, plain)


def _peak_memory_gb() -> float:
    """Largest memory of this process so far: of the GPU where one is used, else resident memory."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    received: list[int] = []
    before = {name: signal.signal(name, lambda number, _: received.append(number)) for name in STOP_SIGNALS}
    try:
        yield lambda: bool(received)
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
