"""``hematovision bench accuracy``."""

from pathlib import Path

import click

from benchmarks.accuracy import DEFAULT_DATA, measure_accuracy
from benchmarks.options import AskedModels, model_options, progress, report_options
from benchmarks.report import measuring
from benchmarks.variants import data_folder
from hematovision.errors import SettingError
from train.console import DATA_HELP


@click.command(epilog=DATA_HELP)
@click.argument("sets", nargs=-1, metavar="[DATA]...")
@model_options
@report_options
def accuracy(models: AskedModels, sets: tuple[str, ...], out: Path | None, force: bool) -> None:
    """Float against quantised on the same held-out cells, through the device's own code.

    Every variant names the cells on the test side of each data set DATA, and is compared with the Keras
    network. Without DATA: the test sets of this project, in the folder that HEMATOVISION_DATA names.
    """
    if not sets and data_folder() is None:
        raise SettingError(
            "no DATA given and HEMATOVISION_DATA is not set: give data sets, or set it to the folder of "
            f"{', '.join(DEFAULT_DATA)}"
        )
    with measuring(out, force) as run, progress() as say:
        opened, not_built = models.open(say)
        measured, unmeasured = measure_accuracy(opened, sets, say)
    run.conclude(
        variants=[variant for model in opened for variant in model.variants],
        accuracy=measured,
        unmeasured=[*not_built, *unmeasured],
    )
