"""``hematovision config``, as it is typed."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.config import load_settings
from edge.token import new_token
from hematovision.cli import root


def call(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["config", *arguments])


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No settings file of this machine, and a state folder of the test's own."""
    monkeypatch.setattr("edge.config.DEFAULT_FILE", tmp_path / "none.toml")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "hematovision"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text('[camera]\nsource = "phantom"\n')
    return path


def complaints(path: Path, text: str) -> list[str]:
    path.write_text(text)
    result = call("check", str(path))
    assert result.exit_code == 2
    assert "no mistakes" not in result.stdout
    return result.stderr.splitlines()


def test_show_prints_settings_that_can_be_read_again(tmp_path: Path, file: Path) -> None:
    result = call("show", "--config", str(file))
    assert result.exit_code == 0
    assert f'source = "phantom"  # from {file}' in result.stdout
    again = tmp_path / "again.toml"
    again.write_text(result.stdout)
    assert load_settings(again) == load_settings(file)


def test_show_of_a_file_with_mistakes_shows_what_it_can_and_ends_with_2(file: Path) -> None:
    file.write_text("[web]\nport = 1\nviewers = 0\n")
    result = call("show", "--config", str(file))
    assert result.exit_code == 2
    assert "port = 1  # from" in result.stdout
    assert "web.viewers = 0 must be" in result.stderr


def test_without_a_file_the_defaults_have_no_mistakes_but_one_that_is_named_must_be_there(
    tmp_path: Path,
) -> None:
    result = call("check")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "The defaults: no mistakes.",
        "No camera is set: hematovision run needs camera.source or --camera.",
    ]
    missing = call("check", str(tmp_path / "missing.toml"))
    assert missing.exit_code == 2
    assert "there is no such settings file" in missing.stderr


def test_a_good_file_passes_and_no_camera_is_opened(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError

    file.write_text('[camera]\nsource = "v4l2:/dev/video99"\num_per_pixel = 0.1\n')
    monkeypatch.setattr("edge.cameras.v4l2.V4L2Camera.open", refuse)
    result = call("check", str(file))
    assert (result.exit_code, result.stdout) == (0, f"{file}: no mistakes.\n")


def test_who_may_look_is_said_where_a_proxy_could_let_everybody_in(file: Path) -> None:
    file.write_text("")
    assert "Have a proxy on it set X-Forwarded-Proto" in call("check", str(file)).stderr
    for closed in ("port = 0", "read_without_token = true"):
        file.write_text(f"[web]\n{closed}\n")
        assert "X-Forwarded-Proto" not in call("check", str(file)).stderr


def test_every_mistake_is_found_not_only_the_first(file: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    (tmp_path / "password").chmod(0o644)
    found = complaints(
        file,
        '[camera]\nsource = "v4l2:/dev/video0"\nblank = "blank.png"\n[model]\nfile = "model.tflite"\n'
        '[web]\nhost = "0.0.0.0"\nprot = 1\nport = true\n'
        '[mqtt]\nusername = "u"\npassword_file = "password"\nhost = "a b"\n',
    )
    expected = [
        "web.prot is unknown; the nearest known key is web.port",
        "web.port = true must be a whole number (0 to 65535)",
        "mqtt.host must be",
        "camera: um_per_pixel is not set, which a live camera needs",
        f"camera.blank: {tmp_path / 'blank.png'}: cannot be read",
        f"model: {tmp_path / 'model.tflite'}: cannot be read",
        f"mqtt.password_file: other users can read or change {tmp_path / 'password'}",
        "web: host is 0.0.0.0, which other machines reach, and there is no token",
    ]
    for line, part in zip(found, expected, strict=True):
        assert line.startswith("Error: ")
        assert part in line


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("webcam", "no camera is called 'webcam'"),
        ("v4l2:", "says not which"),
        ("picamera2:0,gian=1", "'gian=1' is unknown"),
        ("rtsp://", "names no host"),
    ],
)
def test_a_camera_that_cannot_be_meant_is_a_mistake(file: Path, source: str, complaint: str) -> None:
    (line,) = complaints(file, f'[camera]\nsource = "{source}"\num_per_pixel = 0.1\n')
    assert complaint in line


def test_a_file_that_others_read_must_not_hold_a_cameras_password(file: Path) -> None:
    file.chmod(0o644)
    text = '[camera]\nsource = "rtsp://anna:hunter2@10.0.0.5/"\num_per_pixel = 0.1\n'
    (line,) = complaints(file, text)
    assert f"chmod o= {file}" in line
    assert "hunter2" not in line
    file.chmod(0o640)
    assert call("check", str(file)).exit_code == 0


def test_certificates_must_be_some(file: Path) -> None:
    text = f'[mqtt]\ntls = true\nca_file = "{file}"\n'
    (line,) = complaints(file, text)
    assert f"ca_file: {file} holds no certificates" in line


def test_listening_for_others_needs_a_token(file: Path, state: Path) -> None:
    (line,) = complaints(file, '[web]\nhost = "0.0.0.0"\n')
    assert "make one with hematovision token new" in line
    new_token(state)
    assert call("check", str(file)).exit_code == 0
    (state / "token").chmod(0o644)
    (line,) = complaints(file, '[web]\nhost = "0.0.0.0"\n')
    assert "other users can read" in line
