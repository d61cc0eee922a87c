"""Approvals: what a person vouched for, and whether it is still what they saw."""

from __future__ import annotations

from dataclasses import dataclass

from bidsapp.layout import OutputLayout
from bidsapp.records import Approval


@dataclass(frozen=True)
class Approvals:
    """Approved sides of a data set.

    Attributes
    ----------
    valid
        Label, crop and transform are what the ledger says; in order of name.
    refused
        ``sub-01[_ses-1]_hemi-L`` -> why an approved label can no longer be used.
    """

    valid: tuple[Approval, ...]
    refused: dict[str, str]


def find_approvals(layout: OutputLayout) -> Approvals:
    """Find approved labels and crops with pybids, and check each against the ledger."""
    raise NotImplementedError
