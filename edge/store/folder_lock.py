"""One daemon at a time in a state folder."""

import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.store.database import sync_folder
from hematovision.errors import StoreError
from hematovision.images import shown_path

_NAME = "lock"


class FolderLock:
    """Held while its context lasts; the system lets go of it when the process ends, however it does.

    The folder is made where it is not there, for its user alone: there are samples' names in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take it. Raises `StoreError` where another process has it or the folder cannot be written."""
        try:
            new = [one for one in (self._folder, *self._folder.parents) if not one.exists()]
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for one in new:  # or a pulled plug takes the folder along, whatever is synced in it
                sync_folder(one.parent)
            self._descriptor = self._take()
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(
                f"{shown_path(self._folder)}: cannot be made or written ({error.strerror}); give a folder "
                "that this user may write"
            ) from error
        return self

    def renew(self) -> None:
        """Take the lock anew where its file was removed. Raises `StoreError` where it cannot be had."""
        path = self._folder / _NAME
        try:
            if path.exists() and os.path.samestat(os.fstat(self._descriptor), path.stat()):
                return
            descriptor = self._take()
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                f"{shown_path(path)}: was removed and cannot be made again ({error.strerror}); check "
                "the folder"
            ) from error
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _take(self) -> int:
        path = self._folder / _NAME
        # A pipe is not waited for.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StoreError(f"{shown_path(path)}: is no plain file; remove it, the device makes its own")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # For people: the lock itself is the system's. Over what is there, which takes no room.
            os.pwrite(descriptor, f"{os.getpid():<10}\n".encode(), 0)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreError(
                f"{shown_path(self._folder)}: process {owner} is running in this folder; stop it, or give "
                "another folder (store.folder)"
            ) from error
        except StoreError:
            os.close(descriptor)
            raise
        except OSError as error:
            os.close(descriptor)
            raise StoreError(
                f"{shown_path(path)}: cannot be written ({error.strerror}); make room on the disk, or give "
                "another folder"
            ) from error
        return descriptor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go. The file stays: a lock on one that was unlinked would be nobody's."""
        os.close(self._descriptor)
