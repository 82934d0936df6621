"""A microscope over a drawn slide: a camera where there is none, whose every frame comes with its truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, cycle, islice
from threading import Event
from time import monotonic
from typing import Self

from edge.cameras import Camera, Frame, LostFrame
from edge.cameras.options import parse_options
from hematovision.errors import CameraError, ImageError, SettingError
from hematovision.images import check_size
from hematovision.phantom import CellInView, Microscope, PhantomFrame, Pose, Slide
from hematovision.phantom.stage import SCENES, Scene
from hematovision.red_cells import DISAGREEMENT
from hematovision.terminal.mistyped import did_you_mean

_OPTIONS = {
    "path": str,
    "seed": int,
    "frames": int,
    "rate": float,
    "width": int,
    "height": int,
    "um_per_pixel": float,
}
_RATES = 1.0, 100.0
# Cells are kept drawn: at half this scale they take four times the memory, several hundred megabytes.
_FINEST_UM_PER_PIXEL = 0.05


@dataclass(frozen=True, kw_only=True)
class DrawnFrame(Frame):
    """A frame of the phantom: how the stage stood, and the leukocytes that it shows."""

    pose: Pose
    cells: tuple[CellInView, ...]

    @classmethod
    def of(cls, view: PhantomFrame, sequence: int, source: str) -> Self:
        """A view of the phantom as a frame taken at this moment."""
        return cls(
            view.image,
            sequence,
            datetime.now(UTC),
            monotonic(),
            view.um_per_pixel,
            source,
            pose=view.pose,
            cells=view.cells,
        )


class PhantomCamera(Camera):
    """A scene of the phantom, from its first pose to its last; or, with a rate, a camera that goes on.

    With a rate the stage moves by time: so many poses a second by the monotonic clock, whoever looks or not.
    One whose time has passed before it could be drawn is not shown. After the path's end the slide is
    changed for another, that of the next seed.

    Args:
        options: ``key=value``, separated by commas. ``path``: which scene (demo); ``seed`` (0); ``frames``:
            end after so many, the path begun again where it is shorter; ``rate``: frames a second, live;
            ``width`` and ``height`` of a frame in pixels (1280, 960); ``um_per_pixel`` (0.1).
        um_per_pixel: what the user takes the scale to be, or NaN. The phantom has its own.

    Raises:
        SettingError: an option is unknown or cannot be, or the scale is not the phantom's.

    Attributes:
        um_per_pixel: the phantom's scale.
    """

    places_apart = False

    def __init__(self, options: str, um_per_pixel: float) -> None:
        self.name = f"phantom:{options}" if options else "phantom"
        given = parse_options(options, _OPTIONS)
        self._path, self._seed = given.get("path", "demo"), given.get("seed", 0)
        self._frames: int | None = given.get("frames")
        self._rate: float | None = given.get("rate")
        self.live = self._rate is not None
        self._size = given.get("width", 1280), given.get("height", 960)
        self.um_per_pixel: float = given.get("um_per_pixel", 0.1)
        if self._path not in SCENES:
            raise SettingError(
                f"{self.name}: no path is called '{self._path}'; known are {', '.join(SCENES)}"
                f"{did_you_mean(self._path, SCENES)}"
            )
        if self._seed < 0:
            raise SettingError(f"{self.name}: seed is {self._seed}; give 0 or more")
        if self._frames is not None and self._frames < 1:
            raise SettingError(f"{self.name}: frames is {self._frames}; give 1 or more")
        if self._rate is not None and not _RATES[0] <= self._rate <= _RATES[1]:
            raise SettingError(f"{self.name}: rate is {self._rate:g}; give {_RATES[0]:g} to {_RATES[1]:g}")
        try:
            check_size(*self._size, self.name)
        except ImageError as error:
            raise SettingError(str(error)) from error
        self._scene(self._seed)  # says whether there is one at this scale
        if self.um_per_pixel < _FINEST_UM_PER_PIXEL:
            raise SettingError(
                f"{self.name}: um_per_pixel is {self.um_per_pixel:g}; cells so large take too much memory, "
                f"give {_FINEST_UM_PER_PIXEL:g} or more"
            )
        # A scale that was measured is never quite the true one.
        if abs(um_per_pixel / self.um_per_pixel - 1) > DISAGREEMENT:
            raise SettingError(
                f"{self.name}: drawn at {self.um_per_pixel:g} µm per pixel, not {um_per_pixel:g}; "
                "leave that out, or write it as the option um_per_pixel="
            )
        self._closed: Event | None = None

    def open(self) -> None:
        """Begin with the first pose."""
        self._closed = Event()

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Each a `DrawnFrame`, until the end or until it is closed, which any thread may do.

        Raises:
            CameraError: the camera is not open.
        """
        if self._closed is None:
            raise CameraError(f"{self.name}: the phantom is not open")
        views = self._pose_by_pose() if self._rate is None else self._by_time(self._rate, self._closed)
        return self._numbered(views, self._closed)

    def is_locked(self) -> bool:
        """Its lamp and exposure never change."""
        return True

    def close(self) -> None:
        """End the frames."""
        if self._closed is not None:
            self._closed.set()
            self._closed = None

    def _scene(self, seed: int) -> Scene:
        width_um, height_um = (side * self.um_per_pixel for side in self._size)
        return SCENES[self._path](seed, (width_um, height_um), self.um_per_pixel)

    def _microscope(self, scene: Scene) -> Microscope:
        return Microscope(Slide(scene.smear), *self._size, seed=scene.smear.seed)

    def _numbered(self, views: Iterator[PhantomFrame], closed: Event) -> Iterator[DrawnFrame]:
        for sequence, view in enumerate(islice(views, self._frames)):
            if closed.is_set():
                return
            yield DrawnFrame.of(view, sequence, self.name)

    def _pose_by_pose(self) -> Iterator[PhantomFrame]:
        scene = self._scene(self._seed)
        microscope = self._microscope(scene)
        for pose in scene.poses if self._frames is None else cycle(scene.poses):
            yield microscope.look(pose)

    def _by_time(self, rate: float, closed: Event) -> Iterator[PhantomFrame]:
        for seed in count(self._seed):
            scene = self._scene(seed)
            microscope = self._microscope(scene)
            start, number = monotonic(), 0
            while number < len(scene.poses):
                if closed.wait(max(0.0, start + number / rate - monotonic())):
                    return
                yield microscope.look(scene.poses[number])
                number = max(number + 1, int((monotonic() - start) * rate))
