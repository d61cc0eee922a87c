"""The participant level: scans in; CorObl crops, label maps there and in native space, and pages out.

People are found with pybids; each session is prepared (registered, corrected, resampled) in a process of its
own or here, segmented here with the model loaded once, moved to its place at once, and shown on a page.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bidsapp import __version__
from bidsapp.bids.dataset import describe_dataset, require_ours
from bidsapp.bids.facts import is_changed_by_hand, is_whole_image
from bidsapp.bids.links import dataset_links
from bidsapp.bids.people import choose_labels
from bidsapp.bids.scans import Found, find_sessions
from bidsapp.bids.validation import Validation, validate_input
from bidsapp.crash import write_crash
from bidsapp.errors import (
    BadDataError,
    BidsValidationError,
    CannotWriteError,
    HippoTuneError,
    NoInputError,
    PartialFailureError,
    UsageError,
    explain,
)
from bidsapp.files import sweep_unfinished, write_json
from bidsapp.images.volumes import foresee_scan
from bidsapp.layout import ModelPlaces, OutputLayout, crash_file
from bidsapp.logs import add_log_file, log_to, new_run
from bidsapp.machine import usable_cores
from bidsapp.participants.endings import Ending, show_endings
from bidsapp.participants.job import CropOptions, Job, require_short_name
from bidsapp.participants.publish import publish
from bidsapp.participants.segment import Segmenter, draw_crops, segment_session
from bidsapp.participants.workers import Outcome, prepare_all
from bidsapp.printable import people_text, plural
from bidsapp.progress import progress_over
from bidsapp.records import SIDES, Modality, SessionScans, Side, SideKey
from bidsapp.report.people_pages import finished_people, write_group_pages, write_person_page
from bidsapp.review.events import LedgerEvent, last_events, read_events
from bidsapp.review.protection import awaits_record, persons_work
from bidsapp.review.table import ReviewRow, ReviewTable, read_review_table

if TYPE_CHECKING:
    from bidsapp.exchange.loading import LoadedModel

log = logging.getLogger(__name__)

NO_MODEL = "none"
DEFAULT_MODEL = "default"
"""The built-in model's name in the registry that we ship."""
WITHOUT_MODEL = f"{NO_MODEL} (crops alone)"
MOST_PROCESSES = 8
"""People at a time, unless told otherwise: each needs up to 1.5 GB."""


@dataclass(frozen=True)
class ParticipantRequest:
    """What the command line asks of the participant level."""

    bids_dir: Path
    layout: OutputLayout
    model: str | None
    """A model's name, file or folder, ``none`` for crops alone; None where nothing was said: the built-in one."""
    models: ModelPlaces
    """Where names are looked up."""
    modalities: tuple[Modality, ...] = ("T1w",)
    """The channels, in the order that the model wants."""
    sides: tuple[Side, ...] = SIDES
    participants: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    filters: Path | None = None
    derivatives: tuple[Path, ...] = ()
    device: str = "auto"
    processes: int | None = None
    """People at a time; None: as many as cores."""
    tta: bool = False
    rigid: bool = False
    bias_correction: bool = True
    force: bool = False
    replace_crops: bool = False
    reports_only: bool = False
    stop_on_first_crash: bool = False
    dry_run: bool = False
    skip_validation: bool = False


def run(request: ParticipantRequest) -> None:
    """Do what `request` says.

    Raises
    ------
    PartialFailureError
        When some people failed or were left out; the others are done.
    HippoTuneError
        Anything that stands in the way of all.
    """
    layout = request.layout
    if request.reports_only:
        _rebuild_pages(request)
        return
    validation = Validation() if request.skip_validation else _validate(request)
    found = _find(request)
    segmenter = None if request.model == NO_MODEL else _load(request)
    if request.dry_run:
        _plan_aloud(request, found)
        return
    shared = (layout.failures, layout.publishing("").parent, layout.publishing_copy(""), layout.session_lock("").parent)
    for folder in (layout.root, *shared):  # those that other runs write to as well
        sweep_unfinished(folder, alone=False, below=False)
    describe_dataset(layout, links=dataset_links(request.bids_dir, request.derivatives))
    run_name = _start_log(layout)
    log.debug("HippoTune %s, %s", __version__, request)
    validation.write_to_log()
    endings = _process(request, found, segmenter, run_name)
    if not request.participants:  # one of many jobs leaves what is shared to the last one
        write_group_pages(layout)
    _conclude(request, found, endings)


