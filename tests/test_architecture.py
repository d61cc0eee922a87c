"""The walls of the house: who may import whom, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "bidsapp"
MODULES = sorted(PACKAGE.rglob("*.py"))

LEVELS = {"bidsapp.group", "bidsapp.participant", "bidsapp.review"}
ENGINE = {"torch", "nnunetv2", "batchgenerators", "batchgeneratorsv2"}
COMMAND_LINES = {"cli.py", "models_cli.py", "console.py"}
NETWORK = {"urllib.request", "http.client", "ftplib", "requests", "urllib3", "pooch"}
MAY_USE_THE_ENGINE = ("training/", "models/", "prediction.py")


def imported(path: Path, *, at_import_time: bool) -> set[str]:
    """Every module that `path` imports, type-checking blocks left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if at_import_time else [n for n in ast.walk(tree) if not _only_for_types(n)]
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_only_the_training_rooms_know_the_engine(path: Path) -> None:
    if not room(path).startswith(MAY_USE_THE_ENGINE):
        roots = {name.split(".")[0] for name in imported(path, at_import_time=True)}
        assert not roots & ENGINE


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_imports_point_down(path: Path) -> None:
    names = imported(path, at_import_time=False)
    if room(path) not in COMMAND_LINES:
        assert "argparse" not in names
        assert not names & {"bidsapp.cli"}
        if f"bidsapp.{path.stem}" not in LEVELS:
            assert not names & LEVELS
    if room(path) in {"errors.py", "records.py", "layout.py"}:
        assert not {name for name in names if name.startswith("bidsapp.")}


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_only_fetch_touches_the_network(path: Path) -> None:
    if room(path) != "models/fetching.py":
        assert not imported(path, at_import_time=False) & NETWORK


@pytest.mark.parametrize("command", ["cli", "models_cli"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_command_line_answers_without_the_heavy_libraries(command: str, option: str) -> None:
    script = (
        f"import sys; from bidsapp.{command} import main\n"
        "try: main([sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "print('loaded', sorted({'torch', 'nnunetv2', 'numpy', 'nibabel', 'bids'} & set(sys.modules)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, option], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert process.stdout.endswith("loaded []\n")
