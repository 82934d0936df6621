"""The token of the page, and the private file that keeps its hash."""

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.private_file import read_private_file, write_private_file
from edge.token import check_token, new_token, stored_hash
from hematovision.cli import root
from hematovision.errors import SettingError


def test_a_token_has_256_bits_needs_no_quoting_and_no_two_are_alike(tmp_path: Path) -> None:
    tokens = {new_token(tmp_path) for _ in range(20)}
    assert len(tokens) == 20
    for token in tokens:
        assert len(token) == 43
        assert set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def test_only_the_newest_token_opens(tmp_path: Path) -> None:
    old, new = new_token(tmp_path), new_token(tmp_path)
    assert check_token(tmp_path, new)
    assert not check_token(tmp_path, old)


@pytest.mark.parametrize("text", ["", "x", "\udcff", "ä", "\0", "x" * 100_000])
def test_anything_else_does_not_open(tmp_path: Path, text: str) -> None:
    token = new_token(tmp_path)
    assert not check_token(tmp_path, text)
    assert not check_token(tmp_path, token + text[:1] + "x")
    assert not check_token(tmp_path, stored_hash(tmp_path) or "")


def test_without_a_token_nothing_opens(tmp_path: Path) -> None:
    assert stored_hash(tmp_path) is None
    assert not check_token(tmp_path, "")
    assert not check_token(tmp_path / "missing", "x")


def test_only_the_hash_is_stored_for_the_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there yet"
    token = new_token(folder)
    (file,) = folder.iterdir()
    assert token.encode() not in file.read_bytes()
    assert hashlib.sha256(token.encode()).hexdigest() in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_makes_the_token_for_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)
    new_token(tmp_path)
    status = (tmp_path / "token").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 23456, 0o600)


@pytest.mark.parametrize(
    "content", [b"", b"sha256:", b"sha256:" + b"0" * 63 + b"\n", b"\xff" * 72, b"0" * 65]
)
def test_a_damaged_token_file_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    new_token(tmp_path)
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(SettingError, match=r"token is damaged; make another one with hematovision token new"):
        check_token(tmp_path, "x")


def test_a_folder_that_cannot_be_made_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"file/state: cannot be made .* check store.folder"):
        new_token(tmp_path / "file" / "state")


def test_the_command_prints_the_token_once_and_alone(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('[store]\nfolder = "state"\n')
    result = CliRunner().invoke(root, ["token", "new", "--config", str(config)])
    assert result.exit_code == 0
    assert check_token(tmp_path / "state", result.stdout.removesuffix("\n"))
    assert result.stdout.strip() not in result.stderr
    assert str(tmp_path / "state") in result.stderr


@pytest.mark.parametrize("answer", ["", "n\n", "\n"])
def test_a_token_is_not_made_void_unless_that_is_meant(tmp_path: Path, answer: str) -> None:
    before = new_token(tmp_path)
    command = ["token", "new", "--folder", str(tmp_path)]
    result = CliRunner().invoke(root, command, input=answer)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "there is a token already, and another makes it void; give --yes" in result.stderr
    assert check_token(tmp_path, before)
    result = CliRunner().invoke(root, [*command, "--yes"])
    assert result.exit_code == 0
    assert check_token(tmp_path, result.stdout.strip())
    assert not check_token(tmp_path, before)


@pytest.mark.parametrize(("answer", "made"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
def test_at_a_terminal_it_is_asked_first(tmp_path: Path, answer: bytes, made: bool) -> None:
    before = new_token(tmp_path)
    ours, theirs = os.openpty()
    os.write(ours, answer)
    command = [sys.executable, "-m", "hematovision", "token", "new", "--folder", str(tmp_path)]
    result = subprocess.run(command, stdin=theirs, capture_output=True, text=True)
    os.close(ours)
    os.close(theirs)
    assert "There is a token already. Make it void, and sign everybody out? [y/N]" in result.stderr
    assert (result.returncode == 0) == made
    assert check_token(tmp_path, before) != made
    assert not made or check_token(tmp_path, result.stdout.strip())


def test_a_token_never_begins_as_an_option_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter(["-a", "--b", "_c"])
    monkeypatch.setattr("secrets.token_urlsafe", lambda _: next(made))
    assert new_token(tmp_path) == "_c"


# The private file


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o666])
def test_a_file_that_others_read_or_change_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x")
    path.chmod(mode)
    with pytest.raises(SettingError, match=rf"the secret: other users .* chmod g-w,o= {path}"):
        read_private_file(path, "the secret")


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_a_file_for_its_owner_and_readable_by_its_group_is_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x")
    path.chmod(mode)
    assert read_private_file(path, "the secret") == b"x"


def test_links_folders_pipes_and_large_files_are_refused_and_none_is_waited_for(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write_private_file(secret, b"x")
    link, folder, pipe, large = (tmp_path / name for name in ("link", "folder", "pipe", "large"))
    link.symlink_to(secret)
    folder.mkdir(mode=0o700)
    os.mkfifo(pipe, 0o600)
    write_private_file(large, b"x" * 4097)
    for path, complaint in (
        (link, "is a link"),
        (folder, r"cannot be read \(not a file but a folder\)"),
        (pipe, r"cannot be read \(not a file but a pipe\)"),
        (large, r"cannot be read \(4,097 bytes, more than the 4,096"),
        (secret / "below", "cannot be read"),
    ):
        with pytest.raises(SettingError, match=f"the secret: {path} {complaint}"):
            read_private_file(path, "the secret")
    with pytest.raises(FileNotFoundError):
        read_private_file(tmp_path / "missing", "the secret")


def test_writing_puts_the_new_file_in_the_place_of_whatever_was_there(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "secret"
    target.write_bytes(b"old")
    path.symlink_to(target)
    write_private_file(path, b"new")
    assert read_private_file(path, "the secret") == b"new"
    assert target.read_bytes() == b"old"  # a link is replaced, not followed


def test_what_cannot_be_written_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    write_private_file(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(SettingError, match=r"secret: cannot be written \(No space left on device\)"):
        write_private_file(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]
    assert path.read_bytes() == b"old"


def test_a_token_can_be_made_for_a_folder_that_no_settings_name(tmp_path: Path) -> None:
    result = CliRunner().invoke(root, ["token", "new", "--folder", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert check_token(tmp_path, result.stdout.strip())
