"""config.ini and review.ini: one reader, one exit code, the line of whatever is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bidsapp.config import Settings, read_config
from bidsapp.errors import BadDataError, NoInputError
from bidsapp.guards.label_guards import GuardLimits
from bidsapp.ini import read_ini
from bidsapp.review.settings import read_limits

READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "config.ini": (read_config, "[training]\nseed = 1\n"),
    "review.ini": (read_limits, "[guards]\nshift_mm = 1\n"),
}

DAMAGES = {
    "UTF-16": (lambda text: text.encode("utf-16"), "is not UTF-8 text (byte 0)"),
    "other bytes": (lambda text: text.encode() + b"# \xe4\n", "is not UTF-8 text (byte "),
    "zero bytes": (lambda text: text.encode() + b"\0", "is not text: byte "),
    "no section": (lambda text: b"seed = 1\n", ", line 1: 'seed = 1' stands above the first [section]"),
    "no section, below a comment": (lambda text: b"# hello\n\n = 1\n", ", line 3: '= 1' stands above"),
    "an open bracket": (lambda text: b"[training\n", ", line 1: '[training' stands above"),
    "a section twice": (lambda text: (text + text).encode(), ", line 3: the section ["),
    "a key twice": (lambda text: (text + text.splitlines()[1]).encode(), "stands twice"),
    "half a line": (lambda text: (text + "\nhello\n").encode(), ", line 4: 'hello\\n' is neither"),
    "settings for every section": (lambda text: b"[DEFAULT]\nseed = 1\n", ", line 2: there is no setting"),
    "empty": (lambda text: b"", "holds no setting"),
    "only a byte order mark": (lambda text: b"\xef\xbb\xbf", "holds no setting"),
    "only comments": (lambda text: b"# seed = 1\n", "holds no setting"),
    "only a section": (lambda text: text.splitlines()[0].encode(), "holds no setting"),
    "a number of 5,000 digits": (
        lambda text: (text.partition("=")[0] + "=" + "9" * 5000).encode(),
        "does not fit",
    ),
    "a line that goes on": (lambda text: (text + "  weight = 2\n").encode(), "does not fit"),
    "control characters": (lambda text: text.replace("1", "\x1b[2J").encode(), "'\\x1b[2J'"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", READERS)
def test_damage_is_named(tmp_path: Path, name: str, damage: Callable[[str], bytes], words: str) -> None:
    read, good = READERS[name]
    (tmp_path / name).write_bytes(damage(good))
    with pytest.raises(BadDataError) as caught:
        read(tmp_path / name)
    assert caught.value.message.startswith(str(tmp_path / name))
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", READERS)
def test_a_folder_of_that_name_is_no_input(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(NoInputError, match=rf"{name} cannot be read: Is a directory"):
        READERS[name][0](tmp_path / name)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_any_line_end_and_mark_will_do(tmp_path: Path, newline: str, mark: bytes) -> None:
    path = tmp_path / "config.ini"
    path.write_bytes(
        mark + newline.join(["# a", "[training]", "", "Seed: 7 ; mine", "[loss] # b", "name = dice"]).encode()
    )
    assert [tuple(one) for one in read_ini(path)] == [("training", "seed", "7", 4), ("loss", "name", "dice", 6)]
    assert (read_config(path).training.seed, read_config(path).loss.name) == (7, "dice")


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    for name, (read, good) in READERS.items():
        (tmp_path / name).write_text(good)
        assert read(tmp_path / name) != (Settings() if name == "config.ini" else GuardLimits())
