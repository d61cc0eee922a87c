"""Run the editor: one address with its token, until Ctrl-C, which loses nothing."""

from __future__ import annotations

import getpass
import ipaddress
import logging
import mimetypes
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Mapping
from contextlib import suppress

from bidsapp.editor.security import Access
from bidsapp.errors import UsageError
from bidsapp.layout import OutputLayout
from bidsapp.lock import folder_lock
from bidsapp.serving import ServeOptions

log = logging.getLogger(__name__)

USUAL_PORT = 8417
_ENDING_SECONDS = 30


def serve(layout: OutputLayout, options: ServeOptions) -> None:
    """Serve the editor of an OUTPUT_DIR until somebody stops it.

    Raises
    ------
    UsageError
        When the host or port cannot be listened on.
    CannotWriteError
        When another server has this folder.
    """
    import uvicorn

    from bidsapp.editor.app import make_app

    with folder_lock(layout.editor_lock), _listen(options) as listener:
        port = int(listener.getsockname()[1])
        access = Access(names=_names(options.host))
        mimetypes.add_type("text/javascript", ".js")  # some systems call it plain text, which browsers refuse to run
        app = make_app(layout, access)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="on",
            ws="none",
            timeout_graceful_shutdown=_ENDING_SECONDS,
        )
        _say_where(options.host, port, access.token)
        if options.browser and _has_browser(os.environ):
            threading.Timer(0.5, webbrowser.open, (_address(options.host, port, access.token),)).start()
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
    log.info("the editor was stopped; every stroke and decision that reached it is on the disk")


def _listen(options: ServeOptions) -> socket.socket:
    """A socket of the wished port, of the usual one, or of any."""
    wished = [USUAL_PORT, 0] if options.port is None else [options.port]
    for port in wished:
        try:
            family, kind, _, _, address = socket.getaddrinfo(options.host, port, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family, kind)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            return listener
        except OSError as error:
            if port == wished[-1]:
                words = f"nobody can listen on {options.host}, port {port}: {error.strerror}"
                raise UsageError(words, "Choose another --port or --host.") from error
            listener.close()
    raise AssertionError  # the last one was tried


def _names(host: str) -> frozenset[str]:
    """Under which names browsers may ask for the server."""
    own = {"localhost"}
    if not _is_loopback(host):
        own |= {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(own)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(host: str, port: int, token: str) -> str:
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/?token={token}"


def _say_where(host: str, port: int, token: str) -> None:
    log.info("the editor is at: %s", _address(host, port, token), extra={"secret": True})
    if _is_loopback(host):
        log.info(
            "from another machine, first: ssh -L %d:%s:%d %s@%s",
            port,
            f"[{host}]" if ":" in host else host,
            port,
            _user(),
            socket.gethostname(),
        )
    else:
        log.warning("whoever reaches %s and knows this address can decide; what is sent is not encrypted", host)
    log.info("stop it with Ctrl-C; nothing is lost by that")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in containers
        return "USER"


def _has_browser(environment: Mapping[str, str]) -> bool:
    """Whether a browser would open in a window of its own, here and now: none in a terminal, none through ssh."""
    if "SSH_CONNECTION" in environment:
        return False
    if sys.platform == "linux" and not ({"DISPLAY", "WAYLAND_DISPLAY"} & environment.keys()):
        return False
    with suppress(webbrowser.Error):
        return webbrowser.get() is not None
    return False
