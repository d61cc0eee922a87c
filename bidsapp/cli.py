"""The command line: parser, logging, and the only place that prints an error to a user."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bidsapp import __version__
from bidsapp.errors import HippoTuneError, InterruptedRunError, NoInputError, UsageError
from bidsapp.logs import log_files, start_logging

LEVELS = ("group",)
EXIT_OUR_BUG = 70

log = logging.getLogger(__name__)

_EPILOG = """\
examples
  run.py data out group --training-dir pairs --model-dir models/ours
        train nnU-Net on <id>_img.nii.gz / <id>_lbl.nii.gz, test it on held-out people, export it
  run.py data out group --training-dir pairs --model-dir models/ours
        the same again: continue after a kill, or train a further segment
  run.py data out group --training-dir pairs --model-dir models/small --preset tiny --iterations 300
        a first model on a laptop

exit codes
  0 done; 1 some people or pairs failed or were left out; 2 usage; 65 bad data; 66 no input; 70 our bug;
  73 cannot write; 75 interrupted, run again to continue
"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="run.py",
        description="HippoTune retrains hippocampal U-Nets in CorObl space, with nnU-Net v2 underneath.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("bids_dir", type=Path, metavar="BIDS_DIR", help="input data set, never written to")
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="results; made when missing")
    parser.add_argument("level", choices=LEVELS, metavar="LEVEL", help="group: train, test and export a model")
    _add_common(parser.add_argument_group("machine and messages"))
    _add_group(parser.add_argument_group("group level"))
    return parser


def _add_common(group: argparse._ArgumentGroup) -> None:
    _flag(group, "--device", default="auto", metavar="auto|cpu|cuda[:N]", help="where networks run (default: auto)")
    _flag(group, "--nprocs", type=_positive, metavar="N", help="processor cores to use (default: all that are allowed)")
    _flag(group, "--dry-run", action="store_true", help="check everything, say what would be done, do nothing")
    group.add_argument("-v", "--verbose", action="store_true", help="details on the screen, as in the log file")
    group.add_argument("--version", action="version", version=f"hippotune {__version__}")


def _add_group(group: argparse._ArgumentGroup) -> None:
    _flag(
        group, "--model-dir", type=Path, metavar="DIR",
        help="the model's folder: config.ini, checkpoints, test, export (default: OUTPUT_DIR/models/default)",
    )  # fmt: skip
    _flag(
        group, "--training-dir", type=Path, metavar="DIR",
        help="pairs <id>_img.nii.gz, <id>_lbl.nii.gz in network space, labels.tsv if you like; you vouch for them",
    )  # fmt: skip
    _flag(group, "--model", default="scratch", metavar="scratch", help="what to start from (default: scratch)")
    _flag(
        group, "--iterations", type=_not_negative, metavar="N",
        help="length of this training segment (default: config.ini; 100,000 in a new model); 0: test and export only",
    )  # fmt: skip
    _flag(
        group, "--preset", metavar="default|tiny|niftynet",
        help="settings: nnU-Net's plan, one for laptops, or the old NiftyNet recipe; for a new model, or for this run",
    )  # fmt: skip
    _flag(
        group, "--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="override one setting of config.ini for this run; may be repeated",
    )  # fmt: skip
    _flag(group, "--no-extend", action="store_true", help="complete what is unfinished, never start a new segment")
    _flag(group, "--skip-bad-pairs", action="store_true", help="train without pairs that fail a check, and exit with 1")
    _flag(
        group, "--left-is", choices=("flipped", "as-in-head"),
        help="how ids with hemi-L are stored, where their grid does not tell",
    )  # fmt: skip
    _flag(
        group, "--participant-pattern", metavar="REGEX",
        help="how to find the person in an id, with one group (default: sub-<label>, else the whole id)",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run HippoTune; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    start_logging(verbose="-v" in arguments or "--verbose" in arguments)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(build_parser().parse_args(_positionals_first(arguments)))
    except HippoTuneError as error:
        return _report(error)
    except KeyboardInterrupt:
        return _report(InterruptedRunError("interrupted", "Give the same command again to continue."))
    except Exception:
        log.exception("this is a bug in HippoTune, please report it with the log")
        _show_logs()
        return EXIT_OUR_BUG
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _run(arguments: argparse.Namespace) -> None:
    bids_dir, output_dir = arguments.bids_dir.absolute(), arguments.output_dir.absolute()
    if not bids_dir.is_dir():
        raise NoInputError(f"BIDS_DIR {bids_dir} does not exist", "Name the folder with dataset_description.json.")
    if output_dir.resolve() == bids_dir.resolve():
        raise UsageError(
            f"OUTPUT_DIR is BIDS_DIR itself: {bids_dir}", f"Choose another, e.g. {bids_dir}/derivatives/hippotune."
        )
    from bidsapp import group
    from bidsapp.layout import ModelLayout, default_model_dir

    model_dir = (arguments.model_dir or default_model_dir(output_dir)).absolute()
    group.run(
        group.GroupRequest(
            layout=ModelLayout(model_dir),
            training_dir=arguments.training_dir.absolute() if arguments.training_dir else None,
            base=arguments.model,
            device=arguments.device,
            cores=arguments.nprocs,
            iterations=arguments.iterations,
            preset=arguments.preset,
            assignments=arguments.set,
            extend=not arguments.no_extend,
            skip_bad_pairs=arguments.skip_bad_pairs,
            left_is=arguments.left_is,
            participant_pattern=arguments.participant_pattern,
            dry_run=arguments.dry_run,
            command=f"group of {bids_dir}",
        )
    )


def _positionals_first(arguments: list[str]) -> list[str]:
    """Move BIDS_DIR OUTPUT_DIR LEVEL to the front, so options with several values cannot swallow them."""
    for index in range(2, len(arguments)):
        triple = arguments[index - 2 : index + 1]
        if triple[2] in LEVELS and not any(word.startswith("-") for word in triple[:2]):
            return [*triple, *arguments[: index - 2], *arguments[index + 1 :]]
    return arguments


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help explains every option.")


def _flag(group: argparse._ArgumentGroup, name: str, **options: object) -> None:
    """Add a flag in both spellings: --model-dir and --model_dir."""
    names = [name, name.replace("-", "_").replace("__", "--", 1)]
    group.add_argument(*dict.fromkeys(names), **options)  # type: ignore[arg-type]


def _positive(text: str) -> int:
    return _whole(text, 1)


def _not_negative(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, minimum: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = minimum - 1
    if value < minimum:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {minimum}")
    return value


def _report(error: HippoTuneError) -> int:
    log.error(error.message)
    if error.hint:
        log.info("  what to do: %s", error.hint)
    log.debug("exit code %d", error.exit_code, exc_info=error)
    _show_logs()
    return error.exit_code


def _show_logs() -> None:
    for path in log_files():
        log.info("  log: %s", path)


def _interrupt(number: int, _frame: object) -> None:
    if multiprocessing.parent_process() is not None:  # a child that inherited this handler just ends
        os._exit(128 + number)
    raise KeyboardInterrupt  # no `except Exception` on the way may take it for a damaged file
