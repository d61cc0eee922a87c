"""The command line of the BIDS App: its flags, and what each level is asked."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bidsapp import __version__
from bidsapp.console import Parser, run_command
from bidsapp.console import add_flag as _flag
from bidsapp.errors import CannotWriteError, NoInputError, UsageError
from bidsapp.layout import ModelLayout, ModelPlaces, OutputLayout, default_model_dir, model_places
from bidsapp.machine import keep_caches_in
from bidsapp.serving import LOOPBACK, ServeOptions

LEVELS = ("participant", "review", "group")
MODALITIES = ("T1w", "T2w", "T1w+T2w")

log = logging.getLogger(__name__)

_PARTS_OF_A_DATA_SET = {"code", "phenotype", "sourcedata", "stimuli"}

_OF_APPROVED: tuple[str, ...] = (
    *("participant_label", "exclude_participant_label", "session_label", "subset"),
    "export_training_data",
)
_OF_PAIRS: tuple[str, ...] = ("left_is", "participant_pattern")
_WITHOUT_PAIRS = ("is about the pairs of --training-dir", "Leave it out, or add --training-dir.")
_OF_TRAINING: tuple[str, ...] = (
    *_OF_PAIRS,
    *("model_dir", "model", "registry", "models_dir", "iterations", "preset", "set", "no_extend", "skip_bad_pairs"),
    *("rehearse", "source_test", "accept_worse"),
)

_OF_SERVING: tuple[str, ...] = ("port", "host", "no_browser")

_OF_READING: tuple[str, ...] = ("skip_bids_validation", "bids_filter_file", "stop_on_first_crash")
"""Launchers of BIDS Apps give the same flags to every level; only participant reads the scans of BIDS_DIR."""

_EPILOG = """\
examples
  run.py data out participant
        segment the hippocampi of every T1w of the BIDS data set `data` with the built-in model; pages to look at
  run.py data out participant --model none
        bring every T1w of the BIDS data set `data` to CorObl space: crops, transforms, pages to look at
  run.py data out participant --model models/ours/export/current.zip --participant-label 01 02
        segment the hippocampi of two people, in CorObl and in native space
  run.py data out review --serve
        correct and approve in the browser; on a cluster, through the ssh line that it prints
  run.py data out group --model-dir models/ours
        train nnU-Net on the labels that were approved in OUTPUT_DIR/labels, test it on held-out people, export it
  run.py data out group --export-training-data to-share
        the approved crops and labels under new ids, as a BIDS data set for others
  run.py data out group --training-dir pairs --model-dir models/ours
        the same with pairs that you vouch for: <id>_img.nii.gz / <id>_lbl.nii.gz
  run.py data out group --training-dir pairs --model-dir models/ours
        the same again: continue after a kill, or train a further segment
  run.py data out group --training-dir pairs --model-dir models/small --preset tiny --iterations 300
        a first model on a laptop
  run.py data out group --model models/theirs.zip --model-dir models/ours
        go on from another model: its network, plans and weights, labels and channels matched by name

exit codes
  0 done; 1 some people or pairs failed or were left out; 2 usage; 3 the new model is worse than the one before;
  16 BIDS_DIR is not valid BIDS; 18 nothing matches the filters; 65 bad data; 66 no input; 70 our bug; 73 cannot write;
  75 interrupted, run again to continue
"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(
        prog="run.py",
        description="HippoTune retrains hippocampal U-Nets in CorObl space, with nnU-Net v2 underneath.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("bids_dir", type=Path, metavar="BIDS_DIR", help="input data set, never written to")
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="results; made when missing")
    parser.add_argument(
        "level",
        choices=LEVELS,
        metavar="LEVEL",
        help="participant: bring scans to CorObl space and segment them; review: check what people decided in "
        "OUTPUT_DIR/labels/review.tsv, record approvals; group: train, test and export a model",
    )
    for title, (add_flags, _) in _FLAGS.items():
        add_flags(parser.add_argument_group(title))
    return parser


def _add_common(group: argparse._ArgumentGroup) -> None:
    _flag(group, "--device", default="auto", metavar="auto|cpu|cuda[:N]", help="where networks run (default: auto)")
    _flag(
        group, "--nprocs", type=_positive, metavar="N",
        help="processor cores to use (default: all that are allowed); participant: people at a time (default: cores, "
        "at most 8)",
    )  # fmt: skip
    _flag(group, "--dry-run", action="store_true", help="check everything, say what would be done, do nothing")
    group.add_argument("-v", "--verbose", action="store_true", help="details on the screen, as in the log file")
    group.add_argument("--version", action="version", version=f"hippotune {__version__}")


