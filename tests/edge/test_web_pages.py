"""The pages as the server writes them: whole without scripts, and nothing that somebody typed is obeyed."""

import dataclasses
import io
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from html import unescape
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import cv2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from edge.device import DeviceStatus, PublisherStatus, State
from edge.differential import Differential, classifier_error
from edge.health import Health
from edge.store import FILE_NAME, NewSession, StoreCounts, StoredCell
from edge.web.kept_files import KeptFiles, SentFile
from edge.web.page_text import caption, health_lines, local_time, old_note, probability, share_text
from hematovision.errors import StoreError

from .fed_device import UM_PER_PIXEL, FedDevice, fed_device, places

# In `edge.web` the name is its blueprint's.
pages_module = import_module("edge.web.pages")

PAGES = ("/", "/cells", "/classify", "/sessions", "/device", "/sign-in")
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7*7 }}"
# Tags that never have an end.
VOID = {"meta", "link", "img", "input", "br", "hr"}


class Person:
    """Somebody with a browser: signs in, opens pages, fills in forms."""

    def __init__(self, client: FlaskClient, token: str) -> None:
        self._client = client
        self._token = token

    def sign_in(self, who: str = "R. Okafor") -> "Person":
        answer = self.send("/sign-in", page="/sign-in", who=who, token=self._token, next="/")
        assert answer.status_code == 303
        return self

    def get(self, address: str) -> TestResponse:
        return self._client.get(address)

    def text(self, address: str) -> str:
        """What a page says, without its tags."""
        answer = self.get(address)
        assert answer.status_code == 200, answer.text
        return words(answer.text)

    def send(self, address: str, page: str = "/sign-in", **fields: Any) -> TestResponse:
        """Send a form as it comes from a page."""
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.get(page).text)
        assert found is not None
        return self._client.post(address, data={"csrf_token": found[1], **fields})

    def send_without_page(self, address: str, **fields: Any) -> TestResponse:
        return self._client.post(address, data=fields)


def words(html: str) -> str:
    body = re.sub(r"<(script|svg)\b.*?</\1>", "", html[html.index("<main") :], flags=re.S)
    return re.sub(r"[ \n]+", " ", unescape(re.sub(r"<[^>]+>", " ", body))).strip()


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[FedDevice]:
    with fed_device(tmp_path / "state") as fed:
        yield fed


@pytest.fixture
def app(fed: FedDevice) -> Iterator[Flask]:
    app = fed.app()
    yield app
    app.extensions["hematovision"].live.close()


@pytest.fixture
def visitor(app: Flask, fed: FedDevice) -> Person:
    """Somebody who only looks."""
    return Person(app.test_client(), fed.token)


@pytest.fixture
def operator(visitor: Person) -> Person:
    """Somebody who has signed in."""
    return visitor.sign_in()


@pytest.fixture
def other(app: Flask, fed: FedDevice) -> Person:
    """Somebody else who has signed in."""
    return Person(app.test_client(), fed.token).sign_in("A. Other")


def cells_of(fed: FedDevice, session_id: int) -> list[StoredCell]:
    with fed.store.read() as reader:
        return reader.cells(session_id)


def picture() -> bytes:
    image = places()[0].image
    return bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1])


