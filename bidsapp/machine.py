"""What this process may use of the machine."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import MutableMapping
from pathlib import Path

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU)
"""What a person or a cluster says when a run must end: Ctrl-C, a cancelled job, a warning before the time is up."""


def usable_cores() -> int:
    """Processor cores that this process may use, control groups included (os.cpu_count() ignores both)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def available_memory_bytes() -> float:
    """Memory that is free for us now, a control group's limit included; 0 where the system does not say."""
    free = _free_memory_of_the_machine()
    for folder, limit, used in (
        (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            free = min(free, int((folder / limit).read_text()) - int((folder / used).read_text()))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return max(free, 0.0)


def _free_memory_of_the_machine() -> float:
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:  # noqa: PTH123
            fields = dict(line.split(":") for line in stream)
        return 1024.0 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return 0.0


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
    if not _home_can_be_entered():
        environment["HOME"] = str(folder)


def _home_can_be_entered() -> bool:
    """Libraries look there for their settings as soon as they are imported, pybids among them, or stop."""
    try:
        (Path.home() / "settings").exists()
    except (RuntimeError, OSError):
        return False
    return True
