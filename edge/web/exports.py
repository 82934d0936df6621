"""Sessions as files to download, written piece by piece while they are sent."""

import io
import zipfile
from collections.abc import Callable, Iterator
from threading import Semaphore
from typing import TYPE_CHECKING

from flask import Response
from werkzeug.exceptions import BadRequest, ServiceUnavailable

from edge.store import Reader, Store
from edge.store.export import corrections_in, csv_text, json_text, labelled_crops
from hematovision.errors import StoreError

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Downloads at a time: each holds one of the server's threads.
DOWNLOADS = 2
_PART = 64 * 1024

_Parts = Callable[[Reader, int], Iterator[bytes]]


class Exports:
    """Downloads of sessions from a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._room = Semaphore(DOWNLOADS)

    def response(self, session_id: int, form: str | None) -> Response:
        """A session as ``csv``, ``json`` or ``crops``: a zip of a folder a class, as ``train fit`` reads it.

        Raises:
            BadRequest: no such form.
            NotStoredError: no such session.
            ServiceUnavailable: too many downloads at a time.
        """
        if form not in _FORMS:
            raise BadRequest(f"format: one of {', '.join(_FORMS)}")
        ending, kind, parts = _FORMS[form]
        with self._store.read() as reader:
            reader.session(session_id)
        if not self._room.acquire(blocking=False):
            raise ServiceUnavailable("two downloads are under way already; try again", retry_after=10)
        response = Response(self._read(parts, session_id, form), content_type=kind)
        response.call_on_close(self._room.release)
        response.headers["Content-Disposition"] = f'attachment; filename="session-{session_id}{ending}"'
        return response

    def _read(self, parts: _Parts, session_id: int, form: str) -> Iterator[bytes]:
        with self._store.read() as reader:
            last = corrections_in(reader, session_id, form)
            yield from parts(reader, session_id)
        # Only what was sent to its end, and whole, is kept elsewhere.
        try:
            if last and not reader.unreadable:
                self._store.save_corrections(last, session_id)
        except StoreError as error:
            self._store.add_event("retention", f"that it was exported is not recorded: {error}", session_id)


class _Sink(io.RawIOBase):
    """What a zip was written to since it was last taken from."""

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def writable(self) -> bool:
        return True

    def write(self, data: "Buffer") -> int:
        before = len(self._data)
        self._data += data
        return len(self._data) - before

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


def _csv(reader: Reader, session_id: int) -> Iterator[bytes]:
    return _in_parts(csv_text(reader, session_id))


def _json(reader: Reader, session_id: int) -> Iterator[bytes]:
    return _in_parts(json_text(reader, session_id))


def _in_parts(texts: Iterator[str]) -> Iterator[bytes]:
    """The same in fewer pieces: each costs the server more than a line is worth."""
    part = bytearray()
    for text in texts:
        part += text.encode()
        if len(part) >= _PART:
            yield bytes(part)
            part.clear()
    yield bytes(part)


def _crops(reader: Reader, session_id: int) -> Iterator[bytes]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # JPEG does not get smaller
        for place, jpeg in labelled_crops(reader, session_id):
            archive.writestr(zipfile.ZipInfo(f"session-{session_id}/{place}"), jpeg)
            if len(sink) >= _PART:
                yield sink.take()
        if reader.unreadable:
            lines = "".join(f"{line}\n" for line in reader.unreadable)
            archive.writestr(zipfile.ZipInfo(f"session-{session_id}/unreadable.txt"), lines)
    yield sink.take()


_FORMS: dict[str, tuple[str, str, _Parts]] = {
    "csv": (".csv", "text/csv; charset=utf-8", _csv),
    "json": (".json", "application/json", _json),
    "crops": ("-crops.zip", "application/zip", _crops),
}
