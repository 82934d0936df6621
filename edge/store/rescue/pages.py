"""Read the rows of a damaged file from its pages one by one, whatever has become of what leads to them.

SQLite reads a table from its root, and what lies behind a damaged page is lost to it. Here every leaf page of
a table is read for itself, as https://www.sqlite.org/fileformat2.html describes it.
"""

import os
import struct
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

Value = None | int | float | bytes | str

_MAGIC = b"SQLite format 3\0"
_PAGE_BYTES = 4096  # SQLite's own choice, and so ours
_TABLE_LEAF = 13
_FREE = 2  # in the map of pages
_LOG_MAGIC = (0x377F0682, 0x377F0683)
_LOG_HEADER, _FRAME_HEADER = 32, 24
_FLOATS = 7
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class Pages:
    """The pages of a file and of its write-ahead log.

    Those of whole commits in the log stand for the file's. ``later``: numbers and content of pages that the
    log has behind a place where it is damaged, which SQLite would not read.

    Args:
        path: the file; the log lies beside it, if there is one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._logged: dict[int, bytes] = {}
        self.later: list[tuple[int, bytes]] = []
        self._torn: list[bytes] = []  # pages of the log that are damaged themselves
        self._map = -1, b""  # the last page of it that was read, by its number among these

    def __enter__(self) -> Self:
        """Open them. Raises `OSError`."""
        self._file = self._path.open("rb")
        head = self._file.read(100)
        size = int.from_bytes(head[16:18])
        size = 65536 if size == 1 else size
        is_head = head.startswith(_MAGIC) and size >= 512 and not size & (size - 1)
        self._size = size if is_head else _PAGE_BYTES
        self._reserved = head[20] if is_head else 0
        log = Path(f"{self._path}-wal")
        if log.exists():
            self._read_log(log.read_bytes())
        self._count = max(os.fstat(self._file.fileno()).st_size // self._size, *self._logged, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def leaves(self) -> Iterator[list[tuple[int, list[Value]]]]:
        """Return the rows of each leaf page of a table, with their row ids; of a row, its newest state first.

        What is not UTF-8 in a text is escaped. Free pages are left out: their rows were
        deleted. A row that cannot be read is left out too.
        """
        for page, others in self._newest_first():
            rows = self._rows(page, 100 if page.startswith(_MAGIC) else 0, others)
            if rows:
                yield rows

    def _newest_first(self) -> Iterator[tuple[bytes, Mapping[int, bytes]]]:
        """Return pages, each with those beside it that stand for the file's where a row goes on."""
        later = dict(self.later)
        yield from ((page, later) for _, page in reversed(self.later))
        yield from (
            (self._page(number), {}) for number in range(1, self._count + 1) if not self._is_free(number)
        )
        yield from ((page, later) for page in self._torn)

    def _page(self, number: int) -> bytes:
        logged = self._logged.get(number)
        if logged is not None:
            return logged
        try:
            return os.pread(self._file.fileno(), self._size, (number - 1) * self._size)
        except OSError:
            return b""  # a bad block

    def _is_free(self, number: int) -> bool:
        """Return whether the map of pages says so; a file that gives room back to the disk has one."""
        a_map = (self._size - self._reserved) // 5 + 1  # one page of it, and those that it maps
        place, offset = divmod(number - 2, a_map)
        if number < 3 or offset == 0:
            return False
        if self._map[0] != place:
            self._map = place, self._page(2 + place * a_map)
        return self._map[1][(offset - 1) * 5 : (offset - 1) * 5 + 1] == bytes([_FREE])

    def _rows(self, page: bytes, start: int, others: Mapping[int, bytes]) -> list[tuple[int, list[Value]]]:
        if len(page) != self._size or page[start] != _TABLE_LEAF:
            return []
        count = int.from_bytes(page[start + 3 : start + 5])
        rows = []
        for index in range(min(count, self._size // 6)):
            at = start + 8 + 2 * index
            try:
                rows.append(self._row(page, int.from_bytes(page[at : at + 2]), others))
            except (IndexError, ValueError, struct.error):
                continue
        return rows

    def _row(self, page: bytes, at: int, others: Mapping[int, bytes]) -> tuple[int, list[Value]]:
        size, at = _varint(page, at)
        row_id, at = _varint(page, at)
        usable = self._size - self._reserved
        local = size
        if size > usable - 35:
            least = (usable - 12) * 32 // 255 - 23
            local = least + (size - least) % (usable - 4)
            local = local if local <= usable - 35 else least
        payload = bytearray(page[at : at + local])
        if local < size:
            number = int.from_bytes(page[at + local : at + local + 4])
            self._overflow(number, size, payload, others)
        if len(payload) < size:
            raise ValueError
        return row_id - (1 << 64) if row_id >> 63 else row_id, _values(bytes(payload[:size]))

    def _overflow(self, number: int, size: int, payload: bytearray, others: Mapping[int, bytes]) -> None:
        while number and len(payload) < size:
            page = others.get(number) or self._page(number)
            if len(page) != self._size:
                raise ValueError
            payload += page[4 : self._size - self._reserved]
            number = int.from_bytes(page[:4])

    def _read_log(self, log: bytes) -> None:
        whole_frame = _FRAME_HEADER + self._size
        if len(log) < _LOG_HEADER + whole_frame:
            return
        starts = range(_LOG_HEADER, len(log) - whole_frame + 1, whole_frame)
        before = struct.unpack(">II", log[24:32])
        # That of the processor which wrote it, "<" of those we run on.
        order = next((one for one in "<>" if _checksum(log[:24], (0, 0), one) == before), "")
        is_sound = bool(order) and int.from_bytes(log[:4]) in _LOG_MAGIC
        order = order or "<"
        # Each frame has the log's salt, those of earlier rounds another. Newer ones lie first.
        salts = [log[at + 8 : at + 16] for at in starts]
        salt = log[16:24] if is_sound else next((one for one, two in pairwise(salts) if one == two), b"")
        is_chained = is_sound
        waiting: dict[int, bytes] = {}
        for at, its_salt in zip(starts, salts, strict=True):
            head, page = log[at : at + _FRAME_HEADER], log[at + _FRAME_HEADER : at + whole_frame]
            sums = _checksum(page, _checksum(head[:8], before, order), order)
            before = struct.unpack(">II", head[16:24])
            is_intact = sums == before
            is_chained = is_chained and is_intact and its_salt == salt
            if is_chained:
                waiting[int.from_bytes(head[:4])] = page
                if int.from_bytes(head[4:8]):  # a commit
                    self._logged |= waiting
                    waiting = {}
            elif its_salt == salt:
                if is_intact:
                    self.later.append((int.from_bytes(head[:4]), page))
                else:
                    self._torn.append(page)
        self.later = [*waiting.items(), *self.later]


def _checksum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """Return the log's own checksum, carried on from what lies before."""
    one, two = sums
    numbers = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for first, second in zip(numbers, numbers, strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of up to nine bytes, and where the next begins."""
    value = 0
    for index in range(8):
        byte = data[at + index]
        value = value << 7 | byte & 127
        if byte < 128:
            return value, at + index + 1
    return value << 8 | data[at + 8], at + 9


def _values(payload: bytes) -> list[Value]:
    """Return the values of a record."""
    size, at = _varint(payload, 0)
    if size > len(payload):
        raise ValueError
    kinds = []
    while at < size:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[Value] = []
    at = size
    for kind in kinds:
        length = (kind - 12) // 2 if kind >= 12 else _INTEGER_BYTES.get(kind, 8 if kind == _FLOATS else 0)
        data = payload[at : at + length]
        if len(data) < length:
            raise ValueError
        at += length
        values.append(_value(kind, data))
    return values


def _value(kind: int, data: bytes) -> Value:
    if kind >= 12:
        return data if kind % 2 == 0 else data.decode("utf-8", "backslashreplace")
    if kind == _FLOATS:
        return float(struct.unpack(">d", data)[0])
    if kind in (8, 9):
        return kind - 8
    if kind == 0:
        return None
    if kind in _INTEGER_BYTES:
        return int.from_bytes(data, signed=True)
    raise ValueError
