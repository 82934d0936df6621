"""The root command. A stage's modules are loaded only when one of its commands is called."""

import sys
from collections.abc import Sequence

import click

from hematovision import __version__
from hematovision.errors import HematoVisionError
from hematovision.extras import missing_part
from hematovision.lazy_group import LazyCommand, LazyGroup
from hematovision.terminal.interrupts import INTERRUPTED
from hematovision.terminal.mistyped import explain
from hematovision.terminal.streams import open_streams

_COMMANDS = {
    "bench": LazyCommand("benchmarks.cli", "bench", "Measure the parts and the whole line.", extra="bench"),
    "calibrate": LazyCommand(
        "edge.calibrate", "calibrate", "Measure µm per pixel on red cells, or record an empty field."
    ),
    "classify": LazyCommand(
        "edge.classify_command", "classify", "Find and name the white cells in images, folders or videos."
    ),
    "config": LazyCommand("edge.config_command", "config", "Show or check the device's settings."),
    "convert": LazyCommand(
        "convert.cli", "convert", "Convert a Keras model to TensorFlow Lite, checked.", extra="edge,train"
    ),
    "demo": LazyCommand(
        "edge.demo_command", "demo", "Show the device at work on a drawn slide; needs no camera."
    ),
    "run": LazyCommand("edge.run_command", "run", "Count white cells from a camera: a live differential."),
    "selftest": LazyCommand(
        "edge.selftest", "selftest", "Check on a drawn slide that this device finds, names and counts."
    ),
    "service": LazyCommand(
        "edge.service_command",
        "service",
        "Let systemd start and watch the device: install, status, uninstall.",
    ),
    "sessions": LazyCommand(
        "edge.sessions_command", "sessions", "Counts that were kept: list, show, export, delete, back up."
    ),
    "token": LazyCommand("edge.token_command", "token", "Make the token that the page is signed in to with."),
    "train": LazyCommand(
        "train.cli", "train", "Data sets: download, audit. Models: fit, evaluate.", extra="train"
    ),
}


class _OneLineError(click.ClickException):
    """A HematoVisionError as click prints it: one line on standard error, and the error's exit status."""

    def __init__(self, error: HematoVisionError) -> None:
        super().__init__(str(error))
        vars(self)["exit_code"] = error.exit_status  # click types it as a class variable


class _RootGroup(LazyGroup):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            explain(error)
            raise
        except (KeyboardInterrupt, click.Abort) as error:
            if isinstance(error, click.Abort) and not isinstance(error.__context__, KeyboardInterrupt):
                raise  # an answer
            # A terminal has shown ^C, and the cursor is behind it.
            line_break = "\n" if sys.stderr.isatty() else ""
            click.echo(f"{line_break}Stopped by Ctrl-C.", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        except HematoVisionError as error:
            before = error.__context__
            if isinstance(before, HematoVisionError) and not error.__suppress_context__:
                # What cleaning up after an error failed with does not hide the error itself.
                click.echo(f"Error: {before}", err=True)
            raise _OneLineError(error) from error
        except ModuleNotFoundError as error:
            raise _OneLineError(missing_part(error, _COMMANDS[ctx.obj].extra)) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        ctx.obj = args[0]  # what a package is missing for
        return super().resolve_command(ctx, args)


@click.group(
    cls=_RootGroup, commands_by_name=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="hematovision")
def root() -> None:
    """Find, name and count the white cells of a stained blood smear.

    Research and teaching use; not a medical device.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process."""
    if sys.stdout is None:  # closed by the caller
        click.echo("Error: standard output is closed, results would be lost; send it somewhere", err=True)
        raise SystemExit(1)
    open_streams()
    root(args=arguments, prog_name="hematovision")
