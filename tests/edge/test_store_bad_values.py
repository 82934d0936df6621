"""Any one value of the file may be nonsense: the rest is shown and exported, and the value is named."""

import csv
import io
import json
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import sleep

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from benchmarks.faults.plug import some_cell
from edge.sessions_command import sessions
from edge.store import FILE_NAME, NewSession, Store, open_reader, open_writer
from edge.store.clock import Reading
from edge.store.housekeeping import Housekeeper
from edge.web.openapi import description
from tests.edge.fed_device import FedDevice, fed_device

NEW = NewSession(
    "slide 7",
    "Ada",
    "camera",
    "best.tflite",
    "ab" * 32,
    0.1,
    100,
    {
        "accuracy": {
            "sets": [{"name": "A", "cells": 9, "originals": 9, "accuracy": 0.9, "low": 0.8, "high": 1}]
        }
    },
)
LIMIT_S = 10.0
CELLS = 4
ANY = (None, b"\xff not text", "yesterday", -1, 9e999, "\u202ea\0b")
DATES = ("2026-03-04T05:06:07", "0001-01-01T00:00:00+14:00", "9" * 5000)
OBJECTS = (
    "{",
    "[]",
    '{"accuracy": 1}',
    '{"accuracy": {"sets": [1]}}',
    '{"a": NaN}',
    '{"a": 1e999}',
    "[" * 5000,
)
LISTS = ("[0.1, 0.2, 0.3]", "[1e999, 0, 0, 0]", "[NaN, 0, 0, 0]", '["1", 0, 0, 0]', "[-1, 0, 0, 0]", "{}")
NUMBERS = (0, 2**62, 1e300, -9e999)
NONSENSE = {
    **dict.fromkeys(("started_at", "ended_at", "first_seen", "confirmed_at", "at"), DATES),
    **dict.fromkeys(("um_per_pixel", "crop_um", "target", "x_um", "number", "focus", "notice_s"), NUMBERS),
    "settings": OBJECTS,
    "probabilities": LISTS,
}
# Ids are not values: where they are wrong, the row is another one.
COLUMNS = {
    "sessions": "sample operator started_at ended_at ended_because camera model_name model_hash um_per_pixel "
    "crop_um target settings continued start_clock_set end_clock_set notice notice_s",
    "cells": "number area x_um y_um class_name probability probabilities looks focus first_seen confirmed_at "
    "model_hash corrected",
    "crops": "jpeg",
    "corrections": "at who before after",
    "events": "at kind text",
}


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FedDevice]:
    """A device with an ended session, whose file takes any value in any column."""
    folder = tmp_path_factory.mktemp("state")
    with Store(folder) as store:
        session = store.start_session(NEW)
        for number in range(1, CELLS + 1):
            store.add_cell(session.id, replace(some_cell(number, 64), class_name="neutrophil"), "ab" * 32)
        assert store.flush(LIMIT_S)
        store.correct(2, "monocyte", "Bo")
        store.add_event("note", "something happened", session.id)
        assert store.flush(LIMIT_S)
        store.end_session(session.id, "stopped")
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        # As if the damage were in the bytes of a row: no rule of the tables is asked.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(replace(sql, ' NOT NULL', ''), 'STRICT', '')"
        )
        connection.commit()
    with fed_device(folder) as fed:
        yield fed


def folder_of(fed: FedDevice) -> Path:
    return fed.store.folder


