"""The editor in a real browser: what is painted with the pointer lies on the disk, and deciding by keys is recorded.

One browser and one server serve all tests; most sides are tiny, so that software can draw them.
"""

from __future__ import annotations

import gzip
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import uvicorn

from bidsapp.bids.facts import read_facts
from bidsapp.bids.sidecars import crop_sidecar
from bidsapp.content import file_sha256, image_sha256
from bidsapp.editor.app import make_app
from bidsapp.editor.security import Access
from bidsapp.files import write_json
from bidsapp.images.writing import write_image
from bidsapp.layout import OutputLayout, sidecar
from bidsapp.records import SIDES, Approval, Side, SideKey
from bidsapp.review.events import read_events
from bidsapp.review.table import read_review_table
from tests.editor.conftest import open_table, write_side

playwright_api: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SOFTWARE_WEBGL = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
SHAPE = (20, 24, 22)
TURN = np.array([[0.8, -0.36, 0.1], [0.42, 0.9, -0.05], [-0.08, 0.09, 1.1]])
GRIDS = {
    "RAS": np.diag([1.0, 1.0, 1.0]),
    "LAS": np.diag([-0.3, 0.3, 0.3]),
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "PIR": np.array([[0, 0, 1.0], [-1.0, 0, 0], [0, -1.0, 0]]),
    "oblique": TURN,
    "anisotropic": np.diag([-0.5, 0.75, 1.25]),
}
"""Name, which is the participant's too -> voxel axes in RAS mm."""

LARGE = 1000
"""A label value that does not fit into the eight bits that the viewer has for a voxel."""

BRIGHT = (5, 17, 8)
"""The only bright block of every small crop begins here and is 3 voxels wide."""


def affine_of(axes: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = (-12.0, 4.0, 7.0)
    return affine


@dataclass
class Tab:
    """One tab of the browser, and what a person does in it."""

    page: Any
    address: str

    def js(self, script: str, *arguments: Any) -> Any:
        return self.page.evaluate(script, *arguments)

    def open(self, side: str) -> None:
        self.js("id => hippotune.app.open(id)", side)
        self.page.wait_for_selector(f'body[data-side="{side}"]')

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def place(self, voxel: np.ndarray | tuple[float, ...], axis: int) -> tuple[float, float]:
        """Where a voxel is drawn in the plane that a RAS axis runs through, in pixels of the page."""
        x, y = self.js(
            """([voxel, axis]) => {
              const { viewer, surface } = hippotune.app, box = surface.canvas.getBoundingClientRect();
              viewer.nv.drawScene();
              const [x, y] = viewer.placeOf(voxel, viewer.tileOf(axis));
              return [box.left + x, box.top + y];
            }""",
            [[float(n) for n in voxel], axis],
        )
        return x, y

    def go_to(self, voxel: tuple[int, ...]) -> None:
        self.js("voxel => hippotune.app.goTo(voxel)", list(voxel))

    def drag(self, axis: int, *voxels: tuple[float, ...]) -> None:
        """Draw with the left button from voxel to voxel in a plane."""
        places = [self.place(voxel, axis) for voxel in voxels]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place)
        self.page.mouse.up()

    def labels(self) -> np.ndarray:
        """The page's label volume."""
        shape, packed = self.js(
            """async () => {
              const { volume } = hippotune.app.desk;
              const [{ gzip }, { toBytes }] = [await import('/static/nifti.js'), await import('/static/volume.js')];
              return [volume.shape, Array.from(new Uint8Array(await gzip(toBytes(volume))))];
            }"""
        )
        return np.frombuffer(gzip.decompress(bytes(packed)), np.dtype("<u2")).reshape(shape, order="F")

    def waits_for(self, selector: str, words: str) -> None:
        playwright_api.expect(self.page.locator(selector)).to_contain_text(words, timeout=30_000)

    def wait_for_draft(self) -> None:
        self.waits_for("#draft", "draft kept")


