"""Throughput: that it measures what it says; how fast this machine is, is not tested."""

import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from benchmarks import throughput, throughput_process
from benchmarks.real_fields import FIELD_SIZE, FIELD_UM_PER_PIXEL
from benchmarks.results import Throughput
from benchmarks.throughput import (
    DRAWN,
    MIN_FRAMES,
    REAL,
    draw_fields,
    measure_all,
    measure_throughput,
)
from benchmarks.throughput_process import (
    HELD,
    FieldByField,
    FieldPlayer,
    TimedClassifier,
    play_paced,
    play_unpaced,
)
from edge.cameras import Frame, LostFrame
from edge.pipeline import SeenFrame
from edge.timing import STEPS
from hematovision.classifier import Prediction, default_model_path
from hematovision.cli import root
from hematovision.errors import DataSetError, HematoVisionError, ModelFileError, SettingError
from hematovision.finder import load_finder
from hematovision.model_file import read_model_file
from hematovision.optics import measure_field
from hematovision.phantom import PhantomFrame

FRAMES = 96


def quiet(text: str = "") -> None: ...


@pytest.fixture(scope="module")
def three_cells() -> Throughput:
    """Measured with three leukocytes in each drawn field."""
    return measure_throughput(DRAWN, 3, FRAMES, None, None)


@pytest.fixture(scope="module")
def classifier() -> TimedClassifier:
    return TimedClassifier(read_model_file(default_model_path()), threads=1)


@pytest.fixture(scope="module")
def drawn() -> list[PhantomFrame]:
    return draw_fields(2, 2)


@pytest.fixture
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEMATOVISION_DATA", raising=False)


# --- the fields ---


@pytest.mark.parametrize("leukocytes", [0, 1, 3, 10, 12])
def test_a_drawn_field_shows_exactly_so_many_leukocytes(leukocytes: int) -> None:
    fields = draw_fields(leukocytes, 3)
    assert len(fields) == 3
    finder = load_finder()
    for field in fields:
        assert field.image.shape == (FIELD_SIZE[1], FIELD_SIZE[0], 3)
        assert field.um_per_pixel == FIELD_UM_PER_PIXEL
        assert len(field.cells) == leukocytes
        assert all(cell.whole for cell in field.cells)
        found = finder.find(measure_field(field.image, field.um_per_pixel))
        assert len(found) == leukocytes


def test_drawn_fields_differ_but_are_the_same_each_time() -> None:
    first, second = draw_fields(3, 2)
    again = draw_fields(3, 1)[0]
    assert (first.image == again.image).all()
    assert (first.image != second.image).any()


def test_more_leukocytes_than_a_field_has_room_for_are_refused() -> None:
    with pytest.raises(SettingError, match="13 leukocytes in a field; give 0 to 12"):
        draw_fields(13, 1)


# --- as fast as they go ---


def test_every_look_names_every_cell(three_cells: Throughput) -> None:
    assert three_cells.frames == FRAMES
    # The first frame of each field is one in which the slide moves.
    assert three_cells.looked_at == FRAMES * (HELD - 1) // HELD
    assert three_cells.cells_in_view == 3 * three_cells.looked_at
    assert three_cells.named == 3 * three_cells.looked_at
    assert three_cells.named_per_frame == 3
    assert 0 < three_cells.counted <= 3 * FRAMES // HELD


def test_every_step_is_shown_and_no_time_is_lost_between_them(three_cells: Throughput) -> None:
    # Scale and lamp are checked by the command that shows the count, not by the line.
    steps = three_cells.step_ms
    assert tuple(steps) == tuple(step for step in STEPS if step != "check")
    assert all(ms > 0 for ms in steps.values())
    assert three_cells.outside_ms >= sum(steps.values()) - steps["capture"] - steps["invoke"]


