"""How the service does, asked of systemd and said in plain words."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from edge.service import run_program
from edge.service_unit import UNIT, USER, WATCHDOG_S
from hematovision.errors import RecoveryError, SettingError

#: As systemctl status ends: the service does not run; there is no such service.
NOT_RUNNING, NOT_INSTALLED = 3, 4

_PROPERTIES = (
    "LoadState",
    "UnitFileState",
    "ActiveState",
    "SubState",
    "ActiveEnterTimestamp",
    "StatusText",
    "MainPID",
    "MemoryCurrent",
    "NRestarts",
    "Result",
    "ExecMainCode",
    "ExecMainStatus",
)
_JOURNAL = f"journalctl -u {USER} says more"
_EXITED = "1"  # CLD_EXITED of waitpid(2); others are signals
# From here on the statuses are systemd's own: it could not start the program.
_FIRST_OF_SYSTEMD = 200
_STATUSES = {
    0: "it ended as it was told",
    1: f"something failed; {_JOURNAL}",
    SettingError.exit_status: "a setting cannot be right; hematovision config check says which",
    RecoveryError.exit_status: "the camera or the model did not recover, and a new process was to try",
}
_RESULTS = {
    "watchdog": f"it gave no sign of progress for {WATCHDOG_S} s; where it hung is in journalctl -u {USER}",
    "oom-kill": "it needed more memory than it may",
    "timeout": "it took too long to start or to stop",
    "resources": f"systemd lacked what it needed for it; {_JOURNAL}",
}


@dataclass(frozen=True)
class ServiceStatus:
    """What a person reads, by line, and what the command ends with."""

    lines: tuple[str, ...]
    exit_status: int


def read_status(run: Callable[..., str] = run_program) -> ServiceStatus:
    """Ask systemd.

    Raises:
        MissingPartError: there is no systemctl.
        HematoVisionError: it fails, as where systemd does not run the machine.
    """
    answer = run(("systemctl", "show", UNIT, f"--property={','.join(_PROPERTIES)}"))
    said = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
    if said.get("LoadState") == "not-found":
        return ServiceStatus(
            (f"{USER} is not installed as a service; hematovision service install does that.",), NOT_INSTALLED
        )
    runs = said.get("ActiveState") in ("active", "reloading")
    return ServiceStatus(tuple(_lines(said, runs)), 0 if runs else NOT_RUNNING)


def _lines(said: Mapping[str, str], runs: bool) -> Iterator[str]:
    state = f"{said.get('ActiveState', 'unknown')} ({said.get('SubState', '')})"
    since = said.get("ActiveEnterTimestamp", "")
    yield f"{USER}: {state}{f' since {since}' if runs and since else ''}."
    if said.get("LoadState") != "loaded":
        yield f"systemd cannot use {UNIT} ({said.get('LoadState')}); install the service again."
    if runs and said.get("StatusText"):
        yield f"It says: {said['StatusText']}"
    if runs:
        memory = said.get("MemoryCurrent", "")
        used = f", {int(memory) / 1e6:.0f} MB of memory" if memory.isdecimal() and int(memory) < 2**62 else ""
        yield f"Process {said.get('MainPID')}{used}."
    starts = {"enabled": "Starts with the machine.", "disabled": "Does not start with the machine."}
    if said.get("UnitFileState") in starts:
        yield starts[said["UnitFileState"]]
    restarts = said.get("NRestarts", "0")
    if restarts != "0":
        often = "once" if restarts == "1" else f"{restarts} times"
        yield f"systemd started it again {often} since somebody last did."
    ended = _ended(said)
    if ended and (not runs or restarts != "0"):
        yield f"It last ended so: {ended}."


def _ended(said: Mapping[str, str]) -> str:
    """How the last process ended, in words; nothing where none has."""
    result, code, status = (said.get(name, "") for name in ("Result", "ExecMainCode", "ExecMainStatus"))
    if result in _RESULTS:
        return _RESULTS[result]
    if not status.isdecimal() or code in ("", "0"):
        return ""
    if code != _EXITED:
        return f"signal {status}"
    if int(status) >= _FIRST_OF_SYSTEMD:
        return f"systemd could not start it (status {status}); {_JOURNAL}"
    return f"status {status}: {_STATUSES.get(int(status), _JOURNAL)}"
