"""A trained nnU-Net v2 model as it travels -> network and weights, without executing anything that its files say.

Taken are our exported zips, nnU-Net's export zips, results folders, single checkpoints with their plans beside them,
and HippUnfold's tars. Archives are read into memory; nothing is unpacked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from shlex import quote

from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.exchange.archives import MAX_MEMBER_BYTES, MAX_MEMBERS, MIB, FolderMembers, Members, open_archive
from bidsapp.exchange.plans import DIMENSIONS, Json, check_dataset, check_plans, parse_object
from bidsapp.exchange.weights import (
    DOES_NOT_BELONG,
    Weights,
    check_weights,
    expected_shapes,
    read_checkpoint,
    weights_digest,
)
from bidsapp.nnunet_names import EXPORTED_TRAINER, NNUNET_CONFIGURATION, TRAINER
from bidsapp.printable import printable

log = logging.getLogger(__name__)

MANIFEST = "hippotune.json"
NEWEST_EXPORT, STATE = "export/current.zip", "state.json"  # in a MODEL_DIR
PLANS, DATASET_JSON = "plans.json", "dataset.json"
MAX_JSON_BYTES = 16 * MIB
CHECKPOINT_SUFFIXES = (".pth", ".pt")
PREFERRED_CHECKPOINTS = ("checkpoint_final", "checkpoint_best")
EXPECTED = (
    "Name an exported zip, a results folder of nnU-Net v2 (with plans.json, dataset.json and fold_0), "
    "a checkpoint .pth with plans.json and dataset.json beside it or one folder above, or a HippoTune model folder."
)
CHANGED = "Take the export as it was made; a model that was changed since then is another model."
NO_FACTS = ("sha256", "hippotune", "nnunetv2")
V1_FILES = ("plans.pkl", "*.model.pkl")
FOLDER_DEPTH = 4  # nnUNet_results / Dataset / trainer__plans__configuration, or an unpacked archive's folder above


@dataclass(frozen=True)
class LoadedModel:
    """A network, its weights, and what is known of both.

    What the network saw in training is part of the model. Files of others do not say how it saw left sides: every
    model, HippUnfold's of both versions of nnU-Net too, is taken to have seen them flipped, in HippUnfold's crop.
    SimpleITKIO and NibabelIO both hand over the voxels in the order of the file, as (z, y, x) with the spacing in the
    same order: for one file they give the same array. NibabelIOWithReorient first turns the voxels to RAS. A crop of
    the network grid runs from lateral to medial along x, which is LAS; such a network saw it the other way round, and
    `bidsapp.prediction.Predictor` turns arrays for it. Readers of pictures and TIFF know no spacing and are refused.
    """

    plans: Json
    """Checked, with the one `configuration` that the weights are of."""
    dataset_json: Json
    """Checked; labels are numbered 0, 1, 2, ..."""
    weights: tuple[Weights, ...]
    """One set per fold; several are averaged at prediction."""
    mirroring_axes: tuple[int, ...] | None
    """Axes that the network saw mirrored in training; None: none."""
    name: str
    """The data set's name without ``Dataset<NNN>_``."""
    digest: str
    """sha256 over plans, dataset.json and weights: the same however the model is packed."""
    source: Path
    """Where it was loaded from."""
    reader: str
    """nnU-Net's reader, which decides how the voxels of a file reach the network."""
    channels: tuple[str, ...]
    """Names of the images that the network takes, in order."""
    configuration: str = NNUNET_CONFIGURATION
    facts: Json = field(default_factory=dict)
    """What its ``hippotune.json`` says of its training, licence and parents; empty without one."""

    @property
    def labels(self) -> dict[int, str]:
        """value -> name, without the background."""
        return {value: name for name, value in self.dataset_json["labels"].items() if value}


@dataclass(frozen=True)
class _ModelFiles:
    """One model among the files of a folder or an archive."""

    folder: str
    """The one with plans.json; ``""``: the top."""
    checkpoints: tuple[str, ...]
    """One per fold, in the order in which the archive is best read."""

    def file(self, name: str) -> str:
        return _join(self.folder, name)

    @property
    def configuration(self) -> str | None:
        """What the folder's name says."""
        return _configuration_in(self.folder)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _configuration_in(folder: str) -> str | None:
    """``trainer__plans__configuration`` -> configuration; None for a folder that is named otherwise."""
    parts = PurePosixPath(folder).name.split("__")
    return parts[2] if len(parts) == 3 else None


