"""Settings: what may be written, what is refused and how, and where a value comes from."""

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import (
    DEFAULT_FILE,
    RULES,
    Settings,
    StoreSettings,
    find_file,
    find_settings,
    load_settings,
    read_password,
    state_folder,
)
from edge.config_text import show_settings, starting_file
from hematovision.errors import SettingError

CAMERA_WITH_PASSWORD = "rtsp://anna:hunter2@10.0.0.5/stream?token=hunter2"


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(folder: Path, text: str) -> list[str]:
    path = write(folder, text)
    return [mistake.removeprefix(f"{path}: ") for mistake in find_settings(path).mistakes]


def test_without_a_file_every_key_has_its_default_and_every_default_keeps_its_rule() -> None:
    settings = load_settings(None)
    assert settings == Settings()
    assert settings.web.host == "127.0.0.1"
    for key, rule in RULES.items():
        value = settings.value(key)
        assert value is None or rule.mistake(value) is None, key
        assert rule.help.endswith("."), key


def test_the_command_line_goes_before_the_file_and_the_file_before_the_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, '[web]\nport = 80\nhost = "0.0.0.0"\n[session]\nsample = "file"\n')
    settings = load_settings(path, {"web.port": 81, "session.sample": None})
    assert (settings.web.port, settings.web.host, settings.session.sample) == (81, "0.0.0.0", "file")
    assert settings.web.viewers == Settings().web.viewers
    found = find_settings(path, {"web.port": 81})
    assert found.origins == {
        "web.port": "command line",
        "web.host": str(path),
        "session.sample": str(path),
    }


def test_values_have_the_type_of_their_key(tmp_path: Path) -> None:
    path = write(tmp_path, '[camera]\num_per_pixel = 1\n[web]\nnames = ["lab.example", "b"]\n')
    settings = load_settings(path)
    assert isinstance(settings.camera.um_per_pixel, float)
    assert settings.web.names == ("lab.example", "b")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[web]\nport = 65536", "web.port = 65536 must be a whole number (0 to 65535)"),
        ("[web]\nport = -1", "web.port = -1 must be a whole number (0 to 65535)"),
        ("[web]\nport = true", "web.port = true must be a whole number (0 to 65535)"),
        ('[web]\nport = "80"', 'web.port = "80" must be a whole number (0 to 65535)'),
        ("[web]\nport = 80.0", "web.port = 80.0 must be a whole number (0 to 65535)"),
        ("[web]\nport = 1979-05-27", "web.port = 1979-05-27 must be a whole number (0 to 65535)"),
        ("[web]\nport = [80]", "web.port = […] must be a whole number (0 to 65535)"),
        ("[web]\nread_without_token = 1", "web.read_without_token = 1 must be true or false"),
        ("[web]\nnames = 'lab'", 'web.names = "lab" must be a list (host names, each in quotes)'),
        ("[web]\nnames = [1]", "web.names = […] must be a list (host names, each in quotes)"),
        ("[web]\nviewers = 0", "web.viewers = 0 must be a whole number (1 to 100)"),
        ("[camera]\num_per_pixel = nan", "camera.um_per_pixel = nan must be a number (0.02 to 2)"),
        ("[camera]\num_per_pixel = 2.01", "camera.um_per_pixel = 2.01 must be a number (0.02 to 2)"),
        (
            "[session]\nsample = 3",
            "session.sample = 3 must be a text in quotes (one line of up to 200 characters)",
        ),
        (
            '[model]\nruntime = "litrt"',
            'model.runtime = "litrt" must be a text in quotes (one of auto, litert, tflite-runtime, '
            "one line of up to 200 characters)",
        ),
        (f"[web]\nport = 0x{'f' * 4000}", "web.port = more than TOML's numbers must be a whole number (0 to"),
    ],
)
def test_a_wrong_value_is_refused_with_file_key_value_and_what_it_may_be(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingError) as error:
        load_settings(path)
    assert str(error.value).startswith(f"{path}: {complaint}")
    # A key with a mistake has its default, so that the rest can be looked at.
    assert find_settings(path).settings == Settings()


@pytest.mark.parametrize("control", ["\n", "\x1b", "\x7f", "\x85", "\u2028"])
@pytest.mark.parametrize("key", [key for key, rule in RULES.items() if rule.kind is str])
def test_no_text_may_hold_what_a_terminal_obeys(key: str, control: str) -> None:
    assert find_settings(None, {key: f"a{control}b"}).mistakes


def test_a_text_has_a_longest_length_and_a_path_a_longer_one() -> None:
    assert load_settings(None, {"session.sample": "x" * 200})
    assert find_settings(None, {"session.sample": "x" * 201}).mistakes
    assert load_settings(None, {"model.file": "x" * 4096})
    assert find_settings(None, {"model.file": "x" * 4097}).mistakes


