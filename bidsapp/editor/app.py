"""What the server answers: the page, the queue, one side, drawings and decisions; all by id, never by path."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from bidsapp.editor.deciding import BusyError, ChangedError, Deciding, Said
from bidsapp.editor.drafts import Drafts, crop_mark, unpack_voxels
from bidsapp.editor.holds import Hold, Holds
from bidsapp.editor.opened import describe_side, read_file
from bidsapp.editor.reports import REPORT_POLICY, find_page, linked_page
from bidsapp.editor.security import PAGE_POLICY, Access, BodyTooLargeError, Guarded, refusal
from bidsapp.editor.sides import Sides
from bidsapp.errors import BadDataError, CannotWriteError, HippoTuneError, NoInputError
from bidsapp.files import parse_json, typed_json
from bidsapp.guards.label_guards import GUARDS
from bidsapp.layout import OutputLayout
from bidsapp.records import SideKey, Work, side_name
from bidsapp.review.candidates import read_side
from bidsapp.review.corrections import crop_grid
from bidsapp.review.table import STATUSES, Status

log = logging.getLogger(__name__)

_TAB = re.compile(r"[A-Za-z0-9-]{1,64}")
_LONGEST_WORDS = 10_000
_LONGEST_NAME = 100
_MOST_SECONDS = 24 * 3600.0
_TOKEN_PLACE = '<meta name="hippotune-token" content="">'


@dataclass(frozen=True)
class _HoldBody:
    tab: str
    rater: str = ""


@dataclass(frozen=True)
class _SaveBody:
    tab: str
    version: str
    seconds: float = 0.0
    changed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _DecisionBody:
    tab: str
    version: str
    status: Status
    rater: str
    comment: str = ""
    accept: tuple[str, ...] = ()
    seconds: float = 0.0
    changed: Mapping[str, int] = field(default_factory=dict)


class HeldError(Exception):
    """Another tab has the side, or (no holder) had it since this one did."""

    def __init__(self, holder: Hold | None) -> None:
        super().__init__()
        self.holder = holder


def make_app(layout: OutputLayout, access: Access) -> ASGIApp:
    """The editor of an OUTPUT_DIR, for those whom `access` lets in."""
    editor = Editor(layout, access)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with editor.deciding.looking_ahead():
            yield

    starlette = Starlette(
        lifespan=lifespan,
        routes=editor.routes(),
        exception_handlers={
            HTTPException: _say_http,
            HippoTuneError: _say_ours,
            HeldError: _say_held,
            BodyTooLargeError: _say_too_large,
            Exception: _say_bug,
        },
    )
    return Guarded(starlette, access)


class Editor:
    """The handlers; what takes time runs in threads."""

    def __init__(self, layout: OutputLayout, access: Access) -> None:
        self.layout, self._access = layout, access
        self._sides, self._drafts, self._holds = Sides(layout), Drafts(layout), Holds()
        self.deciding = Deciding(self._sides, self._drafts)
        self._static = Path(str(resources.files("bidsapp.editor"))) / "static"
        self._rater = ""
        self._crops: dict[str, str] = {}  # version of a side -> mark of the crop that a page was shown

    def routes(self) -> list[Route | Mount]:
        """Addresses and what answers them."""
        side = "/api/sides/{id}"
        return [
            Route("/", self.page),
            Mount("/static", _Static(directory=self._static, check_dir=False)),
            Route("/pages/{name:path}", self.report),
            Route("/api/queue", self.queue),
            Route(side, self.side),
            Route(f"{side}/findings", self.findings),
            Route(f"{side}/files/{{name}}", self.file),
            Route(f"{side}/hold", self.hold, methods=["POST"]),
            Route(f"{side}/hold", self.release, methods=["DELETE"]),
            Route(f"{side}/draft", self.put_draft, methods=["PUT"]),
            Route(f"{side}/draft", self.delete_draft, methods=["DELETE"]),
            Route(f"{side}/save", self.save, methods=["POST"]),
            Route(f"{side}/decision", self.decide, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        """The editor itself; with the token that its requests carry only for whoever knows it."""
        text, access = (self._static / "index.html").read_text(encoding="utf-8"), self._access
        headers = {"Content-Security-Policy": PAGE_POLICY}
        if "token" not in request.query_params:  # that one is right, `Guarded` saw
            return HTMLResponse(text, headers=headers)
        token = f'<meta name="hippotune-token" content="{html.escape(access.token)}">'
        response = HTMLResponse(text.replace(_TOKEN_PLACE, token, 1), headers=headers)
        response.set_cookie(access.cookie_name, access.cookie, httponly=True, samesite="strict", path="/")
        return response

    async def report(self, request: Request) -> Response:
        """A page that another level wrote."""
        keys = await run_in_threadpool(self._sides.by_id)
        path = find_page(self.layout, request.path_params["name"], keys)
        if path is None:
            raise HTTPException(404, "there is no such page")
        text = await run_in_threadpool(linked_page, path, keys)
        return HTMLResponse(text, headers={"Content-Security-Policy": REPORT_POLICY})

    async def queue(self, request: Request) -> Response:
        """All sides; nothing but a number where the page has them already."""
        queue = await run_in_threadpool(self._sides.queue)
        headers = {"ETag": f'"{queue.tag}"', "Cache-Control": "no-cache, private"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        lines = [vars(line) for line in queue.lines]
        return JSONResponse({"rater": self._rater, "sides": lines, "counts": queue.counts}, headers=headers)

    async def side(self, request: Request) -> Response:
        """Everything of one side."""
        key = await self._key(request)
        crop = await run_in_threadpool(self._crop, key)
        found = await run_in_threadpool(describe_side, self._sides, self._drafts, key)
        self._crops[found["version"]] = crop
        holder = self._holds.holder(found["id"])
        if holder is not None and holder.tab == request.headers.get("x-tab"):
            holder = None
        return JSONResponse({**found, "findings": None, "holder": _holder(holder)})

    async def findings(self, request: Request) -> Response:
        """What the guards say of it."""
        key = await self._key(request)
        return JSONResponse(await run_in_threadpool(self.deciding.findings, key))

    async def file(self, request: Request) -> Response:
        """A crop or a label map."""
        key = await self._key(request)
        found = await run_in_threadpool(read_file, self.layout, self._drafts, key, request.path_params["name"])
        if isinstance(found, Path):
            return FileResponse(found, media_type="application/gzip")
        return Response(found, media_type="application/gzip")

    async def hold(self, request: Request) -> Response:
        """Take a side, or keep it."""
        await self._key(request)
        body = await _read(request, _HoldBody)
        name, tab = request.path_params["id"], _tab(body.tab)
        held = self._holds.take(name, tab, _words(body.rater, _LONGEST_NAME))
        if held.tab != tab:
            raise HeldError(held)
        return JSONResponse({"until": held.until, "since": held.since.isoformat()})

    async def release(self, request: Request) -> Response:
        """Give it back."""
        await self._key(request)
        self._holds.release(request.path_params["id"], _tab(request.headers.get("x-tab", "")))
        return Response(status_code=204)

    async def put_draft(self, request: Request) -> Response:
        """Keep an unfinished drawing."""
        key = await self._key(request)
        tab = request.headers.get("x-tab", "")
        self._require_hold(request, tab)
        body, version = await request.body(), request.headers.get("x-version", "")
        if not re.fullmatch(r"[0-9a-f]{1,32}", version):
            raise HTTPException(400, "the header X-Version is missing")
        await run_in_threadpool(self._write_draft, key, body, version, tab)
        return Response(status_code=204)

    async def delete_draft(self, request: Request) -> Response:
        """Discard an unfinished drawing."""
        await self._key(request)
        self._require_hold(request, request.headers.get("x-tab", ""))
        await run_in_threadpool(self._drafts.remove, request.path_params["id"])
        return Response(status_code=204)

    async def save(self, request: Request) -> Response:
        """Make the draft the side's correction."""
        key = await self._key(request)
        body = await _read(request, _SaveBody)
        self._require_hold(request, body.tab)
        work = _work(body.seconds, body.changed)
        return JSONResponse(await run_in_threadpool(self.deciding.save, key, body.version, work))

    async def decide(self, request: Request) -> Response:
        """Approve, reject, or say that it needs an edit."""
        key = await self._key(request)
        body = await _read(request, _DecisionBody)
        self._require_hold(request, body.tab)
        said = Said(
            status=body.status,
            rater=_words(body.rater, _LONGEST_NAME),
            comment=_words(body.comment),
            accept=frozenset(body.accept),
            work=_work(body.seconds, body.changed),
        )
        if not said.rater or said.rater.lower() == "n/a":
            raise HTTPException(422, "nobody is named: say who decides")
        if said.status not in STATUSES or not said.accept <= set(GUARDS):
            raise HTTPException(422, f"a status is one of {', '.join(STATUSES)}; a guard one of {', '.join(GUARDS)}")
        answer = await run_in_threadpool(self.deciding.decide, key, body.version, said)
        self._rater = said.rater
        return JSONResponse(answer)

    def _write_draft(self, key: SideKey, body: bytes, version: str, tab: str) -> None:
        grid = crop_grid(self.layout, read_side(self.layout, *key))
        crop, labels = self._crops.get(version) or self._crop(key), unpack_voxels(body, grid.shape)
        self._drafts.write(side_name(key), grid, labels, version, crop=crop, tab=tab)

    def _crop(self, key: SideKey) -> str:
        return crop_mark(read_side(self.layout, *key).crop_sha256)

    async def _key(self, request: Request) -> SideKey:
        keys = await run_in_threadpool(self._sides.by_id)
        key = keys.get(request.path_params["id"])
        if key is None:
            raise HTTPException(404, "there is no such side")
        return key

    def _require_hold(self, request: Request, tab: str) -> None:
        name = request.path_params["id"]
        holder = self._holds.holder(name)
        if holder is None and self._holds.last_tab(name) not in (None, tab):
            raise HeldError(None)
        if holder is None:  # a server that was started anew, or a tab that slept: it was nobody else's
            holder = self._holds.take(name, _tab(tab), "")
        if holder.tab != tab:
            raise HeldError(holder)


