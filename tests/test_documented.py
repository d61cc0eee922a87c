"""What README and docs say is so: the reference is current, every command line parses, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from bidsapp import models_cli
from bidsapp.cli import _positionals_first, _refuse_flags_of_other_levels, build_parser, flag_groups
from bidsapp.config import setting_names
from tests.conftest import ROOT
from tools.make_reference import REFERENCE, render

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = ("run.py", "hippotune", "hippotune-models")
BEFORE = re.compile(r"^(?:srun |nohup |\$ )?(?:python3? )?(?=run\.py |hippotune )")


def commands(page: Path) -> list[str]:
    """Every line of ours in a fenced block, continued lines joined, and every code span that is one."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    found = [BEFORE.sub("", line.partition(" #")[0].strip(" &")) for line in [*lines, *spans]]
    found = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", line) for line in found]  # what a shell takes by default
    return [line for line in found if line.split(" ")[0] in COMMANDS and " " in line]


LINES = [(page, line) for page in PAGES for line in commands(page)]


def test_there_are_commands_to_check() -> None:
    assert len([line for page, line in LINES if page.name == "README.md"]) >= 15


@pytest.mark.parametrize(("page", "line"), LINES, ids=lambda value: value if isinstance(value, str) else value.name)
def test_a_documented_command_is_one_that_we_understand(page: Path, line: str) -> None:
    program, *words = shlex.split(line)
    if {"--help", "--version"} & set(words):
        return
    if program == "hippotune-models":
        models_cli.build_parser().parse_args(words)
        return
    _refuse_flags_of_other_levels(build_parser().parse_args(_positionals_first(words)))


def test_the_reference_is_current_and_complete() -> None:
    written = REFERENCE.read_text(encoding="utf-8")
    assert written == render(), "run: python tools/make_reference.py"
    flags = [word for _, group in flag_groups().values() for action in group for word in action.option_strings]
    for flag in flags:
        assert f"{flag.replace('_', '-')}" in written
    for name in setting_names():
        assert f"- `{name.partition('.')[2]}` (" in written


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_pages_name_exist(page: Path) -> None:
    sections = {name.partition(".")[0] for name in setting_names()}
    named = re.findall(rf"(?<![/\w-])((?:{'|'.join(sections)})\.[a-z_]+)[=:`]", page.read_text(encoding="utf-8"))
    assert set(named) <= {*setting_names(), "split.tsv"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    anchors = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.M)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif "://" not in target:
            assert (page.parent / target.partition("#")[0]).exists(), target
