"""What quantisation costs: every variant on the same held-out cells, run as the device runs it."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from benchmarks.contenders import KERAS, Contender
from benchmarks.latency import write_crops
from benchmarks.results import Accuracy, Comparison, Estimate, Unmeasured
from benchmarks.variants import BuiltModel, Say, data_folder, preferred_runtime, tensorflow_version
from benchmarks.worker import Worker
from hematovision.cell_classes import CLASS_NAMES
from hematovision.classifier import probabilities
from hematovision.errors import HematoVisionError, MissingPartError
from hematovision.model_file import Manifest, read_model_file
from hematovision.runtime import default_threads
from train.cells import CellSet, read_cells
from train.console import say_unreadable, with_scale
from train.datasets import DataSet, read_dataset
from train.evaluate import Interval, evaluate, right_by_file, right_by_original, share_by_original
from train.selection import chosen_side, is_learnt_from, require_names

#: What is measured on unless data sets are named, in the folder that HEMATOVISION_DATA names.
DEFAULT_DATA = ("kaggle-blood-cells", "kaggle-blood-cells/images/TEST", "pbc@0.104", "tecom@0.2")
#: What the others are compared with: the first of these that is measured.
REFERENCES = (KERAS, "float32")

_SECTION = "accuracy"


def measure_accuracy(
    models: Sequence[BuiltModel], data: Sequence[str], say: Say, default: Sequence[str] = DEFAULT_DATA
) -> tuple[list[Accuracy], list[Unmeasured]]:
    """Measure every variant of every model on the test side of every data set.

    Each runs in a process of its own; a ``.tflite`` in the device's classifier, on the preferred one of the
    runtimes that load it, and with its own temperature and decline threshold. The cells of a data set are
    read once for all variants that take crops of the same size.

    Args:
        models: with their variants.
        data: data sets, written as for ``hematovision train evaluate``.
        say: told what is being done.
        default: data sets in the folder that HEMATOVISION_DATA names, in place of ``data`` where that is
            empty; those that are not there are left out.

    Returns:
        What was measured, data set by data set, and what was not, with the reason.

    Raises:
        DataSetError: two data sets have one name.
    """
    datasets, unmeasured = _open_data(data, default)
    opened: list[_Opened] = []
    for model in models:
        ready, failed = _open_model(model)
        opened += ready
        unmeasured += failed
    measured: list[Accuracy] = []
    for dataset in datasets:
        for size in dict.fromkeys(one.manifest.crop for one in opened):
            alike = [one for one in opened if one.manifest.crop == size]
            try:
                rows, failed = _measure_on(dataset, alike, bool(data), say)
            except HematoVisionError as error:
                rows, failed = [], [Unmeasured(_SECTION, dataset.name, str(error), failed=True)]
            measured += rows
            unmeasured += failed
    # What is said of a data set is said once, however many sizes its cells were cut in.
    return measured, list(dict.fromkeys(unmeasured))


def compare(
    cells: CellSet, sure: NDArray[np.float64], reference_sure: NDArray[np.float64], reference: str
) -> Comparison:
    """Compare a variant's answers with those of the network that it was made from.

    Over the cells of the four classes; agreement and probabilities over those of them that were found, since
    the others are shown to no network.

    Args:
        cells: labelled.
        sure: (n, 4) calibrated probabilities by the variant.
        reference_sure: likewise by the reference.
        reference: its name.

    Raises:
        DataSetError: images of one original have two labels.
    """
    known = cells.in_classes
    found = cells.found[known]
    same = found & (sure[known].argmax(axis=1) == reference_sure[known].argmax(axis=1))
    right, reference_right = right_by_file(cells, sure), right_by_file(cells, reference_sure)
    difference = right.astype(np.float64) - reference_right
    gaps = np.abs(sure - reference_sure)[known][found]
    by_original, reference_by_original = (
        right_by_original(cells, answers) for answers in (sure, reference_sure)
    )
    only_reference = int((reference_by_original & ~by_original).sum())
    only_variant = int((by_original & ~reference_by_original).sum())
    return Comparison(
        agreement=_estimate(share_by_original(cells, same, found)),
        accuracy_difference=_estimate(share_by_original(cells, difference, np.ones(len(difference)))),
        largest_probability_difference=float(gaps.max()) if len(gaps) else float("nan"),
        only_keras_right=only_reference,
        only_variant_right=only_variant,
        mcnemar_p=mcnemar(only_reference, only_variant),
        reference=reference,
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact probability of counts as unequal as these, if either were equally likely.

    McNemar's test (Psychometrika 12, 1947) in its exact form: of those that one of two gets right and the
    other wrong, each is right in half of them. 1 where there are none.
    """
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


