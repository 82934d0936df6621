"""Results of training and evaluation, written for people: tables on the terminal, Markdown, pictures."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from hematovision.cell_classes import CLASS_NAMES
from hematovision.model_file import Manifest
from hematovision.own_pictures import PLOT, mark_of
from train.evaluate import Evaluation, Interval, Scores

if TYPE_CHECKING:  # it imports TensorFlow, which the evaluation of a .tflite needs not wait for
    from train.fit import EpochResult

matplotlib.use("Agg")  # a picture file, never a window

#: Said wherever intervals are shown.
INTERVAL_NOTE = (
    "Intervals: 95 %, from resampling originals; one of no width means that no error was seen, "
    "which still leaves room for an error rate of up to 3 / originals."
)


def _percent(interval: Interval) -> str:
    return "–" if math.isnan(interval.value) else str(interval)


def _rows(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Name of a figure, per file, per original."""
    files, originals = evaluation.files, evaluation.originals
    rows = [("cells", str(files.count), str(originals.count))]
    for title, attribute in (
        ("accuracy", "accuracy"),
        ("balanced accuracy", "balanced_accuracy"),
        ("calibration error", "calibration_error"),
        ("given a class", "coverage"),
        ("of these right", "named_accuracy"),
    ):
        rows.append((title, _percent(getattr(files, attribute)), _percent(getattr(originals, attribute))))
    for name in CLASS_NAMES:
        for measure in ("precision", "recall", "f1"):
            title = f"{name}: {'F1' if measure == 'f1' else measure}"
            by_file, by_original = getattr(files, measure), getattr(originals, measure)
            rows.append((title, _percent(by_file[name]), _percent(by_original[name])))
    return rows


def _closing_lines(evaluation: Evaluation) -> list[str]:
    lines = [
        f"Not found by the finder (counted as wrong): {evaluation.not_found}. "
        f"Images that could not be read (left out): {evaluation.unreadable}.",
    ]
    if evaluation.others:
        lines.append(
            f"Cells of no class: {evaluation.others}, of which {evaluation.others_declined} were given none."
        )
    return lines


def evaluation_table(evaluation: Evaluation) -> Table:
    """An evaluation for the terminal."""
    table = Table(
        title=evaluation.name, caption="\n".join(_closing_lines(evaluation)), caption_justify="left"
    )
    table.add_column("top-1")
    table.add_column("per file", justify="right")
    table.add_column("per original", justify="right")
    for row in _rows(evaluation):
        table.add_row(*row)
    return table


def confusion_table(scores: Scores, title: str) -> Table:
    """A confusion matrix for the terminal: rows truth, columns answer."""
    table = Table(title=title)
    table.add_column("truth \\ answer")
    for name in (*CLASS_NAMES, "not found"):
        table.add_column(name, justify="right")
    for name, row in zip(CLASS_NAMES, scores.confusion, strict=True):
        table.add_row(name, *map(str, row))
    return table


def evaluation_markdown(evaluation: Evaluation) -> str:
    """An evaluation as Markdown."""
    lines = [f"### {evaluation.name}", "", "| top-1 | per file | per original |", "|---|---|---|"]
    lines += [f"| {title} | {files} | {originals} |" for title, files, originals in _rows(evaluation)]
    for scores, count in ((evaluation.files, "per file"), (evaluation.originals, "per original")):
        lines += ["", f"| {count}: truth \\ answer | " + " | ".join((*CLASS_NAMES, "not found")) + " |"]
        lines.append("|---|" + "---|" * (len(CLASS_NAMES) + 1))
        for name, row in zip(CLASS_NAMES, scores.confusion, strict=True):
            lines.append(f"| {name} | " + " | ".join(map(str, row)) + " |")
    return "\n".join([*lines, "", *_closing_lines(evaluation), ""])


def fit_markdown(
    manifest: Manifest,
    settings: dict[str, Any],
    history: "Sequence[EpochResult]",
    evaluations: Sequence[Evaluation],
) -> str:
    """Report of a training run as Markdown."""
    training = manifest.training
    lines = [
        "# Training report",
        "",
        f"Crops of {manifest.crop.side_um:g} µm, {manifest.crop.side_px} pixels a side. "
        f"Temperature {manifest.temperature:.3f}, declines below {manifest.decline_below:.3f}; "
        "both fitted on the development cells.",
        "",
        "Settings: " + ", ".join(f"{key} {value}" for key, value in settings.items()) + ".",
        "",
        "| data | µm per pixel | training cells | development cells |",
        "|---|---|---|---|",
    ]
    for entry in training["data"]:
        sides = (", ".join(f"{n} {label}" for label, n in sorted(entry[side].items())) for side in _SIDES)
        lines.append(f"| {entry['name']} | {entry['um_per_pixel']:g} | " + " | ".join(sides) + " |")
    left_out = [f"{original} ({reason})" for original, reason in training["left_out"].items()]
    lines += ["", "Left out: " + (", ".join(left_out) or "nothing") + "."]
    last = history[-1]
    lines += [
        "",
        f"After epoch {last.epoch}: training loss {last.loss:.3f}, development loss "
        f"{last.development_loss:.3f}, accuracy {100 * last.development_accuracy:.1f} %.",
        "",
        "![curves](curves.png)",
        "",
        "## Development cells",
        "",
        "Never learnt from, but chosen on: expect less on images from elsewhere. " + INTERVAL_NOTE,
        "",
        "![confusion](confusion.png)",
        "",
    ]
    return "\n".join(lines) + "\n" + "\n".join(evaluation_markdown(evaluation) for evaluation in evaluations)


_SIDES = ("training", "development")


def draw_curves(history: "Sequence[EpochResult]", path: Path) -> None:
    """Loss and accuracy by epoch, as PNG."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    epochs = [result.epoch for result in history]
    losses.plot(epochs, [result.loss for result in history], label="training (augmented, smoothed labels)")
    losses.plot(epochs, [result.development_loss for result in history], label="development")
    losses.set(xlabel="epoch", ylabel="cross-entropy", ylim=(0, None))
    losses.legend()
    accuracies.plot(epochs, [100 * result.development_accuracy for result in history], label="accuracy")
    accuracies.plot(
        epochs, [100 * result.development_balanced_accuracy for result in history], label="balanced accuracy"
    )
    accuracies.set(xlabel="epoch", ylabel="development cells, %")
    accuracies.legend(loc="lower right")
    figure.savefig(path, dpi=120, metadata={"Comment": mark_of(PLOT)})


def draw_confusion(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Confusion matrices side by side, as PNG: counts, shaded by the share of each truth."""
    figure = Figure(figsize=(4.6 * len(evaluations), 4.2), layout="constrained")
    for axes, evaluation in zip(
        np.atleast_1d(figure.subplots(1, len(evaluations))), evaluations, strict=True
    ):
        draw_confusion_matrix(axes, evaluation.files.confusion, evaluation.name)
    figure.savefig(path, dpi=120, metadata={"Comment": mark_of(PLOT)})


def draw_confusion_matrix(axes: Axes, confusion: Sequence[Sequence[int]], title: str) -> None:
    """Counts (4, 5) of `Scores.confusion`, shaded by the share of each truth."""
    counts = np.array(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        shade = "#fdfdfd" if shares[row, column] > 0.5 else "#000000"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=shade)
    answers = (*CLASS_NAMES, "not found")
    axes.set_xticks(range(len(answers)), answers, rotation=30, ha="right")
    axes.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set(xlabel="answer", ylabel="truth", title=title)
