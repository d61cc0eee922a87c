"""Write the Boutiques descriptors from the parser, so that no flag can be forgotten.

    python tools/make_boutiques.py [--image registry.example/hippotune:0.1.0]

boutiques.json describes the BIDS App, both levels that a platform can run, as `bosh validate --bids` and CBRAIN's BIDS
App loader want it. boutiques/ holds one tool per level for loaders that know no levels. The review level is left out:
people decide, on a machine of theirs. A test compares the files with what this makes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp import __version__, cli  # noqa: E402
from bidsapp.errors import HippoTuneError  # noqa: E402

COMMAND = "hippotune"
"""On the PATH of the container and of every installation."""

LEVELS = ("participant", "group")
IMAGE = f"hippotune:{__version__}"
"""What `make image` calls it; nobody publishes it yet, so whoever does names their own with --image."""

PLACES: dict[str, Path] = {
    "both": ROOT / "boutiques.json",
    "participant": ROOT / "boutiques" / "hippotune-participant.json",
    "group": ROOT / "boutiques" / "hippotune-training.json",
}
"""What is described -> the file."""

WRITTEN = {"work_dir", "model_dir", "export_training_data"}
"""Paths that are made, not read: a platform has no file for them yet."""

NO_INPUTS = {"version"}

NAME_OR_FILE = {"model": "a name, `none` or `scratch`"}
"""Flags that take a name or a path: the path is an input of its own, so that a platform brings the file along."""

RESOURCES: dict[str, dict[str, Any]] = {
    "participant": {"cpu-cores": 2, "ram": 8, "disk-space": 2, "walltime-estimate": 1800},
    "group": {"cpu-cores": 8, "ram": 24, "disk-space": 50, "walltime-estimate": 86400, "gpu-cores": 1},
}
"""GB and seconds. One person on two cores needs half a minute with a small model, ten minutes with nnU-Net's default
network (1.5 and 4.5 GB at most); a training of 100,000 iterations wants a GPU and is continued by the same command."""

OUTPUTS: dict[str, list[dict[str, Any]]] = {
    "participant": [
        {"id": "all_people", "name": "Page of all people", "path-template": "[OUTPUT_DIR]/index.html"},
        {"id": "volumes", "name": "Volumes of all people", "path-template": "[OUTPUT_DIR]/group_volumes.tsv"},
    ],
    "group": [
        {
            "id": "trained_model",
            "name": "Trained model",
            "path-template": "[OUTPUT_DIR]/models/default/export/current.zip",
        },
        {"id": "report", "name": "Report", "path-template": "[OUTPUT_DIR]/models/default/report.html"},
    ],
}

BIDS_DIR = {
    "id": "bids_dir",
    "name": "BIDS directory",
    "type": "File",
    "value-key": "[BIDS_DIR]",
    "description": "Input data set; never written to.",
    "optional": False,
}
OUTPUT_NAME = {
    "id": "output_dir_name",
    "name": "Output directory",
    "type": "String",
    "value-key": "[OUTPUT_DIR]",
    "description": "Where results go; at the group level, the output of the participant level.",
    "optional": True,
}
OUTPUT_FOLDER = {
    "id": "participant_level_analysis_dir",
    "name": "Output of the participant level",
    "type": "File",
    "value-key": "[OUTPUT_DIR]",
    "description": "For the group level: what participant and review left. It is written to.",
    "optional": True,
}
REVIEWED = {
    "id": "reviewed_dir",
    "name": "Reviewed output of the participant level",
    "type": "File",
    "value-key": "[REVIEWED_DIR]",
    "description": "Approved labels to train on; copied to the output directory first, never written to.",
    "optional": True,
}


def main() -> None:
    """Write every descriptor."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--image", default=IMAGE, help="the container image, e.g. registry.example/hippotune:0.1.0")
    image = parser.parse_args().image
    for what, path in PLACES.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(render(what, image), encoding="utf-8")


def render(what: str, image: str = IMAGE) -> str:
    """The text of a descriptor: ``both``, ``participant`` or ``group``."""
    descriptor = _bids_app() if what == "both" else _one_level(what)
    descriptor["container-image"] |= {"image": image}
    return json.dumps(descriptor, indent=2) + "\n"


