"""``hematovision token``: the token that opens the web page."""

import click

from edge.command_options import config_option
from edge.config import find_file, load_settings, state_folder
from edge.token import new_token
from hematovision.images import shown_path


@click.group()
def token() -> None:
    """The token that opens the web page."""


@token.command()
@config_option
def new(config: str | None) -> None:
    """Make a token and print it, this once; the one before, if any, opens nothing any more.

    Only its hash is kept, in the state folder. The page asks for the token before anything is changed, and
    for looking too where other machines reach it. A running page takes the new token at once.
    """
    folder = state_folder(load_settings(find_file(config)))
    made = new_token(folder)
    click.echo(made)
    click.echo(
        f"Keep it: it is not shown again. Its hash is in {shown_path(folder)}; a token before it is void.",
        err=True,
    )