def _add_people(group: argparse._ArgumentGroup) -> None:
    _flag(group, "--participant-label", nargs="+", default=[], metavar="LABEL", help="these people only (01 or sub-01)")
    _flag(group, "--exclude-participant-label", nargs="+", default=[], metavar="LABEL", help="not these people")
    _flag(group, "--session-label", nargs="+", default=[], metavar="LABEL", help="these sessions only")


def _add_model(group: argparse._ArgumentGroup) -> None:
    _flag(
        group, "--model", metavar="NAME|FILE|FOLDER|none|scratch",
        help="participant: the model that segments: a name that hippotune-models list shows (default: default, the "
        "built-in one), an exported zip or a model's folder, or none for crops alone; group: the model to start from "
        "(its network and plans are taken over, labels and channels matched by name), or scratch (default)",
    )  # fmt: skip


def _add_registry(group: argparse._ArgumentGroup) -> None:
    _flag(
        group, "--registry", type=Path, metavar="FILE",
        help="your lab's own list of models, beside the one that HippoTune ships (default: hippotune/registry.toml in "
        "your configuration folder, if it is there)",
    )  # fmt: skip
    _flag(
        group, "--models-dir", type=Path, metavar="DIR",
        help="where hippotune-models fetch puts models (default: hippotune/models in your data folder; where that "
        "cannot be written, models in the work directory)",
    )  # fmt: skip


def _add_derivatives(group: argparse._ArgumentGroup) -> None:
    _flag(
        group, "--derivatives", type=Path, nargs="+", default=[], metavar="DIR",
        help="derivative data sets; participant: take inputs from them where they have them, space-corobl crops "
        "(HippUnfold's too), else preprocessed scans; review: bring in their label maps (HippUnfold's names), as "
        "pending rows",
    )  # fmt: skip


def _add_review(group: argparse._ArgumentGroup) -> None:
    _flag(
        group, "--fix-header", action="store_true",
        help="give corrections that differ from their crop in the header alone the crop's header; the file as it was "
        "stays beside it as *.orig",
    )  # fmt: skip
    _flag(
        group, "--serve", action="store_true",
        help="correct and approve in the browser: add rows for new sides, then serve the editor until Ctrl-C; what the "
        "table says already is not acted on",
    )  # fmt: skip
    _flag(
        group, "--port", type=_port, metavar="N",
        help="with --serve: where to listen (default: 8417, or any port where that is taken)",
    )  # fmt: skip
    _flag(
        group, "--host", metavar="NAME",
        help="with --serve: the address to listen on (default: 127.0.0.1, which this machine alone can reach)",
    )  # fmt: skip
    _flag(group, "--no-browser", action="store_true", help="with --serve: print the address, open no browser")


def _add_inputs(group: argparse._ArgumentGroup) -> None:
    _flag(
        group, "--skip-bids-validation", action="store_true",
        help="participant: do not let the BIDS validator look through BIDS_DIR first",
    )  # fmt: skip
    _flag(
        group, "--bids-filter-file", type=Path, metavar="FILE",
        help="participant: which scan to take where there are several, as JSON: "
        '{"T1w": {"acquisition": "mprage", "run": 1}}',
    )  # fmt: skip
    _flag(
        group, "--work-dir", type=Path, metavar="DIR",
        help="for unfinished work and the caches of libraries (default: OUTPUT_DIR/work)",
    )  # fmt: skip
    _flag(group, "--stop-on-first-crash", action="store_true", help="participant: end at the first person who fails")


def _add_participant(group: argparse._ArgumentGroup) -> None:
    _flag(
        group, "--modality", choices=MODALITIES, default="T1w",
        help="the scan to segment, or both as two channels (default: T1w); a T2w is registered through the T1w of its "
        "session where there is one",
    )  # fmt: skip
    _flag(group, "--hemi", nargs="+", choices=("L", "R"), default=["L", "R"], help="sides to make (default: both)")
    _flag(group, "--tta", action="store_true", help="average over mirrored inputs, if the model was trained with them")
    _flag(group, "--rigid", action="store_true", help="turn and shift heads only; default: affine, sizes are matched")
    _flag(group, "--no-bias-correction", action="store_true", help="leave the bias field in (N4 is skipped)")
    _flag(group, "--force", action="store_true", help="make everything again, even where nothing changed")
    _flag(
        group, "--replace-crops", action="store_true",
        help="make crops anew where people worked on them; their labels move to OUTPUT_DIR/labels/superseded",
    )  # fmt: skip
    _flag(group, "--reports-only", action="store_true", help="make the pages again from what is in OUTPUT_DIR")


