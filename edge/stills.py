"""Stills: the cells of one frame found and named, each frame for itself."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter

from edge.cameras import Camera, Frame, LostFrame
from edge.field_watch import PLAIN_SMEAR, FieldCondition, FieldWatch
from hematovision.blank_field import BlankField
from hematovision.classifier import Classifier, Prediction
from hematovision.crops import cut_crops
from hematovision.errors import ImageError
from hematovision.finder import CellRegion, Finder, find_single
from hematovision.images import shown_path
from hematovision.optics import Field, measure_field


@dataclass(frozen=True)
class NamedCell:
    """A cell of a frame and its name; not ``found``: the middle of the image, taken for want of a nucleus."""

    region: CellRegion
    prediction: Prediction
    found: bool = True


@dataclass(frozen=True)
class NamedField:
    """The cells of one frame, most prominent first, and what finding and naming them took in milliseconds.

    ``condition``: what it shows, as far as that was judged.
    """

    frame: Frame
    field: Field
    cells: tuple[NamedCell, ...]
    find_ms: float
    classify_ms: float
    condition: FieldCondition = PLAIN_SMEAR


def name_cells(
    frame: Frame,
    finder: Finder,
    classifier: Classifier,
    single: bool = False,
    blank: BlankField | None = None,
) -> NamedField:
    """Find and name the white cells of a frame.

    Args:
        frame: the picture and its scale.
        finder: finds the cells.
        classifier: names the crops.
        single: only the most prominent cell, for images of one cell; where the finder sees none, the middle
            of the image.
        blank: the empty field that the frame is divided by, if there is one.

    Raises:
        ImageError: the frame is black.
        ModelFileError: the model fails.
        SettingError: the blank field is of another size than the frame.
    """
    start = perf_counter()
    field = measure_field(frame.image, frame.um_per_pixel, blank, frame.small)
    return _name_in(field, frame, finder, classifier, single, (perf_counter() - start) * 1000)


def _name_in(
    field: Field, frame: Frame, finder: Finder, classifier: Classifier, single: bool, optics_ms: float
) -> NamedField:
    start = perf_counter()
    found = True
    if single:
        region, found = find_single(finder, field, classifier.model.manifest.crop.side_um)
        regions = [region]
    else:
        regions = finder.find(field)
    middle = perf_counter()
    crops = cut_crops(field, [region.center for region in regions], classifier.model.manifest.crop)
    predictions = classifier.predict(crops)
    end = perf_counter()
    cells = tuple(
        NamedCell(region, prediction, found) for region, prediction in zip(regions, predictions, strict=True)
    )
    return NamedField(frame, field, cells, optics_ms + (middle - start) * 1000, (end - middle) * 1000)


def name_frames(
    camera: Camera,
    finder: Finder,
    classifier: Classifier,
    single: bool = False,
    blank: BlankField | None = None,
    watch: FieldWatch | None = None,
) -> Iterator[NamedField | LostFrame]:
    """Find and name the white cells of every frame of an open camera; see `name_cells`.

    A frame that cannot be used, by the camera or here, comes as a `LostFrame` in its place. So does one that
    ``watch``, where given, refuses; of refused frames that follow each other in a video only the first comes.
    """
    refused = False
    for frame in camera.frames():
        if isinstance(frame, LostFrame):
            yield frame
            continue
        name = shown_path(frame.source)
        try:
            start = perf_counter()
            field = measure_field(frame.image, frame.um_per_pixel, blank, frame.small)
            optics_ms = (perf_counter() - start) * 1000
            condition = PLAIN_SMEAR if watch is None else watch.see(frame, field, camera)
            if condition.refused:
                again, refused = refused and not camera.places_apart, True
                if not again:
                    yield LostFrame(frame.sequence, frame.source, f"{name}: {condition.line}")
                continue
            refused = False
            named = _name_in(field, frame, finder, classifier, single, optics_ms)
            yield replace(named, condition=condition)
        except ImageError as error:
            yield LostFrame(frame.sequence, frame.source, f"{name}: {error}")
