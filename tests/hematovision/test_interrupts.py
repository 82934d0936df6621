"""Ctrl-C, as a real signal to a real process: what was done until then is kept, and the status is 130."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from PIL import Image

from edge.store import NewSession, Store, open_reader
from hematovision.cli import root
from hematovision.phantom import draw_field

PROGRAM = (sys.executable, "-m", "hematovision")
SCALE = ("--um-per-pixel", "0.2")
IMAGES = 4000


@pytest.fixture(scope="module")
def smear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More images than are looked at before the signal comes; the broken second one tells when to send it."""
    folder = tmp_path_factory.mktemp("smear")
    Image.fromarray(draw_field(11, 640, 480, 0.2).image).save(folder / "000.png")
    (folder / "001.png").write_text("hello", encoding="utf-8")
    for number in range(2, IMAGES):
        (folder / f"{number:03d}.png").symlink_to(folder / "000.png")
    return folder


@contextmanager
def process(*words: str, **streams: object) -> Iterator[subprocess.Popen[bytes]]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    with subprocess.Popen([*PROGRAM, *words], **pipes) as started:  # type: ignore[call-overload]
        try:
            yield started
        finally:
            started.kill()


def until(stream: IO[bytes] | None, text: bytes) -> bytes:
    """Read lines to one with a text in it."""
    assert stream is not None
    seen = b""
    for line in stream:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} is not in {seen!r}")


def test_classify_names_whole_what_it_had_looked_at(smear: Path) -> None:
    with process("classify", str(smear), *SCALE) as one:
        until(one.stderr, b"001.png")
        one.send_signal(signal.SIGINT)
        out, errors = one.communicate(timeout=120)
    assert one.returncode == 130
    last = errors.decode().splitlines()
    assert b"Traceback" not in errors and last[-1] == "Stopped by Ctrl-C."
    assert last[-2].startswith("Looked at: ") and last[-2].endswith("Failed: 1.")
    table = out.decode()
    assert "000.png" in table and "001.png" in table and f"{IMAGES - 1}.png" not in table
    assert table.rstrip().endswith(("┘", "+"))


def test_lines_that_were_written_are_whole(smear: Path) -> None:
    with process("classify", str(smear), *SCALE, "--format", "jsonl") as one:
        first = until(one.stdout, b"000.png")
        one.send_signal(signal.SIGINT)
        out, errors = one.communicate(timeout=120)
    assert one.returncode == 130 and b"Traceback" not in errors
    records = [json.loads(line) for line in (first + out).splitlines()]
    assert 1 <= len(records) < IMAGES and (first + out).endswith(b"\n")


def test_calibrate_says_a_line(
    smear: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edge.calibrate.measure_red_cells", interrupted)
    with pytest.raises(SystemExit) as ended:
        root(["calibrate", str(smear / "000.png")])
    assert ended.value.code == 130
    assert capfd.readouterr() == ("", "Stopped by Ctrl-C.\n")


def test_demo_shows_the_differential_so_far() -> None:
    ours, theirs = pty.openpty()
    with process("demo", stdout=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"}) as one:
        os.close(theirs)
        seen = b""
        while b"lymphocyte" not in seen:
            seen += os.read(ours, 65536)
        one.send_signal(signal.SIGINT)
        while True:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
        assert one.stderr is not None
        errors = one.stderr.read()
    os.close(ours)
    assert one.wait() == 130
    assert b"Traceback" not in errors and errors.endswith(b"Stopped by Ctrl-C.\n")
    text = seen.decode()
    assert "Counted, beside what was shown" in text and "cells counted" in text


def test_a_question_that_ctrl_c_answers_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    with Store(tmp_path) as store:
        store.start_session(NewSession("", "", "camera", "model", "ab" * 32, 0.1))
        store.end_session(1, "by hand")
    monkeypatch.setattr("click.termui.visible_prompt_func", interrupted)
    with pytest.raises(SystemExit) as ended:
        root(["sessions", "delete", "1", "--folder", str(tmp_path)])
    assert ended.value.code == 130
    with open_reader(tmp_path) as reader:
        assert reader.session(1)
