"""A report: put together, printed, written, read back.

A command measures inside `measuring` and ends with `Run.conclude`. What is printed and written as Markdown
is in `report_text`, what a reader must know in `notes`, HTML in `report_html`, pictures in `plots`.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import stat
import sys
import tempfile
import time
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from benchmarks import machine
from benchmarks.contenders import MODULES
from benchmarks.report_text import print_report, to_markdown
from benchmarks.results import (
    FORMAT_VERSION,
    Accuracy,
    Latency,
    LayerTimes,
    MachineState,
    Peer,
    QuantisationNoise,
    Report,
    Throughput,
    Unmeasured,
    Variant,
)
from hematovision import __version__
from hematovision.errors import MissingPartError, SettingError, reason_of
from hematovision.model_file import write_atomically
from hematovision.runtime import available_runtimes
from train.console import stderr, stdout

#: Names of a report's files in its folder; its pictures are in the folder `PLOTS` beside them.
JSON, MARKDOWN, HTML, PLOTS = "report.json", "report.md", "report.html", "plots"

#: A report takes kilobytes; a file that is larger than this is none.
_MAX_BYTES = 64 * 2**20

_ALWAYS_USED = ("numpy", "cv2")


@dataclasses.dataclass(frozen=True)
class Run:
    """A command that is measuring: when and where it began, and where its report goes."""

    command: str
    arguments: tuple[str, ...]
    began: float
    before: MachineState
    watch: machine.Watch
    out: Path | None
    force: bool

    def conclude(
        self,
        *,
        variants: Sequence[Variant] = (),
        latency: Sequence[Latency] = (),
        layers: Sequence[LayerTimes] = (),
        accuracy: Sequence[Accuracy] = (),
        noise: Sequence[QuantisationNoise] = (),
        throughput: Sequence[Throughput] = (),
        peers: Sequence[Peer] = (),
        unmeasured: Sequence[Unmeasured] = (),
    ) -> None:
        """Print the report of what was measured and, where it was asked for, write its files.

        Raises:
            SystemExit: with status 1, where something failed.
            ModelFileError: a file cannot be written.
        """
        runtimes = {row.runtime for rows in (latency, accuracy, layers) for row in rows}
        runtimes |= {peer.latency.runtime for peer in peers if peer.latency is not None}
        if throughput:
            runtimes.add(available_runtimes()[0])
        report = Report(
            format_version=FORMAT_VERSION,
            hematovision=__version__,
            command=self.command,
            arguments=self.arguments,
            started=self.before.time,
            seconds=time.monotonic() - self.began,
            machine=machine.describe(
                self.before, machine.observe(), _versions(runtimes), self.watch.disturbances()
            ),
            variants=tuple(variants),
            latency=tuple(latency),
            layers=tuple(layers),
            accuracy=tuple(accuracy),
            noise=tuple(noise),
            throughput=tuple(throughput),
            peers=tuple(peers),
            unmeasured=tuple(unmeasured),
        )
        print_report(report, stdout)
        if self.out is not None:
            for path in write_report(report, self.out, self.force):
                stderr.print(f"wrote {path}", soft_wrap=True, markup=False, highlight=False)
        if any(row.failed for row in report.unmeasured):
            raise SystemExit(1)


@contextmanager
def measuring(out: Path | None, force: bool) -> Iterator[Run]:
    """What a command measures in: knows when it began, and watches for what else the processors do.

    Args:
        out: folder for the report's files, or None for none.
        force: replace a report that is there.

    Raises:
        SettingError: a report is there already, or ``out`` cannot be written; before anything is measured.
        MissingPartError: what draws the pictures is not installed.
    """
    if out is not None:
        require_room(out, force)
    began = time.monotonic()
    with machine.watch() as watch:
        command = str(click.get_current_context().info_name)
        yield Run(command, _arguments(command), began, machine.observe(), watch, out, force)


def require_room(folder: Path, force: bool) -> None:
    """See that a report can be written into a folder, which is made.

    Raises:
        SettingError: a report is there already and ``force`` is not given, or the folder cannot be written.
        MissingPartError: Matplotlib is not installed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            present = [name for name in (JSON, MARKDOWN, HTML, PLOTS) if (folder / name).exists()]
    except OSError as error:
        raise SettingError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    if present and not force:
        raise SettingError(
            f"{folder}: holds a report already ({', '.join(present)}); give another folder, or --force to "
            "replace it"
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPartError(
            "matplotlib is not installed, and a report has pictures; pip install 'hematovision[bench]' "
            "brings it, or leave --out away"
        )


def write_report(report: Report, folder: Path, force: bool) -> list[Path]:
    """Write a report's JSON, Markdown, pictures and HTML into a folder, each file whole or not at all.

    Returns:
        The files, in the order of writing: figures first.

    Raises:
        SettingError, MissingPartError: as `require_room`.
        ModelFileError: a file cannot be written.
    """
    from benchmarks.plots import all_plots  # Matplotlib takes a second, which not every command has to wait
    from benchmarks.report_html import to_html

    require_room(folder, force)
    written = []

    def write(name: str, content: str | bytes) -> None:
        # A name of a file need not be text: what has no place in UTF-8 becomes a question mark.
        data = content.encode(errors="replace") if isinstance(content, str) else content
        write_atomically(folder / name, data)
        written.append(folder / name)

    write(JSON, json.dumps(to_json(report), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    plots = all_plots(report)
    pictures = [f"{PLOTS}/{plot.name}.png" for plot in plots]
    for plot, picture in zip(plots, pictures, strict=True):
        write(picture, plot.png())
    write(MARKDOWN, to_markdown(report, pictures))
    write(HTML, to_html(report, plots))
    # A picture of the report that was here before would be taken for one of this report.
    for stale in set((folder / PLOTS).glob("*.png")) - set(written):
        stale.unlink()
    return written


def to_json(report: Report) -> dict[str, Any]:
    """A report as ``report.schema.json`` has it; a figure that cannot be computed is null."""
    content = _to_json(dataclasses.asdict(report))
    assert isinstance(content, dict)
    return content


def read_report(path: Path) -> Report:
    """Read a report that was written as JSON, and hold it against the schema.

    Raises:
        SettingError: it cannot be read, is no report, or was written by a newer program.
        MissingPartError: jsonschema is not installed.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a device has no end
            raise SettingError(f"{path}: not a file; give the {JSON} of a run")
        if status.st_size > _MAX_BYTES:
            raise SettingError(f"{path}: larger than any report; give the {JSON} of a run")
        text = path.read_bytes()
    except OSError as error:
        raise SettingError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SettingError(
            f"{path}: not JSON, or cut short ({reason_of(error)}); give the {JSON} of a run, or copy it again"
        ) from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise SettingError(f"{path}: JSON, but not a report; give the {JSON} of a run")
    if version > FORMAT_VERSION:
        raise SettingError(
            f"{path}: written by a newer hematovision ({content.get('hematovision')}, report format "
            f"{version}; this one reads {FORMAT_VERSION}); update hematovision"
        )
    problems = _problems(content)
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise SettingError(
            f"{path}: not a report as hematovision writes it: {'; '.join(problems[:3])}{more}; "
            "copy it again, or measure again"
        )
    report = _from_json(Report, content)
    assert isinstance(report, Report)
    return report


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a report."""
    content = json.loads(files("benchmarks").joinpath("report.schema.json").read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def _problems(content: dict[str, Any]) -> list[str]:
    """Where a report is not as the schema says, in the order of the report."""
    try:
        from jsonschema import Draft202012Validator
    except ModuleNotFoundError as error:
        raise MissingPartError(
            "jsonschema is not installed, and a report is read with it; pip install 'hematovision[bench]' "
            "brings it"
        ) from error
    errors = sorted(Draft202012Validator(schema()).iter_errors(content), key=lambda error: error.json_path)
    return [f"{error.json_path.removeprefix('$.')}: {reason_of(error)[:200]}" for error in errors]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(inner) for inner in value]
    if isinstance(value, str):
        return _without_home(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


_hints = cache(typing.get_type_hints)


def _from_json(kind: Any, value: Any) -> Any:
    """A value that the schema allows, as the type that it has in `benchmarks.results`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return kind(**{name: _from_json(hint, value[name]) for name, hint in _hints(kind).items()})
    if origin is types.UnionType:  # something, or None
        return None if value is None else _from_json(arguments[0], value)
    if origin is tuple:
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_from_json(inner, one) for inner, one in zip(kinds, value, strict=True))
    if origin is list:
        return [_from_json(arguments[0], one) for one in value]
    if origin is dict:
        return {key: _from_json(arguments[1], one) for key, one in value.items()}
    if kind is float:
        return math.nan if value is None else float(value)
    if kind is str:  # of whatever machine: nothing that a terminal would obey
        return "".join(mark if mark.isprintable() else " " for mark in value)
    return value


def _versions(runtimes: set[str]) -> dict[str, str]:
    """Versions of Python and of the libraries that a report's figures went through."""
    packages = {*_ALWAYS_USED, *(MODULES[runtime].partition(".")[0] for runtime in runtimes)}
    if "keras" in packages:
        packages.add("tensorflow")  # what it computes with
    distributions = importlib.metadata.packages_distributions()
    names = {name for package in packages for name in distributions.get(package, ())}
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in sorted(names)
    }


def _arguments(command: str) -> tuple[str, ...]:
    """What was typed after the command's name; a user's home folder is written as ``~``."""
    typed = sys.argv[1:]
    return tuple(map(_without_home, typed[typed.index(command) + 1 :] if command in typed else typed))


def _without_home(text: str) -> str:
    """A text in which the home folder of whoever measured, whose name it may be, is written as ``~``."""
    home = os.path.expanduser("~")  # noqa: PTH111 (Path.home raises for a user without one)
    return text.replace(home + os.sep, f"~{os.sep}") if len(home) > 1 else text
