"""Disks that are mounted where no other process sees them."""

import os
import shutil
import subprocess

from hematovision.errors import MissingPartError


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
