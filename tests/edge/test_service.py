"""The service: its unit judged by systemd's own tools, its installation by the calls that it makes."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.config import load_settings
from edge.service import Machine, RunCommand, install_steps, run_program
from edge.service_status import read_status
from edge.service_unit import Program, unit_text
from hematovision.cli import root
from hematovision.errors import HematoVisionError, MissingPartError, SettingError

CONFIG = Path("/etc/hematovision.toml")
PROGRAM = Program(Path(sys.executable), (Path("/opt/hematovision"), Path("/usr")))


def call(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["service", *arguments])


def directives(text: str) -> list[str]:
    return [line for line in text.splitlines() if "=" in line and not line.startswith("#")]


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    path = tmp_path / "hematovision.service"
    path.write_text(unit_text(PROGRAM, CONFIG))
    return path


# The unit


def test_systemd_accepts_the_unit_without_a_word(unit: Path) -> None:
    result = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_systemd_finds_the_unit_well_protected(unit: Path) -> None:
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=True,
    )
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", result.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= 2.5  # at most 4.0 is wanted; systemd 252 finds 2.2


def test_the_unit_is_watched_started_again_for_ever_and_runs_as_a_user_of_its_own(unit: Path) -> None:
    lines = directives(unit.read_text())
    for line in (
        "Type=notify",
        "WatchdogSec=60",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "User=hematovision",
        "StateDirectory=hematovision",
        "MemoryMax=1G",
        "OOMPolicy=continue",
        "ProtectSystem=strict",
        f"ExecStart={sys.executable} -P -m hematovision run --config /etc/hematovision.toml",
    ):
        assert line in lines


def test_the_unit_can_still_reach_a_camera(unit: Path) -> None:
    lines = directives(unit.read_text())
    for line in (
        "SupplementaryGroups=video",
        "DeviceAllow=char-video4linux rw",
        "DeviceAllow=char-media rw",
        "DeviceAllow=char-dma_heap rw",
    ):
        assert line in lines
    # Else a camera plugged in after the start would stay forbidden.
    assert "Wants=modprobe@videodev.service modprobe@mc.service" in lines
    families = next(line for line in lines if line.startswith("RestrictAddressFamilies="))
    assert "AF_NETLINK" in families
    for hiding in (
        "PrivateDevices=",
        "PrivateUsers=",
        "InaccessiblePaths=",
        "ProcSubset=",
        "PrivateNetwork=",
    ):
        assert not [line for line in lines if line.startswith(hiding)]


@pytest.mark.parametrize(
    ("place", "home", "temporary"),
    [
        ("/opt/hematovision", "yes", "yes"),
        ("/home/anna/hematovision", "read-only", "yes"),
        ("/root/.venv", "read-only", "yes"),
        ("/homes/hematovision", "yes", "yes"),
        ("/tmp/venv", "yes", "no"),
    ],
)
def test_the_folders_that_the_program_lies_in_stay_visible_and_no_others(
    place: str, home: str, temporary: str
) -> None:
    lines = directives(unit_text(Program(Path("/usr/bin/python3"), (Path(place),)), CONFIG))
    assert f"ProtectHome={home}" in lines
    assert f"PrivateTmp={temporary}" in lines


def test_paths_stand_in_the_unit_as_systemd_reads_them(tmp_path: Path) -> None:
    python = tmp_path / "a b 100%; #µ" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    text = unit_text(Program(python, ()), CONFIG, [Path("/srv/cells 1")])
    assert 'ReadWritePaths="/srv/cells 1"' in text
    unit = tmp_path / "hematovision.service"
    unit.write_text(text)
    result = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", ["a\nExecStart=/bin/b", "$HOME", 'a"b', "a'b", "a\\b", "a\x1bb"])
def test_a_path_that_systemd_would_read_otherwise_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="systemd takes no path with such characters"):
        unit_text(Program(Path("/opt") / name / "python", ()), CONFIG)
    with pytest.raises(SettingError, match="systemd takes no path with such characters"):
        unit_text(PROGRAM, CONFIG, [Path("/srv") / name])


# Installing


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The root folder of another machine."""
    etc = tmp_path / "image" / "etc"
    etc.mkdir(parents=True)
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (etc / "group").write_text("root:x:0:\n")
    return etc.parent


@pytest.mark.skipif(os.geteuid() != 0, reason="systemd-sysusers needs root")
def test_installing_into_an_image_writes_all_that_its_first_start_needs(image: Path) -> None:
    result = call("install", "--root", str(image))
    assert result.exit_code == 0, result.stderr
    unit = image / "etc/systemd/system/hematovision.service"
    assert "run --config /etc/hematovision.toml" in unit.read_text()
    wanted = image / "etc/systemd/system/multi-user.target.wants/hematovision.service"
    assert os.readlink(wanted) == "/etc/systemd/system/hematovision.service"  # noqa: PTH115
    user = next(line for line in (image / "etc/passwd").read_text().splitlines() if "hematovision" in line)
    assert user.endswith(":/var/lib/hematovision:/usr/sbin/nologin")
    settings = image / "etc/hematovision.toml"
    assert load_settings(settings).store.folder == "/var/lib/hematovision"
    group = re.search(r"^hematovision:x:(\d+):", (image / "etc/group").read_text(), re.MULTILINE)
    assert group is not None
    status = settings.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 0, int(group[1]))
    for path in ("/etc/systemd/system/hematovision.service", "/etc/hematovision.toml"):
        assert f"Done: write {path}" in result.stdout
    assert "set source and um_per_pixel below [camera] in /etc/hematovision.toml" in result.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="systemd-sysusers needs root")
