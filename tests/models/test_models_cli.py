"""hippotune-models as a user meets it, against a real server on loopback."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests

from bidsapp.cli import main as run_py
from bidsapp.errors import NoInputError
from bidsapp.models import fetching
from bidsapp.models_cli import main
from tests.conftest import ROOT
from tests.tiny_model import Export

CONTENT = b"PK\x03\x04 a model " * 200_000  # more than one chunk
GOOD = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What it gives at each path, and what it was asked for."""

    port: int
    asked: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    content: bytes = CONTENT

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            self.close_connection = True
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", "file:///etc/hostname" if "file" in self.path else "/ours.zip")
                self.end_headers()
                return
            if self.path.startswith("/missing"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if "login" in self.path else "application/zip")
            if "nolength" not in self.path:
                self.send_header(
                    "Content-Length",
                    str(len(state.content) + (1000 if "cut" in self.path or "slow" in self.path else 0)),
                )
            self.end_headers()
            self.wfile.write(b"" if "empty" in self.path else state.content)
            if "slow" in self.path:
                self.wfile.flush()
                state.released.wait(20)

        def log_message(self, *_arguments: object) -> None:
            pass

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(http_server.server_address[1])
    thread = threading.Thread(target=http_server.serve_forever, daemon=True)
    thread.start()
    yield state
    state.released.set()
    http_server.shutdown()
    http_server.server_close()


@dataclass(frozen=True)
class Lab:
    """A lab's list with one model, and its folder of models."""

    registry: Path
    models: Path
    capsys: pytest.CaptureFixture[str]

    def list_model(self, address: str, sha256: str | None = GOOD, key: str = "url") -> None:
        checksum = f'sha256 = "{sha256}"\n' if sha256 else ""
        text = f'[ours]\ntitle = "Our T1w"\nchannels = ["T1w"]\nlicence = "MIT"\n{key} = "{address}"\n'
        self.registry.write_text(text + checksum)

    def __call__(self, *words: object) -> tuple[int, str]:
        places = ["--registry", str(self.registry), "--models-dir", str(self.models)]
        code = main([*map(str, words), *places])
        return code, self.capsys.readouterr().out

    def left(self) -> list[str]:
        return sorted(path.name for path in self.models.rglob("*"))


@pytest.fixture
def lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lab:
    return Lab(tmp_path / "lab.toml", tmp_path / "models", capsys)


@pytest.mark.parametrize("path", ["ours.zip", "moved", "nolength/ours.zip?download=1"])
def test_fetch_brings_checks_and_notes(lab: Lab, server: Server, path: str) -> None:
    lab.list_model(server.url(path))
    code, said = lab("fetch", "ours")
    assert code == 0, said
    (file,) = (one for one in lab.models.iterdir() if one.suffix != ".json")
    assert file.read_bytes() == CONTENT
    assert file.name == ("ours.model" if path == "moved" else "ours.zip")
    noted = json.loads((lab.models / "ours.json").read_text())
    assert (noted["sha256"], noted["verified"], noted["url"]) == (GOOD, True, server.url(path))
    assert len(lab.left()) == 2


def test_a_good_file_is_not_fetched_again_and_a_damaged_one_is(lab: Lab, server: Server) -> None:
    lab.list_model(server.url("ours.zip"))
    assert lab("fetch", "ours")[0] == 0
    code, said = lab("fetch", "ours")
    assert (code, len(server.asked)) == (0, 1)
    assert "is there already" in said
    (lab.models / "ours.zip").write_bytes(CONTENT[:-1])
    assert lab("check", "ours")[0] == 65
    assert lab("fetch", "ours")[0] == 0
    assert (lab.models / "ours.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "sha256", "code", "words"),
    [
        ("ours.zip", "0" * 64, 65, [GOOD, "0" * 64, "nothing was kept"]),
        ("cut.zip", GOOD, 66, ["the connection was cut"]),
        ("missing.zip", GOOD, 66, ["404"]),
        ("login.zip", GOOD, 65, ["a web page"]),
        ("nolength/empty.zip", GOOD, 65, ["an empty file"]),
        ("moved/file", GOOD, 66, ["302", "not allowed"]),
    ],
)
def test_what_fails_leaves_nothing(
    lab: Lab, server: Server, path: str, sha256: str, code: int, words: list[str]
) -> None:
    lab.list_model(server.url(path), sha256)
    got, said = lab("fetch", "ours")
    assert got == code, said
    for word in [*words, server.url(path), "what to do:"]:
        assert word in said
    assert "Traceback" not in said
    assert lab.left() == []