def _start_log(layout: OutputLayout) -> str:
    """Open the log of a run; returns the run's name, which no other has."""
    run_name = new_run(layout.logs)
    add_log_file(layout.run_log(run_name))
    return run_name


def _validate(request: ParticipantRequest) -> Validation:
    """Look through the input before any work; what is found whole goes to the log, also where it stops the run."""
    layout = request.layout
    validation = validate_input(
        request.bids_dir,
        ours=(layout.root, layout.work),
        participants=request.participants,
        exclude=request.exclude,
    )
    try:
        validation.require_valid(request.bids_dir)
    except BidsValidationError:
        if not request.dry_run:
            require_ours(layout)
            _start_log(layout)
            validation.write_to_log()
        raise
    return validation


def _find(request: ParticipantRequest) -> Found:
    helpers: tuple[Modality, ...] = ("T1w",) if "T1w" not in request.modalities else ()
    found = find_sessions(
        request.bids_dir,
        modalities=request.modalities,
        helpers=helpers,
        derivatives=request.derivatives,
        participants=request.participants,
        exclude=request.exclude,
        sessions=request.sessions,
        filters=request.filters,
    )
    people = len({session.participant for session in found.sessions})
    sessions = plural(len(found.sessions), "session")
    log.info("found %s with %s in %s", people_text(people), sessions, request.bids_dir)
    for session in found.sessions:
        for path in session.left_aside:
            log.warning("%s: %s was left aside; --bids-filter-file chooses", session.name, path.name)
    for name, reason in found.left_out.items():
        log.warning("%s is left out: %s", name, reason)
    return found


def _load(request: ParticipantRequest) -> Segmenter:
    from bidsapp.exchange.loading import load_model
    from bidsapp.prediction import Predictor, choose_device

    device = choose_device(request.device)
    model = load_model(_model_path(request))
    _refuse_other_channels(request, model)
    log.info("model %s on %s: %s", model.name, device, ", ".join(model.labels.values()))
    predictor = Predictor(model, device, tta=request.tta, cores=request.processes)
    return Segmenter(predictor, model.name, model.digest, request.tta)


def _model_path(request: ParticipantRequest) -> Path:
    """The file or folder that --model means; the built-in one without it."""
    from bidsapp.models.shelf import locate_model, model_path

    if request.model is None:
        return locate_model(DEFAULT_MODEL, request.models)
    return model_path(request.model, request.models, request.layout, otherwise=WITHOUT_MODEL)


def _refuse_other_channels(request: ParticipantRequest, model: LoadedModel) -> None:
    """Refuse channels that the network cannot take or that stand in another order.

    One image of another contrast is taken with a warning: some networks cope, and who looks at the result can tell.
    """
    wanted, given = model.channels, request.modalities
    if len(wanted) != len(given):
        raise UsageError(
            f"the model {model.name} takes {len(wanted)} channels ({', '.join(wanted)}), "
            f"--modality {'+'.join(given)} gives {len(given)}",
            "Choose the --modality that it was trained on.",
        )
    named = ("T1w", "T2w")  # what another name means, nobody can tell
    if not any(channel in named and channel != modality for channel, modality in zip(wanted, given, strict=True)):
        return
    if len(wanted) > 1:
        raise UsageError(
            f"the model {model.name} was trained on {', '.join(wanted)}, not {'+'.join(given)}",
            f"Give --modality {'+'.join(wanted)}.",
        )
    log.warning(
        "the model %s was trained on %s and now gets %s: its labels may be wrong everywhere. Look at every side, or "
        "train a model on corrected %s labels first",
        model.name, wanted[0], given[0], given[0],
    )  # fmt: skip