def test_what_is_taken_away_is_the_unit_and_what_was_counted_and_set_is_kept(image: Path) -> None:
    call("install", "--root", str(image))
    (image / "var/lib/hematovision").mkdir(parents=True)
    result = call("uninstall", "--root", str(image))
    assert result.exit_code == 0, result.stderr
    left = {str(path.relative_to(image)) for path in image.rglob("*") if not path.is_dir()}
    assert not [path for path in left if "systemd" in path or "sysusers" in path]
    assert "etc/hematovision.toml" in left
    assert (image / "var/lib/hematovision").is_dir()
    for kept in ("/var/lib/hematovision", "/etc/hematovision.toml", "the user hematovision"):
        assert kept in result.stdout
    assert "nothing to take away" in call("uninstall", "--root", str(image)).stdout


def test_a_dry_run_shows_all_and_does_nothing(image: Path) -> None:
    before = sorted(image.rglob("*"))
    result = call("install", "--dry-run", "--root", str(image))
    assert result.exit_code == 0
    assert sorted(image.rglob("*")) == before
    assert "Would write /etc/systemd/system/hematovision.service:\n" in result.stdout
    assert "    ProtectSystem=strict\n" in result.stdout
    assert f"Would run systemctl --root={image} enable hematovision.service." in result.stdout