@dataclass
class Editor:
    """A running server and the browser that looks at it."""

    layout: OutputLayout
    address: str
    context: Any

    def tab(self) -> Tab:
        page = self.context.new_page()
        page.set_default_timeout(30_000)
        page.goto(self.address)
        page.wait_for_selector("body[data-side]")
        return Tab(page, self.address)


def add_t2w(layout: OutputLayout, name: str, side: Side) -> None:
    """A second crop of a side, bright where the first is dark."""
    session = layout.session(name, None)
    crop, added = session.crop(side, "T1w"), session.crop(side, "T2w")
    image = nib.load(crop)
    voxels = np.asanyarray(image.dataobj)
    write_image(added, nib.Nifti1Image(voxels.max() + voxels.min() - voxels, image.affine))
    facts = {**(read_facts(crop) or {}), "file_sha256": file_sha256(added)}
    facts["crop_sha256"] = image_sha256(np.asanyarray(nib.load(added).dataobj), image.affine)
    write_json(sidecar(added), crop_sidecar(sources=[], skull_stripped=False, facts=facts))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    with playwright_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE_WEBGL)
        yield started
        started.close()


@pytest.fixture(scope="module")
def editor(browser: Any, finished_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    """Two people with whole crops, and one with small crops, mirror images of each other, for every grid."""
    root = tmp_path_factory.mktemp("browser") / "out"
    shutil.copytree(finished_study, root)
    layout = OutputLayout(root)
    for name, axes in GRIDS.items():
        crop = np.full(SHAPE, 10, np.float32)
        crop[tuple(slice(n, n + 3) for n in BRIGHT)] = 200
        predicted = np.zeros(SHAPE, np.uint8)
        predicted[10:14, 4:9, 5:10] = 1
        affine = affine_of(axes)
        for side, mirror in (("L", 1.0), ("R", -1.0)):
            turned = np.diag([mirror, 1, 1, 1]) @ affine
            labels = (
                np.where(predicted, LARGE, 0).astype(np.int16) if (name, side) == ("anisotropic", "R") else predicted
            )
            write_side(layout, name, side, nib.Nifti1Image(crop, turned), nib.Nifti1Image(labels, turned))
    add_t2w(layout, "LAS", "R")
    open_table(layout, *((name, None, side) for name in GRIDS for side in SIDES))
    access = Access()
    server = uvicorn.Server(uvicorn.Config(make_app(layout, access), port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    context = browser.new_context(viewport={"width": 860, "height": 540})
    context.set_default_timeout(30_000)
    yield Editor(layout, f"http://127.0.0.1:{port}/?token={access.token}#sub-RAS_hemi-L", context)
    context.close()
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def first_tab(editor: Editor) -> Tab:
    """The tab of a person who is new here: the name is asked for once."""
    page = editor.context.new_page()
    page.set_default_timeout(30_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: complaints.append(request.url) if is_strange(request.url) else None)
    page.goto(editor.address)
    page.fill("#who-name", "Ada")
    page.press("#who-name", "Enter")
    page.wait_for_selector("body[data-side]")
    tab = Tab(page, editor.address)
    tab.js("hippotune.app.actions.setView('three')")
    tab.complaints = complaints  # type: ignore[attr-defined]
    return tab


def is_strange(url: str) -> bool:
    """Whether something is asked for elsewhere."""
    return not url.startswith(("http://127.0.0.1:", "data:"))


@pytest.fixture
def tab(first_tab: Tab) -> Iterator[Tab]:
    """The first tab; nothing went wrong in it that no test asked for."""
    first_tab.complaints.clear()  # type: ignore[attr-defined]
    first_tab.js("Object.assign(hippotune.app.state, { erasing: false, tool: 'navigate', otherSide: false })")
    yield first_tab
    said = [words for words in first_tab.complaints if "Failed to load resource" not in words]  # type: ignore[attr-defined]
    assert not said


def distance_mm(affine: np.ndarray, voxel: tuple[float, ...]) -> np.ndarray:
    """Of every voxel of a small crop from a place in it."""
    indices = np.moveaxis(np.indices(SHAPE), 0, -1) - np.array(voxel)
    return np.linalg.norm(indices @ affine[:3, :3].T, axis=-1)


def through_plane(axes: np.ndarray, ras_axis: int) -> int:
    """The voxel axis that runs through a plane."""
    return int(nib.orientations.io_orientation(affine_of(axes))[:, 0].tolist().index(ras_axis))


def saved(layout: OutputLayout, name: str, hemi: str = "L") -> nib.Nifti1Image:
    return nib.load(layout.manual_label(name, None, hemi))


def status_of(layout: OutputLayout, key: SideKey) -> str:
    return read_review_table(layout.review_table).deciding_rows()[key].status


@pytest.mark.parametrize("grid", GRIDS)
def test_images_and_letters_are_where_the_head_has_them(tab: Tab, grid: str) -> None:
    tab.open(f"sub-{grid}_hemi-L")
    middle = tuple(n + 1 for n in BRIGHT)
    tab.go_to(middle)
    for axis in range(3):
        step = np.zeros(3)
        ras = 0 if axis else 1  # what runs from left to right in this plane
        across = through_plane(GRIDS[grid], ras)
        step[across] = np.sign(GRIDS[grid][ras, across])
        x, _ = tab.place(middle, axis)
        further, _ = tab.place(np.array(middle) + step, axis)
        assert further > x
        letters = tab.js("axis => hippotune.app.viewer.directionsOf(hippotune.app.viewer.tileOf(axis))", axis)
        assert (letters["left"], letters["right"]) == (("P", "A") if axis == 0 else ("L", "R"))
        assert (letters["top"], letters["bottom"]) == (("A", "P") if axis == 2 else ("S", "I"))
        assert brightness(tab, np.array(middle) + 0.5 * step, axis) > 150
        assert brightness(tab, np.array(middle) - 4 * step, axis) < 60


def brightness(tab: Tab, voxel: np.ndarray, axis: int) -> int:
    """Of the picture where a voxel should be drawn, 0 to 255."""
    return colour(tab, voxel, axis)[1]


def colour(tab: Tab, voxel: np.ndarray, axis: int) -> list[int]:
    """Red, green and blue of the picture where a voxel should be drawn."""
    return tab.js(
        """async ([voxel, axis]) => {
          await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
          const { viewer } = hippotune.app, { gl, uiData } = viewer.nv;
          const { crosshairWidth } = viewer.nv.opts;
          viewer.nv.opts.crosshairWidth = 0;
          viewer.nv.drawScene();
          viewer.nv.opts.crosshairWidth = crosshairWidth;
          const [x, y] = viewer.placeOf(voxel, viewer.tileOf(axis)).map(n => Math.round(n * uiData.dpr));
          const pixel = new Uint8Array(4);
          gl.readPixels(x, gl.canvas.height - y, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
          return Array.from(pixel.slice(0, 3));
        }""",
        [voxel.tolist(), axis],
    )


@pytest.mark.parametrize("grid", GRIDS)
def test_what_is_painted_lies_on_the_disk_voxel_for_voxel(editor: Editor, tab: Tab, grid: str) -> None:
    axes, affine = GRIDS[grid], affine_of(GRIDS[grid])
    tab.open(f"sub-{grid}_hemi-L")
    before = tab.labels()
    axis = {"RAS": 2, "LAS": 1, "LPS": 0}.get(grid, 1)  # in every kind of plane
    through = through_plane(axes, axis)
    at = (6, 12, 9)
    tab.go_to(at)
    tab.js("hippotune.app.actions.setRadius(1.6)")
    tab.press("p", "2")
    tab.drag(axis, at)
    expected = before.copy()
    disc = distance_mm(affine, at) <= 1.6
    disc[np.indices(SHAPE)[through] != at[through]] = False
    expected[disc] = 2
    np.testing.assert_array_equal(tab.labels(), expected)
    red, _, blue = colour(tab, np.array(at), axis)
    assert red > blue + 60  # the second label is orange

    other = tuple(n + 4 if one != through else n for one, n in enumerate(at))
    tab.press("i")
    tab.drag(axis, other)
    with_ball = expected.copy()
    with_ball[distance_mm(affine, other) <= 1.6] = 2
    np.testing.assert_array_equal(tab.labels(), with_ball)
    tab.press("u", "u")
    np.testing.assert_array_equal(tab.labels(), before)
    tab.press("y", "y")
    np.testing.assert_array_equal(tab.labels(), with_ball)

    shown = tab.js("() => [hippotune.app.viewer.order.shape, Array.from(hippotune.app.viewer.nv.drawBitmap)]")
    tab.press("s")
    tab.waits_for("#message", "Saved")
    on_disk = saved(editor.layout, grid)
    np.testing.assert_array_equal(np.asanyarray(on_disk.dataobj), with_ball)
    np.testing.assert_allclose(on_disk.affine, affine, atol=1e-5)
    in_ras = np.asanyarray(nib.as_closest_canonical(on_disk).dataobj)
    np.testing.assert_array_equal(np.array(shown[1]).reshape(shown[0], order="F"), in_ras)


def test_labels_above_255_are_shown_painted_and_saved(editor: Editor, tab: Tab) -> None:
    tab.open("sub-anisotropic_hemi-R")
    before = tab.labels()
    assert np.unique(before).tolist() == [0, LARGE]
    tab.waits_for("#labels", f"value {LARGE} (no name)")
    at = (6, 14, 12)
    tab.go_to(at)
    tab.js("hippotune.app.actions.setRadius(1.6)")
    tab.press("i", "3")
    tab.drag(1, at)
    expected = before.copy()
    mirrored = np.diag([-1, 1, 1, 1]) @ affine_of(GRIDS["anisotropic"])
    expected[distance_mm(mirrored, at) <= 1.6] = LARGE
    np.testing.assert_array_equal(tab.labels(), expected)
    assert set(tab.js("Array.from(new Set(hippotune.app.viewer.nv.drawBitmap))")) == {0, 3}
    tab.press("s")
    tab.waits_for("#message", "Saved")
    np.testing.assert_array_equal(np.asanyarray(saved(editor.layout, "anisotropic", "R").dataobj), expected)


def test_what_lies_between_edited_slices_is_filled_and_taken_back(tab: Tab) -> None:
    tab.open("sub-RAS_hemi-L")
    tab.press("p", "2")
    before = tab.labels()
    for slice_, radius in ((14, 1.2), (18, 3.2)):
        tab.js("mm => hippotune.app.actions.setRadius(mm)", radius)
        tab.go_to((10, slice_, 16))
        tab.drag(1, (10, slice_, 16))
    two = tab.labels()
    tab.press("f")
    tab.waits_for("#message", "between 2 edited coronal slices")
    filled = tab.labels()
    # Along the row the discs reach 1 and 3 voxels from the middle, the slice half-way between them 2
    assert np.flatnonzero(filled[:, 16, 16] == 2).tolist() == [8, 9, 10, 11, 12]
    np.testing.assert_array_equal(filled[:, [14, 18]], two[:, [14, 18]])
    tab.press("u")
    np.testing.assert_array_equal(tab.labels(), two)
    tab.press("Control+z", "Control+z")
    np.testing.assert_array_equal(tab.labels(), before)


def test_a_lasso_an_eraser_and_painting_over_one_label_only(tab: Tab) -> None:
    tab.open("sub-LPS_hemi-L")
    before = tab.labels()
    tab.go_to((12, 6, 7))
    tab.press("g", "2")
    corners = [(9.5, 3.5, 7), (14.5, 3.5, 7), (14.5, 9.5, 7), (9.5, 9.5, 7)]
    for corner in corners:
        tab.page.mouse.click(*tab.place(corner, 2))
    tab.press("Enter")
    expected = before.copy()
    expected[10:15, 4:10, 7] = 2
    np.testing.assert_array_equal(tab.labels(), expected)
    tab.press("u")
    tab.page.select_option("#over", "1")
    tab.drag(2, *corners, corners[0])
    expected = before.copy()
    expected[10:14, 4:9, 7] = 2
    np.testing.assert_array_equal(tab.labels(), expected)
    tab.press("e", "p")
    tab.page.select_option("#over", "2")
    tab.js("hippotune.app.actions.setRadius(6)")
    tab.drag(2, (12, 6, 7))
    in_slice = expected[:, :, 7]
    in_slice[in_slice == 2] = 0
    np.testing.assert_array_equal(tab.labels(), expected)
    tab.press("e", "u", "u")
    np.testing.assert_array_equal(tab.labels(), before)


def test_strokes_come_back_after_a_reload(tab: Tab) -> None:
    tab.open("sub-LAS_hemi-L")
    before = tab.labels()
    tab.js("hippotune.app.actions.setRadius(0.9)")
    tab.go_to((4, 4, 4))
    tab.press("p", "1")
    tab.drag(1, (4, 4, 4))
    tab.wait_for_draft()
    painted = tab.labels()
    assert (painted != before).any()
    tab.page.reload()
    tab.page.wait_for_selector('body[data-side="sub-LAS_hemi-L"]')
    tab.waits_for("#notice", "Your unsaved strokes are back")
    np.testing.assert_array_equal(tab.labels(), painted)
    tab.page.click("text=Throw them away")
    tab.page.wait_for_selector("#notice", state="hidden")
    tab.page.wait_for_selector('body[data-side="sub-LAS_hemi-L"]')
    np.testing.assert_array_equal(tab.labels(), before)
    assert tab.js("localStorage.getItem('hippotune-rater')") == "Ada"


def test_strokes_wait_for_a_server_that_does_not_answer(tab: Tab) -> None:
    tab.open("sub-LAS_hemi-L")
    tab.page.route("**/draft", lambda route: route.abort())
    tab.press("+")
    tab.waits_for("#message", "The server does not answer")
    tab.waits_for("#draft", "strokes not sent yet")
    tab.page.unroute("**/draft")
    tab.waits_for("#message", "The server has your strokes again")
    tab.wait_for_draft()
    tab.press("u")
    tab.page.wait_for_selector("#draft", state="hidden")


def test_a_second_tab_may_look_and_not_paint(editor: Editor, tab: Tab) -> None:
    tab.open("sub-RAS_hemi-L")
    second = editor.tab()
    second.waits_for("#notice", "Ada has this side open")
    assert second.page.locator('[data-action="approve"]').is_disabled()
    before = second.labels()
    second.js("hippotune.app.actions.disc()")
    second.go_to((4, 4, 4))
    second.drag(1, (4, 4, 4))
    second.press("k", "+", "a", "s")
    np.testing.assert_array_equal(second.labels(), before)
    assert status_of(editor.layout, ("RAS", None, "L")) == "pending"
    tab.open("sub-PIR_hemi-L")
    second.page.click("text=Try again")
    second.page.wait_for_selector('[data-action="approve"]:enabled')
    second.page.goto("about:blank")
    second.page.close()


def test_no_key_and_no_pointer_does_anything_while_another_side_is_opened(editor: Editor, tab: Tab) -> None:
    tab.open("sub-PIR_hemi-R")
    tab.press("p", "1")
    place = tab.place((4, 4, 4), 1)
    tab.page.mouse.move(*place)
    tab.page.mouse.down()
    asked: list[Any] = []
    address = "**/api/sides/sub-oblique_hemi-L"
    tab.page.route(address, lambda route: asked.append(route))
    tab.js("() => { hippotune.app.open('sub-oblique_hemi-L'); }")
    tab.page.mouse.up()
    for _ in range(300):
        if asked:
            break
        tab.page.wait_for_timeout(100)
    tab.page.mouse.click(*place)
    tab.press("+", "k", "a", "s", "n")
    tab.js("() => { hippotune.app.open('sub-PIR_hemi-L'); }")
    asked[0].continue_()
    tab.page.wait_for_selector('body[data-side="sub-oblique_hemi-L"]')
    tab.page.unroute(address)
    assert tab.js("hippotune.app.desk.draft") == "none"
    assert not tab.js("hippotune.app.desk.history.done.length")
    assert status_of(editor.layout, ("oblique", None, "L")) == status_of(editor.layout, ("PIR", None, "R")) == "pending"
    tab.press("+")
    assert tab.js("hippotune.app.desk.history.done.length") == 1
    tab.press("u")


def test_a_side_is_corrected_a_finding_accepted_and_the_side_approved_by_keys(editor: Editor, tab: Tab) -> None:
    tab.open("sub-01_hemi-L")
    tab.page.click('[data-filter="all"]')
    before = tab.labels()
    inside = np.argwhere(before == 1)
    stray = tuple(int(n) for n in inside[len(inside) // 2] + (0, 0, 30))
    assert before[stray] == 0
    tab.go_to(stray)
    tab.js("hippotune.app.actions.setRadius(1.5)")
    tab.press("i", "2")
    tab.drag(1, stray)
    painted = tab.labels()
    assert (painted != before).any()
    tab.press("c")
    tab.page.keyboard.type("there is more of it above")
    tab.press("Escape", "a")
    tab.waits_for("#findings .chosen", "a stray piece")
    assert status_of(editor.layout, ("01", None, "L")) == "pending"
    place = tab.js("hippotune.app.viewer.crosshair")
    assert np.linalg.norm(np.array(place) - stray) * 0.3 <= 1.5
    tab.press("Shift+A")
    tab.waits_for("#findings .chosen", "Accepted")
    tab.press("a")
    tab.page.wait_for_selector('body[data-side="sub-02_hemi-L"]')
    tab.waits_for("#message", "01, left: approved")
    tab.waits_for('[data-id="sub-01_hemi-L"]', "approved by Ada, corrected")
    assert status_of(editor.layout, ("01", None, "L")) == "approved"
    np.testing.assert_array_equal(np.asanyarray(saved(editor.layout, "01").dataobj), painted)
    event = read_events(editor.layout.ledger)[-1]
    assert isinstance(event, Approval)
    assert (event.rater, event.source, event.comment) == ("Ada", "manual", "there is more of it above")
    assert event.accepted == ("pieces",)
    tab.open("sub-RAS_hemi-L")
    tab.press("n")
    tab.page.wait_for_selector('body[data-side="sub-anisotropic_hemi-L"]')
    tab.press("Shift+N")
    tab.page.wait_for_selector('body[data-side="sub-RAS_hemi-L"]')


def test_a_flipped_label_is_refused_and_its_finding_shown(editor: Editor, tab: Tab) -> None:
    prediction = nib.load(editor.layout.session("02", None).prediction("L"))
    path = editor.layout.manual_label("02", None, "L")
    path.parent.mkdir(parents=True, exist_ok=True)
    flipped = np.asanyarray(prediction.dataobj)[::-1]
    nib.save(nib.Nifti1Image(flipped, prediction.affine, prediction.header), path)
    tab.open("sub-02_hemi-L")
    tab.press("a")
    tab.waits_for("#findings .chosen", "flip")
    tab.waits_for("#findings .chosen", "cannot be accepted")
    tab.press("Shift+A")
    tab.waits_for("#message", "flip cannot be accepted")
    tab.press("a")
    tab.waits_for("#message", "flip")
    assert status_of(editor.layout, ("02", None, "L")) == "pending"


def test_a_table_that_another_program_changed_is_not_overwritten(editor: Editor, tab: Tab) -> None:
    tab.open("sub-oblique_hemi-R")
    table = editor.layout.review_table
    lines = table.read_text().splitlines(keepends=True)
    changed = [
        line.replace("pending", "rejected") if line.startswith("sub-oblique\tn/a\tR") else line for line in lines
    ]
    assert changed != lines
    table.write_text("".join(changed))
    tab.press("a")
    tab.waits_for("#notice", "changed since it was opened")
    assert table.read_text() == "".join(changed)
    tab.page.click("text=Load it again")
    tab.waits_for("#status", "rejected")


def test_a_long_queue_builds_what_is_on_screen_only(tab: Tab) -> None:
    rows, shown, filtered = tab.js(
        """() => {
          const { queue } = hippotune.app;
          const levels = ['red', 'amber', 'green', 'green'];
          queue.setSides(Array.from({ length: 4000 }, (_, n) => ({
            id: `sub-${n}_hemi-L`, participant: String(n), session: null, hemi: 'L', level: levels[n % 4],
            status: n < 1000 ? 'approved' : 'pending', rater: n < 10 ? 'Bo' : 'ada', reasons: [], trust: null,
            corrected: false, seconds_spent: n < 1000 ? 36 : null })));
          queue.setFilter('eyes');
          const rows = document.querySelectorAll('#list .row').length;
          document.querySelector('#list').scrollTop = 44 * 1000;
          return new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => resolve(
            [rows, document.querySelector('#list .row .who').textContent, queue.shown.length]))));
        }"""
    )
    assert rows < 60
    assert filtered == 1500
    tab.waits_for('[data-filter="mine"]', "3,990")
    assert int(shown.split(",")[0]) > 2500
    tab.waits_for("#counts", "1,000 of 4,000 sides decided, about 30.0 h left at this pace")
    tab.js("() => { hippotune.app.api.queueTag = null; return hippotune.app.refreshQueue(); }")


def test_every_key_does_something_and_the_help_shows_it(tab: Tab) -> None:
    known = set(tab.js("Object.keys(hippotune.app.actions)"))
    actions = set(tab.js("import('/static/keys.js').then(({KEYS}) => Object.values(KEYS).flat().map(([, a]) => a))"))
    assert actions <= known
    tab.press("?")
    tab.waits_for("#help", "fill the label between the slices that were edited")
    tab.press("Escape")
    docs = Path(__file__).resolve().parents[2] / "docs" / "editor.md"
    assert tab.js("hippotune.keysAsMarkdown()") in docs.read_text(encoding="utf-8")


def test_labels_lie_above_either_image(tab: Tab) -> None:
    tab.open("sub-LAS_hemi-R")
    bright, labelled = (np.array([n + 1.0 for n in BRIGHT]), np.array([11.0, 6, 7]))
    for voxel, axis in ((bright, 1), (labelled, 2)):
        tab.go_to(tuple(int(n) for n in voxel))
        shown = colour(tab, voxel, axis)
        tab.press("t")
        tab.waits_for("#shown", "T2w")
        on_t2w = colour(tab, voxel, axis)
        tab.press("t")
        assert colour(tab, voxel, axis) == shown
        if axis == 1:
            assert (shown[1] > 150, on_t2w[1] < 60) == (True, True)
        else:
            assert on_t2w[2] > on_t2w[0] + 60  # the first label is blue


def test_other_views_and_the_other_side_are_shown(tab: Tab) -> None:
    tab.open("sub-LAS_hemi-R")
    tab.press("o")
    tab.waits_for("#other-where", "Left side")
    x, other_x = tab.js(
        """() => { const { viewer, other, desk } = hippotune.app;
          const mm = (v) => v.grid.affine[0].reduce((sum, n, axis) => sum + n * [...v.crosshair, 1][axis], 0);
          return [mm(viewer), mm(other)]; }"""
    )
    assert abs(x) > 1
    assert abs(x + other_x) < 0.01
    tab.press("o", "b", "l", "h")
    tab.waits_for("#shown", "prediction")
    assert tab.js("hippotune.app.viewer.nv.drawOpacity") == 0
    tab.press("h", "l", "b")
    for view in ("one", "rendering", "four", "three"):
        tab.press("v")
        assert tab.js("hippotune.app.viewer.view") == view
