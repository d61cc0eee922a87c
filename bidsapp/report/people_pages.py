"""Pages and the table of volumes, gathered from the finished files of OUTPUT_DIR alone."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bidsapp.bids.facts import read_facts
from bidsapp.corobl.quality import Judgement
from bidsapp.errors import BadDataError, HippoTuneError
from bidsapp.files import read_json
from bidsapp.guards.judgement import judge_symmetry
from bidsapp.layout import OutputLayout, SessionLayout, label_names
from bidsapp.pictures.outlines import PLANES, label_colours
from bidsapp.records import MODALITIES, SIDES, Modality, Side, SideKey
from bidsapp.report.index_report import IndexRow, write_index
from bidsapp.report.participant_report import (
    CropPictures,
    Failure,
    LabelVolume,
    ModelPart,
    ParticipantPage,
    ScanPart,
    SessionPart,
    SideFiles,
    SidePart,
    write_participant_page,
)
from bidsapp.review.protection import persons_work
from bidsapp.review.table import read_review_table
from bidsapp.tsv import read_tsv, write_tsv

log = logging.getLogger(__name__)

Facts = dict[str, Any]
_PROGRAMS = {"HippoTune": "version", "SimpleITK": "simpleitk", "nnU-Net": "nnunetv2", "PyTorch": "torch"}


def finished_sessions(layout: OutputLayout, participant: str = "*") -> list[SessionLayout]:
    """Sessions in OUTPUT_DIR that have a crop, in order; of one person, or of all."""
    found: set[tuple[str, str | None]] = set()
    for pattern in ("anat", "ses-*/anat"):
        for crop in layout.root.glob(f"sub-{participant}/{pattern}/*_space-corobl_desc-preproc_T?w.nii.gz"):
            name = re.match(r"sub-([^_]+)(?:_ses-([^_]+))?_hemi-", crop.name)
            if name:
                found.add((name[1], name[2]))
    return [layout.session(*one) for one in sorted(found, key=lambda one: (one[0], one[1] or ""))]


def finished_people(layout: OutputLayout) -> list[str]:
    """Labels of the people who have a crop, in order."""
    return sorted({session.participant for session in finished_sessions(layout)})


def sides_with_a_crop(layout: OutputLayout) -> list[SideKey]:
    """Every side that can be reviewed, in order."""
    return [
        (session.participant, session.session, side)
        for session in finished_sessions(layout)
        for side in SIDES
        if any(session.crop(side, modality).exists() for modality in MODALITIES)
    ]


def write_person_page(layout: OutputLayout, participant: str) -> None:
    """Write sub-XX.html from what is there of all sessions of a person."""
    sessions = finished_sessions(layout, participant)
    gathered = [_gather(layout, session) for session in sessions]
    failed = [one for one in _failures(layout, f"sub-{participant}[._]*") if one.participant == participant]
    page = ParticipantPage(
        participant=participant,
        written=_now(),
        versions=_versions(sessions),
        sessions=tuple(part for part in gathered if isinstance(part, SessionPart)),
        failures=(*failed, *(part for part in gathered if isinstance(part, Failure))),
    )
    write_participant_page(layout.page(participant), page)


def write_group_pages(layout: OutputLayout) -> list[str]:
    """Write index.html and the table of all volumes; returns the names of sessions whose files are damaged."""
    rows, volumes = [], []
    failures = {one.name: one for one in _failures(layout, "*")}
    damaged = []
    for session in finished_sessions(layout):
        part = _gather(layout, session)
        if isinstance(part, Failure):
            failures.setdefault(part.name, part)
            damaged.append(part.name)
            continue
        whole = {side: facts["hippocampus_mm3"] for side, facts in _predictions(session).items()}
        rows.append(
            IndexRow(
                participant=session.participant,
                session=session.session,
                concerns=part.concerns,
                volumes_mm3={side: volume for side, volume in whole.items() if volume},
                thumbnails={side.hemi: session.thumbnail(side.hemi) for side in part.sides},
            )
        )
        volumes += [
            (
                f"sub-{session.participant}",
                f"ses-{session.session}" if session.session else "n/a",
                side.hemi,
                volume.name,
                f"{volume.volume_mm3:.2f}" if volume.volume_mm3 is not None else "n/a",
                side.level,
                side.model.name if side.model else "n/a",
            )
            for side in part.sides
            for volume in side.volumes
        ]
    write_index(layout.index, rows, list(failures.values()), written=_now())
    columns = ("participant_id", "session_id", "hemi", "label", "volume_mm3", "level", "model")
    write_tsv(layout.volumes, columns, volumes)
    return damaged


def _gather(layout: OutputLayout, session: SessionLayout) -> SessionPart | Failure:
    """A session's part of the page; where its files are damaged, that as a failure."""
    try:
        return gather_session(layout, session)
    except (HippoTuneError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError) as error:
        words = f"its files in OUTPUT_DIR are damaged ({type(error).__name__}: {error}): run participant again."
        log.warning("%s: %s", session.name, words)
        return Failure(session.participant, session.session, words, "")


