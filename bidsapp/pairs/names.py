"""Read ids of pairs by sense: which side they show, and which of them are one person. Decided for a whole folder.

Names of other people's pairs: ``hcp_165032_hemiR`` and ``hcp_100206L`` (HippUnfold's training recipes),
``T1_sub132118_hemiL`` (Hippocampal_AutoTop), ``132118_left``, ``lh_100206``, ``100206_R``, ``P07_m12_left``,
``7_LHipp``, ``OAS1_0061_MR2``, ``sub1_20200101``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from bidsapp.printable import people_text
from bidsapp.records import Hemi

_SEPARATORS = "_-. "
_PERSON = re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9+]+")
_HEMI_ENTITY = re.compile(
    r"(?<![A-Za-z])hemi(?:(?:sphere)?[-_]?(?P<side>Lflip|left|right|[LR])(?![A-Za-z0-9])|-(?P<other>[A-Za-z0-9]+))",
    re.IGNORECASE,
)
_HEMI_BY_BIDS = re.compile(r"(?<![A-Za-z0-9])hemi-[A-Za-z0-9]+")
_SIDE_WORD = re.compile(
    r"(?<![A-Za-z])(?P<side>(?:left|l)[-_]?flip(?:ped)?|left|right|lh|rh)(?![A-Za-z])", re.IGNORECASE
)
_LETTERS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        "last": r"[_\-. ](?P<side>[LR])$",
        "first": r"^(?P<side>[LR])(?=[_\-. ])",
        "inner": r"(?<=[_\-. ])(?P<side>[LR])(?=[_\-. ])",
        "behind": r"(?<=[0-9])(?P<side>[LR])(?![A-Za-z0-9])",
        "before": r"(?<![A-Za-z0-9])(?P<side>[LR])(?=[0-9])",
        "in a word": r"(?P<side>left|right)",
        "before a word": r"(?<![A-Za-z0-9])(?P<side>[LR])(?=(?-i:[A-Z]))",
        "behind a word": r"(?<=(?-i:[a-z]))(?P<side>(?-i:[LR]))(?![A-Za-z])",
    }.items()
}
"""Where a letter, or a word within a word, may stand for a side, in the order in which they are believed."""

_ONLY_OF_BOTH = ("before", "in a word", "before a word", "behind a word")
"""Places that need somebody with both sides: ``L001``, ``leftHippo``, ``LHipp`` and ``hippoL`` may name people."""

_MODALITY_WORD = "(?:hipp)?b(?:500|700|1000)|(?:seg)?T[12]w?(?:T[12]w?)?|FLAIR|PDw?"
_MODALITY = re.compile(
    rf"^(?i:{_MODALITY_WORD})[_\-. ]+(?=.)|(?<=[A-Za-z0-9])[_\-. ]+(?:{_MODALITY_WORD})(?![A-Za-z0-9])"
)
_SESSION = re.compile(
    r"(?<=[A-Za-z0-9])[_\-. ]+(?:ses-[A-Za-z0-9]+|(?:ses(?:sion)?|visit|tp|time(?:point)?|scan|run|wave|fu|follow-?up)"
    r"[-_ ]?[0-9]{1,3}|bl|baseline)(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_PERHAPS_SESSION = re.compile(r"(?<=[A-Za-z0-9])[_\-. ]+((?:[tmvywd]|mr)[0-9]{1,2})(?![A-Za-z0-9])", re.IGNORECASE)
_DATE = re.compile(
    r"(?<=[A-Za-z0-9])[_\-. ]+(?:19|20)[0-9]{2}[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12][0-9]|3[01])"
    r"(?:T[0-9]{4,6})?(?![A-Za-z0-9])"
)
_DIFFERENCES = ("side", "session", "modality", "letter case")
_MOST_SESSIONS = 6
"""Of one person: more different words like ``m07`` than this, and than people, are taken for people; and so are more
dates than this."""


@dataclass(frozen=True)
class Name:
    """What an id says."""

    participant: str
    """The person."""
    hemi: Hemi = "n/a"
    """The side, ``n/a`` when the id does not say."""
    flipped: bool = False
    """The id says that a left side was flipped (``Lflip``)."""
    problem: str = ""
    """What is wrong with its word for the side."""
    left_out: frozenset[str] = field(default_factory=frozenset)
    """What the ids of the person may differ by: one of `_DIFFERENCES` each."""


def read_names(cases: Iterable[str], known: Collection[str] = ()) -> dict[str, Name]:
    """Read the ids of one folder together; gives id -> what it says.

    Words for sides always count. A single L or R counts where both occur in that place, and either somebody has
    both or everybody has one; within a word, as in ``leftHippo``, ``LHipp`` and ``hippoL``, where somebody has both.
    Whatever else ids of one person may differ by (sessions, dates, words for modalities) is left out of the person's
    name, unless nothing would be left. Names that differ by small and capital letters only are one person, who is
    called by the first of them; of two ``sub-<label>`` each is a person, as BIDS has it.

    Parameters
    ----------
    known
        People who have a place in a split. They keep their names, and so do others of the same person.
    """
    cases = tuple(cases)
    sides = {case: _worded_side(case) for case in cases}
    for case, found in _lettered_sides([case for case in cases if sides[case] is None]).items():
        sides[case] = found
    names = {case: _name(case, side) for case, side in sides.items()}
    return _keep_known(_alike_in_case(_without_sessions(_without_dates(names)), known), known)


def plain_participant(case: str) -> str:
    """The person as HippoTune 0.1.0 read it: ``sub-<label>``, else the id without its ``hemi-`` entity."""
    match = _PERSON.search(case)
    if match:
        return match[0]
    without_side = "_".join(part for part in case.split("_") if not _HEMI_BY_BIDS.fullmatch(part))
    return without_side or case


def say_grouping(names: Mapping[str, Name], *, example: bool = False) -> str:
    """That ids are one person though they are called otherwise, in one line; ``""`` when every id says so itself.

    With an `example` it names somebody, and the way out.
    """
    people = defaultdict(list)
    for case, name in names.items():
        people[name.participant].append(case)
    grouped = {person: cases for person, cases in people.items() if len({*map(plain_participant, cases)}) > 1}
    if not grouped:
        return ""
    left_out = frozenset[str]().union(*(names[case].left_out for cases in grouped.values() for case in cases))
    words = " and ".join(word for word in _DIFFERENCES if word in left_out)
    person, cases = next(iter(sorted(grouped.items())))
    grouping = f"{len(names)} ids are {people_text(len(people))}: they differ by the {words} only"
    shown = f" ({', '.join(sorted(cases)[:3])} are {person}; --participant-pattern says otherwise)"
    return grouping + shown * example


def people_kept_apart(names: Mapping[str, Name]) -> list[tuple[str, ...]]:
    """Names of people in a split that are one person by sense: nobody can tell them apart."""
    by_sense: dict[str, set[str]] = defaultdict(set)
    for case, name in read_names(names).items():
        by_sense[name.participant].add(names[case].participant)
    return [tuple(sorted(people)) for _, people in sorted(by_sense.items()) if len(people) > 1]


@dataclass(frozen=True)
class _Word:
    """A word for a side in an id, from `start` to `end`."""

    side: str
    start: int
    end: int


def _worded_side(case: str) -> _Word | None:
    for pattern in (_HEMI_ENTITY, _SIDE_WORD):
        match = pattern.search(case)
        if match:
            return _Word(match["side"] or match["other"], *match.span())
    return None


def _lettered_sides(cases: Collection[str]) -> dict[str, _Word]:
    """Letters, and words within words, that stand for sides, of ids without a word for one."""
    found: dict[str, _Word] = {}
    for place, pattern in _LETTERS.items():
        here = {}
        for case in cases:
            match = pattern.search(case) if case not in found else None
            if match:
                here[case] = _Word(match["side"], *match.span("side"))
        if len({_side(word.side) for word in here.values()}) < 2:
            continue
        stems = [_cut(case, word).casefold() for case, word in here.items()]
        everybody = len(here) == len(cases) and place not in _ONLY_OF_BOTH
        if everybody or len(set(stems)) < len(stems):
            found |= here
    return found


def _name(case: str, word: _Word | None) -> Name:
    hemi, flipped = _side(word.side) if word else ("n/a", False)
    problem = ""
    if word is not None and hemi == "n/a":
        problem = f"has hemi-{word.side} in its id, not hemi-R, hemi-L or hemi-Lflip"
    stem = _cut(case, word) if word else case
    left_out = frozenset({"side"} if word else ())
    person = _PERSON.search(stem)
    if person:
        return Name(person[0], hemi, flipped, problem, left_out | {"session", "modality"})
    name = _less(Name(stem or case, hemi, flipped, problem, left_out), _MODALITY, "modality")
    return _less(name, _SESSION, "session")


def _side(word: str) -> tuple[Hemi, bool]:
    plain = word.lower()
    if "flip" in plain:
        return "L", True
    sides: dict[str, Hemi] = {"l": "L", "left": "L", "lh": "L", "r": "R", "right": "R", "rh": "R"}
    return sides.get(plain, "n/a"), False


def _less(name: Name, pattern: re.Pattern[str], what: str) -> Name:
    """The name of a person without what ids of one person may differ by."""
    if name.participant.startswith("sub-"):
        return name
    shorter = pattern.sub("", name.participant)
    return replace(name, participant=shorter, left_out=name.left_out | {what}) if shorter != name.participant else name


def _without_sessions(names: Mapping[str, Name]) -> dict[str, Name]:
    """Take words like ``t1`` and ``m12`` off the names of people, where they are sessions."""
    shorter = {case: _less(name, _PERHAPS_SESSION, "session") for case, name in names.items()}
    changed = [case for case, name in names.items() if shorter[case] != name]
    stems = {shorter[case].participant for case in changed}
    sessions = {word.lower() for case in changed for word in _PERHAPS_SESSION.findall(names[case].participant)}
    return shorter if _are_sessions(stems, sessions) else dict(names)


def _are_sessions(stems: Collection[str], sessions: Collection[str]) -> bool:
    """Whether these words behind these stems are sessions, and not numbers of people."""
    numbered = all(re.search("[0-9]", stem) for stem in stems)
    timed = len(stems) > 1 and all(session.startswith("t") for session in sessions)
    return (numbered or timed) and len(sessions) <= max(len(stems), _MOST_SESSIONS)


def _without_dates(names: Mapping[str, Name]) -> dict[str, Name]:
    """Take dates off the names of people, where nobody has many and numbers tell people apart without them."""
    shorter = {case: _less(name, _DATE, "session") for case, name in names.items()}
    dates: dict[str, set[str]] = defaultdict(set)
    for case, name in names.items():
        if shorter[case] != name:
            dates[shorter[case].participant].add(name.participant)
    few = all(re.search("[0-9]", stem) and len(dated) <= _MOST_SESSIONS for stem, dated in dates.items())
    return shorter if few else dict(names)


def _alike_in_case(names: Mapping[str, Name], known: Collection[str]) -> dict[str, Name]:
    """Call people alike whose names differ by small and capital letters only; a name that a split knows goes first."""
    spellings: dict[str, set[str]] = defaultdict(set)
    for person in {*known, *(name.participant for name in names.values())}:
        spellings[person.casefold()].add(person)

    def alike(name: Name) -> Name:
        same = spellings[name.participant.casefold()]
        if len(same) == 1 or name.participant.startswith("sub-"):
            return name
        first = min(same, key=lambda person: (person not in known, not person.startswith("sub-"), person))
        return replace(name, participant=first, left_out=name.left_out | {"letter case"})

    return {case: alike(name) for case, name in names.items()}


def _keep_known(names: Mapping[str, Name], known: Collection[str]) -> dict[str, Name]:
    """Call people as the split does; others of the same person are called as the first that the split knows."""
    kept = {case: plain_participant(case) for case in names if plain_participant(case) in known}
    first: dict[str, str] = {}
    for case in sorted(kept):
        first.setdefault(names[case].participant, kept[case])
    return {
        case: replace(
            name,
            participant=kept.get(case)
            or (name.participant if name.participant in known else first.get(name.participant, name.participant)),
        )
        for case, name in names.items()
    }


def _cut(case: str, word: _Word) -> str:
    """The id without a word; where it stood between two parts, ``_`` stands."""
    before, after = case[: word.start].rstrip(_SEPARATORS), case[word.end :].lstrip(_SEPARATORS)
    return f"{before}_{after}" if before and after else before + after
