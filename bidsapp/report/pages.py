"""Pages: one file of HTML each, opens offline, loads nothing, and whatever came from files is escaped."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from importlib import resources

NOT_AVAILABLE = "n/a"

_SCRIPT = "page.js"
_STYLE = "page.css"


def render_page(template: str, content: Mapping[str, object]) -> str:
    """Fill a template of ``bidsapp/report/templates``.

    Parameters
    ----------
    template
        E.g. ``training.html.j2``; extends ``page.html.j2``.
    content
        What the template names; a name that is missing is an error, never a gap.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(_read_template),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _read_template(_SCRIPT)
    page = {"style": Markup(_read_template(_STYLE)), "script": Markup(script), "script_hash": _content_hash(script)}
    return environment.get_template(template).render({**content, "page": page})


def number_text(value: float | None, decimals: int) -> str:
    """A number with a true minus sign; ``n/a`` where it is not defined."""
    if value is None or math.isnan(value):
        return NOT_AVAILABLE
    text = f"{value:,.{decimals}f}"
    if not text.strip("-0.,"):
        text = text.removeprefix("-")
    return text.replace("-", "−")


def _read_template(name: str) -> str:
    return resources.files("bidsapp.report").joinpath("templates", name).read_text(encoding="utf-8")


def _content_hash(script: str) -> str:
    """How a content security policy names the one script that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
