"""``hematovision selftest``: whether this device finds, names and counts the cells of a fixed drawn slide."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from edge.cameras import Frame, LostFrame
from edge.cameras.phantom import PhantomCamera
from edge.command_options import NO_SCALE, NOTE, load_classifier, model_option, runtime_option
from edge.phantom_score import PhantomScore
from edge.pipeline import LiveLine, Pipeline, live_threads
from edge.stills import name_cells
from edge.store import NewSession, Store, open_reader
from edge.tracker import TrackedCell
from hematovision.classifier import Classifier
from hematovision.errors import HematoVisionError
from hematovision.finder import load_finder
from hematovision.optics import measure_field
from hematovision.phantom import PhantomFrame, draw_field
from hematovision.red_cells import measure_red_cells, measure_scale
from hematovision.terminal.progress import Progress

_FIELD_SEEDS = 1, 2
_UM_PER_PIXEL = 0.15
_FIELD_PX = 1024, 768
_SLIDE = "path=selftest,seed=1,width=640,height=480,um_per_pixel=0.2"
_SAME_CELL_UM = 4.0
# A drawn slide has no surprises: what is worse than this is not chance, but a device that does not work.
_MAX_SCALE_ERROR = 0.05
_MIN_FOUND = 0.95
_MIN_RIGHT = 0.9
_MAX_MISCOUNTED = 0.05


class _FailedStepError(HematoVisionError):
    """A step that ran and gave a wrong result."""


@dataclass(frozen=True)
class Step:
    """What became of a step: whether it passed, what it gave or what is wrong, and how long it took."""

    name: str
    passed: bool
    said: str
    seconds: float


class SelfTest:
    """The steps, in the order in which each needs those before it. All look at what is drawn anew here."""

    def __init__(self, model: str | None, runtime: str | None) -> None:
        self._model, self._runtime = model, runtime
        self._fields: list[PhantomFrame] = []
        self._classifier: Classifier | None = None
        self._counted: list[TrackedCell] = []

    def run(self) -> list[Step]:
        """Run all steps; one that fails does not keep the others from running."""
        steps: tuple[tuple[str, Callable[[], str]], ...] = (
            ("phantom", self._draw),
            ("scale", self._measure_scale),
            ("finder", self._find),
            ("model", self._load),
            ("classifier", self._name),
            ("tracker", self._count),
            ("store", self._keep),
        )
        return [_run(name, step) for name, step in steps]

    def _draw(self) -> str:
        self._fields = [draw_field(seed, *_FIELD_PX, _UM_PER_PIXEL) for seed in _FIELD_SEEDS]
        return f"{len(self._fields)} fields drawn, {sum(len(field.cells) for field in self._fields)} cells"

    def _measure_scale(self) -> str:
        scale = measure_scale([measure_red_cells(field.image) for field in self._fields])
        said = f"{scale.um_per_pixel:.4f} µm per pixel measured, {_UM_PER_PIXEL} drawn"
        _require(abs(scale.um_per_pixel / _UM_PER_PIXEL - 1) <= _MAX_SCALE_ERROR, said)
        return said

    def _find(self) -> str:
        drawn = found = false = 0
        finder = load_finder()
        for field in self._fields:
            regions = finder.find(measure_field(field.image, _UM_PER_PIXEL))
            centers = np.array([region.center for region in regions]).reshape(-1, 2)
            near = [
                np.hypot(*(centers - cell.center).T).min(initial=np.inf) * _UM_PER_PIXEL <= _SAME_CELL_UM
                for cell in field.cells
            ]
            drawn, found, false = drawn + len(near), found + sum(near), false + len(regions) - sum(near)
        said = f"{found} of {drawn} cells found, {false} false"
        _require(drawn > 0 and found >= _MIN_FOUND * drawn and false <= (1 - _MIN_FOUND) * drawn, said)
        return said

    def _load(self) -> str:
        threads = live_threads()
        self._classifier = load_classifier(self._model, self._runtime, threads.opencv, threads.interpreter)
        model = self._classifier.model
        return f"{model.path.name} ({model.model_hash[:12]}) on {self._classifier.loaded}"

    def _name(self) -> str:
        named = right = 0
        finder = load_finder()
        for field in self._fields:
            frame = Frame.now(field.image, 0, _UM_PER_PIXEL, "phantom")
            for cell in name_cells(frame, finder, self._loaded()).cells:
                drawn = min(
                    field.cells, key=lambda one: np.hypot(*np.subtract(one.center, cell.region.center))
                )
                named, right = named + 1, right + (cell.prediction.class_name == drawn.class_name)
        said = f"{right} of {named} cells named as they were drawn"
        _require(named > 0 and right >= _MIN_RIGHT * named, said)
        return said

    def _count(self) -> str:
        score = PhantomScore()
        with Pipeline(PhantomCamera(_SLIDE, NO_SCALE), LiveLine(self._loaded())) as pipeline:
            for result in pipeline.results():
                if isinstance(result, LostFrame):
                    raise _FailedStepError(result.error)
                score.see(result)
                self._counted += result.counted
        counts = score.score()
        said = (
            f"{counts.shown - counts.missed} of {counts.shown} cells counted, {counts.twice} twice, "
            f"{counts.nothing} that are none"
        )
        wrong = counts.missed + counts.twice + counts.nothing
        _require(counts.shown > 0 and wrong <= _MAX_MISCOUNTED * counts.shown, said)
        return said

    def _keep(self) -> str:
        if not self._counted:
            raise _FailedStepError("not tried: no cell was counted")
        model = self._loaded().model
        new = NewSession("selftest", "", "phantom", model.path.name, model.model_hash, 0.2)
        with tempfile.TemporaryDirectory() as folder:
            with Store(Path(folder)) as store:
                session = store.start_session(new)
                for cell in self._counted:
                    store.add_cell(session.id, cell, model.model_hash)
                store.end_session(session.id, "switched off")
            with open_reader(Path(folder)) as reader:
                kept = [(cell.number, cell.class_name) for cell in reader.cells(session.id, limit=1000)]
        said = f"{len(kept)} of {len(self._counted)} cells stored and read back"
        _require(sorted(kept) == sorted((cell.number, cell.class_name) for cell in self._counted), said)
        return said

    def _loaded(self) -> Classifier:
        if self._classifier is None:
            raise _FailedStepError("not tried: there is no model")
        return self._classifier


@click.command()
@model_option
@runtime_option
def selftest(model: str | None, runtime: str | None) -> None:
    """Check on a drawn slide that finder, classifier, tracker and store work here: pass or fail for each.

    Needs no camera and takes less than a minute. The exit status is 1 where a step fails.
    """
    console = Console(highlight=False)
    table = Table("Step", "Result", "What it gave")
    table.add_column("Seconds", justify="right")
    with Progress("Testing"):
        steps = SelfTest(model, runtime).run()
    for step in steps:
        result = "[green]pass[/]" if step.passed else "[red]fail[/]"
        table.add_row(step.name, result, step.said.replace("[", r"\["), f"{step.seconds:.1f}")
    console.print(table)
    failed = [step.name for step in steps if not step.passed]
    if failed:
        click.echo(f"Failed: {', '.join(failed)}.", err=True)
        raise SystemExit(1)
    console.print(f"All passed. On drawn cells: it says nothing about accuracy on real ones. {NOTE}")


def _run(name: str, step: Callable[[], str]) -> Step:
    started = time.perf_counter()
    try:
        said, passed = step(), True
    except HematoVisionError as error:
        said, passed = str(error), False
    return Step(name, passed, said, time.perf_counter() - started)


def _require(holds: bool, said: str) -> None:
    if not holds:
        raise _FailedStepError(said)
