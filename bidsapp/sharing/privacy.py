"""What must not leave the house, looked for in everything that a model's archive holds.

Nothing is unpickled: of a checkpoint every string that its pickle spells is read. People, paths, hosts, users and
dates are looked for wherever text is; files and fields that an export has no use for are leaks by being there.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import pickletools
import re
import socket
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from bidsapp.errors import BadDataError
from bidsapp.files import int_or_text, parse_json
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.split import read_split
from bidsapp.model_dir.state import ModelState

LeakKind = Literal[
    "person", "path", "host", "user", "date", "e-mail", "free text", "unexpected file", "cannot be searched"
]

SHORTEST_BARE_LABEL = 5  # 01 is in every file
SHORTEST_NAME = 3
SHORTEST_IN_BINARY = 8  # shorter ones turn up in weights by chance
MAX_DEPTH = 3  # a zip in a zip
MAX_SHOWN = 120
MAX_WORDS = 4
MAX_LABEL_NAME = 60

EXPECTED_FILES = (
    "Dataset*/hippotune.json", "Dataset*/MODEL_CARD.md", "Dataset*/CITATION.cff",
    "Dataset*/*/plans.json", "Dataset*/*/dataset.json", "Dataset*/*/fold_*/checkpoint_*.pth",
)  # fmt: skip
SENTENCES = {
    "hippotune.json": frozenset(
        {"license", "labels", "labels_from", "space", "title", "authors", "parents", "leakage", "pairs"}
    ),
    "dataset.json": frozenset({"labels", "channel_names"}),
}
FIELDS = {
    "dataset.json": frozenset({
        "name", "channel_names", "labels", "regions_class_order", "numTraining", "file_ending",
        "overwrite_image_reader_writer",
    }),
}  # fmt: skip
WRITTEN_TO_BE_READ = (".md", ".cff")  # prose, by `bidsapp.sharing.share`

# Words of the format itself: a person, host or user of such a name cannot be found.
_FORMAT_TEXT = """
activation admin ancestors anterior approvals approved arch architecture as_predicted authors axes background backward
batch best bias bool channel channels checkpoint citation class config configuration configurations conv corrected data
dataset default dice differ docker drawn dropout ending eps experiment file final fingerprints float fold folds
foreground forward fullres headers hippocampus hippotune identifier image imported init inplace instance int intensity
iterations json kernel kinds kwargs label label_kinds labels license localhost manager mask max mean median min
mirroring modality mode model name names network nnunet nnunetv2 nobody node none nonlin norm normalization numpy order
ordered pairs patch people percentile pickle plain planner plans posterior predicted preprocessor python raters reader
resampling residual reviewed root runner salt scheme schemes scratch seg segmentation session sha256 shape sides size
space spacing stage stages std storage stored strides tensor test title torch train trainer training transpose true
turned ubuntu unet unknown used user users validation version weights worker writer zip
"""
FORMAT_WORDS = frozenset(_FORMAT_TEXT.split())


@dataclass(frozen=True)
class Leak:
    """One thing that must not leave."""

    place: str
    """File (inside which file), and the field where there are fields."""
    kind: LeakKind
    text: str
    """What was found there, cut where it is long."""

    def __str__(self) -> str:
        return f"{self.place}: {self.kind} {self.text!r}"


@dataclass(frozen=True)
class KnownSecrets:
    """What is known of the people of a model and of this machine."""

    people: frozenset[str] = frozenset()
    """Ids of people and names of their pairs, with or without ``sub-``."""
    hosts: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    """Folders of this machine, as text."""

    def without(self, words: Iterable[str]) -> KnownSecrets:
        """The same but for hosts and users that are published on purpose, as authors are."""
        public = {word.casefold() for word in words}
        return replace(
            self,
            hosts=frozenset(host for host in self.hosts if host.casefold() not in public),
            users=frozenset(user for user in self.users if user.casefold() not in public),
        )


def known_secrets(layout: ModelLayout, state: ModelState | None) -> KnownSecrets:
    """The people of a model (state.json and split.tsv), this machine, its user, and the folder of the model."""
    people: set[str] = set()
    if state is not None:
        people |= (
            set(state.split.people) | set(state.inherited.people) | set(state.image_people.values()) | set(state.cases)
        )
        people |= {case.participant for case in state.cases.values()}
    if layout.split.is_file():
        people |= set(read_split(layout.split).people)
    root = layout.root.absolute()
    paths = {str(path) for path in (root, root.resolve(), *_home())}
    return KnownSecrets(
        frozenset(people), _hosts(), _users(), frozenset(path for path in paths if len(PurePosixPath(path).parts) > 1)
    )


def _hosts() -> frozenset[str]:
    name = socket.gethostname()
    return frozenset(one for one in (name, name.partition(".")[0], os.environ.get("HOSTNAME", "")) if one)


def _users() -> frozenset[str]:
    """Login names and the full name; an id without an entry in the system's table has none."""
    names = {os.environ.get(key, "") for key in ("USER", "LOGNAME", "USERNAME", "LNAME")}
    try:
        import pwd

        entry = pwd.getpwuid(os.getuid())
        names |= {entry.pw_name, entry.pw_gecos.partition(",")[0]}
    except (ImportError, KeyError):
        with contextlib.suppress(OSError, KeyError, ImportError):
            names.add(getpass.getuser())
    return frozenset(name for name in names if name)


