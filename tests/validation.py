"""The real BIDS validator, as a function."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


def errors_of(dataset: Path, *options: str) -> tuple[int, list[tuple[str, str]]]:
    """Exit code of the validator, and code and file of every error."""
    command = [str(VALIDATOR), "--format", "json", *options, str(dataset)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    issues = json.loads(process.stdout)["issues"]["issues"]
    return process.returncode, [(i["code"], i.get("location", "")) for i in issues if i["severity"] == "error"]
