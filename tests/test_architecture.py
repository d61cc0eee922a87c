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

ROOMS = (
    "__main__",
    "cli",
    "models_cli",
    "console",
    "levels",
    "editor",
    "report",
    "sharing",
    "participants",
    "training",
    "prediction",
    "pairs",
    "review",
    "guards",
    "model_dir",
    "models",
    "exchange",
    "nnunet_environment",
    "pictures",
    "labels",
    "evaluation",
    "corobl",
    "bids",
    "images",
    "config",
    "serving",
    "lock",
    "crash",
    "logs",
    "progress",
    "content",
    "ini",
    "tsv",
    "machine",
    "files",
    "printable",
    "layout",
    "nnunet_names",
    "records",
    "errors",
    "arrays",
    "bidsapp",
)
"""From top to bottom. A room may import from the rooms below it, and from no other."""
EXCHANGE_NEEDS = {"exchange", "files", "logs", "printable", "nnunet_names", "errors", "bidsapp"}
"""All that reading and writing models of others needs of ours (of `bidsapp` itself the version): it could be a package
of its own."""
ENGINE = {"torch", "nnunetv2", "batchgenerators", "batchgeneratorsv2"}
NETWORK = {"urllib.request", "http.client", "ftplib", "requests", "urllib3", "pooch"}
MAY_USE_THE_ENGINE = ("training/", "exchange/", "sharing/", "models/", "prediction.py")


def imported(path: Path, *, at_import_time: bool) -> set[str]:
    """Every module that `path` imports: at the top of the file, or anywhere, also in functions and for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if at_import_time else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_only_the_training_rooms_know_the_engine(path: Path) -> None:
    if not room(path).startswith(MAY_USE_THE_ENGINE):
        roots = {name.split(".")[0] for name in imported(path, at_import_time=True)}
        assert not roots & ENGINE


def room_of(module: str) -> str:
    """``training`` for ``bidsapp.training.trainer``; ``python -m bidsapp.models`` is a command line."""
    parts = module.split(".")
    if parts[-1] == "__main__":
        return "__main__"
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "bidsapp"


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_imports_point_down(path: Path) -> None:
    own = room_of(".".join(["bidsapp", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"))
    used = {room_of(name) for name in imported(path, at_import_time=False) if name.split(".")[0] == "bidsapp"}
    assert not {other for other in used if ROOMS.index(other) < ROOMS.index(own)}
    if own not in {"cli", "models_cli", "console"}:
        assert "argparse" not in imported(path, at_import_time=False)


@pytest.mark.parametrize("path", sorted((PACKAGE / "exchange").glob("*.py")), ids=room)
def test_the_exchange_of_models_needs_little_of_the_house(path: Path) -> None:
    used = {room_of(name) for name in imported(path, at_import_time=False) if name.split(".")[0] == "bidsapp"}
    assert used <= EXCHANGE_NEEDS


def test_every_module_has_a_room() -> None:
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} == {*ROOMS} - {
        "__main__",
        "bidsapp",
    } | {"__init__"}


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
