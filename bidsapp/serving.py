"""How the editor is to be reached: what the command line, the review level and the server agree on."""

from __future__ import annotations

from dataclasses import dataclass

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ServeOptions:
    """How the editor is reached."""

    host: str = LOOPBACK
    """Name or address to listen on; beyond loopback, everybody who knows the token can decide."""
    port: int | None = None
    """None: the usual one, or any where that is taken."""
    browser: bool = True
    """Open one where there is one."""