def load_model(path: Path, *, checkpoint: str | None = None) -> LoadedModel:
    """Load a model from a file or folder.

    Parameters
    ----------
    path
        Our exported zip, an export zip of nnU-Net, a tar (.tar, .tar.gz, .tar.xz) of such folders, a results folder
        or its Dataset folder, a HippoTune MODEL_DIR (its newest export), or one checkpoint with plans.json and
        dataset.json beside it or one folder above.
    checkpoint
        ``checkpoint_final``, ``checkpoint_best``, ...; None: final, or best where no fold has a final one.

    Raises
    ------
    NoInputError
        When there is no such file, or no model in the folder.
    UsageError
        When a folder holds several models.
    BadDataError
        When the content is damaged, would have to be unpickled, or is anything else than a 3D nnU-Net v2 model.
    """
    if not path.exists():
        raise NoInputError(f"{path} does not exist", EXPECTED)
    if (path / NEWEST_EXPORT).is_file():
        log.debug("%s: taking its newest export, %s", path, path / NEWEST_EXPORT)
        path = path / NEWEST_EXPORT
    if not path.is_dir() and not path.is_file():
        raise BadDataError(f"{path} is neither a file nor a folder", EXPECTED)
    # a checkpoint may be a link: its plans are beside the link
    path = path.resolve() if path.is_dir() else path.absolute()
    wanted = checkpoint.removesuffix(".pth") if checkpoint else None
    with _open_members(path) as members:
        if path.is_file() and path.suffix in CHECKPOINT_SUFFIXES:
            checkpoint_name = path.relative_to(members.origin).as_posix()
            model = _ModelFiles(_folder_of_checkpoint(members, path), (checkpoint_name,))
        else:
            model = _find_model(members, path, wanted)
        return _load(members, model, path)


@contextmanager
def _open_members(path: Path) -> Iterator[Members]:
    if path.is_dir() or path.suffix in CHECKPOINT_SUFFIXES:
        yield _folder_members(path)
        return
    with open_archive(path, _is_json, MAX_JSON_BYTES) as members:
        yield members


def _is_json(name: str) -> bool:
    return PurePosixPath(name).name in (PLANS, DATASET_JSON, MANIFEST)


def _folder_members(path: Path) -> FolderMembers:
    """The files of the models below a folder, or around one checkpoint, with all that a manifest lists."""
    models = _model_folders(path)
    files = {path} if path.is_file() else set()
    for model in models:
        if (model.parent / MANIFEST).is_file():
            files |= {file for file in model.parent.rglob("*") if not file.is_dir()}
        files |= {model / name for name in (PLANS, DATASET_JSON) if (model / name).is_file()}
        files |= set(model.glob("fold_*/*.pth"))
    if len(files) > MAX_MEMBERS:
        raise UsageError(f"{path} holds {len(files)} files", "Name the folder of one model in it.")
    root = path if path.is_dir() and path not in models else models[0].parent
    return FolderMembers(root, tuple(file.relative_to(root).as_posix() for file in sorted(files)))


def _model_folders(path: Path) -> list[Path]:
    """Folders with plans.json: around a checkpoint, or at and below a folder."""
    if path.is_file():
        around = [folder for folder in (path.parent, path.parent.parent) if (folder / PLANS).is_file()]
        v1 = [folder for folder in path.parents[:2] if any(next(folder.glob(name), None) for name in V1_FILES)]
        if not around and v1:
            raise _is_v1(v1[-1])
        if not around:
            raise NoInputError(f"{path} has no {PLANS} beside it or one folder above", EXPECTED)
        return around[:1]
    if (path / PLANS).is_file():
        return [path]
    below = {plans.parent for depth in range(1, FOLDER_DEPTH) for plans in path.glob("*/" * depth + PLANS)}
    if not below:
        patterns = ("*/" * depth + name for name in V1_FILES for depth in range(FOLDER_DEPTH + 1))
        if any(next(path.glob(pattern), None) for pattern in patterns):
            raise _is_v1(path)
        why = "has no exported model yet" if (path / STATE).exists() else "holds no nnU-Net v2 model"
        raise NoInputError(f"{path} {why}", EXPECTED)
    return sorted(below)


def _folder_of_checkpoint(members: Members, path: Path) -> str:
    inside = path.relative_to(members.origin)
    return next(one.as_posix() for one in inside.parents if (one / PLANS).as_posix() in members.names)


