"""The page under load and under attack: small runs of what `bench faults` does, and that it can fail."""

from collections import Counter
from itertools import islice

from benchmarks.faults.decode import Cost, Decoded, measure_decode
from benchmarks.faults.uploads import Harm, hostile, measure_uploads
from benchmarks.faults.viewers import Viewing, measure_viewers


def test_hostile_uploads_are_refused_and_the_device_goes_on() -> None:
    # One of each kind but the slowest, which waits for its time to pass.
    result = measure_uploads(12, seed=3)
    assert result.wrong == []
    assert result.uploads == 12
    assert result.passed


def test_each_upload_of_a_seed_is_the_same_and_of_another_differs() -> None:
    one, same, other = (
        [(upload.kind, b"".join(islice(upload.pieces(), 3))) for upload in islice(hostile(seed), 5)]
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_an_answer_that_is_no_refusal_is_a_failure() -> None:
    for status in (0, 200, 302, 500, 503):
        assert not Harm(Counter({("bomb", status): 1}), 0.1, 100, 110, 5, True).passed
    right = Counter({("bomb", 422): 1})
    assert Harm(right, 0.1, 100, 110, 5, True).passed
    assert not Harm(right, 0.1, 100, 900, 5, True).passed
    assert not Harm(right, 0.1, 100, 110, 5, False).passed
    assert not Harm(right, 0.1, 100, 110, 0, True).passed


def test_what_is_dear_to_decode_is_refused_or_seen_and_costs_the_device_nothing() -> None:
    result = measure_decode(
        3, frozenset({"JPEG, small EXIF segments", "PNG, very high", "PNG, interlaced RGBA"})
    )
    assert [one.status for one in result.kinds] == [422, 422, 200]
    assert result.kinds[2].child_mib > 50
    assert len(result.row_mib) == 3
    assert result.passed


def test_decoding_that_is_answered_wrongly_or_keeps_memory_is_a_failure() -> None:
    def cost(status: int = 422, seconds: float = 1.0, last: float = 150.0, frames: int = 5) -> bool:
        one = Decoded("bomb", 100, status, seconds, 150.0, 90.0, range(400, 500))
        return Cost((one,), 140.0, (145.0, last), frames).passed

    assert cost()
    for status in (0, 200, 500, 503):
        assert not cost(status=status)
    assert not cost(seconds=1000.0)
    assert not cost(last=300.0)
    assert not cost(frames=0)


def test_viewers_get_pictures_while_two_hardly_read() -> None:
    result = measure_viewers(viewers=3, seconds=1.0)
    assert result.alive == 3
    assert result.healthz > 0
    assert result.watched > 0  # how fast all this is depends on the machine


def test_too_slow_is_a_failure() -> None:
    def viewing(**changes: float) -> bool:
        content = {"alone": 20.0, "watched": 19.0, "pictures": 9.5, "healthz_s": 0.05, "alive": 20} | changes
        return Viewing(viewers=20, healthz=100, cut_off=2, cores=(0.5, 0.6), **content).passed  # type: ignore[arg-type]

    assert viewing()
    assert not viewing(watched=17.9)
    assert not viewing(pictures=8.0)
    assert not viewing(healthz_s=0.21)
    assert not viewing(alive=19)
    assert not viewing(alone=15.0, watched=15.0)  # the machine was too busy to tell
