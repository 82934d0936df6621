"""A process for each contender: what it answers, how it may fail, and that none is ever left over."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import worker
from benchmarks.contenders import Contender
from benchmarks.worker import Worker
from hematovision.classifier import Classifier, default_model_path
from hematovision.errors import HematoVisionError
from hematovision.model_file import read_model_file
from hematovision.runtime import available_runtimes
from tests.benchmarks.impostor import install_impostor

RUNTIME = available_runtimes()[0]
SHIPPED = Contender("hematovision", "int8", RUNTIME, True, 1, str(default_model_path()))


@pytest.fixture
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)


@pytest.fixture
def file(crops: NDArray[np.uint8], tmp_path: Path) -> Path:
    np.save(tmp_path / "crops.npy", crops)
    return tmp_path / "crops.npy"


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is left over"
        time.sleep(0.02)


# --- what it answers ---


def test_its_answers_are_those_of_the_devices_classifier(crops: NDArray[np.uint8], file: Path) -> None:
    expected = Classifier(read_model_file(default_model_path()), RUNTIME, threads=1).logits(crops)
    with Worker(SHIPPED, file) as running:
        running.load()
        np.testing.assert_array_equal(running.answers(len(crops)), expected)


def test_loading_tells_version_times_and_memory(file: Path) -> None:
    with Worker(SHIPPED, file) as running:
        loaded = running.load()
    assert loaded.version == Classifier(read_model_file(default_model_path()), RUNTIME).loaded.version
    assert loaded.load_ms > 0
    assert loaded.first_ms > 0
    assert 10 < loaded.runtime_mib < loaded.peak_mib < 1000


def test_its_peak_of_memory_is_its_own_and_not_that_of_the_process_that_started_it(file: Path) -> None:
    """getrusage's ru_maxrss survives fork and exec: it would say 600 MiB."""
    ballast = np.ones(600 * 2**20, np.uint8)
    with Worker(SHIPPED, file) as running:
        assert running.load().peak_mib < 300
    assert ballast[0] == 1


