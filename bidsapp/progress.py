"""Progress over a list of work: a bar with time left on a terminal, a line a step in the log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from datetime import timedelta
from typing import TypeVar

Item = TypeVar("Item")

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


def progress_over(items: Iterable[Item], what: str, *, total: int | None = None) -> Iterator[Item]:
    """Yield `items`, showing how many are done and how long the rest will take.

    `total` is their number, for items that cannot tell it themselves.
    """
    from tqdm import tqdm

    on_terminal = sys.stderr.isatty()
    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    log.info("%s: %d", what, total)
    began = last = time.monotonic()
    for done, item in enumerate(tqdm(items, desc=what, total=total, disable=not on_terminal, dynamic_ncols=True)):
        now = time.monotonic()
        if not on_terminal and done and now - last > SECONDS_BETWEEN_LINES:
            last = now
            left = timedelta(seconds=round((now - began) / done * (total - done)))
            log.info("%s: %d of %d, %s left", what, done, total, left)
        yield item
