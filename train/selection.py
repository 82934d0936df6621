"""Which labelled images train a model, which are its development side, and which are left out, and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
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


def select(
    datasets: Sequence[DataSet], left_out: Mapping[str, str], kin: Mapping[str, str], seed: int
) -> Selection:
    """Select the training data from data sets, each with its scale known.

    Raises:
        DataSetError: a data set has no training side.
    """
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
    if "data" not in record:
        raise DataSetError("the model's manifest does not say what it was trained on; train it again")
    datasets = [read_dataset(source) for source in sources]
    scales = {entry["name"]: entry["um_per_pixel"] for entry in record["data"]}
    given = sorted(dataset.name for dataset in datasets)
    if given != sorted(scales):
        raise DataSetError(
            f"the model was trained on {', '.join(sorted(scales))}, not on {', '.join(given)}; "
            "give the same data"
        )
    order = list(scales)
    datasets.sort(key=lambda dataset: order.index(dataset.name))
    datasets = [replace(dataset, um_per_pixel=scales[dataset.name]) for dataset in datasets]
    selection = select(datasets, record["left_out"], record["kin"], record["seed"])
    if any(selection.record()[key] != record[key] for key in ("data", "development_sha256")):
        raise DataSetError(
            f"{', '.join(given)}: not the images that the model was trained on; give the same data"
        )
    return selection


def shared_cells(
    pairs: Sequence[DuplicatePair], training: Sequence[LabelledImage]
) -> tuple[dict[str, str], dict[str, str]]:
    """From pairs of images that overlap: what training leaves out, and which originals are kin.

    Left out are training originals that overlap a test image, and those that overlap each other under
    different labels: nobody knows what they teach.

    Args:
        pairs: among training images, and between them and images to be kept apart.
        training: the training images.

    Returns:
        Training originals to leave out, each with the reason; and for the others that share a cell one name
        that stands for all of them.
    """
    label_of = {image.original: image.label for image in training}
    left_out: dict[str, str] = {}
    kin: dict[str, str] = {}

    def stands_for(original: str) -> str:
        while original in kin:
            original = kin[original]
        return original

    for pair in pairs:
        first, second = pair.first.original, pair.second.original
        if first in label_of and second in label_of:
            if label_of[first] != label_of[second]:
                left_out[first] = f"shows what {second} shows, labelled {label_of[second]}"
                left_out[second] = f"shows what {first} shows, labelled {label_of[first]}"
            one, other = sorted((stands_for(first), stands_for(second)))
            if one != other:
                kin[other] = one
        elif first in label_of:
            left_out[first] = f"shows what {second} shows, kept for testing"
        elif second in label_of:
            left_out[second] = f"shows what {first} shows, kept for testing"
    return left_out, {original: stands_for(original) for original in kin if original not in left_out}
