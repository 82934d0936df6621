"""``hematovision sessions``: what the device has kept."""

import json
import shlex
from datetime import datetime
from pathlib import Path
from time import sleep

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edge.command_options import with_state_folder
from edge.store import FILE_NAME, Session, back_up, open_reader, open_writer
from edge.store.database import explained, transaction
from edge.store.export import corrections_in, session_record, write_crops, write_json, write_table
from edge.store.housekeeping import shrink
from edge.store.reader import MAX_ID, Reader
from edge.store.statements import delete_session, save_corrections
from hematovision.cell_classes import CELL_CLASSES, UNCLASSIFIED
from hematovision.errors import StoreError
from hematovision.images import shown_path

# How long a deletion waits for a daemon that is writing.
_BUSY_S = 10.0
# And how long it lets a daemon write between two steps: one that waits looks every 0.1 s.
_PAUSE_S = 0.15
_NUMBER = click.IntRange(min=1, max=MAX_ID)


@click.group()
def sessions() -> None:
    """Counts that were kept: list, show, export, delete, back up. All of them also while a device counts."""


@sessions.command("list")
@click.option("--limit", default=20, show_default=True, type=_NUMBER, help="The newest so many.")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form."
)
@with_state_folder
def list_sessions(folder: Path, limit: int, form: str) -> None:
    """List the sessions, newest first."""
    with open_reader(folder) as reader:
        found = reader.sessions(limit)
        if form == "json":
            records = [session_record(reader, one.id) for one in found]
            click.echo(json.dumps(records, indent=1, allow_nan=False))
            _say_unreadable(reader)
            return
        table = Table()
        for heading in ("Session", "Cells"):
            table.add_column(heading, justify="right")
        going = ("To be deleted",) if any(one.going for one in found) else ()
        for heading in ("Sample", "Operator", "Started", "Ended", "Because", *going):
            table.add_column(heading, overflow="fold")
        for one in found:
            texts = (
                one.sample,
                one.operator,
                _local(one.started_at),
                _end(one),
                one.ended_because or "",
                *([one.going] if going else []),
            )
            # As Text: a name may hold what rich takes for markup.
            table.add_row(
                str(one.id), str(reader.count_cells(one.id)), *(Text(shown_path(text)) for text in texts)
            )
    _console().print(table)
    _say_unreadable(reader)


@sessions.command()
@click.argument("session_id", metavar="ID", type=_NUMBER)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form."
)
@with_state_folder
def show(folder: Path, session_id: int, form: str) -> None:
    """Show session ID: its differential as classified and as corrected by people, with 95 % limits."""
    # These need SciPy, which takes longer to load than all the rest.
    from edge.differential import classifier_error
    from edge.tally import share_row

    with open_reader(folder) as reader:
        if form == "json":
            click.echo(json.dumps(session_record(reader, session_id), indent=1, allow_nan=False))
            _say_unreadable(reader)
            return
        session = reader.session(session_id)
        classified, corrected = reader.differential(session_id)
        events = reader.events(session_id=session_id)
    table = Table(title=f"session {session.id}")
    table.add_column("Class")
    for kind in ("classified", "corrected"):
        for heading in (f"Cells, {kind}", "%", "95 % limits"):
            table.add_column(heading, justify="right")
    for one in CELL_CLASSES:
        table.add_row(one.name, *share_row(classified.share(one.name)), *share_row(corrected.share(one.name)))
    table.add_section()
    table.add_row(
        f"{UNCLASSIFIED}, of all",
        *share_row(classified.unclassified_share),
        *share_row(corrected.unclassified_share),
    )
    console = _console()
    console.print(table)
    target = "no target" if session.target is None else f"target {session.target}"
    for line in (
        f"Sample: {session.sample or '–'}. Operator: {session.operator or '–'}.",
        f"Started {_local(session.started_at)}, ended: {_end(session)}"
        f"{f' ({session.ended_because})' if session.ended_because else ''}, continued {session.continued} "
        f"times, {target}.",
        *([f"To be deleted {session.going}."] if session.going else []),
        f"Camera: {session.camera}, {_scale(session)}.",
        f"Model: {session.model_name} ({session.model_hash[:12]}).",
        classifier_error(session.settings.get("accuracy", {})),
        *(f"{_local(event.at)} {event.kind}: {event.text}" for event in reversed(events)),
    ):
        console.print(shown_path(line), markup=False, soft_wrap=True)
    _say_unreadable(reader)


