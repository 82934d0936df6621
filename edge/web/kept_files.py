"""Pictures that a form came back with: kept for a short while, so that nobody has to choose them again."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from time import monotonic

#: So many are kept, each as large as an upload may be, for so many minutes.
KEPT, KEPT_MINUTES = 2, 10


@dataclass(frozen=True)
class SentFile:
    """A file of a form: its bytes, and what whoever sent it calls it."""

    data: bytes
    name: str


@dataclass(frozen=True)
class _Kept:
    file: SentFile
    owner: str
    until: float


class KeptFiles:
    """The last files that could not be used as they were sent, each for its owner alone."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = Lock()

    def keep(self, file: SentFile, owner: str) -> str:
        """Keep a file, and return the random name that `take` knows it by."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._forget_old()
            self._files[name] = _Kept(file, owner, monotonic() + 60 * KEPT_MINUTES)
            while len(self._files) > KEPT:
                self._files.popitem(last=False)
        return name

    def take(self, name: str, owner: str) -> SentFile | None:
        """A file that was kept for this owner, and is kept no longer; None where there is none."""
        with self._lock:
            self._forget_old()
            kept = self._files.get(name)
            if kept is None or kept.owner != owner:
                return None
            del self._files[name]
            return kept.file

    def _forget_old(self) -> None:
        now = monotonic()
        for name in [name for name, kept in self._files.items() if kept.until < now]:
            del self._files[name]
