"""What the bench commands share at the terminal: which models they open, and a line of progress."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.options import AskedModels, model_options, progress, report_options
from benchmarks.variants import VARIANT_NAMES, BuiltModel
from hematovision.errors import ModelFileError


@click.command()
@model_options
@report_options
def command(models: AskedModels, out: Path | None, force: bool) -> None:
    click.echo(f"{models} {out} {force}")


def test_all_variants_are_meant_unless_told() -> None:
    result = CliRunner().invoke(command)
    assert result.stdout.strip() == f"{AskedModels((), VARIANT_NAMES, (), None)} None False"


def test_options_are_handed_on(tiny_keras: Path) -> None:
    given = ["--model", str(tiny_keras), "--variant", "int8", "--variants", "kept", "--data", "a"]
    result = CliRunner().invoke(command, [*given, "--data", "b@1", "--out", "report", "--force"])
    asked = AskedModels((tiny_keras,), ("int8",), ("a", "b@1"), Path("kept"))
    assert result.stdout.strip() == f"{asked} report True"


@pytest.mark.parametrize("given", [["--model", "gone.keras"], ["--variant", "int4"]])
def test_what_is_not_there_is_refused(given: list[str]) -> None:
    assert CliRunner().invoke(command, given).exit_code == 2


def test_the_variants_kept_in_a_named_folder_are_opened(tiny_keras: Path, tiny_model: BuiltModel) -> None:
    asked = AskedModels((tiny_keras,), ("int8",), (), tiny_model.folder.parent)
    (model,), unmeasured = asked.open(lambda _: None)
    assert unmeasured == []
    assert model.files == {"int8": tiny_model.files["int8"]}


def test_the_network_of_the_checkout_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def gone() -> Path:
        raise ModelFileError("asked for")

    monkeypatch.setattr("benchmarks.options.default_network", gone)
    with pytest.raises(ModelFileError, match="asked for"):
        AskedModels((), VARIANT_NAMES, (), tmp_path).open(lambda _: None)


# --- progress ---


def test_progress_is_silent_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    with progress() as say:
        say("converting a network called [/odd]")
    assert capfd.readouterr() == ("", "")


def test_progress_is_seen_while_tensorflow_is_kept_quiet() -> None:
    code = (
        "import os, time\n"
        "from benchmarks.options import progress\n"
        "from train.console import stderr\n"
        "from train.quiet import tensorflow_kept_quiet\n"
        "with progress() as say, tensorflow_kept_quiet():\n"
        "    os.write(2, b'chatter')\n"
        "    say('converting')\n"
        "    time.sleep(0.5)\n"
        "stderr.print('said afterwards')\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 1024)
            except OSError:  # Linux says so when the other end is closed
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"converting" in seen
    assert b"said afterwards" in seen
    assert b"chatter" not in seen