def test_bytes_that_are_no_text_may_stand_in_a_path_only() -> None:
    assert load_settings(None, {"model.file": "\udcff"}).model.file == "\udcff"
    assert find_settings(None, {"session.sample": "\udcff"}).mistakes


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("web.host", ("localhost", "0.0.0.0", "::1", "lab-1.example"), ("", "a b", "a:80", "-a", "a/b")),
        ("mqtt.host", ("", "broker.example", "fe80::1%eth0"), ("anna:pw@broker", "mqtt://broker")),
        ("mqtt.topic", ("hematovision", "lab/scope 1"), ("", "/a", "a/", "a//b", "a/#", "+", "$SYS/a")),
        ("mqtt.name", ("", "scope_1"), ("scope 1", "a/b")),
    ],
)
def test_hosts_and_topics_are_what_the_network_takes(
    key: str, good: tuple[str, ...], bad: tuple[str, ...]
) -> None:
    for value in good:
        assert not find_settings(None, {key: value}).mistakes, value
    for value in bad:
        assert find_settings(None, {key: value}).mistakes, value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[web]\nprot = 1", "web.prot is unknown; the nearest known key is web.port"),
        ("[store]\nport = 1", "store.port is unknown; the nearest known key is web.port"),
        ("[camra]\nsource = 'x'", "camra.source is unknown; the nearest known key is camera.source"),
        ("port = 1", "port is unknown; the nearest known key is web.port"),
        ("keepdays = 1", "keepdays is unknown; the nearest known key is store.keep_days"),
        (
            "[mqtt]\npassword = 'hunter2'",
            "mqtt.password is unknown; the nearest known key is mqtt.password_file",
        ),
        ("[web.tls]\ncert = 'x'", "web.tls is unknown; the nearest known key is mqtt.tls"),
        ("web = 1", "web is a section; write [web], and its keys below it"),
        ("[[web]]\nport = 1", "web is a section; write [web], and its keys below it"),
        ('["a\\nb"]\nx = 1', "a\\nb.x is unknown; the nearest known key is"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (mistake,) = mistakes(tmp_path, text)
    assert mistake.startswith(complaint)


def test_an_unknown_key_of_the_command_line_is_refused_alike() -> None:
    with pytest.raises(
        SettingError, match=r"command line: web.prot is unknown; the nearest known key is web.port"
    ):
        load_settings(None, {"web.prot": 1})


def test_the_first_mistake_is_told_with_how_many_there_are_more(tmp_path: Path) -> None:
    path = write(tmp_path, "[web]\nprot = 1\nviewers = 0\nhost = 1")
    with pytest.raises(
        SettingError, match=r"web.prot .* \(and 2 more: hematovision config check lists them\)"
    ):
        load_settings(path)
    assert len(find_settings(path).mistakes) == 3


def test_what_cannot_both_be_meant_is_refused(tmp_path: Path) -> None:
    assert "takes no password without one" in mistakes(tmp_path, '[mqtt]\npassword_file = "p"')[0]
    assert "set tls = true" in mistakes(tmp_path, '[mqtt]\nca_file = "c"')[0]
    assert not mistakes(tmp_path, '[mqtt]\npassword_file = "p"\nusername = "u"\nca_file = "c"\ntls = true')


def test_a_path_in_the_file_starts_at_the_files_folder_one_typed_at_the_working_directory(
    tmp_path: Path,
) -> None:
    path = write(
        tmp_path, '[model]\nfile = "models/a.tflite"\n[camera]\nblank = "/b.png"\nsource = "folder:c"'
    )
    settings = load_settings(path, {"store.folder": "state"})
    assert settings.model.file == str(tmp_path / "models/a.tflite")
    assert settings.camera.blank == "/b.png"
    assert settings.camera.source == "folder:c"
    assert settings.store.folder == "state"
    assert load_settings(write(tmp_path, '[model]\nfile = ""')).model.file == ""


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"[web\n", "not TOML"),
        (b"[web]\nport = 1\nport = 2", "not TOML"),
        (b"a = " + b"[" * 5000, "not TOML"),
        (b"a = " + b"9" * 5000, "not TOML"),
        (b"\xff", "byte 0 is not UTF-8"),
        (b"#" * 1_000_001, "cannot be read as settings (1,000,001 bytes, more than"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_by_its_name(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    with pytest.raises(SettingError) as error:
        load_settings(path)
    assert str(error.value).startswith(f"{path}: {complaint}")
    assert "\n" not in str(error.value)


def test_neither_a_pipe_nor_a_folder_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(SettingError, match=r"not a file but a (pipe|folder)"):
            load_settings(path)


def test_a_file_that_is_named_must_be_there_the_usual_one_need_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingError, match="there is no such settings file"):
        load_settings(find_file(str(tmp_path / "missing.toml")))
    usual = tmp_path / "usual.toml"
    monkeypatch.setattr("edge.config.DEFAULT_FILE", usual)
    assert find_file(None) is None
    usual.touch()
    assert find_file(None) == usual
    assert Path("/etc/hematovision.toml") == DEFAULT_FILE


def test_no_mistake_in_a_camera_address_shows_its_password(tmp_path: Path) -> None:
    for text in (
        f'[camera]\nsource = ["{CAMERA_WITH_PASSWORD}"]',
        f'[camera]\nsource = "{CAMERA_WITH_PASSWORD}\\u0007"',
        f'[camera]\nadress = "{CAMERA_WITH_PASSWORD}"',
        '[mqtt]\nhost = "anna:hunter2@broker"',
        f'[camera]\nsource = "{CAMERA_WITH_PASSWORD}\n',
    ):
        path = write(tmp_path, text)
        with pytest.raises(SettingError) as error:
            load_settings(path)
        assert "hunter2" not in str(error.value)


def test_settings_shown_are_toml_with_the_origin_of_each_and_give_the_same_settings(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[camera]\nsource = "v4l2:/dev/video0"\num_per_pixel = 0.1\n[web]\nnames = ["a", "b"]\n'
        '[session]\nsample = "\\"µ\\\\ # x"\n[model]\nfile = "m.tflite"',
    )
    found = find_settings(path)
    shown = "\n".join(show_settings(found))
    assert load_settings(write(tmp_path, shown)) == found.settings
    assert f'source = "v4l2:/dev/video0"  # from {path}' in shown
    assert "port = 8765  # by default" in shown
    assert "# um_per_pixel =  # not set" in "\n".join(show_settings(find_settings(None)))
    assert [*tomllib.loads(shown)] == ["camera", "model", "session", "store", "web", "mqtt"]


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (CAMERA_WITH_PASSWORD, "rtsp://10.0.0.5/stream?…"),
        ("rstp://anna:hunter2@10.0.0.5/", "rstp://10.0.0.5/"),
        ("rtsp:/anna:hunter2@10.0.0.5/", "rtsp:…"),
        ("http://10.0.0.5/user=anna&password=hunter2", "http://10.0.0.5/…"),
    ],
)
def test_settings_shown_hide_the_password_of_a_camera_and_say_so(source: str, shown: str) -> None:
    lines = "\n".join(show_settings(find_settings(None, {"camera.source": source})))
    assert "hunter2" not in lines
    assert f'# source = "{shown}"  # from command line; not all of it is shown' in lines


