"""What is kept counts while its SHA-256 is right, and sha256sum agrees."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.cache import cache_folder, enter, keep_file, kept_files
from hematovision.errors import ModelFileError, SettingError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model-0123"
    keep_file(folder, "one", b"first")
    keep_file(folder, "another one", b"second")
    return folder


def test_what_is_kept_is_found_again(folder: Path) -> None:
    assert kept_files(folder) == {"one": folder / "one", "another one": folder / "another one"}


def test_sha256sum_checks_the_sums(folder: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"OK") == 2


def test_a_file_counts_once_it_is_entered_and_before_that_it_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "third").write_bytes(b"third")
    assert "third" not in kept_files(folder)
    assert f"{folder / 'third'}: not in SHA256SUMS" in capsys.readouterr().err
    enter(folder, ["third"])
    assert sorted(kept_files(folder)) == ["another one", "one", "third"]
    assert capsys.readouterr().err == ""


def test_a_file_kept_again_replaces_the_earlier_one(folder: Path) -> None:
    keep_file(folder, "one", b"later")
    assert kept_files(folder)["one"].read_bytes() == b"later"


def test_what_is_kept_at_the_same_time_is_all_entered(folder: Path) -> None:
    names = [f"file {number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: keep_file(folder, name, name.encode()), names))
    assert set(names) < set(kept_files(folder))


@pytest.mark.parametrize("content", [b"firsT", b"fir", b""])
def test_a_damaged_file_does_not_count_and_it_is_said(
    content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "one").write_bytes(content)
    assert list(kept_files(folder)) == ["another one"]
    assert f"{folder / 'one'}: damaged or not there" in capsys.readouterr().err


def test_a_file_that_is_gone_does_not_count(folder: Path) -> None:
    (folder / "one").unlink()
    assert list(kept_files(folder)) == ["another one"]


def test_without_sums_nothing_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "SHA256SUMS").unlink()
    assert kept_files(folder) == {}
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert kept_files(folder / "never made") == {}


def test_sums_that_are_damaged_leave_what_they_still_say(folder: Path) -> None:
    sums = folder / "SHA256SUMS"
    sums.write_bytes(b"\xff\x00 nonsense\n" + sums.read_bytes().splitlines(keepends=True)[1])
    assert list(kept_files(folder)) == ["one"]


def test_sums_name_files_of_their_own_folder_only(folder: Path) -> None:
    keep_file(folder.parent, "outside", b"first")
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("  one", "  ../outside"))
    assert list(kept_files(folder)) == ["another one"]


def test_sums_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").mkdir()
    with pytest.raises(ModelFileError, match=r"SHA256SUMS: cannot be read .* --variants"):
        kept_files(tmp_path)


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ModelFileError, match="taken"):
        keep_file(tmp_path / "taken", "one", b"")


def test_the_folder_is_where_the_user_keeps_such_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/somebody")
    assert cache_folder() == Path("/var/cache/somebody/hematovision/variants")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path("/home/somebody/.cache/hematovision/variants")


def test_a_user_without_a_home_names_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(SettingError, match="--variants"):
        cache_folder()
