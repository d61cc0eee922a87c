"""The Boutiques descriptors: current, valid, equal to the parser flag by flag, and as CBRAIN's loaders want them."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bidsapp.cli import build_parser, flag_groups
from bidsapp.config import parse_assignments
from tools.make_boutiques import PLACES, render

BOSH = Path(sys.executable).with_name("bosh")
LEVELS = {"both": {"participant", "group"}, "participant": {"participant"}, "group": {"group"}}


def bosh(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BOSH), *map(str, words)], capture_output=True, text=True, check=False)


def read(what: str) -> dict[str, Any]:
    return json.loads(PLACES[what].read_text(encoding="utf-8"))


def inputs(what: str) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in read(what)["inputs"]}


def known_to(levels: set[str]) -> dict[str, argparse.Action]:
    """Every flag that one of `levels` knows, by its longest spelling with hyphens."""
    actions = [action for known, group in flag_groups().values() if set(known) & levels for action in group]
    return {max((s for s in one.option_strings if "_" not in s), key=len): one for one in actions}


def simulate(what: str, **invocation: object) -> list[str]:
    """The words after the name of the command that Boutiques makes."""
    done = bosh("exec", "simulate", "-i", json.dumps(invocation), PLACES[what])
    assert done.returncode == 0, done.stdout + done.stderr
    return shlex.split(done.stdout.splitlines()[-1].rpartition("hippotune ")[2])


@pytest.mark.parametrize("what", PLACES)
def test_it_is_what_the_tool_makes_from_the_parser(what: str) -> None:
    assert PLACES[what].read_text(encoding="utf-8") == render(what), "run: python tools/make_boutiques.py"


@pytest.mark.parametrize("what", PLACES)
def test_bosh_finds_it_valid(what: str) -> None:
    done = bosh("validate", *(["--bids"] if what == "both" else []), PLACES[what])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("what", PLACES)
def test_every_flag_of_the_parser_is_an_input_and_the_reverse(what: str) -> None:
    described = {one["command-line-flag"]: one for one in inputs(what).values() if "command-line-flag" in one}
    parsed = known_to(LEVELS[what])
    parsed.pop("--version")
    assert set(described) == set(parsed)
    kinds = {argparse._StoreTrueAction: "Flag"}
    for flag, one in described.items():
        action = parsed[flag]
        assert (one["type"] == "Flag") == (type(action) in kinds), flag
        assert one.get("list", False) == (action.nargs == "+" or isinstance(action, argparse._AppendAction)), flag
        assert one.get("value-choices") == (list(action.choices) if action.choices else None), flag
        assert one["value-key"] in read(what)["command-line"]


def test_the_parser_reads_every_command_line_that_boutiques_makes() -> None:
    given: dict[str, object] = {"bids_dir": "data", "output_dir_name": "out", "analysis_level": "group"}
    words = simulate("both", **given, set=["loss.name:dice", "optimizer.name=adam"], iterations=0, no_extend=True)
    parsed = build_parser().parse_args(words)
    assert (parsed.level, parsed.iterations, parsed.no_extend) == ("group", 0, True)
    assert parse_assignments(parsed.set) == {"loss.name": "dice", "optimizer.name": "adam"}

    given["analysis_level"] = "participant"
    words = simulate("both", **given, participant_label=["01", "02"], hemi=["L", "R"], model_file="m.zip", tta=True)
    parsed = build_parser().parse_args(words)
    assert (parsed.participant_label, parsed.hemi, parsed.model, parsed.tta) == (
        ["01", "02"],
        ["L", "R"],
        "m.zip",
        True,
    )


def test_the_training_tool_copies_reviewed_labels_and_needs_none() -> None:
    places: dict[str, object] = {"bids_dir": "data", "output_dir_name": "out"}
    for more, copied in (({"reviewed_dir": "my study"}, " 'my study'"), ({}, "")):
        done = bosh("exec", "simulate", "-i", json.dumps(places | more), PLACES["group"])
        expected = f'mkdir -p out; for folder in{copied}; do cp -rL "$folder"/. out; done; hippotune data out group'
        assert done.stdout.splitlines()[-1] == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"analysis_level": "review"},
        {"analysis_level": "participant", "participant_label": []},
        {"analysis_level": "participant", "model": "ours", "model_file": "ours.zip"},
        {"analysis_level": "group", "training_dir": "pairs", "subset": "some.tsv"},
        {"analysis_level": "group", "iterations": -1},
        {"analysis_level": "participant", "hemi": ["both"]},
    ],
)
def test_bosh_refuses_what_the_parser_would_refuse(wrong: dict[str, object]) -> None:
    invocation = {"bids_dir": "data", "output_dir_name": "out", **wrong}
    assert bosh("invocation", "-i", json.dumps(invocation), PLACES["both"]).returncode == 99


def test_exit_codes_are_those_of_the_readme() -> None:
    codes = {one["code"]: one["description"] for one in read("both")["error-codes"]}
    assert set(codes) == {1, 2, 3, 16, 18, 65, 66, 70, 73, 75}
    assert "validator" in codes[16]
    assert "bug" in codes[70]


# What CBRAIN asks of descriptors: its BIDS App loader (ids, output, container) and its integrator modules, which a
# plain loader reads too. Written down from its documentation and code; each rule with the name of who asks.
IDS_OF_THE_BIDS_APP_LOADER = {"bids_dir", "output_dir_name", "analysis_level", "participant_label"}
CUSTOM = {
    "cbrain:author": str,
    "cbrain:readonly-input-files": bool,
    "cbrain:walltime-estimate": int,
    "cbrain:memory-estimate": int,
    "cbrain:integrator_modules": dict,
}
MODULES = {
    "BoutiquesBidsSingleSubjectMaker",
    "BoutiquesFileTypeVerifier",
    "BoutiquesOutputFileTypeSetter",
    "BoutiquesAllowedExitCodes",
}


def test_the_bids_app_loader_finds_its_ids() -> None:
    known = inputs("both")
    assert set(known) >= IDS_OF_THE_BIDS_APP_LOADER
    assert known["bids_dir"]["type"] == "File"
    assert known["output_dir_name"]["type"] == "String"
    assert known["participant_label"]["list"]
    assert [one["id"] for one in read("both")["output-files"]] == ["output_dir"]


@pytest.mark.parametrize("what", PLACES)
def test_platforms_find_what_they_want(what: str) -> None:
    descriptor = read(what)
    custom, modules = descriptor["custom"], descriptor["custom"]["cbrain:integrator_modules"]
    assert descriptor["container-image"]["type"] == "singularity"
    assert {name: type(custom[name]) for name in CUSTOM} == CUSTOM
    assert set(modules) <= MODULES
    assert modules["BoutiquesFileTypeVerifier"] == {"bids_dir": ["BidsDataset", "BidsSubject"]}
    assert modules["BoutiquesOutputFileTypeSetter"] == {"output_dir": "BidsAppOutput"}
    assert ("BoutiquesBidsSingleSubjectMaker" in modules) == (what != "group")
    for module in ("BoutiquesBidsSingleSubjectMaker",) if what != "group" else ():
        assert {modules[module][name] for name in ("dataset_input_id", "subjects_input_id")} <= set(inputs(what))
    assert descriptor["suggested-resources"]["walltime-estimate"] == custom["cbrain:walltime-estimate"]


def test_resources_are_said_per_level() -> None:
    both = read("both")["custom"]["hippotune:suggested-resources"]
    assert both["participant"] == read("participant")["suggested-resources"]
    assert both["group"] == read("group")["suggested-resources"]
    assert both["group"]["gpu-cores"] == 1
    assert "gpu-cores" not in both["participant"]
