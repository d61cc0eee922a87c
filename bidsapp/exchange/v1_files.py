"""A model of nnU-Net v1 among files: its folder, what its pickles say, and its weights. Nothing of it is executed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.exchange.archives import MAX_MEMBER_BYTES, MAX_MEMBERS, MIB, FolderMembers, Members, open_archive
from bidsapp.exchange.unpickling import read_pickle
from bidsapp.exchange.v1_network import HINT, V1Plans, V1Stage, read_plans
from bidsapp.exchange.weights import read_v1_checkpoint
from bidsapp.nnunet_names import NNUNET_CONFIGURATION
from bidsapp.printable import printable

PLANS = "plans.pkl"
MAX_PICKLE_BYTES = 16 * MIB
PREFERRED_CHECKPOINTS = ("model_final_checkpoint", "model_best")
FOLDER_DEPTH = 6  # results / nnUNet / 3d_fullres / Task / trainer__plans / fold_0
EXPECTED = (
    "Name an archive or a folder of nnU-Net v1 with TRAINER__PLANS/plans.pkl, TRAINER__PLANS/fold_0/model_best.model "
    "and model_best.model.pkl beside it."
)


@dataclass(frozen=True)
class V1Files:
    """The files of one model."""

    members: Members
    folder: str
    """The one with plans.pkl."""
    checkpoint: str
    """One of `PREFERRED_CHECKPOINTS`."""
    folds: tuple[str, ...]
    left_out: tuple[str, ...]
    """Folds without that checkpoint, and ``all`` beside numbered ones."""
    task: str | None
    """``Task101_hcp1200_T1w``; None where no path names one."""

    @property
    def origin(self) -> str:
        """The file that messages name."""
        return f"{self._trainer_file(self.folds[0])} in {self.members.origin}"

    @cached_property
    def _trainers(self) -> dict[str, dict[Any, Any]]:
        """Fold -> what v1 pickled beside its checkpoint."""
        return {fold: self._unpickled(self._trainer_file(fold)) for fold in self.folds}

    def read_plans(self) -> tuple[V1Plans, tuple[str, ...]]:
        """The plans that v1 predicts with, and what is odd about them."""
        own = [
            read_plans(trainer.get("plans"), f"{self._trainer_file(fold)} in {self.members.origin}")
            for fold, trainer in self._trainers.items()
        ]
        if any(plans.network != own[0].network for plans in own):
            raise BadDataError(f"the folds of {self.folder or self.members.origin} have different plans", HINT)
        beside = read_plans(self._unpickled(self._file(PLANS)), f"{self._file(PLANS)} in {self.members.origin}")
        if beside.network == own[0].network:
            return own[0], ()
        return own[0], (
            f"{PLANS} differs from the plans in {self.checkpoint}.model.pkl; taken are the latter, as v1 does.",
        )

    def read_trainer(self) -> str:
        """The name of the trainer's class."""
        name = self._trainers[self.folds[0]].get("name")
        if not isinstance(name, str):
            raise BadDataError(f"{self.origin} names no trainer; it is not of nnU-Net v1", HINT)
        return printable(name[:80])

    def choose_stage(self, plans: V1Plans) -> V1Stage:
        """The plans of the resolution that the trainer was started for; the finest where it does not say."""
        arguments = self._trainers[self.folds[0]].get("init")
        asked = arguments[5] if isinstance(arguments, (list, tuple)) and len(arguments) > 5 else None
        known = plans.plans_per_stage
        return known[asked if type(asked) is int and asked in known else max(known)]

    def read_weights(self) -> Iterator[tuple[str, bytes, Any, str]]:
        """Fold, bytes of the file, ``state_dict`` and file for messages, in the order in which an archive is read."""
        wanted = {self._file(fold, f"{self.checkpoint}.model"): fold for fold in self.folds}
        for name in [name for name in self.members.names if name in wanted]:
            origin = f"{name} in {self.members.origin}"
            content = self.members.read(name, MAX_MEMBER_BYTES)
            checkpoint = read_v1_checkpoint(content, origin, self.members.origin / name)
            yield wanted[name], content, checkpoint["state_dict"], origin

    def lacking(self) -> list[str]:
        """Files that should be there."""
        needed = [self._file(PLANS), *map(self._trainer_file, self.folds)]
        return [name for name in needed if name not in self.members.names]

    def _trainer_file(self, fold: str) -> str:
        return self._file(fold, f"{self.checkpoint}.model.pkl")

    def _file(self, *parts: str) -> str:
        return str(PurePosixPath(self.folder, *parts))

    def _unpickled(self, name: str) -> dict[Any, Any]:
        origin = f"{name} in {self.members.origin}"
        found = read_pickle(self.members.read(name, MAX_PICKLE_BYTES), origin)
        if not isinstance(found, dict):
            raise BadDataError(f"{origin} holds no dict; it is not of nnU-Net v1", HINT)
        return found


