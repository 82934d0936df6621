"""CI tells a published fault of something installed from data about faults that cannot be reached."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOUND = {"name": "flask", "version": "3.1.3", "vulns": []}
FAULTY = {
    "name": "pillow",
    "version": "10.0.0",
    "vulns": [
        {"id": "PYSEC-2023-175", "fix_versions": ["10.0.1"]},
        {"id": "CVE-2024-28219", "fix_versions": []},
    ],
}
SKIPPED = {"name": "hematovision", "skip_reason": "Dependency not found on PyPI and could not be audited"}


def audit(
    repository: Path, folder: Path, packages: list[object] | None, error: str = "", status: int = 0
) -> subprocess.CompletedProcess[str]:
    """What CI's script makes of a pip-audit that ends with this output and status."""
    said = json.dumps({"dependencies": packages, "fixes": []}) if packages is not None else ""
    program = folder / "pip-audit"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nprint({said!r})\nsys.stderr.write({error!r})\nsys.exit({status})\n"
    )
    program.chmod(0o755)
    return subprocess.run(
        [sys.executable, repository / ".ci" / "audit.py", program, folder],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_published_fault_fails_and_is_named_with_the_release_that_mends_it(
    repository: Path, tmp_path: Path
) -> None:
    finished = audit(repository, tmp_path, [SOUND, FAULTY, SKIPPED], "Found 2 known vulnerabilities", 1)
    assert finished.returncode == 1
    assert finished.stderr.splitlines() == [
        "pillow 10.0.0 has PYSEC-2023-175, mended in 10.0.1.",
        "pillow 10.0.0 has CVE-2024-28219, mended in no release yet.",
    ]


def test_without_one_it_passes_and_says_what_was_not_looked_up(repository: Path, tmp_path: Path) -> None:
    finished = audit(repository, tmp_path, [SOUND, SKIPPED])
    assert finished.returncode == 0
    assert (
        finished.stdout == "Published faults: 0, in 1 packages looked up. Not on the index: hematovision.\n"
    )


@pytest.mark.parametrize(
    ("packages", "error", "status"),
    [
        ([SKIPPED, SKIPPED], "No known vulnerabilities found", 0),
        (None, "requests.exceptions.ConnectionError: Failed to resolve 'pypi.org'", 1),
        (None, "ERROR:pip_audit._cli:Tip: your network may be blocking this service.", 1),
    ],
    ids=["an index without the data", "no network", "a network that blocks it"],
)
def test_data_that_cannot_be_reached_is_said_in_one_line_and_no_failure(
    packages: list[object] | None, error: str, status: int, repository: Path, tmp_path: Path
) -> None:
    finished = audit(repository, tmp_path, packages, error, status)
    assert finished.returncode == 0
    (line,) = finished.stdout.splitlines()
    assert "cannot be reached" in line
    assert finished.stderr == ""


@pytest.mark.parametrize(
    ("packages", "error"), [(None, "Traceback: KeyError"), ([], "No known vulnerabilities found")]
)
def test_what_went_wrong_otherwise_is_a_failure(
    packages: list[object] | None, error: str, repository: Path, tmp_path: Path
) -> None:
    finished = audit(repository, tmp_path, packages, error, 1)
    assert finished.returncode == 2
    assert finished.stderr.strip()
