"""Standard output and error as text that no character can end, whatever encoding the terminal has."""

import codecs
import errno
import io
import os
import sys
from pathlib import Path
from typing import NoReturn, TextIO

import click

#: What our own words use beyond ASCII, and how a typewriter writes it.
_TYPEWRITTEN = {
    "µ": "u",
    "°": "deg ",
    "²": "2",
    "×": "x",
    "·": "-",
    "–": "-",
    "−": "-",
    "→": "->",
    "Δ": "d",
    "…": "...",
}
_REPLACED = "hematovision-replaced"


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Say what stands for one character that an encoding lacks; an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    replacement: str | bytes
    if "\udc80" <= character <= "\udcff" and not error.encoding.lower().startswith(("utf-16", "utf-32")):
        # A file's name need not be text: it is written back as the bytes that it is.
        replacement = bytes([ord(character) - 0xDC00])
    else:
        replacement = _TYPEWRITTEN.get(character) or character.encode("ascii", "backslashreplace").decode()
    return replacement, error.start + 1


codecs.register_error(_REPLACED, _replace)


class TextOutput(io.TextIOWrapper):
    """A stream of text in which a character that its encoding lacks is replaced."""

    def __init__(self, binary: io.BufferedIOBase, encoding: str, line_buffering: bool) -> None:
        super().__init__(binary, encoding, _REPLACED, line_buffering=line_buffering)  # type: ignore[arg-type]

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding; Latin-1 for ASCII, which click takes for a mistake, and writes UTF-8 past us."""
        name = super().encoding
        return "iso8859-1" if codecs.lookup(name).name == "ascii" else name


class _StandardOutput(TextOutput):
    """Standard output; that it cannot be written is one line and an exit status, like every other error."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._fail(error)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        if error.errno == errno.EPIPE:
            raise error  # `| head` has seen enough: click ends quietly
        # What is left in the buffer would be tried again when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        raise click.ClickException(
            f"standard output cannot be written ({error.strerror}), results are lost; write it elsewhere"
        ) from error


def open_streams() -> None:
    """Have standard output and error take every character. To be called before anything is written."""
    if sys.stderr is None:  # closed by the caller: no file that is opened is to take its place
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (open to the end)
    if isinstance(sys.stderr, io.TextIOWrapper):
        encoding = _encoding_of(sys.stderr)
        sys.stderr = TextOutput(sys.stderr.detach(), encoding, line_buffering=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding, by_line = _encoding_of(sys.stdout), sys.stdout.line_buffering
        sys.stdout = _StandardOutput(sys.stdout.detach(), encoding, line_buffering=by_line)


def copy_of_standard_error() -> TextIO:
    """Another stream to where standard error goes now, which outlives that descriptor 2 is turned away."""
    return TextOutput(os.fdopen(os.dup(2), "wb"), _encoding_of(sys.stderr), line_buffering=True)


def write_for_programs() -> None:
    """Write standard output as UTF-8 from here on, whatever the locale, unless it is a terminal.

    What programs read has one encoding; a file's name that is no text stands in it as ``\\udcff``.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def _encoding_of(stream: TextIO) -> str:
    return super(TextOutput, stream).encoding if isinstance(stream, TextOutput) else stream.encoding
