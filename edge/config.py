"""The settings of the device: every key with its default, type, range and help, and reading them.

One TOML file; its sections and keys are the fields of `Settings`. The command line goes before the file, the
file before the defaults. A path in the file is taken from the file's own folder, since nobody knows a
service's working directory; one on the command line from the working directory, as usual. No password stands
in the file but a camera's, inside its address, and that nothing here shows.
"""

import dataclasses
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from edge import config_rules as rules
from edge.config_rules import Rule
from edge.private_file import read_private_file
from hematovision.errors import SettingError
from hematovision.images import shown_path
from hematovision.regular_file import read_regular_file
from hematovision.runtime import AUTO, PACKAGES
from hematovision.terminal.mistyped import decimal_comma

#: Read where no other file is named.
DEFAULT_FILE = Path("/etc/hematovision.toml")

_MAX_FILE_BYTES = 1_000_000
_COMMAND_LINE = "command line"


@dataclass(frozen=True)
class CameraSettings:
    """Section ``[camera]``."""

    source: str = rules.camera(
        "The camera, as hematovision run --camera takes it; a path in it starts at the working directory."
    )
    um_per_pixel: float | None = rules.number(
        0.02, 2.0, "µm per pixel; a live camera needs it, hematovision calibrate --camera measures it."
    )
    blank: str = rules.path("Picture of the empty field, which hematovision calibrate --blank records.")


@dataclass(frozen=True)
class ModelSettings:
    """Section ``[model]``."""

    file: str = rules.path("Model file (.tflite); empty: the one that comes with hematovision.")
    finder: str = rules.path("Finder's file (.tflite); empty: the one that comes with hematovision.")
    runtime: str = rules.choice(
        AUTO, (AUTO, *PACKAGES), "What runs the model; auto: the first of the others that is installed."
    )


@dataclass(frozen=True)
class SessionSettings:
    """Section ``[session]``: of the session that a start begins where none is open."""

    sample: str = rules.text("", "Name of the sample.")
    operator: str = rules.text("", "Who counts.")


@dataclass(frozen=True)
class StoreSettings:
    """Section ``[store]``."""

    folder: str = rules.path(
        "Folder of the database; empty: what systemd gives the service, else ~/.local/state/hematovision."
    )
    keep_days: int = rules.whole(
        0, 0, 36_500, "Sessions that ended so many days ago are deleted, a day after a notice; 0: never."
    )
    keep_free_mb: int = rules.whole(
        0, 0, 1_000_000, "The oldest sessions are deleted while fewer MB are free, likewise; 0: never."
    )
    keep_sessions: int = rules.whole(20, 0, 1_000_000, "The newest so many sessions are kept in any case.")


@dataclass(frozen=True)
class WebSettings:
    """Section ``[web]``."""

    port: int = rules.whole(8765, 0, 65_535, "TCP port of the page; 0: no page.")
    host: str = rules.host(
        "127.0.0.1",
        "Address the page listens on; others than this machine's own need hematovision token new.",
    )
    read_without_token: bool = rules.switch(False, "Whether all who reach the page may look, not change.")
    names: tuple[str, ...] = rules.host_names(
        "Host names that the page may be asked for by, beside localhost and addresses."
    )
    viewers: int = rules.whole(24, 1, 100, "Live pictures shown at a time.")
    upload_mb: int = rules.whole(20, 1, 200, "Largest picture that may be sent to be classified, in MB.")


@dataclass(frozen=True)
class MqttSettings:
    """Section ``[mqtt]``."""

    host: str = rules.host("", "The broker's host name or address; empty: no messages.", private=True)
    port: int = rules.whole(0, 0, 65_535, "TCP port of the broker; 0: 1883, or 8883 with TLS.")
    username: str = rules.text("", "User name at the broker; empty: none.", private=True)
    password_file: str = rules.path("File with the password as its only line; other users must not read it.")
    tls: bool = rules.switch(False, "Whether the line is encrypted and the broker's certificate checked.")
    ca_file: str = rules.path("Certificates that the broker's is checked against; empty: the system's.")
    topic: str = rules.topic("hematovision", "What every topic begins with.")
    name: str = rules.text(
        "", "This device in topics; empty: the host's name.", "letters, digits, - and _", "[A-Za-z0-9_-]*"
    )
    discovery: bool = rules.switch(True, "Whether Home Assistant is told of the device.")