def flags(levels: Sequence[str]) -> list[tuple[tuple[str, ...], argparse.Action]]:
    """The flags that any of `levels` knows, with the levels of each."""
    return [
        (known, action)
        for known, actions in cli.flag_groups().values()
        for action in actions
        if set(known) & set(levels) and action.dest not in NO_INPUTS
    ]


def _bids_app() -> dict[str, Any]:
    inputs = _inputs(LEVELS)
    of_one = {
        level: sorted({one["id"] for one in inputs} - {one["id"] for one in _inputs([level])}) for level in LEVELS
    }
    level = {
        "id": "analysis_level",
        "name": "Analysis level",
        "type": "String",
        "value-key": "[ANALYSIS_LEVEL]",
        "description": "participant: segment people; group: train, test and export a model.",
        "optional": False,
        "value-choices": list(LEVELS),
        "value-disables": of_one,
    }
    # people and sessions come first: `bosh validate --bids` wants this order
    inputs.sort(key=lambda one: ["participant_label", "session_label"].index(one["id"]) if _is_label(one) else 2)
    keys = " ".join(dict.fromkeys(one["value-key"] for one in inputs))
    return _descriptor(
        "HippoTune",
        "Segments hippocampi and retrains the U-Nets that do it: a BIDS App with nnU-Net v2 underneath.",
        f"mkdir -p [OUTPUT_DIR]; {COMMAND} [BIDS_DIR] [OUTPUT_DIR] [ANALYSIS_LEVEL] {keys}",
        [BIDS_DIR, OUTPUT_NAME, OUTPUT_FOLDER, level, *inputs],
        groups=[
            {
                "id": "output_directory",
                "name": "Output directory",
                "description": "A name for the participant level, a folder or a name for the group level.",
                "members": [OUTPUT_NAME["id"], OUTPUT_FOLDER["id"]],
                "mutually-exclusive": True,
                "one-is-required": True,
            }
        ],
        outputs=[],
        resources=RESOURCES["group"],
        custom={"hippotune:suggested-resources": RESOURCES},
        modules=_single_subject() | _verifier(),
    )


def _one_level(level: str) -> dict[str, Any]:
    inputs = _inputs([level])
    keys = " ".join(dict.fromkeys(one["value-key"] for one in inputs))
    prepare, own = "", []
    modules: dict[str, Any] = _verifier()
    if level == "group":
        own = [REVIEWED]
        prepare = 'for folder in [REVIEWED_DIR]; do cp -rL "$folder"/. [OUTPUT_DIR]; done; '
    else:
        modules = _single_subject() | modules | {"BoutiquesAllowedExitCodes": [0, 1]}
    name, words = {
        "participant": ("HippoTune participant", "Brings heads to CorObl space and segments both hippocampi."),
        "group": ("HippoTune training", "Trains, tests and exports a hippocampal U-Net with nnU-Net v2."),
    }[level]
    return _descriptor(
        name,
        words,
        f"mkdir -p [OUTPUT_DIR]; {prepare}{COMMAND} [BIDS_DIR] [OUTPUT_DIR] {level} {keys}",
        [BIDS_DIR, OUTPUT_NAME | {"optional": False}, *own, *inputs],
        groups=[],
        outputs=[one | {"optional": True, "description": one["name"]} for one in OUTPUTS[level]],
        resources=RESOURCES[level],
        custom={},
        modules=modules,
    )


def _descriptor(
    name: str,
    description: str,
    command: str,
    inputs: list[dict[str, Any]],
    *,
    groups: list[dict[str, Any]],
    outputs: list[dict[str, Any]],
    resources: dict[str, Any],
    custom: dict[str, Any],
    modules: dict[str, Any],
) -> dict[str, Any]:
    exclusive = [
        {
            "id": f"{name_or}_choice",
            "name": f"{name_or.capitalize()}: by name or as a file",
            "members": [name_or, f"{name_or}_file"],
            "mutually-exclusive": True,
        }
        for name_or in NAME_OR_FILE
    ]
    return {
        "name": name,
        "tool-version": __version__,
        "description": description,
        "author": "The HippoTune developers",
        "schema-version": "0.5",
        "command-line": command,
        "container-image": {"type": "singularity", "image": IMAGE, "index": "docker://"},
        "inputs": inputs,
        "groups": [*groups, *exclusive],
        "output-files": [
            {
                "id": "output_dir",
                "name": "Output directory",
                "description": "A BIDS derivative data set; models lie in models/.",
                "path-template": "[OUTPUT_DIR]",
                "optional": False,
            },
            *outputs,
        ],
        "error-codes": _error_codes(),
        "suggested-resources": resources,
        "tags": {"domain": ["neuroinformatics", "MRI", "BIDS"], "organ": ["hippocampus"]},
        "custom": {
            "cbrain:author": "The HippoTune developers",
            "cbrain:readonly-input-files": True,
            "cbrain:walltime-estimate": resources["walltime-estimate"],
            "cbrain:memory-estimate": resources["ram"],
            "cbrain:integrator_modules": {**modules, "BoutiquesOutputFileTypeSetter": {"output_dir": "BidsAppOutput"}},
            **custom,
        },
    }


