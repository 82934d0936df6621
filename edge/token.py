"""The token that opens the web page: made once, shown once, kept as a hash.

A token is 256 random bits, so a single SHA-256 keeps it: nobody can try so many, and a slow hash, which
protects passwords that people think up, would only slow down every request.
"""

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from edge.private_file import read_private_file, write_private_file
from hematovision.errors import SettingError
from hematovision.images import shown_path

_BYTES = 32
_NAME = "token"
_WHAT = "the web page's token"
_CONTENT = re.compile(rb"sha256:([0-9a-f]{64})\n")


def new_token(folder: Path) -> str:
    """Make a token and store its hash in the state folder, in the place of any before it.

    A folder that is not there yet is made, as the first run would.

    Returns:
        The token, 43 characters that need no quoting anywhere. It is kept nowhere: show it, once.

    Raises:
        SettingError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(
            f"{shown_path(folder)}: cannot be made ({error.strerror}); check store.folder in the settings"
        ) from error
    token = secrets.token_urlsafe(_BYTES)
    while token.startswith("-"):  # which a command would take for an option
        token = secrets.token_urlsafe(_BYTES)
    write_private_file(token_path(folder), b"sha256:" + _hash(token).encode() + b"\n")
    return token


def token_path(folder: Path) -> Path:
    """The file that keeps the token's hash in a state folder."""
    return folder / _NAME


def has_token(folder: Path) -> bool:
    """Whether a token was made. Raises `SettingError` where its file is not as `new_token` writes it."""
    return stored_hash(folder) is not None


def check_token(folder: Path, text: str) -> bool:
    """Whether a text is the token, found out in constant time; False where none was made.

    The file is read each time, so that a new token holds from the moment it is made.

    Raises:
        SettingError: the token's file is damaged, no file, or other users can read it.
    """
    stored = stored_hash(folder)
    return stored is not None and hmac.compare_digest(stored, _hash(text))


def stored_hash(folder: Path) -> str | None:
    """The hash of the token, hexadecimal; None where none was made. Raises as `check_token` does."""
    path = token_path(folder)
    try:
        content = read_private_file(path, _WHAT)
    except FileNotFoundError:
        return None
    found = _CONTENT.fullmatch(content)
    if found is None:
        raise SettingError(
            f"{_WHAT}: {shown_path(path)} is damaged; make another one with hematovision token new"
        )
    return found[1].decode()


def _hash(token: str) -> str:
    # What a browser sends may hold anything.
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
