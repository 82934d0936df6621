"""Measure what overlays cost a finder: the same fields with and without them, cell by cell."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.finder.finders import Find, why_refused
from benchmarks.finder.measure import FieldResult, look_at, ratio
from benchmarks.finder.overlays import KINDS, Overlay, draw_overlay
from hematovision.finder import CellRegion
from hematovision.images import RGBImage, read_image
from train.evaluate import Interval
from train.finder.boxed_fields import BoxedCell, BoxedField

_SEED = 1
# A cell of which an overlay takes more than this is hidden or cut off, and counts neither way.
_HIDDEN_SHARE = 0.25
_OPAQUE = 0.5


@dataclass(frozen=True)
class OverlaidField:
    """One field under one kind of overlay, as one finder saw it, beside the plain one.

    ``cells`` that the overlay leaves in view, and how many of these were found on the plain field and under
    the overlay; ``added``: false regions under it less those of the plain field that it does not cover; None
    where not every leukocyte in view is known. ``refused``: the device shows no cells of it.
    """

    boxed: BoxedField
    cells: int
    found_plain: int
    found: int
    added: int | None
    refused: bool


@dataclass(frozen=True)
class Robustness:
    """A finder under one kind of overlay over several fields; intervals resample slides or originals.

    ``refused``: fields of which the device shows no cells under the overlay; these cells count as lost.
    ``recall_lost``: share of the cells in view; ``added_per_field``: false regions, NaN without a field where
    every leukocyte is known.
    """

    fields: int
    refused: int
    cells: int
    found_plain: int
    found: int
    recall_lost: Interval
    added_per_field: Interval


def measure_overlays(
    fields: Sequence[BoxedField], finders: Mapping[str, Find], judged: str, on_field: Callable[[int], None]
) -> dict[str, dict[str, list[OverlaidField]]]:
    """Run finders over each field plain and under each kind of overlay: results by finder and kind.

    The overlays depend on laboratory and file name alone, so that every run of every finder sees the same.
    For the finder ``judged`` fields are refused as the device refuses them.

    Raises:
        ImageError: an image cannot be read.
    """
    results: dict[str, dict[str, list[OverlaidField]]] = {
        name: {kind: [] for kind in KINDS} for name in finders
    }
    for number, boxed in enumerate(fields):
        on_field(number)
        image = read_image(boxed.path)
        plain = {name: _look(name, find, boxed, image, judged) for name, find in finders.items()}
        field_seed = zlib.crc32(f"{boxed.laboratory}/{boxed.path.name}".encode())
        for place, kind in enumerate(KINDS):
            rng = np.random.default_rng((_SEED, place, field_seed))
            overlay = draw_overlay(kind, image, boxed.um_per_pixel, rng)
            covered = overlay.over(image)
            for name, find in finders.items():
                seen = _look(name, find, boxed, covered, judged)
                results[name][kind].append(compare(plain[name], seen, overlay))
    return results


def compare(plain: FieldResult, seen: FieldResult, overlay: Overlay) -> OverlaidField:
    """Compare what was seen under an overlay with what was seen on the plain field."""
    cells = plain.boxed.cells
    hidden = [_hidden_share(cell, overlay.opacity) > _HIDDEN_SHARE for cell in cells]
    added = None
    if plain.false is not None and seen.false is not None:
        half_seen = [cell for cell, is_hidden in zip(cells, hidden, strict=True) if is_hidden]
        before = sum(not _is_covered(region, overlay) for region in plain.false)
        after = sum(not any(cell.holds(*region.center) for cell in half_seen) for region in seen.false)
        added = after - before
    in_view = [place for place, is_hidden in enumerate(hidden) if not is_hidden]
    return OverlaidField(
        plain.boxed,
        len(in_view),
        sum(plain.found[place] for place in in_view),
        sum(seen.found[place] for place in in_view),
        added,
        seen.refused is not None,
    )


def summarise_overlays(results: Sequence[OverlaidField]) -> Robustness:
    """Sum up what one kind of overlay did to a finder on several fields."""
    groups = [one.boxed.group for one in results]
    cells, found_plain, found = (
        np.array([getattr(one, name) for one in results]) for name in ("cells", "found_plain", "found")
    )
    counted = [one for one in results if one.added is not None]
    return Robustness(
        len(results),
        sum(one.refused for one in results),
        int(cells.sum()),
        int(found_plain.sum()),
        int(found.sum()),
        ratio(groups, found_plain - found, cells),
        ratio(
            [one.boxed.group for one in counted],
            np.array([one.added for one in counted]),
            np.ones(len(counted)),
        ),
    )


def _look(name: str, find: Find, boxed: BoxedField, image: RGBImage, judged: str) -> FieldResult:
    refused = why_refused(image, boxed.um_per_pixel) if name == judged else None
    return look_at(find, boxed, image, 0.0, refused=refused)


def _hidden_share(cell: BoxedCell, opacity: NDArray[np.float32]) -> float:
    """Share of a cell, the ellipse in its box, that an overlay hides."""
    left, top = max(0, round(cell.x)), max(0, round(cell.y))
    part = opacity[top : round(cell.y + cell.height), left : round(cell.x + cell.width)]
    if not part.size:
        return 0.0
    inside = np.zeros(part.shape, np.uint8)
    center = cell.center[0] - left, cell.center[1] - top
    cv2.ellipse(inside, (center, (cell.width, cell.height), 0), 1, -1)
    return float(cv2.mean(np.ascontiguousarray(part), inside)[0])


def _is_covered(region: CellRegion, overlay: Overlay) -> bool:
    height, width = overlay.opacity.shape
    column = min(max(round(region.center[0]), 0), width - 1)
    row = min(max(round(region.center[1]), 0), height - 1)
    return bool(overlay.opacity[row, column] > _OPAQUE)
