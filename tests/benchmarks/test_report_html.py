"""The report as a page: all figures as text, nothing fetched, nothing from outside obeyed."""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from benchmarks import plots, report_html
from benchmarks.notes import notes
from benchmarks.report_tables import sections
from benchmarks.results import Report, Unmeasured

from .sample_report import sample_report

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# As root, in a container and without a network.
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
VOID = {"meta", "br", "img", "link", "hr", "input"}
HOSTILE = "<script>document.title='obeyed'</script>\"'><img src=x onerror=\"document.title='obeyed'\">"


class Page(HTMLParser):
    """Elements of a page that are opened and closed in order; their text and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attributes]
        self.ids += [value or "" for name, value in attributes if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def to_html(report: Report) -> str:
    return report_html.to_html(report, plots.all_plots(report))


@cache
def page_of() -> str:
    return to_html(sample_report())


def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.plots.all_plots", lambda report: [])


def nothing_measured() -> Report:
    return dataclasses.replace(
        sample_report(),
        variants=(),
        latency=(),
        layers=(),
        accuracy=(),
        noise=(),
        throughput=(),
        peers=(),
        unmeasured=(),
    )


def test_elements_are_balanced_and_ids_are_unique() -> None:
    page = Page(page_of())
    assert page.tags["h1"] == page.tags["main"] == page.tags["title"] == 1
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    for name, value in page.attributes:
        if name == "aria-labelledby" or (name == "href" and value.startswith("#")):
            assert value.removeprefix("#") in page.ids


def test_every_figure_of_every_section_is_text_in_a_table() -> None:
    page = Page(page_of())
    for tables in sections(sample_report(), whole=True).values():
        for table in tables:
            assert " ".join(table.title.split()) in page.text
            for row in table.rows:
                assert all(" ".join(cell.split()) in page.text for cell in row)


def test_the_summary_has_accuracy_with_its_interval() -> None:
    [row] = [row for row in sample_report().accuracy if (row.variant, row.evaluation.name) == ("int8", "pbc")]
    accuracy = row.evaluation.files.accuracy
    summary = page_of().partition('id="summary"')[2].partition("</table>")[0]
    assert f"{100 * accuracy.value:.1f} ({100 * accuracy.low:.1f}–{100 * accuracy.high:.1f})" in summary


def test_what_must_be_known_and_what_failed_stand_above_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    without_plots(monkeypatch)
    text = Page(to_html(sample_report(disturbed=True))).text
    figures = text.index("Summary")
    for note in notes(sample_report(disturbed=True)):
        assert text.index(" ".join(note.split())) < figures
    assert text.index("kisbleed has no cell of class monocyte") < figures
    assert text.index("FULLY_CONNECTED version 12 is newer") > figures


def test_tables_have_captions_and_headings_for_both_directions() -> None:
    html = page_of()
    page = Page(html)
    assert page.tags["table"] == page.tags["caption"] > 10
    assert page.attributes.count(("scope", "col")) >= 5 * page.tags["table"]
    assert page.attributes.count(("scope", "row")) == page.tags["tr"] - page.tags["table"]
    for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", html):
        assert 'class="figure"' in row


def test_every_plot_says_in_words_what_it_shows() -> None:
    html = page_of()
    pictures = re.findall(r"<svg [^>]*>", html)
    assert len(pictures) == 12
    for picture in pictures:
        assert 'role="img"' in picture
        assert len(re.findall(r'aria-label="([^"]+)"', picture)[0]) > 30


def test_nothing_is_fetched_and_nothing_runs() -> None:
    html = page_of()
    page = Page(html)
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert value.startswith(("#", "data:image/png;base64,"))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", html))
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_every_reference_within_a_plot_leads_to_something() -> None:
    page = Page(page_of())
    targets = {
        value.removeprefix("#") for name, value in page.attributes if name == "href" and value[0] == "#"
    }
    targets |= set(re.findall(r"url\(#([^)]*)\)", page_of()))
    assert targets <= set(page.ids)


def test_plots_take_the_colours_of_the_page() -> None:
    pictures = "".join(re.findall(r"<svg .*?</svg>", page_of(), re.DOTALL))
    assert "currentColor" in pictures
    for color in ("#14181b", "#ffffff"):
        assert color not in pictures


def test_names_from_outside_are_text() -> None:
    report = sample_report()
    html = to_html(
        dataclasses.replace(
            report,
            arguments=(HOSTILE,),
            variants=tuple(dataclasses.replace(one, model=HOSTILE) for one in report.variants),
            latency=tuple(dataclasses.replace(one, model=HOSTILE) for one in report.latency),
            layers=(),
            noise=(),
            throughput=(),
            accuracy=tuple(
                dataclasses.replace(
                    one, model=HOSTILE, evaluation=dataclasses.replace(one.evaluation, name=HOSTILE)
                )
                for one in report.accuracy
                if one.evaluation.name == "pbc"
            ),
            peers=tuple(
                dataclasses.replace(one, model=HOSTILE, name=HOSTILE, what=HOSTILE) for one in report.peers
            ),
            machine=dataclasses.replace(
                report.machine, processor=HOSTILE, disturbed=(HOSTILE,), versions={HOSTILE: HOSTILE}
            ),
            unmeasured=(
                Unmeasured("latency", HOSTILE, "\x1b[31m\x00\udc80", True),
                Unmeasured("peers", HOSTILE, HOSTILE, False),
            ),
        )
    )
    page = Page(html)
    assert page.tags["script"] == page.tags["img"] == 0
    assert page.text.count(HOSTILE) > 10
    assert not {"\x1b", "\x00"} & set(html)
    html.encode()


def test_long_tables_are_folded_away(monkeypatch: pytest.MonkeyPatch) -> None:
    without_plots(monkeypatch)
    report = sample_report()
    html = to_html(dataclasses.replace(report, latency=report.latency * 5))
    assert f"<summary>Latency of one crop, ms ({5 * len(report.latency)} rows)</summary>" in html
    assert "<summary>Latency of one crop" not in to_html(report)


@pytest.mark.parametrize("section", ["latency", "layers", "accuracy", "noise", "throughput", "peers"])
def test_a_section_that_is_empty_is_left_out(monkeypatch: pytest.MonkeyPatch, section: str) -> None:
    without_plots(monkeypatch)
    without: dict[str, Any] = {section: ()}
    page = Page(to_html(dataclasses.replace(sample_report(), **without)))
    assert section not in page.ids
    assert {"latency", "layers", "accuracy", "noise", "throughput", "peers"} - {section} <= set(page.ids)


def test_a_report_of_nothing_is_a_page() -> None:
    page = Page(to_html(nothing_measured()))
    assert page.tags["table"] == page.tags["svg"] == 0
    assert "machine" in page.ids


def test_a_page_of_sixty_contenders_is_not_large() -> None:
    report = sample_report()
    many = tuple(
        dataclasses.replace(row, runtime=f"runtime {number}") for number in range(5) for row in report.latency
    )
    assert len(many) == 60
    assert len(to_html(dataclasses.replace(nothing_measured(), latency=many))) < 1_000_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}; install chromium, or name another with CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_a_browser_shows_it_without_complaint_and_fetches_nothing(
    browser: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page_of())
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    heard: list[str] = []
    fetched: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(path.as_uri())
    assert heard == []
    assert [url for url in fetched if not url.startswith("data:")] == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background, text = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(document.querySelector('svg text')).fill]"
    )
    brightness = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in (background, text)]
    assert (brightness[0] > brightness[1]) == (scheme == "light")
    assert abs(brightness[0] - brightness[1]) > 500
    # No cell is squeezed until its words stand upright.
    narrowest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('tbody th')].map(c => c.offsetWidth).filter(w => w))"
    )
    assert narrowest >= 90
    context.close()