def _process(request: ParticipantRequest, found: Found, segmenter: Segmenter | None, run_name: str) -> list[Ending]:
    """Prepare, segment, publish and show every session; returns how each ended."""
    jobs: list[Job] = []
    endings: list[Ending] = []

    def end(ending: Ending, session: SessionScans, log_file: Path) -> None:
        endings.append(ending)
        if ending.error is None:
            return
        _record_failure(request.layout, session, log_file, ending.error)
        if request.stop_on_first_crash:
            show_endings(endings)
            raise ending.error

    for session, one in _jobs(request, found, run_name):
        if isinstance(one, Job):
            jobs.append(one)
        else:
            end(Ending(session.name, "failed", None, one), session, request.layout.session_log(run_name, session.name))
    prepared = prepare_all(jobs, _processes(request, len(jobs)))
    with closing(prepared):
        for job, outcome in progress_over(prepared, "sessions", total=len(jobs)):
            end(_finish(request.layout, job, outcome, segmenter, run_name), job.scans, job.log)
    return endings


def _processes(request: ParticipantRequest, sessions: int) -> int:
    return max(1, min(request.processes or min(usable_cores(), MOST_PROCESSES), sessions))


def _jobs(
    request: ParticipantRequest, found: Found, run_name: str
) -> Iterator[tuple[SessionScans, Job | HippoTuneError]]:
    """What is to be done for each session, or what stands in its way: files in OUTPUT_DIR that may not be read."""
    review = read_review_table(request.layout.review_table)
    decided, last = review.deciding_rows(), last_events(read_events(request.layout.ledger))
    for session in found.sessions:
        try:
            job: Job | HippoTuneError = _job(request, session, review, decided, last, run_name)
        except HippoTuneError as error:
            job = error
        except OSError as denied:
            refusal = explain(denied)
            if refusal is None:
                raise
            job = refusal
        yield session, job


def _job(
    request: ParticipantRequest,
    session: SessionScans,
    review: ReviewTable,
    decided: Mapping[SideKey, ReviewRow],
    last: Mapping[SideKey, LedgerEvent],
    run_name: str,
) -> Job:
    layout, where = request.layout, (session.participant, session.session)
    work = {side: persons_work(layout, review, *where, side) for side in SIDES}
    kept: dict[Side, str] = {}
    for side in SIDES:
        row = decided.get((*where, side))
        if is_changed_by_hand(layout.session(*where).prediction(side)):
            kept[side] = "it was changed by hand; a correction belongs to labels/, see the page"
        elif row and awaits_record(row, last.get(row.key)) and is_whole_image(layout.session(*where).prediction(side)):
            kept[side] = "it is approved, and review has not recorded it yet"
    return Job(
        scans=session,
        layout=layout,
        log=layout.session_log(run_name, session.name),
        options=CropOptions(request.modalities, request.sides, request.rigid, request.bias_correction),
        persons_work={side: words for side, words in work.items() if words}
        | {side: "has a prediction that was changed by hand" for side in kept if not work[side]},
        kept_predictions=kept,
        force=request.force,
        replace_crops=request.replace_crops,
    )


def _finish(layout: OutputLayout, job: Job, outcome: Outcome, segmenter: Segmenter | None, run_name: str) -> Ending:
    """Do what is left of one session; returns how it ended."""
    began = time.monotonic()
    try:
        prepared = outcome()
        # with one process the outcome is prepared here and now, else it was before
        began = min(began, time.monotonic() - prepared.seconds)
        with log_to(job.log):
            if segmenter is None:
                draw_crops(job, prepared)
            else:
                segment_session(job, prepared, segmenter)
            made = job.unfinished.root.exists()
            publish(job, date=run_name)
            write_person_page(layout, job.scans.participant)
    except HippoTuneError as error:
        return Ending(job.name, "failed", error.seconds or time.monotonic() - began, error)
    except BrokenProcessPool:
        died = BadDataError("its process died", "Out of memory? Give a smaller --nprocs.")
        return Ending(job.name, "failed", None, died)
    except Exception as error:  # one person's bug must not cost the others
        return Ending(job.name, "failed", time.monotonic() - began, explain(error) or _record_bug(job, error))
    return Ending(job.name, "ok" if made else "skipped", time.monotonic() - began)


