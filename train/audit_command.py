"""``hematovision train audit``: the audit's figures and findings on the terminal, and as JSON."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from hematovision.terminal.progress import Progress
from train.audit import AuditReport, Finding, audit_datasets
from train.console import check_places, say_of_no_class, stdout, write_json
from train.datasets import LabelledImage, read_dataset

#: Lines of each list on the terminal; the rest is counted, and in the JSON file.
_SHOWN = 10

_SAME_CELL = {True: "yes", False: "no", None: "not known"}


@click.command()
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the whole report here: every pair, group and finding.",
)
@click.pass_context
def audit(context: click.Context, data: Sequence[str], json_path: Path | None) -> None:
    """Audit the labelled images of DATA before training on them.

    Counts them, lists unreadable files, and finds by content alone the images that show the same piece of a
    slide (exact copies; rotated, mirrored, shifted, cropped, resized, brightened ones; second photographs):
    such pairs across the train and test sides, and cells with two labels. Several DATA are audited together.
    With a scale (FOLDER@0.104: µm per pixel) it tells whether overlapping fields show the same cell.

    Exit status: 0 when nothing is wrong, 1 when a file is unreadable, a pair lies across the sides of a
    split or a cell has (or may have) two labels, 2 when the command line is wrong.
    """
    datasets = [read_dataset(source) for source in data]
    for dataset in datasets:
        say_of_no_class(dataset)
    check_places(json_path)
    with Progress() as progress:
        report = audit_datasets(datasets, progress.at)
    if json_path:
        write_json(json_path, report.to_json())
    _show(report, stdout)
    context.exit(0 if report.is_clean else 1)


def _show(report: AuditReport, console: Console) -> None:
    names = _short_names(image for group in report.groups for image in group)
    console.print(_counts_table(report))
    for dataset, reason, images in report.dropped:
        console.print(f"{dataset}: {images} left out: {reason}", soft_wrap=True)
    for _, reason in report.unreadable[:_SHOWN]:
        console.print(f"unreadable: {reason}", soft_wrap=True, markup=False)
    if len(report.unreadable) > _SHOWN:
        console.print(f"… and {len(report.unreadable) - _SHOWN} more unreadable")
    if report.leaks:
        console.print(_findings_table("On both sides of the split", report.leaks, report, names))
    if report.label_conflicts:
        console.print(_findings_table("One cell, two labels", report.label_conflicts, report, names))
    on_one_side = [group for group in report.groups if len({image.side for image in group}) == 1]
    if on_one_side:
        console.print(_groups_table(on_one_side, names))
    console.print(_summary(report), soft_wrap=True)


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )


def _counts_table(report: AuditReport) -> Table:
    sides = sorted({count.side for count in report.counts}, key=lambda side: side or "")
    table = _table("Images")
    table.add_column("data set")
    table.add_column("label")
    for side in sides:
        table.add_column(side or "no side", justify="right")
    cells = {(count.dataset, count.label, count.side): count.images for count in report.counts}
    for dataset, label in dict.fromkeys((count.dataset, count.label) for count in report.counts):
        table.add_row(dataset, label, *(str(cells.get((dataset, label, side), "")) for side in sides))
    return table


def _findings_table(
    title: str, findings: Sequence[Finding], report: AuditReport, names: dict[LabelledImage, str]
) -> Table:
    """One row for each group, its worst pair: the same cell first, then the largest overlap."""
    group_of = {image: number for number, group in enumerate(report.groups) for image in group}
    rank = {True: 0, None: 1, False: 2}
    ordered = sorted(findings, key=lambda finding: (rank[finding.same_cell], -finding.pair.overlap))
    worst: dict[int, Finding] = {}
    pairs: dict[int, int] = {}
    for finding in ordered:
        number = group_of[finding.pair.first]
        worst.setdefault(number, finding)
        pairs[number] = pairs.get(number, 0) + 1
    table = _table(f"{title} (groups: {len(worst)}, pairs: {len(findings)}); the worst pair of each group")
    table.add_column("images", overflow="fold")
    table.add_column("label")
    table.add_column("side")
    for column in ("overlap", "score", "same cell", "pairs"):
        table.add_column(column, justify="right")
    for number, finding in list(worst.items())[:_SHOWN]:
        pair = finding.pair
        table.add_row(
            f"{names[pair.first]}\n{names[pair.second]}",
            f"{pair.first.label}\n{pair.second.label}",
            f"{pair.first.side or '–'}\n{pair.second.side or '–'}",
            f"{100 * pair.overlap:.0f} %",
            "exact" if pair.kind == "exact" else f"{pair.score:.2f}",
            _SAME_CELL[finding.same_cell],
            str(pairs[number]),
        )
    if len(worst) > _SHOWN:
        table.caption = f"… and {len(worst) - _SHOWN} more groups"
    return table


def _groups_table(groups: Sequence[Sequence[LabelledImage]], names: dict[LabelledImage, str]) -> Table:
    table = _table(f"Repeated on one side (groups: {len(groups)}); two images of each group")
    table.add_column("images", overflow="fold")
    table.add_column("labels")
    table.add_column("side")
    table.add_column("images in group", justify="right")
    for group in groups[:_SHOWN]:
        labels = dict.fromkeys(image.label for image in group)
        example = "\n".join(names[image] for image in group[:2])
        table.add_row(example, "\n".join(labels), group[0].side or "–", str(len(group)))
    if len(groups) > _SHOWN:
        table.caption = f"… and {len(groups) - _SHOWN} more groups, none larger"
    return table


def _summary(report: AuditReport) -> str:
    exact = sum(pair.kind == "exact" for pair in report.pairs)
    lines = [
        f"{exact} exact and {len(report.pairs) - exact} near pairs, in {len(report.groups)} groups that show "
        "the same piece of a slide."
    ]
    if report.neighbours:
        lines.append(
            f"{report.neighbours} pairs with different labels overlap but show different cells: no conflict."
        )
    if report.is_clean:
        lines.append("Nothing wrong.")
    else:
        sure = sum(finding.same_cell is True for finding in report.label_conflicts)
        unsure = len(report.label_conflicts) - sure
        lines.append(
            f"Wrong: {len(report.unreadable)} unreadable files, {len(report.leaks)} pairs on both sides, "
            f"{sure} pairs of one cell with two labels and {unsure} that may be so."
        )
    return "\n".join(lines)


def _short_names(images: Iterable[LabelledImage]) -> dict[LabelledImage, str]:
    """Paths below the folder that all have in common."""
    images = list(images)
    if not images:
        return {}
    common = os.path.commonpath([image.path.parent for image in images])
    return {image: os.path.relpath(image.path, common) for image in images}
