"""Fields of real smears: exactly so many annotated leukocytes in each, whole, and nothing else."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.real_fields import (
    FIELD_SIZE,
    FIELD_UM_PER_PIXEL,
    MOST_LEUKOCYTES,
    default_collection,
    leukocyte_boxes,
    make_fields,
)
from hematovision.errors import DataSetError, ImageError, SettingError
from hematovision.finder import load_finder
from hematovision.images import RGBImage
from hematovision.optics import measure_field
from train.datasets import KAGGLE_ORIGINAL_UM_PER_PIXEL

GLASS = (225, 230, 230)
# Levels of red and blue, by which a nucleus in a field is known again.
RED, BLUE, STEP = 60, 170, 6
UNWANTED = RED + 14 * STEP
RADIUS_PX = 45
BOX = (
    "<object><name>{}</name>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)

Places = Sequence[tuple[int, int]]


def write_original(collection: Path, number: int, red: int, annotated: Places, others: Places = ()) -> None:
    """An original of 640x480 pixels with round nuclei, some of them annotated."""
    for folder in ("annotations", "Original_Images"):
        (collection / folder).mkdir(exist_ok=True)
    y, x = np.mgrid[:480, :640]
    image = np.full((480, 640, 3), GLASS, np.uint8)
    for center in (*annotated, *others):
        image[np.hypot(x - center[0], y - center[1]) < RADIUS_PX] = (red, 80, BLUE)
    path = collection / f"Original_Images/BloodImage_{number:05d}.jpg"
    cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    boxes = [(max(x - 50, 0), max(y - 50, 0), min(x + 50, 640), min(y + 50, 480)) for x, y in annotated]
    text = "".join(BOX.format("WBC", *box) for box in boxes) + BOX.format("RBC", 10, 10, 99, 99)
    (collection / f"annotations/BloodImage_{number:05d}.xml").write_text(f"<annotation>{text}</annotation>")


def nuclei(field: RGBImage) -> list[tuple[int, int]]:
    """Area in pixels and level of red of each nucleus of a field."""
    mask = (field[..., 1] < 110).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[1:, cv2.CC_STAT_AREA].tolist()
    return [(area, int(np.median(field[labels == part, 0]))) for part, area in enumerate(areas, 1)]


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Fourteen leukocytes whole and alone, each of another colour; some that may not come into view."""
    for number in range(14):
        # A corner 386 pixels wide is free, so that it may be used as one without a leukocyte.
        write_original(tmp_path, number, RED + STEP * number, [(560, 60 + 20 * number)])
    write_original(tmp_path, 20, UNWANTED, [(320, 4)])  # cut by the border
    write_original(tmp_path, 21, UNWANTED, [(250, 240), (390, 240)])  # two side by side
    write_original(tmp_path, 22, UNWANTED, [(320, 240)], [(200, 240)])  # beside one that nobody annotated
    write_original(tmp_path, 23, UNWANTED, [], [(180, 180), (460, 180), (180, 300), (460, 300)])
    return tmp_path


@pytest.mark.parametrize("leukocytes", [0, 1, 3, 10, MOST_LEUKOCYTES])
def test_exactly_so_many_leukocytes_are_in_view_whole_and_different(
    collection: Path, leukocytes: int
) -> None:
    fields = make_fields(collection, leukocytes, 3)
    assert len(fields) == 3
    whole = np.pi * (RADIUS_PX * KAGGLE_ORIGINAL_UM_PER_PIXEL / FIELD_UM_PER_PIXEL) ** 2
    for field in fields:
        assert field.shape == (FIELD_SIZE[1], FIELD_SIZE[0], 3)
        assert field.dtype == np.uint8
        shown = nuclei(field)
        assert [area for area, _ in shown] == pytest.approx([whole] * leukocytes, rel=0.05)
        assert len({round((red - RED) / STEP) for _, red in shown}) == leukocytes
        assert all(red < UNWANTED - STEP / 2 for _, red in shown)


def test_the_same_fields_are_made_each_time(collection: Path) -> None:
    first, second = make_fields(collection, 3, 2)
    again = make_fields(collection, 3, 2)[0]
    assert (first == again).all()
    assert (first != second).any()


def test_fewer_leukocytes_than_asked_for_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        write_original(tmp_path, number, RED, [(560, 240)])
    with pytest.raises(DataSetError, match=r"have 3 whole leukocytes .* and a field takes 4"):
        make_fields(tmp_path, 4, 1)


def test_too_few_squares_without_a_leukocyte_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        write_original(tmp_path, number, RED, [(560, 240)])
    with pytest.raises(DataSetError, match=r"have 3 squares without .* and a field takes 11"):
        make_fields(tmp_path, 1, 1)


@pytest.mark.parametrize("leukocytes", [-1, MOST_LEUKOCYTES + 1])
def test_what_has_no_room_is_refused(collection: Path, leukocytes: int) -> None:
    with pytest.raises(SettingError, match="give 0 to 12"):
        make_fields(collection, leukocytes, 1)


def test_data_without_annotations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="no folder annotations"):
        make_fields(tmp_path, 1, 1)


def test_an_original_that_is_missing_or_small_or_annotated_wrongly_is_named(collection: Path) -> None:
    image = collection / "Original_Images/BloodImage_00003.jpg"
    cv2.imwrite(str(image), np.full((200, 200, 3), GLASS, np.uint8))
    with pytest.raises(DataSetError, match=r"BloodImage_00003\.jpg: 200x200 pixels"):
        make_fields(collection, 12, 3)
    image.unlink()
    with pytest.raises(ImageError, match=r"BloodImage_00003\.jpg"):
        make_fields(collection, 12, 3)
    annotation = collection / "annotations/BloodImage_00003.xml"
    annotation.write_text("<annotation><object><name>WBC</name></object></annotation>")
    with pytest.raises(DataSetError, match=r"BloodImage_00003\.xml: not a Pascal-VOC annotation"):
        leukocyte_boxes(annotation)


def test_the_collection_is_looked_for_where_the_data_are(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEMATOVISION_DATA", str(tmp_path))
    assert default_collection() is None
    (tmp_path / "kaggle-blood-cells/annotations").mkdir(parents=True)
    assert default_collection() == tmp_path / "kaggle-blood-cells"
    monkeypatch.delenv("HEMATOVISION_DATA")
    assert default_collection() is None


@pytest.mark.data
@pytest.mark.parametrize(("leukocytes", "misjudged"), [(0, 0), (1, 0), (3, 1), (10, 3)])
def test_the_finder_finds_nearly_so_many_in_fields_of_real_smears(
    data_dir: Path, leukocytes: int, misjudged: int
) -> None:
    """It may miss a pale nucleus among dark ones, or see one in two parts."""
    finder = load_finder()
    for field in make_fields(data_dir / "kaggle-blood-cells", leukocytes, 4):
        found = finder.find(measure_field(field, FIELD_UM_PER_PIXEL))
        assert abs(len(found) - leukocytes) <= misjudged
