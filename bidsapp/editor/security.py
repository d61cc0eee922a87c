"""Who may ask for what: a token, no other site, no page with a script that is not ours, no body without end.

A server on one's own machine can be reached by every page that is open in the browser. So the host's name and the
origin of each request are looked at (DNS rebinding, cross-site requests), and whoever asks for anything needs the
cookie that the address with the token gave. A browser sends that cookie to every port of a host, so it opens the empty
page and the reports only: sides, drawings and decisions need the token itself, in a header that no form can send.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER = "X-HippoTune-Token"
MOST_BODY_BYTES = 2**25
"""A drawing that compression does not help is 8 MB."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""NiiVue has its font in itself, as data."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
}
_READING = {"GET", "HEAD"}
_LOOPBACK_NAMES = frozenset({"localhost"})


@dataclass(frozen=True)
class Access:
    """What a server lets in."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    """The secret of this start."""
    names: frozenset[str] = _LOOPBACK_NAMES
    """Under which the server may be asked for; addresses of numbers always count, for nobody can rebind those."""

    @property
    def cookie_name(self) -> str:
        """Browsers send cookies to every port of a host, so each server has a name of its own."""
        return f"hippotune-{hashlib.sha256(self.token.encode()).hexdigest()[:8]}"

    @property
    def cookie(self) -> str:
        """What opens the empty page and the reports; the token cannot be told from it."""
        return hashlib.sha256(f"look {self.token}".encode()).hexdigest()

    def is_token(self, word: str) -> bool:
        """Whether somebody knows the secret."""
        return secrets.compare_digest(word.encode(), self.token.encode())

    def is_cookie(self, word: str) -> bool:
        """Whether somebody's browser was here with the secret."""
        return secrets.compare_digest(word.encode(), self.cookie.encode())

    def knows_host(self, host: str) -> bool:
        """Whether the `Host` of a request is one of ours, whatever the port: a tunnel may begin at another."""
        name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.lower().rstrip(".") in self.names
        return True


def refusal(status: int, message: str, hint: str = "", **more: object) -> JSONResponse:
    """What every answer of an error looks like."""
    return JSONResponse({"message": message, "hint": hint, **more}, status_code=status)


class Guarded:
    """Wraps the app: nothing behind it is reached by a request that may not be."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is spoken here")
        guarded = _with_headers(send)
        refused = self._refuse(Request(scope))
        if refused is not None:
            await refused(scope, receive, guarded)
            return
        await self._app(scope, _limited(receive), guarded)

    def _refuse(self, request: Request) -> Response | None:
        access, headers = self._access, request.headers
        host = headers.get("host", "")
        if not access.knows_host(host):
            return refusal(403, "this server is not known by that name", "Use the address that it printed.")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin is not None and origin.partition("://")[2] != host:
            return refusal(403, "another site may not ask this server")
        path = request.scope["path"]  # of `request.url`, a strange `Host` would be a part
        entering = path == "/" and request.method in _READING
        if site not in ("none", "same-origin") and not (entering and headers.get("sec-fetch-mode") == "navigate"):
            return refusal(403, "another site may not ask this server")
        if entering and "token" in request.query_params:
            if access.is_token(request.query_params["token"]):
                return None
            return refusal(403, "the token is not this server's", "Open the address that the server printed last.")
        if not access.is_cookie(request.cookies.get(access.cookie_name, "")):
            return refusal(403, "the address lacks its token", "Open the address that the server printed.")
        needed = path.startswith("/api/") or request.method not in _READING
        if needed and not access.is_token(headers.get(TOKEN_HEADER, "")):
            return refusal(
                403, f"the header {TOKEN_HEADER} is missing or wrong", "Open the address that the server printed."
            )
        return _refuse_size(headers)


def _refuse_size(headers: Headers) -> Response | None:
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        return refusal(400, "the length of the body is no number")
    return _too_large() if int(length) > MOST_BODY_BYTES else None


def _too_large() -> Response:
    return refusal(413, f"the body is larger than {MOST_BODY_BYTES // 2**20} MiB")


class BodyTooLargeError(Exception):
    """A body goes on beyond the limit without having said so."""


def _limited(receive: Receive) -> Receive:
    """Count what comes in, whatever its header said."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BODY_BYTES:
            raise BodyTooLargeError
        return message

    return limited


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        await send(message)

    return guarded
