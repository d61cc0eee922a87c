"""Who gets in: the token, the cookie, the header, the host, the origin; and nothing is reached by path."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from bidsapp.editor.app import make_app
from bidsapp.editor.security import MOST_BODY_BYTES, TOKEN_HEADER, Access
from bidsapp.layout import OutputLayout
from tests.editor.conftest import BASE, FIRST, Page

SIDE = f"/api/sides/{FIRST}"
CHANGES = [
    ("POST", f"{SIDE}/hold"),
    ("DELETE", f"{SIDE}/hold"),
    ("PUT", f"{SIDE}/draft"),
    ("DELETE", f"{SIDE}/draft"),
    ("POST", f"{SIDE}/save"),
    ("POST", f"{SIDE}/decision"),
]
READS = [
    "/",
    "/static/index.html",
    "/api/queue",
    SIDE,
    f"{SIDE}/findings",
    f"{SIDE}/files/T1w.nii.gz",
    "/pages/index.html",
]


def everything(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def stranger(study: OutputLayout) -> TestClient:
    return TestClient(make_app(study, Access()), base_url=BASE, follow_redirects=False)


@pytest.mark.parametrize("path", READS)
def test_nothing_is_shown_without_the_cookie(stranger: TestClient, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 403
    assert set(answer.json()) == {"message", "hint"}
    assert stranger.get(path, cookies={"hippotune": "x"}).status_code == 403


def test_the_token_of_the_address_becomes_a_cookie_that_scripts_cannot_read(study: OutputLayout) -> None:
    access = Access()
    client = TestClient(make_app(study, access), base_url=BASE, follow_redirects=False)
    assert client.get("/?token=wrong").status_code == 403
    entered = client.get(f"/?token={access.token}")
    assert entered.status_code == 200
    assert f'content="{access.token}"' in entered.text
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert access.token not in cookie
    assert client.get("/").status_code == 200
    assert client.get("/api/queue", headers={TOKEN_HEADER: access.token}).status_code == 200


@pytest.mark.parametrize("path", [path for path in READS if path != "/pages/index.html"])
def test_the_cookie_which_every_port_gets_shows_no_data_and_no_token(page: Page, path: str) -> None:
    for host in ("127.0.0.1:8417", "127.0.0.1:8417/x", "127.0.0.1:8417?x"):
        answer = page.client.get(path, headers={"Host": host})
        assert page.token not in answer.text
        assert answer.status_code == (403 if path.startswith("/api/") else 200)


def test_the_page_gets_the_token_and_a_strict_policy(page: Page) -> None:
    answer = page.get(f"/?token={page.token}")
    assert answer.status_code == 200
    assert f'content="{page.token}"' in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    part = page.get("/static/index.html")
    again = page.get("/static/index.html", **{"If-None-Match": part.headers["etag"]})
    assert (part.status_code, again.status_code, part.headers["cache-control"]) == (200, 304, "no-cache")
    assert page.token not in part.text


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("header", [None, "wrong", ""])
def test_a_change_needs_the_token_in_a_header(
    page: Page, study: OutputLayout, method: str, path: str, header: str | None
) -> None:
    before = everything(study.root)
    headers = {} if header is None else {TOKEN_HEADER: header}
    answer = page.client.request(method, path, json={"tab": "a"}, headers=headers)
    assert answer.status_code == 403
    assert everything(study.root) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8417"},
        {"Host": "localhost.evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_other_sites_and_other_names_are_refused(page: Page, study: OutputLayout, headers: dict[str, str]) -> None:
    before = everything(study.root)
    assert page.get("/api/queue", **headers).status_code == 403
    page.more = headers
    for method, path in CHANGES:
        assert page.client.request(method, path, json={"tab": "a"}, headers=page.headers).status_code == 403
    assert everything(study.root) == before


@pytest.mark.parametrize("host", ["localhost:8417", "localhost:9000", "127.0.0.1:8417", "[::1]:8417"])
def test_a_tunnel_may_begin_at_another_port(page: Page, host: str) -> None:
    assert page.get("/api/queue", Host=host, Origin=f"http://{host}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/sides/../../etc/passwd",
        "/api/sides/..%2f..%2fdataset_description.json",
        "/api/sides/sub-03_hemi-L",
        "/api/sides/sub-01",
        f"{SIDE}/files/..%2fT1w.nii.gz",
        f"{SIDE}/files/review.tsv",
        f"{SIDE}/files/draft.nii.gz",
        f"{SIDE}/files/",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/",
        "/pages/labels/review.tsv",
        "/pages/../labels/review.tsv",
        "/pages/..%2f..%2fother%2findex.html",
        "/pages/sub-99.html",
        "/labels/review.tsv",
    ],
)
def test_nothing_is_reached_by_path(page: Page, study: OutputLayout, path: str) -> None:
    (study.root.parent / "other").mkdir()
    (study.root.parent / "other" / "index.html").write_text("another data set")
    answer = page.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"message", "hint"}


def test_a_body_without_end_is_cut_off(page: Page, study: OutputLayout) -> None:
    assert page.hold().status_code == 200
    before = everything(study.root)
    headers = {**page.headers, "X-Version": "0"}
    told = page.client.put(f"{SIDE}/draft", content=b"x" * (MOST_BODY_BYTES + 1), headers=headers)
    assert told.status_code == 413

    def pieces():
        for _ in range(MOST_BODY_BYTES // 2**20 + 1):
            yield b"x" * 2**20

    assert page.client.put(f"{SIDE}/draft", content=pieces(), headers=headers).status_code == 413
    bomb = gzip.compress(bytes(2**26), 9)
    assert page.client.put(f"{SIDE}/draft", content=bomb, headers=headers).status_code == 422
    assert everything(study.root) == before


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"tab": 1}', b'{"tab": "a/b"}', b'{"tab": ""}', b"\xff", b"[" * 200],
)
def test_bodies_that_mean_nothing_are_refused(page: Page, study: OutputLayout, body: bytes) -> None:
    before = everything(study.root)
    for name in ("hold", "save", "decision"):
        answer = page.client.post(f"{SIDE}/{name}", content=body, headers=page.headers)
        assert answer.status_code == 422, (name, answer.text)
    assert everything(study.root) == before
