"""The model file: one ``.tflite`` that carries everything a device needs to use it rightly.

The flatbuffer comes first. Appended to it (TensorFlow Lite ignores what follows; ``unzip -l`` lists it) is a
zip with ``manifest.json`` and ``labels.txt``; the zip's comment is the SHA-256 of every byte before it. The
hash finds damage and mix-ups; it is not a signature.

Before conversion, the same manifest, less what conversion adds, lies beside the ``.keras`` file as
``NAME.manifest.json``, with a SHA-256 of its own and that of the ``.keras``.
"""

import dataclasses
import hashlib
import io
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize
from hematovision.errors import ModelFileError
from hematovision.regular_file import open_regular_file, read_regular_file

#: Raised when a reader of this version would misread a newer file. Unknown keys within a version are refused.
FORMAT_VERSION = 1

_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of a TensorFlow Lite flatbuffer
_HEX_DIGITS = 64
_SEAL = "sha256"
_MAX_BYTES = 512 * 1024 * 1024
_MAX_MANIFEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Manifest:
    """What a model is and how it is to be used.

    ``training``, ``calibration``, ``parity`` and ``accuracy`` are records for people and reports: JSON
    objects written by the stage of that name, empty where it has not run. The other fields steer the device.
    """

    crop: CropSize
    #: Logits are divided by this before the softmax.
    temperature: float
    #: A cell whose largest calibrated probability is below this is left unclassified.
    decline_below: float
    classes: tuple[str, ...] = CLASS_NAMES
    #: How the weights are stored (see ``convert.recipes``) and the runtimes that load such a file.
    recipe: str = "keras"
    runtimes: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Manifest as JSON text, indented, keys in the order of the fields."""
        content = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> "Manifest":
        """Read a manifest; ``name`` is what messages call its file.

        Raises:
            ModelFileError: it is no manifest, newer than this program, or says what cannot be.
        """
        try:
            content = json.loads(text)
        except ValueError as error:  # UnicodeDecodeError is one too
            raise ModelFileError(
                f"{name}: the manifest is not JSON ({error}); make the model file again"
            ) from error
        if not isinstance(content, dict):
            raise ModelFileError(f"{name}: the manifest is not a JSON object; make the model file again")
        version = content.pop("format_version", None)
        if not isinstance(version, int) or version < 1:
            raise ModelFileError(f"{name}: the manifest has no format version; make the model file again")
        if version > FORMAT_VERSION:
            raise ModelFileError(
                f"{name}: its manifest is of format {version}, this program reads up to {FORMAT_VERSION}; "
                "update hematovision"
            )
        try:
            crop = content.pop("crop")
            manifest = cls(
                crop=CropSize(float(crop["side_um"]), _whole(crop["side_px"])),
                classes=tuple(content.pop("classes")),
                runtimes=tuple(content.pop("runtimes")),
                temperature=float(content.pop("temperature")),
                decline_below=float(content.pop("decline_below")),
                **content,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"{name}: the manifest lacks or misstates a field ({error}); make the model file again"
            ) from error
        manifest._check(name)
        return manifest

    def _check(self, name: str) -> None:
        if self.classes != CLASS_NAMES:
            raise ModelFileError(
                f"{name}: its classes are {', '.join(map(str, self.classes))}; this program's are "
                f"{', '.join(CLASS_NAMES)}, in that order; use a model made for them"
            )
        possible = {
            "crop.side_um": 5 <= self.crop.side_um <= 100,
            "crop.side_px": 32 <= self.crop.side_px <= 1024,
            "temperature": 0 < self.temperature < math.inf,
            "decline_below": 0 <= self.decline_below <= 1,
            "recipe": isinstance(self.recipe, str),
            **{
                key: isinstance(getattr(self, key), dict)
                for key in ("training", "calibration", "parity", "accuracy", "tools")
            },
        }
        wrong = [key for key, right in possible.items() if not right]
        if wrong:
            raise ModelFileError(
                f"{name}: the manifest's {', '.join(wrong)} cannot be; make the model file again"
            )


@dataclass(frozen=True)
class ModelFile:
    """A model file that was read and found whole."""

    path: Path
    flatbuffer: bytes
    manifest: Manifest
    #: SHA-256 of the flatbuffer, hexadecimal: which model this is, whatever is recorded about it later.
    model_hash: str


def read_model_file(path: Path | str) -> ModelFile:
    """Read and check a model file.

    Raises:
        ModelFileError: the file is missing, damaged, of another kind, or not for this program.
    """
    path = Path(path)
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
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            flatbuffer = data[: min(entry.header_offset for entry in archive.infolist())]
            text = archive.read("manifest.json")
            labels = archive.read("labels.txt").decode().splitlines()
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ModelFileError(f"{path}: its manifest cannot be read ({error}); make the file again") from error
    manifest = Manifest.from_json(text, str(path))
    if tuple(labels) != manifest.classes:
        raise ModelFileError(f"{path}: labels.txt and the manifest name other classes; make the file again")
    return ModelFile(path, flatbuffer, manifest, hashlib.sha256(flatbuffer).hexdigest())


def write_model_file(path: Path | str, flatbuffer: bytes, manifest: Manifest) -> None:
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
            ("labels.txt", "\n".join(manifest.classes) + "\n"),
        ):
            archive.writestr(zipfile.ZipInfo(name), text)
        archive.comment = b"0" * _HEX_DIGITS
    body = buffer.getvalue()[:-_HEX_DIGITS]
    write_atomically(path, body + hashlib.sha256(body).hexdigest().encode())


def manifest_path(keras_path: Path | str) -> Path:
    """Where the manifest of a ``.keras`` file lies: beside it, as ``NAME.manifest.json``."""
    return Path(keras_path).with_suffix(".manifest.json")


def read_keras_manifest(keras_path: Path | str) -> Manifest:
    """Read the manifest beside a ``.keras`` file.

    Raises:
        ModelFileError: it is missing or wrong, or the model is not the one it was written for.
    """
    path = manifest_path(keras_path)
    try:
        text = read_regular_file(path, _MAX_MANIFEST_BYTES)
        model_hash = file_hash(Path(keras_path))
    except OSError as error:
        raise ModelFileError(
            f"{error.filename or keras_path}: cannot be read ({error.strerror}); train fit writes NAME.keras "
            "and NAME.manifest.json, keep them together"
        ) from error
    manifest = Manifest.from_json(_unsealed(text, path), str(path))
    if manifest.training.get("keras_sha256") != model_hash:
        raise ModelFileError(
            f"{keras_path}: not the model that {path.name} was written for (SHA-256 differs); "
            "copy both again from one training run"
        )
    return manifest


def write_keras_manifest(keras_path: Path | str, manifest: Manifest) -> None:
    """Write the manifest beside a ``.keras`` file that is there, sealed with the SHA-256 of both."""
    training = {**manifest.training, "keras_sha256": file_hash(Path(keras_path))}
    content = json.loads(dataclasses.replace(manifest, training=training).to_json())
    content[_SEAL] = _seal(content)
    write_atomically(
        manifest_path(keras_path), (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
    )


def _unsealed(text: bytes, path: Path) -> str:
    """The manifest of a sealed file, or `ModelFileError` where it was edited."""
    try:
        content = json.loads(text)
        seal = content.pop(_SEAL)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: not a manifest that train fit wrote; copy it again") from error
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


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a whole number")
    return value
