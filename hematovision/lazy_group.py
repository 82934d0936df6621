"""A group of commands whose modules are loaded only when one is called: help answers at once."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is, what the help of its group says of it, and the extra that all of it needs."""

    module: str
    attribute: str
    summary: str
    extra: str | None = None


class LazyGroup(click.Group):
    """A group of `LazyCommand` by name."""

    def __init__(self, *arguments: Any, commands_by_name: Mapping[str, LazyCommand], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._by_name = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the alphabet."""
        return sorted(self._by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command. Raises `ModuleNotFoundError` where what it needs is not installed."""
        entry = self._by_name.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List names and summaries; click would load every command to ask for its own."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._by_name[name].summary) for name in self.list_commands(ctx)])