def _home() -> tuple[Path, ...]:
    try:
        home = Path.home()
    except RuntimeError:
        return ()
    return (home,) if home.is_absolute() else ()


def scan_for_leaks(files: Mapping[str, bytes], known: KnownSecrets) -> tuple[Leak, ...]:
    """Search files, their names, the members of zips and checkpoints, and comments of zips.

    Parameters
    ----------
    files
        Name -> content. A zip is searched inside, its files being held to those that an export has.

    Returns
    -------
    tuple of Leak
        In the order of the files, each once; empty: none was found.
    """
    search = _Search(known)
    found = [leak for name, content in files.items() for leak in search.file(name, name, content, 0)]
    return tuple(dict.fromkeys(found))


def scan_archive(archive: Path, known: KnownSecrets) -> tuple[Leak, ...]:
    """Search an exported model, its own name included."""
    return scan_for_leaks({archive.name: archive.read_bytes()}, known)


class _Search:
    """Looks for what `known` holds, and for any path, date or e-mail address."""

    def __init__(self, known: KnownSecrets) -> None:
        self._patterns: tuple[tuple[LeakKind, re.Pattern[str]], ...] = tuple(_patterns(known))
        long_enough = (known.people | known.paths | known.hosts | known.users) - FORMAT_WORDS
        self._in_binary = tuple(sorted(one for one in long_enough if len(one) >= SHORTEST_IN_BINARY))

    def file(self, name: str, place: str, content: bytes, depth: int) -> Iterator[Leak]:
        """Leaks of one file and of its name."""
        yield from self.text(name, f"the name of {place}")
        if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            yield from self._zip(name, place, content, depth)
        elif name.endswith(".json"):
            yield from self._json(PurePosixPath(name).name, place, content)
        elif name.endswith(".pkl") or (depth == 0 and content.startswith(b"\x80")):  # deeper: tensors, any bytes
            yield from self._pickle(place, content)
        else:
            yield from self._anything(name, place, content)

    def _zip(self, name: str, place: str, content: bytes, depth: int) -> Iterator[Leak]:
        if depth >= MAX_DEPTH:
            yield Leak(place, "cannot be searched", "zips in zips in zips")
            return
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as packed:
                yield from self._bytes(packed.comment, f"the comment of {place}")
                for info in packed.infolist():
                    inside = f"{info.orig_filename} in {place}"
                    yield from self._bytes(info.comment, f"the comment of {inside}")
                    yield from self._bytes(info.extra, f"the extra field of {inside}")
                    if name.endswith(".zip") and not _is_expected(info.filename):
                        yield Leak(place, "unexpected file", info.filename)
                    yield from self.file(info.orig_filename, inside, packed.read(info), depth + 1)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
            yield Leak(place, "cannot be searched", str(error))

    def _json(self, name: str, place: str, content: bytes) -> Iterator[Leak]:
        try:
            parse_json(content, place, strict=False)
            pairs = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_Pairs, parse_int=int_or_text)
        except BadDataError:
            yield Leak(place, "cannot be searched", "not JSON in UTF-8")
            yield from self._bytes(content, place)
            return
        allowed = FIELDS.get(name)
        if allowed is not None and isinstance(pairs, _Pairs):
            for key, _ in pairs:
                if key not in allowed:
                    yield Leak(f"{place}, {key}", "free text", "a field that an export does not have")
        for where, key, value in _walk(pairs):
            inside = f"{place}, {where}" if where else place
            if isinstance(value, str):
                yield from self.text(value, inside)
                sentence = where.partition(".")[0] in SENTENCES.get(name, frozenset())
                if (not sentence and _is_free_text(value)) or (name == "dataset.json" and len(value) > MAX_LABEL_NAME):
                    yield Leak(inside, "free text", _shorten(value))
            elif isinstance(value, (int, float)) and re.search("date|birth", key, re.IGNORECASE):
                yield Leak(inside, "date", str(value))

    def _pickle(self, place: str, content: bytes) -> Iterator[Leak]:
        """Every string of every pickle in a row, whether it is used or not."""
        stream = io.BytesIO(content)
        try:
            while stream.tell() < len(content):
                for opcode, argument, _ in pickletools.genops(stream):
                    if isinstance(argument, (bytes, bytearray)):
                        yield from self._bytes(bytes(argument), place)
                    elif isinstance(argument, str):
                        yield from self.text(argument, place)
                        if opcode.name not in ("GLOBAL", "INST") and _is_free_text(argument):
                            yield Leak(place, "free text", _shorten(argument))
        except (ValueError, IndexError, OverflowError) as error:
            yield Leak(place, "cannot be searched", f"a damaged pickle: {error}")
            yield from self._bytes(content, place)

    def _anything(self, name: str, place: str, content: bytes) -> Iterator[Leak]:
        text = _decode(content)
        if text is None:
            yield from self._bytes(content, place)
            return
        yield from self.text(text, place)
        if not name.endswith(WRITTEN_TO_BE_READ) and _is_free_text(text):
            yield Leak(place, "free text", _shorten(text))

    def _bytes(self, content: bytes, place: str) -> Iterator[Leak]:
        """Text if it is text, else what is known and long enough not to turn up by chance."""
        text = _decode(content)
        if text is not None:
            yield from self.text(text, place)
            return
        for secret in self._in_binary:
            for encoding in ("utf-8", "utf-16-le"):
                if secret.encode(encoding) in content:
                    yield Leak(place, "cannot be searched", f"binary data that holds {secret}")
                    break

    def text(self, text: str, place: str) -> Iterator[Leak]:
        """Leaks in a text."""
        readable = _without_hashes(text)
        for kind, pattern in self._patterns:
            for match in pattern.finditer(readable):
                yield Leak(place, kind, _shorten(match[0]))


