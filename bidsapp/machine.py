"""What this process may use of the machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import MutableMapping
from pathlib import Path


def usable_cores() -> int:
    """Processor cores that this process may use, control groups included (os.cpu_count() ignores both)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def keep_caches_in(folder: Path, environment: MutableMapping[str, str]) -> None:
    """Name folders below `folder` for what libraries keep for their next start, unless the user named one.

    A home may be read-only, missing, or that of a user without a name, as in containers; by themselves Matplotlib
    would complain and torch's compiler would stop there. Folders are made by who uses them.
    """
    named = {
        "XDG_CACHE_HOME": folder,
        "MPLCONFIGDIR": folder / "matplotlib",
        "TORCHINDUCTOR_CACHE_DIR": folder / "torchinductor",
        "TRITON_CACHE_DIR": folder / "triton",
    }
    for variable, path in named.items():
        environment.setdefault(variable, str(path))
