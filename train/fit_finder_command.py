"""``hematovision train fit-finder``: fields with boxed cells in, a finder out."""

import dataclasses
import importlib.metadata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hematovision.heat_map import FINDER_UM_PER_PIXEL
from hematovision.model_file import FinderManifest, file_hash, write_keras_manifest
from hematovision.terminal.progress import Progress
from train.console import stderr, stdout
from train.cross_validate_command import BOXED_DATA, finder_options
from train.quiet import tensorflow_kept_quiet

#: Width and height of the piece of a field that the converted network takes at once: a frame of 1280x960
#: pixels at 0.1 µm per pixel.
PIECE_PX = 256, 192


@click.command("fit-finder", epilog=BOXED_DATA)
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the run; the same command goes on in it.",
)
@click.option(
    "--leave-out", multiple=True, help="A laboratory that nothing is learnt from, by its name; for proofs."
)
@click.option(
    "--threshold",
    default=0.5,
    show_default=True,
    help="Heat above which a place is a cell: chosen on laboratories left out (train cross-validate).",
)
@click.option(
    "--weights",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A finder (.keras) to go on from; without it learning begins anew.",
)
@finder_options(epochs=26)
def fit_finder_command(
    data: Sequence[str],
    folder: Path,
    leave_out: Sequence[str],
    threshold: float,
    weights: Path | None,
    **settings: Any,
) -> None:
    """Learn to find nucleated cells from all fields of DATA that are not set aside for reporting.

    The same command again goes on with an interrupted run. Writes finder.keras with its manifest.
    """
    from train.finder.boxed_fields import identify, read_boxed_fields

    fields = [field for source in data for field in read_boxed_fields(source)]
    with Progress("Loading TensorFlow"), tensorflow_kept_quiet():
        from train.finder.fit import FinderSettings, choose_training_fields, fit_finder, read_finder_data

    finder_settings = FinderSettings(**settings)
    chosen = [
        field
        for field in choose_training_fields(fields, finder_settings.seed)
        if field.laboratory not in leave_out
    ]
    identity = {"fields_sha256": identify(chosen)}
    if weights is not None:
        identity["weights_sha256"] = file_hash(weights)
    with Progress() as progress:
        read = read_finder_data(chosen, progress.of("reading fields"))

        def on_step(done: int, total: int, loss: float) -> None:
            progress.at(f"training, loss {loss:.3f}", done, total)

        network = fit_finder(read, finder_settings, identity, folder, on_step, weights)
    counts = Counter(field.laboratory for field in chosen)
    stderr.print(", ".join(f"{name}: {count} fields" for name, count in sorted(counts.items())), markup=False)
    manifest = FinderManifest(
        um_per_pixel=FINDER_UM_PER_PIXEL,
        width_px=PIECE_PX[0],
        height_px=PIECE_PX[1],
        threshold=threshold,
        training={
            **dataclasses.asdict(finder_settings),
            **identity,
            "laboratories": dict(sorted(counts.items())),
            "left_out": sorted(leave_out),
        },
        tools={name: importlib.metadata.version(name) for name in ("keras", "tensorflow", "numpy")},
    )
    path = folder / "finder.keras"
    network.save(path)
    write_keras_manifest(path, manifest)
    stdout.print(str(path), soft_wrap=True, markup=False)
