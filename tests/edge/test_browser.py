"""The pages in a real browser: Chromium on the real server over a device that is fed with frames."""

import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from PIL import Image, ImageOps
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from edge.device import State
from edge.pipeline import LiveLine
from edge.token import new_token

from .fed_device import FedDevice, fed_device, places

pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# As root, in a container and without a network.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESK, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=360, height=740)
HOSTILE = "<script>document.title='obeyed'</script>\"'><img src=x onerror=\"document.title='obeyed'\">"
LONG = "0123456789abcdef" * 12
LIMIT_MS = 15_000
MAX_PICTURE_BYTES = 300_000

NewPage = Callable[..., Page]


@contextmanager
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=LIMIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}; install chromium, or name another with CHROMIUM")
    with chromium() as browser:
        yield browser


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[FedDevice]:
    with fed_device(tmp_path / "state") as fed:
        yield fed


@pytest.fixture
def address(fed: FedDevice) -> Iterator[str]:
    with fed.serving() as address:
        yield address


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """Opens pages; at the end, none of them may have complained or been obeyed to."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def new(address: str, **options: Any) -> Page:
        context = browser.new_context(base_url=address, **({"viewport": DESK} | options))
        contexts.append(context)
        context.set_default_timeout(LIMIT_MS)
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        return page

    yield new
    for context in contexts:
        context.close()
    assert complaints == []


def sign_in(page: Page, fed: FedDevice, who: str = "R. Okafor") -> None:
    page.goto("/sign-in")
    page.get_by_label("Your name").fill(who)
    page.get_by_label("Token of this device").fill(fed.token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")


def wait_for_picture(page: Page) -> None:
    expect(page.locator("#picture img")).not_to_have_js_property("naturalWidth", 0)


def wait_until(page: Page, holds: Callable[[], bool], limit_s: int = 30) -> None:
    """Wait at most so long; the page goes on meanwhile."""
    for _ in range(10 * limit_s):
        if holds():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"waited for {limit_s} s")


def goes_sideways(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def field(tmp_path: Path) -> Path:
    path = tmp_path / "field.png"
    Image.fromarray(places()[0].image).save(path)
    return path


# Live


def test_the_live_picture_shows_and_the_numbers_follow_without_reloading(
    fed: FedDevice, address: str, new_page: NewPage
) -> None:
    fed.device.start_session("2026-118", "R. Okafor", 400)
    page = new_page(address)
    with fed.feeding(0.05):
        page.goto("/")
        wait_for_picture(page)
        page.evaluate("window.stays = true")
        total = fed.device.status().differential.total
        expect(page.locator("#differential caption")).not_to_have_text(re.compile(rf"^{total} cells?"))
        expect(page.locator("#old-note")).to_be_empty()
        expect(page.locator("#state")).to_contain_text("Running")
        assert page.evaluate("window.stays")


def test_what_has_the_focus_keeps_it_when_the_numbers_change(
    fed: FedDevice, address: str, new_page: NewPage
) -> None:
    fed.device.start_session("2026-118", "R. Okafor", 400)
    page = new_page(address)
    page.goto("/")
    page.get_by_role("link", name="2026-118").focus()
    fed.feed(2)
    expect(page.locator("#session")).not_to_contain_text(re.compile(r"\b0 of 400"))
    assert page.evaluate("document.activeElement.textContent") == "2026-118"


def test_an_old_picture_is_covered_and_comes_back(fed: FedDevice, address: str, new_page: NewPage) -> None:
    page = new_page(address)
    with fed.feeding(0.05) as paused:
        page.goto("/")
        wait_for_picture(page)
        paused.set()
        expect(page.locator("#old-note")).to_contain_text("Not live: the last frame came")
        expect(page.locator("#picture")).to_have_class(re.compile(r"\bold\b"))
        paused.clear()
        expect(page.locator("#old-note")).to_be_empty(timeout=LIMIT_MS)
        expect(page.locator("#picture")).not_to_have_class(re.compile(r"\bold\b"))


def test_a_picture_is_shown_when_it_is_taken_and_not_with_the_next(
    fed: FedDevice, address: str, new_page: NewPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("edge.web.live"), "_REPEAT_S", 60.0)
    fed.feed(1)
    page = new_page(address)
    page.goto("/")
    wait_for_picture(page)
    before = page.evaluate(PIXELS)
    fed.feed(2)
    wait_until(page, lambda: page.evaluate(PIXELS) != before)


#: What the live picture shows, as a number.
PIXELS = """() => {
  const shown = document.querySelector("#picture img");
  const context = document.createElement("canvas").getContext("2d");
  context.drawImage(shown, 0, 0);
  return context.getImageData(0, 0, 300, 150).data.reduce((sum, one) => (sum * 31 + one) % 1000003, 7);
}"""


def test_a_stream_that_breaks_off_does_not_leave_a_picture_that_looks_live(
    fed: FedDevice, address: str, new_page: NewPage
) -> None:
    page = new_page(address)
    # A whole picture, then the end: of this a browser tells nobody.
    picture = BytesIO()
    Image.fromarray(places()[0].image).save(picture, "JPEG")
    stream = b"--x\r\nContent-Type: image/jpeg\r\n\r\n" + picture.getvalue() + b"\r\n--x--\r\n"
    page.route(
        re.compile(r"/live\.mjpg$"),
        lambda route: route.fulfill(
            body=stream, headers={"Content-Type": "multipart/x-mixed-replace; boundary=x"}
        ),
    )
    with fed.feeding(0.05):
        page.goto("/")
        wait_for_picture(page)
        expect(page.get_by_text("The picture stands still")).to_be_visible()
        expect(page.get_by_text("The picture stands still")).to_be_hidden()


def test_a_device_that_does_not_answer_is_said_to_be_silent_until_it_answers(
    fed: FedDevice, browser: Browser
) -> None:
    page = browser.new_page()  # that it cannot be reached, the browser says in its console, too
    with fed.feeding(0.05):
        with fed.serving() as address:
            page.goto(address)
            wait_for_picture(page)
        expect(page.locator("#connection")).to_contain_text("The device does not answer.")
        expect(page.locator("#old-note")).to_contain_text("Not live: the device has not answered since")
        expect(page.locator("#picture")).to_have_class(re.compile(r"\bold\b"))
        with fed.serving(int(address.rpartition(":")[2])):
            expect(page.locator("#connection")).to_be_hidden()
            expect(page.locator("#old-note")).to_be_empty()
            before = page.evaluate(PIXELS)
            wait_until(page, lambda: page.evaluate(PIXELS) != before)
    page.close()


def test_without_a_camera_the_page_waits_and_shows_the_picture_once_there_is_one(
    fed: FedDevice, address: str, new_page: NewPage
) -> None:
    fed.device.enter(State.ABSENT, "/dev/video0 is not there")
    page = new_page(address)
    page.goto("/")
    expect(page.locator("#state")).to_contain_text("Absent phantom: /dev/video0 is not there")
    expect(page.get_by_text("No picture yet.")).to_be_visible()
    fed.device.enter(State.RUNNING)
    with fed.feeding(0.05):
        wait_for_picture(page)
        expect(page.locator("#state")).to_contain_text("Running")


def test_who_looks_elsewhere_watches_no_stream(fed: FedDevice, address: str, new_page: NewPage) -> None:
    page = new_page(address)
    with fed.feeding(0.05):
        page.goto("/")
        wait_for_picture(page)
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        assert page.locator("#picture img").get_attribute("src") is None
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        wait_for_picture(page)


def test_who_is_signed_out_while_looking_is_asked_to_sign_in(new_page: NewPage, tmp_path: Path) -> None:
    everywhere = "0.0.0.0"  # where reading takes the token, too
    with fed_device(tmp_path / "state", host=everywhere) as fed, fed.serving() as address:
        page = new_page(f"http://127.0.0.1:{address.rpartition(':')[2]}")
        page.goto("/")
        expect(page).to_have_url(re.compile("/sign-in"))
        sign_in(page, fed)
        expect(page.get_by_role("heading", name="Live")).to_be_visible()
        new_token(tmp_path / "state")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


# Cells and sessions


def test_a_label_is_corrected_and_both_differentials_are_shown(
    fed: FedDevice, address: str, new_page: NewPage
) -> None:
    fed.device.start_session("2026-118", "", None)
    fed.feed(3)
    page = new_page(address)
    sign_in(page, fed)
    page.goto("/cells")
    card = page.locator(".gallery > li").first
    expect(card.get_by_role("img")).to_have_js_property("naturalWidth", 128)
    card.get_by_text("Correct").click()
    card.get_by_role("combobox").select_option("unclassified")
    card.get_by_role("button", name="Save label").click()
    expect(page.get_by_role("status").filter(has_text="is unclassified now")).to_be_visible()
    expect(page.get_by_role("region", name="As classified").get_by_role("row").last).to_contain_text("0")
    expect(page.get_by_role("region", name="As corrected").get_by_role("row").last).to_contain_text("1")
    page.locator(".gallery > li").first.get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="History of the label")).to_be_visible()
    expect(page.get_by_text("R. Okafor changed")).to_be_visible()


def test_a_session_is_started_and_stopped_with_the_keyboard_alone(
    fed: FedDevice, address: str, new_page: NewPage
) -> None:
    page = new_page(address)
    sign_in(page, fed)
    page.goto("/sessions")

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.locator(":focus")
            says = focused.evaluate("e => (e.labels?.[0] ?? e).textContent.trim()")
            if says == name:
                assert focused.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
                return
        raise AssertionError(f"{name} is not reached by Tab")

    tab_to("Sample")
    page.keyboard.type("2026-118")
    tab_to("Start counting")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Counting into 2026-118.")).to_be_visible()
    session = fed.device.status().session
    assert session is not None
    assert session.sample == "2026-118"
    page.goto("/sessions")
    tab_to("Stop this session…")
    page.keyboard.press("Enter")
    tab_to("Stop counting")
    page.keyboard.press("Enter")
    expect(page.get_by_text("2026-118 is stopped.")).to_be_visible()
    assert fed.device.status().session is None


# Classify


def test_an_image_is_chosen_and_classified(
    fed: FedDevice, address: str, new_page: NewPage, tmp_path: Path
) -> None:
    page = new_page(address)
    sign_in(page, fed)
    page.goto("/classify")
    page.get_by_label("Choose an image").set_input_files(field(tmp_path))
    expect(page.locator("#chosen")).to_contain_text("field.png")
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("heading", name="found")).to_be_visible()
    shown = page.get_by_alt_text("The image that was given")
    expect(shown).not_to_have_js_property("naturalWidth", 0)
    marks = page.locator(".found svg text")
    assert marks.count() == page.locator("tbody tr").count() > 0
    # Each number stands on the picture.
    whole = shown.bounding_box()
    assert whole is not None
    for index in range(marks.count()):
        mark = marks.nth(index).bounding_box()
        assert mark is not None
        assert whole["x"] <= mark["x"] + mark["width"] / 2 <= whole["x"] + whole["width"]
        assert whole["y"] <= mark["y"] + mark["height"] / 2 <= whole["y"] + whole["height"]


def test_a_file_that_is_too_large_is_not_sent(
    fed: FedDevice, address: str, new_page: NewPage, tmp_path: Path
) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(bytes(fed.device.settings.web.upload_mb * 1_000_000 + 1))
    page = new_page(address)
    sign_in(page, fed)
    page.goto("/classify")
    page.get_by_label("Choose an image").set_input_files(path)
    page.get_by_role("button", name="Classify").click()
    says = page.get_by_label("Choose an image").evaluate("e => e.validationMessage")
    assert says == "Larger than 20 MB; save it smaller."
    expect(page.get_by_role("heading", name="Classify an image")).to_be_visible()


def test_an_image_is_dropped_and_classified(
    fed: FedDevice, address: str, new_page: NewPage, tmp_path: Path
) -> None:
    page = new_page(address)
    sign_in(page, fed)
    page.goto("/classify")
    data = b64encode(field(tmp_path).read_bytes()).decode()
    dropped = page.evaluate_handle(
        "data => { const all = new DataTransfer();"
        "const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));"
        "all.items.add(new File([bytes], 'dropped.png', {type: 'image/png'})); return all; }",
        data,
    )
    page.dispatch_event("#drop", "dragover", {"dataTransfer": dropped})
    expect(page.locator("#drop")).to_have_class(re.compile("over"))
    page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
    expect(page.locator("#chosen")).to_contain_text("dropped.png")
    page.get_by_label("a single cell").check()
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("heading", name="1 white cell found")).to_be_visible()


def test_a_form_that_comes_back_keeps_the_image_also_without_scripts(
    fed: FedDevice, address: str, browser: Browser, tmp_path: Path
) -> None:
    # Not a `new_page`: Chromium complains of the status, which is to be 422.
    context = browser.new_context(base_url=address, java_script_enabled=False)
    context.set_default_timeout(LIMIT_MS)
    page = context.new_page()
    sign_in(page, fed)
    page.goto("/classify")
    expect(page.get_by_label("µm per pixel")).to_have_value("0.1")
    with Image.open(field(tmp_path)) as whole:
        whole.crop((0, 0, 200, 200)).save(tmp_path / "crop.png")
    page.get_by_label("Choose an image").set_input_files(tmp_path / "crop.png")
    page.get_by_label("µm per pixel").fill("")
    page.get_by_label("a single cell").check()
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("alert")).to_contain_text("too few for a scale")
    expect(page.locator("#kept")).to_contain_text("crop.png is kept")
    expect(page.get_by_label("µm per pixel")).to_have_value("")
    expect(page.get_by_label("a single cell")).to_be_checked()
    page.get_by_label("µm per pixel").fill("0.1")
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("heading", name="1 white cell found")).to_be_visible()
    context.close()


# Everybody


def all_pages(fed: FedDevice) -> list[str]:
    with fed.store.read() as reader:
        ids = [session.id for session in reader.sessions()][:2]
        cell = reader.cells(ids[0])[0]
    return [
        *("/", "/cells", f"/cells/{cell.id}", "/classify", "/sessions", f"/sessions/{ids[0]}", "/device"),
        f"/sessions/compare?id={ids[0]}&id={ids[-1]}",
        "/sign-in",
    ]


def test_hostile_names_are_shown_and_not_obeyed(fed: FedDevice, address: str, new_page: NewPage) -> None:
    page = new_page(address)
    sign_in(page, fed, HOSTILE[:100])
    for sample in ("B", HOSTILE):
        fed.device.start_session(sample, HOSTILE, 100)
        fed.feed(1)
    fed.device.camera = HOSTILE
    fed.device.enter(State.STALLED, HOSTILE)
    fed.device.say("scale", HOSTILE)
    for path in all_pages(fed):
        page.goto(path)
        page.wait_for_timeout(100)
        assert page.locator("img[src=x]").count() == 0
    page.goto("/")
    # What the script that refreshes the page puts into it is no more obeyed.
    fed.device.enter(State.RECOVERING, HOSTILE + "again")
    expect(page.locator("#state")).to_contain_text(f"{HOSTILE}again")
    assert page.locator("img[src=x]").count() == 0
    assert page.title() == "Live · HematoVision"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_goes_sideways_on_a_telephone(
    fed: FedDevice, address: str, new_page: NewPage, scheme: str, tmp_path: Path
) -> None:
    page = new_page(address, viewport=PHONE, color_scheme=scheme, has_touch=True)
    sign_in(page, fed, LONG[:100])
    for sample in ("B", LONG):
        fed.device.start_session(sample, LONG, 100)
        fed.feed(2)
    fed.device.enter(State.STALLED, LONG)
    fed.device.say("scale", LONG)
    for path in all_pages(fed):
        page.goto(path)
        assert not goes_sideways(page), path
    page.goto("/classify")
    page.get_by_label("Choose an image").set_input_files(field(tmp_path))
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("heading", name="found")).to_be_visible()
    assert not goes_sideways(page)


def test_text_stands_out_from_what_is_behind_it(fed: FedDevice, address: str, new_page: NewPage) -> None:
    fed.device.start_session("A", "", 100)
    fed.feed(2)
    fed.device.enter(State.STALLED, "no frame for 5 s")
    for scheme in ("light", "dark"):
        page = new_page(address, color_scheme=scheme)
        sign_in(page, fed)
        for path in all_pages(fed):
            page.goto(path)
            # 4.5 is what WCAG 2.2 asks of small text.
            assert page.evaluate(LOWEST_CONTRAST) >= 4.5, (scheme, path)


LOWEST_CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  let lowest = 21;
  for (const e of document.querySelectorAll("body *:not(svg *, option, .picture *)")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    lowest = Math.min(lowest, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return lowest;
}"""


