"""Settings written as TOML, each key explained: to look at, and to start a file from."""

import json
from collections.abc import Callable, Iterator

from edge.cameras import CAMERA_KINDS
from edge.config import RULES, FoundSettings, Settings

_HEAD = "# Settings of HematoVision. hematovision config check finds what is wrong with them."


def show_settings(found: FoundSettings) -> Iterator[str]:
    """The settings in force as lines of TOML, each with its origin; none of them shows a password."""

    def line(key: str) -> str:
        origin = f"# from {found.origins[key]}" if key in found.origins else "# by default"
        value = found.settings.value(key)
        name = key.partition(".")[2]
        if value is None:
            return f"# {name} =  # not set"
        if key == "camera.source" and (shown := shown_source(str(value))) != value:
            return f"# {name} = {toml_value(shown)}  {origin}; not all of it is shown: it may hold a password"
        return f"{name} = {toml_value(value)}  {origin}"

    return _sections(line)


def starting_file(given: Settings) -> Iterator[str]:
    """Lines of a file that says what differs from the defaults, and the defaults as comments."""
    defaults = Settings()

    def line(key: str) -> str:
        value, default, name = given.value(key), defaults.value(key), key.partition(".")[2]
        return f"{name} = {toml_value(value)}" if value != default else f"# {name} = {toml_value(value)}"

    return _sections(line)


def toml_value(value: object) -> str:
    """A value as TOML writes it; nothing for None, which TOML does not have."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    # A JSON text, number or truth value is one of TOML too.
    return json.dumps(value, ensure_ascii=False)


def shown_source(source: str) -> str:
    """A camera as people may see it: an address without what cameras take a password in."""
    if "://" in source:
        from edge.cameras.network import shown_address  # its library takes long to load

        return shown_address(source)
    name, colon, _ = source.partition(":")
    harmless = not colon or any(kind.name == name and not kind.whole for kind in CAMERA_KINDS)
    return source if harmless else f"{name}:…"


def _sections(line: Callable[[str], str]) -> Iterator[str]:
    yield _HEAD
    section = ""
    for key, rule in RULES.items():
        if not key.startswith(f"{section}."):
            section = key.partition(".")[0]
            yield from ("", f"[{section}]")
        yield f"# {rule.help}{f' ({rule.may_be})' if rule.may_be else ''}"
        yield line(key)