@pytest.mark.parametrize(
    ("start", "end", "safe"),
    [("https", "https", True), ("http", "https", True), ("http", "http", True), ("https", "http", False)],
)
def test_nobody_is_led_from_https_to_http(start: str, end: str, safe: bool) -> None:
    answer = requests.Response()
    answer.status_code, answer.url = 302, f"{start}://example.org/a"
    answer.headers["Location"] = f"{end}://example.org/b"
    if safe:
        fetching.check_answer(answer)
        return
    with pytest.raises(NoInputError, match=r"leads to http://example\.org/b .*not safe"):
        fetching.check_answer(answer)


@pytest.mark.parametrize("path", ["ours.zip", "nolength/ours.zip"])
def test_more_than_any_model_is_not_taken(lab: Lab, server: Server, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MAX_TOTAL_BYTES", len(CONTENT) - 1)
    lab.list_model(server.url(path))
    code, said = lab("fetch", "ours")
    assert code == 65, said
    assert "is larger than any model" in said
    assert lab.left() == []
    monkeypatch.setattr(fetching, "MAX_TOTAL_BYTES", len(CONTENT))
    assert lab("fetch", "ours")[0] == 0


def test_a_failed_fetch_keeps_what_was_there(lab: Lab, server: Server) -> None:
    lab.list_model(server.url("cut.zip"))
    lab.models.mkdir()
    (lab.models / "ours.zip").write_text("other")
    assert lab("fetch", "ours")[0] == 66
    assert (lab.models / "ours.zip").read_text() == "other"
    assert lab.left() == ["ours.zip"]


def test_without_a_network_the_line_for_another_machine_is_said(lab: Lab, server: Server) -> None:
    with socket.socket() as closed:  # bound and not listening: nobody answers, nobody else gets it
        closed.bind(("127.0.0.1", 0))
        lab.list_model(f"http://127.0.0.1:{closed.getsockname()[1]}/ours.zip")
        code, said = lab("fetch", "ours")
    assert code == 66
    assert "cannot be reached" in said
    assert "On a machine with a network: hippotune-models fetch ours --to DIR --registry FILE; then copy" in said
    assert str(lab.models) in said
    assert lab.left() == []


def test_a_killed_fetch_leaves_nothing(lab: Lab, server: Server) -> None:
    lab.list_model(server.url("slow.zip"))
    words = ["fetch", "ours", "--registry", str(lab.registry), "--models-dir", str(lab.models)]
    process = subprocess.Popen(
        [sys.executable, "-m", "bidsapp.models", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while not lab.left() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(lab.left()) == 1
    process.terminate()
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 75, said
    assert lab.left() == []


def test_a_host_that_nobody_knows_is_said(lab: Lab, server: Server) -> None:
    lab.list_model("http://a..b/ours.zip")
    code, said = lab("fetch", "ours")
    assert code == 66, said
    assert "cannot be reached" in said


def test_unverified_files_are_asked_for_and_noted(lab: Lab, server: Server) -> None:
    lab.list_model(server.url("ours.zip"), sha256=None)
    code, said = lab("fetch", "ours")
    assert (code, server.asked, lab.left()) == (2, [], [])
    assert f"--to {lab.models} --registry {lab.registry} --accept-unverified" in said
    assert lab("fetch", "ours", "--accept-unverified")[0] == 0
    noted = json.loads((lab.models / "ours.json").read_text())
    assert (noted["sha256"], noted["verified"]) == (GOOD, False)
    assert lab("fetch", "ours")[0] == 0
    assert len(server.asked) == 1
    assert "here, unverified" in lab("list")[1]
    (lab.models / "ours.zip").write_bytes(b"changed since")
    assert lab("check", "ours")[0] == 65
    assert lab("fetch", "ours", "--accept-unverified")[0] == 65
    assert (lab.models / "ours.zip").read_bytes() == b"changed since"


def test_a_folder_that_cannot_be_written_is_said(lab: Lab, server: Server, tmp_path: Path) -> None:
    lab.list_model(server.url("ours.zip"))
    (tmp_path / "models").write_text("a file is in the way")
    code, said = lab("fetch", "ours")
    assert code == 73
    assert "--to DIR" in said


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose home lies below a file, where not even root can write; their folder to work in."""
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/dev/null/home")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def test_without_a_data_folder_models_go_to_the_work_folder(
    lab: Lab, server: Server, homeless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.list_model(server.url("ours.zip"))
    registry = ["--registry", str(lab.registry)]
    assert main(["fetch", "ours", *registry]) == 0
    said = lab.capsys.readouterr().out
    file = homeless / "work" / "models" / "ours.zip"
    assert file.read_bytes() == CONTENT
    assert f"/dev/null/home/.local/share/hippotune/models cannot be written, so {file.parent} is used instead" in said
    assert main(["fetch", "ours", *registry]) == 0
    assert len(server.asked) == 1
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # another day, another place to write: still found
    assert main(["list", *registry]) == 0
    said = lab.capsys.readouterr().out
    assert "ours             T1w       fetched" in said
    assert f"models folder: {tmp_path}/home/.local/share/hippotune/models" in said
    file.write_bytes(b"spoiled")
    assert main(["fetch", "ours", *registry]) == 0
    assert (tmp_path / "home/.local/share/hippotune/models/ours.zip").read_bytes() == CONTENT
    assert file.read_bytes() == b"spoiled"


def test_where_only_a_page_is_known_it_is_named(lab: Lab) -> None:
    lab.registry.write_text("")
    code, said = lab("fetch", "neonateT2w_v2", "--accept-unverified")
    assert code == 66
    assert "https://zenodo.org/records/17618449" in said
    assert f"hippotune-models check neonateT2w_v2 --models-dir {lab.models}" in said
    lab.models.mkdir()
    (lab.models / "neonateT2w_v2.tar.gz").write_text("")
    assert lab("fetch", "neonateT2w_v2")[0] == 0


def test_list_and_show(lab: Lab) -> None:
    lab.list_model("https://example.org/ours.zip")
    lab.models.mkdir()
    (lab.models / "theirs.zip").write_text("")
    code, said = lab("list")
    lines = [line.split() for line in said.splitlines()]
    assert code == 0
    assert ["ours", "T1w", "not", "fetched", "MIT", "Our", "T1w"] in lines
    assert ["theirs", "?", "here,", "unverified", "?", "not", "in", "a", "registry"] in lines
    assert "neonateT1w_v2    T1w       get it by hand    unknown" in said
    code, said = lab("show", "ours")
    assert code == 0
    for word in (GOOD, "https://example.org/ours.zip", "MIT", "not verified here", "hippotune-models fetch ours"):
        assert word in said
    code, said = lab("show", "nobody")
    assert code == 2
    assert "ours" in said


@pytest.mark.parametrize("words", [[], ["lst"], ["show"], ["fetch", "ours", "--to", "elsewhere"], ["list", "--what"]])
def test_mistakes_have_a_way_out(lab: Lab, words: list[str]) -> None:
    lab.list_model("https://example.org/ours.zip")
    code, said = lab(*words)
    assert code == 2
    assert "what to do:" in said


def test_check_says_what_a_model_is(lab: Lab, export: Export) -> None:
    archive = export().archive
    lab.list_model(archive.name, hashlib.sha256(archive.read_bytes()).hexdigest(), key="path")
    for name in (archive, "ours"):
        code, said = lab("check", name)
        assert code == 0, said
        facts = dict(line.split(maxsplit=1) for line in said.splitlines())
        assert (facts["name"], facts["channels"], facts["folds"]) == ("tiny", "T1w", "1")
        assert facts["labels"] == "1 Anterior, 2 Corps d'Ammon – 海馬"
        assert facts["parameters"] == "8,283"  # 240 + 3504 down, 1032 + 3480 up, 27 for three classes
        assert len(facts["digest"]) == 64
    archive.write_bytes(archive.read_bytes()[:-500])
    assert lab("check", "ours")[0] == 65
    code, said = lab("check", archive)
    assert code == 65
    assert "what to do:" in said


@pytest.fixture
def segment(lab: Lab, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    bids = tmp_path / "bids"
    anat = bids / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (bids / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 20), np.uint8), np.eye(4)), anat / "sub-01_T1w.nii.gz")

    def run(model: object, *places: object) -> tuple[int, str]:
        words = [bids, tmp_path / "out", "participant", "--model", model, "--device", "cpu", "--dry-run"]
        places = places or ("--registry", lab.registry, "--models-dir", lab.models)
        code = run_py([str(word) for word in (*words, *places)])
        return code, lab.capsys.readouterr().out

    return run


def test_participant_takes_names(
    lab: Lab, segment: Callable[..., tuple[int, str]], export: Export, server: Server
) -> None:
    archive = export().archive
    lab.list_model(server.url("ours.zip"), hashlib.sha256(archive.read_bytes()).hexdigest())
    code, said = segment("ours")
    assert (code, server.asked) == (66, [])
    assert f"Run: hippotune-models fetch ours --to {lab.models} --registry {lab.registry}\n" in said
    code, said = segment("neonateT2w_v2")
    assert code == 66
    assert "https://zenodo.org/records/17618449" in said
    code, said = segment("nobody")
    assert code == 2
    for choice in ("--model none", "--model ours", "--model maguire_T2w", "--model FILE.zip"):
        assert choice in said
    assert segment("missing/model.zip")[0] == 66
    lab.models.mkdir()
    (lab.models / "ours.zip").write_bytes(archive.read_bytes())
    code, said = segment("ours")
    assert code == 0, said
    assert "model tiny on cpu" in said


def test_participant_finds_what_its_own_line_fetched_without_a_data_folder(
    lab: Lab, segment: Callable[..., tuple[int, str]], export: Export, server: Server, homeless: Path, tmp_path: Path
) -> None:
    archive = export().archive
    lab.list_model(server.url("model.zip"), hashlib.sha256(archive.read_bytes()).hexdigest())
    server.content = archive.read_bytes()
    code, said = segment("ours", "--registry", lab.registry)
    assert code == 66
    line = f"hippotune-models fetch ours --to {tmp_path}/out/work/models --registry {lab.registry}"
    assert f"Run: {line}\n" in said
    assert main(line.split()[1:]) == 0
    code, said = segment("ours", "--registry", lab.registry)
    assert code == 0, said
    assert "model tiny on cpu" in said


def test_a_v1_model_is_converted_checked_and_never_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = Path(__file__).parent / "data" / "v1", tmp_path / "new.zip"
    assert main(["convert-v1", str(old), str(new)]) == 0
    assert "v1 resamples, then normalises" in capsys.readouterr().out
    assert main(["check", str(new)]) == 0
    before = new.read_bytes()
    assert main(["convert-v1", str(old), str(new)]) == 2
    assert new.read_bytes() == before
    assert main(["convert-v1", str(tmp_path / "none"), str(tmp_path / "other.zip")]) == 66
