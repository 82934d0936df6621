"""Finding images that show the same piece of a slide, by their content alone: exact copies and near ones.

Near copies are rotated, mirrored, shifted, sheared, cropped, resized or lit otherwise, or a second photograph
of the field. Every pair of 10,000 images cannot be compared, so the features are sorted into visual words
(Sivic and Zisserman 2003), the images that share rare words at one angle are compared first (weak geometric
consistency: Jégou, Douze and Schmid 2008), and `registration` decides.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hematovision.errors import ImageError
from hematovision.images import read_image
from train.datasets import LabelledImage
from train.registration import (
    DIMENSIONS,
    Picture,
    Registration,
    mirrored,
    picture_of,
    register,
    square_rooted,
)

#: What is being done, how much of it is done, and how much there is to do.
Progress = Callable[[str, int, int], None]

_MAX_WORDS = 8192
_FEATURES_PER_WORD = 16
_SAMPLE = 20_000  # descriptors that the reduced dimensions are learned from
_SEED = 0
_TURN_BINS = 32
# How many of an image's likeliest partners are listed, and how many may turn out to be none before it is
# left alone. Listed are many more, since 150 copies of one original fill each other's lists.
_LISTED = 256
_MAX_MISSES = 16
# Within a group of images that are already known to belong together, no image is compared beyond this many
# finds: 155 copies of one original have 12,000 pairs, and nobody learns from them.
_MAX_FINDS = 10
_BATCH = 128
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class DuplicatePair:
    """Two images that show the same piece of a slide.

    ``kind``: exact when every pixel is the same. ``score``: correlation of the detail in the overlap, 1 for
    exact. ``overlap``: the share of the smaller image that both show. ``transform``: two rows of an affine
    map, pixels (x, y) of the second image to pixels of the first, the middle of the first pixel at (0, 0).
    """

    first: LabelledImage
    second: LabelledImage
    kind: Literal["exact", "near"]
    score: float
    overlap: float
    transform: tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class DuplicateSearch:
    """What `find_duplicates` found: pairs, best first, and the images that cannot be read, with the reason.

    Large groups are joined by their best pairs; not every pair within one is listed.
    """

    pairs: tuple[DuplicatePair, ...]
    unreadable: tuple[tuple[LabelledImage, str], ...]


def find_duplicates(images: Sequence[LabelledImage], progress: Progress | None = None) -> DuplicateSearch:
    """Find the images that show the same piece of a slide.

    Only pixels are looked at: not names, labels, sides or originals. The same images in the same order give
    the same result. About 200 KB of memory are needed for each image. Among thousands of images a pair that
    shares less than a third may be missed.

    Args:
        images: of one data set or of several.
        progress: is told how far each step of the work is, from this thread.
    """
    report = progress or (lambda *_: None)
    unreadable: list[tuple[LabelledImage, str]] = []
    pairs: list[DuplicatePair] = []
    kept: list[tuple[LabelledImage, Picture]] = []
    first_of_hash: dict[bytes, LabelledImage] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (image, content) in enumerate(zip(images, pool.map(_read, images), strict=True), 1):
            if isinstance(content, ImageError):
                unreadable.append((image, str(content)))
            elif (same := first_of_hash.get(content.pixel_hash)) is not None:
                pairs.append(
                    DuplicatePair(same, image, "exact", 1.0, 1.0, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
                )
            else:
                first_of_hash[content.pixel_hash] = image
                kept.append((image, content.picture))
            report("reading images", done, len(images))
        pictures = [picture for _, picture in kept]
        for first, second, found in _near(pictures, pool, report):
            rows = tuple((float(a), float(b), float(c)) for a, b, c in found.transform)
            pair = DuplicatePair(
                kept[first][0], kept[second][0], "near", found.correlation, found.overlap, (rows[0], rows[1])
            )
            pairs.append(pair)
    pairs.sort(key=lambda pair: -pair.score)
    return DuplicateSearch(tuple(pairs), tuple(unreadable))


def group_by_content(
    images: Sequence[LabelledImage], pairs: Sequence[DuplicatePair]
) -> tuple[tuple[LabelledImage, ...], ...]:
    """Divide images into groups that show nothing in common: what pairs join, however indirectly.

    Returns:
        Every image in one group, alone where no pair names it; groups and their images in the given order.
    """
    index_of = {image: index for index, image in enumerate(images)}
    group = np.arange(len(images))
    for pair in pairs:
        _join(group, index_of[pair.first], index_of[pair.second])
    members: dict[int, list[LabelledImage]] = {}
    for image, number in zip(images, group.tolist(), strict=True):
        members.setdefault(number, []).append(image)
    return tuple(tuple(group_members) for group_members in members.values())


@dataclass(frozen=True)
class _Content:
    pixel_hash: bytes
    picture: Picture


def _read(image: LabelledImage) -> _Content | ImageError:
    try:
        pixels = read_image(image.path)
    except ImageError as error:
        return error  # counted and listed by the caller
    return _Content(
        hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest(), picture_of(pixels)
    )


def _join(group: NDArray[np.intp], first: int, second: int) -> None:
    group[group == group[second]] = group[first]


@dataclass(frozen=True)
class _Features:
    """All features of all images, by image.

    ``descriptors``: (n, DIMENSIONS) float32; ``mirror``: (DIMENSIONS, DIMENSIONS), what turns them into the
    mirrored image's. ``words`` (n,) and ``mirrored_words`` (n,) of ``word_count``. ``angles``: (n,) uint8 in
    1/256 turns. ``owners``: (n,), whose they are; ``slices``: each image's part.
    """

    descriptors: NDArray[np.float32]
    mirror: NDArray[np.float32]
    words: NDArray[np.intp]
    mirrored_words: NDArray[np.intp]
    word_count: int
    angles: NDArray[np.uint8]
    owners: NDArray[np.intp]
    slices: list[slice]


@dataclass(frozen=True)
class _Candidates:
    """Pairs of images worth comparing, likeliest first; ``mirrored``: the second as its mirror image."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    mirrored: NDArray[np.bool_]