def test_memory_is_told_over_the_whole_run(three_cells: Throughput) -> None:
    numbers = [number for number, _ in three_cells.memory_mib]
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (0, FRAMES - 1)
    assert 40 <= len(numbers) <= 60
    assert all(mib > 42 for _, mib in three_cells.memory_mib)  # what the fields alone take
    middle = dict(three_cells.memory_mib)[FRAMES // 2]
    assert three_cells.growth_mib == three_cells.memory_mib[-1][1] - middle


def test_memory_is_what_is_held_now_and_not_the_most_that_was() -> None:
    ballast = np.ones(64 * 2**20, np.uint8)
    held = throughput_process._resident_mib()
    del ballast
    assert throughput_process._resident_mib() == pytest.approx(held - 64, abs=8)


def test_rates_are_of_the_same_time(three_cells: Throughput) -> None:
    seconds = three_cells.frames / three_cells.frames_per_s
    assert three_cells.cells_per_min == pytest.approx(60 * three_cells.counted / seconds)
    assert three_cells.first_s > 0


def test_without_a_leukocyte_nothing_is_named() -> None:
    result = measure_throughput(DRAWN, 0, MIN_FRAMES, None, None)
    assert result.cells_in_view == result.named == result.counted == 0
    assert result.named_per_frame == result.cells_per_min == 0
    assert math.isnan(result.first_s)
    assert result.looked_at > 0


@pytest.mark.data
def test_of_real_fields_too_every_look_names_every_cell(data_dir: Path) -> None:
    result = measure_throughput(REAL, 1, MIN_FRAMES, None, data_dir / "kaggle-blood-cells")
    assert (result.source, result.cells_per_frame) == (REAL, 1)
    assert result.named == result.cells_in_view == result.looked_at > 0
    assert result.named_per_frame == 1


def test_each_cell_of_each_showing_is_counted_once(
    drawn: list[PhantomFrame], classifier: TimedClassifier
) -> None:
    """Whatever the classifier declines needs more looks than there are, and is in no count."""
    images = [field.image for field in drawn]
    once = play_unpaced(images, FIELD_UM_PER_PIXEL, 2 * HELD, classifier, 0.0, quiet)
    thrice = play_unpaced(images, FIELD_UM_PER_PIXEL, 6 * HELD, classifier, 0.0, quiet)
    assert 0 < once.counted <= 4
    assert thrice.counted == 3 * once.counted


def test_the_process_imports_what_the_device_imports() -> None:
    code = "import edge, sys; import benchmarks.throughput_process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    packages = {name.partition(".")[0] for name in loaded.split()}
    assert not packages & {"tensorflow", "keras", "train", "convert", "sklearn", "matplotlib"}


# --- like a camera ---


def test_at_a_cameras_pace_every_frame_is_looked_at_dropped_or_lost(three_cells: Throughput) -> None:
    assert three_cells.camera_fps == 30
    assert three_cells.offered == FRAMES
    assert three_cells.lost == 0
    assert 0 <= three_cells.dropped < FRAMES


def test_a_camera_gives_no_frame_before_its_time(
    drawn: list[PhantomFrame], classifier: TimedClassifier
) -> None:
    fps = 50.0
    images = [field.image for field in drawn]
    camera = FieldPlayer(images, FIELD_UM_PER_PIXEL, 10, FieldByField(classifier), fps)
    begun = time.monotonic()
    given = [frame.monotonic - begun for frame in camera.frames()]
    assert len(given) == 10
    assert all(seconds > number / fps - 1e-3 for number, seconds in enumerate(given))


def test_a_line_slower_than_the_camera_drops_frames_and_still_counts(
    drawn: list[PhantomFrame], classifier: TimedClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each frame that the line takes, the camera goes on by three: each waits for the other."""
    frames = 120
    deadline = time.monotonic() + 30
    cameras: list[FieldPlayer] = []
    seen: list[SeenFrame | LostFrame] = []

    class Watched(FieldPlayer):
        def frames(self) -> Iterator[Frame]:
            cameras.append(self)
            for frame in super().frames():
                yield frame
                while self.offered > 3 * len(seen) + 3:
                    assert time.monotonic() < deadline, "the line takes no frame"
                    time.sleep(0.001)

    class Slow(FieldByField):
        def see(self, frame: Frame) -> SeenFrame | LostFrame:
            result = super().see(frame)
            seen.append(result)
            while cameras[0].offered < min(frames, 3 * len(seen)):
                assert time.monotonic() < deadline, "the camera waits for the line"
                time.sleep(0.001)
            return result

    monkeypatch.setattr(throughput_process, "FieldPlayer", Watched)
    images = [field.image for field in drawn]
    line = Slow(classifier)
    paced = play_paced(images, FIELD_UM_PER_PIXEL, frames, line, 1000.0, quiet)
    assert paced.offered == frames
    assert paced.taken == len(seen) == pytest.approx(frames / 3, abs=2)
    assert paced.dropped == frames - paced.taken
    assert paced.lost == 0
    # The stage waits for the line: each field is held for as many looks as when there is time, and one more
    # where a frame of it was on the way.
    assert frames / 3 / (HELD + 1) - 1 <= line.done <= frames / 3 / HELD
    assert sum(len(result.counted) for result in seen if isinstance(result, SeenFrame)) >= line.done


def test_a_frame_that_cannot_be_used_is_lost(drawn: list[PhantomFrame], classifier: TimedClassifier) -> None:
    images = [np.zeros_like(drawn[0].image), drawn[0].image]
    paced = play_paced(images, FIELD_UM_PER_PIXEL, 40, FieldByField(classifier), 100.0, quiet)
    assert paced.lost > 0
    assert paced.offered == paced.taken + paced.dropped + paced.lost == 40


# --- what goes wrong ---


def test_a_field_without_light_ends_the_measurement(
    drawn: list[PhantomFrame], classifier: TimedClassifier
) -> None:
    images = [drawn[0].image, np.zeros_like(drawn[0].image)]
    with pytest.raises(HematoVisionError, match="black"):
        play_unpaced(images, FIELD_UM_PER_PIXEL, 2 * HELD, classifier, 0.0, quiet)


def test_fields_in_which_nothing_can_be_followed_give_no_figures(classifier: TimedClassifier) -> None:
    glass = [np.full((240, 320, 3), level, np.uint8) for level in (220, 221)]
    with pytest.raises(HematoVisionError, match=r"8 frames none was looked at; .*nothing to go by"):
        play_unpaced(glass, 0.4, 8, classifier, 0.0, quiet)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import sys; sys.exit('first\\nthe lens cap is on')",
            r"ended with status 1; .*first / the lens cap is on$",
        ),
        ("import os; os.kill(os.getpid(), 9)", "was ended by SIGKILL, .*$"),
        ("import time; print(flush=True); time.sleep(600)", "gave no answer in 1 s$"),
        ("print(); print()", "ended with status 0$"),
    ],
)
def test_how_the_process_ended_is_said(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "measured.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(throughput, "_PROCESS", "measured")
    monkeypatch.setattr(throughput, "_SILENCE_S", 1 if "sleep" in code else 60)
    monkeypatch.setattr(throughput, "draw_fields", lambda *_: draw_fields(0, 1))
    with pytest.raises(HematoVisionError, match=f"^its process {said}"):
        measure_throughput(DRAWN, 0, MIN_FRAMES, None, None)


def test_a_folder_that_has_benchmarks_of_its_own_does_not_come_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("benchmarks", "edge"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('of another project')")
    monkeypatch.chdir(tmp_path)
    assert measure_throughput(DRAWN, 1, MIN_FRAMES, None, None).named > 0


def test_what_the_classifier_did_before_is_in_no_step(
    drawn: list[PhantomFrame], classifier: TimedClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = 3600.0
    monkeypatch.setattr(classifier, "processor_s", hour)
    images = [field.image for field in drawn]
    result = play_unpaced(images, FIELD_UM_PER_PIXEL, 2 * HELD, classifier, 0.0, quiet)
    assert 0 < result.step_ms["invoke"] < 1000 * hour / result.frames
    assert result.outside_ms > 0


def test_time_outside_leaves_out_that_of_the_interpreter(drawn: list[PhantomFrame]) -> None:
    class Slow(TimedClassifier):
        def predict(self, crops: NDArray[np.uint8]) -> list[Prediction]:
            self.processor_s += 3600  # and no other clock says so
            return super().predict(crops)

    images = [field.image for field in drawn]
    slow = Slow(read_model_file(default_model_path()), threads=1)
    result = play_unpaced(images, FIELD_UM_PER_PIXEL, 2 * HELD, slow, 0.0, quiet)
    assert result.outside_ms == pytest.approx(-result.step_ms["invoke"], rel=0.01)


def test_a_full_disk_becomes_a_row_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("Not enough free space to write 44236800 bytes")  # as NumPy says it

    monkeypatch.setattr(np, "save", full)
    monkeypatch.setattr(throughput, "draw_fields", lambda *_: draw_fields(0, 1))
    rows, (failure,) = measure_all([DRAWN], [0], MIN_FRAMES, None, None, quiet)
    assert not rows
    assert failure.failed
    assert "cannot be written (Not enough free space to write 44236800 bytes); free some space" in failure.why


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(SettingError, match=f"{MIN_FRAMES - 1} frames; give {MIN_FRAMES} or more"):
        measure_throughput(DRAWN, 1, MIN_FRAMES - 1, None, None)


def test_a_source_that_there_is_not_is_refused() -> None:
    with pytest.raises(SettingError, match="no fields are called 'painted'; give drawn or real"):
        measure_throughput("painted", 1, MIN_FRAMES, None, None)


def test_a_damaged_model_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    damaged = bytearray(default_model_path().read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path = tmp_path / "damaged.tflite"
    path.write_bytes(damaged)
    with pytest.raises(ModelFileError, match=str(path)):
        measure_all([DRAWN], [1], MIN_FRAMES, path, None, pytest.fail)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, three_cells: Throughput) -> Counter[tuple[str, int]]:
    """What is measured; with ten cells, it fails."""
    calls: Counter[tuple[str, int]] = Counter()

    def measure(source: str, cells: int, *_: object) -> Throughput:
        calls[source, cells] += 1
        if cells == 10:
            raise HematoVisionError("out of stain")
        return three_cells

    monkeypatch.setattr(throughput, "measure_throughput", measure)
    return calls


def test_what_fails_is_told_and_the_rest_goes_on(measured: Counter[tuple[str, int]]) -> None:
    rows, unmeasured = measure_all([DRAWN], [1, 10, 3], MIN_FRAMES, None, None, quiet)
    assert measured == {(DRAWN, 1): 1, (DRAWN, 10): 1, (DRAWN, 3): 1}
    assert len(rows) == 2
    (failure,) = unmeasured
    assert (failure.section, failure.what, failure.why, failure.failed) == (
        "throughput",
        "drawn fields, 10 cells a frame",
        "out of stain",
        True,
    )


def test_what_is_named_twice_is_measured_once(measured: Counter[tuple[str, int]]) -> None:
    measure_all([DRAWN, DRAWN], [1, 1], MIN_FRAMES, None, None, quiet)
    assert measured == {(DRAWN, 1): 1}


def test_real_fields_that_are_not_there_are_left_out(
    measured: Counter[tuple[str, int]], no_collection: None
) -> None:
    _, (left_out,) = measure_all([], [1], MIN_FRAMES, None, None, quiet)
    assert measured == {(DRAWN, 1): 1}
    assert (left_out.what, left_out.failed) == ("real fields", False)
    assert "HEMATOVISION_DATA" in left_out.why


def test_real_fields_that_are_asked_for_must_be_there(
    measured: Counter[tuple[str, int]], no_collection: None, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match="real fields are asked for: HEMATOVISION_DATA names no folder"):
        measure_all([REAL], [1], MIN_FRAMES, None, None, quiet)
    with pytest.raises(DataSetError, match="no folder annotations"):
        measure_all([], [1], MIN_FRAMES, None, tmp_path, quiet)
    assert not measured


# --- the command ---


def test_the_command_writes_a_report_of_what_there_is(
    no_collection: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arguments = ["--cells", "1", "--frames", str(MIN_FRAMES), "--out", str(tmp_path / "report")]
    result = CliRunner().invoke(root, ["bench", "throughput", *arguments])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    (row,) = report["throughput"]
    assert (row["source"], row["cells_per_frame"], row["frames"]) == (DRAWN, 1, MIN_FRAMES)
    assert [variant["file"] for variant in report["variants"]] == [default_model_path().name]
    assert [left_out["what"] for left_out in report["unmeasured"]] == ["real fields"]


def test_the_command_takes_a_model_file_and_no_trained_network(repository: Path) -> None:
    network = repository / "train" / "models" / "hematovision.keras"
    result = CliRunner().invoke(root, ["bench", "throughput", "--model", str(network)])
    assert result.exit_code == 1
    assert "not a TensorFlow Lite model" in result.output


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--frames", "10", "48"), ("--cells", "13", "12"), ("--source", "painted", "drawn")],
)
def test_an_option_that_cannot_be_right_is_refused(option: str, value: str, said: str) -> None:
    result = CliRunner().invoke(root, ["bench", "throughput", option, value])
    assert result.exit_code == 2
    assert said in result.output
