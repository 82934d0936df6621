"""``hematovision token``: the token that opens the web page."""

import sys
from pathlib import Path

import click

from edge.command_options import with_state_folder
from edge.token import new_token, token_path
from hematovision.errors import SettingError
from hematovision.images import shown_path


@click.group()
def token() -> None:
    """The token that opens the web page."""


@token.command()
@with_state_folder
@click.option("--yes", is_flag=True, help="Do not ask whether the token before may become void.")
def new(folder: Path, yes: bool) -> None:
    """Make a token and print it, this once; the one before, if any, opens nothing any more.

    Where there is one already, it is asked first, and refused where nobody can answer, unless --yes is given.
    Only its hash is kept, in the state folder. The page asks for the token before anything is changed, and
    for looking too where other machines reach it. A running page takes the new token at once.
    """
    if not yes and token_path(folder).exists():  # damaged or not
        if not sys.stdin.isatty():
            raise SettingError(
                f"{shown_path(folder)}: there is a token already, and another makes it void; give --yes "
                "where that is meant"
            )
        question = "There is a token already. Make it void, and sign everybody out?"
        click.confirm(question, abort=True, err=True)
    made = new_token(folder)
    click.echo(made)
    click.echo(
        f"Keep it: it is not shown again. Its hash is in {shown_path(folder)}; a token before it is void.",
        err=True,
    )