@dataclass(frozen=True)
class _Opened:
    """A variant to be run. ``manifest``: its own, with its temperature and decline threshold."""

    contender: Contender
    manifest: Manifest


def _open_data(data: Sequence[str], default: Sequence[str]) -> tuple[list[DataSet], list[Unmeasured]]:
    """Data sets with their scale, and what of them cannot be used."""
    datasets: list[DataSet] = []
    unmeasured: list[Unmeasured] = []
    folder = data_folder()
    for name in data or default:
        source = name if data else str((folder or Path()) / name)
        if not data and (folder is None or not Path(source.partition("@")[0]).exists()):
            why = f"not in {folder}" if folder else "HEMATOVISION_DATA is not set"
            unmeasured.append(Unmeasured(_SECTION, name, why, failed=False))
            continue
        try:
            dataset = read_dataset(source)
            chosen_side(dataset, "test")
            datasets.append(with_scale(dataset))
        except HematoVisionError as error:
            unmeasured.append(Unmeasured(_SECTION, name, str(error), failed=True))
    require_names(datasets)
    for dataset in datasets:
        unmeasured += [
            Unmeasured(_SECTION, f"images of {dataset.name}", f"{count} left out: {reason}", failed=False)
            for reason, count in dataset.dropped
        ]
        if dataset.unknown_originals:
            what = f"{dataset.name}, originals of {dataset.unknown_originals} copies"
            why = "not known: each counts as one, so intervals come out too narrow"
            unmeasured.append(Unmeasured(_SECTION, what, why, failed=False))
    return datasets, unmeasured


def _open_model(model: BuiltModel) -> tuple[list[_Opened], list[Unmeasured]]:
    """The variants of a model that can be run here, in the order of its files, and the others."""
    opened: list[_Opened] = []
    unmeasured: list[Unmeasured] = []
    for variant, path in model.files.items():
        try:
            opened.append(_open_variant(model, variant, path))
        except HematoVisionError as error:
            failed = not isinstance(error, MissingPartError)
            unmeasured.append(Unmeasured(_SECTION, f"{model.name} {variant}", str(error), failed))
    if not any(one.contender.variant in REFERENCES for one in opened):
        why = f"none of {', '.join(REFERENCES)} is here to compare with"
        unmeasured.append(Unmeasured(_SECTION, f"{model.name}, comparison", why, failed=False))
    return opened, unmeasured


def _open_variant(model: BuiltModel, variant: str, path: Path) -> _Opened:
    if variant == KERAS:
        if tensorflow_version() is None:
            raise MissingPartError("TensorFlow is not installed; pip install 'hematovision[train]' brings it")
        runtime, xnnpack, manifest = KERAS, None, model.manifest
    else:
        manifest = read_model_file(path).manifest
        runtime, xnnpack = preferred_runtime(manifest), True
    return _Opened(Contender(model.name, variant, runtime, xnnpack, default_threads(), str(path)), manifest)


