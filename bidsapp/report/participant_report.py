"""sub-XX.html: was the head found, what was segmented, what looks suspicious, and how to correct it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bidsapp.corobl.quality import LEVELS, Judgement, Level, worst_level
from bidsapp.files import write_text
from bidsapp.layout import OutputLayout, SessionLayout
from bidsapp.pictures.drawing import ORIENTATION, SIDE_COLOURS, Picture
from bidsapp.pictures.heads import HIPPOCAMPUS_COLOUR
from bidsapp.records import Side
from bidsapp.report.pages import number_text, render_page
from bidsapp.report.picture_files import read_picture

SHORT_HASH = 12
SIDE_NAMES: Mapping[Side, str] = {"L": "left", "R": "right"}
MEANINGS: Mapping[Level, str] = {
    "green": "every measure is as in good results",
    "amber": "something is unusual: look at the pictures before you use it",
    "red": "something is probably wrong: do not use it unless you have looked and found it right",
}


@dataclass(frozen=True)
class Concern:
    """Something that is not green: where, and in words what."""

    level: Level
    place: str
    words: str


@dataclass(frozen=True)
class Failure:
    """A session without results of this run."""

    participant: str
    session: str | None
    reason: str
    """What went wrong and what to do, in words."""
    log: str
    """Path of the log file, relative to OUTPUT_DIR."""

    @property
    def name(self) -> str:
        """``sub-01`` or ``sub-01_ses-1``."""
        return session_name(self.participant, self.session)


@dataclass(frozen=True)
class ScanPart:
    """A scan and its registration."""

    modality: str
    """``T1w`` or ``T2w``."""
    path: str
    """Of the scan, or of the ready-made crops, as the person who reads the page knows it."""
    warnings: tuple[str, ...] = ()
    """What is odd about the file's header, in words."""
    facts: tuple[tuple[str, str], ...] = ()
    """(name, text) of what the sidecar says, e.g. the manufacturer."""
    registration: tuple[Judgement, ...] = ()
    """Judgements; none for ready-made crops."""
    head: Path | None = None
    """The picture of the head with the crop boxes; None for ready-made crops."""


@dataclass(frozen=True)
class LabelVolume:
    """Size of one label; `volume_mm3` in the person's own head, None where the transform is not known."""

    value: int
    name: str
    colour: str
    voxels: int
    volume_mm3: float | None


@dataclass(frozen=True)
class ModelPart:
    """The network that segmented; `digest` is the SHA-256 of its archive."""

    name: str
    digest: str


@dataclass(frozen=True)
class CropPictures:
    """Pictures of one crop, as PNG files."""

    modality: str
    """Of the crop."""
    planes: Mapping[str, Path]
    """plane -> file: ``sagittal``, ``coronal``, ``axial``, drawn to one scale."""
    slices: Path
    """Coronal slices from front to back."""


@dataclass(frozen=True)
class SideFiles:
    """What ITK-SNAP opens, relative to OUTPUT_DIR with forward slashes."""

    crops: tuple[str, ...]
    """The crop of each modality."""
    prediction: str | None
    """None where nothing was segmented."""
    label_file: str | None
    """Names and colours of the labels."""
    correction: str
    """Where a person saves a label map."""


@dataclass(frozen=True)
class SidePart:
    """One hippocampus."""

    hemi: Side
    files: SideFiles
    pictures: tuple[CropPictures, ...]
    judgements: tuple[Judgement, ...] = ()
    """Of the segmentation."""
    volumes: tuple[LabelVolume, ...] = ()
    model: ModelPart | None = None
    """None: crops only."""
    review: str | None = None
    """What a person did or decided, in words; None: nothing yet."""

    @property
    def level(self) -> Level:
        """The worst level of all judgements."""
        return worst_level(self.judgements)

    @property
    def title(self) -> str:
        """``left hippocampus``."""
        return f"{SIDE_NAMES[self.hemi]} hippocampus"


@dataclass(frozen=True)
class SessionPart:
    """One session."""

    session: str | None
    """Label without ``ses-``; None where the data set has no sessions."""
    scans: tuple[ScanPart, ...]
    sides: tuple[SidePart, ...]
    left_aside: tuple[str, ...] = ()
    """Paths of other scans that were not used."""

    @property
    def level(self) -> Level:
        """The worst level of all judgements."""
        found = [judgement for scan in self.scans for judgement in scan.registration]
        return worst_level((*found, *(judgement for side in self.sides for judgement in side.judgements)))

    @property
    def concerns(self) -> tuple[Concern, ...]:
        """Everything that is not green, worst first."""
        judged = [
            *((f"registration of the {scan.modality}", scan.registration) for scan in self.scans),
            *((side.title, side.judgements) for side in self.sides),
        ]
        found = [Concern(one.level, place, one.words) for place, ones in judged for one in ones if one.level != "green"]
        return tuple(sorted(found, key=lambda one: -LEVELS.index(one.level)))

    @property
    def anchor(self) -> str:
        """Where the session begins on the page."""
        return session_anchor(self.session)


