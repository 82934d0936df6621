"""What a key of the settings may be: a field of a dataclass, with its rule in the field's metadata."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from hematovision.images import shown_path
from hematovision.terminal.mistyped import decimal_comma, did_you_mean

_MAX_TEXT, _MAX_PATH, _MAX_SHOWN = 200, 4096, 60
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_TOPIC = r"[^+#/$][^+#/]*(/[^+#/]+)*"

_KIND_NAMES = {
    str: "a text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
}


@dataclass(frozen=True)
class Rule:
    """What a key may be. ``may_be`` says it in words; ``allows`` judges a value of the right type.

    ``longest``: that a text may be, in characters; no text has control characters. ``is_path``: of a file or
    folder. ``private``: a mistyped value may hold a password, so that messages do not show it.
    ``choices``: the texts that it may be, where they are few.
    """

    kind: type
    may_be: str
    allows: Callable[[Any], bool]
    help: str
    longest: int = _MAX_TEXT
    is_path: bool = False
    private: bool = False
    choices: tuple[str, ...] = ()

    def mistake(self, value: object) -> str | None:
        """What is wrong with a value: what it is, and what it must be; None if nothing is wrong."""
        if self._has_kind(value) and self._is_line(value) and self.allows(value):
            return None
        words = [self.may_be] if self.may_be else []
        if self.kind is str:
            words.append(f"one line of up to {self.longest} characters")
        may_be = f" ({', '.join(words)})" if words else ""
        hint = ""
        if isinstance(value, str) and self.kind in (int, float):
            hint = decimal_comma(value, whole=self.kind is int)
        elif isinstance(value, str) and self.choices:
            hint = did_you_mean(value, self.choices)
        shown = "" if self.private else f"= {_shown(value)} "
        return f"{shown}must be {_KIND_NAMES[self.kind]}{may_be}{hint}"

    def stored(self, value: Any) -> object:
        """A value without a mistake, as `Settings` has it."""
        return self.kind(value) if self.kind in (float, tuple) else value

    def _has_kind(self, value: object) -> bool:
        if isinstance(value, bool):  # which Python takes for a whole number
            return self.kind is bool
        kinds = {float: (int, float), tuple: (list, tuple)}
        return isinstance(value, kinds.get(self.kind, self.kind))

    def _is_line(self, value: object) -> bool:
        if not isinstance(value, str):
            return True
        return len(value) <= self.longest and shown_path(value) == value  # shows control characters otherwise


def text(default: str, words: str, may_be: str = "", pattern: str = ".*", private: bool = False) -> Any:
    """A text that can be printed, stored and sent."""
    known = re.compile(pattern)

    def allows(value: str) -> bool:
        # Surrogates, which stand for bytes that are no text, can neither be stored nor sent.
        sendable = all(not "\ud800" <= character <= "\udfff" for character in value)
        return sendable and known.fullmatch(value) is not None

    return _field(default, Rule(str, may_be, allows, words, private=private))


def host(default: str, words: str, private: bool = False) -> Any:
    """A host name or an address; also none where that is the default."""

    def allows(value: str) -> bool:
        return value == default or _NAME.fullmatch(value) is not None or _is_address(value)

    return _field(default, Rule(str, "a host name or address without port", allows, words, private=private))


def topic(default: str, words: str) -> Any:
    """What MQTT topics may begin with."""
    return text(default, words, "words with / between them, without + and #, not starting with $", _TOPIC)


def path(words: str) -> Any:
    """A file or folder; none by default."""
    return _field("", Rule(str, "", lambda _: True, words, longest=_MAX_PATH, is_path=True))


def camera(words: str) -> Any:
    """A camera as `open_camera` takes it, maybe with a password in it."""
    return _field("", Rule(str, "", lambda _: True, words, longest=_MAX_PATH, private=True))


def choice(default: str, choices: tuple[str, ...], words: str) -> Any:
    """One text of a few."""
    may_be = f"one of {', '.join(choices)}"
    return _field(default, Rule(str, may_be, lambda value: value in choices, words, choices=choices))


def whole(default: int, low: int, high: int, words: str) -> Any:
    """A whole number, limits included."""
    return _field(default, Rule(int, f"{low} to {high}", lambda value: low <= value <= high, words))


def number(low: float, high: float, words: str) -> Any:
    """A number, limits included, or None by default."""
    # This also refuses not-a-number.
    return _field(None, Rule(float, f"{low:g} to {high:g}", lambda value: low <= value <= high, words))


def switch(default: bool, words: str) -> Any:
    """True or false."""
    return _field(default, Rule(bool, "", lambda _: True, words))


def host_names(words: str) -> Any:
    """A tuple of host names; none by default."""

    def allows(names: list[object]) -> bool:
        return all(isinstance(name, str) and _NAME.fullmatch(name) for name in names)

    return _field((), Rule(tuple, "host names, each in quotes", allows, words))


def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def _field(default: object, rule: Rule) -> Any:
    return field(default=default, metadata={"rule": rule})


def _shown(value: object) -> str:
    """A value as it stands in the file, where that is short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) > 2**63:  # Python does not write out a very large one
        return "more than TOML's numbers"
    if isinstance(value, list | dict):
        return "[…]" if isinstance(value, list) else "{…}"
    shown = shown_path(f'"{value}"' if isinstance(value, str) else str(value))
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"
