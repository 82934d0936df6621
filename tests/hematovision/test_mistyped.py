"""What is said of something mistyped."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge.cameras import open_camera
from edge.config import load_settings
from hematovision.cli import root
from hematovision.errors import DataSetError, HematoVisionError, SettingError
from train.datasets import read_dataset


def said(*words: str) -> str:
    """What the command line says of wrong words, on a line."""
    result = CliRunner().invoke(root, words)
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["clasify"], "classify"),
        (["session"], "sessions"),
        (["sessions", "lst"], "list"),
        (["train", "evaluat"], "evaluate"),
        (["bench", "latencies"], "latency"),
        (["classify", "--runtime", "litrt", "x.png"], "litert"),
        (["classify", "--formt", "csv", "x.png"], "--format"),
        (["classify", "--format", "CVS", "x.png"], "csv"),
        (["run", "--camera", "flder:x"], "folder"),
        (["run", "--camera", "Phantom"], "phantom"),
        (["run", "--camera", "phantom:frame=9"], "frames"),
        (["run", "--camera", "phantom:path=dmo"], "demo"),
        (["run", "--camera", "phantom", "--set", "web.prot=1"], "web.port"),
        (["run", "--camera", "phantom", "--set", "model.runtime=tflite-rutime"], "tflite-runtime"),
        (["sessions", "show", "#12"], "12"),
        (["sessions", "delete", "session-7"], "7"),
    ],
)
def test_what_was_meant_is_named(words: list[str], meant: str) -> None:
    line = said(*words)
    assert re.search(f"(id you mean|nearest known key is) '?{re.escape(meant)}('?\\?|$)", line), line


def test_nothing_is_guessed_where_nothing_is_near() -> None:
    for words in (["qqqq"], ["sessions", "show", "x"], ["classify", "--format", "yyyy", "x"]):
        assert "mean" not in said(*words)


def test_where_the_numbers_of_sessions_are_shown() -> None:
    assert "hematovision sessions list shows the numbers" in said("sessions", "show", "last")


def test_a_path_as_a_camera_is_told_what_stands_before_it(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=f"did you mean 'folder:{tmp_path}'"):
        open_camera(str(tmp_path), 0.1)


def numbers_of(command: click.Command, words: list[str]) -> Iterator[tuple[list[str], click.Option]]:
    """Every option that is a number."""
    context = click.Context(command)
    for option in command.params:
        if isinstance(option, click.Option) and isinstance(option.type, type(click.FLOAT) | type(click.INT)):
            yield words, option
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from numbers_of(child, [*words, name])


def test_a_decimal_comma_is_named_by_every_option_that_is_a_number() -> None:
    options = [(words, option) for words, option in numbers_of(root, []) if not option.is_flag]
    assert len(options) > 15
    for words, option in options:
        line = said(*words, option.opts[0], "0,1")
        assert "comma" in line, (words, line)
    assert "write 0.104, with a decimal point" in said("classify", "--um-per-pixel", "0,104", "x.png")


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("phantom:um_per_pixel=0,2", "write 0.2, with a decimal point"),
        ("phantom:seed=3,um_per_pixel=0,2,width=640", "write 0.2, with a decimal point"),
        ("v4l2:/dev/video0,width=1,280", "write a whole number, without a comma"),
    ],
)
def test_a_decimal_comma_is_named_in_the_options_of_a_camera(spec: str, hint: str) -> None:
    with pytest.raises(SettingError, match=hint):
        open_camera(spec, 0.1)


def test_settings_and_data_name_it_too(tmp_path: Path) -> None:
    def mistake(text: str) -> str:
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(HematoVisionError) as caught:
            load_settings(path)
        return str(caught.value)

    assert "line 2: 0,1 is no number; write 0.1, with a decimal point" in mistake(
        "[camera]\num_per_pixel = 0,1  # measured\n"
    )
    assert "write 0.1, with a decimal point" in mistake('[camera]\num_per_pixel = "0,1"\n')
    assert "write a whole number" in mistake('[web]\nport = "8,765"\n')
    assert "comma" not in mistake("[camera]\num_per_pixel = 0;1\n")
    assert "write 0.1, with a decimal point" in said(
        "run", "--camera", "phantom", "--set", "camera.um_per_pixel=0,1"
    )
    with pytest.raises(SettingError, match=r"write 0\.1, with a decimal point"):
        read_dataset(f"{tmp_path}@0,1")
    with pytest.raises(DataSetError):
        read_dataset(f"{tmp_path}@0.1")
