"""Options behind a camera's name, such as ``seed=3,noise=1.5``: one grammar for all cameras."""

import math
from collections.abc import Mapping
from typing import Any

from hematovision.errors import SettingError
from hematovision.terminal.mistyped import decimal_comma, did_you_mean

_KINDS = {int: "a whole number", float: "a finite number"}


def parse_options(text: str, known: Mapping[str, type]) -> dict[str, Any]:
    """Options as ``key=value``, separated by commas; an empty text has none.

    Args:
        text: what a person wrote behind the camera's name.
        known: the names of the options that there are, and the type of each: int, float or str.

    Returns:
        What was given and nothing else, each value of its type; numbers are finite.

    Raises:
        SettingError: an option is unknown, given twice, without a value, or not of its type.
    """
    options: dict[str, Any] = {}
    last, written = "", ""  # the option before, and its value as it was written
    for part in text.split(",") if text else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key.isdecimal() and not equals and isinstance(options.get(last), int | float):
            number = f"{written},{key}"
            hint = decimal_comma(number, whole=known[last] is int)
            raise SettingError(f"camera option '{last}={number}': options are separated by commas{hint}")
        if key not in known:
            meant = did_you_mean(key, known)
            raise SettingError(f"camera option '{part.strip()}' is unknown; known are {_list(known)}{meant}")
        if not equals or not value:
            raise SettingError(f"camera option '{key}' has no value; write {key}=VALUE")
        if key in options:
            raise SettingError(f"camera option '{key}' is given twice; leave one")
        last, written = key, value
        try:
            options[key] = known[key](value)
            unusable = isinstance(options[key], float) and not math.isfinite(options[key])
        except ValueError:
            unusable = True
        if unusable:
            raise SettingError(f"camera option '{part.strip()}': must be {_KINDS[known[key]]}")
    return options


def _list(known: Mapping[str, type]) -> str:
    return ", ".join(f"{key}=" for key in known)
