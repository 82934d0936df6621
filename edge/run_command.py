"""``hematovision run``: count the white cells that a camera sees."""

import tomllib
from contextlib import suppress
from functools import partial
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape

from edge.cameras import CAMERA_KINDS, Camera, LostFrame, open_camera
from edge.cameras.live import UNATTENDED
from edge.command_options import (
    NO_SCALE,
    blank_option,
    config_option,
    finder_option,
    load_blank,
    load_classifier,
    made_with,
    model_option,
    notice,
    runtime_option,
    scale_of,
    scale_option,
)
from edge.config import Settings, find_file, load_settings
from edge.differential import TARGETS
from edge.lamp import BlankWatch, LampWatch
from edge.pipeline import Line, LiveLine, SeenFrame, StillLine, live_threads
from edge.systemd import Notifier
from hematovision.errors import HematoVisionError, SettingError
from hematovision.finder import load_finder
from hematovision.terminal.progress import Progress

if TYPE_CHECKING:
    from edge.device import Device

# Of a live camera no more than one lost frame is said in so many seconds.
_SAY_LOST_S = 60.0
# A start that may take longer than that is said to.
_SAY_SLOW_S = 300.0
_KINDS = "; ".join(f"{kind.usage} {kind.help}" for kind in CAMERA_KINDS)


@click.command()
@click.option("--camera", "spec", metavar="CAMERA", help=f"Where the frames come from: {_KINDS}.")
@model_option
@finder_option
@runtime_option
@scale_option
@blank_option
@click.option("--sample", metavar="NAME", help="Name of the sample, for the session that is kept.")
@click.option("--operator", metavar="NAME", help="Who counts.")
@click.option(
    "--target",
    type=click.Choice([str(target) for target in TARGETS]),
    help="End when so many cells have been given a class.",
)
@click.option("--timing", is_flag=True, help="Say at the end how long each step took.")
@config_option
@click.option(
    "--set",
    "others",
    metavar="KEY=VALUE",
    multiple=True,
    help="Any other setting, such as web.port=8080; hematovision config show lists them.",
)
def run(
    spec: str | None,
    model: str | None,
    finder: str | None,
    runtime: str | None,
    um_per_pixel: float | None,
    blank: str | None,
    sample: str | None,
    operator: str | None,
    target: str | None,
    timing: bool,
    config: str | None,
    others: tuple[str, ...],
) -> None:
    """Count the white cells that a camera sees, each of them once: a live differential, then a summary.

    Move the slide a little at a time and rest for a moment: a cell counts when enough looks at it agree, and
    not again when it comes back into view. Cells cut by the border are not counted, as at the microscope.

    Every cell counted is kept: see hematovision sessions. A live camera has a page, http://127.0.0.1:8765
    unless the settings say otherwise; when it fails it is opened again, and a run that was cut off is
    continued. Ctrl-C ends it.
    """
    named = {
        "camera.source": spec,
        "camera.um_per_pixel": um_per_pixel,
        "camera.blank": blank,
        "model.file": model,
        "model.finder": finder,
        "model.runtime": runtime,
        "session.sample": sample,
        "session.operator": operator,
    }
    given = {key: value for key, value in named.items() if value is not None}
    settings = load_settings(find_file(config), dict(map(_key_and_value, others)) | given)
    if not settings.camera.source:
        raise SettingError("no camera is named: give --camera, or camera.source in the settings")
    _count(settings, None if target is None else int(target), timing)


