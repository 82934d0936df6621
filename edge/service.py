"""Installing the device as a service of systemd, and taking it away again.

What is to be done is first put together, as files and commands; then it is shown or carried out.
"""

import os
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.config import DEFAULT_FILE, Settings, StoreSettings, find_settings
from edge.config_text import starting_file
from edge.service_unit import STATE_FOLDER, SYSUSERS, UNIT, USER, Program, unit_text
from hematovision.errors import HematoVisionError, MissingPartError, SettingError
from hematovision.images import shown_path

UNIT_FILE = Path("/etc/systemd/system") / UNIT
SYSUSERS_FILE = Path("/etc/sysusers.d") / f"{USER}.conf"
#: Of a device left alone, which makes room on a full card by deleting its oldest sessions; nothing else does
#: so unless it is told to.
KEEP_FREE_MB = 500
_GROUP_FILE = Path("/etc/group")
_BOOTED = Path("/run/systemd/system")  # as sd_booted(3) has it
# Longer than the service may take to start, for which systemctl waits.
_COMMAND_LIMIT_S = 330.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class WriteFile:
    """A file to be written, by its path on the machine; ``private``: for root and the service only."""

    path: Path
    text: str
    private: bool = False

    def __str__(self) -> str:
        return f"write {self.path}{f', for root and the group {USER} only' if self.private else ''}"


@dataclass(frozen=True)
class RemoveFile:
    """A file to be removed, by its path on the machine."""

    path: Path

    def __str__(self) -> str:
        return f"remove {self.path}"


@dataclass(frozen=True)
class RunCommand:
    """A program to be run, with its arguments."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"run {' '.join(self.words)}"


Step = WriteFile | RemoveFile | RunCommand


@dataclass(frozen=True)
class Machine:
    """Where to install: on this machine, or in the files of another one, which lie below ``root``."""

    root: Path = Path("/")

    @property
    def is_this(self) -> bool:
        """Whether it is the machine that this runs on."""
        return self.root == Path("/")

    def path(self, path: Path) -> Path:
        """Where a path of the machine is here."""
        return self.root / path.relative_to("/")

    def command(self, program: str, *arguments: str) -> RunCommand:
        """A program of systemd's, told which machine is meant."""
        where = () if self.is_this else (f"--root={self.root}",)
        return RunCommand((program, *where, *arguments))

    def check_changeable(self) -> None:
        """Raise where services cannot be installed or taken away.

        Raises:
            MissingPartError: systemd does not run this machine.
            SettingError: this user may not.
        """
        if self.is_this:
            check_booted()
            if os.geteuid() != 0:
                raise SettingError("services are installed and taken away by root; call this with sudo")


def check_booted() -> None:
    """Raise `MissingPartError` where systemd does not run this machine."""
    if not _BOOTED.is_dir():
        raise MissingPartError(
            "systemd does not run this machine, so it has no services; service install --root DIR writes the "
            "files for another one, --dry-run shows them"
        )


def check_readable(program: Program) -> None:
    """Raise `SettingError` where a folder is closed to the service's user, as people's homes are."""
    for place in (program.python, *program.folders):
        for folder in (*reversed(place.parents), place):
            if folder.is_dir() and not folder.stat().st_mode & stat.S_IXOTH:
                raise SettingError(
                    f"{place}: the service's user may not enter {folder}; install hematovision in an "
                    "environment elsewhere, such as /opt/hematovision, and call that one's service install"
                )