def _record_bug(job: Job, error: Exception) -> HippoTuneError:
    """Write what a report needs beside the log of the session."""
    with log_to(job.log):
        log.exception("%s: this is a bug in HippoTune, please report it with the log", job.name)
    file = crash_file(job.log)
    with suppress(CannotWriteError):
        write_crash(file, error)
    return HippoTuneError(f"a bug in HippoTune: {type(error).__name__}: {error}", f"See {file}.")


def _record_failure(layout: OutputLayout, session: SessionScans, log_file: Path, error: HippoTuneError) -> None:
    with log_to(log_file):
        log.error("%s failed: %s", session.name, error.message)
    log.info("  what to do: %s", error.hint or f"see {log_file}")
    content = {
        "participant": session.participant,
        "session": session.session,
        "reason": error.message,
        "hint": error.hint,
        "log": log_file.relative_to(layout.root).as_posix(),
    }
    try:
        write_json(layout.failure(session.name), content)
    except CannotWriteError as second:
        log.error(second.message)


def _conclude(request: ParticipantRequest, found: Found, endings: Sequence[Ending]) -> None:
    show_endings(endings)
    failed = {ending.name: ending.error for ending in endings if ending.error}
    done = len(found.sessions) - len(failed)
    log.info("%d of %d sessions are done in %s", done, len(found.sessions), request.layout.root)
    if request.participants:
        log.info("the page of all people is made by: --reports-only, when all are through")
    elif done:
        log.info("look at: %s", request.layout.index)
    lines = [f"{name}: {error.message}" for name, error in failed.items()]
    lines += [f"{name}: left out, {reason}" for name, reason in found.left_out.items()]
    if not lines:
        return
    if not done and len(failed) and all(isinstance(error, CannotWriteError) for error in failed.values()):
        raise CannotWriteError("nobody is done:\n  " + "\n  ".join(lines), next(iter(failed.values())).hint)
    raise PartialFailureError(
        "some people are not done:\n  " + "\n  ".join(lines), "Mend them and give the same command again."
    )


def _plan_aloud(request: ParticipantRequest, found: Found) -> None:
    unusable = []
    for session, job in _jobs(request, found, "dry-run"):
        if isinstance(job, HippoTuneError):
            unusable.append(f"{session.name}: {job.message}. {job.hint}")
            continue
        scans = [*session.scans.values(), *(scan for crops in session.crops.values() for scan in crops.values())]
        problems = _what_is_wrong(session, [scan.path for scan in scans])
        if problems:
            unusable.append(f"{session.name}: {'; '.join(problems)}")
            continue
        log.info("would process %s: %s", session.name, ", ".join(str(scan.path) for scan in scans))
        if job.persons_work:
            what = "would be replaced, labels moved away" if request.replace_crops else "would be kept"
            log.info("  %s: crops that exist %s", job.work_in_words, what)
    log.info("dry run: nothing was written to %s", request.layout.root)
    if unusable:
        raise PartialFailureError(
            "some people could not be processed:\n  " + "\n  ".join(unusable), "Mend them, or exclude them."
        )


def _what_is_wrong(session: SessionScans, paths: Sequence[Path]) -> list[str]:
    """What the name of a session, and the headers and sizes of its files, let one foresee, in words."""
    problems = []
    checks: list[Callable[[], object]] = [partial(require_short_name, session)]
    checks += [partial(foresee_scan, path) for path in paths]
    for check in checks:
        try:
            check()
        except HippoTuneError as error:
            problems.append(". ".join(filter(None, (error.message, error.hint))))
    return problems


def _rebuild_pages(request: ParticipantRequest) -> None:
    layout = request.layout
    people = finished_people(layout)
    if not people:
        raise NoInputError(f"{layout.root} has no finished people", "Run participant without --reports-only first.")
    chosen = choose_labels(people, request.participants, request.exclude, root=layout.root)
    if request.dry_run:
        log.info("dry run: would make the pages of %s in %s", people_text(len(chosen)), layout.root)
        return
    for participant in progress_over(chosen, "pages"):
        write_person_page(layout, participant)
    damaged = write_group_pages(layout)
    log.info("look at: %s", layout.index)
    if damaged:
        raise PartialFailureError(
            f"damaged sessions, shown as failed: {', '.join(damaged)}", "Run participant on them again."
        )