def _add_group(group: argparse._ArgumentGroup) -> None:
    _flag(
        group, "--model-dir", type=Path, metavar="DIR",
        help="the model's folder: config.ini, checkpoints, test, export (default: OUTPUT_DIR/models/default)",
    )  # fmt: skip
    _flag(
        group, "--subset", type=Path, metavar="FILE",
        help="train on these approved labels only: a table with participant_id and, if you like, session_id, hemi",
    )  # fmt: skip
    _flag(
        group, "--label-map", type=Path, metavar="FILE",
        help="other names for labels, of approved label maps and of the model that is started from: a table with "
        "from_name and to_name (n/a: background; several may become one)",
    )  # fmt: skip
    _flag(
        group, "--export-training-data", type=Path, metavar="DIR",
        help="write the approved crops and labels there, with new ids, as a BIDS data set for others; train nothing",
    )  # fmt: skip
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
        help="override one setting of config.ini for this run (= may be written as :); may be repeated",
    )  # fmt: skip
    _flag(
        group, "--rehearse", type=Path, metavar="DIR",
        help="mix earlier pairs into the training, so that a new scanner does not erase the old ones: a MODEL_DIR (its "
        "training people) or a folder of pairs; finetuning.rehearsal_fraction says how much",
    )  # fmt: skip
    _flag(
        group, "--source-test", type=Path, metavar="DIR",
        help="compare with the model before also on these pairs: a MODEL_DIR (its test people) or a folder of pairs; "
        "says what was forgotten",
    )  # fmt: skip
    _flag(
        group, "--accept-worse", action="store_true",
        help="let the model become the current one although it is worse than the one before on the validation people",
    )  # fmt: skip
    _flag(group, "--no-extend", action="store_true", help="complete what is unfinished, never start a new segment")
    _flag(group, "--skip-bad-pairs", action="store_true", help="train without pairs that fail a check, and exit with 1")


def _add_pairs(group: argparse._ArgumentGroup) -> None:
    _flag(
        group, "--training-dir", type=Path, metavar="DIR",
        help="pairs <id>_img.nii.gz, <id>_lbl.nii.gz, labels.tsv if you like; or nnU-Net's raw data, or the tree of "
        "Hippocampal_AutoTop; you vouch for them (group's default: the labels that were approved through review)",
    )  # fmt: skip
    _flag(
        group, "--left-is", choices=("flipped", "as-in-head"),
        help="what left sides are, where names and headers do not tell: as in the head, or flipped already",
    )  # fmt: skip
    _flag(
        group, "--participant-pattern", metavar="REGEX",
        help="how to find the person in an id, with one group (default: sub-<label>, else the id without its words for "
        "side, session and modality)",
    )  # fmt: skip


_FLAGS: dict[str, tuple[Callable[[argparse._ArgumentGroup], None], tuple[str, ...]]] = {
    "people (participant and group level; group: of the approved labels)": (_add_people, ("participant", "group")),
    "machine and messages": (_add_common, LEVELS),
    "model (participant and group level)": (_add_model, ("participant", "group")),
    "models by name (participant and group level)": (_add_registry, ("participant", "group")),
    "other data sets (participant and review level)": (_add_derivatives, ("participant", "review")),
    "pairs that were made elsewhere (review and group level)": (_add_pairs, ("review", "group")),
    "inputs and work (any level, as launchers of BIDS Apps give them to all)": (_add_inputs, LEVELS),
    "participant level": (_add_participant, ("participant",)),
    "review level": (_add_review, ("review",)),
    "group level": (_add_group, ("group",)),
}
"""Title in --help -> what adds the flags, and the levels that know them."""


def flag_groups() -> dict[str, tuple[tuple[str, ...], tuple[argparse.Action, ...]]]:
    """Title in --help -> the levels that know the flags, and the flags; for descriptors and the reference."""
    groups = {}
    for title, (add_flags, levels) in _FLAGS.items():
        parser = argparse.ArgumentParser(add_help=False)
        add_flags(parser.add_argument_group(title))
        groups[title] = (levels, tuple(parser._actions))
    return groups


def main(argv: Sequence[str] | None = None) -> int:
    """Run HippoTune; returns the exit code."""
    return run_command(_run_words, sys.argv[1:] if argv is None else list(argv))


def _run_words(words: list[str]) -> None:
    _run(build_parser().parse_args(_positionals_first(words)))


