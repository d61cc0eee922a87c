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
    """One run of the group level.

    Attributes
    ----------
    output
        OUTPUT_DIR, where approved labels are.
    training_dir
        Pairs that the user vouches for; None: approved labels.
    wanted
        Which approved labels.
    label_map
        Table of other names for labels, of approved label maps, of the model that is started from and of earlier pairs.
    export_to
        Write the approved pairs there for others, and train nothing.
    base
        ``scratch``, or the model to start from; None: what the model was begun with, else scratch.
    rehearse
        A MODEL_DIR or a folder of earlier pairs to mix into the training.
    source_test
        A MODEL_DIR or a folder of pairs on which to look for what was forgotten.
    accept_worse
        Let a model that is worse than the one before become the current one.
    iterations, preset, assignments
        Choices of this run that win over config.ini.
    extend
        False: complete what is unfinished and never open a further segment.
    models
        Where models are looked up by name; None: nowhere.
    """

    layout: ModelLayout
    output: OutputLayout
    training_dir: Path | None = None
    wanted: Wanted = field(default_factory=Wanted)
    label_map: Path | None = None
    export_to: Path | None = None
    base: str | None = None
    rehearse: Path | None = None
    source_test: Path | None = None
    accept_worse: bool = False
    device: str = "auto"
    cores: int | None = None
    iterations: int | None = None
    preset: str | None = None
    assignments: Iterable[str] = ()
    extend: bool = True
    skip_bad_pairs: bool = False
    left_is: LeftIs | None = None
    participant_pattern: str | None = None
    dry_run: bool = False
    command: str = "group"
    models: ModelPlaces | None = None