def test_its_peak_of_memory_counts_what_it_has_given_back(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contender = install_impostor(tmp_path / "impostor", monkeypatch, "np.ones(200 * 2**20, np.uint8)")
    with Worker(contender, file) as running:
        loaded = running.load()
    assert 200 < loaded.peak_mib - loaded.runtime_mib < 250


def test_a_turn_gives_a_time_for_each_invocation_that_was_asked_for(file: Path) -> None:
    with Worker(SHIPPED, file) as running:
        running.load()
        assert len(running.time(untimed=2, timed=7, limit_s=60).ms) == 7


def test_a_turn_ends_when_its_time_is_over_after_one_invocation_at_least(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = install_impostor(tmp_path / "impostor", monkeypatch, invoking="time.sleep(0.02)")
    with Worker(slow, file) as running:
        running.load()
        assert len(running.time(untimed=1, timed=1000, limit_s=0.001).ms) == 1
        assert 1 < len(running.time(untimed=1, timed=1000, limit_s=0.2).ms) <= 10


def test_what_libraries_write_to_standard_output_does_not_reach_the_answers(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As C code does, past Python's own streams; what is read from standard input finds nothing either."""
    chatty = """
    os.write(1, b'{"logits": "from C"}\\n')
    print("INFO: from Python", flush=True)
    assert os.read(0, 10) == b""
    """
    contender = install_impostor(tmp_path / "impostor", monkeypatch, chatty, chatty)
    with Worker(contender, file) as running:
        running.load()
        assert running.answers(3).tolist() == 3 * [[0.5, 1.0, 1.5, 2.0]]
        running._errors.seek(0)
        written = running._errors.read()
    assert b"from C" in written
    assert b"from Python" in written


def test_its_environment_does_not_depend_on_a_shells_settings(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    contender = install_impostor(
        tmp_path / "impostor", monkeypatch, "raise ValueError('has ' + ' '.join(os.environ))"
    )
    with Worker(contender, file) as running, pytest.raises(HematoVisionError, match=r"has .*PATH") as raised:
        running.load()
    assert "OMP_NUM_THREADS" not in str(raised.value)
    assert "TF_ENABLE_ONEDNN_OPTS" not in str(raised.value)


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="this kernel does not tell how long a thread waited"
)
def test_a_turn_in_which_another_process_holds_the_processor_is_told(file: Path) -> None:
    """Both on one core: the worker waits half of the time, or the other one does not run."""
    core = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    with Worker(SHIPPED, file) as running:
        running.load()
        for thread in Path(f"/proc/{running._process.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), [core])
        other = subprocess.Popen([sys.executable, "-c", code])
        try:
            deadline = time.monotonic() + 30
            while not running.time(untimed=1, timed=100, limit_s=1).disturbed:
                assert time.monotonic() < deadline, "no turn was disturbed"
        finally:
            other.kill()
            other.wait()


def test_threads_that_spin_after_an_invocation_have_stopped_before_another_has_its_turn(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ONNX Runtime's do."""
    spinning = """
    import threading
    def spin(until=time.process_time() + 0.05):
        while time.process_time() < until: pass
    threading.Thread(target=spin).start()
    """
    contender = install_impostor(tmp_path / "impostor", monkeypatch, invoking=spinning)

    def computed_ticks() -> int:
        stat = Path(f"/proc/{running._process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(stat[11]) + int(stat[12])

    with Worker(contender, file) as running:
        running.load()
        running.time(untimed=0, timed=1, limit_s=1)
        before = computed_ticks()
        time.sleep(0.2)
        assert computed_ticks() - before <= 1


def test_a_folder_that_has_benchmarks_of_its_own_does_not_come_in_between(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("benchmarks", "edge"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('of another project')")
    monkeypatch.chdir(tmp_path)
    with Worker(SHIPPED, file) as running:
        assert running.load().first_ms > 0


# --- how it fails ---


@pytest.mark.parametrize(
    ("invoking", "expected"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        ("ctypes.string_at(0)", "was ended by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL, as it is when memory is short"),
        (
            "os.write(2, b'malloc(): corrupted top size\\n'); os.abort()",
            "SIGABRT.*malloc.*corrupted top size",
        ),
        ("os._exit(3)", "ended with status 3"),
        ("raise MemoryError('cannot take 4 GiB')", "ended with status 1.*MemoryError: cannot take 4 GiB"),
    ],
)
def test_a_process_that_dies_says_how_and_its_last_words(
    invoking: str, expected: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contender = install_impostor(tmp_path / "impostor", monkeypatch, invoking=invoking)
    with Worker(contender, file) as running, pytest.raises(HematoVisionError, match=expected) as raised:
        running.load()
    assert "\n" not in str(raised.value)


def test_a_runtime_that_refuses_the_model_is_quoted(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contender = install_impostor(
        tmp_path / "impostor", monkeypatch, "raise ValueError(\"Didn't find op\\nfor builtin opcode 'ADD'\")"
    )
    with (
        Worker(contender, file) as running,
        pytest.raises(
            HematoVisionError, match=r"tflite-runtime 0\.0 cannot load .*find op for builtin opcode 'ADD'"
        ),
    ):
        running.load()


def test_one_that_hangs_is_given_up(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SILENCE_S", 1.0)
    contender = install_impostor(tmp_path / "impostor", monkeypatch, invoking="time.sleep(1000)")
    with Worker(contender, file) as running:
        with pytest.raises(HematoVisionError, match="gave no answer in 1 s"):
            running.load()
        pid = running._process.pid
        assert is_alive(pid)
    assert not is_alive(pid)


@pytest.mark.parametrize(
    "nonsense",
    [b"hello\n", b"[1, 2]\n", b"\xff\xfe\n", b'{"version": "1"}\n', b'{"logits": 5}\n', b"{}\n"],
)
def test_an_answer_that_is_nonsense_is_refused(
    nonsense: bytes, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written past the protocol, to the descriptor that the answers go to."""
    code = f"""
    for number in range(3, 20):
        try:
            target = os.readlink(f"/proc/self/fd/{{number}}")
        except OSError:
            continue
        if target.startswith("pipe:") and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_WRONLY:
            os.write(number, {nonsense!r})
    """
    contender = install_impostor(tmp_path / "impostor", monkeypatch, loading=code)
    with Worker(contender, file) as running, pytest.raises(HematoVisionError, match="answered"):
        running.load()


def test_logits_that_are_no_numbers_are_refused_by_name(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contender = install_impostor(
        tmp_path / "impostor",
        monkeypatch,
        loading="self.get_output_details = lambda: [dict(index=1, shape=(1, 4), dtype=np.float32)]\n"
        "self.tensors[1] = np.zeros((1, 4), np.float32)",
        invoking="self.tensors[1][0, 0] = np.nan",
    )
    with Worker(contender, file) as running, pytest.raises(HematoVisionError, match="not a finite number"):
        running.load()


def test_a_process_that_cannot_be_started_is_an_error_like_others(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", no_memory)
    with pytest.raises(HematoVisionError, match=r"cannot be started \(Cannot allocate memory\)"):
        Worker(SHIPPED, file)


# --- that it ends ---


def test_it_has_ended_when_the_block_is_left_however_it_is_left(file: Path) -> None:
    pids = []
    with pytest.raises(KeyboardInterrupt), Worker(SHIPPED, file) as running:
        pids.append(running._process.pid)
        running.load()
        raise KeyboardInterrupt
    assert not is_alive(pids[0])


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_process_that_started_it_even_in_mid_invocation(
    end: signal.Signals, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contender = install_impostor(
        tmp_path / "impostor",
        monkeypatch,
        invoking=f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()) + '.'); time.sleep(1000)",
    )
    code = f"""
from pathlib import Path
from benchmarks.contenders import Contender
from benchmarks.worker import Worker
with Worker({contender!r}, Path({str(file)!r})) as running:
    running.load()
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().endswith("."):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        pid = int((tmp_path / "pid").read_text()[:-1])
        assert is_alive(pid)
    finally:
        parent.send_signal(end)
        parent.wait()
    wait_until_gone(pid)
