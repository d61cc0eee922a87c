"""The command line of `hippotune-models`: list, show, fetch, check, share and ask models."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bidsapp import __version__
from bidsapp.console import Parser, add_flag, run_command
from bidsapp.errors import NoInputError, UsageError
from bidsapp.files import expand_home, read_text
from bidsapp.layout import ModelPlaces, model_places, models_in_work

if TYPE_CHECKING:
    from bidsapp.models.registry import Registry, RegistryEntry

log = logging.getLogger(__name__)

_EPILOG = """\
examples
  hippotune-models list                       the models in the registries, and which are here
  hippotune-models show neonateT2w_v2         what the registries say of one
  hippotune-models fetch NAME                 download it; nothing else in HippoTune touches the network
  hippotune-models check models/ours.zip      does it load, and what is in it? nothing in it is run
  hippotune-models export models/ours ours.zip --license CC-BY-4.0
                                              the archive to publish, with a model card
  hippotune-models contains models/ours sub-01 scans/sub-02_T1w.nii.gz
                                              was this person, this image in the training? in which part?
  hippotune-models contains default scans/sub-02_T1w.nii.gz
                                              an export with fingerprints knows images, but no ids
  hippotune-models convert-v1 OLD.tar NEW.zip make a model of nnU-Net v1 one of v2

exit codes
  0 done; 2 usage; 65 bad data, or not the file that it should be; 66 no such file, it cannot be reached, or what was
  asked could not be checked; 70 our bug; 73 cannot write; 75 interrupted
"""


@dataclass(frozen=True)
class Command:
    """One subcommand: its line in --help, what it takes, and what it does."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, ModelPlaces], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hippotune-models`; returns the exit code."""
    return run_command(_run, sys.argv[1:] if argv is None else list(argv))


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(
        prog="hippotune-models",
        description="Models by name: list them, download them, check them, publish your own.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hippotune {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="details")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.help, description=command.help, allow_abbrev=False)
        command.add_arguments(one)
        _add_places(one)
    return parser


def _run(words: list[str]) -> None:
    arguments = build_parser().parse_args(words)
    registry, models = (path.absolute() if path else None for path in (arguments.registry, arguments.models_dir))
    places = model_places(registry, models, os.environ, in_work=models_in_work(Path.cwd()))
    COMMANDS[arguments.command].run(arguments, places)


def _add_places(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "--registry", type=Path, metavar="FILE", help="your lab's own list of models, beside ours")
    add_flag(
        parser, "--models-dir", type=Path, metavar="DIR",
        help="the folder of fetched models (default: hippotune/models in your data folder; where that cannot be "
        "written, work/models where you are)",
    )  # fmt: skip
    parser.add_argument("-v", "--verbose", action="store_true", help="details")


def _add_nothing(_parser: argparse.ArgumentParser) -> None:
    pass


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="as `hippotune-models list` shows it")


def _add_fetch(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument("--to", type=Path, metavar="DIR", help="the folder to put it in (default: --models-dir)")
    add_flag(
        parser, "--accept-unverified", action="store_true",
        help="take a file whose checksum is not known; the sha256 of what was fetched is written beside it",
    )  # fmt: skip


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a model's file or folder, or the name of one that is here")


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="an nnU-Net v1 archive or folder, e.g. HippUnfold's tar"
    )
    parser.add_argument("destination", type=Path, metavar="OUT.zip", help="the nnU-Net v2 model to write")
    parser.add_argument("--name", metavar="NAME", help="the model's name, letters and digits (default: of the task)")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE",
        help="table of label names, columns index and name (default: HippUnfold's for their tasks, else label-N)",
    )  # fmt: skip
    parser.add_argument("--channels", nargs="+", metavar="NAME", help="e.g. T1w T2w (default: from the task's name)")


def _convert(arguments: argparse.Namespace, _places: ModelPlaces) -> None:
    from bidsapp.exchange.convert_v1 import convert_v1
    from bidsapp.labels.tables import read_label_table

    destination = arguments.destination.absolute()
    if destination.exists():
        raise UsageError(f"{destination} exists", "Name another file; nothing is written over.")
    report = convert_v1(
        arguments.file.absolute(),
        destination,
        name=arguments.name,
        labels=read_label_table(arguments.labels).names if arguments.labels else None,
        channels=arguments.channels,
    )
    for line in report.lines:
        log.info(line)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR", help="a model that the group level trained")
    parser.add_argument("destination", type=Path, metavar="OUT.zip", help="the archive to publish")
    parser.add_argument("--license", required=True, metavar="SPDX", help="e.g. CC-BY-4.0, CC0-1.0, LicenseRef-Ours")
    parser.add_argument("--title", metavar="TEXT", help="of the model card")
    parser.add_argument(
        "--author", action="append", default=[], metavar="NAME", help="for the citation; may be repeated"
    )
    parser.add_argument(
        "--about", type=Path, metavar="FILE",
        help="Markdown for the card, in your words: which data, for whom, where the model ends",
    )  # fmt: skip
    add_flag(parser, "--include-demographics", action="store_true", help="ages and sexes, as means and counts")
    add_flag(
        parser, "--with-fingerprints", action="store_true",
        help="salted hashes of the images that it was given, by part: whoever holds an image can then ask whether it "
        "was there (contains), and trainings that start from the model refuse leaks",
    )  # fmt: skip
    parser.add_argument("--participants", type=Path, metavar="FILE", help="participants.tsv, for the demographics")
    parser.add_argument(
        "--hippunfold", type=Path, metavar="OUT.tar.gz", help="also the archive that HippUnfold unpacks"
    )


