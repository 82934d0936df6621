"""``hematovision train``: data sets in, a proved Keras model out."""

import click

from train.audit_command import audit
from train.console import stdout
from train.cross_validate_command import cross_validate
from train.evaluate_command import evaluate_command
from train.fit_command import fit
from train.fit_finder_command import fit_finder_command


@click.group()
def train() -> None:
    """Data sets: download, audit. Models: fit, fit-finder, evaluate, cross-validate."""


for command in (audit, fit, fit_finder_command, evaluate_command, cross_validate):
    train.add_command(command)


@train.command()
@click.argument("collection", type=click.Choice(["kaggle"]))
def download(collection: str) -> None:  # noqa: ARG001 (one collection so far)
    """Fetch a public data set; prints the folder that it is in."""
    from train.download import download_kaggle

    stdout.print(str(download_kaggle()), soft_wrap=True, markup=False)