@dataclass(frozen=True)
class ParticipantPage:
    """Everything that the page of one person says."""

    participant: str
    """Label without ``sub-``."""
    written: str
    """When, as the page shows it."""
    versions: Mapping[str, str]
    """program -> version."""
    sessions: tuple[SessionPart, ...]
    failures: tuple[Failure, ...] = ()
    """Sessions of this person that failed in the newest run."""

    @property
    def level(self) -> Level:
        """The worst level of all sessions."""
        return max((session.level for session in self.sessions), key=LEVELS.index, default="green")


@dataclass(frozen=True)
class _Shown:
    """A picture, or None where its file is missing, and its file's name."""

    picture: Picture | None
    file: str


def write_participant_page(path: Path, page: ParticipantPage) -> None:
    """Write the page; opens offline, loads nothing. A picture whose file is missing is said to be missing.

    Raises
    ------
    CannotWriteError
        When `path` cannot be written.
    """
    write_text(path, render_participant_page(page))


def render_participant_page(page: ParticipantPage) -> str:
    """The page as HTML."""
    return render_page(
        "participant.html.j2",
        {
            "report": page,
            "name": session_name(page.participant, None),
            "headlines": _headlines(page),
            "concerns": [(session, one) for session in page.sessions for one in session.concerns],
            "several": len(page.sessions) + len(page.failures) > 1,
            "meanings": MEANINGS,
            "shown": _show,
            "look": itksnap_line,
            "correct": correction_lines,
            "total": _total_volume,
            "number": number_text,
            "value_text": _value_text,
            "worst_first": _worst_first,
            "side_colours": SIDE_COLOURS,
            "hippocampus_colour": HIPPOCAMPUS_COLOUR,
            "orientation": ORIENTATION,
            "review_table": OutputLayout(Path()).review_table.as_posix(),
            "index": OutputLayout(Path()).index.name,
            "short_hash": SHORT_HASH,
        },
    )


def session_name(participant: str, session: str | None) -> str:
    """``sub-01`` or ``sub-01_ses-1``."""
    return SessionLayout(Path(), participant, session).name


def session_anchor(session: str | None) -> str:
    """The name of a session's place on the page of its person."""
    return f"ses-{session}" if session else "session"


def itksnap_line(files: SideFiles) -> str:
    """The shell line that shows the crops, and the prediction where there is one; to be run in OUTPUT_DIR."""
    return _itksnap(files, files.prediction)


def correction_lines(files: SideFiles) -> tuple[str, ...]:
    """Shell lines that open a copy of the prediction in the place of the correction, so that saving goes there.

    A correction that is there already is opened as it is. Without a prediction, only the folder is made.
    """
    folder = f"mkdir -p {shlex.quote(PurePosixPath(files.correction).parent.as_posix())}"
    if files.prediction is None:
        return folder, _itksnap(files, None)
    copy = f"cp -n {shlex.quote(files.prediction)} {shlex.quote(files.correction)}"
    return f"{folder} && {copy}", _itksnap(files, files.correction)


def _itksnap(files: SideFiles, labels: str | None) -> str:
    words = ["itksnap", "-g", *files.crops[:1]]
    if files.crops[1:]:
        words += ["-o", *files.crops[1:]]
    if labels is not None:
        words += ["-s", labels]
    if files.label_file is not None:
        words += ["-l", files.label_file]
    return shlex.join(words)


def _headlines(page: ParticipantPage) -> list[tuple[str, str]]:
    """(colour, sentence): what failed, and what to think of the rest."""
    failed = [("failed", f"Failed: {one.name} has no results of the newest run") for one in page.failures]
    return [*failed, (page.level, _verdict(page))] if page.sessions else failed


def _verdict(page: ParticipantPage) -> str:
    if page.level == "green":
        return "Green: nothing suspicious"
    several = len(page.sessions) + len(page.failures) > 1
    places = [
        f"{session_anchor(session.session)}, {one.place}" if several else f"the {one.place}"
        for session in page.sessions
        for one in session.concerns
        if one.level == page.level
    ]
    what = _enumerate(dict.fromkeys(places))
    return f"Amber: look at {what}" if page.level == "amber" else f"Red: do not use unseen: {what}"


def _enumerate(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _worst_first(judgements: Iterable[Judgement]) -> list[Judgement]:
    return sorted(judgements, key=lambda one: -LEVELS.index(one.level))


def _value_text(value: float) -> str:
    """A measure of any size with about four digits."""
    return number_text(value, 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0)


def _show(path: Path | None, alt: str) -> _Shown:
    return _Shown(read_picture(path, alt), path.name if path else "")


def _total_volume(volumes: tuple[LabelVolume, ...]) -> float | None:
    found = [one.volume_mm3 for one in volumes if one.volume_mm3 is not None]
    return sum(found) if len(found) == len(volumes) else None