class ThisMachine:
    """This machine with stand-ins for systemd's programs and for the files below /etc."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls_file = folder / "calls"
        self.settings = folder / "etc/hematovision.toml"
        self.unit = folder / "etc/hematovision.service"
        programs = folder / "bin"
        for made in (programs, self.settings.parent):
            made.mkdir()
        (folder / "group").write_text(f"hematovision:x:{os.getgid()}:\n")
        for name in ("systemctl", "systemd-sysusers"):
            program = programs / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls_file}\n')
            program.chmod(0o755)
        self.programs = programs
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setattr("edge.service.DEFAULT_FILE", self.settings)
        monkeypatch.setattr("edge.service.UNIT_FILE", self.unit)
        monkeypatch.setattr("edge.service.SYSUSERS_FILE", folder / "etc/hematovision.conf")
        monkeypatch.setattr("edge.service._GROUP_FILE", folder / "group")
        monkeypatch.setattr("edge.service._BOOTED", folder)
        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr("os.fchown", lambda descriptor, user, group: None)
        monkeypatch.setattr("edge.service_command.check_readable", lambda program: None)

    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThisMachine:
    return ThisMachine(tmp_path, monkeypatch)


def test_installing_makes_the_user_and_enables_but_starts_nothing_without_a_camera(
    machine: ThisMachine,
) -> None:
    result = call("install")
    assert result.exit_code == 0, result.stderr
    assert machine.calls() == [
        "systemd-sysusers hematovision.conf",
        "systemctl daemon-reload",
        "systemctl enable hematovision.service",
    ]
    assert "Not started, since no camera is named" in result.stdout


def test_installing_again_keeps_the_settings_and_restarts_with_the_new_unit(machine: ThisMachine) -> None:
    text = '[camera]\nsource = "v4l2:/dev/video0"\n[store]\nfolder = "/srv/cells"\n'
    machine.settings.write_text(text)
    machine.unit.write_text("old")
    result = call("install")
    assert result.exit_code == 0, result.stderr
    assert machine.settings.read_text() == text
    assert "ReadWritePaths=/srv/cells" in machine.unit.read_text()
    assert machine.calls()[-1] == "systemctl --no-block restart hematovision.service"
    assert "/srv/cells: it must exist and belong to the user hematovision" in result.stdout


def test_installing_beside_settings_with_mistakes_says_them(machine: ThisMachine) -> None:
    machine.settings.write_text("[web]\nprot = 1\n")
    result = call("install")
    assert "will not start with this mistake: " in result.stdout
    assert "web.prot is unknown" in result.stdout
    assert 'Write folder = "/var/lib/hematovision" below [store]' in result.stdout


def test_uninstalling_stops_disables_and_removes(machine: ThisMachine) -> None:
    machine.unit.write_text("old")
    assert call("uninstall").exit_code == 0
    assert machine.calls() == ["systemctl disable --now hematovision.service", "systemctl daemon-reload"]
    assert not machine.unit.exists()


def test_a_step_that_fails_ends_it_and_says_why(machine: ThisMachine) -> None:
    (machine.programs / "systemctl").write_text("#!/bin/sh\necho a >&2\necho the disk is full >&2\nexit 4\n")
    result = call("install")
    assert result.exit_code == 1
    assert "systemctl daemon-reload: ended with status 4: the disk is full" in result.stderr
    assert f"Done: write {machine.unit}." in result.stdout


def test_another_user_than_root_is_told_so(machine: ThisMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for command in ("install", "uninstall"):
        result = call(command)
        assert result.exit_code == 2
        assert "call this with sudo" in result.stderr
    assert machine.calls() == []


def test_a_machine_without_systemd_is_told_so(machine: ThisMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.service._BOOTED", Path("/nowhere"))
    for command in ("install", "status", "uninstall"):
        result = call(command)
        assert result.exit_code == 1
        assert "systemd does not run this machine" in result.stderr
    with pytest.raises(MissingPartError, match="no-such-program is not installed"):
        run_program(("no-such-program",))


def test_a_program_in_a_closed_home_is_refused_with_where_to_put_it(
    tmp_path: Path, machine: ThisMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("edge.service_command.Machine.check_changeable", lambda machine: None)
    home = tmp_path / "anna"
    home.mkdir(mode=0o700)
    program = Program(home / "venv/bin/python", (home / "venv",))
    monkeypatch.setattr("edge.service_command.Program.this", lambda root: program)
    result = call("install")
    assert result.exit_code == 2
    assert "the service's user may not enter" in result.stderr
    assert "/opt/hematovision" in result.stderr


def test_the_program_is_named_as_the_image_will_see_it(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(image / "opt/hv/bin/python"))
    monkeypatch.setattr("sys.prefix", str(image / "opt/hv"))
    program = Program.this(image)
    assert program.python == Path("/opt/hv/bin/python")
    assert Path("/opt/hv") in program.folders
    steps = install_steps(Machine(image), program, lambda text: None)
    assert RunCommand(("systemctl", f"--root={image}", "enable", "hematovision.service")) in steps


# Its status

_RUNNING = """LoadState=loaded
UnitFileState=enabled
ActiveState=active
SubState=running
ActiveEnterTimestamp=Mon 2024-05-06 08:00:00 UTC
StatusText=running, 20.0 frames a second
MainPID=812
MemoryCurrent=157286400
NRestarts=0
Result=success
ExecMainCode=0
ExecMainStatus=0
"""


def said(**changes: str) -> tuple[str, int]:
    properties = dict(line.split("=", 1) for line in _RUNNING.splitlines()) | changes
    answer = "\n".join(f"{name}={value}" for name, value in properties.items())
    status = read_status(lambda words: answer)
    return "\n".join(status.lines), status.exit_status


def test_a_service_that_runs_says_since_when_and_what_it_is_at() -> None:
    assert said() == (
        "hematovision: active (running) since Mon 2024-05-06 08:00:00 UTC.\n"
        "It says: running, 20.0 frames a second\n"
        "Process 812, 157 MB of memory.\n"
        "Starts with the machine.",
        0,
    )


@pytest.mark.parametrize(
    ("code", "status", "result", "words"),
    [
        (
            "1",
            "75",
            "exit-code",
            "status 75: the camera or the model did not recover, and a new process was to try",
        ),
        ("1", "2", "exit-code", "status 2: a setting cannot be right; hematovision config check says which"),
        ("1", "1", "exit-code", "status 1: something failed"),
        ("1", "203", "exit-code", "systemd could not start it (status 203)"),
        ("3", "6", "watchdog", "it gave no sign of progress for 60 s"),
        ("2", "9", "oom-kill", "it needed more memory than it may"),
        ("2", "11", "signal", "signal 11"),
    ],
)
def test_a_service_that_ended_says_how_in_plain_words_and_the_command_ends_with_3(
    code: str, status: str, result: str, words: str
) -> None:
    text, exit_status = said(
        ActiveState="activating",
        SubState="auto-restart",
        ExecMainCode=code,
        ExecMainStatus=status,
        Result=result,
        NRestarts="7",
        MainPID="0",
        MemoryCurrent="[not set]",
    )
    assert f"It last ended so: {words}" in text
    assert "systemd started it again 7 times" in text
    assert exit_status == 3


def test_a_service_that_was_stopped_or_never_started_does_not_run() -> None:
    text, exit_status = said(ActiveState="inactive", SubState="dead", UnitFileState="disabled")
    assert exit_status == 3
    assert "running" not in text  # what it said last holds no more
    assert "Does not start with the machine." in text
    assert "last ended" not in text


def test_a_service_that_is_not_installed_is_told_apart() -> None:
    text, exit_status = said(LoadState="not-found")
    assert exit_status == 4
    assert "hematovision service install" in text


def test_the_command_asks_systemctl_and_ends_with_its_status(machine: ThisMachine) -> None:
    (machine.programs / "systemctl").write_text('#!/bin/sh\necho "LoadState=loaded\nActiveState=inactive"\n')
    result = call("status")
    assert result.exit_code == 3
    assert result.stdout.startswith("hematovision: inactive")
    (machine.programs / "systemctl").write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    result = call("status")
    assert result.exit_code == 1
    assert "no bus" in result.stderr


def test_an_answer_that_does_not_come_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.service._COMMAND_LIMIT_S", 0.05)
    with pytest.raises(HematoVisionError, match="no answer within"):
        run_program(("sleep", "5"))