class _Static(StaticFiles):
    """Parts of the page: nobody's data, so browsers may keep them, and ask whether they are still the same."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        """Answer with a file."""
        response = super().file_response(*arguments, **named)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _read(request: Request, kind: type[Any]) -> Any:
    """The JSON of a body as a record."""
    content = parse_json(await request.body(), "the body")
    try:
        return typed_json(kind, content, more=True)
    except ValueError as error:
        raise HTTPException(422, str(error)) from error


def _tab(word: str) -> str:
    if not _TAB.fullmatch(word):
        raise HTTPException(422, "a tab is called by 1 to 64 letters, digits and hyphens")
    return word


def _words(text: str, longest: int = _LONGEST_WORDS) -> str:
    """One line of text without blanks around."""
    if len(text) > longest:
        raise HTTPException(422, f"a name or text has more than {longest} letters")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _work(seconds: float, changed: Mapping[str, int]) -> Work:
    if not 0 <= seconds <= _MOST_SECONDS or len(changed) > 1000 or any(voxels < 0 for voxels in changed.values()):
        raise HTTPException(422, "seconds and changed voxels are numbers from 0")
    return Work(round(float(seconds), 1), {_words(name): voxels for name, voxels in changed.items() if voxels})


def _holder(hold: Hold | None) -> dict[str, str] | None:
    return {"rater": hold.rater, "since": hold.since.isoformat()} if hold else None


def _say_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette hands over what was asked for
    return refusal(error.status_code, error.detail)


def _say_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, HippoTuneError)  # noqa: S101
    if isinstance(error, ChangedError):
        return refusal(409, error.message, error.hint, version=error.version)
    if isinstance(error, BusyError):
        return refusal(503, error.message, error.hint)
    statuses: dict[type[HippoTuneError], int] = {NoInputError: 404, BadDataError: 422, CannotWriteError: 507}
    return refusal(statuses.get(type(error), 500), error.message, error.hint)


def _say_held(request: Request, error: Exception) -> Response:
    assert isinstance(error, HeldError)  # noqa: S101
    holder = _holder(error.holder) or {"rater": "", "since": ""}
    words = f"{holder['rater'] or 'another tab'} has this side open since {holder['since']}"
    hint = "Close it there, or take another side."
    if error.holder is None:
        words, hint = "another tab had this side open since this one did", "Load the side again."
    return refusal(409, words, hint, holder=holder, **holder)


def _say_too_large(request: Request, error: Exception) -> Response:
    return refusal(413, "the body is too large")


def _say_bug(request: Request, error: Exception) -> Response:
    log.error("this is a bug in HippoTune, please report it", exc_info=error)
    return refusal(500, "this is a bug in HippoTune", "Report it with what the server printed.")
