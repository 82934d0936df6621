"""Whether every cell of a slide is counted once, on phantom slides whose cells are known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge.cameras.phantom import DrawnFrame
from edge.phantom_score import PhantomScore, Score
from edge.pipeline import LiveLine, SeenFrame
from hematovision.classifier import Classifier
from hematovision.phantom import Microscope, Pose, Slide
from hematovision.phantom.stage import Scene

#: Frames of a trial, width and height in pixels.
FRAME_SIZE = 1280, 960
#: How far the count over all slides may be from the cells shown long enough, as a share of these.
MAX_COUNT_ERROR = 0.01
#: Share of the counts that may be of cells counted before.
MAX_SHARE_TWICE = 1 / 500
#: How far top-1 of the counted cells may be below that of single looks at them.
MAX_TOP1_LOST = 0.005

_TREMBLE_UM = 0.05
_SHARE_BLURRED, _BLUR_UM = 0.02, (0.8, 2.0)
_SHARE_OVEREXPOSED, _OVEREXPOSURE = 0.01, (1.5, 2.0)


@dataclass(frozen=True)
class TrackerTrial:
    """What became of one slide; ``track_ms`` is the tracker's processor time for a frame, a mean."""

    seed: int
    score: Score
    frames: int
    skipped: dict[str, int]
    areas: int
    track_ms: float


@dataclass(frozen=True)
class Totals(Score):
    """All slides together: each slide's share of right names weighs as many cells as it has.

    Cells counted that were not shown long enough are left out of the count's error: they are no mistake.
    """

    @property
    def count_error(self) -> float:
        """Cells counted too many, or too few if negative, as a share of those shown long enough."""
        return (self.counted - self.briefly - self.shown) / max(self.shown, 1)

    @property
    def share_twice(self) -> float:
        """Share of the counts that are of cells counted before."""
        return self.twice / max(self.counted, 1)

    @property
    def passed(self) -> bool:
        """Whether they keep within the limits above."""
        return (
            abs(self.count_error) <= MAX_COUNT_ERROR
            and self.share_twice <= MAX_SHARE_TWICE
            and self.top1 >= self.single_top1 - MAX_TOP1_LOST
        )


def by_hand(seed: int, poses: Sequence[Pose]) -> list[Pose]:
    """The poses as a person gives them: the stage trembles, and further frames are blurred or too bright."""
    rng = np.random.default_rng((seed, 7))
    given = []
    for pose in poses:
        x, y = rng.normal(0, _TREMBLE_UM, 2).tolist()
        given.append(replace(pose, x_um=pose.x_um + x, y_um=pose.y_um + y))
        if rng.random() < _SHARE_BLURRED:
            given.append(replace(given[-1], defocus_um=float(rng.uniform(*_BLUR_UM))))
        if rng.random() < _SHARE_OVEREXPOSED:
            given.append(replace(given[-1], exposure=float(rng.uniform(*_OVEREXPOSURE))))
    return given


def try_tracker(classifier: Classifier, scene: Scene, frame_size: tuple[int, int]) -> TrackerTrial:
    """Count the cells of one scene in frames of so many pixels. Raises as the classifier does."""
    seed = scene.smear.seed
    microscope = Microscope(Slide(scene.smear), *frame_size, seed=seed)
    line, score = LiveLine(classifier), PhantomScore()
    for sequence, pose in enumerate(scene.poses):
        result = line.see(DrawnFrame.of(microscope.look(pose), sequence, "phantom"))
        assert isinstance(result, SeenFrame)  # no phantom is black
        score.see(result)
    frames, tracker = len(scene.poses), line.tracker
    skipped = {reason.value: count for reason, count in tracker.skipped.items()}
    track_ms = 1000 * line.times.processor_s["track"] / frames
    return TrackerTrial(seed, score.score(), frames, skipped, tracker.areas, track_ms)


def total(trials: Sequence[TrackerTrial]) -> Totals:
    """All trials together."""
    scores = [trial.score for trial in trials]
    # Top-1 of no cells is no number.
    cells = [(score, score.counted - score.nothing) for score in scores if score.counted > score.nothing]
    of_all = max(sum(number for _, number in cells), 1)
    return Totals(
        shown=sum(score.shown for score in scores),
        missed=sum(score.missed for score in scores),
        counted=sum(score.counted for score in scores),
        briefly=sum(score.briefly for score in scores),
        twice=sum(score.twice for score in scores),
        nothing=sum(score.nothing for score in scores),
        right=sum(score.right for score in scores),
        top1=sum(score.top1 * number for score, number in cells) / of_all,
        single_top1=sum(score.single_top1 * number for score, number in cells) / of_all,
        shown_of_class=tuple(map(sum, zip(*(score.shown_of_class for score in scores), strict=True))),
    )