def _single_subject() -> dict[str, Any]:
    """One task per person: the platform makes a data set of a single subject and fills in the label."""
    maker = {"dataset_input_id": "bids_dir", "subjects_input_id": "participant_label", "keep_sub_prefix": False}
    return {"BoutiquesBidsSingleSubjectMaker": maker}


def _verifier() -> dict[str, Any]:
    return {"BoutiquesFileTypeVerifier": {"bids_dir": ["BidsDataset", "BidsSubject"]}}


def _inputs(levels: Sequence[str]) -> list[dict[str, Any]]:
    """The inputs of all flags that `levels` know."""
    inputs: list[dict[str, Any]] = []
    for _, action in flags(levels):
        inputs.append(_input(action))
        if action.dest in NAME_OR_FILE:
            inputs[-1]["description"] += f" Here: {NAME_OR_FILE[action.dest]}."
            inputs.append(_file_instead(inputs[-1]))
    ids = {one["id"] for one in inputs}
    for one in inputs:
        disabled = [other for other in _disabled(one["id"]) if other in ids]
        if disabled:
            one["disables-inputs"] = disabled
    return inputs


def _input(action: argparse.Action) -> dict[str, Any]:
    one: dict[str, Any] = {
        "id": action.dest,
        "name": action.dest.replace("_", " ").capitalize(),
        "type": _type(action),
        "value-key": f"[{action.dest.upper()}]",
        "command-line-flag": max((word for word in action.option_strings if "_" not in word), key=len),
        "description": " ".join((action.help or "").split()),
        "optional": True,
    }
    if one["type"] == "Number":
        one |= {"integer": True, "minimum": 1 if action.type is cli._positive else 0}
    if action.choices is not None:
        one["value-choices"] = list(action.choices)
    if action.nargs == "+":
        one |= {"list": True, "min-list-entries": 1}
    if isinstance(action, argparse._AppendAction):
        one |= {"list": True, "min-list-entries": 1, "list-separator": f" {one['command-line-flag']} "}
    return one


def _type(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "Flag"
    if action.type in (cli._positive, cli._not_negative):
        return "Number"
    return "File" if action.type is Path and action.dest not in WRITTEN else "String"


def _file_instead(one: dict[str, Any]) -> dict[str, Any]:
    words = "The same as a file or folder that the platform brings along."
    name = one["id"] + "_file"
    return one | {
        "id": name,
        "name": one["name"] + " file",
        "type": "File",
        "value-key": f"[{name.upper()}]",
        "description": words,
    }


def _disabled(name: str) -> Iterable[str]:
    """What cannot be said beside a flag, as the command line has it."""
    if name == "training_dir":
        return cli._OF_APPROVED
    if name == "export_training_data":
        return [*cli._OF_TRAINING, "model_file"]
    return ()


def _is_label(one: dict[str, Any]) -> bool:
    return one["id"] in ("participant_label", "session_label")


def _error_codes() -> list[dict[str, Any]]:
    """Exit codes and what they mean, as the error classes say it."""
    meanings = {
        error.exit_code: " ".join((error.__doc__ or "").split()).partition(". ")[0].rstrip(".") + "."
        for error in HippoTuneError.__subclasses__()
    }
    meanings[HippoTuneError.exit_code] = "A bug in HippoTune; the log has the traceback."
    return [{"code": code, "description": words} for code, words in sorted(meanings.items())]


if __name__ == "__main__":
    main()