def _near(
    pictures: list[Picture], pool: ThreadPoolExecutor, report: Progress
) -> list[tuple[int, int, Registration]]:
    features = _sort_into_words(pictures, report)
    if features is None:
        return []
    candidates = _shortlist(features, len(pictures), report)

    def compare(candidate: int) -> Registration | None:
        first, second = int(candidates.first[candidate]), int(candidates.second[candidate])
        ours, theirs = (features.descriptors[features.slices[image]] for image in (first, second))
        if candidates.mirrored[candidate]:
            theirs = theirs @ features.mirror
        return register(pictures[first], pictures[second], ours, theirs)

    found: list[tuple[int, int, Registration]] = []
    group = np.arange(len(pictures))
    finds, misses = np.zeros((2, len(pictures)), int)
    total = len(candidates.first)
    for start in range(0, total, _BATCH):
        batch = np.arange(start, min(start + _BATCH, total))
        first, second = candidates.first[batch], candidates.second[batch]
        known = (group[first] == group[second]) & (np.maximum(finds[first], finds[second]) >= _MAX_FINDS)
        hopeless = np.minimum(misses[first], misses[second]) >= _MAX_MISSES
        batch = batch[~known & ~hopeless]
        for candidate, registration in zip(batch, pool.map(compare, batch), strict=True):
            one, other = int(candidates.first[candidate]), int(candidates.second[candidate])
            if registration is None:
                misses[[one, other]] += 1
            else:
                finds[[one, other]] += 1
                _join(group, one, other)
                found.append((one, other, registration))
        report("comparing pairs", min(start + _BATCH, total), total)
    return found