def _is_expected(name: str) -> bool:
    path = PurePosixPath(name)
    return any(len(path.parts) == one.count("/") + 1 and path.match(one) for one in EXPECTED_FILES)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its keys, those that stand twice included."""


def _walk(value: object, where: str = "", key: str = "") -> Iterator[tuple[str, str, object]]:
    """(where, nearest key, value) of every value and every key."""
    if isinstance(value, _Pairs):
        for name, one in value:
            yield f"{where}.{name}".lstrip("."), "", name
            yield from _walk(one, f"{where}.{name}".lstrip("."), name)
    elif isinstance(value, list):
        for one in value:
            yield from _walk(one, where, key)
    else:
        yield where, key, value


def _decode(content: bytes) -> str | None:
    """Text in UTF-8 or UTF-16; None for anything else."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _is_free_text(text: str) -> bool:
    return len(text.split()) > MAX_WORDS


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def _without_hashes(text: str) -> str:
    """Checksums hold every date sooner or later."""
    return re.sub(r"(?<![0-9A-Za-z])[0-9a-f]{32,}(?![0-9A-Za-z])", "-", text)


_WORD_END = r"(?![a-z0-9]|[A-Z](?![a-z]))"  # a capital begins the next word: Sub01Model
POSIX_PATH = (
    r"(?<![\w/.<*)\]}~$%-])/(?![/\s])(?:"
    r"(?:home|Users|root|data\d*|mnt|media|scratch|tmp|var|opt|srv|work|project|projects|lustre|gpfs|nfs|export)\b"
    r"|[\w.+@-]+/[\w.+@-])[^\s\"'<>|,;]*"
)
WINDOWS_PATH = r"(?<![A-Za-z0-9])[A-Za-z]:(?:\\|/(?!/))[^\s\"'<>|]*"
UNC_PATH = r"\\\\[\w.-]+\\[\w$.-]+|(?<![:\w/])//[\w.-]+/[\w$.-]+|file://\S+"
_MONTH, _DAY, _YEAR = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])", r"(?:19|20)\d\d"
DATES = (
    rf"(?<!\d){_YEAR}([-/._]){_MONTH}\1{_DAY}(?!\d)"
    rf"|(?<!\d)(?:{_DAY}[./]{_MONTH}|{_MONTH}/{_DAY})[./]{_YEAR}(?!\d)"
    rf"|(?<![\d.])(?<!records/)(?<!dev)(?<!\+d){_YEAR}{_MONTH}{_DAY}(?:[T_-]?(?:[01]\d|2[0-3])[0-5]\d[0-5]\d(?:\.\d+)?)?(?!\d)"
)
EMAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"


