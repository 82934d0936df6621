"""How far long work has come: seen on a terminal, a line now and then in a log, and never among results."""

import csv
import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from hematovision.phantom import draw_field
from hematovision.terminal import progress as module
from hematovision.terminal.progress import Progress

SCALE = ("--um-per-pixel", "0.1")
PROGRAM = (sys.executable, "-m", "hematovision")


@pytest.fixture(scope="module")
def smear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a class each, the second of them broken."""
    folder = tmp_path_factory.mktemp("smear") / "monocyte"
    folder.mkdir()
    for seed in range(6):
        Image.fromarray(draw_field(seed, 640, 480, 0.1).image).save(folder / f"{seed}.png")
    (folder / "1.png").write_text("hello", encoding="utf-8")
    return folder.parent


def on_a_terminal(*words: str) -> tuple[bytes, str]:
    """What a command writes to a pipe, and what a terminal shows that has its standard error."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(
        [*PROGRAM, *words], stdout=subprocess.PIPE, stderr=theirs, env=environment
    ) as started:
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
        assert started.stdout is not None
        out = started.stdout.read()
    os.close(ours)
    return out, seen.decode()


def test_classify_shows_how_far_it_is_and_leaves_results_alone(smear: Path) -> None:
    out, seen = on_a_terminal("classify", str(smear), "--format", "csv")
    assert "Measuring µm per pixel on red cells: 0 of 40" in seen
    assert "Classifying: 1 of 6" in seen
    assert f"Error: {smear}/monocyte/1.png: not an image" in seen
    rows = list(csv.DictReader(io.StringIO(out.decode())))
    assert {row["image"] for row in rows} == {f"{smear}/monocyte/{seed}.png" for seed in range(6)}


@pytest.mark.parametrize(
    ("words", "step"),
    [
        (["run", "--camera", "folder:{}", "--set", "store.folder={}/state"], "Measuring µm per pixel"),
        (["run", "--camera", "folder:{}", *SCALE, "--set", "store.folder={}/s"], "Counting: 1 of 6"),
        (["calibrate", "{}"], "Measuring red cells in images: 0 of 6"),
        (["calibrate", "--blank", "--out", "{}/blank.png", "{}/monocyte/2.png"], "Recording the light"),
        (["train", "audit", "{}"], "reading images: 1 of 6"),
    ],
)  # fmt: skip
def test_others_do_too(smear: Path, words: list[str], step: str) -> None:
    _, seen = on_a_terminal(*(word.format(smear) for word in words))
    assert step in seen


def test_a_log_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    with Progress() as progress:
        for done in range(100):
            now += 2.0
            progress.at("Classifying", done, 100)
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.splitlines() == [
        "Classifying: 29 of 100 (58 s, about 2 min left)",
        "Classifying: 59 of 100 (2 min, about 82 s left)",
        "Classifying: 89 of 100 (3 min, about 22 s left)",
    ]


def test_nothing_is_said_of_what_is_soon_done(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("Testing") as progress:
        progress.at("Classifying", 1, 2)
    assert capsys.readouterr() == ("", "")