def install_steps(machine: Machine, program: Program, say: Say) -> list[Step]:
    """What it takes to install the service; what a person should know beside is said.

    Raises:
        SettingError: the settings that are there cannot be read, or a path cannot stand in a unit.
    """
    here = machine.path(DEFAULT_FILE)
    is_new = not here.exists()
    settings = Settings(store=StoreSettings(folder=str(STATE_FOLDER), keep_free_mb=KEEP_FREE_MB))
    if not is_new:
        found = find_settings(here)
        settings = found.settings
        say(f"{DEFAULT_FILE} is there and stays as it is.")
        for mistake in found.mistakes:
            say(f"The service will not start with this mistake: {mistake}")
        if not settings.store.folder:
            say(
                f"store.folder is not set: the service uses {STATE_FOLDER}, but hematovision token and "
                f'sessions look elsewhere. Write folder = "{STATE_FOLDER}" below [store].'
            )
    elsewhere = [Path(settings.store.folder)] if settings.store.folder not in ("", str(STATE_FOLDER)) else []
    for folder in elsewhere:
        say(f"store.folder is {shown_path(folder)}: it must exist and belong to the user {USER}.")
    steps: list[Step] = [
        WriteFile(SYSUSERS_FILE, SYSUSERS),
        machine.command("systemd-sysusers", SYSUSERS_FILE.name),
        WriteFile(UNIT_FILE, unit_text(program, DEFAULT_FILE, elsewhere)),
    ]
    if is_new:
        steps.append(WriteFile(DEFAULT_FILE, "\n".join(starting_file(settings)) + "\n", private=True))
    if machine.is_this:
        steps.append(machine.command("systemctl", "daemon-reload"))
        if not _memory_is_limited():
            say(
                "The kernel limits no service's memory. Add cgroup_enable=memory to the line in "
                "/boot/firmware/cmdline.txt and start the machine anew; until then MemoryMax does nothing."
            )
    steps.append(machine.command("systemctl", "enable", UNIT))
    if not settings.camera.source:
        say(
            f"Not started, since no camera is named: set source and um_per_pixel below [camera] in "
            f"{DEFAULT_FILE}, try hematovision config check, then systemctl start {USER}."
        )
    elif machine.is_this:
        # Not enable --now: what runs already is to become the new one. Not waited for: --no-block.
        steps.append(machine.command("systemctl", "--no-block", "restart", UNIT))
    return steps


def uninstall_steps(machine: Machine, say: Say) -> list[Step]:
    """What it takes to take the service away; nothing where it is not installed. Says what is kept."""
    if not machine.path(UNIT_FILE).exists():
        say(f"There is no {UNIT_FILE}: nothing to take away.")
        return []
    here = machine.path(DEFAULT_FILE)
    folder = find_settings(here).settings.store.folder if here.exists() else ""
    say(
        f"Kept: what was counted, in {shown_path(folder or STATE_FOLDER)}; the settings, {DEFAULT_FILE}; the "
        f"user {USER}, to whom they belong."
    )
    return [
        machine.command("systemctl", "disable", *(("--now",) if machine.is_this else ()), UNIT),
        RemoveFile(UNIT_FILE),
        RemoveFile(SYSUSERS_FILE),
        *((machine.command("systemctl", "daemon-reload"),) if machine.is_this else ()),
    ]


def carry_out(steps: Sequence[Step], machine: Machine, say: Say) -> None:
    """Do it, saying each step once it is done.

    Raises:
        MissingPartError: a program of systemd's is not installed.
        HematoVisionError: a step failed; those said before are done.
    """
    for step in steps:
        try:
            if isinstance(step, WriteFile):
                _write(step, machine)
            elif isinstance(step, RemoveFile):
                machine.path(step.path).unlink(missing_ok=True)
            else:
                run_program(step.words)
        except OSError as error:
            raise HematoVisionError(
                f"could not {step} ({error.strerror}); put that right, and again"
            ) from error
        say(f"Done: {step}.")


def run_program(words: Sequence[str]) -> str:
    """Run a program and return what it printed.

    Raises:
        MissingPartError: it is not installed.
        HematoVisionError: it failed; its own last line says why.
    """
    try:
        ended = subprocess.run(  # noqa: S603 (no part of it comes from outside)
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_COMMAND_LIMIT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise MissingPartError(
            f"{words[0]} is not installed; it comes with systemd: apt install systemd"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise HematoVisionError(f"{' '.join(words)}: no answer within {_COMMAND_LIMIT_S:g} s") from error
    if ended.returncode != 0:
        said = shown_path((ended.stderr.strip().splitlines() or ["it does not say why"])[-1])
        raise HematoVisionError(f"{' '.join(words)}: ended with status {ended.returncode}: {said}")
    return ended.stdout


def _write(step: WriteFile, machine: Machine) -> None:
    path = machine.path(step.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 (it is open already)
        file.write(step.text)
        file.flush()
        if step.private and os.geteuid() == 0:
            os.fchown(descriptor, 0, _group_id(machine))
        os.fchmod(descriptor, 0o640 if step.private else 0o644)
        os.fsync(descriptor)
    new.replace(path)


def _group_id(machine: Machine) -> int:
    """The number of the service's group; it is in this file since systemd-sysusers ran."""
    for line in machine.path(_GROUP_FILE).read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, number, *_ = (*line.split(":"), "", "")
        if name == USER and number.isdecimal():
            return int(number)
    raise HematoVisionError(f"systemd-sysusers made no group {USER}; look into the journal, and again")


def _memory_is_limited() -> bool:
    try:
        controllers = Path("/sys/fs/cgroup/cgroup.controllers").read_text(encoding="utf-8").split()
    except OSError:
        return True  # an older kind of cgroups: not known
    return "memory" in controllers
