"""The real BIDS validator, as a function."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bidsapp.bids.dataset import HEMI_LINE

VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


def errors_of(dataset: Path, *options: str) -> tuple[int, list[tuple[str, str]]]:
    """Exit code of the validator, and code and file of every error."""
    command = [str(VALIDATOR), "--format", "json", *options, str(dataset)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    issues = json.loads(process.stdout)["issues"]["issues"]
    return process.returncode, [(i["code"], i.get("location", "")) for i in issues if i["severity"] == "error"]


def complaints(dataset: Path) -> set[tuple[str, str]]:
    """Severity and code of all that is said of a data set of ours when only `hemi-` in names is forgiven.

    BIDS knows no such entity for volumes, so our .bidsignore hides those files, and their sidecars with them.
    """
    ignore = dataset / ".bidsignore"
    as_it_is = ignore.read_text(encoding="utf-8")
    rules = {"ignore": [{"code": "ALL_FILENAME_RULES_HAVE_ISSUES", "location": "*_hemi-*"}]}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
        json.dump(rules, config)
        config.flush()
        ignore.write_text(as_it_is.replace(f"{HEMI_LINE}\n", ""), encoding="utf-8")
        try:
            command = [str(VALIDATOR), "--format", "json", "-c", config.name, str(dataset)]
            process = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            ignore.write_text(as_it_is, encoding="utf-8")
    issues = json.loads(process.stdout)["issues"]["issues"]
    return {(issue["severity"], issue["code"]) for issue in issues if issue["severity"] != "ignore"}
