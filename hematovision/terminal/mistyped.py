"""What was meant by something mistyped: the nearest name there is, or a number with a decimal comma."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

_DECIMAL_COMMA = re.compile(r"\s*([+-]?\d*),(\d+)\s*")
# A value as click quotes it where it cannot be.
_REFUSED = re.compile(r"""(?P<quote>['"])(?P<value>.*)(?P=quote) is not """, re.DOTALL)
_NO_COMMAND = re.compile(r"No such command '(?P<value>.*)'\.", re.DOTALL)


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """``; did you mean 'NAME'?`` for the nearest of the known names, or nothing where none is near."""
    names = {name.casefold(): name for name in known}
    near = get_close_matches(text.casefold(), names, 1)
    return f"; did you mean '{names[near[0]]}'?" if near else ""


def decimal_comma(text: str, whole: bool = False) -> str:
    """``; write 0.1, …`` for a number with a comma, ``whole`` where it may have no decimals; else nothing."""
    number = _DECIMAL_COMMA.fullmatch(text)
    if number is None:
        return ""
    before, after = number.groups()
    if whole:
        return "; write a whole number, without a comma"
    return f"; write {before or '0'}.{after}, with a decimal point in place of the decimal comma"


def explain(error: "click.UsageError") -> None:
    """Add to an error of the command line what was meant, where that can be told."""
    hint = _hint(error)
    if hint:
        vars(error)["message"] = error.message.removesuffix(".") + hint  # which click types as final


def _hint(error: "click.UsageError") -> str:
    import click  # only here: cameras ask what was meant, too, and need no command line

    command = error.ctx and error.ctx.command
    refused = _NO_COMMAND.match(error.message)
    if refused is not None and error.ctx is not None and isinstance(command, click.Group):
        # Newer releases of click say so of some groups.
        said = "ou mean" in error.format_message()
        return "" if said else did_you_mean(refused["value"], command.list_commands(error.ctx))
    refused = _REFUSED.match(error.message)
    parameter: click.Parameter | None = getattr(error, "param", None)
    if refused is None or parameter is None:
        return ""
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return did_you_mean(refused["value"], map(str, kind.choices))
    if isinstance(kind, type(click.FLOAT)):  # of which click's ranges are kinds
        return decimal_comma(refused["value"])
    if isinstance(kind, type(click.INT)):
        numbers = re.findall(r"\d+", refused["value"])
        meant = f"; did you mean {numbers[0]}?" if len(numbers) == 1 else ""
        if not numbers and parameter.name == "session_id":
            meant = "; hematovision sessions list shows the numbers"
        return decimal_comma(refused["value"], whole=True) or meant
    return ""
