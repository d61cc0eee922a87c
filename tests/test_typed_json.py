"""Schemas: what does not fit is named in plain words, with its place and its value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from bidsapp.files import typed_json


@dataclass(frozen=True)
class Row:
    name: str
    size: Annotated[int, Field(ge=1, le=9)] = 1
    kinds: tuple[Literal["a", "b"], ...] = ()


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rows: list[Row]
    scale: Annotated[float, Field(allow_inf_nan=False)] = 1.0

    @field_validator("rows")
    @classmethod
    def _is_filled(cls, rows: list[Row]) -> list[Row]:
        if not rows:
            raise ValueError("must list a row")
        return rows


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"name": 3}, "row.name is 3: it must be a text"),
        ({"name": date(2020, 1, 2)}, "row.name is {'date': '2020-01-02'}: it must be a text"),
        ({"name": "x", "size": 10}, "row.size is 10: it must be less than or equal to 9"),
        ({"name": "x", "size": True}, "row.size is True: it must be a whole number"),
        ({"name": "x", "kinds": ["a", "c"]}, "row.kinds.1 is 'c': it must be 'a' or 'b'"),
        ({"name": "x", "kinds": "a"}, "row.kinds is 'a': it must be a list"),
        ({}, "row.name is missing"),
        ({"name": "x", "more\x1b": 1}, r"row.more\x1b is not known"),
        ([], "row is []: it must be an object"),
    ],
)
def test_the_first_misfit_is_named(content: object, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        typed_json(Row, content, name="row")
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"rows": []}, "rows must list a row"),
        ({"rows": [{"name": "x"}], "scale": float("nan")}, "scale is nan: it must be a finite number"),
        (None, "it is None: it must be an object"),
    ],
)
def test_checks_of_our_own_speak_for_themselves(content: object, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        typed_json(Table, content)
    assert str(caught.value) == words


def test_what_a_record_does_not_name_is_refused_ignored_or_left_to_the_record() -> None:
    content = {"rows": [{"name": "x"}], "note": 1}
    assert typed_json(Table, content, more=True).rows == [Row("x")]
    assert typed_json(Row, {"name": "x", "note": 1}, more=None) == Row("x")
    for more in (False, None):
        with pytest.raises(ValueError, match="note is not known"):
            typed_json(Table, content, more=more)
    with pytest.raises(ValueError, match="note is not known"):
        typed_json(Row, {"name": "x", "note": 1})
