"""Which labelled images train a model, which are its development side, and which are left out, and why."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hematovision.errors import DataSetError
from hematovision.model_file import Manifest
from train.datasets import DataSet, LabelledImage, read_dataset
from train.duplicates import DuplicatePair
from train.splits import choose_development, digest


@dataclass(frozen=True)
class Selection:
    """The training data of one model.

    ``left_out``: training originals that are not learnt from, each with the reason; ``kin``: originals that
    show the same cell as another, with one name for all that do.
    """

    datasets: tuple[DataSet, ...]
    development_originals: frozenset[str]
    left_out: Mapping[str, str]
    kin: Mapping[str, str]
    seed: int

    def training(self, dataset: DataSet) -> tuple[LabelledImage, ...]:
        """The images of a data set to learn from."""
        return tuple(image for image in self._usable(dataset) if not self._in_development(image))

    def development(self, dataset: DataSet) -> tuple[LabelledImage, ...]:
        """The images of a data set to choose on."""
        return tuple(image for image in self._usable(dataset) if self._in_development(image))

    def _usable(self, dataset: DataSet) -> tuple[LabelledImage, ...]:
        return tuple(image for image in training_side(dataset) if image.original not in self.left_out)

    def _in_development(self, image: LabelledImage) -> bool:
        return image.original in self.development_originals

    def record(self) -> dict[str, Any]:
        """What a manifest keeps of this, enough to make the same selection again."""
        return {
            "data": [
                {
                    "name": dataset.name,
                    "um_per_pixel": dataset.um_per_pixel,
                    "training": dict(Counter(image.label for image in self.training(dataset))),
                    "development": dict(Counter(image.label for image in self.development(dataset))),
                }
                for dataset in self.datasets
            ],
            "seed": self.seed,
            "left_out": dict(sorted(self.left_out.items())),
            "kin": dict(sorted(self.kin.items())),
            "development_sha256": digest(self.development_originals),
        }


def training_side(dataset: DataSet) -> tuple[LabelledImage, ...]:
    """Images that may be learnt from: those of the training side, and all where nobody drew sides."""
    return tuple(image for image in dataset.images if image.side != "test")


def chosen_side(dataset: DataSet, side: str) -> tuple[Sequence[LabelledImage], str]:
    """Images of a side, and what they are called in reports; all of them where nobody drew sides.

    Raises:
        DataSetError: there are sides, and that one has no images.
    """
    if not any(image.side for image in dataset.images):
        return dataset.images, dataset.name
    images = dataset.on_side(None if side == "all" else side)
    if not images:
        raise DataSetError(
            f"{dataset.path}: has no images on the {side} side; choose another side or data set"
        )
    return images, dataset.name if side == "test" else f"{dataset.name}, {side} side"


def is_learnt_from(dataset: DataSet, manifest: Manifest) -> bool:
    """Whether a model was trained on a data set that has no test side to measure it on."""
    names = {entry["name"] for entry in manifest.training.get("data", ())}
    return dataset.name in names and not dataset.on_side("test")


def require_names(datasets: Sequence[DataSet]) -> None:
    """Raise `DataSetError` where two data sets have one name: their originals could not be told apart."""
    for name, count in Counter(dataset.name for dataset in datasets).items():
        if count > 1:
            raise DataSetError(
                f"{count} of the data sets are called {name}; rename a folder, or give it once"
            )


def select(
    datasets: Sequence[DataSet], left_out: Mapping[str, str], kin: Mapping[str, str], seed: int
) -> Selection:
    """Select the training data from data sets, each with its scale known.

    Raises:
        DataSetError: a data set has no training side, or two have one name.
    """
    require_names(datasets)
    images: list[LabelledImage] = []
    for dataset in datasets:
        usable = [image for image in training_side(dataset) if image.original not in left_out]
        if not usable:
            raise DataSetError(
                f"{dataset.path}: has no training images, only a test side; give training data"
            )
        images += usable
    return Selection(tuple(datasets), choose_development(images, kin, seed), left_out, kin, seed)


def select_again(sources: Sequence[str], manifest: Manifest) -> Selection:
    """The selection that a model was trained on; scales come from its manifest.

    Raises:
        DataSetError: these data sets are not the ones of the manifest, or have changed.
    """
    record = manifest.training
    try:
        scales = {entry["name"]: entry["um_per_pixel"] for entry in record["data"]}
        left_out, kin, seed = record["left_out"], record["kin"], record["seed"]
        expected = {key: record[key] for key in ("data", "development_sha256")}
    except (KeyError, TypeError) as error:
        raise DataSetError(
            f"the model's manifest does not say what it was trained on ({error}); train it again"
        ) from error
    datasets = [read_dataset(source) for source in sources]
    given = sorted(dataset.name for dataset in datasets)
    if given != sorted(scales):
        raise DataSetError(
            f"the model was trained on {', '.join(sorted(scales))}, not on {', '.join(given)}; "
            "give the same data"
        )
    order = list(scales)
    datasets.sort(key=lambda dataset: order.index(dataset.name))
    datasets = [replace(dataset, um_per_pixel=scales[dataset.name]) for dataset in datasets]
    selection = select(datasets, left_out, kin, seed)
    if any(selection.record()[key] != value for key, value in expected.items()):
        raise DataSetError(
            f"{', '.join(given)}: not the images that the model was trained on; give the same data"
        )
    return selection


def shared_cells(
    pairs: Sequence[DuplicatePair],
    training: Sequence[LabelledImage],
    apart: Sequence[LabelledImage],
    shows_same_cell: Callable[[DuplicatePair], bool | None],
) -> tuple[dict[str, str], dict[str, str]]:
    """From pairs of images that overlap: what training leaves out, and which originals are kin.

    Left out are training originals that an image kept apart shows a part of, directly or through others, and
    those whose cell has two labels: nobody knows what they teach.

    Args:
        pairs: of images that show the same piece of a slide.
        training: images to learn from.
        apart: images to be tested on.
        shows_same_cell: whether a pair shows one labelled cell; None where that cannot be told.

    Returns:
        Training originals to leave out, each with the reason; and for the others that share a piece of a
        slide one name that stands for all of them.
    """
    to_learn = {image.original for image in training}
    left_out: dict[str, str] = {}
    labels: dict[str, str] = {}
    for image in training:
        if labels.setdefault(image.original, image.label) != image.label:
            left_out[image.original] = f"labelled {labels[image.original]} and {image.label}"
    originals_apart = {image.original for image in apart}
    pairs_of_training = [pair for pair in pairs if {pair.first.original, pair.second.original} <= to_learn]
    for pair in pairs_of_training:
        first, second = pair.first, pair.second
        if first.label != second.label and shows_same_cell(pair) is not False:
            left_out[first.original] = f"shows the cell of {second.original}, labelled {second.label}"
            left_out[second.original] = f"shows the cell of {first.original}, labelled {first.label}"
    kin: dict[str, str] = {}
    for family in _families(pairs, [*training, *apart]):
        tested = sorted(family & originals_apart)
        learnt = sorted(family & to_learn)
        if tested:
            left_out |= dict.fromkeys(learnt, f"overlaps {tested[0]}, kept for testing")
        else:
            kin |= dict.fromkeys(learnt[1:], learnt[0])
    return left_out, {original: name for original, name in kin.items() if original not in left_out}


def _families(pairs: Sequence[DuplicatePair], images: Sequence[LabelledImage]) -> list[set[str]]:
    """Originals that overlap, directly or through others."""
    family_of = {image.original: {image.original} for image in images}
    for pair in pairs:
        first, second = family_of[pair.first.original], family_of[pair.second.original]
        if first is not second:
            first |= second
            family_of.update(dict.fromkeys(second, first))
    return list({id(family): family for family in family_of.values()}.values())