def _run(arguments: argparse.Namespace) -> None:
    bids_dir, output_dir = arguments.bids_dir.absolute(), arguments.output_dir.absolute()
    if not bids_dir.is_dir():
        problem = "is not a folder" if bids_dir.exists() else "does not exist"
        raise NoInputError(f"BIDS_DIR {bids_dir} {problem}", "Name the folder with dataset_description.json.")
    _require_entry(output_dir)
    _refuse_writing_into_input(bids_dir, output_dir)
    _refuse_flags_of_other_levels(arguments)
    output = OutputLayout(output_dir, _work_dir(arguments, bids_dir, output_dir))
    with ExitStack() as at_the_end:
        caches = output.caches
        if arguments.dry_run:  # which leaves nothing behind, what libraries keep included
            caches = Path(at_the_end.enter_context(TemporaryDirectory(prefix="hippotune-", ignore_cleanup_errors=True)))
        keep_caches_in(caches, os.environ)
        _run_level(arguments, bids_dir, output)


def _run_level(arguments: argparse.Namespace, bids_dir: Path, output: OutputLayout) -> None:
    if arguments.level == "participant":
        _run_participant(arguments, bids_dir, output)
    elif arguments.level == "review":
        _run_review(arguments, output)
    else:
        _run_group(arguments, bids_dir, output)


def _work_dir(arguments: argparse.Namespace, bids_dir: Path, output_dir: Path) -> Path | None:
    work_dir = _absolute(arguments.work_dir)
    for folder in (bids_dir, *arguments.derivatives):
        if work_dir and _is_inside(work_dir, folder) and not _is_inside(work_dir, output_dir):
            raise UsageError(f"--work-dir {work_dir} is in the input {folder}", "Name a folder outside of it.")
    return work_dir


def _run_participant(arguments: argparse.Namespace, bids_dir: Path, output: OutputLayout) -> None:
    from bidsapp.levels import participant

    participant.run(
        participant.ParticipantRequest(
            bids_dir=bids_dir,
            layout=output,
            model=arguments.model,
            models=_model_places(arguments, output),
            modalities=tuple(arguments.modality.split("+")),
            sides=tuple(sorted(set(arguments.hemi))),
            participants=tuple(arguments.participant_label),
            exclude=tuple(arguments.exclude_participant_label),
            sessions=tuple(arguments.session_label),
            filters=arguments.bids_filter_file,
            derivatives=tuple(path.absolute() for path in arguments.derivatives),
            device=arguments.device,
            processes=arguments.nprocs,
            tta=arguments.tta,
            rigid=arguments.rigid,
            bias_correction=not arguments.no_bias_correction,
            force=arguments.force,
            replace_crops=arguments.replace_crops,
            reports_only=arguments.reports_only,
            stop_on_first_crash=arguments.stop_on_first_crash,
            dry_run=arguments.dry_run,
            skip_validation=arguments.skip_bids_validation,
        )
    )


def _model_places(arguments: argparse.Namespace, output: OutputLayout) -> ModelPlaces:
    registry, models = _absolute(arguments.registry), _absolute(arguments.models_dir)
    return model_places(registry, models, os.environ, in_work=output.fetched_models)


def _run_review(arguments: argparse.Namespace, output: OutputLayout) -> None:
    from bidsapp.levels import review

    if arguments.training_dir:
        flags, why = (
            ("derivatives", "fix_header", "serve"),
            "is about the crops of OUTPUT_DIR, not about --training-dir",
        )
        _refuse_given(arguments, flags, why, "Leave one of the two out.")
    else:
        _refuse_given(arguments, _OF_PAIRS, *_WITHOUT_PAIRS)
    if arguments.serve:
        why = "changes files that the editor shows; give it to review without --serve"
        _refuse_given(arguments, ("fix_header",), why, "Leave one of the two out.")
    else:
        _refuse_given(arguments, _OF_SERVING, "is about the editor", "Leave it out, or add --serve.")
    _say_what_has_no_use(arguments)
    review.run(
        review.ReviewRequest(
            layout=output,
            training_dir=_absolute(arguments.training_dir),
            left_is=arguments.left_is,
            participant_pattern=arguments.participant_pattern,
            derivatives=tuple(path.absolute() for path in arguments.derivatives),
            fix_header=arguments.fix_header,
            serve=_serve_options(arguments) if arguments.serve else None,
            dry_run=arguments.dry_run,
        )
    )


def _serve_options(arguments: argparse.Namespace) -> ServeOptions:
    return ServeOptions(host=arguments.host or LOOPBACK, port=arguments.port, browser=not arguments.no_browser)


