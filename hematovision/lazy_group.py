"""A group of commands whose modules are loaded only when one is called: help answers at once."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from hematovision.errors import HematoVisionError, MissingPartError

# What a missing package means to the person who called a command.
_EXTRA_OF_PACKAGE = {
    **dict.fromkeys(("tensorflow", "keras", "sklearn", "matplotlib", "kagglehub"), "train"),
    **dict.fromkeys(
        ("scipy", "tflite_runtime", "ai_edge_litert", "flask", "waitress", "paho", "prometheus_client"),
        "edge",
    ),
    **dict.fromkeys(("jinja2", "jsonschema", "onnx", "onnxruntime", "tf2onnx"), "bench"),
}


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is, and what the help of its group says of it."""

    module: str
    attribute: str
    summary: str


class LazyGroup(click.Group):
    """A group of `LazyCommand` by name."""

    def __init__(self, *arguments: Any, commands_by_name: Mapping[str, LazyCommand], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._by_name = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the alphabet."""
        return sorted(self._by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command. Raises `MissingPartError` where what it needs is not installed."""
        entry = self._by_name.get(cmd_name)
        if entry is None:
            return None
        try:
            command = getattr(importlib.import_module(entry.module), entry.attribute)
        except ModuleNotFoundError as error:
            raise missing_part(error) from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List names and summaries; click would load every command to ask for its own."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._by_name[name].summary) for name in self.list_commands(ctx)])


def missing_part(error: ModuleNotFoundError) -> HematoVisionError:
    """What to say of a module that is missing; where it is one of ours, the error is raised again."""
    package = (error.name or "").partition(".")[0]
    extra = _EXTRA_OF_PACKAGE.get(package)
    if extra is None:
        raise error  # a fault of ours, not of the installation: show where
    return MissingPartError(f"{package} is not installed; pip install 'hematovision[{extra}]' brings it")