def _patterns(known: KnownSecrets) -> Iterator[tuple[LeakKind, re.Pattern[str]]]:
    yield "person", re.compile(r"(?<![A-Za-z0-9])sub-(?=[A-Za-z]*\d)[A-Za-z0-9]+")
    labels = sorted({person.removeprefix("sub-") for person in known.people} - {""}, key=len, reverse=True)
    if labels:
        yield "person", re.compile(rf"(?:(?<![A-Za-z])sub|Sub|(?<![A-Za-z])SUB)[-_ ]?(?:{_any_label(labels)})")
    bare = [one for one in labels if len(one) >= SHORTEST_BARE_LABEL and one.casefold() not in FORMAT_WORDS]
    if bare:
        yield "person", re.compile("|".join(map(_whole_word, bare)))
    yield "path", re.compile(POSIX_PATH)
    yield "path", re.compile(rf"\A/[^/\s<>][^<>\n]*\Z|(?<![\w/])~\w*/\w\S*|{WINDOWS_PATH}|{UNC_PATH}")
    if known.paths:
        yield "path", re.compile(rf"(?<![\w/])(?:{_any(sorted(known.paths, key=len, reverse=True))})(?![\w])")
    for kind, names in (("host", known.hosts), ("user", known.users)):
        telling = [one for one in sorted(names) if len(one) >= SHORTEST_NAME and one.casefold() not in FORMAT_WORDS]
        if telling:
            yield kind, re.compile(rf"(?<![A-Za-z0-9])(?i:{_any(telling)})(?![A-Za-z0-9])")  # type: ignore[misc]
    yield "date", re.compile(DATES)
    yield "e-mail", re.compile(EMAIL)


def _any(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, texts))


def _any_label(labels: Iterable[str]) -> str:
    """Labels behind ``sub``; one that ends in a digit ends there, whatever is glued to it: sub003net."""
    return "|".join(re.escape(label) + (r"(?!\d)" if label[-1].isdigit() else _WORD_END) for label in labels)


def _whole_word(label: str) -> str:
    """A label as a word of its own, where a capital begins a word too: VoxelsP0123Net."""
    begin = "(?:(?<![A-Za-z0-9])|(?<=[a-z]))" if label[0].isupper() else "(?<![A-Za-z0-9])"
    return begin + re.escape(label) + _WORD_END
