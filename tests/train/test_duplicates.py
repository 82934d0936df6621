"""Images that show the same piece of a slide are found by their content, and others are not."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from hematovision.images import RGBImage, read_image
from hematovision.phantom import draw_field
from train.datasets import LabelledImage, read_dataset
from train.duplicates import DuplicatePair, DuplicateSearch, find_duplicates, group_by_content

# Kaggle originals of which another original shows a part: second photographs, looked at one by one.
SECOND_PHOTOGRAPHS = (
    *(20, 38, 41, 45, 108, 161, 193, 240, 247, 248, 249, 250, 252, 253, 254, 255, 256, 257, 258, 259),
    *(260, 261, 262, 263, 264, 276, 277, 278, 279, 391, 393, 395, 397, 400, 408, 409),
)


def save(path: Path, image: RGBImage, side: str | None = None, label: str = "neutrophil") -> LabelledImage:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR))
    return LabelledImage(path, label, path.name, side)


def field(seed: int, width: int = 400, height: int = 320) -> RGBImage:
    return draw_field(seed, width, height).image


def names(search: DuplicateSearch) -> set[frozenset[str]]:
    return {frozenset((pair.first.path.stem, pair.second.path.stem)) for pair in search.pairs}


def turned(image: RGBImage, degrees: float) -> RGBImage:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(image, matrix, (width, height))


def brightened(image: RGBImage, contrast: float, brightness: float) -> RGBImage:
    return np.clip(image * contrast + brightness, 0, 255).astype(np.uint8)


VARIATIONS: dict[str, Callable[[RGBImage], RGBImage]] = {
    "turned, black beside it": lambda image: turned(image, 37),
    "turned upside down": lambda image: np.ascontiguousarray(image[::-1, ::-1]),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "mirrored and turned": lambda image: turned(image[:, ::-1].copy(), -110),
    "shifted": lambda image: cv2.warpAffine(
        image, np.array([[1, 0, 110], [0, 1, -60.0]]), image.shape[1::-1], borderMode=cv2.BORDER_REFLECT
    ),
    "sheared": lambda image: cv2.warpAffine(
        image, np.array([[1, 0.2, -30], [0, 1, 0.0]]), image.shape[1::-1]
    ),
    "cropped": lambda image: image[50:275, 20:300],
    "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "made square": lambda image: cv2.resize(image, (300, 300), interpolation=cv2.INTER_AREA),
    "darker": lambda image: brightened(image, 0.6, -20),
    "so bright that the glass is clipped": lambda image: brightened(image, 1.3, 25),
    "out of focus": lambda image: cv2.GaussianBlur(image, (0, 0), 1.5),
}


@pytest.mark.parametrize("variation", VARIATIONS)
def test_a_varied_copy_is_found_among_other_fields(variation: str, tmp_path: Path) -> None:
    images = [save(tmp_path / f"{seed}.png", field(seed)) for seed in range(5)]
    images.append(save(tmp_path / "copy.png", VARIATIONS[variation](field(2))))
    search = find_duplicates(images)
    assert names(search) == {frozenset(("2", "copy"))}
    assert search.pairs[0].kind == "near"


def test_the_transform_leads_from_the_second_image_to_the_first(tmp_path: Path) -> None:
    image = field(3, 800, 640)
    # Mirrored, cut from (100, 40) on, and a third smaller.
    copy = cv2.resize(image[40:520, 100:640][:, ::-1], (360, 320), interpolation=cv2.INTER_AREA)
    (pair,) = find_duplicates([save(tmp_path / "a.png", image), save(tmp_path / "b.png", copy)]).pairs
    corners = np.array([[0, 0, 1], [359, 0, 1], [0, 319, 1]]) @ np.array(pair.transform).T
    assert corners == pytest.approx(np.array([[638.75, 40.25], [100.25, 40.25], [638.75, 518.75]]), abs=2.0)
    assert pair.overlap == pytest.approx(1.0, abs=0.03)


def test_dust_on_the_sensor_does_not_make_two_fields_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = []
    spots = [(tuple(rng.integers(5, 315, 2).tolist()), int(rng.integers(2, 5))) for _ in range(40)]
    for seed in range(4):
        image = field(seed, 320, 320)
        for center, radius in spots:
            cv2.circle(image, center, radius, (90, 90, 90), -1, cv2.LINE_AA)
        images.append(save(tmp_path / f"{seed}.png", image))
    assert names(find_duplicates(images)) == set()


def test_a_file_copied_under_another_name_is_an_exact_duplicate(tmp_path: Path) -> None:
    images = [
        save(tmp_path / "a.png", field(1)),
        save(tmp_path / "other.bmp", field(1)),
        save(tmp_path / "b.png", field(2)),
    ]
    (pair,) = find_duplicates(images).pairs
    assert (pair.kind, pair.score, pair.overlap) == ("exact", 1.0, 1.0)
    assert {pair.first, pair.second} == set(images[:2])


def test_blank_images_are_duplicates_only_of_their_equals(tmp_path: Path) -> None:
    pink, blue = (
        np.full((64, 64, 3), (250, 200, 220), np.uint8),
        np.full((64, 64, 3), (90, 80, 200), np.uint8),
    )
    images = [
        save(tmp_path / f"{name}.png", image) for name, image in (("a", pink), ("b", blue), ("c", pink))
    ]
    search = find_duplicates(images)
    assert names(search) == {frozenset("ac")}
    assert search.pairs[0].kind == "exact"


def test_an_unreadable_file_is_listed_with_the_reason_and_the_rest_is_compared(tmp_path: Path) -> None:
    images = [save(tmp_path / "a.png", field(1)), save(tmp_path / "b.png", VARIATIONS["mirrored"](field(1)))]
    (tmp_path / "text.jpg").write_text("not an image")
    text = LabelledImage(tmp_path / "text.jpg", "neutrophil", "text", None)
    search = find_duplicates([text, *images])
    assert names(search) == {frozenset("ab")}
    ((image, reason),) = search.unreadable
    assert image == text
    assert "text.jpg: not an image" in reason


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_images_have_no_duplicates(count: int, tmp_path: Path) -> None:
    images = [save(tmp_path / f"{seed}.png", field(seed)) for seed in range(count)]
    assert find_duplicates(images) == DuplicateSearch((), ())


def test_only_pixels_are_looked_at(tmp_path: Path) -> None:
    contents = [field(1), VARIATIONS["cropped"](field(1)), field(2)]
    truthful = [save(tmp_path / f"{n}.png", image) for n, image in enumerate(contents)]
    # Original and label say that the last is the copy.
    lying = [
        replace(image, original="x" if n == 1 else "y", label=f"{n % 2}", side="test")
        for n, image in enumerate(truthful)
    ]
    assert names(find_duplicates(truthful)) == names(find_duplicates(lying)) == {frozenset("01")}


def test_the_same_images_give_the_same_pairs_again(tmp_path: Path) -> None:
    images = [save(tmp_path / f"{seed}.png", field(seed)) for seed in range(4)]
    images += [save(tmp_path / f"{n}.png", turned(field(n % 4), 25 * n)) for n in range(4, 10)]
    assert find_duplicates(images) == find_duplicates(images)


def test_many_copies_of_one_image_are_one_group_without_every_pair(tmp_path: Path) -> None:
    images = [save(tmp_path / f"{n}.png", turned(field(1), 11 * n)) for n in range(32)]
    images.append(save(tmp_path / "other.png", field(2)))
    search = find_duplicates(images)
    assert [len(group) for group in group_by_content(images, search.pairs)] == [32, 1]
    assert len(search.pairs) < 32 * 31 / 2


def test_groups_are_what_pairs_join_however_indirectly() -> None:
    images = [LabelledImage(Path(name), "monocyte", name, None) for name in "abcdef"]
    a, b, c, d, e, f = images
    identity = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    pairs = [DuplicatePair(*both, "near", 0.9, 0.5, identity) for both in ((e, a), (c, e), (b, f))]
    assert group_by_content(images, pairs) == ((a, c, e), (b, f), (d,))


@dataclass(frozen=True)
class Planted:
    images: list[LabelledImage]
    source: dict[Path, Path]  # the image that each is, or is a copy of
    copies: set[Path]


def plant(data_dir: Path, folder: Path, seed: int) -> Planted:
    """60 Kaggle originals and 60 PBC images, and varied copies of 40 of them on the other side."""
    draw = random.Random(seed)
    kaggle = [
        image
        for image in read_dataset(str(data_dir / "kaggle-blood-cells/Original_Images")).images
        if int(image.path.stem[-5:]) not in SECOND_PHOTOGRAPHS
    ]
    originals = draw.sample(kaggle, 60) + draw.sample(read_dataset(str(data_dir / "pbc")).images, 60)
    source = {image.path: image.path for image in originals}
    images = [replace(image, side="train") for image in originals]
    copies = set()
    for number, original in enumerate(draw.sample(originals, 40)):
        image = read_image(original.path)
        if draw.random() < 0.8:
            image = turned(image, draw.uniform(0, 360))
        if draw.random() < 0.5:
            image = image[:, ::-1]
        if draw.random() < 0.8:
            height, width = (round(side * draw.uniform(0.7, 1.0)) for side in image.shape[:2])
            top, left = draw.randint(0, image.shape[0] - height), draw.randint(0, image.shape[1] - width)
            image = image[top : top + height, left : left + width]
        if draw.random() < 0.5:
            image = cv2.resize(image, None, fx=(zoom := draw.uniform(0.5, 1.4)), fy=zoom)
        if draw.random() < 0.8:
            image = brightened(image, draw.uniform(0.6, 1.4), draw.uniform(-35, 35))
        copy = save(folder / f"{number}.jpg", image, "test", original.label)
        source[copy.path] = original.path
        copies.add(copy.path)
        images.append(copy)
    draw.shuffle(images)
    return Planted(images, source, copies)


@pytest.mark.data
@pytest.mark.slow
def test_planted_copies_are_found_and_nothing_else(data_dir: Path, tmp_path: Path) -> None:
    planted = plant(data_dir, tmp_path, seed=1)
    pairs = find_duplicates(planted.images).pairs
    true = [pair for pair in pairs if planted.source[pair.first.path] == planted.source[pair.second.path]]
    found = {image.path for pair in true for image in (pair.first, pair.second)} & planted.copies
    assert len(planted.copies) == 40
    assert len(found) >= 0.95 * 40
    assert len(pairs) - len(true) <= 0.01 * len(pairs)
