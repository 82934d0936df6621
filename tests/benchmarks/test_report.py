"""Reports: written whole, read back the same, held against their schema; what cannot be read is said."""

import dataclasses
import json
import math
import os
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from benchmarks import report as report_module
from benchmarks.plot_style import Plot
from benchmarks.report import measuring, read_report, require_room, schema, to_json, write_report
from benchmarks.results import FORMAT_VERSION, Estimate, Report, Unmeasured
from hematovision.errors import ModelFileError, SettingError

from .sample_report import sample_report

VARIATIONS = [{}, {"disturbed": True}, {"on_pi": True}, {"on_pi": True, "disturbed": True}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(to_json(sample_report())))
    return file


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures and page that take no time to make."""
    monkeypatch.setattr("benchmarks.plots.all_plots", lambda report: [])
    monkeypatch.setattr("benchmarks.report_html.to_html", lambda report, plots: "<html>")


@pytest.mark.parametrize("variation", VARIATIONS)
def test_a_report_is_read_back_as_it_was(tmp_path: Path, variation: dict[str, bool]) -> None:
    report = sample_report(**variation)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(to_json(report), allow_nan=False))
    again = read_report(path)
    assert repr(again) == repr(report)  # repr, since NaN is not equal to itself
    assert any("nan" in repr(row) for row in again.throughput)


def test_a_report_of_one_section_is_a_report(tmp_path: Path) -> None:
    report = dataclasses.replace(
        sample_report(), layers=(), accuracy=(), noise=(), throughput=(), peers=(), unmeasured=()
    )
    path = tmp_path / "report.json"
    path.write_text(json.dumps(to_json(report)))
    assert read_report(path) == report


def test_what_cannot_be_computed_is_null() -> None:
    row = dataclasses.replace(
        sample_report().latency[0], load_ms=math.inf, p99_ms=Estimate(9.0, math.nan, -math.inf)
    )
    content = to_json(dataclasses.replace(sample_report(), latency=(row,)))["latency"][0]
    assert content["load_ms"] is None
    assert content["p99_ms"] == {"value": 9.0, "low": None, "high": None}


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema())


def expected(kind: Any) -> Any:
    """What the schema must say of a type, but for descriptions and bounds."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin is types.UnionType:
        inner = expected(arguments[0])
        if "$ref" in inner:
            return {"anyOf": [inner, {"type": "null"}]}
        types_ = inner["type"] if isinstance(inner["type"], list) else [inner["type"], "null"]
        return {**inner, "type": types_}
    if origin is list or (origin is tuple and arguments[-1] is Ellipsis):
        return {"type": "array", "items": expected(arguments[0])}
    if origin is tuple:
        places = [expected(one) for one in arguments]
        return {"type": "array", "prefixItems": places, "items": False, "minItems": len(places)}
    if origin is dict:
        return {"type": "object", "additionalProperties": expected(arguments[1])}
    return {"type": {str: "string", bool: "boolean", int: "integer", float: ["number", "null"]}[kind]}


def bare(found: Any) -> Any:
    """A schema without descriptions and bounds."""
    left_out = ("description", "minimum", "maximum", "pattern", "maxItems")
    if isinstance(found, dict):
        fixed_length = "prefixItems" in found
        return {
            key: bare(value)
            for key, value in found.items()
            if key not in left_out and (key != "minItems" or fixed_length)
        }
    return [bare(value) for value in found] if isinstance(found, list) else found


