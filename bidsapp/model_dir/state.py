"""state.json: the segments of a model's training, what they were trained on, and how far they came."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from bidsapp.errors import BadDataError
from bidsapp.evaluation.comparison import Comparison, comparison_from_json
from bidsapp.files import check_values, read_json, typed_json, write_json
from bidsapp.images.orientation import are_axes
from bidsapp.labels.tables import LARGEST_VALUE
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.nnunet_files import RESTORE
from bidsapp.model_dir.split import split_to_json
from bidsapp.records import Hemi, LabelOrigin, LabelTrust, Split, SplitName

Stage = Literal["training", "testing", "exported"]
STATE_VERSION = 1
SCRATCH = "scratch"
MOST_ITERATIONS = 10**9
_RESULT = {
    "generation": int,
    "people": dict[str, int],
    "rehearsed": int,
    "test_dice": dict[str, float | tuple[float, float] | None],
    "comparisons": dict[str, dict[str, Any]],
    "accepted": bool,
}
"""What every tested segment tells, see `Segment.result`."""
_NEWER_RESULT = {"digest": str, "consistency": dict[str, float | int | None]}
"""What older versions did not tell."""


@dataclass(frozen=True)
class Segment:
    """One stretch of training."""

    start: int
    target: int
    """Iterations before and after, counted over all segments."""
    stage: Stage = "training"
    """What is to be done next: training, testing (scores and export), or nothing (exported)."""
    settings: dict[str, str] = field(default_factory=dict)
    """The effective settings, `section.key` -> text."""
    left_out: list[str] = field(default_factory=list)
    """Pairs that failed a check when the segment began (``--skip-bad-pairs``), and labels whose approval no longer
    holds, with the reason."""
    vouched: LabelTrust = field(default_factory=LabelTrust)
    """Who answers for the labels of this segment."""
    pairs: list[str] = field(default_factory=list)
    """How its pairs were grouped, stored and turned, in sentences that name nobody."""
    result: dict[str, Any] = field(default_factory=dict)
    """What came out: people and pairs per part, test Dice, comparison with the model before, digest of the model;
    empty until tested."""


@dataclass(frozen=True)
class TrainedCase:
    """What is known of a pair that the model was given."""

    participant: str
    hemi: Hemi
    split: SplitName
    content: str
    """Hash of the voxels and geometry of image and label."""
    annotated: tuple[str, ...] | None = None
    """Names of the labels that it annotates; None: all."""
    rehearsal: bool = False
    """It is of an earlier training (``--rehearse``) and no person of this one."""
    origin: LabelOrigin = field(default_factory=LabelOrigin)
    """How its label came about."""
    axes: str = ""
    """How its array lies where that is not what `ModelState.storage` says: HippoTune 0.1.0 turned nothing."""


@dataclass(frozen=True)
class ModelState:
    """Everything that must be known to continue a model honestly."""

    base: str
    """What the training began with: ``scratch``, or the hash of a model."""
    labels: dict[int, str]
    """value -> name."""
    required_labels: tuple[str, ...]
    channels: tuple[str, ...]
    split: Split
    """Everybody's place when the last segment began; rows may be added, nobody moves."""
    segments: tuple[Segment, ...] = ()
    cases: dict[str, TrainedCase] = field(default_factory=dict)
    """The pairs of the last segment, by case."""
    image_people: dict[str, str] = field(default_factory=dict)
    """Digest of every image that the model was ever given -> its person."""
    versions: dict[str, str] = field(default_factory=dict)
    parents: tuple[dict[str, Any], ...] = ()
    """What is known of the models before this one, the nearest first: name, license, digest, people."""
    new_labels: tuple[str, ...] = ()
    """Labels that the model that it began from does not know."""
    inherited: Split = field(default_factory=Split)
    """Places of everybody whom those models knew."""
    unchecked: tuple[str, ...] = ()
    """Names of those models whose people are not known."""
    fingerprints: dict[str, SplitName] = field(default_factory=dict)
    """Of images that exports before this model knew (`bidsapp.model_dir.fingerprints`) -> their part there."""
    parent_labels: dict[int, int] = field(default_factory=dict)
    """Value of the model that the last segment is compared with -> value of the network; empty: nothing to compare."""
    parent_channels: tuple[int, ...] = ()
    """Which images that model takes, by number and in its order."""
    ancestors: tuple[str, ...] = ()
    """Digests of the models before this one and of their earlier exports, as far as they are known."""
    storage: dict[Hemi, str] = field(default_factory=dict)
    """Side -> axes that its pairs are turned to (`bidsapp.images.orientation`), decided once; empty in states of
    HippoTune 0.1.0."""

    @property
    def from_model(self) -> bool:
        """Whether the training began from another model."""
        return self.base != SCRATCH

    @property
    def current(self) -> Segment | None:
        """The last segment."""
        return self.segments[-1] if self.segments else None

    @property
    def iteration(self) -> int:
        """Iterations of all finished training."""
        return self.segments[-1].target if self.segments else 0

    def with_settings(self, settings: dict[str, str]) -> ModelState:
        """The last segment completed with other settings than it began with."""
        return replace(self, segments=(*self.segments[:-1], replace(self.segments[-1], settings=settings)))

    def with_result(self, result: dict[str, Any]) -> ModelState:
        """The last segment tested."""
        return replace(self, segments=(*self.segments[:-1], replace(self.segments[-1], result=result)))

    def with_stage(self, stage: Stage) -> ModelState:
        """The last segment moved on to `stage`."""
        return replace(self, segments=(*self.segments[:-1], replace(self.segments[-1], stage=stage)))


