"""An export as HippUnfold takes it: the tar that its rule unpacks, and the entry of its configuration.

HippUnfold unpacks ``nnunet_v2/`` into its nnUNet_results, looks for ``Dataset<ID>_*/nnUNetTrainer*/fold_*``, and
predicts with the checkpoint that its entry names, without mirroring. Left sides must come flipped, as in training.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

from bidsapp.errors import BadDataError, UsageError
from bidsapp.exchange.loading import load_model
from bidsapp.files import create_bytes_once
from bidsapp.nnunet_names import EXPORTED_TRAINER, NNUNET_CONFIGURATION, NNUNET_PLANS
from bidsapp.sharing.share import CARD, CITATION, Export, read_export

RESULTS = "nnunet_v2"
CHECKPOINT = "checkpoint_best.pth"
ARCHITECTURE = "nnunet_v2"
UNKNOWN_URL = "https://example.org/put-the-address-of-the-tar-here"
SUFFIXES = (".tar", ".tar.gz", ".tgz")


def export_for_hippunfold(
    archive: Path, destination_tar: Path, *, name: str | None = None, url: str = UNKNOWN_URL
) -> str:
    """Write one of our exports as a tar for HippUnfold.

    Parameters
    ----------
    destination_tar
        Ends in ``.tar``, ``.tar.gz`` or ``.tgz``. The same export gives the same bytes.
    name
        Of the entry; None: the model's own.
    url
        The address that the tar will have.

    Returns
    -------
    str
        The ``nnunet_models`` entry for HippUnfold's configuration, in YAML.

    Raises
    ------
    UsageError
        When the tar exists or its name ends otherwise.
    BadDataError
        When `archive` is no export of ours, was changed, or is of another configuration.
    """
    check_tar_name(destination_tar)
    loaded = load_model(archive)  # verifies every file
    export = read_export(archive)
    if loaded.configuration != NNUNET_CONFIGURATION:
        raise BadDataError(f"{archive} is of {loaded.configuration}", f"HippUnfold takes {NNUNET_CONFIGURATION}.")
    content = _tar(_renamed(export, archive))
    if not destination_tar.name.endswith(".tar"):
        content = gzip.compress(content, mtime=0)
    if not create_bytes_once(destination_tar, content):
        raise UsageError(f"{destination_tar} exists", "Name a new file.")
    return config_entry(export.dataset, name or loaded.name, url)


def check_tar_name(destination_tar: Path) -> None:
    """Refuse a name that cannot be written to, before any work; see `export_for_hippunfold`."""
    if not destination_tar.name.endswith(SUFFIXES):
        raise UsageError(f"{destination_tar} is no name for a tar", f"Let it end in {', '.join(SUFFIXES)}.")
    if destination_tar.exists():
        raise UsageError(f"{destination_tar} exists", "Name a new file.")


def config_entry(dataset: str, name: str, url: str) -> str:
    """The entry of HippUnfold's ``nnunet_models``; `dataset` is ``Dataset<NNN>_<name>``."""
    dataset_id = dataset.removeprefix("Dataset").partition("_")[0]
    fields = {
        "url": json.dumps(url),
        "arch_version": ARCHITECTURE,
        "dataset_id": json.dumps(dataset_id),
        "configuration": NNUNET_CONFIGURATION,
        "trainer": EXPORTED_TRAINER,
        "plans": NNUNET_PLANS,
        "checkpoint": CHECKPOINT,
    }
    lines = [f"    {key}: {value}" for key, value in fields.items()]
    return "\n".join(("nnunet_models:", f"  {json.dumps(name)}:", *lines)) + "\n"


def _renamed(export: Export, archive: Path) -> dict[str, bytes]:
    """Name in the tar -> content, with the card and without the manifest, which lists other names."""
    folder = f"{EXPORTED_TRAINER}__{NNUNET_PLANS}__{NNUNET_CONFIGURATION}"
    names = {
        f"{folder}/plans.json": f"{folder}/plans.json",
        f"{folder}/dataset.json": f"{folder}/dataset.json",
        f"{folder}/fold_0/checkpoint_final.pth": f"{folder}/fold_0/{CHECKPOINT}",
    }
    missing = [name for name in names if name not in export.files]
    if missing:
        raise BadDataError(f"{archive} has no {', '.join(missing)}", "Export it with the group level.")
    names |= {name: name for name in (CARD, CITATION) if name in export.files}
    return {f"{RESULTS}/{export.dataset}/{new}": export.files[old] for old, new in names.items()}


def _tar(files: Mapping[str, bytes]) -> bytes:
    """A plain tar without times and owners; folders come before what they hold."""
    stream = io.BytesIO()
    folders = {parent.as_posix() for name in files for parent in Path(name).parents if parent.name}
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as packed:
        for name in sorted(folders | set(files)):
            entry = tarfile.TarInfo(name)
            if name in folders:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                packed.addfile(entry)
            else:
                entry.size, entry.mode = len(files[name]), 0o644
                packed.addfile(entry, io.BytesIO(files[name]))
    return stream.getvalue()
