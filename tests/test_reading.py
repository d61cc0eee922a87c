"""Whatever lies in a text file is input: it is read, or refused by name; it never stops a run as our bug would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bidsapp.bids.description import read_description
from bidsapp.bids.facts import is_changed_by_hand, read_facts
from bidsapp.bids.filters import matches, read_filters
from bidsapp.bids.metadata import _read_object as read_sidecar
from bidsapp.corobl.transforms import read_transform, write_transform
from bidsapp.errors import BadDataError, HippoTuneError, NoInputError
from bidsapp.exchange.plans import parse_object
from bidsapp.files import expand_home, read_json
from bidsapp.layout import OutputLayout
from bidsapp.pairs.approved import _read_record
from bidsapp.pairs.pairs import find_pairs
from bidsapp.pairs.share_pairs import read_or_make_key
from bidsapp.review.decisions import _read_shown
from bidsapp.review.events import read_events
from bidsapp.sharing.privacy import KnownSecrets, scan_for_leaks
from bidsapp.tsv import read_tsv

DEEP = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
BAD_JSON = {
    "nested 200,000 deep": DEEP,
    "a list 200,000 deep": b"[" * 200_000,
    "nested 500 deep": b'{"a":' * 500 + b"1" + b"}" * 500,
    "empty": b"",
    "cut off": b'{"a": 1',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "Latin-1": '{"a": "Müller"}'.encode("latin-1"),
    "zero bytes": b'{"a": "\0"}',
    "half a character": rb'{"a": "\ud800"}',
    "half a character in a name": rb'{"\udfff": 1}',
}
BAD_IN_OURS = {
    "a number of 5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "a number of 64 bits": b'{"a": 9223372036854775808}',
    "not a number": b'{"a": NaN}',
    "infinity": b'{"a": [-Infinity]}',
    "infinity in digits": b'{"a": 1e999}',
    "twice": b'{"a": 1, "b": {"c": 1, "c": 2}}',
}

bad_json = pytest.mark.parametrize("content", BAD_JSON.values(), ids=BAD_JSON)
bad_in_ours = pytest.mark.parametrize("content", (BAD_JSON | BAD_IN_OURS).values(), ids=BAD_JSON | BAD_IN_OURS)


@bad_in_ours
def test_json_is_refused_with_its_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(BadDataError) as caught:
        read_json(path)
    assert str(path) in caught.value.message and caught.value.hint


def test_json_that_is_missing_or_a_folder_is_no_input(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.json", "does not exist"), (tmp_path, "cannot be read: Is a directory")):
        with pytest.raises(NoInputError, match=words):
            read_json(path)


def test_good_json_stays_what_it_is(tmp_path: Path) -> None:
    content = {"a": [1, -(2**62), 2.5, None, True, "Müller \U0001f9e0", {"": []}], "b": {}}
    (tmp_path / "some.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    assert read_json(tmp_path / "some.json") == content


def _filters(path: Path) -> object:
    return read_filters(path, ["acquisition"])


def _ledger(path: Path) -> object:
    path.write_bytes((path.read_bytes() or b"{}") + b"\n")  # a blank line is none, and the last one may be cut off
    return read_events(path)


def _foreign_plans(path: Path) -> object:
    return parse_object(path.read_bytes(), str(path))


def _shown(path: Path) -> object:
    layout = OutputLayout(path.parent)
    layout.shown.parent.mkdir(parents=True, exist_ok=True)
    layout.shown.write_bytes(path.read_bytes())
    return _read_shown(layout)


def _approved_pairs(path: Path) -> object:
    path.rename(path.parent / "approved.json")
    return _read_record(path.parent)


@bad_json
@pytest.mark.parametrize("read", [read_description, _filters, _ledger, _foreign_plans, _shown, _approved_pairs])
def test_every_reader_of_json_refuses(tmp_path: Path, content: bytes, read: Callable[[Path], object]) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=r"\.json"):
        read(path)


@bad_json
def test_damaged_sidecars_of_the_data_set_cost_only_the_metadata(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "sub-01_T1w.json"
    path.write_bytes(content)
    assert read_sidecar(path) is None
    assert f"{path} is " in caplog.text or f"{path} cannot" in caplog.text


@pytest.mark.parametrize("content", [b'{"a": NaN}', b'{"a": 1, "a": 2}'])
def test_sidecars_of_other_programs_are_read_all_the_same(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sub-01_T1w.json"
    path.write_bytes(content)
    assert read_sidecar(path) is not None
    assert read_description(path)


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775809", "9" * 5000])
def test_a_number_that_is_too_large_costs_nothing_else(tmp_path: Path, number: str) -> None:
    path = tmp_path / "sub-01_T1w.json"
    path.write_text(f'{{"EchoTime": 0.003, "Number": {number}, "Least": -9223372036854775807}}')
    assert read_sidecar(path) == {"EchoTime": 0.003, "Number": number, "Least": -(2**63 - 1)}


def test_a_leak_search_looks_into_large_numbers() -> None:
    secrets = KnownSecrets(people=frozenset({"12345678901234567890123"}))
    assert scan_for_leaks({"a.json": b'{"a": 12345678901234567890123}'}, secrets)


@bad_in_ours
def test_our_damaged_sidecars_count_as_missing_and_are_named(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    image = tmp_path / "image.nii.gz"
    image.write_bytes(b"image")
    (tmp_path / "image.json").write_bytes(content)
    assert read_facts(image) is None
    assert not caplog.text
    assert not is_changed_by_hand(image)
    assert str(tmp_path / "image.json") in caplog.text


def test_a_sidecar_that_is_missing_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "image.nii.gz").write_bytes(b"image")
    assert not is_changed_by_hand(tmp_path / "image.nii.gz")
    assert not caplog.text


@bad_json
def test_a_leak_search_says_that_it_could_not_search(content: bytes) -> None:
    leaks = scan_for_leaks({"a.json": content}, KnownSecrets())
    assert any(leak.kind == "cannot be searched" for leak in leaks)


@pytest.mark.parametrize("number", ["nan", "inf", "1e999", "9" * 5000, "x"])
def test_transforms_are_finite(tmp_path: Path, number: str) -> None:
    path = tmp_path / "a_xfm.txt"
    write_transform(path, np.eye(4))
    path.write_text(path.read_text().replace("Parameters: 1.0", f"Parameters: {number}", 1))
    with pytest.raises(BadDataError, match=r"a_xfm\.txt is not an ITK text file"):
        read_transform(path)


def test_other_texts_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xff\xfe")
    for read in (read_or_make_key, read_transform):
        with pytest.raises(BadDataError, match=r"key is not UTF-8 text") as caught:
            read(path)
        assert caught.value.hint
        with pytest.raises(HippoTuneError, match="Is a directory"):
            read(tmp_path)


@pytest.mark.parametrize("wanted", ["9" * 5000, 2**62, "0" * 4000 + "2", "2"])
def test_runs_of_a_filter_may_have_any_length(wanted: str | int) -> None:
    assert matches({"run": 2}, {"run": (wanted,)}) == (str(wanted).lstrip("0") == "2")


@pytest.mark.parametrize("place", ["~nobody-is-called-so/x", "~/x"])
def test_a_home_that_nobody_knows_stays_as_written(place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home(place) == (tmp_path / "x" if place == "~/x" else Path(place))
    with pytest.raises(NoInputError):
        find_pairs(Path(place))


BAD_TSV = {
    "UTF-16": "index\tname\n1\tCA1\n".encode("utf-16"),
    "Latin-1": "index\tname\n1\tMüller\n".encode("latin-1"),
    "zero bytes": b"index\tname\n1\t\0\n",
    "a cell of 200,000 characters": b"index\tname\n1\t" + b"x" * 200_000 + b"\n",
    "empty": b"",
    "a column twice": b"index\tname\tname\n",
    "an extra cell": b"index\tname\n1\tCA1\tx\n",
}


@pytest.mark.parametrize("content", BAD_TSV.values(), ids=BAD_TSV)
def test_tables_are_refused_with_their_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.tsv"
    path.write_bytes(content)
    with pytest.raises(HippoTuneError) as caught:
        read_tsv(path, ("index", "name"))
    assert caught.value.exit_code == 65
    assert str(path) in caught.value.message
    assert len(caught.value.message) < 500


def test_a_folder_in_the_place_of_a_table_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="cannot be read: Is a directory"):
        read_tsv(tmp_path, ("index",))