def test_everything_works_without_scripts(
    fed: FedDevice, address: str, new_page: NewPage, tmp_path: Path
) -> None:
    page = new_page(address, java_script_enabled=False)
    sign_in(page, fed)
    page.goto("/sessions")
    page.get_by_label("Sample").fill("2026-118")
    page.get_by_role("button", name="Start counting").click()
    expect(page.get_by_text("Counting into 2026-118.")).to_be_visible()
    fed.feed(3)
    page.goto("/")
    expect(page.locator("#differential caption")).to_contain_text("given a class")
    page.goto("/cells")
    card = page.locator(".gallery > li").first
    card.get_by_text("Correct").click()
    card.get_by_role("combobox").select_option("unclassified")
    card.get_by_role("button", name="Save label").click()
    expect(page.get_by_text("is unclassified now")).to_be_visible()
    page.goto("/classify")
    page.get_by_label("Choose an image").set_input_files(field(tmp_path))
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("heading", name="found")).to_be_visible()
    page.goto("/sessions")
    page.get_by_text("Stop this session…").click()
    page.get_by_role("button", name="Stop counting").click()
    expect(page.get_by_text("2026-118 is stopped.")).to_be_visible()
    page.get_by_text("Delete this session…").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_text("2026-118 is deleted.")).to_be_visible()