def classes_of(kind: Any, found: set[type]) -> set[type]:
    """All dataclasses that a type is made of."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind not in found:
        found.add(kind)
        for hint in typing.get_type_hints(kind).values():
            classes_of(hint, found)
    for inner in typing.get_args(kind):
        classes_of(inner, found)
    return found


def test_the_schema_has_exactly_the_fields_of_the_classes_with_their_types() -> None:
    content = schema()
    objects = {**content["$defs"], "Report": content}
    classes = {kind.__name__: kind for kind in classes_of(Report, set())}
    assert objects.keys() == classes.keys()
    for name, kind in classes.items():
        fields = typing.get_type_hints(kind)
        assert objects[name]["required"] == list(fields), name
        assert objects[name]["additionalProperties"] is False
        for field, hint in fields.items():
            assert bare(objects[name]["properties"][field]) == expected(hint), f"{name}.{field}"


def test_the_schema_describes_every_field_and_gives_its_unit() -> None:
    content = schema()
    units = {"_ms": "ms", "_mib": "MiB", "_px": "pixels", "_db": "dB", "_mhz": "MHz", "_bytes": "bytes"}
    for name, described in {**content["$defs"], "Report": content}.items():
        for field, one in described["properties"].items():
            assert one["description"].endswith("."), f"{name}.{field}"
            for ending, unit in units.items():
                assert not field.endswith(ending) or unit in one["description"], f"{name}.{field}"


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (lambda report: report["latency"][3]["p50_ms"].update(low="x"), r"latency\[3\]\.p50_ms\.low"),
        (lambda report: report["variants"][0].pop("sha256"), r"variants\[0\]: 'sha256'"),
        (lambda report: report["machine"].update(colour="red"), "machine: .*colour"),
        (lambda report: report["latency"][0].update(quantiles_ms=[1.0]), r"latency\[0\]\.quantiles_ms"),
        (lambda report: report["peers"][1].update(agreement=1.5), r"peers\[1\]\.agreement"),
        (lambda report: report["variants"][0].update(sha256="../etc"), r"variants\[0\]\.sha256"),
        (lambda report: report["machine"].update(cores=True), r"machine\.cores"),
        (lambda report: report.update(format_version=0), "format_version: 0 is less than"),
        (lambda report: report.pop("peers"), "'peers' is a required property"),
    ],
)
def test_what_is_not_as_the_schema_says_is_named_with_its_place(
    path: Path, spoil: Callable[[Any], object], where: str
) -> None:
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(SettingError, match=rf"report\.json: .*{where}"):
        read_report(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON, or cut short"),
        ('{"format_version": 1, "latency": [{"mod', "not JSON, or cut short"),
        ('{"format_version": 1, "seconds": NaN}', "NaN is no JSON"),
        ("[" * 100_000, "not JSON, or cut short"),
        ("[1, 2]", "not a report"),
        ('"report"', "not a report"),
        ('{"name": "something else"}', "not a report"),
        ('{"format_version": true}', "not a report"),
        ('{"format_version": "1"}', "not a report"),
        ('{"format_version": 99, "hematovision": "9.1"}', r"newer hematovision \(9\.1.*update hematovision"),
    ],
)
def test_a_file_that_is_no_report_is_refused_with_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(SettingError, match=said) as caught:
        read_report(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(SettingError, match="not JSON"):
        read_report(picture)
    with pytest.raises(SettingError, match=r"missing\.json: cannot be read"):
        read_report(tmp_path / "missing.json")
    with pytest.raises(SettingError, match="not a file"):
        read_report(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingError, match="not a file"):
        read_report(tmp_path / "pipe")


def test_writing_leaves_all_files_and_says_which(tmp_path: Path) -> None:
    written = write_report(sample_report(), tmp_path / "new" / "run", force=False)
    assert all(path.stat().st_size > 1000 for path in written)
    assert written[0].name == "report.json"
    assert {path.name for path in written} >= {"report.json", "report.md", "report.html"}
    assert sorted(path for path in (tmp_path / "new" / "run").rglob("*") if path.is_file()) == sorted(written)
    markdown = (tmp_path / "new" / "run" / "report.md").read_text()
    pictures = [path for path in written if path.suffix == ".png"]
    assert pictures
    for picture in pictures:
        assert f"(plots/{picture.name})" in markdown
    assert read_report(written[0]).command == "compare"


@pytest.mark.usefixtures("no_drawing")
def test_a_report_that_is_there_is_kept_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(SettingError, match=r"holds a report already \(report\.md\).*--force"):
        write_report(sample_report(), tmp_path, force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    write_report(sample_report(), tmp_path, force=True)
    assert (tmp_path / "report.md").read_text() != "mine"


@pytest.mark.usefixtures("no_drawing")
def test_pictures_of_the_report_that_is_replaced_do_not_stay_beside_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    for name in ("peers.png", "mine.txt"):
        (tmp_path / "plots" / name).write_text("old")
    write_report(sample_report(), tmp_path, force=True)
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["mine.txt"]


def test_pictures_of_another_report_are_kept_too(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    with pytest.raises(SettingError, match="plots"):
        require_room(tmp_path, force=False)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="file/run: cannot be written"):
        require_room(tmp_path / "file" / "run", force=False)
    with pytest.raises(SettingError, match="cannot be written"):
        require_room(tmp_path / ("n" * 300), force=True)
    with pytest.raises(SettingError, match="cannot be written"):
        require_room(Path("/proc/report"), force=False)


def test_figures_are_written_before_pictures_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_pictures(report: Report) -> list[Plot]:
        raise ModelFileError("drawing failed")

    monkeypatch.setattr("benchmarks.plots.all_plots", no_pictures)
    with pytest.raises(ModelFileError):
        write_report(sample_report(), tmp_path, force=False)
    assert read_report(tmp_path / "report.json").latency


def run(
    out: Path | None, force: bool, unmeasured: tuple[Unmeasured, ...] = (), began: list[int] | None = None
) -> Any:
    """A command that measures nothing but a row of throughput."""

    @click.command("throughput")
    def command() -> None:
        with measuring(out, force) as measured:
            if began is not None:
                began.append(1)
        measured.conclude(throughput=sample_report().throughput, unmeasured=unmeasured)

    return CliRunner().invoke(command)


@pytest.mark.usefixtures("no_drawing")
def test_a_command_ends_with_its_report_printed_and_written(tmp_path: Path) -> None:
    result = run(tmp_path / "out", force=False)
    assert result.exit_code == 0, result.output
    report = read_report(tmp_path / "out" / "report.json")
    assert report.command == "throughput"
    assert report.format_version == FORMAT_VERSION
    assert report.throughput == sample_report().throughput or "nan" in repr(report.throughput)
    assert report.machine.versions.keys() >= {"python", "numpy", "opencv-python-headless"}
    assert 0 <= report.seconds < 60
    assert report.machine.before.time <= report.machine.after.time
    assert "report.html" in result.stderr
    assert "Frames to counted cells" in result.stdout


@pytest.mark.usefixtures("no_drawing")
def test_what_failed_ends_a_command_with_1_and_what_was_left_out_does_not(tmp_path: Path) -> None:
    left_out = Unmeasured("throughput", "real fields", "not here", failed=False)
    failed = Unmeasured("throughput", "drawn, 10 cells", "the process ended", failed=True)
    assert run(None, force=False, unmeasured=(left_out,)).exit_code == 0
    result = run(tmp_path, force=False, unmeasured=(left_out, failed))
    assert result.exit_code == 1
    assert (tmp_path / "report.html").is_file()  # what was measured is not lost
    assert result.stdout.rstrip().endswith("throughput: drawn, 10 cells: the process ended")


@pytest.mark.usefixtures("no_drawing")
def test_a_report_in_the_way_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    assert run(tmp_path, force=False).exit_code == 0
    began: list[int] = []
    result = run(tmp_path, force=False, began=began)
    assert isinstance(result.exception, SettingError)
    assert not began
    assert run(tmp_path, force=True, began=began).exit_code == 0
    assert began


def test_the_home_folder_of_whoever_measured_is_not_in_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(
        "sys.argv",
        ["hematovision", "bench", "latency", "--model", "/home/somebody/model.keras", "--out", "runs"],
    )
    assert report_module._arguments("latency") == ("--model", "~/model.keras", "--out", "runs")
    failed = Unmeasured("latency", "int8", "/home/somebody/.cache/int8.tflite: damaged", failed=True)
    content = to_json(dataclasses.replace(sample_report(), unmeasured=(failed,)))
    assert "somebody" not in json.dumps(content)


@pytest.mark.usefixtures("no_drawing")
def test_a_name_that_is_no_text_is_no_obstacle(tmp_path: Path) -> None:
    name = os.fsdecode(b"smear-\xff")
    failed = Unmeasured("accuracy", name, f"{name}: cannot be read", failed=True)
    report = dataclasses.replace(sample_report(), arguments=(name,), unmeasured=(failed,))
    path = write_report(report, tmp_path, force=False)[0]
    assert read_report(path).arguments == ("smear-?",)
    assert "smear-?: cannot be read" in (tmp_path / "report.md").read_text()


def test_nothing_that_a_terminal_would_obey_comes_from_a_report(path: Path) -> None:
    content = json.loads(path.read_text())
    content["hematovision"] = "1\x1b]0;title\x07\ud800\n2"
    path.write_text(json.dumps(content))
    assert read_report(path).hematovision == "1 ]0;title   2"


def test_a_file_larger_than_any_report_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "_MAX_BYTES", 1000)
    with pytest.raises(SettingError, match="larger than any report"):
        read_report(path)
