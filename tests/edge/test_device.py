"""The device: cells are counted into the session that their slide belongs to, and everybody sees the same."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.cameras import Frame, LostFrame
from edge.config import CameraSettings, SessionSettings, Settings
from edge.device import Device, State
from edge.pipeline import LiveLine, SeenCell, SeenFrame
from edge.store import Store, StoreCounts
from edge.tracker import TrackedCell
from hematovision.blank_field import BlankField
from hematovision.classifier import Classifier
from hematovision.errors import SettingError, StoreError
from hematovision.finder import CellRegion
from hematovision.images import RGBImage
from hematovision.optics import measure_field

UM_PER_PIXEL = 0.2
IMAGE: RGBImage = np.full((48, 64, 3), 220, np.uint8)
FIELD = measure_field(IMAGE, UM_PER_PIXEL)
REGION = CellRegion((30.0, 20.0), (20.0, 10.0, 20.0, 20.0), 60.0, 1.0, 1.0, False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as store:
        yield store


@pytest.fixture
def device(store: Store, classifier: Classifier) -> Device:
    return Device(Settings(), classifier.model, store, LiveLine(classifier), "a camera", UM_PER_PIXEL)


def seen(number: int, counted: int = 0, slide: int = 1, area: int = 1) -> SeenFrame:
    """Frame ``number``, in which so many cells are counted, each by the number of the frame and its own."""
    frame = Frame.now(IMAGE, number, UM_PER_PIXEL, "a camera")
    cells = tuple(
        TrackedCell(
            number=10 * number + index + 1,
            area=area,
            position_um=(index * 20.0, number * 20.0),
            class_name="neutrophil",
            probabilities=(0.9, 0.1, 0.0, 0.0),
            looks=3,
            focus=1.0,
            first_seen=frame.captured_at,
            confirmed_at=frame.captured_at,
            crop=np.zeros((8, 8, 3), np.uint8),
        )
        for index in range(counted)
    )
    in_view = tuple(SeenCell(REGION, cell.number, None) for cell in cells)
    return SeenFrame(frame, FIELD, None, in_view, cells, 0.9, slide)


def stored(store: Store, session_id: int) -> list[tuple[int, int]]:
    """Number and area of the cells of a session that are on the disk."""
    assert store.flush(5)
    with store.read() as reader:
        return [(cell.number, cell.area) for cell in reader.cells(session_id)]


def test_without_a_session_nothing_is_counted_or_numbered(device: Device) -> None:
    device.saw(seen(0, counted=2))
    status = device.status()
    assert (status.frames, status.session, status.differential.total) == (1, None, 0)
    found = device.wait_frame(0, 0)
    assert found is not None
    assert [cell.counted for cell in found[1].cells] == [False, False]


def test_a_session_that_waits_for_the_first_frame_has_its_cells_too(device: Device, store: Store) -> None:
    device.start_session_with_first_frame(None)
    assert device.status().session is None
    device.saw(seen(0, counted=2))
    session = device.status().session
    assert session is not None
    assert stored(store, session.id) == [(1, 1), (2, 1)]


def test_frames_lost_before_the_first_that_shows_something_belong_to_its_session(device: Device) -> None:
    device.start_session_with_first_frame(None)
    device.saw(LostFrame(0, "a camera", "frame 0 is black"))
    assert device.status().session is None
    device.saw(seen(1))
    device.saw(LostFrame(2, "a camera", "frame 2 is black"))
    assert (device.tally.lost, device.tally.looked_at) == (2, 1)


def test_what_the_store_did_not_take_is_said_beside_the_count(
    device: Device, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "counts", lambda: StoreCounts(3, 5, 2, "the disk is full"))
    notes = device.status().notes
    assert notes[-2:] == ("Cells that could not be stored: 2.", "The store: the disk is full.")


def test_a_card_that_others_filled_is_told_once_and_shown_while_it_lasts(
    store: Store, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    device = Device(
        *(Settings(), classifier.model, store, LiveLine(classifier), "a camera", UM_PER_PIXEL),
        tell=lambda _, text: told.append(text),
    )
    for free in (90, 80):
        counts = StoreCounts(0, 5, 0, None, f"The card is full: {free} MB are free.")
        monkeypatch.setattr(store, "counts", lambda counts=counts: counts)
        device.hear_store()
        assert device.status().notes[-1] == counts.warning
    assert told == ["The card is full: 90 MB are free."]


def test_frames_still_on_their_way_belong_to_the_session_that_they_were_seen_in(
    device: Device, store: Store
) -> None:
    device.start_session_with_first_frame(None)
    device.saw(seen(0, counted=1))
    first = device.status().session
    second = device.start_session("S2", "Ada", 100)
    device.saw(seen(1, counted=1, slide=1))
    device.saw(seen(2, counted=2, slide=3))
    assert first is not None
    assert stored(store, first.id) == [(1, 1), (11, 1)]
    assert stored(store, second.id) == [(21, 1), (22, 1)]
    with store.read() as reader:
        assert reader.session(first.id).ended_because == "another session was started"
    assert device.status().differential.total == 2


def test_sessions_started_one_upon_the_other_take_no_cell_from_the_one_before(
    device: Device, store: Store
) -> None:
    first = device.start_session("S1", "", None)
    device.start_session("S2", "", None)
    third = device.start_session("S3", "", None)
    device.saw(seen(0, counted=1, slide=2))
    device.saw(seen(1, counted=2, slide=6))
    assert stored(store, first.id) == [(1, 1)]
    assert stored(store, third.id) == [(11, 1), (12, 1)]


def test_a_target_is_met_exactly_wherever_it_is_looked_for(device: Device, store: Store) -> None:
    session = device.start_session("S1", "", 100)
    for number in range(12):  # nine at a time: the last frame brings eight too many
        device.saw(seen(number, counted=9, slide=2))
    assert len(stored(store, session.id)) == device.status().differential.named == 100
    with store.read() as reader:
        assert reader.differential(session.id)[0].named == 100
        said = [event.text for event in reader.events(session_id=session.id)]
    assert "8 cells confirmed beyond the target of 100: not counted" in said
    found = device.wait_frame(0, 0)
    assert found is not None
    assert sum(cell.counted for cell in found[1].cells) == len(found[1].counted) == 1
    # What was still on its way belongs to nobody, and counts in the session that comes next.
    device.saw(seen(12, counted=2, slide=2))
    assert len(stored(store, session.id)) == 100
    again = device.start_session("S1", "", 100)
    device.saw(seen(13, counted=2, slide=4))
    assert len(stored(store, again.id)) == device.status().differential.named == 2


def test_after_a_stop_nothing_more_is_counted(device: Device, store: Store) -> None:
    session = device.start_session("S1", "", None)
    slide = 2
    device.saw(seen(0, counted=1, slide=slide))
    ended = device.stop_session()
    assert ended is not None
    assert ended.ended_because == "stopped"
    device.saw(seen(1, counted=1, slide=slide + 1))
    assert stored(store, session.id) == [(1, 1)]
    assert device.status().session is None
    assert device.stop_session() is None


def test_what_an_earlier_run_counted_is_gone_on_with_in_a_new_area(
    device: Device, store: Store, classifier: Classifier
) -> None:
    session = device.start_session("S1", "", None)
    device.saw(seen(0, counted=3, slide=2, area=2))
    assert store.flush(5)
    later = Device(Settings(), classifier.model, store, LiveLine(classifier), "a camera", UM_PER_PIXEL)
    later.continue_session(session)
    assert later.status().differential.total == 3
    later.saw(seen(0, counted=1, slide=2))
    assert stored(store, session.id) == [(1, 2), (2, 2), (3, 2), (4, 3)]
    status = later.status()
    assert status.differential.total == 4
    assert "The run was interrupted once: cells seen before may be counted again." in status.notes
    found = later.wait_frame(0, 0)
    assert found is not None
    assert [cell.number for cell in found[1].cells] == [4]


def test_a_session_ends_at_its_target_and_the_device_goes_on(device: Device, store: Store) -> None:
    session = device.start_session("S1", "", 100)
    for number in range(11):
        device.saw(seen(number, counted=10, slide=2))
    status = device.status()
    assert (status.session, status.target_reached, status.frames) == (None, True, 11)
    with store.read() as reader:
        assert reader.session(session.id).ended_because == "target of 100 reached"


def test_a_session_that_the_store_cannot_end_stays_open_and_is_asked_for_again(
    device: Device, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = store.end_session

    def refuse(session_id: int, because: str) -> None:
        raise StoreError("hematovision.db: the disk is full")

    monkeypatch.setattr(store, "end_session", refuse)
    monkeypatch.setattr("edge.device._ASK_AGAIN_S", 0.0)
    session = device.start_session("S1", "", 100)
    for number in range(10):
        device.saw(seen(number, counted=10, slide=2))
    full = "hematovision.db: the disk is full"
    assert device.status().said == (f"the session reached its target and cannot be ended: {full}",)
    device.finish("switched off")
    assert device.status().said == (f"the session stays open, the next run goes on with it: {full}",)
    with pytest.raises(StoreError, match="full"):
        device.stop_session()
    assert device.status().session == session
    monkeypatch.setattr(store, "end_session", end)
    device.saw(seen(10, slide=2))
    assert (device.status().session, device.status().said) == (None, ())
    with store.read() as reader:
        assert reader.session(session.id).ended_because == "target of 100 reached"


def test_a_store_that_takes_no_session_is_said_and_asked_again(
    device: Device, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = store.start_session

    def refuse(new: object) -> None:
        raise StoreError("hematovision.db: the disk is full")

    monkeypatch.setattr(store, "start_session", refuse)
    monkeypatch.setattr("edge.device._ASK_AGAIN_S", 0.0)
    device.start_session_with_first_frame(None)
    device.saw(seen(0, counted=1))
    assert device.status().said == (
        "no session can be begun, nothing is counted: hematovision.db: the disk is full",
    )
    monkeypatch.setattr(store, "start_session", start)
    device.saw(seen(1, counted=1))
    assert device.status().session is not None
    assert device.status().said == ()
    # The cells in view are looked at anew: some of them were confirmed when nobody counted.
    device.saw(seen(2, counted=2, slide=2))
    assert device.status().differential.total == 2


def test_a_session_is_gone_on_with_where_all_is_as_it_was_also_one_named_by_hand(
    device: Device, store: Store, classifier: Classifier
) -> None:
    def later(settings: Settings, um_per_pixel: float = UM_PER_PIXEL) -> Device:
        return Device(settings, classifier.model, store, LiveLine(classifier), "a camera", um_per_pixel)

    left_open = device.start_session("another than in the settings", "", 100)
    with store.read() as reader:
        assert reader.open_session() == left_open
    assert later(Settings()).can_continue(left_open, None)
    assert later(Settings()).can_continue(left_open, 100)
    assert not later(Settings()).can_continue(left_open, 200)
    assert not later(Settings(session=SessionSettings(sample="S2"))).can_continue(left_open, None)
    assert not later(Settings(camera=CameraSettings(blank="other.png"))).can_continue(left_open, None)
    assert not later(Settings(), um_per_pixel=0.1).can_continue(left_open, None)


def test_a_learnt_blank_field_is_taken_up_with_the_next_session_which_records_its_hash(
    device: Device, store: Store, classifier: Classifier
) -> None:
    blank = BlankField(np.full((12, 16, 3), 50000, np.uint16), "the learnt blank field", (64, 48))
    frame = Frame.now(IMAGE, 0, UM_PER_PIXEL, "a camera")
    line = device._line

    def divided_by() -> BlankField | None:
        result = line.see(frame)
        assert isinstance(result, SeenFrame)
        return result.field.blank

    before = device.start_session("S1", "", None)
    device.offer_blank(blank)
    assert divided_by() is None
    assert before.settings["blank_sha256"] is None
    session = device.start_session("S2", "", None)
    assert divided_by() is blank
    assert session.settings["blank_sha256"] == blank.sha256()
    with store.read() as reader:
        kept = reader.session(session.id)
    assert kept is not None
    assert kept.settings["blank_sha256"] == blank.sha256()
    assert device.status().said == ("From now on frames are divided by the learnt blank field.",)
    # A new process has not learnt it: the session goes on, and says so.
    later = Device(Settings(), classifier.model, store, LiveLine(classifier), "a camera", UM_PER_PIXEL)
    assert later.can_continue(session, None)
    later.continue_session(session)
    assert "without the blank field that it was begun with" in later.status().said[0]


def test_a_session_that_the_store_cannot_go_on_with_yet_is_gone_on_with_later(
    device: Device, store: Store, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = device.start_session("S1", "", None)
    device.saw(seen(0, counted=3, slide=2))
    assert store.flush(5)
    go_on = store.continue_session

    def refuse(session_id: int) -> None:
        raise StoreError("hematovision.db: the disk is full")

    monkeypatch.setattr(store, "continue_session", refuse)
    monkeypatch.setattr("edge.device._ASK_AGAIN_S", 0.0)
    later = Device(Settings(), classifier.model, store, LiveLine(classifier), "a camera", UM_PER_PIXEL)
    later.continue_session(session)
    later.saw(seen(0, counted=1))
    assert later.status().session is None
    monkeypatch.setattr(store, "continue_session", go_on)
    later.saw(seen(1))
    later.saw(seen(2, counted=1, slide=2))
    assert stored(store, session.id) == [(1, 1), (2, 1), (3, 1), (24, 2)]


def test_of_files_nothing_is_passed_over_while_the_store_takes_no_session(
    device: Device, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(new: object) -> None:
        raise StoreError("hematovision.db: the disk is full")

    monkeypatch.setattr(store, "start_session", refuse)
    device.start_session_with_first_frame(None, patient=False)
    with pytest.raises(StoreError, match="full"):
        device.saw(seen(0, counted=1))


def test_a_session_that_was_begun_after_nobody_waited_for_it_any_more_is_in_nobodys_way(
    device: Device, store: Store
) -> None:
    late = device._new_session("S1", "", None)
    assert device.status().session is None
    assert device.start_session("S2", "", None).sample == "S2"
    with store.read() as reader:
        assert reader.session(late.id).ended_because == "interrupted"


def test_a_session_keeps_how_often_its_model_was_right(device: Device) -> None:
    session = device.start_session("S1", "", None)
    assert session.settings["accuracy"] == device.manifest.accuracy


def test_a_name_that_no_page_could_show_is_refused(device: Device) -> None:
    for name in ("a\nb", "x" * 201):
        with pytest.raises(SettingError, match="sample"):
            device.start_session(name, "", None)


def test_the_status_tells_what_became_of_the_frames(device: Device) -> None:
    assert device.status().frame_age_s is None
    device.enter(State.RUNNING)
    device.saw(seen(0))
    device.saw(replace(seen(1), skipped="moving"))
    device.saw(LostFrame(2, "a camera", "frame 2 is black"))
    status = device.status()
    assert (status.frames, status.skipped, status.lost) == (2, 1, 1)
    assert status.focus == 0.9
    assert status.frame_age_s is not None


def test_an_event_is_kept_once_however_often_a_state_is_entered(device: Device, store: Store) -> None:
    for state in (State.RUNNING, State.RUNNING, State.STALLED, State.STALLED):
        device.enter(state)
    store.flush(5)
    with store.read() as reader:
        assert [event.text for event in reader.events(10)][::-1] == ["running", "stalled"]


def test_a_watcher_gets_the_newest_frame_or_none_in_time(device: Device) -> None:
    assert device.wait_frame(0, 0.01) is None
    device.saw(seen(0))
    device.saw(seen(1))
    found = device.wait_frame(0, 0.01)
    assert found is not None
    assert (found[0], found[1].frame.sequence) == (2, 1)
    assert device.wait_frame(2, 0.01) is None