def _export(arguments: argparse.Namespace, _places: ModelPlaces) -> None:
    from bidsapp.sharing.hippunfold import check_tar_name, export_for_hippunfold
    from bidsapp.sharing.share import export_model

    if arguments.hippunfold:
        check_tar_name(arguments.hippunfold.absolute())
    archive = export_model(
        arguments.model_dir.absolute(),
        arguments.destination.absolute(),
        licence=arguments.license,
        include_demographics=arguments.include_demographics,
        participants=arguments.participants,
        with_fingerprints=arguments.with_fingerprints,
        title=arguments.title,
        authors=arguments.author,
        about=_read_about(arguments.about) if arguments.about else "",
    )
    log.info("to publish: %s", archive)
    if arguments.hippunfold:
        entry = export_for_hippunfold(archive, arguments.hippunfold.absolute())
        log.info("for HippUnfold: %s; its configuration wants:\n%s", arguments.hippunfold, entry)


def _read_about(path: Path) -> str:
    return read_text(path, "Name a text file in UTF-8 with --about.")


def _add_contains(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL",
        help="where the group level trained the model (MODEL_DIR), or an export with fingerprints or its name, which "
        "knows images alone",
    )  # fmt: skip
    parser.add_argument(
        "what", nargs="+", metavar="WHAT",
        help="the id of a person (sub-01), or an image file as it was trained on; the same scan resampled in another "
        "way is not recognised",
    )  # fmt: skip


def _contains(arguments: argparse.Namespace, places: ModelPlaces) -> None:
    from bidsapp.model_dir.fingerprints import Fingerprints
    from bidsapp.pairs.membership import find_in_training, is_image, known_training

    known = known_training(_path_of(arguments.model, places))
    if isinstance(known, Fingerprints):
        images_alone, not_there = known.parts, f"not among {len(known.parts)} fingerprints"
    else:
        images_alone = known.fingerprints
        not_there = "not in this folder's training" if known.unchecked else "not contained"
    unknown, unasked = [], []
    for what in arguments.what:
        found = find_in_training(what, known)
        if found.is_known:
            whose = f" of {found.person}" if found.person and is_image(what) else ""
            log.info("%s: contained, %s%s%s", what, found.part or "in no part", whose, ", flipped" * found.flipped)
        elif images_alone and not is_image(what):
            unasked.append(what)
        else:
            unknown.append(what)
            log.info("%s: %s", what, not_there)
    if any(map(is_image, unknown)):
        also = "" if isinstance(known, Fingerprints) else ", ask for its person too"
        log.info(
            "images are compared by their voxels: a scan that was resampled in another way is not recognised%s", also
        )
    if (unknown or unasked) and known.unchecked:
        raise NoInputError(
            f"could not be checked: {', '.join(unknown + unasked)}; the training began with "
            f"{', '.join(known.unchecked)}, and the people of that training are not known here",
            "Ask the MODEL_DIR of that training too.",
        )
    if unasked:
        which = "an export" if isinstance(known, Fingerprints) else "the training began with an export, which"
        raise NoInputError(
            f"could not be checked: {', '.join(unasked)}; {which} has fingerprints of images and no ids",
            "Name image files of these people, or ask the MODEL_DIR in which the model was trained.",
        )


def _path_of(model: str, places: ModelPlaces) -> Path:
    """A file or folder, or the model of that name."""
    from bidsapp.models.shelf import is_name, locate_model

    path = expand_home(model).absolute()
    return locate_model(model, places) if not path.exists() and is_name(model) else path


