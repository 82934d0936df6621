"""What the commands of ``hematovision bench`` share: what they measure, where the report goes, progress."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.cache import cache_folder
from benchmarks.latency import ASKED, LIMIT_S
from benchmarks.results import Unmeasured
from benchmarks.variants import (
    VARIANT_NAMES,
    BuiltModel,
    Say,
    default_network,
    open_models,
)
from hematovision.terminal.progress import Progress


@dataclass(frozen=True)
class AskedModels:
    """The models that the command line names, still to be opened."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    data: tuple[str, ...]
    folder: Path | None

    def open(self, say: Say) -> tuple[list[BuiltModel], list[Unmeasured]]:
        """Open them, built as far as need be, as `benchmarks.variants.open_models` does and raises."""
        paths = self.paths or (default_network(),)
        return open_models(paths, self.names, self.data, self.folder or cache_folder(), say)


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name models, and an `AskedModels` as its first argument."""

    @click.option(
        "--model",
        "paths",
        multiple=True,
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Trained network (.keras, its manifest beside it) or a .tflite model file; may be given several "
        "times. By default the trained network of this checkout.",
    )
    @click.option(
        "--variant",
        "names",
        multiple=True,
        type=click.Choice(VARIANT_NAMES),
        default=VARIANT_NAMES,
        help="Which variants of a .keras file; may be given several times. All, if not given.",
    )
    @click.option(
        "--variants",
        "folder",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where variants are kept once built; by default a folder of this user's cache. Copied to a "
        "device without TensorFlow, it is used there.",
    )
    @click.option(
        "--data",
        "data",
        multiple=True,
        help="A data set that the .keras file was trained on, written as for train fit, to build variants "
        "with; give each. By default those that its manifest names, in the folder HEMATOVISION_DATA.",
    )
    @functools.wraps(command)
    def with_models(
        paths: tuple[Path, ...],
        names: tuple[str, ...],
        folder: Path | None,
        data: tuple[str, ...],
        **arguments: object,
    ) -> None:
        command(AskedModels(paths, names, data, folder), **arguments)

    return with_models


def amount_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``invocations`` and ``seconds``: how much is timed of each contender."""
    invocations = click.option(
        "--invocations", default=ASKED, show_default=True, help="Timed invocations of each contender."
    )
    seconds = click.option(
        "--seconds",
        default=LIMIT_S,
        show_default=True,
        help="Of timed time, after which fewer invocations will do.",
    )
    return invocations(seconds(command))


def report_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``out``, a folder for the report's files or None, and ``force``."""
    out = click.option(
        "--out",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for the report: JSON, Markdown, HTML and plots.",
    )
    force = click.option("--force", is_flag=True, help="Replace a report that is there.")
    return out(force(command))


@contextmanager
def progress() -> Iterator[Say]:
    """A line on standard error that says what is being done, while it is done."""
    with Progress() as shown:
        yield shown.at
