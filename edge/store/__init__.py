"""What a device keeps: sessions, confirmed cells with their crops, corrections, events, messages to send.

One SQLite file, ``hematovision.db`` in the device's state folder. `Store` belongs to the daemon: one thread
writes, and a cell counts as stored only when it is on the disk. `open_reader` reads from any process.
"""

from edge.store.backup import back_up
from edge.store.database import FILE_NAME, open_writer
from edge.store.reader import Reader, open_reader
from edge.store.records import (
    Correction,
    Event,
    Message,
    NewSession,
    Session,
    StoreCounts,
    StoredCell,
)
from edge.store.store import Store

__all__ = [
    "FILE_NAME",
    "Correction",
    "Event",
    "Message",
    "NewSession",
    "Reader",
    "Session",
    "Store",
    "StoreCounts",
    "StoredCell",
    "back_up",
    "open_reader",
    "open_writer",
]