@dataclass(frozen=True)
class Settings:
    """All settings; without arguments, the defaults. `load_settings` checks them, this class does not."""

    camera: CameraSettings = CameraSettings()
    model: ModelSettings = ModelSettings()
    session: SessionSettings = SessionSettings()
    store: StoreSettings = StoreSettings()
    web: WebSettings = WebSettings()
    mqtt: MqttSettings = MqttSettings()

    def value(self, key: str) -> object:
        """The value of a key of `RULES`."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)


SECTIONS = tuple(section.name for section in dataclasses.fields(Settings))
#: The rule of every key, by ``section.key``, in order.
RULES: Mapping[str, Rule] = {
    f"{section}.{key.name}": key.metadata["rule"]
    for section in SECTIONS
    for key in dataclasses.fields(getattr(Settings, section))
}


@dataclass(frozen=True)
class FoundSettings:
    """Settings, the origin of each key that has no default (by ``section.key``), and what is wrong, by line.

    A key with a mistake has its default.
    """

    settings: Settings
    origins: Mapping[str, str]
    mistakes: tuple[str, ...]


def find_file(given: str | None) -> Path | None:
    """The settings file: the one given, which must be there, else `DEFAULT_FILE` where it is, else none."""
    if given is None:
        return DEFAULT_FILE if DEFAULT_FILE.exists() else None
    return Path(given)


def load_settings(path: Path | None, overrides: Mapping[str, object] | None = None) -> Settings:
    """Read the settings.

    Args:
        path: the TOML file, see `find_file`; None for no file.
        overrides: what the command line says, by ``section.key``; None where it says nothing.

    Raises:
        SettingError: the file cannot be read, a key is unknown, or a value cannot be.
    """
    found = find_settings(path, overrides)
    if found.mistakes:
        more = len(found.mistakes) - 1
        rest = f" (and {more} more: hematovision config check lists them)" if more else ""
        raise SettingError(found.mistakes[0] + rest)
    return found.settings


def find_settings(path: Path | None, overrides: Mapping[str, object] | None = None) -> FoundSettings:
    """Read the settings and find every mistake in them. Arguments as for `load_settings`.

    Raises:
        SettingError: the file cannot be read at all.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    mistakes: list[str] = []
    if path is not None:
        name = shown_path(path)
        for key, value in _keys(_read_toml(path)):
            mistake = _mistake(key, value)
            if mistake:
                mistakes.append(f"{name}: {mistake}")
            else:
                values[key], origins[key] = _from_folder(key, value, path.parent), name
    for key, value in (overrides or {}).items():
        mistake = None if value is None else _mistake(key, value)
        if mistake:
            mistakes.append(f"{_COMMAND_LINE}: {mistake}")
        elif value is not None:
            values[key], origins[key] = value, _COMMAND_LINE
    settings = _settings(values)
    return FoundSettings(settings, origins, (*mistakes, *_contradictions(settings)))


def state_folder(settings: Settings) -> Path:
    """Where the database, its lock and the token are.

    ``store.folder``; else what systemd says (``$STATE_DIRECTORY``), ``$XDG_STATE_HOME/hematovision`` or
    ``~/.local/state/hematovision``.

    Raises:
        SettingError: nobody says where, and this user has no home.
    """
    if settings.store.folder:
        return Path(settings.store.folder)
    # Several, separated by colons, where a unit asks for several.
    by_systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if by_systemd:
        return Path(by_systemd)
    by_user = os.environ.get("XDG_STATE_HOME", "")
    if by_user.startswith("/"):  # what is not absolute is to be ignored, its specification says
        return Path(by_user) / "hematovision"
    try:
        return Path.home() / ".local/state/hematovision"
    except RuntimeError as error:
        raise SettingError("this user has no home folder; set store.folder in the settings") from error