def _measure_on(
    dataset: DataSet, opened: Sequence[_Opened], given: bool, say: Say
) -> tuple[list[Accuracy], list[Unmeasured]]:
    """Measure variants that take crops of one size on one data set."""
    unmeasured: list[Unmeasured] = []
    fit: list[_Opened] = []
    for one in opened:
        if is_learnt_from(dataset, one.manifest):
            what = f"{one.contender.model} on {dataset.name}"
            why = "the model was trained on it, and it has no test side"
            unmeasured.append(Unmeasured(_SECTION, what, why, failed=given))
        else:
            fit.append(one)
    if not fit:
        return [], unmeasured
    images, name = chosen_side(dataset, "test")
    assert dataset.um_per_pixel is not None, "it was read with its scale"
    cells = read_cells(
        images,
        dataset.um_per_pixel,
        fit[0].manifest.crop,
        lambda done, total: say(f"{name}: finding cells, image {done} of {total}"),
    )
    say_unreadable(cells)
    if cells.unreadable:
        why = f"{len(cells.unreadable)} left out: {cells.unreadable[0][1]}"
        unmeasured.append(Unmeasured(_SECTION, f"images of {name}", why, failed=True))
    counts = np.bincount(cells.labels[cells.in_classes], minlength=len(CLASS_NAMES))
    missing = tuple(label for label, count in zip(CLASS_NAMES, counts, strict=True) if not count)
    if len(missing) == len(CLASS_NAMES):
        why = f"no readable cell of {', '.join(CLASS_NAMES)}"
        return [], [*unmeasured, Unmeasured(_SECTION, name, why, failed=True)]
    if missing:
        what = f"{name}, recall of {' and '.join(missing)}"
        why = "the data set has no cell of it; the balanced accuracy is that of the other classes"
        unmeasured.append(Unmeasured(_SECTION, what, why, failed=False))
    with tempfile.TemporaryDirectory(prefix="hematovision-bench-") as folder:
        file = write_crops(cells.crops, [fit[0].contender], Path(folder))[fit[0].contender.model]
        measured, failed = _answer(name, cells, file, fit, missing, say)
    return measured, unmeasured + failed


def _answer(
    name: str, cells: CellSet, crops: Path, fit: Sequence[_Opened], missing: tuple[str, ...], say: Say
) -> tuple[list[Accuracy], list[Unmeasured]]:
    """What variants say of the cells of a data set, of which ``crops`` is the file."""
    measured: list[Accuracy] = []
    unmeasured: list[Unmeasured] = []
    references: dict[str, tuple[str, NDArray[np.float64]]] = {}
    for one in fit:
        model, variant = one.contender.model, one.contender.variant
        say(f"{name}: {model} {variant} names {len(cells)} cells")
        try:
            # A process of its own: where the runtime crashes on one variant, the others go on.
            with Worker(one.contender, crops) as worker:
                version = worker.load().version
                logits = worker.answers(len(cells))
            sure = probabilities(logits, one.manifest.temperature)
            evaluation = evaluate(name, cells, sure, one.manifest.decline_below)
            reference, reference_sure = references.get(model, ("", None))
            comparison = None if reference_sure is None else compare(cells, sure, reference_sure, reference)
        except HematoVisionError as error:
            what = f"{model} {variant} on {name}"
            unmeasured.append(Unmeasured(_SECTION, what, str(error), failed=True))
            continue
        if variant in REFERENCES:
            references.setdefault(model, (variant, sure))
        cells_sha256, right_per_original = _pairing(cells, sure)
        measured.append(
            Accuracy(
                model=model,
                variant=variant,
                runtime=one.contender.runtime,
                version=version,
                evaluation=evaluation,
                comparison=comparison,
                cells_sha256=cells_sha256,
                right_per_original=right_per_original,
                missing=missing,
            )
        )
    return measured, unmeasured


def _pairing(cells: CellSet, sure: NDArray[np.float64]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """What two reports are compared by: see `Accuracy`."""
    labelled = [image for image, use in zip(cells.images, cells.in_classes, strict=True) if use]
    lines = sorted(f"{image.original}\t{image.label}\n" for image in labelled)
    _, owner, files = np.unique(
        [image.original for image in labelled], return_inverse=True, return_counts=True
    )
    right = np.bincount(owner, weights=right_by_file(cells, sure), minlength=len(files))
    return (
        hashlib.sha256("".join(lines).encode()).hexdigest(),
        tuple((int(ours), int(all_of)) for ours, all_of in zip(right, files, strict=True)),
    )


def _estimate(interval: Interval) -> Estimate:
    return Estimate(interval.value, interval.low, interval.high)