def write_state(layout: ModelLayout, state: ModelState) -> None:
    """Write state.json."""
    splits = {"split": split_to_json(state.split), "inherited": split_to_json(state.inherited)}
    write_json(layout.state, {"version": STATE_VERSION, **asdict(state), **splits})


def read_state(layout: ModelLayout) -> ModelState | None:
    """The state of a model; None where none was begun.

    A MODEL_DIR may come from somebody else: every value is of its type, no name leads out of the folder, and segments
    follow one another.

    Raises
    ------
    BadDataError
        When state.json is not what we wrote.
    """
    if not os.path.lexists(layout.state):
        return None
    content = read_json(layout.state, RESTORE)
    try:
        if not isinstance(content, dict) or content.pop("version", None) != STATE_VERSION:
            raise ValueError("it was not written by this version of HippoTune")
        for name in ("split", "inherited"):
            content[name] = {"rows": content.get(name, [])}
        state = typed_json(ModelState, content)
        _check(state)
    except ValueError as error:
        raise BadDataError(f"{layout.state} cannot be used: {error}", RESTORE) from error
    return _with_known_origins(state, content)


def _with_known_origins(state: ModelState, content: dict[str, Any]) -> ModelState:
    """Older versions did not note where labels come from: a user's folder was imported, of approvals nobody knows."""
    if state.segments[-1].vouched.by != "review":
        return state
    cases = {
        case: known if "origin" in content["cases"][case] else replace(known, origin=LabelOrigin("unknown"))
        for case, known in state.cases.items()
    }
    return replace(state, cases=cases)


def _check(state: ModelState) -> None:
    """Hold what types do not say; raises ValueError."""
    if not state.segments:
        raise ValueError("segments is empty")
    before = 0
    for number, segment in enumerate(state.segments):
        if segment.start != before or not segment.start <= segment.target <= MOST_ITERATIONS:
            raise ValueError(f"segments.{number} goes from {segment.start} to {segment.target}, after {before}")
        if number < len(state.segments) - 1 and segment.stage != "exported":
            raise ValueError(f"segments.{number} is {segment.stage}, and another one follows")
        before = segment.target
        _check_result(segment.result, f"segments.{number}.result")
    if not state.labels or not all(0 <= value <= LARGEST_VALUE for value in state.labels):
        raise ValueError(f"labels are {state.labels}")
    if not state.channels:
        raise ValueError("channels is empty")
    if len(state.split.people) < len(state.split.rows):
        raise ValueError("split names somebody twice")
    places = {row.participant_id: row.split for row in state.split.rows}
    wrong = [f"{side} {axes}" for side, axes in state.storage.items() if not are_axes(axes)]
    if wrong:
        raise ValueError(f"storage is {', '.join(wrong)}")
    for case, known in state.cases.items():
        if known.axes and not are_axes(known.axes):
            raise ValueError(f"cases.{case} has the axes {ascii(known.axes)[:80]}")
        if case in ("", ".", "..") or not case.isprintable() or {"/", "\\"} & set(case):
            raise ValueError(f"cases: {ascii(case)[:80]} is no name of a file")
        if not known.rehearsal and places.get(known.participant) != known.split:
            raise ValueError(f"cases.{case} is in {known.split}, and {known.participant} is not")


def _check_result(result: Mapping[str, Any], where: str) -> None:
    """What the report reads of a finished segment; raises ValueError."""
    if not result:
        return
    try:
        check_values(result, _RESULT | _NEWER_RESULT, needed=_RESULT)
        for one in result["comparisons"].values():
            typed_json(Comparison, comparison_from_json(one).to_json())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where} cannot be read: {error!r}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
