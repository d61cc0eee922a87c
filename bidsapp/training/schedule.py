"""The learning rate of every iteration, over segments that each have their own peak."""

from __future__ import annotations

from bidsapp.config import FineTuningSettings, OptimizerSettings


def learning_rate(
    iteration: int,
    *,
    start: int,
    target: int,
    settings: OptimizerSettings,
    finetuning: FineTuningSettings | None = None,
) -> float:
    """The rate of one step.

    Parameters
    ----------
    iteration
        Global iteration, `start` <= iteration < `target`.
    start, target
        The segment's bounds; a segment that starts at 0 is the first.
    settings
        Peak, warm-up, decay.
    finetuning
        Peak and warm-up of a first segment that goes on from another model; None: it starts from scratch.
    """
    length = target - start
    if start == 0 and finetuning is not None:
        peak, warmup = settings.learning_rate * finetuning.peak, round(finetuning.warmup * length)
    elif start == 0:
        peak, warmup = settings.learning_rate, settings.warmup_iterations
    else:
        peak = settings.learning_rate * settings.next_peak
        warmup = round(settings.next_warmup * length)
    done = iteration - start
    rising = min(1.0, (done + 1) / (warmup + 1))
    falling = (1 - done / length) ** settings.decay_exponent
    return peak * rising * falling
