"""docs/editor.md shows the keys that the page has."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.conftest import ROOT

KEYS = ROOT / "bidsapp" / "editor" / "static" / "keys.js"


def test_the_table_of_keys_is_that_of_the_page() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("NOT TESTED HERE: the table of keys; there is no node")
    script = f"import('{KEYS.as_uri()}').then(keys => console.log(keys.keysAsMarkdown()))"
    made = subprocess.run([node, "-e", script], capture_output=True, text=True, check=True).stdout.strip()
    page = (ROOT / "docs" / "editor.md").read_text(encoding="utf-8")
    assert page.split("## Keys\n", 1)[1].strip() == made, "put what keysAsMarkdown() says under Keys"
