"""The editor's modules without page or picture (geometry, tools, history, keys), tested where node is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.name)
def test_in_node(file: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here; the browser tests use the same modules")
    done = subprocess.run([node, "--test", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
