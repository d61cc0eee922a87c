"""Who has a side open: one tab at a time, as long as it keeps saying so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

HOLD_SECONDS = 150.0
"""Pages renew every 20 s, but browsers slow the clocks of hidden tabs down to one tick a minute: two may be missed."""


@dataclass(frozen=True)
class Hold:
    """A tab has a side."""

    tab: str
    rater: str
    """Who sits before it, as far as they said."""
    since: datetime
    """When it was taken."""
    until: float
    """By the server's own clock, which only counts on."""


class Holds:
    """Which tab has which side; kept in memory, for after a restart the tabs ask again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._holds: dict[str, Hold] = {}
        self._last: dict[str, str] = {}
        self._lock = threading.Lock()

    def take(self, side: str, tab: str, rater: str) -> Hold:
        """Take or renew a side; returns the hold that stands, which is another tab's where that one came first."""
        with self._lock:
            now, held = self._clock(), self._standing(side)
            if held is not None and held.tab != tab:
                return held
            self._last[side] = tab
            taken = held or Hold(tab, rater, datetime.now().astimezone().replace(microsecond=0), now)
            taken = self._holds[side] = replace(taken, rater=rater or taken.rater, until=now + HOLD_SECONDS)
            return taken

    def release(self, side: str, tab: str) -> None:
        """Give a side back; another tab's stays."""
        with self._lock:
            held = self._holds.get(side)
            if held is not None and held.tab == tab:
                del self._holds[side]

    def holder(self, side: str) -> Hold | None:
        """Who has a side now."""
        with self._lock:
            return self._standing(side)

    def last_tab(self, side: str) -> str | None:
        """The tab that had a side last, whether it has it still or not."""
        with self._lock:
            return self._last.get(side)

    def _standing(self, side: str) -> Hold | None:
        held = self._holds.get(side)
        return held if held is not None and held.until > self._clock() else None