def put(fed: FedDevice, table: str, column: str, value: object) -> object:
    """Write a value into the first row, bytes as a text of them; gives what was there."""
    first = "SELECT min(rowid) FROM " + table
    with closing(sqlite3.connect(folder_of(fed) / FILE_NAME, isolation_level=None)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        [before] = connection.execute(f'SELECT "{column}" FROM {table} WHERE rowid = ({first})').fetchone()
        written = "CAST(? AS TEXT)" if isinstance(value, bytes) and column != "jpeg" else "?"
        connection.execute(f'UPDATE {table} SET "{column}" = {written} WHERE rowid = ({first})', (value,))
    return before


def call(fed: FedDevice, *arguments: str) -> Result:
    return CliRunner().invoke(sessions, [*arguments, "--folder", str(folder_of(fed))])


@pytest.mark.parametrize(
    ("table", "column"), [(table, one) for table in COLUMNS for one in COLUMNS[table].split()]
)
def test_any_nonsense_in_any_column_ends_nothing(
    fed: FedDevice, tmp_path: Path, table: str, column: str
) -> None:
    document = description("hematovision")
    app = fed.app()
    client = app.test_client()

    def schema(name: str) -> Draft202012Validator:
        wanted = {"$ref": f"#/components/schemas/{name}"}
        return Draft202012Validator(wanted | {"components": document["components"]})

    before: object = None
    for number, value in enumerate((*ANY, *NONSENSE.get(column, ()))):
        was = put(fed, table, column, value)
        before = was if number == 0 else before
        with open_reader(folder_of(fed)) as reader:
            cells = reader.cells(1)
            reader.session(1), reader.corrections(1), reader.events(session_id=1), reader.differential(1)
            named = list(reader.unreadable)
        assert len(cells) == CELLS
        for arguments in (
            ["list"],
            ["list", "--format", "json"],
            ["show", "1"],
            ["show", "1", "--format", "json"],
            ["export", "1", "--format", "csv", "--out", str(tmp_path / f"{number}.csv")],
            ["export", "1", "--format", "json", "--out", str(tmp_path / f"{number}.json")],
            ["export", "1", "--format", "crops", "--out", str(tmp_path / f"{number}")],
        ):
            result = call(fed, *arguments)
            where = f"{arguments} with {value!r}: {result.output}"
            assert result.exit_code in (0, 1), where
            assert result.exception is None or isinstance(result.exception, SystemExit), where
            said = [line for line in result.output.splitlines() if line.startswith("Error: ")]
            assert bool(said) == (result.exit_code == 1), where
            assert {line.removeprefix("Error: ") for line in said} <= {*named} | {
                line for line in (one.removeprefix("Error: ") for one in said) if "picture" in line
            }, where
        rows = list(csv.DictReader(io.StringIO((tmp_path / f"{number}.csv").read_text(encoding="utf-8"))))
        assert [int(row["cell"]) for row in rows] == [1, 2, 3, 4]
        assert len(json.loads((tmp_path / f"{number}.json").read_text())["cells"]) == CELLS
        for address in (
            "/",
            "/cells?session=1",
            "/cells/1",
            "/cells/2",
            "/sessions",
            "/sessions/1",
            "/device",
        ):
            answer = client.get(address)
            assert answer.status_code == 200, f"{address} with {value!r}: {answer.text}"
        for address, name in (
            ("/api/v1/sessions", "Sessions"),
            ("/api/v1/sessions/1", "Session"),
            ("/api/v1/sessions/1/differential", "Differentials"),
            ("/api/v1/cells?session_id=1", "Cells"),
            ("/api/v1/cells/1", "CellWithHistory"),
            ("/api/v1/cells/2", "CellWithHistory"),
            ("/api/v1/events", "Events"),
        ):
            answer = client.get(address)
            assert answer.status_code == 200, f"{address} with {value!r}: {answer.text}"
            schema(name).validate(answer.json)
        for form in ("csv", "json", "crops"):
            answer = client.get(f"/api/v1/sessions/1/export?format={form}", buffered=True)
            assert answer.status_code == 200 and answer.data
    put(fed, table, column, before)
    assert call(fed, "show", "1").exit_code == 0
    app.extensions["hematovision"].live.close()


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("sessions", "started_at", "yesterday", "session 1: its date of the start cannot be read"),
        ("sessions", "ended_at", "", "session 1: its date of the end cannot be read"),
        ("sessions", "settings", "{", "session 1: its settings cannot be read"),
        ("sessions", "sample", b"\xff", "session 1: its sample cannot be read"),
        ("cells", "confirmed_at", None, "cell 1: its date (counted) cannot be read"),
        ("cells", "probabilities", "[0.1", "cell 1: its probabilities cannot be read"),
        (
            "cells",
            "class_name",
            "neutrofil",
            "session 1: of 1 cells the class cannot be read; no count has them",
        ),
        ("crops", "jpeg", b"", "cell 1: its picture cannot be read"),
        ("corrections", "at", "?", "correction of cell 2: its date cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(
    fed: FedDevice, tmp_path: Path, table: str, column: str, value: object, said: str
) -> None:
    before = put(fed, table, column, value)
    try:
        found = {
            form: call(fed, "export", "1", "--format", form, "--out", str(tmp_path / form))
            for form in ("csv", "json", "crops")
        }
        shown = call(fed, "show", "1")
        zipped = fed.app().test_client().get("/api/v1/sessions/1/export?format=crops", buffered=True).data
        with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
            left_out = [name for name in archive.namelist() if name.endswith("unreadable.txt")]
    finally:
        put(fed, table, column, before)
    assert any(
        f"Error: {said}" in result.output and result.exit_code == 1 for result in [*found.values(), shown]
    )
    if table == "crops":
        assert len([*(tmp_path / "crops").rglob("*.jpg")]) == CELLS - 1
        assert left_out
    if table == "cells":
        assert f"Error: {said}" in found["csv"].output or column == "class_name"
        [row] = [
            row
            for row in csv.DictReader(io.StringIO((tmp_path / "csv").read_text(encoding="utf-8")))
            if row["unreadable"]
        ]
        assert row["unreadable"] == column and row["model_hash"] == "ab" * 32


@pytest.mark.parametrize("column", ["ended_by", "notice", "notice_s", "saved_correction", "ended_at"])
def test_no_session_goes_for_a_value_that_cannot_be_read(fed: FedDevice, column: str) -> None:
    clock = Reading(datetime(2030, 1, 1, tzinfo=UTC), True, 1000.0)
    for value in (*ANY, *DATES, "age", "room"):
        before = put(fed, "sessions", column, value)
        try:
            with open_writer(folder_of(fed), 5.0) as connection:
                keeper = Housekeeper(folder_of(fed), 10, 0, keep_sessions=0, clock=lambda: clock)
                for _ in range(2):
                    for _ in keeper.keep_house(connection):
                        pass
                assert connection.execute("SELECT count(*) FROM sessions").fetchone()[0] == 1
        finally:
            put(fed, "sessions", column, before)


@pytest.mark.parametrize("column", ["since_start_s", "at", "steady_since", "doubted_until_s"])
def test_a_reading_of_the_clock_that_cannot_be_read_ends_nothing(tmp_path: Path, column: str) -> None:
    clock = Reading(datetime(2030, 1, 1, tzinfo=UTC), True, 1000.0, "this start")
    with Store(tmp_path, 10, clock=lambda: clock) as store:
        session = store.start_session(NEW)
        assert store.flush(LIMIT_S)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute(
            "REPLACE INTO clock VALUES (1, 'this start', 900, '2030-01-01T00:00:00+00:00', "
            "'2030-01-01T00:00:00+00:00', 0)"
        )
        nonsense = 9e999 if column.endswith("_s") else "9999-12-31T23:59:59+00:00"
        connection.execute(f"UPDATE clock SET {column} = ?", (nonsense,))
    with Store(tmp_path, 10, clock=lambda: clock) as store:
        store.end_session(session.id, "stopped")
        store.add_event("note", "it goes on")
        sleep(0.5)  # the store's chores are done when it is idle
        assert store.flush(LIMIT_S)
        assert not store.failed
