"""What is no regular file is refused at once, by everything that reads a file which somebody names."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.blank_field import read_blank
from edge.broker import Connection
from edge.config import MqttSettings, load_settings, read_password
from edge.private_file import read_private_file
from edge.store import Message
from hematovision.errors import HematoVisionError, SettingError
from hematovision.images import read_image
from hematovision.model_file import file_hash, manifest_path, read_keras_manifest, read_model_file
from hematovision.regular_file import open_regular_file, read_regular_file

# Hanging is the fault that is looked for.
pytestmark = pytest.mark.timeout(60)


def read_certificates(path: Path) -> None:
    settings = MqttSettings(host="broker.invalid", tls=True, ca_file=str(path))
    Connection(settings, "test", will=Message("topic", b"", retain=False))


def read_manifest_beside(path: Path) -> None:
    keras_path = path.with_name("model.keras")
    keras_path.write_bytes(b"weights")
    manifest_path(keras_path).symlink_to(path)
    read_keras_manifest(keras_path)


READERS: dict[str, Callable[[Path], object]] = {
    "image": read_image,
    "model": read_model_file,
    "keras": read_keras_manifest,
    "manifest": read_manifest_beside,
    "blank field": read_blank,
    "settings": load_settings,
    "password": read_password,
    "private file": lambda path: read_private_file(path, "the token"),
    "certificates": read_certificates,
}


def make(kind: str, folder: Path) -> Path:
    path = folder / "named"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to an endless device":
        path.symlink_to("/dev/zero")
    elif kind == "terminal":
        path.symlink_to("/dev/ptmx")
    else:  # a regular one, as it says, of size 0
        path.symlink_to("/proc/self/mem")
    return path


KINDS = ["pipe", "socket", "folder", "link to an endless device", "terminal", "file of the system"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_at_once_in_a_line(reader: str, kind: str, tmp_path: Path) -> None:
    path = make(kind, tmp_path)
    if reader == "keras":
        (tmp_path / "named.manifest.json").write_text("{}")
    with pytest.raises(HematoVisionError) as caught:
        READERS[reader](path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message or "model.manifest.json" in message


@pytest.mark.parametrize("kind", KINDS)
def test_the_reason_is_said(kind: str, tmp_path: Path) -> None:
    expected = {"pipe": "but a pipe", "socket": "but a socket", "folder": "but a folder", KINDS[-1]: "Input"}
    with pytest.raises(OSError, match=expected.get(kind, "but a device")) as caught:
        read_regular_file(make(kind, tmp_path), 100_000)
    assert caught.value.filename == str(tmp_path / "named")


def test_a_file_is_read_to_its_limit_and_not_beyond(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for size in (0, 1, 70_000, 100_000):
        content = os.urandom(size)
        path.write_bytes(content)
        assert read_regular_file(path, 100_000) == content
    path.write_bytes(bytes(100_001))
    with pytest.raises(OSError, match="100,001 bytes, more than the 100,000"):
        read_regular_file(path, 100_000)


def test_a_file_that_goes_on_behind_its_size_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shorter").write_bytes(b"")
    (tmp_path / "file").write_bytes(bytes(65_537))
    as_stated = (tmp_path / "shorter").stat()
    with monkeypatch.context() as patch:
        patch.setattr("os.fstat", lambda _: as_stated)
        with pytest.raises(OSError, match="without an end, or still being written") as caught:
            read_regular_file(tmp_path / "file", 100_000)
    assert caught.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize("content", ["", "no certificate\n"])
def test_a_file_without_certificates_does_not_stand_for_the_systems(content: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(SettingError, match=r"ca\.pem holds no certificates"):
        read_certificates(tmp_path / "ca.pem")


def test_a_link_is_followed_only_where_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular_file(tmp_path / "link", 100) == b"content"
    with pytest.raises(OSError, match="not a file but a link"):
        open_regular_file(tmp_path / "link", follow_links=False)


def test_what_becomes_a_pipe_between_look_and_open_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    as_it_was = (tmp_path / "file").stat()
    (tmp_path / "file").unlink()
    os.mkfifo(tmp_path / "file")
    monkeypatch.setattr(Path, "stat", lambda self, **_: as_it_was)
    with pytest.raises(OSError, match="not a file but a pipe"):
        open_regular_file(tmp_path / "file")


def test_the_hash_of_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a file but a pipe"):
        file_hash(make("pipe", tmp_path))
