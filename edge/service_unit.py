"""The systemd unit of the device: what it may, what it must not, and when it is started again."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import hematovision
from hematovision.errors import SettingError

USER = "hematovision"
UNIT = f"{USER}.service"
STATE_FOLDER = Path("/var/lib") / USER
#: systemd ends and restarts a service that gave no sign of progress for so long. The supervisor notices what
#: hangs by itself and sooner, so this is for where it hangs too.
WATCHDOG_S = 60

_HOMES = ("/home", "/root", "/run/user")
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 (looked for, not written to)

_TEMPLATE = """\
# Written by hematovision service install, and written anew by the next one.
# Changes of your own belong into what `systemctl edit {unit}` opens.
[Unit]
Description=HematoVision, white blood cells counted under a microscope
After=network.target time-sync.target
# DeviceAllow knows the kinds of devices that there are when the service starts: a camera that is plugged in
# later must be of a kind that is known by then.
Wants=modprobe@videodev.service modprobe@mc.service
After=modprobe@videodev.service modprobe@mc.service
# Started again for ever: a camera may be plugged in, a setting put right, at any time.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Restart=always
RestartSec=5
# It ends by itself within 5 s.
TimeoutStopSec=10
# A database of an older version may first have to be brought up to date.
TimeoutStartSec=300
WatchdogSec={watchdog_s}
Environment=PYTHONUNBUFFERED=1
# Where it hung when the watchdog ended it goes to the journal.
Environment=PYTHONFAULTHANDLER=1
LimitCORE=0
MemoryMax=1G
# A child that looks at a picture may be ended for want of memory, and the rest goes on.
OOMPolicy=continue
TasksMax=200

User={user}
Group={user}
StateDirectory={user}
StateDirectoryMode=0700
WorkingDirectory={state_folder}
UMask=0077
{read_write}
# The camera: V4L2 and media devices, the memory that their pictures come in, the firmware that knows of heat
# and voltage. All are the group's. Hence neither PrivateDevices nor PrivateUsers, which would hide them.
SupplementaryGroups=video
DevicePolicy=closed
DeviceAllow=char-video4linux rw
DeviceAllow=char-media rw
DeviceAllow=char-dma_heap rw
DeviceAllow=/dev/vcio rw
# libcamera finds cameras through udev: over netlink, and in /run/udev, which stays readable.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK

ProtectSystem=strict
ProtectHome={protect_home}
PrivateTmp={private_tmp}
PrivateMounts=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
# Not ProcSubset=pid: it hides what memory there is, and what the processor can.
ProtectProc=invisible
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
KeyringMode=private
LockPersonality=yes
# The interpreters make no code while they run (tested), nor does anything else here.
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
# They tell whether the clock is set. Setting it takes capabilities; ProtectClock would forbid asking, too.
SystemCallFilter=adjtimex clock_adjtime

[Install]
WantedBy=multi-user.target
"""

SYSUSERS = f"""\
# Written by hematovision service install: whom the service runs as.
u {USER} - "HematoVision" {STATE_FOLDER}
"""


@dataclass(frozen=True)
class Program:
    """What the service runs: ``python``, an interpreter, and all ``folders`` that it reads its code from."""

    python: Path
    folders: tuple[Path, ...]

    @classmethod
    def this(cls, root: Path = Path("/")) -> "Program":
        """The one that runs now, its paths as they are when ``root`` is the root folder."""
        package = Path(hematovision.__file__).parent
        places = [Path(place) for place in (sys.prefix, sys.base_prefix, *sys.path) if place]
        inside = [_inside(place, root) for place in (*places, package)]
        return cls(_inside(Path(sys.executable), root), tuple(dict.fromkeys(inside)))

    def lies_in(self, folders: Iterable[str]) -> bool:
        """Whether any of it lies in one of these folders."""
        return any(
            place.is_relative_to(folder) for place in (self.python, *self.folders) for folder in folders
        )


def unit_text(program: Program, config: Path, writable: Iterable[Path] = ()) -> str:
    """The unit as a file.

    Args:
        program: what it runs.
        config: its settings file.
        writable: folders beside the state folder that it writes to.

    Raises:
        SettingError: a path holds what cannot stand in a unit.
    """
    arguments = ("-P", "-m", "hematovision", "run", "--config", str(config))
    return _TEMPLATE.format(
        unit=UNIT,
        user=USER,
        state_folder=STATE_FOLDER,
        watchdog_s=WATCHDOG_S,
        command=" ".join(_quoted(word) for word in (str(program.python), *arguments)),
        read_write="".join(f"ReadWritePaths={_quoted(str(folder))}\n" for folder in writable),
        # Code in a home folder must stay readable.
        protect_home="read-only" if program.lies_in(_HOMES) else "yes",
        private_tmp="no" if program.lies_in(_TEMPORARY) else "yes",
    )


def _quoted(word: str) -> str:
    if not word.isprintable() or set(word) & set("$'\"\\"):
        raise SettingError(f"{word!r}: systemd takes no path with such characters; use another one")
    escaped = word.replace("%", "%%")
    return f'"{escaped}"' if " " in word else escaped


def _inside(path: Path, root: Path) -> Path:
    return Path("/") / path.relative_to(root) if path.is_relative_to(root) else path
