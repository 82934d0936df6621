"""The model file: one ``.tflite`` that carries everything a device needs to use it rightly.

A classifier's file and a finder's differ in what their manifest says. The flatbuffer comes first. Appended
to it (TensorFlow Lite ignores what follows; ``unzip -l`` lists it) is a zip with ``manifest.json`` and
``labels.txt``; the zip's comment is the SHA-256 of every byte before it. The hash finds damage and mix-ups;
it is not a signature.

Before conversion, the same manifest, less what conversion adds, lies beside the ``.keras`` file as
``NAME.manifest.json``, with a SHA-256 of its own and that of the ``.keras``.
"""

import dataclasses
import hashlib
import io
import json
import os
import stat
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from hematovision.errors import ModelFileError
from hematovision.manifest import FORMAT_VERSION, MAX_MANIFEST_BYTES, FinderManifest, Manifest, json_object
from hematovision.regular_file import open_regular_file, read_regular_file

__all__ = [
    "FORMAT_VERSION",
    "FinderFile",
    "FinderManifest",
    "Manifest",
    "ModelFile",
    "file_hash",
    "kind_of_keras",
    "manifest_path",
    "read_finder_file",
    "read_finder_manifest",
    "read_keras_manifest",
    "read_model_file",
    "shipped_model",
    "write_atomically",
    "write_keras_manifest",
    "write_model_file",
]

_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of a TensorFlow Lite flatbuffer
_HEX_DIGITS = 64
_SEAL = "sha256"
_MAX_BYTES = 512 * 1024 * 1024
_MEMBERS = ("manifest.json", "labels.txt")
_END = struct.Struct("<4sHHHHLLH")  # of a zip, before its comment
_ZIP64, _ZIP64_BYTES = b"PK\6\7", 20
_UTF8_NAME = 0x800
# What zipfile was seen to raise where a zip is damaged.
_NO_ZIP = (zipfile.BadZipFile, OSError, ValueError, LookupError, RuntimeError, EOFError, struct.error)


_AnyManifest = TypeVar("_AnyManifest", Manifest, FinderManifest)


@dataclass(frozen=True)
class ModelFile:
    """A classifier's file that was read and found whole."""

    path: Path
    flatbuffer: bytes
    manifest: Manifest
    #: SHA-256 of the flatbuffer, hexadecimal: which model this is, whatever is recorded about it later.
    model_hash: str


@dataclass(frozen=True)
class FinderFile:
    """A finder's file that was read and found whole; as `ModelFile`."""

    path: Path
    flatbuffer: bytes
    manifest: FinderManifest
    model_hash: str


def read_model_file(path: Path | str) -> ModelFile:
    """Read and check a classifier's file.

    Raises:
        ModelFileError: the file is missing, damaged, of another kind, or not for this program.
    """
    return ModelFile(Path(path), *_parts(Path(path), Manifest))


def read_finder_file(path: Path | str) -> FinderFile:
    """Read and check a finder's file. Raises as `read_model_file` does."""
    return FinderFile(Path(path), *_parts(Path(path), FinderManifest))


def _parts(path: Path, kind: type[_AnyManifest]) -> tuple[bytes, _AnyManifest, str]:
    """Return the flatbuffer, manifest and hash of a file of a kind, found whole."""
    flatbuffer, text, labels = _read(path)
    manifest = kind.from_json(text, str(path))
    if tuple(labels.decode(errors="replace").splitlines()) != manifest.labels:
        raise ModelFileError(f"{path}: labels.txt and the manifest name other classes; make the file again")
    return flatbuffer, manifest, hashlib.sha256(flatbuffer).hexdigest()


