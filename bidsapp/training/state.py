"""state.json: the segments of a model's training, what they were trained on, and how far they came."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from bidsapp.errors import BadDataError
from bidsapp.files import read_json, write_json
from bidsapp.layout import ModelLayout
from bidsapp.records import Hemi, LabelOrigin, Split, SplitName, Vouched
from bidsapp.training.orientation import are_axes
from bidsapp.training.origins import origin_from_json
from bidsapp.training.split import split_from_json, split_to_json

Stage = Literal["training", "testing", "exported"]
STATE_VERSION = 1
SCRATCH = "scratch"


@dataclass(frozen=True)
class Segment:
    """One stretch of training.

    Attributes
    ----------
    start, target
        Iterations before and after, counted over all segments.
    stage
        What is to be done next: training, testing (scores and export), or nothing (exported).
    settings
        The effective settings, `section.key` -> text.
    left_out
        Pairs that failed a check when the segment began (``--skip-bad-pairs``), and labels whose approval no longer
        holds, with the reason.
    vouched
        Who answers for the labels of this segment.
    pairs
        How its pairs were grouped, stored and turned, in sentences that name nobody.
    result
        What came out: people and pairs per part, test Dice, comparison with the model before, digest of the model;
        empty until tested.
    """

    start: int
    target: int
    stage: Stage = "training"
    settings: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    vouched: Vouched = field(default_factory=Vouched)
    pairs: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedCase:
    """What is known of a pair that the model was given.

    Attributes
    ----------
    content
        Hash of the voxels and geometry of image and label.
    annotated
        Names of the labels that it annotates; None: all.
    rehearsal
        It is of an earlier training (``--rehearse``) and no person of this one.
    origin
        How its label came about.
    axes
        How its array lies where that is not what `ModelState.storage` says: HippoTune 0.1.0 turned nothing.
    """

    participant: str
    hemi: Hemi
    split: SplitName
    content: str
    annotated: tuple[str, ...] | None = None
    rehearsal: bool = False
    origin: LabelOrigin = field(default_factory=LabelOrigin)
    axes: str = ""


@dataclass(frozen=True)
class ModelState:
    """Everything that must be known to continue a model honestly.

    Attributes
    ----------
    base
        What the training began with: ``scratch``, or the hash of a model.
    labels
        value -> name.
    split
        Everybody's place when the last segment began; rows may be added, nobody moves.
    cases
        The pairs of the last segment, by case.
    image_people
        Digest of every image that the model was ever given -> its person.
    parents
        What is known of the models before this one, the nearest first: name, license, digest, people.
    new_labels
        Labels that the model that it began from does not know.
    inherited
        Places of everybody whom those models knew.
    unchecked
        Names of those models whose people are not known.
    parent_labels
        Value of the model that the last segment is compared with -> value of the network; empty: nothing to compare.
    parent_channels
        Which images that model takes, by number and in its order.
    ancestors
        Digests of the models before this one and of their earlier exports, as far as they are known.
    storage
        Side -> axes that its pairs are turned to (`bidsapp.training.orientation`), decided once; empty in states of
        HippoTune 0.1.0.
    """

    base: str
    labels: dict[int, str]
    required_labels: tuple[str, ...]
    channels: tuple[str, ...]
    split: Split
    segments: tuple[Segment, ...] = ()
    cases: dict[str, TrainedCase] = field(default_factory=dict)
    image_people: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    parents: tuple[dict[str, Any], ...] = ()
    new_labels: tuple[str, ...] = ()
    inherited: Split = field(default_factory=Split)
    unchecked: tuple[str, ...] = ()
    parent_labels: dict[int, int] = field(default_factory=dict)
    parent_channels: tuple[int, ...] = ()
    ancestors: tuple[str, ...] = ()
    storage: dict[Hemi, str] = field(default_factory=dict)

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

    Raises
    ------
    BadDataError
        When state.json is not what we wrote.
    """
    if not layout.state.exists():
        return None
    try:
        content: dict[str, Any] = read_json(layout.state)
        if content.pop("version") != STATE_VERSION:
            raise ValueError("written by another version of HippoTune")
        return ModelState(
            **content
            | {
                "labels": {int(value): name for value, name in content["labels"].items()},
                "required_labels": tuple(content["required_labels"]),
                "channels": tuple(content["channels"]),
                "split": split_from_json(content["split"]),
                "segments": tuple(_read_segment(segment) for segment in content["segments"]),
                "cases": _read_cases(content),
                "parents": tuple(content.get("parents", ())),
                "new_labels": tuple(content.get("new_labels", ())),
                "inherited": split_from_json(content.get("inherited", ())),
                "unchecked": tuple(content.get("unchecked", ())),
                "parent_labels": {int(old): new for old, new in content.get("parent_labels", {}).items()},
                "parent_channels": tuple(content.get("parent_channels", ())),
                "ancestors": tuple(content.get("ancestors", ())),
                "storage": _read_storage(content.get("storage", {})),
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadDataError(
            f"{layout.state} cannot be used: {error}", "Restore it from a backup, or choose another --model-dir."
        ) from error


def _read_cases(content: dict[str, Any]) -> dict[str, TrainedCase]:
    """Older versions did not note where labels come from: a user's folder was imported, of approvals nobody knows."""
    approved = bool(content["segments"]) and content["segments"][-1].get("vouched", {}).get("by") == "review"
    otherwise = LabelOrigin("unknown" if approved else "imported")
    return {case: _read_case(known, otherwise) for case, known in content["cases"].items()}


def _read_case(content: dict[str, Any], otherwise: LabelOrigin) -> TrainedCase:
    annotated, origin = content.get("annotated"), content.get("origin")
    if content.get("axes") and not are_axes(content["axes"]):
        raise ValueError(f"the axes of a case are {content['axes']!r}")
    return TrainedCase(
        **content
        | {
            "annotated": None if annotated is None else tuple(annotated),
            "origin": otherwise if origin is None else origin_from_json(origin),
        }
    )


def _read_storage(content: dict[Hemi, str]) -> dict[Hemi, str]:
    wrong = [f"{side} {axes}" for side, axes in content.items() if side not in get_args(Hemi) or not are_axes(axes)]
    if wrong:
        raise ValueError(f"storage is {', '.join(wrong)}")
    return content


def _read_segment(content: dict[str, Any]) -> Segment:
    return Segment(**content | {"vouched": Vouched(**content.get("vouched", {}))})