def _find_model(members: Members, path: Path, wanted: str | None) -> _ModelFiles:
    """The one model among `members`; ``3d_fullres`` where there are several configurations."""
    checkpoints: dict[str, dict[str, set[str]]] = {}  # model folder -> fold -> checkpoints
    for name in members.names:
        found = re.fullmatch(r"(?:(.*)/)?(fold_\w+)/(\w+)\.pth", name)
        if found:
            checkpoints.setdefault(found[1] or "", {}).setdefault(found[2], set()).add(found[3])
    models = [folder for folder in sorted(checkpoints) if _join(folder, PLANS) in members.names]
    if not models:
        raise _no_model(members, path)
    fullres = [folder for folder in models if _configuration_in(folder) == NNUNET_CONFIGURATION]
    if len(models) > 1 and len(fullres) != 1:
        listed = ", ".join(folder or "." for folder in models)
        if path.is_dir():
            raise UsageError(f"{path} holds {len(models)} models: {listed}", "Name the folder of one.")
        raise BadDataError(f"{path} holds {len(models)} models: {listed}", "Pack one alone.")
    folder = models[0] if len(models) == 1 else fullres[0]
    if len(models) > 1:
        log.info("%s: using %s of %d models", path, folder, len(models))
    chosen = _choose_checkpoints(checkpoints[folder], wanted, path)
    files = {_join(folder, f"{fold}/{name}.pth") for fold, name in chosen.items()}
    return _ModelFiles(folder, tuple(name for name in members.names if name in files))


def _is_v1(path: Path) -> BadDataError:
    return BadDataError(
        f"{path} holds a model of nnU-Net v1",
        f"Convert it: hippotune-models convert-v1 {quote(str(path))} NEW.zip. Then name NEW.zip.",
    )


def _no_model(members: Members, path: Path) -> BadDataError | NoInputError:
    names = [PurePosixPath(name).name for name in members.names]
    if "plans.pkl" in names or any(name.endswith(".model.pkl") for name in names):
        return _is_v1(path)
    message = f"{path} holds no plans.json with fold_*/checkpoint_*.pth beside it"
    return NoInputError(message, EXPECTED) if path.is_dir() else BadDataError(message, EXPECTED)


def _choose_checkpoints(folds: dict[str, set[str]], wanted: str | None, path: Path) -> dict[str, str]:
    """fold -> checkpoint: of one name in all folds; numbered folds before ``fold_all``, as nnU-Net does."""
    numbered = {fold: names for fold, names in folds.items() if fold != "fold_all"}
    folds = numbered or folds
    for name in (wanted,) if wanted else PREFERRED_CHECKPOINTS:
        chosen = {fold: name for fold in sorted(folds) if name in folds[fold]}
        if chosen:
            left_out = sorted(folds.keys() - chosen.keys())
            if left_out:
                log.warning("%s: no %s in %s, which is left out", path, name, ", ".join(left_out))
            level = logging.DEBUG if name == PREFERRED_CHECKPOINTS[0] else logging.INFO
            log.log(level, "%s: using %s of %s", path, name, ", ".join(chosen))
            return chosen
    there = ", ".join(sorted(set().union(*folds.values())))
    message = f"{path} has no {wanted or ' or '.join(PREFERRED_CHECKPOINTS)}; it has {there}"
    hint = "Train to the end, or name a checkpoint that is there."
    raise NoInputError(message, hint) if wanted or path.is_dir() else BadDataError(message, hint)


class _VerifiedMembers:
    """Members that must be what the manifest beside the model says, no more and no less.

    Files are held to their sha256 when they are read, and those that loading does not need at the end: an archive is
    gone through once, and no checkpoint of a gigabyte is read only to be hashed.
    """

    def __init__(self, members: Members, hashes: dict[str, str]) -> None:
        self.origin, self.names = members.origin, members.names
        self._members, self._hashes = members, hashes
        self._unread = set(hashes)

    def read(self, name: str, limit: int) -> bytes:
        """See `Members`; refuses a file whose sha256 is another."""
        content = self._members.read(name, limit)
        if name in self._hashes and hashlib.sha256(content).hexdigest() != self._hashes[name]:
            raise BadDataError(f"{name} in {self.origin} is not what {MANIFEST} says: it was changed", CHANGED)
        self._unread.discard(name)
        return content

    def read_rest(self) -> None:
        """Verify what was not read before."""
        for name in [name for name in self.names if name in self._unread]:
            self.read(name, MAX_MEMBER_BYTES)


