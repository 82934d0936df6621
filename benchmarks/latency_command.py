"""``hematovision bench latency``."""

from pathlib import Path

import click

from benchmarks.contenders import RUNTIMES, cores, list_contenders, missing_runtimes
from benchmarks.latency import check_amount, time_contenders, with_rates
from benchmarks.options import AskedModels, amount_options, model_options, progress, report_options
from benchmarks.report import measuring
from hematovision.errors import MissingPartError, SettingError


@click.command()
@model_options
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice(RUNTIMES),
    help="What to run on; may be given several times. All that are installed, if not given.",
)
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(min=1),
    help="How many to compute with; may be given several times. 1, 2 and all cores, if not given.",
)
@amount_options
@report_options
def latency(
    models: AskedModels,
    runtimes: tuple[str, ...],
    threads: tuple[int, ...],
    invocations: int,
    seconds: float,
    out: Path | None,
    force: bool,
) -> None:
    """Time from a crop to its logits, one crop at a time, by variant, runtime, kernels and threads.

    All are timed in turn in one run, each in a process of its own; ratios are to the first int8 variant on
    LiteRT with XNNPACK and one thread. Exit status 1 where something could not be timed.
    """
    check_amount(invocations, seconds)
    missing = missing_runtimes()
    for runtime in runtimes:
        if runtime in missing:
            raise MissingPartError(f"--runtime {runtime}: {missing[runtime]}")
    for count in threads:
        if count > cores():
            raise SettingError(
                f"--threads {count}: this process may use {cores()} cores; give at most as many"
            )
    with measuring(out, force) as run, progress() as say:
        built, not_built = models.open(say)
        contenders, left_out = list_contenders(
            {model.name: model.files for model in built}, runtimes or RUNTIMES, sorted(set(threads)) or None
        )
        rows, failures = time_contenders(
            contenders, {model.name: model.crops() for model in built}, invocations, seconds, say
        )
        variants = [variant for model in built for variant in model.variants]
    run.conclude(
        variants=variants,
        latency=with_rates(rows, variants),
        unmeasured=[*not_built, *left_out, *failures],
    )
