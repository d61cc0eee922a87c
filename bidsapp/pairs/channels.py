"""Names of image channels where nobody gave any."""

from __future__ import annotations


def default_channel_names(count: int) -> tuple[str, ...]:
    """MRI, or MRI-0, MRI-1, ...: any name that nnU-Net does not take for CT means z-scoring."""
    return ("MRI",) if count == 1 else tuple(f"MRI-{channel}" for channel in range(count))