def test_a_starting_file_sets_what_is_given_and_explains_all_the_rest(tmp_path: Path) -> None:
    wanted = Settings(store=StoreSettings(folder="/var/lib/x"))
    text = "\n".join(starting_file(wanted))
    assert tomllib.loads(text)["store"] == {"folder": "/var/lib/x"}
    assert load_settings(write(tmp_path, text)) == wanted
    for key in RULES:
        assert f"{key.partition('.')[2]} =" in text


@given(st.text(max_size=60))
def test_any_text_that_is_accepted_comes_back_from_what_is_shown(text: str) -> None:
    found = find_settings(None, {"session.sample": text})
    if not found.mistakes:
        shown = tomllib.loads("\n".join(show_settings(found)))
        assert shown["session"]["sample"] == text


def test_the_state_folder_is_the_settings_then_systemds_then_the_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    monkeypatch.setenv("HOME", "/home/anna")
    assert state_folder(Settings(store=StoreSettings(folder="/s"))) == Path("/s")
    assert state_folder(Settings()) == Path("/var/lib/a")
    monkeypatch.delenv("STATE_DIRECTORY")
    assert state_folder(Settings()) == Path("/x/hematovision")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_folder(Settings()) == Path("/home/anna/.local/state/hematovision")


def test_a_password_is_the_only_line_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    for content, password in ((b"hunter 2\n", "hunter 2"), (b" p\r\n", " p"), ("pä".encode(), "pä")):
        path.write_bytes(content)
        assert read_password(path) == password


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"hunter2\nhunter2\n", b"hunter2\xff", b"hunter2\0", b"h" * 5000]
)
def test_a_password_file_with_something_else_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(SettingError, match=r"mqtt.password_file: .*password") as error:
        read_password(path)
    assert "hunter2" not in str(error.value)


def test_a_password_file_that_is_not_there_or_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "password"
    with pytest.raises(SettingError, match="is not there"):
        read_password(path)
    path.write_text("hunter2")
    path.chmod(0o604)
    with pytest.raises(SettingError, match=f"other users can read or change {path}; end that with chmod"):
        read_password(path)
    path.chmod(0o640)  # root shares it with the service's group
    assert read_password(path) == "hunter2"