class Page(HTMLParser):
    """What is looked for in the source of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.open: list[str] = []
        self.scripts = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.scripts += data


def all_pages(fed: FedDevice) -> tuple[str, ...]:
    """Every address, once there are two sessions with cells."""
    first = fed.device.start_session("A", "", 100)
    fed.feed(2)
    second = fed.device.start_session("B", "", None)
    fed.feed(2)
    cell = cells_of(fed, second.id)[0]
    return (
        *PAGES,
        f"/cells?session={first.id}",
        f"/cells/{cell.id}",
        f"/sessions/{first.id}",
        f"/sessions/compare?id={first.id}&id={second.id}",
        "/nowhere",
    )


def test_each_page_is_there_before_anything_was_counted(visitor: Person) -> None:
    for address in PAGES:
        assert visitor.get(address).status_code == 200
    assert "No session is open: nothing is counted." in visitor.text("/")
    assert "No cells yet." in visitor.text("/cells")
    assert "No session yet." in visitor.text("/sessions")


def test_each_page_says_once_what_it_is_not(fed: FedDevice, operator: Person) -> None:
    for address in all_pages(fed):
        assert operator.get(address).text.count("Research and teaching use; not a medical device.") == 1


def test_pages_keep_to_the_content_security_policy(fed: FedDevice, operator: Person) -> None:
    for address in all_pages(fed):
        page = Page(operator.get(address).text)
        assert page.scripts.strip() == ""
        assert page.open == []
        for tag, attributes in page.tags:
            assert tag != "style"
            assert not [name for name in attributes if name == "style" or name.startswith("on")]
            for name in ("src", "href", "action"):
                assert re.match(r"[/#]", attributes.get(name) or "/"), attributes


def test_whatever_is_filled_in_has_a_label_and_ids_are_given_once(fed: FedDevice, operator: Person) -> None:
    for address in all_pages(fed):
        page = Page(operator.get(address).text)
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        named = {attributes.get("for") for tag, attributes in page.tags if tag == "label"}
        for tag, attributes in page.tags:
            kind = attributes.get("type")
            if tag == "select" or (tag == "input" and kind not in ("hidden", "radio", "checkbox")):
                assert attributes["id"] in named, attributes
            if tag == "img":
                assert attributes["alt"]
        for _, attributes in page.tags:
            for name in ("aria-labelledby", "aria-describedby"):
                assert attributes.get(name, ids[0]) in ids


def test_what_somebody_typed_is_shown_and_not_obeyed(fed: FedDevice, visitor: Person) -> None:
    operator = visitor.sign_in(HOSTILE)
    other = fed.device.start_session("B", "", None)
    session = fed.device.start_session(HOSTILE, HOSTILE, 100)
    fed.feed(2)
    fed.device.camera = HOSTILE
    fed.device.enter(State.STALLED, HOSTILE)
    fed.device.say("scale", HOSTILE)
    cell = cells_of(fed, session.id)[0]
    operator.send(f"/cells/{cell.id}/label", **{"class": "unclassified"})
    assert fed.store.flush(10)
    seen = (
        *PAGES,
        f"/cells/{cell.id}",
        "/cells?session=all",
        f"/sessions/{session.id}",
        f"/sessions/compare?id={session.id}&id={other.id}",
        f"/cells?session={HOSTILE}",
        f"/classify?result={HOSTILE}",
    )
    for address in seen:
        html = operator.get(address).text
        assert "<script>alert" not in html
        assert "<img src=x" not in html
        assert Page(html).scripts.strip() == ""
    for address in ("/", "/sessions", "/device", f"/cells/{cell.id}", f"/sessions/{session.id}"):
        assert HOSTILE in operator.text(address)


# Live


def test_live_shows_the_differential_with_limits_reference_and_the_classifiers_own_error(
    fed: FedDevice, visitor: Person
) -> None:
    session = fed.device.start_session("2026-118", "R. Okafor", 100)
    fed.feed(6)
    text = visitor.text("/")
    counted = fed.device.status().differential
    assert "Running phantom Picture" in text
    assert "2026-118 by R. Okafor" in text
    assert f"{counted.named} of 100 cells wanted" in text
    neutrophils = counted.share("neutrophil")
    assert f"neutrophil {neutrophils.count} {share_text(neutrophils)} 40–75 % high" in text
    assert classifier_error(fed.device.manifest.accuracy) in text
    assert f"Stored {counted.total}" in text
    assert f'href="/sessions/{session.id}"' in visitor.get("/").text


def test_without_a_camera_live_stays_up_and_says_so(fed: FedDevice, visitor: Person) -> None:
    fed.device.enter(State.ABSENT, "/dev/video0 is not there; plug the camera in")
    text = visitor.text("/")
    assert "Absent phantom: /dev/video0 is not there; plug the camera in since" in text
    assert "No picture yet." in text
    assert "/live.mjpg" not in visitor.get("/").text


def test_an_old_picture_does_not_look_live(fed: FedDevice, visitor: Person) -> None:
    fed.feed(1)
    assert "Not live" not in visitor.text("/")
    fed.device.enter(State.STALLED, "no frame for 5 s")
    assert "Not live: the last frame came" in visitor.text("/")
    assert 'class="picture old"' in visitor.get("/").text


def status_with(fed: FedDevice, **changes: object) -> DeviceStatus:
    return dataclasses.replace(fed.device.status(), **changes)  # type: ignore[arg-type]


def test_a_running_camera_whose_last_frame_is_old_is_not_live_either(fed: FedDevice) -> None:
    assert old_note(status_with(fed, frame_age_s=0.5)) == ""
    assert old_note(status_with(fed, frame_age_s=4.0)) == "Not live: the last frame came 4.0 s ago."
    assert old_note(status_with(fed, frame_age_s=7300.0)) == "Not live: the last frame came 2 h 2 min ago."
    assert old_note(status_with(fed, frame_age_s=None)) == ""


def test_cells_that_could_not_be_stored_are_shown_as_such(
    fed: FedDevice, visitor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Not stored" not in visitor.text("/")
    monkeypatch.setattr(fed.store, "counts", lambda: StoreCounts(3, 100_000, 17, "the disk is full"))
    text = visitor.text("/")
    assert "Stored 100\u202f000 Being stored 3 Not stored 17" in text
    assert "the disk is full" in text


def test_when_a_session_has_ended_live_says_that_nothing_is_counted(fed: FedDevice, visitor: Person) -> None:
    fed.device.start_session("A", "", None)
    fed.feed(2)
    fed.device.stop_session()
    text = visitor.text("/")
    assert "No session is open: nothing is counted. Start a session . Below is the last one." in text
    assert caption(fed.device.status().differential) in text


def test_a_message_waits_for_a_person_and_is_not_taken_by_the_script_that_refreshes_a_page(
    operator: Person,
) -> None:
    operator.send("/sessions/start", sample="A", target="100")
    refreshed = operator._client.get("/", headers={"X-Refresh": "1"})
    assert "Counting into A." not in refreshed.text
    assert "Counting into A." in operator.text("/")
    assert "Counting into A." not in operator.text("/")


def test_a_session_that_is_to_go_is_announced(fed: FedDevice, visitor: Person) -> None:
    session = fed.device.start_session("A", "", None)
    fed.device.stop_session()
    pages = ("/sessions", f"/sessions/{session.id}")
    assert not any("to be deleted" in visitor.text(page).lower() for page in pages)
    with closing(sqlite3.connect(fed.store.folder / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE sessions SET notice = 'age', notice_s = 3700")
    for page in pages:
        assert "to be deleted after 23 h more of running, past its time" in " ".join(
            visitor.text(page).lower().split()
        )


# Cells


def test_cells_are_filtered_by_session_class_probability_and_correction(
    fed: FedDevice, operator: Person
) -> None:
    first = fed.device.start_session("A", "", None)
    fed.feed(3)
    fed.device.start_session("B", "", None)
    fed.feed(1)
    cells = cells_of(fed, first.id)
    operator.send(f"/cells/{cells[0].id}/label", **{"class": "monocyte"})

    def shown(query: str) -> list[int]:
        found = re.findall(r'<li id="cell-(\d+)"', operator.get(f"/cells?{query}").text)
        return [int(text) for text in found]

    ids = [cell.id for cell in reversed(cells)]
    assert shown(f"session={first.id}") == ids
    assert set(shown("session=all")) > set(ids)
    assert shown(f"session={first.id}&class=monocyte") == [cells[0].id]
    assert shown(f"session={first.id}&corrected=1") == [cells[0].id]
    likeliest = {cell.id: max(cell.probabilities or ()) for cell in reversed(cells)}
    limit = sorted(likeliest.values())[len(cells) // 2]
    assert shown(f"session={first.id}&from={limit!r}") == [
        number for number, probability in likeliest.items() if probability >= limit
    ]
    assert shown(f"session={first.id}&to={limit!r}") == [
        number for number, probability in likeliest.items() if probability <= limit
    ]
    assert shown(f"session={first.id}&class=basophil") == []


def test_the_session_that_is_open_is_shown_first(fed: FedDevice, visitor: Person) -> None:
    fed.device.start_session("A", "", None)
    fed.feed(1)
    session = fed.device.start_session("B", "", None)
    fed.feed(1)
    assert f'<option value="{session.id}" selected>B' in visitor.get("/cells").text


def test_a_gallery_goes_on_from_page_to_page_and_keeps_its_filter(
    fed: FedDevice, visitor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "CELLS_A_PAGE", 4)
    session = fed.device.start_session("A", "", None)
    fed.feed(4)
    wanted = [cell.id for cell in reversed(cells_of(fed, session.id))]
    address, seen = f"/cells?session={session.id}&from=0.1", list[int]()
    while address:
        html = visitor.get(address).text
        seen += [int(text) for text in re.findall(r'<li id="cell-(\d+)"', html)]
        assert 'value="0.1"' in html
        link = re.search(r'href="([^"]+)">Next page', html)
        address = unescape(link[1]) if link else ""
    assert seen == wanted


@pytest.mark.parametrize(
    "query", ["session=x", "session=-1", "class=basophilia", "from=nan", "to=?", "after=1e3"]
)
def test_an_address_that_cannot_be_meant_is_answered_in_one_line(visitor: Person, query: str) -> None:
    answer = visitor.get(f"/cells?{query}")
    assert answer.status_code == 400
    assert words(answer.text).startswith("Not done ")


def test_keywords_of_flask_in_an_address_lead_nowhere_else(
    fed: FedDevice, visitor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "CELLS_A_PAGE", 1)
    fed.device.start_session("A", "", None)
    fed.feed(2)
    html = visitor.get("/cells?_external=1&_scheme=evil&_anchor=x").text
    assert 'href="/cells?after=' in html
    assert "evil" not in html.replace("next=/cells?_external%3D1%26_scheme%3Devil", "")


def test_a_corrected_label_keeps_who_when_and_what_it_was_before(fed: FedDevice, operator: Person) -> None:
    session = fed.device.start_session("A", "", None)
    fed.feed(2)
    cell = cells_of(fed, session.id)[0]
    back = f"/cells?session={session.id}"
    answer = operator.send(f"/cells/{cell.id}/label", back=back, **{"class": "unclassified"})
    assert (answer.status_code, answer.location) == (303, f"{back}#cell-{cell.id}")
    assert f"Cell {cell.number} was {cell.class_name} and is unclassified now." in operator.text(back)
    operator.send(f"/cells/{cell.id}/label", **{"class": "monocyte"})
    with fed.store.read() as reader:
        first, second = reader.corrections(cell_id=cell.id)
    text = operator.text(f"/cells/{cell.id}")
    assert (
        f"classified as {cell.class_name} {local_time(first.at)} : R. Okafor changed {cell.class_name} to "
        f"unclassified {local_time(second.at)} : R. Okafor changed unclassified to monocyte"
    ) in text
    assert f"monocyte , corrected; classified as {cell.class_name}" in text


def test_the_differential_stands_there_as_classified_and_as_corrected(
    fed: FedDevice, operator: Person
) -> None:
    session = fed.device.start_session("A", "", None)
    fed.feed(3)
    cells = cells_of(fed, session.id)
    operator.send(f"/cells/{cells[0].id}/label", **{"class": "unclassified"})
    for address in (f"/cells?session={session.id}", f"/sessions/{session.id}"):
        text = operator.text(address)
        classified, corrected = text[text.index("As classified") :].split("As corrected")
        assert f"{len(cells)} cells, {len(cells)} given a class" in classified
        assert f"{len(cells)} cells, {len(cells) - 1} given a class" in corrected
        assert "the classifier's own error comes on top" in corrected


def test_the_same_label_again_is_no_correction(fed: FedDevice, operator: Person) -> None:
    session = fed.device.start_session("A", "", None)
    fed.feed(1)
    cell = cells_of(fed, session.id)[0]
    operator.send(f"/cells/{cell.id}/label", **{"class": str(cell.class_name)})
    assert f"is called {cell.class_name} already." in operator.text("/cells")
    with fed.store.read() as reader:
        assert reader.corrections(cell_id=cell.id) == []


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.example/",
        "//evil.example/cells",
        "/\\evil.example",
        "/cells\\..",
        "/cells\r\nX: y",
        "/device",
    ],
)
def test_a_correction_leads_back_to_no_other_site(fed: FedDevice, operator: Person, back: str) -> None:
    session = fed.device.start_session("A", "", None)
    fed.feed(1)
    cell = cells_of(fed, session.id)[0]
    answer = operator.send(f"/cells/{cell.id}/label", back=back, **{"class": "monocyte"})
    assert answer.location == f"/cells/{cell.id}#cell-{cell.id}"


def test_a_class_or_a_cell_that_is_not_there_is_refused(fed: FedDevice, operator: Person) -> None:
    session = fed.device.start_session("A", "", None)
    fed.feed(1)
    cell = cells_of(fed, session.id)[0]
    assert operator.send(f"/cells/{cell.id}/label", **{"class": "basophilia"}).status_code == 400
    assert operator.send("/cells/999999/label", **{"class": "monocyte"}).status_code == 404
    assert operator.get("/cells/999999").status_code == 404
    assert operator.get("/sessions/999999").status_code == 404


# Who may change something


CHANGES: tuple[tuple[str, dict[str, str]], ...] = (
    ("/cells/1/label", {"class": "monocyte"}),
    ("/classify", {}),
    ("/sessions/start", {"sample": "A"}),
    ("/sessions/stop", {"session": "1"}),
    ("/sessions/1/delete", {}),
)


@pytest.mark.parametrize(("address", "fields"), CHANGES)
def test_nothing_changes_without_signing_in_or_from_another_site(
    fed: FedDevice, visitor: Person, address: str, fields: dict[str, str]
) -> None:
    session = fed.device.start_session("A", "", None)
    fed.feed(1)
    assert visitor.send_without_page(address, **fields).status_code == 401
    visitor.sign_in()
    assert visitor.send_without_page(address, **fields).status_code == 403
    with fed.store.read() as reader:
        assert [one.id for one in reader.sessions()] == [session.id]
        assert reader.open_session() is not None
        assert reader.corrections() == []


def test_who_only_looks_is_shown_where_to_sign_in_and_no_forms(fed: FedDevice, visitor: Person) -> None:
    fed.device.start_session("A", "", None)
    fed.feed(1)
    for address in ("/", "/cells", "/cells/1", "/classify", "/sessions", "/sessions/1", "/device"):
        html = visitor.get(address).text
        assert 'method="post"' not in html
        assert f'href="/sign-in?next={address}"' in html


def test_who_is_signed_out_while_filling_in_a_form_is_led_to_a_page_that_is_there(visitor: Person) -> None:
    refused = visitor.send("/sessions/start", page="/sign-in", sample="a")
    assert refused.status_code == 401
    for html in (refused.text, visitor.get("/sign-in?next=/cells").text, visitor.get("/nothing").text):
        assert 'href="/sign-in"' in html


def test_a_wrong_token_is_refused_and_the_name_stays_filled_in(visitor: Person) -> None:
    answer = visitor.send("/sign-in", who="R. Okafor", token="wrong", next="/cells")
    assert answer.status_code == 401
    assert 'value="R. Okafor"' in answer.text
    assert 'name="next" value="/cells"' in answer.text
    assert "wrong" not in re.sub(r"<label.*", "", answer.text)


# Classify


@contextmanager
def sent(data: bytes, name: str = "field.png") -> Iterator[tuple[io.BytesIO, str]]:
    with io.BytesIO(data) as file:
        yield file, name


def test_an_image_gives_its_cells_with_boxes_and_a_probability_per_class(operator: Person) -> None:
    with sent(picture()) as image:
        answer = operator.send("/classify", image=image, kind="field", um_per_pixel="0.1")
    assert answer.status_code == 303
    page = operator.get(answer.location)
    text = words(page.text)
    found = re.search(r"(\d+) white cells? found", text)
    assert found is not None
    assert len(re.findall(r"<text ", page.text)) == int(found[1])
    assert "0.1 µm per pixel, as given." in text
    link = re.search(r'img src="([^"]+)"', page.text)
    assert link is not None
    shown = operator.get(link[1])
    assert (shown.status_code, shown.mimetype) == (200, "image/jpeg")


def test_the_scale_is_measured_where_none_is_given(operator: Person) -> None:
    with sent(picture()) as image:
        answer = operator.send("/classify", image=image, kind="field", um_per_pixel="")
    assert "measured from the red cells in the image" in operator.text(answer.location)


def test_what_cannot_be_classified_is_answered_in_one_line(operator: Person) -> None:
    def refusal(data: bytes, um_per_pixel: str = "0.1") -> tuple[int, str]:
        with sent(data) as image:
            answer = operator.send("/classify", image=image, kind="single", um_per_pixel=um_per_pixel)
        found = re.search(r'role="alert">([^<]+)</p>', answer.text)
        assert found is not None
        assert "\n" not in found[1]
        assert 'value="single" checked' in answer.text
        return answer.status_code, unescape(found[1])

    assert refusal(b"") == (422, "the picture: the file is empty; copy it again")
    assert refusal(b"GIF89a")[0] == 422
    assert refusal(picture()[:1000])[0] == 422
    assert refusal(picture(), "7")[0] == 422
    assert refusal(picture(), "wide")[0] == 400


def kept_in(html: str) -> str:
    found = re.search(r'name="kept" value="([^"]+)"', html)
    assert found is not None
    return found[1]


def test_the_scale_of_the_device_is_the_default(operator: Person, fed: FedDevice) -> None:
    assert 'value="0.1"' in operator.get("/classify").text
    assert fed.device.um_per_pixel == 0.1


def test_a_form_that_comes_back_keeps_its_values_and_its_file(operator: Person) -> None:
    with sent(picture(), "<crop>.png") as image:
        answer = operator.send("/classify", image=image, kind="single", um_per_pixel="7")
    assert answer.status_code == 422
    assert "<crop>.png is kept for 10 minutes" in words(answer.text)
    assert 'value="7"' in answer.text
    assert 'value="single" checked' in answer.text
    assert not re.search(r'name="image"[^>]* required', answer.text)
    # As a browser sends a file that was not chosen.
    again: dict[str, Any] = {"image": (io.BytesIO(), ""), "kept": kept_in(answer.text)}
    answer = operator.send("/classify", kind="single", um_per_pixel="wide", **again)
    assert answer.status_code == 400
    again = {"image": (io.BytesIO(), ""), "kept": kept_in(answer.text)}
    answer = operator.send("/classify", kind="single", um_per_pixel="0,1", **again)
    assert "write 0.1, with a decimal point in place of the decimal comma" in answer.text
    again = {"image": (io.BytesIO(), ""), "kept": kept_in(answer.text)}
    answer = operator.send("/classify", kind="single", um_per_pixel="0.1", **again)
    assert answer.status_code == 303
    assert "1 white cell found" in operator.text(answer.location)


def test_a_file_that_is_chosen_anew_takes_the_place_of_the_kept_one(operator: Person) -> None:
    with sent(picture()) as image:
        answer = operator.send("/classify", image=image, kind="field", um_per_pixel="7")
    with sent(b"GIF89a", "other.gif") as image:
        answer = operator.send(
            "/classify", image=image, kept=kept_in(answer.text), kind="field", um_per_pixel="0.1"
        )
    assert "not an image in a known format" in words(answer.text)


def test_a_kept_file_is_for_whoever_sent_it_alone(operator: Person, other: Person) -> None:
    with sent(picture()) as image:
        answer = operator.send("/classify", image=image, kind="field", um_per_pixel="7")
    kept = kept_in(answer.text)
    refused = other.send("/classify", image=(io.BytesIO(), ""), kept=kept, kind="field", um_per_pixel="0.1")
    assert refused.status_code == 400
    assert "choose a picture" in refused.text
    mine = operator.send("/classify", image=(io.BytesIO(), ""), kept=kept, kind="field", um_per_pixel="0.1")
    assert mine.status_code == 303


def test_few_files_are_kept_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("edge.web.kept_files.monotonic", lambda: now)
    kept = KeptFiles()
    names = [kept.keep(SentFile(b"%d" % number, "a"), "me") for number in range(3)]
    assert kept.take(names[0], "me") is None
    assert kept.take(names[1], "me") == SentFile(b"1", "a")
    assert kept.take(names[1], "me") is None
    now = 601.0
    assert kept.take(names[2], "me") is None


def test_a_result_that_is_no_longer_kept_says_so(operator: Person) -> None:
    assert "This result is no longer kept" in operator.text("/classify?result=gone")


# Sessions


def test_a_session_is_started_counted_into_stopped_and_deleted(fed: FedDevice, operator: Person) -> None:
    answer = operator.send("/sessions/start", sample=" 2026-118 ", operator="R. Okafor", target="200")
    assert (answer.status_code, answer.location) == (303, "/")
    session = fed.device.status().session
    assert session is not None
    assert (session.sample, session.operator, session.target) == ("2026-118", "R. Okafor", 200)
    fed.feed(2)
    total = fed.device.status().differential.total
    text = operator.text("/sessions")
    assert f"{total} cells, {total} of 200 wanted." in text
    assert "The open session ends when another is started." in text
    operator.send(f"/sessions/{session.id}/delete")
    assert "Nothing was deleted" in operator.text("/sessions")
    answer = operator.send("/sessions/stop", session=session.id)
    assert answer.location == f"/sessions/{session.id}"
    text = operator.text(answer.location)
    assert "2026-118 is stopped." in text
    assert "stopped by R. Okafor" in text
    assert f"Its {total} cells, with crops and corrections, are deleted for good." in text
    assert operator.send(f"/sessions/{session.id}/delete").location == "/sessions"
    assert "2026-118 is deleted. Sessions" in operator.text("/sessions")
    with fed.store.read() as reader:
        assert reader.sessions() == []


def test_stop_ends_only_the_session_that_was_shown(fed: FedDevice, operator: Person) -> None:
    shown = fed.device.start_session("A", "", None)
    following = fed.device.start_session("B", "", None)
    operator.send("/sessions/stop", session=shown.id)
    assert "That session has ended already." in operator.text("/sessions")
    assert fed.device.status().session == following


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sample": "A\nB", "target": "100"}, "No session was started: sample: "),
        ({"sample": "A" * 201, "target": "100"}, "No session was started: sample: "),
    ],
)
def test_a_name_that_cannot_be_starts_nothing(
    fed: FedDevice, operator: Person, fields: dict[str, str], said: str
) -> None:
    answer = operator.send("/sessions/start", **fields)
    assert said in operator.text(answer.location)
    assert fed.device.status().session is None


def test_only_the_known_targets_are_taken(fed: FedDevice, operator: Person) -> None:
    assert operator.send("/sessions/start", sample="A", target="150").status_code == 400
    assert operator.send("/sessions/start", sample="A", target="").status_code == 303
    session = fed.device.status().session
    assert session is not None
    assert session.target is None


def test_sessions_are_compared_side_by_side_with_their_limits(fed: FedDevice, visitor: Person) -> None:
    first, second = (fed.device.start_session(name, "", None) for name in "AB")
    fed.feed(6)
    counted = fed.device.status().differential
    text = visitor.text(f"/sessions/compare?id={first.id}&id={second.id}")
    assert "0 cells, 0 given a class" in text
    assert f"neutrophil – {share_text(counted.share('neutrophil'))} high" in text
    assert "different models or scales" not in text


@pytest.mark.parametrize("query", ["", "id=1", "id=1&id=1", "&".join(f"id={one}" for one in range(1, 12))])
def test_one_session_or_too_many_are_not_compared(fed: FedDevice, visitor: Person, query: str) -> None:
    fed.device.start_session("A", "", None)
    answer = visitor.get(f"/sessions/compare?{query}")
    assert answer.location == "/sessions"
    assert "Choose 2 to 10 sessions to compare." in visitor.text("/sessions")


def test_an_older_session_stands_with_the_error_of_the_model_that_counted_it(
    fed: FedDevice, visitor: Person
) -> None:
    session = fed.device.start_session("A", "", None)
    fed.device.stop_session()
    kept = dict(session.settings)
    kept["accuracy"] = {"sets": [{**kept["accuracy"]["sets"][0], "name": "another laboratory"}]}
    new = NewSession("B", "", "phantom", "older.tflite", "0" * 64, UM_PER_PIXEL, settings=kept)
    older = fed.store.start_session(new)
    text = visitor.text(f"/sessions/{older.id}")
    assert "Measured: another laboratory:" in text
    assert "kaggle-test" not in text
    text = visitor.text(f"/sessions/compare?id={session.id}&id={older.id}")
    assert "Measured: another laboratory:" in text
    assert "kaggle-test" in text
    assert "counted with different models or scales" in text


def test_a_session_offers_its_exports(fed: FedDevice, visitor: Person) -> None:
    session = fed.device.start_session("A", "", None)
    fed.feed(1)
    html = visitor.get(f"/sessions/{session.id}").text
    links = [unescape(link) for link in re.findall(r'href="([^"]+)" download', html)]
    assert len(links) == 3
    for link in links:
        with visitor.get(link) as answer:
            assert answer.status_code == 200
            assert answer.get_data()


def test_long_lists_of_sessions_and_events_go_on(
    fed: FedDevice, visitor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "SESSIONS_A_PAGE", 2)
    monkeypatch.setattr(pages_module, "EVENTS_A_PAGE", 2)
    for number in range(5):
        fed.device.start_session(f"S{number}", "", None)
        fed.device.say("scale", f"E{number}")
    assert fed.store.flush(10)
    for address, mark, link in (("/sessions", "S", "Older sessions"), ("/device", "E", "Older events")):
        seen, page = set[str](), address
        while page:
            html = visitor.get(page).text
            seen |= set(re.findall(rf"\b{mark}\d\b", html[html.index("-heading") :]))
            found = re.search(rf'href="([^"]+)">{link}', html)
            page = unescape(found[1]) if found else ""
        assert len(seen) == 5


# Device


def test_device_says_problems_first(fed: FedDevice, visitor: Person) -> None:
    fed.feed(1)
    fed.device.enter(State.RECOVERING, "it stalled")
    text = visitor.text("/device")
    assert text.index("The camera is recovering: it stalled.") < text.index("Health")


def test_device_shows_the_models_card_with_what_was_measured(fed: FedDevice, visitor: Person) -> None:
    text = visitor.text("/device")
    assert fed.device.model.model_hash in text
    for one in fed.device.manifest.accuracy["sets"]:
        assert f"{100 * one['accuracy']:.1f} % {100 * one['low']:.1f} to {100 * one['high']:.1f}" in text


def test_a_sensor_that_is_not_there_says_so() -> None:
    nothing = Health(None, None, None, None, None, None, None, None)
    assert {text for _, text in health_lines(nothing)} == {"no such sensor here", "not known"}
    all_there = Health(48.25, (), 1500.0, True, 63_312.4, 130.2, 3000.0, 0.5)
    assert dict(health_lines(all_there)) == {
        "Temperature": "48.2 °C",
        "Power and heat": "all well",
        "Processor clock": "1500 MHz",
        "Time of day": "set by the network",
        "Free for the store": "63312 MB",
        "Memory of this program": "130 MB",
        "Memory free": "3000 MB",
        "Load": "0.50",
    }


def test_device_tells_how_messages_get_on(fed: FedDevice, visitor: Person) -> None:
    assert "Messages off" in visitor.text("/device")
    fed.device.reports_messages(lambda: PublisherStatus(False, "the broker refuses <us>", 17, 1200))
    text = visitor.text("/device")
    assert "Messages not connected; 1\u202f200 sent, 17 waiting; the broker refuses <us>" in text


def test_device_names_the_settings_in_force(fed: FedDevice, visitor: Person) -> None:
    text = visitor.text("/device")
    assert f"store folder {fed.device.settings.store.folder}" in text
    assert "read_without_token no" in text
    assert fed.token not in visitor.get("/device").text


# A store that fails


def test_a_store_that_cannot_be_read_leaves_live_up_and_is_said_in_one_line(
    fed: FedDevice, visitor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> NoReturn:
        raise StoreError("hematovision.db: cannot be read (disk I/O error); check the disk")

    fed.feed(1)
    monkeypatch.setattr(fed.store, "read", fail)
    assert visitor.get("/").status_code == 200
    for address in ("/cells", "/sessions", "/device"):
        answer = visitor.get(address)
        assert answer.status_code == 503
        assert "cannot be read (disk I/O error); check the disk" in words(answer.text)


def test_a_store_that_takes_nothing_changes_nothing(
    fed: FedDevice, operator: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed.device.start_session("A", "", None)

    def fail(*_: object, **__: object) -> NoReturn:
        raise StoreError("hematovision.db: the disk is full; make room")

    monkeypatch.setattr(fed.store, "end_session", fail)
    operator.send("/sessions/stop", session=1)
    text = operator.text("/sessions")
    assert "The session was not stopped: hematovision.db: the disk is full; make room." in text
    assert "Open now" in text


# How numbers are written


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((0, 0, 0, 0), "–"),
        ((1, 0, 0, 0), "100.0 % (2–100)"),
        ((5, 95, 0, 0), "5.0 % (1–12)"),
        ((99_999, 1, 0, 0), "100.0 % (99–100)"),
    ],
)
def test_a_share_is_written_with_limits_rounded_outward(counts: tuple[int, ...], said: str) -> None:
    assert share_text(Differential(counts).share("neutrophil")) == said


@pytest.mark.parametrize(
    ("write", "value", "said"),
    [
        (probability, 0.999, "> 0.99"),
        (probability, 1.0, "1.00"),
        (probability, 0.004, "0.00"),
        (caption, Differential((1, 0, 0, 0)), "1 cell, 1 given a class"),
        (caption, Differential((99_000, 0, 0, 0), 1_000), "100\u202f000 cells, 99\u202f000 given a class"),
    ],
)
def test_numbers_are_written_as_people_read_them(
    write: Callable[[Any], str], value: object, said: str
) -> None:
    assert write(value) == said
