"""Every error that HematoVision raises on purpose.

::

    HematoVisionError
    ├── SettingError        (ValueError)    an option or setting that cannot be right; exit status 2
    ├── MissingPartError    (ImportError)   an optional part is not installed
    ├── ImageError          (ValueError)    a picture or video that cannot be used
    ├── CalibrationError    (ValueError)    a scale or a light that cannot be measured from these images
    ├── CameraError         (OSError)       a source of frames that does not open or stops
    │   └── NoCameraError                   there is no such camera
    ├── ChildError          (RuntimeError)  a process of our own that gave no result
    ├── RecoveryError       (RuntimeError)  what only a new process can mend; exit status 75
    ├── StuckThreadError    (RuntimeError)  a thread that does not stop
    ├── StoreError          (OSError)       a store that cannot be opened, read or written
    │   ├── NotStoredError                  there is no such session or cell
    │   └── StoreGoneError                  its file is not in its place any more
    ├── ModelFileError      (ValueError)    a model file that is damaged, mixed up or of another kind
    ├── DataSetError        (ValueError)    a folder of images that cannot be read as a data set
    └── ConversionError     (RuntimeError)  a converted model that is not what was asked for

Each has a second parent, so that callers catch what they expect. Each message names the file or setting,
what is wrong with it and what to do. On the command line it becomes one line and an exit status.
"""

from enum import StrEnum


def reason_of(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    lines = str(error).split("\n")
    return lines[0].strip() or type(error).__name__


class HematoVisionError(Exception):
    """Base of all errors raised on purpose; ``exit_status`` is what a command ends with."""

    exit_status = 1


class SettingError(HematoVisionError, ValueError):
    """An option or setting that cannot be right, such as a scale of zero µm per pixel."""

    exit_status = 2


class MissingPartError(HematoVisionError, ImportError):
    """An optional part that is not installed on this machine."""


class ImageError(HematoVisionError, ValueError):
    """A picture or video that cannot be used: unreadable, cut short, grey, too small or too large."""


class CalibrationError(HematoVisionError, ValueError):
    """A scale or a light that cannot be measured from the images given."""


class CameraError(HematoVisionError, OSError):
    """A source of frames that does not open, or that stops."""


class NoCameraError(CameraError):
    """There is no such camera; one may be plugged in at any time."""


class StoreError(HematoVisionError, OSError):
    """A store of sessions that cannot be opened, read or written, or that lacks what is asked for."""


class NotStoredError(StoreError):
    """There is no such session or cell in the store; it may have been deleted."""


class ChildEnding(StrEnum):
    """Why a child process gave no result."""

    NOT_STARTED = "cannot be started"
    TIMED_OUT = "took longer than it may"
    OUT_OF_MEMORY = "takes more memory than it may"
    TOO_MUCH_OUTPUT = "gave more than it may"
    UNWANTED = "is no longer wanted"
    KILLED = "was killed"
    FAILED = "failed"


class ChildError(HematoVisionError, RuntimeError):
    """A process of our own that gave no result; see `hematovision.child_process`.

    ``ending``: why. ``signal``: what killed it, where it was ``KILLED``. ``status``: its exit status, where
    it ``FAILED``. ``stderr``: the end of what it said.
    """

    def __init__(
        self,
        module: str,
        ending: ChildEnding,
        signal: int | None = None,
        status: int | None = None,
        stderr: str = "",
    ) -> None:
        self.ending, self.signal, self.status, self.stderr = ending, signal, status, stderr
        details = [] if signal is None else [f"signal {signal}"]
        details += [] if status is None else [f"status {status}"]
        details += stderr.strip().splitlines()[-1:]
        super().__init__(f"{module} {ending}" + (f" ({', '.join(details)})" if details else ""))


class StoreGoneError(StoreError):
    """The store's file was removed, moved or replaced while it is written."""


class RecoveryError(HematoVisionError, RuntimeError):
    """A camera or model that could not be recovered here; a new process may, and systemd starts one."""

    exit_status = 75  # EX_TEMPFAIL: try again later


class StuckThreadError(HematoVisionError, RuntimeError):
    """A thread that does not stop when it is told to; its message names it."""


class ModelFileError(HematoVisionError, ValueError):
    """A model file that is damaged, mixed up, newer than this program or of another kind."""


class DataSetError(HematoVisionError, ValueError):
    """A folder of images that cannot be read as a data set."""


class ConversionError(HematoVisionError, RuntimeError):
    """A converted model that is not what was asked for, or that differs too much from its original."""
