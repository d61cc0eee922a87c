"""What the command line asks of the group level."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bidsapp.layout import ModelLayout, ModelPlaces, OutputLayout
from bidsapp.records import LeftIs
from bidsapp.review.selection import Wanted


@dataclass(frozen=True)
class GroupRequest:
    """One run of the group level."""

    layout: ModelLayout
    output: OutputLayout
    """OUTPUT_DIR, where approved labels are."""
    training_dir: Path | None = None
    """Pairs that the user vouches for; None: approved labels."""
    wanted: Wanted = field(default_factory=Wanted)
    """Which approved labels."""
    label_map: Path | None = None
    """Table of other names for labels: of approved label maps, of the parent and of earlier pairs."""
    export_to: Path | None = None
    """Write the approved pairs there for others, and train nothing."""
    parent: str | None = None
    """``scratch``, or the model to start from (--model); None: what the model was begun with, else scratch."""
    rehearse: Path | None = None
    """A MODEL_DIR or a folder of earlier pairs to mix into the training."""
    source_test: Path | None = None
    """A MODEL_DIR or a folder of pairs on which to look for what was forgotten."""
    accept_worse: bool = False
    """Let a model that is worse than its parent become the current one."""
    device: str = "auto"
    cores: int | None = None
    iterations: int | None = None
    preset: str | None = None
    assignments: Iterable[str] = ()
    """Choices of this run that win over config.ini."""
    extend: bool = True
    """False: complete what is unfinished and never open a further segment."""
    skip_bad_pairs: bool = False
    left_is: LeftIs | None = None
    participant_pattern: str | None = None
    dry_run: bool = False
    command: str = "group"
    models: ModelPlaces | None = None
    """Where models are looked up by name; None: nowhere."""