def _list(_arguments: argparse.Namespace, places: ModelPlaces) -> None:
    from bidsapp.models.registry import load_registry
    from bidsapp.models.shelf import availability, names

    registry = load_registry(places)
    rows = [("NAME", "CHANNELS", "STATUS", "LICENCE", "TITLE")]
    for name in names(registry, places):
        entry = registry.get(name)
        known = (entry.modality, entry.licence, entry.title) if entry else ("?", "?", "not in a registry")
        rows.append((name, known[0], availability(name, entry, places), *known[1:]))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        log.info("  ".join([*(word.ljust(width) for word, width in zip(row[:4], widths, strict=True)), row[4]]))
    log.info("models folder: %s", places.models)
    for folder in places.others:
        log.info("looked in too: %s", folder)
    if places.registry:
        log.info("your registry: %s", places.registry)


def _show(arguments: argparse.Namespace, places: ModelPlaces) -> None:
    from bidsapp.models.registry import load_registry
    from bidsapp.models.shelf import availability, how_to_fetch, read_record

    entry = _entry(arguments.name, load_registry(places), places)
    here = availability(entry.name, entry, places)
    facts = {
        "name": entry.name,
        "title": entry.title,
        "channels": ", ".join(entry.channels),
        "space": entry.space,
        "labels": ", ".join(entry.labels) or "not stated",
        "architecture": entry.architecture,
        "address": entry.address,
        "sha256": entry.sha256 or "not stated",
        "licence": entry.licence,
        "citation": entry.citation or "not stated",
        "verified": "yes, by those who wrote the list" if entry.verified else "not verified here",
        "note": entry.note,
        "listed in": str(entry.listed_in),
        "status": here,
    }
    record = read_record(entry.name, places)
    if record and not entry.path:
        facts["fetched"] = f"{record.date}, sha256 {record.sha256}, {'' if record.verified else 'not '}verified"
    for title, value in facts.items():
        if value:
            log.info("%-13s %s", title, value)
    if here in ("not fetched", "get it by hand"):
        log.info("%-13s %s", "to get it", how_to_fetch(entry, places))


def _fetch(arguments: argparse.Namespace, places: ModelPlaces) -> None:
    from bidsapp.models.fetching import fetch_model
    from bidsapp.models.registry import load_registry

    if arguments.to and arguments.models_dir and arguments.to.absolute() != places.models:
        raise UsageError("--to and --models-dir name two folders", "Give one of them.")
    if arguments.to:
        places = ModelPlaces(places.registry, arguments.to.absolute())
    elif places.unwritable:
        log.warning(
            "%s cannot be written, so %s is used instead; for run.py it is OUTPUT_DIR/work/models",
            places.unwritable, places.models,
        )  # fmt: skip
    entry = _entry(arguments.name, load_registry(places), places)
    path = fetch_model(entry, places, accept_unverified=arguments.accept_unverified)
    log.info("%s: %s", entry.name, path)
    log.info("use it: run.py BIDS_DIR OUTPUT_DIR participant --model %s", path)


def _check(arguments: argparse.Namespace, places: ModelPlaces) -> None:
    from bidsapp.exchange.loading import load_model
    from bidsapp.exchange.weights import count_parameters
    from bidsapp.model_dir.fingerprints import read_fingerprints

    path = _path_of(arguments.file, places)
    model = load_model(path)
    known = read_fingerprints(model.facts, path)
    facts = {
        "file": path,
        "name": model.name,
        "channels": ", ".join(model.channels),
        "labels": ", ".join(f"{value} {name}" for value, name in model.labels.items()),
        "folds": len(model.weights),
        "parameters": f"{count_parameters(model.weights[0]):,}",
        "configuration": model.configuration,
        "digest": model.digest,
        "fingerprints": f"of {len(known.parts)} images" if known else "none",
    }
    for title, value in facts.items():
        log.info("%-13s %s", title, value)
    log.info("it loads; nothing in it was run")


def _entry(name: str, registry: Registry, places: ModelPlaces) -> RegistryEntry:
    from bidsapp.models.shelf import find_file

    if name in registry:
        return registry[name]
    file = find_file(name, places)
    if file:
        raise NoInputError(f"{name} is in no registry", f"Look at it with: hippotune-models check {file}")
    raise UsageError(f"no model has the name {name}", f"Choose one: {', '.join(registry)}.")


COMMANDS = {
    "list": Command("the models in the registries, and which are here", _add_nothing, _list),
    "show": Command("what the registries say of one model", _add_name, _show),
    "fetch": Command("download a model to the models folder", _add_fetch, _fetch),
    "check": Command("whether a file or folder is a model that loads here, and what is in it", _add_file, _check),
    "contains": Command(
        "whether a person or an image was in a model's training, and in which part", _add_contains, _contains
    ),
    "export": Command(
        "make the archive to publish: licence, card, citation, searched for people", _add_export, _export
    ),
    "convert-v1": Command("make a model of nnU-Net v1 one of v2, without running it", _add_convert, _convert),
}
