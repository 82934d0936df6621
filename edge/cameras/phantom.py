"""A microscope over a drawn slide: a camera where there is none, whose every frame comes with its truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from time import monotonic
from typing import Self

from edge.cameras import Camera, Frame, LostFrame
from edge.cameras.options import parse_options
from hematovision.errors import CameraError, ImageError, SettingError
from hematovision.images import check_size
from hematovision.phantom import CellInView, Microscope, PhantomFrame, Pose, Slide
from hematovision.phantom.stage import SCENES
from hematovision.red_cells import DISAGREEMENT

_OPTIONS = {"path": str, "seed": int, "frames": int, "width": int, "height": int, "um_per_pixel": float}


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
    """A scene of the phantom, from its first pose to its last.

    Args:
        options: ``key=value``, separated by commas. ``path``: which scene (demo); ``seed`` (0); ``frames``:
            end after so many, the path begun again where it is shorter; ``width`` and ``height`` of a frame
            in pixels (1280, 960); ``um_per_pixel`` (0.1).
        um_per_pixel: what the user takes the scale to be, or NaN. The phantom has its own.

    Raises:
        SettingError: an option is unknown or cannot be, or the scale is not the phantom's.

    Attributes:
        um_per_pixel: the phantom's scale.
    """

    places_apart = False
    live = False

    def __init__(self, options: str, um_per_pixel: float) -> None:
        self.name = f"phantom:{options}" if options else "phantom"
        given = parse_options(options, _OPTIONS)
        path, seed = given.get("path", "demo"), given.get("seed", 0)
        self._frames = given.get("frames")
        self._size = given.get("width", 1280), given.get("height", 960)
        self.um_per_pixel: float = given.get("um_per_pixel", 0.1)
        if path not in SCENES:
            raise SettingError(f"{self.name}: no path is called '{path}'; known are {', '.join(SCENES)}")
        if seed < 0:
            raise SettingError(f"{self.name}: seed is {seed}; give 0 or more")
        if self._frames is not None and self._frames < 1:
            raise SettingError(f"{self.name}: frames is {self._frames}; give 1 or more")
        try:
            check_size(*self._size, self.name)
        except ImageError as error:
            raise SettingError(str(error)) from error
        width_um, height_um = (side * self.um_per_pixel for side in self._size)
        self._scene = SCENES[path](seed, (width_um, height_um), self.um_per_pixel)
        # A scale that was measured is never quite the true one.
        if abs(um_per_pixel / self.um_per_pixel - 1) > DISAGREEMENT:
            raise SettingError(
                f"{self.name}: drawn at {self.um_per_pixel:g} µm per pixel, not {um_per_pixel:g}; "
                "leave that out, or write it as the option um_per_pixel="
            )
        self._microscope: Microscope | None = None

    def open(self) -> None:
        """Lay the slide out."""
        self._microscope = Microscope(Slide(self._scene.smear), *self._size, seed=self._scene.smear.seed)

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Every pose's frame, each a `DrawnFrame`. Raises `CameraError` where the camera is not open."""
        if self._microscope is None:
            raise CameraError(f"{self.name}: the phantom is not open")
        poses = self._scene.poses if self._frames is None else islice(cycle(self._scene.poses), self._frames)
        for sequence, pose in enumerate(poses):
            yield DrawnFrame.of(self._microscope.look(pose), sequence, self.name)

    def close(self) -> None:
        """Forget what was drawn."""
        self._microscope = None
