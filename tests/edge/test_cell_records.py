"""A cell is the same in everything that the device gives out."""

import csv
import json
from pathlib import Path
from typing import Any

from edge.config import MqttSettings
from edge.messages import cell_messages
from hematovision.cell_classes import CLASS_NAMES
from tests.edge.fed_device import fed_device


def test_a_corrected_cell_has_the_same_labels_in_api_exports_and_messages(tmp_path: Path) -> None:
    with fed_device(tmp_path, messages=cell_messages(MqttSettings(host="broker", name="scope"))) as fed:
        session = fed.device.start_session("A", "", None)
        fed.feed(1)
        with fed.store.read() as reader:
            cell = reader.cells(session.id)[0]
        label = next(name for name in CLASS_NAMES if name != cell.class_name)
        fed.store.correct(cell.id, label, "Ada")
        app = fed.app()
        ask = app.test_client().get
        export = f"/api/v1/sessions/{session.id}/export?format="
        with fed.store.read() as reader:
            sent = [json.loads(message.payload) for _, message in reader.messages(1000)]
        of_cell = [one for one in sent if one["number"] == cell.number]
        records: dict[str, dict[str, Any]] = {
            "API, cells": ask("/api/v1/cells").get_json()["cells"][0],
            "API, cell": ask(f"/api/v1/cells/{cell.id}").get_json(),
            "JSON": ask(f"{export}json").get_json()["cells"][0],
            "CSV": next(csv.DictReader(ask(f"{export}csv").text.splitlines())),
            "MQTT": of_cell[-1],
        }
        app.extensions["hematovision"].live.close()
    for name, record in records.items():
        assert (record["label"], record["classified_as"]) == (label, cell.class_name), name
        assert record["corrected"] == label, name
        assert record["number"] in (cell.number, str(cell.number)), name
        assert "class" not in record, name
    # Until then it counted as what it was classified as; a receiver tells the two messages apart.
    assert [(one["label"], one["corrected"]) for one in of_cell] == [(cell.class_name, None), (label, label)]
    assert len({one["id"] for one in of_cell}) == 2