@sessions.command()
@click.argument("session_id", metavar="ID", type=_NUMBER)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "json", "crops"]),
    required=True,
    help="csv: a row for every cell; json: the session and its cells; crops: a folder of images by class "
    "that hematovision train fit reads, corrected labels included.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="New file; of crops, new or empty folder."
)
@with_state_folder
def export(folder: Path, session_id: int, form: str, out: Path) -> None:
    """Write session ID to files."""
    with open_reader(folder) as reader:
        last = corrections_in(reader, session_id, form)
        if form == "crops":
            written = write_crops(reader, session_id, out)
            click.echo(
                f"{shown_path(out)}: {', '.join(f'{n} {name}' for name, n in written.counts.most_common())}; "
                f"{written.unclassified} unclassified left out."
            )
            scale = f"{written.um_per_pixel:.6g}" if written.um_per_pixel else "UM_PER_PIXEL"
            source = shlex.quote(f"{out}@{scale}")
            click.echo(f"To learn from them: hematovision train fit {shown_path(source)} --out FOLDER")
        else:
            (write_table if form == "csv" else write_json)(reader, session_id, out)
            click.echo(f"{shown_path(out)}: {reader.count_cells(session_id)} cells.")
    _say_unreadable(reader)  # what an export lacks, it keeps nothing from being deleted by
    _save_corrections(folder, last, session_id)


@sessions.command()
@click.argument("session_id", metavar="ID", type=_NUMBER)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_state_folder
def delete(folder: Path, session_id: int, yes: bool) -> None:
    """Delete session ID with its cells and corrections; the file gives their room back."""
    with open_reader(folder) as reader:
        session, cells = reader.session(session_id), reader.count_cells(session_id)
    if not yes:
        sample = f" of {shown_path(session.sample)}" if session.sample else ""
        click.confirm(f"Delete session {session_id}{sample} with its {cells} cells for good?", abort=True)
    with explained(folder / FILE_NAME), open_writer(folder, _BUSY_S) as connection:
        with transaction(connection):
            delete_session(connection, session_id, "by hand")
        click.echo(f"Session {session_id} is deleted, {cells} cells.")
        for _ in shrink(connection):
            sleep(_PAUSE_S)


@sessions.command()
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@with_state_folder
def backup(folder: Path, target: Path) -> None:
    """Copy the whole store to the new FILE, as it is at one moment, also while a device counts."""
    with open_reader(folder) as reader:
        last = reader.last_correction()
    made = back_up(folder, target)
    click.echo(
        f"{shown_path(target)}: {made.size / 1e6:.1f} MB, checked. To restore it: stop the device, and put it"
    )
    click.echo(f"in the place of {FILE_NAME}, with {FILE_NAME}-wal and -shm, if they are there, removed.")
    for line in made.lacking:
        click.echo(f"Error: {shown_path(line)}", err=True)
    if made.lacking:
        raise SystemExit(1)
    _save_corrections(folder, last)


def _save_corrections(folder: Path, last: int, session_id: int | None = None) -> None:
    """Record what an export or a backup holds, so that those corrections keep no session any more."""
    if not last:
        return
    try:
        with (
            explained(folder / FILE_NAME),
            open_writer(folder, _BUSY_S) as connection,
            transaction(connection),
        ):
            save_corrections(connection, last, session_id)
    except StoreError as error:
        # What was asked for is done: on a disk that is read-only, nothing is deleted either.
        click.echo(f"Not recorded in the store, which goes on keeping what was corrected: {error}", err=True)


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a file takes longer lines than nobody's terminal
    return console


def _say_unreadable(reader: Reader) -> None:
    """Name what could not be read; the command has failed to that extent."""
    if not reader.unreadable:
        return
    for line in reader.unreadable:
        click.echo(f"Error: {shown_path(line)}", err=True)
    raise SystemExit(1)


def _local(at: datetime | None) -> str:
    return "unreadable" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def _scale(session: Session) -> str:
    um_per_pixel = session.um_per_pixel
    return "scale unreadable" if um_per_pixel is None else f"{um_per_pixel:.4g} µm per pixel"


def _end(session: Session) -> str:
    return "open" if session.is_open else _local(session.ended_at)