@contextmanager
def open_v1(source: Path) -> Iterator[V1Files]:
    """Find the one model in an archive or a folder; ``3d_fullres`` where there are several configurations.

    Raises
    ------
    NoInputError
        When there is no such file, or a folder lacks a part of the model, which is named.
    UsageError
        When there are several models.
    BadDataError
        When an archive is damaged, or lacks a part of the model.
    """
    if not source.exists():
        raise NoInputError(f"{source} does not exist", EXPECTED)
    if source.is_dir():
        yield _find_model(_folder_members(source), source)
        return
    with open_archive(source, lambda name: name.endswith(".pkl"), MAX_PICKLE_BYTES) as members:
        yield _find_model(members, source)


def _folder_members(source: Path) -> FolderMembers:
    root = source.resolve()
    found = {
        path.relative_to(root).as_posix()
        for depth in range(FOLDER_DEPTH + 1)
        for pattern in (PLANS, "*.model", "*.model.pkl")
        for path in root.glob("*/" * depth + pattern)
    }
    if len(found) > MAX_MEMBERS:
        raise UsageError(f"{source} holds {len(found)} files of models", "Name the folder of one model in it.")
    return FolderMembers(root, tuple(sorted(found)))


def _find_model(members: Members, source: Path) -> V1Files:
    missing: type[BadDataError | NoInputError] = NoInputError if source.is_dir() else BadDataError
    models: dict[str, dict[str, set[str]]] = {}  # folder -> fold -> checkpoints
    for member in members.names:
        found = re.fullmatch(r"(?:(.*)/)?(fold_\d+|all)/(\w+)\.model", member)
        if found:
            models.setdefault(found[1] or "", {}).setdefault(found[2], set()).add(found[3])
    if not models:
        raise missing(f"{source} holds no fold_*/model_best.model or model_final_checkpoint.model", EXPECTED)
    fullres = [folder for folder in models if NNUNET_CONFIGURATION in folder]
    if len(models) > 1 and len(fullres) != 1:
        listed = ", ".join(sorted(folder or "." for folder in models))
        raise UsageError(f"{source} holds {len(models)} models: {listed}", "Give the folder of one.")
    folder = fullres[0] if len(models) > 1 else next(iter(models))
    checkpoint, folds = _choose(models[folder], source)
    left_out = tuple(sorted(models[folder].keys() - set(folds)))
    model = V1Files(members, folder, checkpoint, folds, left_out, _task(folder, source))
    if model.lacking():
        raise missing(f"{source} lacks {', '.join(model.lacking())}", EXPECTED)
    return model


def _choose(folds: dict[str, set[str]], source: Path) -> tuple[str, tuple[str, ...]]:
    """One checkpoint that folds have; numbered folds before ``all``, as v1 does."""
    numbered = {fold: names for fold, names in folds.items() if fold != "all"} or folds
    for checkpoint in PREFERRED_CHECKPOINTS:
        chosen = tuple(sorted(fold for fold, names in numbered.items() if checkpoint in names))
        if chosen:
            return checkpoint, chosen
    there = ", ".join(sorted(set().union(*numbered.values())))
    raise BadDataError(f"{source} has no {' or '.join(PREFERRED_CHECKPOINTS)}; it has {there}", EXPECTED)


def _task(folder: str, source: Path) -> str | None:
    """The task that the folders inside name, or the folder given, or HippUnfold's name of the tar."""
    parts = [*reversed(PurePosixPath(folder).parts), *reversed(source.absolute().parts if source.is_dir() else ())]
    tasks = [part for part in parts if re.fullmatch(r"Task\d+_\w+", part)]
    within = re.search(r"(?<!\w)Task\d+_\w+", source.name)
    return tasks[0] if tasks else within[0] if within else None