def read_password(path: Path) -> str:
    """The password in a file, its only line, without the line break.

    Raises:
        SettingError: the file cannot be read, other users can read it, or it is not one line of text.
    """
    what = "mqtt.password_file"
    try:
        content = read_private_file(path, what)
    except FileNotFoundError as error:
        raise SettingError(f"{what}: {shown_path(path)} is not there; check the path") from error
    try:
        password = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        password = ""  # the error would show some of it
    if not password.isprintable() or not password:
        raise SettingError(f"{what}: {shown_path(path)} does not hold one line of text; write it anew")
    return password


def _read_toml(path: Path) -> dict[str, Any]:
    name = shown_path(path)
    try:
        data = read_regular_file(path, _MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise SettingError(f"{name}: there is no such settings file; check the path") from error
    except PermissionError as error:
        raise SettingError(
            f"{name}: this user may not read it; call this with sudo, or name another file with --config"
        ) from error
    except OSError as error:
        raise SettingError(
            f"{name}: cannot be read as settings ({error.strerror}); check the path"
        ) from error
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise SettingError(f"{name}: byte {error.start} is not UTF-8; save it as UTF-8") from None
    except ValueError as error:  # a whole number of thousands of digits is no TOMLDecodeError
        for number, line in enumerate(data.decode().splitlines(), 1):
            value = line.partition("=")[2].partition("#")[0]
            if hint := decimal_comma(value):
                raise SettingError(f"{name}: line {number}: {value.strip()} is no number{hint}") from None
        raise SettingError(f"{name}: not TOML: {shown_path(str(error))}") from None
    except RecursionError:
        raise SettingError(f"{name}: not TOML that is meant: nested too deeply") from None


def _keys(content: Mapping[str, Any]) -> Iterable[tuple[str, object]]:
    """What a file says, by ``section.key``; what stands in no section by itself."""
    for section, value in content.items():
        if isinstance(value, dict) and (section in SECTIONS or value):
            yield from ((f"{section}.{key}", inner) for key, inner in value.items())
        else:
            yield section, value


def _mistake(key: str, value: object) -> str | None:
    """What is wrong with a key and its value, in a line; None if nothing is."""
    if key in RULES:
        wrong = RULES[key].mistake(value)
        return wrong and f"{key} {wrong}"
    section, dot, _ = key.partition(".")
    if section in SECTIONS and not dot:
        return f"{section} is a section; write [{section}], and its keys below it"
    return f"{shown_path(key)} is unknown; the nearest known key is {_nearest(key)}"


def _nearest(key: str) -> str:
    section, _, name = key.rpartition(".")

    def likeness(known: str) -> float:
        known_section, _, known_name = known.partition(".")
        # The same key of another section is nearer than another key of the same section.
        return (
            2 * SequenceMatcher(None, name, known_name).ratio()
            + SequenceMatcher(None, section, known_section).ratio()
        )

    return max(RULES, key=likeness)


def _from_folder(key: str, value: object, folder: Path) -> object:
    if RULES[key].is_path and value:
        # Not resolve(): it would follow links that are there on purpose.
        return os.path.abspath(folder / str(value))  # noqa: PTH100
    return value


def _settings(values: Mapping[str, object]) -> Settings:
    changed: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for key, value in values.items():
        section, _, name = key.partition(".")
        changed[section][name] = RULES[key].stored(value)
    return Settings(**{section: type(getattr(Settings, section))(**own) for section, own in changed.items()})


def _contradictions(settings: Settings) -> list[str]:
    """What no key shows by itself: settings that cannot both be meant."""
    mqtt, wrong = settings.mqtt, []
    if mqtt.password_file and not mqtt.username:
        wrong.append("mqtt.password_file is set but mqtt.username is not: MQTT takes no password without one")
    if mqtt.ca_file and not mqtt.tls:
        wrong.append("mqtt.ca_file is set but mqtt.tls is not; set tls = true, or leave ca_file out")
    return wrong