def _count(settings: Settings, target: int | None, timing: bool) -> None:
    def connect(um_per_pixel: float) -> Camera:
        return open_camera(settings.camera.source, um_per_pixel, UNATTENDED)

    given = settings.camera.um_per_pixel
    camera = connect(NO_SCALE if given is None else given)
    # What is most often mistyped is looked at before anything that takes seconds.
    blank = load_blank(settings.camera.blank or None)
    if not camera.live:
        with camera:
            pass
    # These need SciPy and SQLite, which take longer to load than all the rest.
    from edge.daemon import started, stopped_by_signals
    from edge.supervisor import Supervisor

    load = partial(load_classifier, settings.model.file or None, settings.model.runtime, *live_threads())
    classifier = load()
    finder = load_finder(settings.model.finder or None, settings.model.runtime)
    scale = _scale(given, camera)
    camera = connect(scale)
    line = (StillLine if camera.places_apart else LiveLine)(classifier, blank, finder)
    console = Console(highlight=False)
    console.print(made_with(classifier, scale), markup=False, soft_wrap=True)

    notifier = Notifier()

    def tell(kind: str, text: str) -> None:
        if kind == "camera":
            if not camera.live:
                return
            notifier.status(text)
            text = f"Camera {text}"
        # The store has it too: a full disk that holds the log, or a terminal that was closed, ends no run.
        with suppress(OSError):
            notice(text)

    def slow(what: str, seconds: float) -> None:
        notifier.starting(seconds)
        if seconds > _SAY_SLOW_S:
            tell("start", f"{what}; this may take {seconds / 60:.0f} min")

    ended: HematoVisionError | None = None
    with (
        stopped_by_signals() as stop,
        started(settings, classifier.model, line, camera, scale, target, tell, slow) as device,
        Progress(quiet=camera.live or console.is_terminal) as progress,
    ):
        aside = _Aside(device, line)
        frames = count(1)

        def check(result: SeenFrame | LostFrame, source: Camera) -> None:
            aside.check(result, source)
            progress.at("Counting", next(frames), source.expected)
            if target and device.tally.target == target and device.tally.target_reached:
                stop.set()

        supervisor = Supervisor(device, line, partial(connect, scale), load, stop, check, notifier.progress)
        display = Live(
            console=console,
            transient=True,
            # Drawn some times a second, not for every frame.
            get_renderable=lambda: _shown(device),
            # What is said beside the display comes above it, unless it goes to a file.
            redirect_stderr=Console(stderr=True).is_terminal,
        )
        notifier.ready()
        try:
            with display:
                supervisor.run()
        except HematoVisionError as error:
            ended = error  # what was counted until then is still shown
        aside.end()
        status, tally = device.status(), device.tally
        notifier.stopping()
    if ended is not None and not status.frames + status.lost:
        raise ended
    console.print(tally.table())
    for text in (*tally.summary(), *status.notes):
        console.print(text, markup=False, soft_wrap=True)
    if timing:
        console.print(line.times.table())
    if stop.is_set() and not camera.live and not tally.target_reached:
        click.echo("Stopped before the last frame.", err=True)
    if ended is not None:
        raise ended
    if status.lost and not camera.live:  # a live camera gives another
        raise SystemExit(1)


def _shown(device: "Device") -> Group:
    """What the display shows while the run goes on."""
    status = device.status()
    lines = list(status.notes)
    if status.state != "running":
        lines.append(f"Camera {status.state}{f': {status.reason}' if status.reason else ''}")
    return Group(device.tally.table(), *map(escape, lines))


class _Aside:
    """What is looked at beside the count: scale, lamp, and frames that could not be used."""

    def __init__(self, device: "Device", line: Line) -> None:
        self._device = device
        self._line = line
        self._lamp = LampWatch()
        self._blank = BlankWatch()
        self._losing = False
        self._say_lost_at = 0.0
        self._remark: str | None = None

    def check(self, result: SeenFrame | LostFrame, camera: Camera) -> None:
        if camera.remark is not None and camera.remark != self._remark:
            self._remark = camera.remark
            self._device.say("source", camera.remark)
        if isinstance(result, LostFrame):
            # A camera in the dark loses thirty a second, one on a bad cable every other: all are counted.
            if not camera.live or (not self._losing and monotonic() >= self._say_lost_at):
                self._device.say("frame", f"Error: {result.error}")
                self._say_lost_at = monotonic() + _SAY_LOST_S
            self._losing = True
            return
        if self._losing:
            self._losing = False
            self._device.unsay("frame")
        with self._line.times.step("check"):
            said = result.scale_line, self._lamp.see(result.field)
            trusted = result.condition.trusted
            blank, learnt = self._blank.see(result, camera) if trusted else (None, None)
        if blank is not None:
            self._device.offer_blank(blank)
        for kind, text in zip(("scale", "lamp", "blank"), (*said, learnt), strict=True):
            if text is not None:
                self._device.say(kind, text)

    def end(self) -> None:
        text = self._line.scale_doubt()
        if text is not None:
            self._device.say("scale", text)


def _key_and_value(text: str) -> tuple[str, object]:
    """What ``--set`` was given, the value as TOML has it; what is no TOML is a text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise SettingError(f"--set {text}: there is no value; write --set {key}=VALUE")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except ValueError:  # also for a whole number of thousands of digits
        return key.strip(), value


def _scale(given: float | None, camera: Camera) -> float:
    """µm per pixel of a run. A live camera's is not guessed from whatever lies under it when it starts."""
    if camera.um_per_pixel is not None:
        return camera.um_per_pixel
    if camera.live and given is None:
        raise SettingError(
            f"{camera.name}: a live camera needs --um-per-pixel; hematovision calibrate --camera measures it"
        )
    return scale_of(given, [camera])
