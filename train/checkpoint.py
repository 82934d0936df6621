"""What a training run keeps in its folder, so that it can go on: settings, state, history."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import keras

from hematovision.errors import SettingError
from hematovision.model_file import write_atomically

_STATE = "state.keras"
_HISTORY = "history.json"
_SETTINGS = "settings.json"

_Epoch = TypeVar("_Epoch")


class Checkpoint(Generic[_Epoch]):
    """The checkpoint of one run, in a folder of its own.

    Args:
        folder: made where it is not there yet.
        run: what makes this run and no other, as JSON.
        epoch: the dataclass of what one epoch gave.

    Raises:
        SettingError: the folder holds another run, or its settings are damaged.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], epoch: type[_Epoch]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._epoch = epoch
        self._claim(run)

    @property
    def state(self) -> Path:
        """Return the network and its optimiser's state after the last epoch of the history."""
        return self._folder / _STATE

    def read_history(self) -> list[_Epoch]:
        """Read what the epochs so far gave; none where the run has not begun.

        Raises:
            SettingError: the history is damaged.
        """
        path = self._folder / _HISTORY
        if not path.exists() or not self.state.exists():
            return []
        try:
            return [self._epoch(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
        except (ValueError, TypeError) as error:
            raise SettingError(f"{path}: damaged ({error}); delete the folder to start again") from error

    def save(self, network: keras.Model, history: Sequence[_Epoch]) -> None:
        """Save the network and what its epochs gave."""
        # The state is replaced before the history: cut off between the two, the epoch is done once more.
        partial = self._folder / f"partial-{_STATE}"
        network.save(partial)
        partial.replace(self.state)
        entries = [dataclasses.asdict(entry) for entry in history]  # type: ignore[call-overload]
        write_atomically(self._folder / _HISTORY, json.dumps(entries, indent=2).encode())

    def _claim(self, run: Mapping[str, Any]) -> None:
        path = self._folder / _SETTINGS
        if not path.exists():
            write_atomically(path, json.dumps(run, indent=2).encode())
            return
        try:
            held = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise SettingError(f"{path}: damaged ({error}); use another folder") from error
        differing = sorted(key for key in {*run, *held} if run.get(key) != held.get(key))
        if differing:
            raise SettingError(
                f"{self._folder}: holds a run with another {', '.join(differing)}; use another folder, or "
                "delete it"
            )
