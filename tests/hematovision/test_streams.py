"""Output in a terminal's own encoding: what that lacks is replaced, and ends nothing."""

import ast
import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from edge.config import load_settings
from hematovision.phantom import draw_field

# As Python takes them from the locale; C is what a service or cron may have, with Python's own way out shut.
LOCALES = {
    "iso8859-1": {"PYTHONIOENCODING": "iso8859-1"},
    "iso8859-2": {"PYTHONIOENCODING": "iso8859-2"},
    "koi8-r": {"PYTHONIOENCODING": "koi8-r"},
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
# Calls the program again and again in one process, since loading it anew for each would take minutes. Each
# call's output goes to a file of its own, in the encoding that standard output has.
CALLS = """
import json, os, sys
import click
from hematovision.cli import main, root

encoding = sys.stdout.encoding

def each(group, words):
    yield words
    for name in group.list_commands(click.Context(group)) if isinstance(group, click.Group) else ():
        yield from each(group.get_command(click.Context(group), name), [*words, name])

folder, asked = sys.argv[1], json.loads(sys.argv[2])
calls = [[os.fsdecode(word.encode("latin-1")) for word in words] for words in asked]
for number, words in enumerate(calls or [[*words, "--help"] for words in each(root, [])]):
    with open(f"{folder}/{number}", "wb") as file:
        sys.stdout = os.fdopen(os.dup(file.fileno()), "w", encoding=encoding)
        try:
            main(words)
        except SystemExit as ended:
            assert not ended.code, words
        sys.stdout.close()
"""


def outputs(calls: Sequence[Sequence[str]], locale: str, tmp_path: Path, cwd: Path) -> list[bytes]:
    """What each of these commands writes to standard output in a locale, or the help of every one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    asked = [[os.fsencode(word).decode("latin-1") for word in words] for words in calls]
    written = tmp_path / "written"
    written.mkdir()
    finished = subprocess.run(
        [sys.executable, "-c", CALLS, str(written), json.dumps(asked)],
        capture_output=True,
        env=environment | LOCALES[locale],
        cwd=cwd,
    )
    assert finished.returncode == 0, finished.stderr.decode(errors="replace")
    return [path.read_bytes() for path in sorted(written.iterdir(), key=lambda path: int(path.name))]


@pytest.mark.parametrize("locale", LOCALES)
def test_every_command_says_its_help_in_every_locale(locale: str, tmp_path: Path) -> None:
    helps = [out.decode(locale) for out in outputs([], locale, tmp_path, tmp_path)]
    assert len(helps) > 30 and all("--help" in text for text in helps)


@pytest.fixture(scope="module")
def smear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one image, in names of which the last is in no encoding."""
    top = tmp_path_factory.mktemp("smear")
    folder = top / "Пробы µ 例" / os.fsdecode(b"slide \xff\xfe")
    folder.mkdir(parents=True)
    Image.fromarray(draw_field(11, 640, 480, 0.1).image).save(folder / "ä 40–75 µm.png")
    return top


@pytest.mark.parametrize("locale", LOCALES)
def test_results_and_exit_status_stay_in_every_locale(locale: str, smear: Path, tmp_path: Path) -> None:
    """Each command at its work, with names that the encoding lacks, or that are in none."""
    (folder,) = os.listdir(smear)  # noqa: PTH208 (a text, as it is given)
    state = ("--set", f"store.folder={tmp_path}")
    # Python does not know the letters of another language there: a sample's name must be a text.
    sample = ("--sample", "Smear 7" if locale == "ascii" else "Проба 7 µ")
    scale = ("--um-per-pixel", "0.1")
    table, rows, records, counted, listed, shown, as_json, unit, settings = outputs(
        [
            ("classify", folder, *scale),
            ("classify", folder, *scale, "--format", "csv"),
            ("classify", folder, *scale, "--format", "jsonl"),
            ("run", "--camera", f"folder:{folder}", *scale, *sample, *state),
            ("sessions", "list", "--folder", str(tmp_path)),
            ("sessions", "show", "1", "--folder", str(tmp_path)),
            ("sessions", "show", "1", "--format", "json", "--folder", str(tmp_path)),
            ("service", "install", "--dry-run", "--root", str(tmp_path)),
            ("config", "show"),
        ],
        locale,
        tmp_path,
        smear,
    )
    assert b".png" in table and b"Cells not counted" in counted and b"ExecStart" in unit
    assert b"no target" in shown and b"7" in listed
    # What programs read is whole in every locale.
    found = [json.loads(line) for line in records.splitlines()]
    assert os.fsencode(found[0]["image"]).endswith("/ä 40–75 µm.png".encode())
    read = list(csv.DictReader(io.StringIO(rows.decode("utf-8"))))
    assert len(read) == sum(len(record["cells"]) for record in found) > 0
    assert json.loads(as_json)["session"]["sample"] == sample[1]
    (tmp_path / "settings.toml").write_bytes(settings)
    load_settings(tmp_path / "settings.toml")


def opened_in_the_locale(path: Path) -> list[str]:
    """Calls in a module that open a text, or read a process, in whatever encoding the locale has."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        said = [getattr(value, "value", None) for value in (*node.args, *named.values())]
        modes = [mode for mode in said if isinstance(mode, str) and re.fullmatch("[rwxabt+]{1,3}", mode)]
        # Neither a camera that is opened, nor os.open, which knows no text.
        opens_text = name in ("open", "fdopen") and (
            not any("b" in mode for mode in modes) if modes else ast.unparse(node).startswith("Path(")
        )
        reads_text = name in ("read_text", "write_text") or getattr(named.get("text"), "value", None) is True
        if (opens_text or reads_text) and "encoding" not in named:
            found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("package", ["hematovision", "edge", "train", "convert", "benchmarks"])
def test_every_text_file_says_its_encoding(package: str, repository: Path) -> None:
    assert [
        line for path in (repository / package).rglob("*.py") for line in opened_in_the_locale(path)
    ] == []