# The pictures of the README


def shoot(page: Page, path: Path) -> None:
    """Write a small picture of a page: its colours less their lowest bits, which nobody sees."""
    shot = Image.open(BytesIO(page.screenshot(full_page=path.stem not in ("cells", "device")))).convert("RGB")
    ImageOps.posterize(shot, 5 if path.stem == "classify" else 6).save(path, optimize=True)
    assert path.stat().st_size < MAX_PICTURE_BYTES


def take_screenshots(browser: Browser, folder: Path, cells: int) -> None:
    """Every page as the README shows it, with so many cells in each of two sessions."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory() as work,
        fed_device(Path(work) / "state", LiveLine) as fed,
        fed.serving() as address,
        fed.feeding(0.02) as paused,
    ):

        def rest(page: Page) -> None:
            """Stop at a frame with cells, and wait until the page shows it."""
            wait_until(page, lambda: fed.device.status().cells_in_view > 2)
            paused.set()
            page.wait_for_timeout(1200)

        page = browser.new_context(base_url=address, viewport=DESK).new_page()
        sign_in(page, fed)
        for sample in ("2026-118", "2026-119"):
            session = fed.device.start_session(sample, "R. Okafor", 200)
            wait_until(page, lambda: fed.device.status().differential.named >= cells, limit_s=200)
        page.goto("/")
        wait_for_picture(page)
        rest(page)
        shoot(page, folder / "live.png")
        paused.clear()
        for name, path in {
            "cells": "/cells",
            "sessions": "/sessions",
            "session": f"/sessions/{session.id}",
            "compare": f"/sessions/compare?id={session.id - 1}&id={session.id}",
            "device": "/device",
        }.items():
            page.goto(path)
            page.wait_for_load_state("networkidle")
            shoot(page, folder / f"{name}.png")
        page.goto("/classify")
        page.get_by_label("Choose an image").set_input_files(field(Path(work)))
        page.get_by_role("button", name="Classify").click()
        expect(page.locator(".found img")).not_to_have_js_property("naturalWidth", 0)
        shoot(page, folder / "classify.png")
        state = page.context.storage_state()
        page.context.close()
        for name in ("phone", "phone-dark"):
            page = browser.new_context(
                base_url=address,
                viewport=PHONE,
                color_scheme="dark" if name.endswith("dark") else "light",
                storage_state=state,
            ).new_page()
            page.goto("/")
            wait_for_picture(page)
            rest(page)
            shoot(page, folder / f"{name}.png")
            paused.clear()
            page.context.close()


@pytest.mark.slow
def test_screenshots(browser: Browser, tmp_path: Path) -> None:
    take_screenshots(browser, tmp_path, cells=3)
    names = {"live", "cells", "sessions", "session", "compare", "device", "classify", "phone", "phone-dark"}
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.png" for name in names}
