"""One split for all models of a data set: OUTPUT_DIR/labels/split.tsv, which every MODEL_DIR copies from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import nullcontext
from pathlib import Path

from bidsapp.errors import BadDataError
from bidsapp.layout import OutputLayout
from bidsapp.lock import folder_lock
from bidsapp.model_dir.split import add_known, add_places, decide_split, next_generation, read_split, write_split
from bidsapp.printable import people_text
from bidsapp.records import Split

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
"""Another run adds its people within a moment."""


def decide_shared_split(
    output: OutputLayout,
    path: Path,
    people: Collection[str],
    *,
    seed: int,
    judges: Collection[str] | None = None,
    locked: Split | None = None,
    inherited: Split | None = None,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    write: bool = True,
    judge: Callable[[Split], None] = lambda split: None,
) -> Split:
    """Place people as the data set knows them, the others anew, and add the others to what the data set knows.

    Two runs at once do this one after the other, so that a person has the same place in both.

    Parameters
    ----------
    path
        The model's own ``split.tsv``, which the caller writes.
    people, seed, judges, locked, validation_fraction, test_fraction
        As in `bidsapp.model_dir.split.decide_split`.
    inherited
        Places of people whom a model before knows; the data set's own come first.
    write
        False: leave the data set's split as it is.
    judge
        Raises when the split must not be used; nobody else can change it meanwhile, and nothing was written then.

    Raises
    ------
    BadDataError
        As `decide_split` does, and when the model and the data set have somebody in different parts.
    CannotWriteError
        When the data set's split cannot be written.
    """
    lock = folder_lock(output.people_split_lock, patience_seconds=PATIENCE_SECONDS) if write else nullcontext()
    with lock:
        shared = output.people_split
        known = read_split(shared) if shared.exists() else Split()
        _refuse_contradiction(shared, known, path, read_split(path) if path.exists() else locked or Split())
        split = decide_split(
            path,
            people,
            seed=seed,
            judges=judges,
            locked=locked,
            known=add_places(known, inherited or Split()),
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
        )
        judge(split)
        extended = add_known(known, split, people, generation=next_generation(known))
        if write and extended != known:
            write_split(shared, extended)
            logger.info(
                "added %s to the split of the data set: %s", people_text(len(extended.rows) - len(known.rows)), shared
            )
    return split


def _refuse_contradiction(shared: Path, known: Split, path: Path, own: Split) -> None:
    places = {row.participant_id: row.split for row in known.rows}
    moved = [
        f"{row.participant_id} ({places[row.participant_id]} in the data set, {row.split} in the model)"
        for row in own.rows
        if places.get(row.participant_id, row.split) != row.split
    ]
    if moved:
        raise BadDataError(
            f"{shared} and {path} disagree about {', '.join(moved)}",
            "The data set's split counts for all its models: train in another --model-dir, or undo the edit.",
        )
