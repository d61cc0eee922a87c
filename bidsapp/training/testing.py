"""Predict and score pairs with a model, and compare the model with its parent."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bidsapp.bids.people import shorten_list
from bidsapp.errors import BadDataError
from bidsapp.evaluation.comparison import Comparison, compare, drawn_by
from bidsapp.evaluation.scores import score_case
from bidsapp.images.volumes import read_volume
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.lineage import parts_by_fingerprint
from bidsapp.model_dir.nnunet_files import RESTORE
from bidsapp.model_dir.state import ModelState
from bidsapp.nnunet_names import TURNS_TO_RAS
from bidsapp.prediction import Predictor
from bidsapp.progress import progress_over
from bidsapp.records import CaseScore, LabelTable, Pair, SplitName
from bidsapp.training.import_pairs import write_nnunet_case
from bidsapp.training.rehearsal import EarlierPairs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoredModel:
    """A model to score, and how its labels and channels correspond to those of the pairs."""

    predictor: Predictor
    values: Mapping[int, int] | None = None
    """Value of the model's label -> value in the label maps of the pairs; None: the values are the same."""
    channels: tuple[int, ...] | None = None
    """Which images of a pair the model takes, by number and in the model's order; None: all of them in order."""

    def predict(self, pair: Pair, output: Path) -> np.ndarray:
        """Write the model's label map to `output`, and return it as an array with the values of the pairs' labels."""
        images = pair.images if self.channels is None else [pair.images[channel] for channel in self.channels]
        for path in images:
            read_volume(path, "pair")  # names a damaged file, which nnU-Net's reader would not
        self.predictor.predict_files(images, output)
        return _renumber(read_volume(output, "pair").data, self.values)


def pairs_of_part(layout: ModelLayout, state: ModelState, part: SplitName) -> list[Pair]:
    """The model's own people in one part, as they lie in nnU-Net's raw data set."""
    folder = "Ts" if part == "test" else "Tr"
    return [
        Pair(
            case, known.participant, known.hemi,
            layout.raw_case(folder, case, len(state.channels)),
            layout.raw_labels(folder) / f"{case}.nii.gz",
            origin=known.origin, annotated=None if known.annotated is None else frozenset(known.annotated),
        )
        for case, known in sorted(state.cases.items())
        if known.split == part and not known.rehearsal
    ]  # fmt: skip


def pairs_of_others(earlier: EarlierPairs, state: ModelState, folder: Path, *, reader: str) -> list[Pair]:
    """Pairs of another training, written below `folder` as this network would have been given them.

    People whom this model was trained on are left out: a score on them cannot show what the model forgot.
    """
    trained = {known.participant for known in state.cases.values() if known.split == "train"}
    places = {row.participant_id for row in (*state.split.rows, *state.inherited.rows) if row.split == "train"}
    images = earlier.checked.images
    away = [
        pair.case
        for pair in earlier.pairs
        if pair.participant in trained | places
        or {state.image_people.get(one) for one in images[pair.case]} & places
        or "train" in parts_by_fingerprint(state, images[pair.case])
    ]
    if away:
        log.info("trained on, so not in the source test: %s", shorten_list(sorted(away)))
    earlier = earlier.without(away)
    for pair in earlier.pairs:
        write_nnunet_case(pair, folder, folder, values=earlier.values, as_las=reader == TURNS_TO_RAS)
    return [
        replace(
            pair,
            images=tuple(folder / f"{pair.case}_{channel:04d}.nii.gz" for channel in range(len(pair.images))),
            label=folder / f"{pair.case}.nii.gz",
        )
        for pair in earlier.pairs
    ]


def predict_and_score(
    pairs: Iterable[Pair], labels: LabelTable, model: ScoredModel, folder: Path, *, what: str
) -> list[CaseScore]:
    """Predict every pair to ``<case>_dseg.nii.gz`` in `folder`, and compare it with its label.

    Parameters
    ----------
    labels
        Names of the values that are learned here.
    what
        For the progress bar.
    """
    scores: list[CaseScore] = []
    for pair in progress_over(list(pairs), what):
        prediction = model.predict(pair, folder / f"{pair.case}_dseg.nii.gz")
        reference = read_volume(pair.label, "pair")
        if reference.data.shape != prediction.shape:
            raise BadDataError(f"{pair.label} is {reference.data.shape}, its image {prediction.shape}", RESTORE)
        scores += score_case(
            prediction,
            reference.data,
            reference.spacing_mm.tolist(),
            labels,
            participant=pair.participant,
            case=pair.case,
            hemi=pair.hemi,
            annotated=pair.annotated,
            label_from=pair.origin.kind,
        )
    return scores


def compare_models(
    pairs: Sequence[Pair],
    labels: LabelTable,
    parent: ScoredModel,
    new: ScoredModel,
    *,
    ancestors: Collection[str] = (),
    what: str,
    seed: int,
) -> Comparison | None:
    """Predict the same pairs with both models, and compare by person; None where there are none.

    Pairs whose label one of them drew, or one of their `ancestors` (digests), are left out.
    """
    models = {*ancestors, *(one.predictor.digest for one in (parent, new))}
    drawn = {pair.case: pair.participant for pair in pairs if drawn_by(pair.origin, models)}
    pairs = [pair for pair in pairs if pair.case not in drawn]
    with tempfile.TemporaryDirectory(prefix="hippotune-") as folder:
        old_scores, new_scores = (
            predict_and_score(pairs, labels, one, Path(folder), what=f"{name} on {what}")
            for name, one in (("the parent", parent), ("the new model", new))
        )
    return compare(old_scores, new_scores, seed=seed, drawn=drawn)


def _renumber(label: np.ndarray, values: Mapping[int, int] | None) -> np.ndarray:
    """Values that are not in `values` become background."""
    whole = np.rint(label).astype(np.int64)
    if values is None:
        return whole
    lookup = np.zeros(int(whole.max(initial=0)) + 1, dtype=np.int64)
    for old, new in values.items():
        if old < len(lookup):
            lookup[old] = new
    return lookup[whole]