def _run_group(arguments: argparse.Namespace, bids_dir: Path, output: OutputLayout) -> None:
    from bidsapp.levels import group
    from bidsapp.review.selection import Wanted

    _refuse_flags_of_the_other_source(arguments)
    _say_what_has_no_use(arguments)
    model_dir = (arguments.model_dir or default_model_dir(output.root)).absolute()
    group.run(
        group.GroupRequest(
            layout=ModelLayout(model_dir),
            output=output,
            training_dir=_absolute(arguments.training_dir),
            wanted=Wanted(
                participants=tuple(arguments.participant_label),
                exclude=tuple(arguments.exclude_participant_label),
                sessions=tuple(arguments.session_label),
                subset=_absolute(arguments.subset),
            ),
            label_map=_absolute(arguments.label_map),
            export_to=_absolute(arguments.export_training_data),
            parent=arguments.model,
            rehearse=_absolute(arguments.rehearse),
            source_test=_absolute(arguments.source_test),
            accept_worse=arguments.accept_worse,
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
            models=_model_places(arguments, output),
        )
    )


def _say_what_has_no_use(arguments: argparse.Namespace) -> None:
    for name in _OF_READING:
        if getattr(arguments, name):
            log.info("--%s: no use at the %s level, which reads no scans", name.replace("_", "-"), arguments.level)


def _absolute(path: Path | None) -> Path | None:
    return path.absolute() if path else None


def _positionals_first(arguments: list[str]) -> list[str]:
    """Move BIDS_DIR OUTPUT_DIR LEVEL to the front, so options with several values cannot swallow them."""
    for index in range(2, len(arguments)):
        triple = arguments[index - 2 : index + 1]
        if triple[2] in LEVELS and not any(word.startswith("-") for word in triple[:2]):
            return [*triple, *arguments[: index - 2], *arguments[index + 1 :]]
    return arguments


def _require_entry(output_dir: Path) -> None:
    """Refuse an OUTPUT_DIR that may not be looked into, or whose name no disk can hold, before it is asked."""
    try:
        if output_dir.is_dir():
            (output_dir / next((entry.name for entry in output_dir.iterdir()), "file")).exists()
    except OSError as error:
        hint = "Choose another folder, or look at its permissions."
        raise CannotWriteError(f"OUTPUT_DIR {output_dir} cannot be used: {error.strerror}", hint) from error


def _refuse_writing_into_input(bids_dir: Path, output_dir: Path) -> None:
    example = f"e.g. {bids_dir}/derivatives/hippotune."
    if output_dir.resolve() == bids_dir.resolve():
        raise UsageError(f"OUTPUT_DIR is BIDS_DIR itself: {bids_dir}", f"Choose another, {example}")
    if output_dir.exists() and not output_dir.is_dir():
        raise UsageError(f"OUTPUT_DIR {output_dir} is not a folder", f"Choose another, {example}")
    inside = output_dir.resolve().relative_to(bids_dir.resolve()).parts if _is_inside(output_dir, bids_dir) else ()
    if inside and (inside[0].startswith("sub-") or inside[0] in _PARTS_OF_A_DATA_SET):
        raise UsageError(f"OUTPUT_DIR {output_dir} lies in {inside[0]} of the input", f"Choose another, {example}")


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _refuse_flags_of_other_levels(arguments: argparse.Namespace) -> None:
    """A flag that would be passed over in silence is an error."""
    for add_flags, levels in _FLAGS.values():
        if arguments.level in levels or add_flags is _add_common:
            continue
        parser = argparse.ArgumentParser()
        add_flags(parser.add_argument_group())
        for name, default in vars(parser.parse_args([])).items():
            if getattr(arguments, name) != default:
                flag = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{flag} belongs to the {' and '.join(levels)} level", f"Leave it out of {arguments.level}."
                )


def _refuse_flags_of_the_other_source(arguments: argparse.Namespace) -> None:
    """What chooses among approved labels says nothing of a folder of pairs, and the reverse."""
    if arguments.training_dir:
        flags, why = _OF_APPROVED, "is about approved labels; with --training-dir, all pairs in it are used"
        hint = "Leave one of the two out; remove pairs from the folder that are not to be used."
    elif arguments.export_training_data:
        flags, why = _OF_TRAINING, "has no use with --export-training-data, which trains nothing"
        hint = "Leave it out."
    else:
        flags, (why, hint) = _OF_PAIRS, _WITHOUT_PAIRS
    _refuse_given(arguments, flags, why, hint)


def _refuse_given(arguments: argparse.Namespace, flags: Sequence[str], why: str, hint: str) -> None:
    for name in flags:
        value = getattr(arguments, name)
        if not (value is None or value is False or value == []):
            raise UsageError(f"--{name.replace('_', '-')} {why}", hint)


def _positive(text: str) -> int:
    return _whole(text, 1)


def _port(text: str) -> int:
    port = _whole(text, 1)
    if port > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: they end at 65535")
    return port


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
