"""Disks that are mounted where no other process sees them."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from hematovision.errors import HematoVisionError, MissingPartError


def alone() -> list[str]:
    """Return what a command is begun with that mounts for itself alone.

    Raises:
        MissingPartError: there is no such program.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        raise MissingPartError("unshare is not installed; apt install util-linux brings it")
    return [unshare, "--mount"] if os.geteuid() == 0 else [unshare, "--map-root-user", "--mount"]


def may_mount() -> bool:
    """Return whether a disk can be mounted here."""
    try:
        tried = subprocess.run(  # noqa: S603
            [*alone(), "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
        )
    except MissingPartError:
        return False
    return tried.returncode == 0


def run_on_disk(mount: str, places: Sequence[str], command: Sequence[str]) -> None:
    """Run a command on a disk that is mounted for it alone.

    Args:
        mount: the shell's command that mounts it; $1, $2 … are the places.
        places: what it mounts, and where.
        command: what runs there.

    Raises:
        MissingPartError: no disk can be mounted here.
        HematoVisionError: the command fails.
    """
    tried = _run([*alone(), "sh", "-c", mount, "sh", *places])
    if tried.returncode:
        raise MissingPartError(
            f"no disk can be mounted here ({tried.stderr.strip()[-200:]}); run this as root"
        )
    then = f'{mount} && shift {len(places)} && exec "$@"'
    ended = _run([*alone(), "sh", "-c", then, "sh", *places, *command])
    if ended.returncode:
        raise HematoVisionError(
            f"the process on the disk ended with {ended.returncode}: {ended.stderr.strip()[-500:]}"
        )


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