def _load(members: Members, model: _ModelFiles, path: Path) -> LoadedModel:
    """Read and check in this order: the manifest, the network, and whether the weights fit the network.

    Nothing is built before the plans are known to be harmless, and no weight is used before its name, shape and values
    were held against the network that the plans describe. The network itself is built without memory: a plans file
    that asks for a huge one is refused before anything is allocated.
    """
    manifest, verified = _verified(members, model, path)
    raw_dataset, raw_plans = (_read_json(verified, model.file(name), path) for name in (DATASET_JSON, PLANS))
    dataset = check_dataset(raw_dataset, f"{DATASET_JSON} in {path}")
    folds: dict[str, Weights] = {}
    for name in model.checkpoints:
        origin = f"{name} in {members.origin}"
        checkpoint = read_checkpoint(verified.read(name, MAX_MEMBER_BYTES), origin, path)
        trained_as = _configuration(checkpoint, model, origin)
        _note_trainer(checkpoint, origin)
        if not folds:
            configuration, axes = trained_as, _mirroring_axes(checkpoint, origin)
            plans = check_plans(raw_plans, configuration, len(dataset["channel_names"]), f"{PLANS} in {path}")
            shapes = expected_shapes(plans, configuration, dataset, f"{PLANS} in {path}")
        elif trained_as != configuration:
            raise BadDataError(f"{origin} is of {trained_as}, other folds are of {configuration}", DOES_NOT_BELONG)
        folds[name] = check_weights(checkpoint["network_weights"], shapes, origin)
    verified.read_rest()
    if not folds:
        raise BadDataError(f"{path} has no checkpoint", EXPECTED)
    weights = tuple(folds[name] for name in sorted(folds))
    return LoadedModel(
        plans=plans,
        dataset_json=dataset,
        weights=weights,
        mirroring_axes=axes,
        name=re.sub(r"^Dataset\d+_", "", plans["dataset_name"]),
        digest=_digest(raw_plans, raw_dataset, weights),
        source=path,
        reader=plans["image_reader_writer"],
        channels=tuple(dataset["channel_names"].values()),
        configuration=configuration,
        facts={key: value for key, value in manifest.items() if key not in NO_FACTS},
    )


def _verified(members: Members, model: _ModelFiles, path: Path) -> tuple[Json, _VerifiedMembers]:
    """The manifest in the Dataset folder, and `members` held to it; without one, every file is taken as it is."""
    root = PurePosixPath(model.folder).parent.as_posix() if model.folder else "."
    root = "" if root == "." else root
    name = _join(root, MANIFEST)
    if name not in members.names:
        return {}, _VerifiedMembers(members, {})
    manifest = _read_json(members, name, path)
    stated = manifest.get("sha256")
    if not isinstance(stated, dict) or not all(isinstance(value, str) for value in stated.values()):
        raise BadDataError(f"{name} in {path} lists no sha256 of its files", CHANGED)
    hashes = {_join(root, file): digest for file, digest in stated.items()}
    inside = [one for one in members.names if path.is_file() or not root or one.startswith(f"{root}/")]
    unknown = [one for one in inside if one not in hashes and one != name]
    missing = sorted(hashes.keys() - set(members.names))
    for what, names in (("holds files that are not in", unknown), ("lacks files of", missing)):
        if names:
            raise BadDataError(f"{path} {what} {MANIFEST}: {printable(', '.join(names[:5]))}", CHANGED)
    return manifest, _VerifiedMembers(members, hashes)


def _read_json(members: Members, name: str, path: Path) -> Json:
    if name not in members.names:
        raise BadDataError(f"{path} has no {name}", EXPECTED)
    return parse_object(members.read(name, MAX_JSON_BYTES), f"{name} in {path}")


def _configuration(checkpoint: Json, model: _ModelFiles, origin: str) -> str:
    """What a checkpoint was trained as; the folder's name must agree."""
    arguments = checkpoint.get("init_args")
    trained = arguments.get("configuration") if isinstance(arguments, dict) else None
    if trained is not None and not isinstance(trained, str):
        raise BadDataError(f"{origin} names no configuration")
    if trained and model.configuration and trained != model.configuration:
        raise BadDataError(f"{origin} is of the configuration {trained!r}", DOES_NOT_BELONG)
    return trained or model.configuration or NNUNET_CONFIGURATION


def _note_trainer(checkpoint: Json, origin: str) -> None:
    """Warn of a checkpoint of another trainer: its code is never run, and may have built another network."""
    trainer = checkpoint.get("trainer_name")
    if trainer != TRAINER and not re.fullmatch(rf"{EXPORTED_TRAINER}\w*", str(trainer)):
        log.warning("%s: trained by %s; its network is taken from %s", origin, printable(str(trainer)[:80]), PLANS)


def _mirroring_axes(checkpoint: Json, origin: str) -> tuple[int, ...] | None:
    axes = checkpoint.get("inference_allowed_mirroring_axes")
    if not axes:
        return None
    if not isinstance(axes, (list, tuple)) or not set(axes) <= set(range(DIMENSIONS)):
        raise BadDataError(f"{origin}: inference_allowed_mirroring_axes is {axes!r}")
    return tuple(int(axis) for axis in axes)


def _digest(plans: Json, dataset: Json, weights: tuple[Weights, ...]) -> str:
    """Of content, not of files: zips, tars and torch's container differ each time that they are written."""
    parts = [json.dumps(content, sort_keys=True) for content in (plans, dataset)]
    return hashlib.sha256("\n".join([*parts, weights_digest(weights)]).encode()).hexdigest()
