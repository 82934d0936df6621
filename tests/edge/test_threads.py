from threading import Event, Thread

import pytest

from edge.threads import Closed, Handover, Worker
from hematovision.errors import CameraError, StuckThreadError


def test_items_come_in_order_and_none_is_lost() -> None:
    handover: Handover[int] = Handover(size=2)

    def give() -> None:
        for number in range(100):
            handover.put(number)
        handover.close()

    giver = Thread(target=give)
    giver.start()
    taken = []
    with pytest.raises(Closed):
        while True:
            taken.append(handover.take(5))
    giver.join(5)
    assert taken == list(range(100))
    assert handover.dropped == 0


def test_only_the_newest_is_kept_where_that_is_what_matters_and_the_rest_is_counted() -> None:
    handover: Handover[int] = Handover(newest_only=True)
    for number in range(5):
        handover.put(number)
    assert handover.take() == 4
    assert handover.dropped == 4


def test_a_full_handover_makes_the_giver_wait() -> None:
    handover: Handover[int] = Handover(size=1)
    handover.put(1)
    gave = Event()

    def give() -> None:
        handover.put(2)
        gave.set()

    giver = Thread(target=give, daemon=True)
    giver.start()
    assert not gave.wait(0.05)
    assert handover.take() == 1
    assert gave.wait(5)


def test_nobody_waits_for_ever() -> None:
    with pytest.raises(TimeoutError):
        Handover[int]().take(limit_s=0.01)


def test_a_giver_whose_taker_has_gone_stops_waiting() -> None:
    handover: Handover[int] = Handover(size=1)
    handover.put(1)

    def work() -> None:
        handover.put(2)

    worker = Worker("giver", work, handover)
    worker.start()
    handover.close()
    worker.finish(5)
    assert handover.take() == 1
    with pytest.raises(Closed):
        handover.take()


def test_what_ends_a_worker_is_raised_where_its_items_are_taken() -> None:
    handover: Handover[int] = Handover(size=2)

    def work() -> None:
        handover.put(1)
        raise CameraError("the camera stopped")

    worker = Worker("capture", work, handover)
    worker.start()
    assert handover.take(5) == 1
    with pytest.raises(CameraError, match="the camera stopped"):
        handover.take(5)
    worker.finish(5)


def test_a_thread_that_does_not_stop_is_an_error_that_names_it() -> None:
    release = Event()

    def hang() -> None:
        release.wait(30)

    worker = Worker("capture of the microscope", hang, Handover[int]())
    worker.start()
    with pytest.raises(StuckThreadError, match="capture of the microscope"):
        worker.finish(0.01)
    release.set()
    worker.finish(5)


def test_what_goes_wrong_after_the_taker_has_gone_is_raised_at_the_end() -> None:
    handover: Handover[int] = Handover()
    handover.put(1)

    def work() -> None:
        try:
            handover.put(2)
        finally:
            raise CameraError("cannot be let go of")

    worker = Worker("camera", work, handover)
    worker.start()
    handover.close()
    with pytest.raises(CameraError, match="cannot be let go of"):
        worker.finish(5)