def _sort_into_words(pictures: list[Picture], report: Progress) -> _Features | None:
    counts = np.array([len(picture.points) for picture in pictures], int)
    total = int(counts.sum())
    if total == 0:
        return None
    rng = np.random.default_rng(_SEED)
    raw = np.concatenate([picture.descriptors for picture in pictures])
    sample = square_rooted(raw[np.sort(rng.choice(total, min(total, _SAMPLE), replace=False))])
    both = np.concatenate([sample, mirrored(sample)])
    # Eigenvectors by rising energy: the last ones. Every mirror image is in the sample too, so that mirroring
    # does not lead out of the reduced space and is a matrix in it.
    basis = np.linalg.eigh(both.T @ both)[1][:, -DIMENSIONS:].astype(np.float32)
    half = max(1, min(_MAX_WORDS, total // _FEATURES_PER_WORD) // 2)
    seeds = square_rooted(raw[np.sort(rng.choice(total, half, replace=False))])
    # A word is a sampled descriptor; the second half are the mirror images of the first, so the word of a
    # mirrored descriptor need not be looked for.
    words = np.concatenate([seeds, mirrored(seeds)]) @ basis
    offset = (words**2).sum(axis=1) / 2
    reduced = np.empty((total, DIMENSIONS), np.float32)
    nearest = np.empty(total, np.intp)
    for start in range(0, total, _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, total))
        reduced[rows] = square_rooted(raw[rows]) @ basis
        nearest[rows] = (reduced[rows] @ words.T - offset).argmax(axis=1)
        report("sorting features", rows.stop, total)
    ends = np.cumsum(counts)
    return _Features(
        reduced,
        mirrored(basis.T) @ basis,
        nearest,
        (nearest + half) % (2 * half),
        2 * half,
        np.concatenate([picture.angles for picture in pictures]),
        np.repeat(np.arange(len(pictures)), counts),
        [slice(start, end) for start, end in pairwise([0, *ends.tolist()])],
    )


def _shortlist(features: _Features, image_count: int, report: Progress) -> _Candidates:
    """For every image the others that share most words with it, rare words above all, at one angle."""
    by_word = np.argsort(features.words, kind="stable")
    owners, angles = features.owners[by_word], features.angles[by_word]
    uses = np.bincount(features.words, minlength=features.word_count)
    starts = np.cumsum(uses) - uses
    images_with = np.bincount(
        np.unique(features.words * image_count + features.owners) // image_count,
        minlength=features.word_count,
    )
    rarity = np.log1p(image_count / np.maximum(images_with, 1)) ** 2
    norm = np.sqrt(np.bincount(features.owners, rarity[features.words], minlength=image_count))

    def shared(image: int, words: NDArray[np.intp], mirror: bool) -> NDArray[np.float64]:
        own = features.slices[image]
        use = uses[words[own]]
        # Every place where a word of this image is used: ranges, one after the other.
        places = np.repeat(starts[words[own]] - (np.cumsum(use) - use), use) + np.arange(use.sum())
        angle = np.repeat(features.angles[own], use)
        turn = (angles[places] + angle if mirror else angles[places] - angle) // (256 // _TURN_BINS)
        votes = np.bincount(
            owners[places] * _TURN_BINS + turn,
            np.repeat(rarity[words[own]], use),
            minlength=image_count * _TURN_BINS,
        ).reshape(image_count, _TURN_BINS)
        # Two neighbouring bins: a turn can lie on the border of one.
        score = (votes + np.roll(votes, 1, axis=1)).max(axis=1)
        score[image] = 0.0
        return score / np.maximum(norm * norm[image], 1e-9)

    listed: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_], NDArray[np.float64]]] = []
    for image in range(image_count):
        direct = shared(image, features.words, False)
        mirror = shared(image, features.mirrored_words, True)
        score = np.maximum(direct, mirror)
        best = np.argsort(-score, kind="stable")[:_LISTED]
        best = best[score[best] > 0]
        listed.append((np.full(len(best), image), best, (mirror > direct)[best], score[best]))
        report("looking for similar images", image + 1, image_count)
    one, other, is_mirror, score = (np.concatenate(column) for column in zip(*listed, strict=True))
    first, second = np.minimum(one, other), np.maximum(one, other)
    order = np.lexsort((second, first, -score))
    _, once = np.unique((first * image_count + second)[order], return_index=True)
    order = order[np.sort(once)]
    return _Candidates(first[order], second[order], is_mirror[order])
