"""Who is signed in. A cookie counts while its sign-in is known here: signing out ends every copy of it."""

import json
import logging
import secrets
from pathlib import Path
from threading import Lock
from time import time

from edge.private_file import read_private_file, write_private_file
from hematovision.errors import SettingError

#: Sign-ins at a time; the oldest ends where there is one more.
SIGN_INS = 500

_MAX_BYTES = 64 * 1024
_ID_BYTES = 16
_log = logging.getLogger(__name__)


class SignIns:
    """The sign-ins that have not ended, kept in a file of the state folder: they outlast a restart.

    Args:
        folder: the state folder.
        lasts_s: that a sign-in lasts, in seconds.

    Raises:
        SettingError: the file is there and cannot be read, or others can read it.
    """

    def __init__(self, folder: Path, lasts_s: float) -> None:
        self._path = folder / "sign_ins"
        self._lasts_s = lasts_s
        self._lock = Lock()
        self._begun: dict[str, int] = self._read()

    def begin(self) -> str:
        """Begin one, and return its name, which the cookie carries."""
        name = secrets.token_urlsafe(_ID_BYTES)
        with self._lock:
            self._begun[name] = int(time())
            self._keep()
        return name

    def end(self, name: str) -> None:
        """End one, wherever its cookie is."""
        with self._lock:
            if self._begun.pop(name, None) is not None:
                self._keep()

    def lasts(self, name: str) -> bool:
        """Whether one has begun and neither ended nor grown old."""
        begun = self._begun.get(name)
        return begun is not None and time() - begun < self._lasts_s

    def _keep(self) -> None:
        young = sorted(
            (one for one in self._begun.items() if time() - one[1] < self._lasts_s), key=lambda one: one[1]
        )
        self._begun = dict(young[-SIGN_INS:])  # the sort keeps the order of those of one second
        try:
            write_private_file(self._path, json.dumps(self._begun).encode())
        except SettingError as error:  # a full disk, which only somebody who is signed in can clear
            _log.warning("sign-ins are known until the next start only: %s", error)

    def _read(self) -> dict[str, int]:
        try:
            content = json.loads(read_private_file(self._path, "the page's sign-ins", _MAX_BYTES))
            return {str(name): int(begun) for name, begun in content.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError):
            _log.warning("%s is damaged: everybody signs in anew", self._path)
            return {}
