"""``hematovision token``: the token that opens the web page."""

from pathlib import Path

import click

from edge.command_options import with_state_folder
from edge.token import new_token
from hematovision.images import shown_path


@click.group()
def token() -> None:
    """The token that opens the web page."""


@token.command()
@with_state_folder
def new(folder: Path) -> None:
    """Make a token and print it, this once; the one before, if any, opens nothing any more.

    Only its hash is kept, in the state folder. The page asks for the token before anything is changed, and
    for looking too where other machines reach it. A running page takes the new token at once.
    """
    made = new_token(folder)
    click.echo(made)
    click.echo(
        f"Keep it: it is not shown again. Its hash is in {shown_path(folder)}; a token before it is void.",
        err=True,
    )
