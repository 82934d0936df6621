"""``hematovision service``: started with the machine, watched and started again by systemd."""

from pathlib import Path

import click

from edge.service import (
    Machine,
    Step,
    WriteFile,
    carry_out,
    check_booted,
    check_readable,
    install_steps,
    uninstall_steps,
)
from edge.service_status import read_status
from edge.service_unit import Program
from hematovision.errors import SettingError
from hematovision.images import shown_path

_root_option = click.option(
    "--root", metavar="DIR", default="/", help="Root folder of another machine's files, as of an image."
)
_dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")


@click.group()
def service() -> None:
    """Have systemd start the device with the machine, watch it and start it again."""


@service.command()
@_root_option
@_dry_run_option
def install(root: str, dry_run: bool) -> None:
    """Install the service: a user of its own, the unit, and settings to start from where there are none.

    The program is the one that this command belongs to. It is started where the settings name a camera.
    """
    machine = _machine(root)
    program = Program.this(machine.root)
    if not dry_run:
        machine.check_changeable()
        if machine.is_this:
            check_readable(program)
    _do(install_steps(machine, program, click.echo), machine, dry_run)
    if machine.is_this and not dry_run:
        click.echo("Installed; hematovision service status says how it does.")


@service.command()
def status() -> None:
    """Say how the service does; ends with status 3 where it does not run, 4 where it is not installed."""
    check_booted()
    found = read_status()
    for line in found.lines:
        click.echo(line)
    raise SystemExit(found.exit_status)


@service.command()
@_root_option
@_dry_run_option
def uninstall(root: str, dry_run: bool) -> None:
    """Stop the service and take it away; what was counted and the settings are kept."""
    machine = _machine(root)
    if not dry_run:
        machine.check_changeable()
    _do(uninstall_steps(machine, click.echo), machine, dry_run)


def _machine(root: str) -> Machine:
    folder = Path(root).resolve()
    if not folder.is_dir():
        raise SettingError(f"--root {shown_path(root)}: no such folder; check the path")
    return Machine(folder)


def _do(steps: list[Step], machine: Machine, dry_run: bool) -> None:
    if not dry_run:
        carry_out(steps, machine, click.echo)
        return
    for step in steps:
        click.echo(f"Would {step}{':' if isinstance(step, WriteFile) else '.'}")
        if isinstance(step, WriteFile):
            click.echo("".join(f"    {line}\n" if line else "\n" for line in step.text.splitlines()))
