"""The colours of labels, on pages, in pictures and in drawing programs alike."""

from __future__ import annotations

from collections.abc import Iterable

LABEL_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#F0E442", "#0072B2", "#BBBBBB")
"""Okabe and Ito 2008 (distinct with every kind of colour vision), its black replaced by grey: images are dark."""


def label_colours(labels: Iterable[int]) -> dict[int, str]:
    """A colour for every label value; from the ninth label on colours come again."""
    return {value: LABEL_COLOURS[index % len(LABEL_COLOURS)] for index, value in enumerate(labels)}
