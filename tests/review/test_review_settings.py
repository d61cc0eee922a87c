"""review.ini explains itself, comes back unchanged, and its damage has a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.guards.label_guards import GUARDS, GuardLimits
from bidsapp.review.settings import read_limits, write_limits


def test_what_is_written_is_read_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "review.ini"
    limits = GuardLimits(shift_mm=2.5, volume_people=8)
    assert write_limits(path, limits)
    assert not write_limits(path, GuardLimits())
    assert read_limits(path) == limits


def test_every_limit_names_its_guard_and_its_reason() -> None:
    for limit in GuardLimits.model_fields.values():
        guard, colon, reason = (limit.description or "").partition(": ")
        assert guard in GUARDS and colon and len(reason) > 30


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "review.ini"
    path.write_text("[guards]\nvolume_z = 6  # wider\n")
    assert read_limits(path) == GuardLimits(volume_z=6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[guards]\nshift_mm = far\n", "guards.shift_mm = 'far'"),
        ("[guards]\nshift_mm = -1\n", "guards.shift_mm = '-1'"),
        ("[guards]\nshift_mm = nan\n", "guards.shift_mm = 'nan'"),
        ("[guards]\nshift = 1\n", "guards.shift "),
        ("[limits]\nshift_mm = 1\n", "limits.shift_mm"),
        ("[guards]\n\nshift_mm = 1,5\n", "review.ini, line 3: guards.shift_mm = '1,5'"),
    ],
)
def test_damage_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "review.ini"
    path.write_text(text)
    with pytest.raises(BadDataError) as error:
        read_limits(path)
    assert words in error.value.message


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NoInputError):
        read_limits(tmp_path / "review.ini")
