"""The registry: what we ship, what a lab adds, and what is refused in a list, with the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.layout import ModelPlaces, model_places
from bidsapp.models.registry import load_registry, read_registry
from bidsapp.models.shelf import availability, locate_model, names

SHIPPED = ["default", "neonateT1w_v2", "neonateT2w_v2", "neonateT1T2w_v2", "maguire_T2w"]
ENTRY = '[ours]\ntitle = "Ours"\nchannels = ["T1w"]\n'
URL = 'url = "https://example.org/ours.zip"\n'
SHA256 = "ab" * 32


@pytest.fixture
def places(tmp_path: Path) -> ModelPlaces:
    return ModelPlaces(tmp_path / "registry.toml", tmp_path / "models")


def write(places: ModelPlaces, text: str) -> None:
    assert places.registry
    places.registry.write_text(text, encoding="utf-8")


def test_what_we_ship_claims_nothing_that_we_do_not_know(tmp_path: Path) -> None:
    entries = load_registry(ModelPlaces(None, tmp_path))
    assert list(entries) == SHIPPED
    for entry in list(entries.values())[1:]:
        assert (entry.url, entry.sha256, entry.licence, entry.verified) == (None, None, "unknown", False)
        assert entry.page and entry.page.startswith("https://zenodo.org/records/")
        assert "not verified here" in entry.note
    assert entries["neonateT1T2w_v2"].modality == "T1w+T2w"


def test_a_lab_adds_its_own(places: ModelPlaces) -> None:
    more = f'sha256 = "{SHA256.upper()}"\nlabels = ["Sub", "CA1"]\nlicence = "CC-BY-4.0"\nverified = true\n'
    write(places, "\ufeff" + ENTRY + URL + more + '[folder]\ntitle = "F"\nchannels = ["T2w"]\npath = "lab/model"\n')
    entries = load_registry(places)
    assert list(entries) == [*SHIPPED, "ours", "folder"]
    ours = entries["ours"]
    assert (ours.sha256, ours.labels, ours.licence, ours.verified) == (SHA256, ("Sub", "CA1"), "CC-BY-4.0", True)
    assert entries["folder"].path == places.models.parent / "lab" / "model"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ours", "cannot be read as TOML"),
        ("[ours]\ntitle = 'a\u0000'", "cannot be read as TOML"),
        (ENTRY + URL + ENTRY, "cannot be read as TOML"),
        (ENTRY + URL + ENTRY.replace("ours", "OURS") + URL, "OURS is the name of two models"),
        (ENTRY.replace("ours", "neonatet1w_v2") + URL, "is already the name of a model"),
        (ENTRY.replace("[ours]", "[none]") + URL, "'none' is no name"),
        (ENTRY.replace("[ours]", '["../up"]') + URL, "'../up' is no name"),
        ("ours = 1", "ours must be a table"),
        (ENTRY + URL + 'license = "MIT"', "ours.license is not known"),
        (ENTRY + URL + 'listed_in = "/etc"', "ours.listed_in is not known"),
        (ENTRY + URL + "note = 1979-05-27", "ours.note is {'date': '1979-05-27'}: it must be a text"),
        ('[ours]\nchannels = ["T1w"]\n' + URL, "ours.title is missing"),
        ('[ours]\ntitle = "Ours"\n' + URL, "ours.channels is missing"),
        (ENTRY.replace('["T1w"]', '"T1w"') + URL, "ours.channels is 'T1w': it must be a list"),
        (ENTRY.replace('["T1w"]', "[]") + URL, "ours.channels is []: it must have at least 1 item"),
        (ENTRY.replace('["T1w"]', "[1]") + URL, "ours.channels.0 is 1: it must be a text"),
        (ENTRY.replace('"Ours"', '" "') + URL, "ours.title is empty"),
        (ENTRY.replace('"Ours"', r'"\u001b[31m"') + URL, "ours.title holds control characters"),
        (ENTRY + URL + 'labels = ["CA1", "CA1"]', "ours.labels names one twice"),
        (ENTRY + URL + 'verified = "yes"', "ours.verified is 'yes': it must be true or false"),
        (ENTRY + URL + 'sha256 = "abc"', "ours.sha256 must be 64 digits"),
        (ENTRY + URL + 'architecture = "nnU-Net v1"', "ours.architecture is 'nnU-Net v1': it must be 'nnU-Net v2'"),
        (ENTRY, "ours does not say where the model is"),
        (ENTRY + URL + 'path = "x"', "ours has a url and a path"),
        (ENTRY + 'page = "https://a.org"\ndoi = "10.5281/zenodo.1"', "ours has a page and a doi"),
        (ENTRY + 'doi = "zenodo.1"', "ours.doi must look like"),
        (ENTRY + 'url = "file:///etc/passwd"', "ours.url must be an address"),
        (ENTRY + 'url = "https://"', "ours.url must be an address"),
        (ENTRY + 'url = "https://a:b@example.org/x"', "ours.url holds a user name or password"),
    ],
)
def test_a_bad_list_is_refused_with_file_and_key(places: ModelPlaces, text: str, said: str) -> None:
    write(places, text)
    with pytest.raises(BadDataError) as caught:
        load_registry(places)
    assert said in caught.value.message
    assert str(places.registry) in caught.value.message
    assert caught.value.hint


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadDataError, match="cannot be read as TOML"):
        read_registry(tmp_path / "list.toml")
    with pytest.raises(NoInputError, match="does not exist"):
        read_registry(tmp_path / "missing.toml")


def test_where_lists_and_models_lie(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "XDG_DATA_HOME": "relative counts as none"}
    work = tmp_path / "work"
    usual = ModelPlaces(None, tmp_path / ".local/share/hippotune/models", others=(work,))
    assert model_places(None, None, environment, in_work=work) == usual
    own = tmp_path / "config" / "hippotune" / "registry.toml"
    own.parent.mkdir(parents=True)
    own.write_text("")
    environment |= {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path / "data")}
    data = tmp_path / "data" / "hippotune" / "models"
    assert model_places(None, None, environment, in_work=work) == ModelPlaces(own, data, others=(work,))
    said = model_places(tmp_path / "r", tmp_path / "m", environment, in_work=work)
    assert said == ModelPlaces(tmp_path / "r", tmp_path / "m")
    assert model_places(None, None, {}, in_work=work).models.is_absolute()


def test_where_the_data_folder_cannot_be_written_the_work_folder_stands_in(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (tmp_path / "file").write_text("")
    for home in (Path("/dev/null/home"), tmp_path / "file", tmp_path / "file" / "x"):
        data = home / ".local/share/hippotune/models"
        found = model_places(None, None, {"HOME": str(home)}, in_work=work)
        assert found == ModelPlaces(None, work, others=(data,), unwritable=data)


def test_models_are_found_by_name(places: ModelPlaces, tmp_path: Path) -> None:
    write(places, ENTRY + URL + f'sha256 = "{SHA256}"\n[folder]\ntitle = "F"\nchannels = ["T2w"]\npath = "model"\n')
    registry = load_registry(places)
    with pytest.raises(NoInputError) as missing:
        locate_model("ours", places)
    assert missing.value.hint == f"Run: hippotune-models fetch ours --to {places.models} --registry {places.registry}"
    with pytest.raises(NoInputError, match="does not exist"):
        locate_model("folder", places)
    with pytest.raises(UsageError) as unknown:
        locate_model("theirs", places)
    assert "neonateT1w_v2" in unknown.value.hint
    assert [availability(name, registry[name], places) for name in ("ours", "folder", "maguire_T2w")] == [
        "not fetched",
        "its path is missing",
        "get it by hand",
    ]
    (tmp_path / "model").mkdir()
    places.models.mkdir()
    (places.models / "theirs.tar.gz").write_text("")
    assert locate_model("folder", places) == tmp_path / "model"
    assert locate_model("theirs", places) == places.models / "theirs.tar.gz"
    assert names(registry, places) == [*registry, "theirs"]
    (places.models / "ours.zip").write_text("something else")
    with pytest.raises(BadDataError, match="its sha256 is another"):
        locate_model("ours", places)
    more = ModelPlaces(places.registry, tmp_path / "first", others=(places.models,))
    assert locate_model("theirs", more) == places.models / "theirs.tar.gz"
    assert names(registry, more) == [*registry, "theirs"]
    more.models.mkdir()
    (more.models / "theirs.zip").write_text("")
    assert locate_model("theirs", more) == more.models / "theirs.zip"
    (places.models / "theirs.zip").write_text("")
    with pytest.raises(BadDataError, match="several models of the name theirs"):
        locate_model("theirs", places)