def _read(path: Path) -> tuple[bytes, bytes, bytes]:
    """Return the flatbuffer, manifest and labels of a file that is sealed and whole."""
    try:
        data = read_regular_file(path, _MAX_BYTES)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if data[4:8] != _IDENTIFIER:
        raise ModelFileError(
            f"{path}: not a TensorFlow Lite model; give a .tflite made by hematovision convert"
        )
    body, seal = data[:-_HEX_DIGITS], data[-_HEX_DIGITS:]
    if hashlib.sha256(body).hexdigest().encode() != seal:
        if not zipfile.is_zipfile(io.BytesIO(data)):
            raise ModelFileError(
                f"{path}: a TensorFlow Lite model without its manifest, or cut short; "
                "make it with hematovision convert, or copy it again"
            )
        raise ModelFileError(f"{path}: damaged or edited: its SHA-256 does not match; copy it again")
    return _unpacked(data, path)


def _unpacked(data: bytes, path: Path) -> tuple[bytes, bytes, bytes]:
    """The flatbuffer, manifest and labels of a sealed file; its zip is one as `write_model_file` makes it."""
    try:
        _check_end(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            for entry in entries:
                _check_member(entry)
            if sorted(entry.filename for entry in entries) != sorted(_MEMBERS):
                raise ValueError(f"it holds other files than {' and '.join(_MEMBERS)}, or one twice")
            start = min(entry.header_offset for entry in entries)
            if start <= len(_IDENTIFIER):
                raise ValueError("it begins before the model ends")
            return data[:start], archive.read("manifest.json"), archive.read("labels.txt")
    except _NO_ZIP as error:
        raise ModelFileError(f"{path}: its manifest cannot be read ({error}); make the file again") from error


def _check_end(data: bytes) -> None:
    """Raise `ValueError` where the end of the zip does not say that it holds two members."""
    end = data[-_HEX_DIGITS - _END.size : -_HEX_DIGITS]
    before = data[-_HEX_DIGITS - _END.size - _ZIP64_BYTES :]
    if len(end) < _END.size or before.startswith(_ZIP64):
        raise ValueError("its zip does not end as one of a model file")
    signature, disk, disk_of_directory, here, members, _, _, comment = _END.unpack(end)
    if (signature, disk, disk_of_directory, comment) != (b"PK\5\6", 0, 0, _HEX_DIGITS):
        raise ValueError("its zip does not end as one of a model file")
    if here != members or members != len(_MEMBERS):
        raise ValueError(f"it holds {members} files, not {len(_MEMBERS)}")


def _check_member(entry: zipfile.ZipInfo) -> None:
    """Raise `ValueError` for a member that `write_model_file` does not write."""
    mode = entry.external_attr >> 16
    if entry.is_dir() or stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ValueError("a member of it is a folder, link or device")
    if entry.flag_bits & ~_UTF8_NAME:
        raise ValueError("a member of it is encrypted, or stored in another way than model files are")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError("a member of it is compressed")
    if entry.file_size != entry.compress_size or entry.file_size > MAX_MANIFEST_BYTES:
        raise ValueError(f"a member of it states a size of {entry.file_size:,} bytes")


def shipped_model(name: str, what: str, option: str) -> Path:
    """Return the path of a model file that comes with this program.

    Args:
        name: of the file.
        what: what messages call it.
        option: by which another is given.

    Raises:
        ModelFileError: it is not there.
    """
    path = Path(str(files("hematovision") / "models" / name))
    if not path.is_file():
        raise ModelFileError(
            f"{path}: {what} that comes with hematovision is not there; give one with {option}"
        )
    return path


def write_model_file(path: Path | str, flatbuffer: bytes, manifest: Manifest | FinderManifest) -> None:
    """Write a model file whole or not at all, replacing one that is there.

    Raises:
        ModelFileError: the flatbuffer is no TensorFlow Lite model, or the file cannot be written.
    """
    path = Path(path)
    if flatbuffer[4:8] != _IDENTIFIER:
        raise ModelFileError(f"{path}: what was to be written is not a TensorFlow Lite model")
    buffer = io.BytesIO()
    buffer.write(flatbuffer)
    # Not mode "a": weights that look like the end of a zip by chance would be taken for one and overwritten.
    with zipfile.ZipFile(buffer, "w") as archive:
        # A fixed time of day, so that the same model and manifest give the same file.
        for name, text in (
            ("manifest.json", manifest.to_json()),
            ("labels.txt", "\n".join(manifest.labels) + "\n"),
        ):
            archive.writestr(zipfile.ZipInfo(name), text)
        archive.comment = b"0" * _HEX_DIGITS
    body = buffer.getvalue()[:-_HEX_DIGITS]
    write_atomically(path, body + hashlib.sha256(body).hexdigest().encode())


def manifest_path(keras_path: Path | str) -> Path:
    """Where the manifest of a ``.keras`` file lies: beside it, as ``NAME.manifest.json``."""
    return Path(keras_path).with_suffix(".manifest.json")


def read_keras_manifest(keras_path: Path | str) -> Manifest:
    """Read the manifest beside a classifier's ``.keras`` file.

    Raises:
        ModelFileError: it is missing or wrong, or the model is not the one it was written for.
    """
    return _read_beside_keras(Path(keras_path), Manifest)


def read_finder_manifest(keras_path: Path | str) -> FinderManifest:
    """Read the manifest beside a finder's ``.keras`` file. Raises as `read_keras_manifest` does."""
    return _read_beside_keras(Path(keras_path), FinderManifest)


def kind_of_keras(keras_path: Path | str) -> str:
    """Return the kind that the manifest beside a ``.keras`` file states; a classifier where it states none.

    Raises:
        ModelFileError: it is missing, or not sealed.
    """
    path = manifest_path(keras_path)
    return str(json_object(_read_beside(Path(keras_path)), str(path)).get("kind", Manifest.KIND))


def write_keras_manifest(keras_path: Path | str, manifest: Manifest | FinderManifest) -> None:
    """Write the manifest beside a ``.keras`` file that is there, sealed with the SHA-256 of both."""
    training = {**manifest.training, "keras_sha256": file_hash(Path(keras_path))}
    content = json.loads(dataclasses.replace(manifest, training=training).to_json())
    content[_SEAL] = _seal(content)
    write_atomically(
        manifest_path(keras_path), (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
    )


def _read_beside(keras_path: Path) -> str:
    """Return the manifest beside a ``.keras`` file, unsealed."""
    path = manifest_path(keras_path)
    try:
        return _unsealed(read_regular_file(path, MAX_MANIFEST_BYTES), path)
    except OSError as error:
        raise _not_together(keras_path, error) from error


def _read_beside_keras(keras_path: Path, kind: type[_AnyManifest]) -> _AnyManifest:
    manifest = kind.from_json(_read_beside(keras_path), str(manifest_path(keras_path)))
    try:
        model_hash = file_hash(keras_path)
    except OSError as error:
        raise _not_together(keras_path, error) from error
    if manifest.training.get("keras_sha256") != model_hash:
        raise ModelFileError(
            f"{keras_path}: not the model that {manifest_path(keras_path).name} was written for (SHA-256 "
            "differs); copy both again from one training run"
        )
    return manifest


def _not_together(keras_path: Path, error: OSError) -> ModelFileError:
    return ModelFileError(
        f"{error.filename or keras_path}: cannot be read ({error.strerror}); training writes NAME.keras "
        "and NAME.manifest.json, keep them together"
    )


def _unsealed(text: bytes, path: Path) -> str:
    """The manifest of a sealed file, or `ModelFileError` where it was edited."""
    content = json_object(text, str(path))
    seal = content.pop(_SEAL, None)
    if seal is None:
        raise ModelFileError(f"{path}: not a manifest that train fit wrote; copy it again")
    if seal != _seal(content):
        raise ModelFileError(f"{path}: damaged or edited: its SHA-256 does not match; copy it again")
    return json.dumps(content)


def _seal(content: Mapping[str, Any]) -> str:
    """SHA-256 over everything a manifest says, in an order and spacing that do not depend on the file's."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal. Raises `OSError` where it is no regular file or cannot be read."""
    with open_regular_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a power cut, finds the old one or the new one, never a part.

    Raises:
        ModelFileError: the file cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except OSError:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ModelFileError(
            f"{path}: cannot be written ({error.strerror}); check folder and free space"
        ) from error