def gather_session(layout: OutputLayout, session: SessionLayout) -> SessionPart:
    """What the pages say of a session; raises whatever damaged files lead to."""
    crops = {
        (side, modality): facts
        for side in SIDES
        for modality in MODALITIES
        if (facts := read_facts(session.crop(side, modality)))
    }
    if not crops:
        raise BadDataError("no crop fits its sidecar")
    predictions = _predictions(session)
    uneven = judge_symmetry({side: facts["hippocampus_mm3"] or 0.0 for side, facts in predictions.items()})
    scans = {modality: facts for (_, modality), facts in crops.items()}
    return SessionPart(
        session=session.session,
        scans=tuple(_scan_part(session, modality, facts) for modality, facts in scans.items()),
        sides=tuple(
            _side_part(layout, session, side, [m for s, m in crops if s == side], predictions.get(side), uneven)
            for side in SIDES
            if any(s == side for s, _ in crops)
        ),
        left_aside=tuple(dict.fromkeys(path for facts in scans.values() for path in facts["left_aside"])),
    )


def _predictions(session: SessionLayout) -> dict[Side, Facts]:
    return {side: facts for side in SIDES if (facts := read_facts(session.prediction(side)))}


def _scan_part(session: SessionLayout, modality: Modality, facts: Facts) -> ScanPart:
    head = session.head_picture(modality)
    return ScanPart(
        modality=modality,
        path=facts["scan"],
        warnings=tuple(facts["warnings"]),
        facts=tuple(facts["scanner"].items()),
        registration=_judgements(facts["registration"]),
        head=head if facts["registration"].get("judgements") else None,
    )


def _side_part(
    layout: OutputLayout,
    session: SessionLayout,
    side: Side,
    modalities: Iterable[Modality],
    prediction: Facts | None,
    uneven: tuple[Judgement, ...],
) -> SidePart:
    person, visit = session.participant, session.session
    inside = layout.root
    files = SideFiles(
        crops=tuple(_relative(session.crop(side, modality), inside) for modality in modalities),
        prediction=_relative(session.prediction(side), inside) if prediction else None,
        label_file=_relative(session.label_colours(side), inside) if prediction else None,
        correction=_relative(layout.manual_label(person, visit, side), inside),
    )
    return SidePart(
        hemi=side,
        files=files,
        pictures=tuple(
            CropPictures(
                modality,
                {plane: session.plane_picture(side, modality, plane) for plane in PLANES},
                session.slices_picture(side, modality),
            )
            for modality in modalities
        ),
        judgements=(*_judgements(prediction), *uneven) if prediction else (),
        volumes=_volumes(session, side, prediction) if prediction else (),
        model=ModelPart(prediction["model"], prediction["model_sha256"]) if prediction else None,
        review=persons_work(layout, read_review_table(layout.review_table), person, visit, side),
    )


def _volumes(session: SessionLayout, side: Side, prediction: Facts) -> tuple[LabelVolume, ...]:
    colours = label_colours(int(value) for value in prediction["labels"])
    return tuple(
        LabelVolume(
            int(row.cells["index"]),
            row.cells["name"],
            colours[int(row.cells["index"])],
            int(row.cells["voxels"]),
            None if row.cells["volume_mm3"] == "n/a" else float(row.cells["volume_mm3"]),
        )
        for row in read_tsv(label_names(session.prediction(side)), ("index", "name", "voxels", "volume_mm3"))
    )


def _judgements(facts: Mapping[str, Any]) -> tuple[Judgement, ...]:
    return tuple(Judgement(**one) for one in facts.get("judgements", ()))


def _failures(layout: OutputLayout, pattern: str) -> list[Failure]:
    """What is recorded of sessions that failed; a record that is damaged, or gone meanwhile, is passed over."""
    found = []
    for path in sorted(layout.failures.glob(f"{pattern}json")) if layout.failures.is_dir() else ():
        try:
            content = read_json(path)
            reason = f"{content['reason']} {content['hint']}".strip()
            found.append(Failure(content["participant"], content["session"], reason, content["log"]))
        except (HippoTuneError, KeyError, TypeError) as error:
            log.warning("%s is passed over: %s", path, error)
    return found


def _versions(sessions: Iterable[SessionLayout]) -> dict[str, str]:
    """Of the newest session's files."""
    versions: dict[str, str] = {}
    for session in sessions:
        for side in SIDES:
            images = [*(session.crop(side, modality) for modality in MODALITIES), session.prediction(side)]
            for facts in filter(None, map(read_facts, images)):
                versions |= {name: str(facts[key]) for name, key in _PROGRAMS.items() if key in facts}
    return versions


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M")
