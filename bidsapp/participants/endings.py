"""How every session ended, as the table that closes a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bidsapp.errors import HippoTuneError

State = Literal["ok", "skipped", "failed"]

_MOST_ON_SCREEN = 40

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """One session after a run."""

    name: str
    state: State
    seconds: float | None = None
    """From the first look at its files to its page; None: its process did not live to tell."""
    error: HippoTuneError | None = None
    """Why it failed."""


def show_endings(endings: Sequence[Ending]) -> None:
    """Write a line per session; of many, only those that failed go to the screen, and all to the log."""
    width = max((len(ending.name) for ending in endings), default=0)
    for ending in sorted(endings, key=lambda one: (one.state == "failed", one.name)):
        seconds = "" if ending.seconds is None else f"{ending.seconds:6.0f} s"
        level = logging.INFO if len(endings) <= _MOST_ON_SCREEN or ending.state == "failed" else logging.DEBUG
        log.log(level, "  %-7s  %-*s %8s", ending.state, width, ending.name, seconds)
    counts = {state: sum(one.state == state for one in endings) for state in ("ok", "skipped", "failed")}
    log.info("  %s", ", ".join(f"{number} {state}" for state, number in counts.items()))
