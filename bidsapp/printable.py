"""Text for people's eyes: what others wrote without what a terminal would act on, and numbers of things."""

from __future__ import annotations

import unicodedata

_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_control(character: str) -> bool:
    """Tell what moves the cursor, begins a command of a terminal, turns the direction, or is half a character."""
    return unicodedata.category(character) in _CATEGORIES or character in _BIDI_CONTROLS


def printable(text: str, *, keep: str = "") -> str:
    r"""Write control characters as ``\x1b``, but for those in `keep`."""
    if text.isprintable():
        return text
    return "".join(ascii(one)[1:-1] if is_control(one) and one not in keep else one for one in text)


def refuse_controls(text: str) -> str:
    """`text`, for fields of a schema; raises ValueError where it holds control characters."""
    if any(map(is_control, text)):
        raise ValueError(f"holds control characters: {ascii(text)[:80]}")
    return text


def plural(count: int, one: str, many: str = "") -> str:
    """``1 person``, ``2 people``; without `many` an s is put behind `one`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def people_text(count: int) -> str:
    """``1 person``, ``2 people``."""
    return plural(count, "person", "people")
