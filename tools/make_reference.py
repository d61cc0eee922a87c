"""Write docs/reference.md from the parsers, the settings and the error classes; a test holds it current.

python tools/make_reference.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bidsapp import cli, models_cli  # noqa: E402
from bidsapp.config import PRESETS, Settings, format_value  # noqa: E402
from bidsapp.errors import HippoTuneError  # noqa: E402

REFERENCE = ROOT / "docs" / "reference.md"

_HEAD = """\
# Reference

Made by `python tools/make_reference.py` from the parsers, `bidsapp/config.py` and `bidsapp/errors.py`: edit those.
Every flag with a hyphen may be written with an underscore too, and flags may stand anywhere on the line.

## run.py BIDS_DIR OUTPUT_DIR LEVEL [options]

`hippotune` is the same command after `pip install .`; LEVEL is `participant`, `review` or `group`.
A flag of another level is refused, so that none is passed over in silence.
"""

_SETTINGS_HEAD = """\
## config.ini

Written into MODEL_DIR with the settings of the first run; edit it, or override a setting for one run with
`--set section.key=value`. What is effective: defaults, then the preset of the first run, then config.ini, then
`--preset`, `--iterations` and `--set` of the run. Presets are named where they differ from the default.
"""


def main() -> None:
    """Write the reference."""
    REFERENCE.write_text(render(), encoding="utf-8")


def render() -> str:
    """The text of docs/reference.md."""
    parts = [_HEAD, *_run_py(), *_models(), _SETTINGS_HEAD, *_settings(), *_exit_codes()]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _run_py() -> Iterator[str]:
    for title, (levels, actions) in cli.flag_groups().items():
        lines = [f"### {title[0].upper()}{title[1:]}", ""]
        lines += [_flag(action, levels if set(levels) != set(cli.LEVELS) else ()) for action in actions]
        yield "\n".join(lines)


def _models() -> Iterator[str]:
    yield "## hippotune-models COMMAND [options]\n\n`python -m bidsapp.models` is the same command."
    for name, command in models_cli.COMMANDS.items():
        parser = argparse.ArgumentParser(add_help=False)
        command.add_arguments(parser)
        usage = " ".join([name, *(str(one.metavar) for one in parser._actions if not one.option_strings)])
        lines = [f"### hippotune-models {usage}", "", f"{command.help[0].upper()}{command.help[1:]}.", ""]
        yield "\n".join([*lines, *(_flag(action, ()) for action in parser._actions)])
    parser = argparse.ArgumentParser(add_help=False)
    models_cli._add_places(parser)
    yield "\n".join(["### Every command of hippotune-models", "", *(_flag(one, ()) for one in parser._actions)])


def _flag(action: argparse.Action, levels: tuple[str, ...]) -> str:
    """One flag or argument as an item of a list."""
    names = [word for word in action.option_strings if "_" not in word] or [str(action.metavar)]
    value = ""
    if action.option_strings and action.nargs != 0:
        one = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
        value = f" {one}" + (" ..." if action.nargs == "+" or isinstance(action, argparse._AppendAction) else "")
    only = f" *({' and '.join(levels)})*" if levels else ""
    return f"- `{', '.join(names)}{value}`{only}: {_plain((action.help or '').replace('%%', '%'))}"


def _plain(words: str) -> str:
    """Words as Markdown shows them, not as it reads them."""
    return " ".join(words.split()).replace("<", "&lt;").replace("*", "\\*")


def _settings() -> Iterator[str]:
    settings = Settings()
    for section in fields(settings):
        values = getattr(settings, section.name)
        lines = [f"### [{section.name}]", ""]
        for setting in fields(values):
            name = f"{section.name}.{setting.name}"
            presets = [f"{preset} `{chosen[name]}`" for preset, chosen in PRESETS.items() if name in chosen]
            default = f"default `{format_value(getattr(values, setting.name))}`"
            lines.append(
                f"- `{setting.name}` ({'; '.join([default, *presets])}): {_plain(setting.metadata['comment'])}"
            )
        yield "\n".join(lines)


def _exit_codes() -> Iterator[str]:
    meanings = {0: "Done."}
    for error in HippoTuneError.__subclasses__():
        meanings[error.exit_code] = " ".join((error.__doc__ or "").split())
    meanings[HippoTuneError.exit_code] = "A bug of ours: the traceback is on the screen and in the log."
    yield "\n".join(["## Exit codes", "", *(f"- `{code}`: {words}" for code, words in sorted(meanings.items()))])


if __name__ == "__main__":
    main()
