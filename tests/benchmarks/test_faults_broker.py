"""The trial of the broker: a short one loses nothing, and what is found wanting fails."""

from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.faults import broker as trial_of_broker
from benchmarks.faults.broker import BrokerTrial, measure_broker
from benchmarks.faults.mosquitto import Listener, Relay
from hematovision.cli import root

GOOD = BrokerTrial(
    cells=600,
    away=500,
    states=2,
    faults={"killed": 3},
    missing=0,
    twice=9,
    altered=0,
    growth_mb=1.0,
    seconds=4.0,
)


@pytest.mark.mosquitto
def test_every_cell_is_heard_of_through_every_fault() -> None:
    trial = measure_broker(messages=300, times=6, seed=3)
    assert trial.passed, trial
    assert sum(trial.faults.values()) == 6 and trial.cells > trial.away == 300
    assert len(trial.faults) >= 3


@pytest.mark.mosquitto
def test_the_trial_notices_messages_that_a_broker_throws_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before there is a subscriber, a broker acknowledges what it gives nobody."""
    monkeypatch.setattr(Relay, "shut", lambda _relay: None)
    monkeypatch.setattr(Listener, "wait", lambda _listener: None)
    monkeypatch.setattr(Listener, "run", lambda _listener: None)
    trial = measure_broker(messages=20, times=0)
    assert trial.missing == 20 and not trial.passed


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({}, True),
        ({"missing": 1}, False),
        ({"altered": 1}, False),
        ({"states": 3}, False),
        ({"growth_mb": 17.0}, False),
        ({"twice": 600}, True),
    ],
)
def test_the_command_ends_with_1_where_anything_is_wrong(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], passed: bool
) -> None:
    monkeypatch.setattr(trial_of_broker, "measure_broker", lambda *_: replace(GOOD, **change))
    result = CliRunner().invoke(root, ["bench", "faults", "broker"])
    assert result.exit_code == (0 if passed else 1)
    assert "600, 500 of them without a broker" in result.output
