"""``hematovision bench peers``."""

import dataclasses
from pathlib import Path

import click

from benchmarks.latency import check_amount
from benchmarks.options import AskedModels, amount_options, model_options, progress, report_options
from benchmarks.peers import VARIANTS, measure_peers
from benchmarks.report import measuring
from benchmarks.results import Peer
from hematovision.errors import SettingError


@click.command()
@model_options
@amount_options
@report_options
def peers(models: AskedModels, invocations: int, seconds: float, out: Path | None, force: bool) -> None:
    """The same weights as others run them, side by side with the device's own way.

    On ONNX Runtime, in float and quantised; on OpenCV's dnn module; by Keras's predict, called for every
    crop; on an interpreter built anew for every crop. All see the crops that the quantiser was shown. One is
    timed only if it answers as our variant of the same weights does, on one thread and on all. What is not
    installed is listed. Exit status 1 where one answers otherwise, or fails.
    """
    check_amount(invocations, seconds)
    names = tuple(name for name in VARIANTS if name in models.names)
    if not names:
        raise SettingError(
            f"--variant {' --variant '.join(models.names)}: peers are made of, and compared with, "
            f"{', '.join(VARIANTS)}; give some of these, or leave --variant away"
        )
    found: list[Peer] = []
    with measuring(out, force) as run, progress() as say:
        built, unmeasured = dataclasses.replace(models, names=names).open(say)
        for model in built:
            of_model, not_measured = measure_peers(model, invocations, seconds, say)
            found += of_model
            unmeasured += not_measured
    run.conclude(
        variants=[variant for model in built for variant in model.variants],
        peers=found,
        unmeasured=unmeasured,
    )
