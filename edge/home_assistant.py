"""How Home Assistant is told of a device and of what it measures.

One retained message on ``homeassistant/device/<id>/config`` describes the device and all of its entities
(MQTT discovery by device, known to Home Assistant since 2024.12). None of them takes a command.
"""

from typing import Any

from edge.device import State
from edge.messages import OFFLINE, ONLINE, Topics, as_json
from edge.store import Message
from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED


def discovery(topics: Topics, model: str, version: str, has_temperature: bool) -> Message:
    """What tells Home Assistant of the device.

    Args:
        topics: the device's; its name in them names it to Home Assistant too.
        model: what names the cells: the name of the model's file.
        version: of this program.
        has_temperature: whether the processor's temperature can be measured.
    """
    device = f"hematovision_{topics.device}"
    entities = _counts(topics) | _health(topics)
    if has_temperature:
        entities["temperature"] = _sensor(
            "Processor temperature", topics.health, "temperature_c", "°C", diagnostic=True
        ) | {"device_class": "temperature"}
    content = {
        "device": {
            "identifiers": [device],
            "name": topics.device,
            "manufacturer": "HematoVision",
            "model": f"Leukocyte classifier, {model}",
            "sw_version": version,
        },
        "origin": {"name": "HematoVision", "sw_version": version},
        "availability_topic": topics.status,
        "payload_available": ONLINE.decode(),
        "payload_not_available": OFFLINE.decode(),
        "qos": 1,
        "components": {key: entity | {"unique_id": f"{device}_{key}"} for key, entity in entities.items()},
    }
    return Message(f"homeassistant/device/{device}/config", as_json(content), retain=True, latest_only=True)


def _counts(topics: Topics) -> dict[str, dict[str, Any]]:
    entities = {}
    for name in CLASS_NAMES:
        share = f"classes.{name}"
        entities[f"{name}_percent"] = _percent(f"{name.capitalize()}s", topics, share)
        entities[f"{name}_count"] = _count(f"{name.capitalize()}s counted", topics, f"{share}.count")
    entities[f"{UNCLASSIFIED}_percent"] = _percent("Unclassified, of all", topics, UNCLASSIFIED)
    entities[f"{UNCLASSIFIED}_count"] = _count("Unclassified", topics, f"{UNCLASSIFIED}.count")
    entities["cells_count"] = _count("Cells counted", topics, "cells")
    return entities


def _health(topics: Topics) -> dict[str, dict[str, Any]]:
    return {
        "state": {
            "platform": "sensor",
            "name": "State",
            "state_topic": topics.health,
            "value_template": "{{ value_json.state }}",
            "device_class": "enum",
            "options": [state.value for state in State],
        },
        "camera": _binary("Camera", topics, "value_json.camera_delivers", "connectivity"),
        "problem": _binary("Problem", topics, "value_json.problems", "problem")
        | {
            "json_attributes_topic": topics.health,
            "json_attributes_template": "{{ {'problems': value_json.problems} | tojson }}",
        },
        "frames_per_second": _sensor(
            "Frames a second", topics.health, "frames_per_second", "frames/s", diagnostic=True
        ),
    }


def _percent(name: str, topics: Topics, share: str) -> dict[str, Any]:
    sensor = _sensor(name, topics.differential, f"{share}.percent", "%")
    return sensor | {
        "suggested_display_precision": 1,
        "json_attributes_topic": topics.differential,
        "json_attributes_template": f"{{{{ value_json.{share} | tojson }}}}",
    }


def _count(name: str, topics: Topics, field: str) -> dict[str, Any]:
    # Within a session it only rises; another session begins at zero, which Home Assistant takes for a new
    # cycle of the counter.
    return _sensor(name, topics.differential, field, "cells") | {"state_class": "total_increasing"}


def _sensor(name: str, topic: str, field: str, unit: str, diagnostic: bool = False) -> dict[str, Any]:
    sensor = {
        "platform": "sensor",
        "name": name,
        "state_topic": topic,
        # What is null becomes None, which Home Assistant shows as unknown.
        "value_template": f"{{{{ value_json.{field} }}}}",
        "unit_of_measurement": unit,
        "state_class": "measurement",
    }
    return sensor | ({"entity_category": "diagnostic"} if diagnostic else {})


def _binary(name: str, topics: Topics, condition: str, device_class: str) -> dict[str, Any]:
    return {
        "platform": "binary_sensor",
        "name": name,
        "state_topic": topics.health,
        "value_template": f"{{{{ 'ON' if {condition} else 'OFF' }}}}",
        "device_class": device_class,
        "entity_category": "diagnostic",
    }
