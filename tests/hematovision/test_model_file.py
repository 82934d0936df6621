"""The model file: whole or refused, and refused for the right reason."""

import dataclasses
import hashlib
import io
import json
import math
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize
from hematovision.errors import ModelFileError
from hematovision.model_file import (
    FORMAT_VERSION,
    Manifest,
    manifest_path,
    read_keras_manifest,
    read_model_file,
    write_atomically,
    write_keras_manifest,
    write_model_file,
)

# What a flatbuffer begins with, and weights in which a zip's signatures occur by chance.
FLATBUFFER = b"\x1c\x00\x00\x00TFL3" + random.Random(1).randbytes(3000) + b"PK\x03\x04PK\x05\x06" + bytes(500)
MANIFEST = Manifest(
    crop=CropSize(20.0, 96),
    temperature=1.3,
    decline_below=0.55,
    recipe="int8",
    runtimes=("litert", "tflite-runtime"),
    training={"data": "drawn"},
    accuracy={"sets": [{"name": "µ", "cells": 3, "originals": 3, "accuracy": 1.0, "low": 0.3, "high": 1.0}]},
    tools={"tensorflow": "2.19.1"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    write_model_file(path, FLATBUFFER, MANIFEST)
    return path


def write_zip(path: Path, files: dict[str, str], flatbuffer: bytes = FLATBUFFER) -> None:
    """A model file with a valid seal and any content."""
    buffer = io.BytesIO()
    buffer.write(flatbuffer)
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.comment = b"0" * 64
    body = buffer.getvalue()[:-64]
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())


def changed_manifest(**changes: Any) -> str:
    return json.dumps(json.loads(MANIFEST.to_json()) | changes)


def test_what_was_written_is_what_is_read(path: Path) -> None:
    model = read_model_file(path)
    assert model.flatbuffer == FLATBUFFER
    assert model.manifest == MANIFEST
    assert model.path == path
    assert model.model_hash == hashlib.sha256(FLATBUFFER).hexdigest()


def test_the_same_content_gives_the_same_file(path: Path, tmp_path: Path) -> None:
    write_model_file(tmp_path / "again.tflite", FLATBUFFER, MANIFEST)
    assert (tmp_path / "again.tflite").read_bytes() == path.read_bytes()


def test_any_unzip_lists_manifest_and_labels_and_the_flatbuffer_comes_first(path: Path) -> None:
    assert path.read_bytes().startswith(FLATBUFFER)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["manifest.json", "labels.txt"]
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().split() == list(CLASS_NAMES)
        assert json.loads(archive.read("manifest.json"))["format_version"] == FORMAT_VERSION


def test_what_is_recorded_later_leaves_the_models_hash_as_it_is(path: Path) -> None:
    before = read_model_file(path)
    later = dataclasses.replace(before.manifest, accuracy={"sets": []})
    write_model_file(path, before.flatbuffer, later)
    after = read_model_file(path)
    assert after.model_hash == before.model_hash
    assert after.manifest.accuracy == {"sets": []}


def test_a_file_cut_short_anywhere_is_refused(path: Path) -> None:
    data = path.read_bytes()
    lengths = {*range(0, len(data), 37), *range(len(data) - 150, len(data)), len(FLATBUFFER)}
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError, match=rf"^{path}: "):
            read_model_file(path)


def test_a_file_with_more_behind_it_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ModelFileError):
        read_model_file(path)


def test_one_flipped_bit_anywhere_is_refused(path: Path) -> None:
    data = path.read_bytes()
    dice = random.Random(2)
    places = {dice.randrange(len(data)) for _ in range(400)}
    places |= {*range(16), *range(len(FLATBUFFER), len(FLATBUFFER) + 64), *range(len(data) - 300, len(data))}
    for place in sorted(places):
        damaged = bytearray(data)
        damaged[place] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            read_model_file(path)


def test_an_edited_manifest_is_refused_though_the_zip_is_in_order(path: Path) -> None:
    seal = path.read_bytes()[-64:]
    buffer = io.BytesIO()
    buffer.write(FLATBUFFER)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("manifest.json", changed_manifest(decline_below=0.0))
        archive.writestr("labels.txt", "\n".join(CLASS_NAMES) + "\n")
        archive.comment = seal
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ModelFileError, match="damaged or edited"):
        read_model_file(path)


def test_another_flatbuffer_before_the_same_manifest_is_refused(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(FLATBUFFER.replace(b"\x00" * 20, b"\x01" * 20) + data[len(FLATBUFFER) :])
    with pytest.raises(ModelFileError, match="damaged or edited"):
        read_model_file(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a TensorFlow Lite model"),
        (b"hello", "not a TensorFlow Lite model"),
        (b"\x89HDF\r\n\x1a\n" + bytes(1000), "not a TensorFlow Lite model"),
        (FLATBUFFER[:3000], "without its manifest, or cut short"),
    ],
    ids=["empty", "text", "keras", "bare flatbuffer"],
)
def test_a_file_of_another_kind_says_what_it_is_not(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=complaint):
        read_model_file(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.tflite", tmp_path):
        with pytest.raises(ModelFileError, match=r"cannot be read .*check the path"):
            read_model_file(path)


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.tflite")
    with pytest.raises(ModelFileError, match=r"m\.tflite: cannot be read \(not a file but a pipe\)"):
        read_model_file(tmp_path / "m.tflite")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format_version": FORMAT_VERSION + 1}, "update hematovision"),
        ({"format_version": None}, "no format version"),
        ({"format_version": "1"}, "no format version"),
        ({"classes": CLASS_NAMES[::-1]}, "in that order"),
        ({"classes": CLASS_NAMES[:3]}, "in that order"),
        ({"classes": ["basophil", *CLASS_NAMES[1:]]}, "in that order"),
        ({"classes": None}, "lacks or misstates"),
        ({"temperature": 0}, "temperature cannot be"),
        ({"temperature": "warm"}, "lacks or misstates"),
        ({"decline_below": 1.5}, "decline_below cannot be"),
        ({"crop": {"side_um": 20.0}}, "lacks or misstates"),
        ({"crop": {"side_um": 20.0, "side_px": 96.5}}, "lacks or misstates"),
        ({"crop": {"side_um": 0, "side_px": 96}}, "crop.side_um cannot be"),
        ({"crop": {"side_um": 20.0, "side_px": 5}}, "crop.side_px cannot be"),
        ({"accuracy": [1]}, "accuracy cannot be"),
        ({"learning_rate": 0.1}, "lacks or misstates"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_manifest_that_cannot_be_is_refused(path: Path, changes: dict[str, Any], complaint: str) -> None:
    labels = "\n".join(CLASS_NAMES) + "\n"
    write_zip(path, {"manifest.json": changed_manifest(**changes), "labels.txt": labels})
    with pytest.raises(ModelFileError, match=complaint) as caught:
        read_model_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_temperature_that_is_no_number_is_refused(path: Path, number: str) -> None:
    text = MANIFEST.to_json().replace('"temperature": 1.3', f'"temperature": {number}')
    write_zip(path, {"manifest.json": text, "labels.txt": "\n".join(CLASS_NAMES)})
    with pytest.raises(ModelFileError, match="temperature"):
        read_model_file(path)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"manifest.json": MANIFEST.to_json()}, "cannot be read"),
        ({"labels.txt": "\n".join(CLASS_NAMES)}, "cannot be read"),
        ({"manifest.json": "{", "labels.txt": "\n".join(CLASS_NAMES)}, "not JSON"),
        ({"manifest.json": "[]", "labels.txt": "\n".join(CLASS_NAMES)}, "not a JSON object"),
        ({"manifest.json": MANIFEST.to_json(), "labels.txt": "a\nb\nc\nd\n"}, "name other classes"),
        (
            {"manifest.json": MANIFEST.to_json(), "labels.txt": "\n".join(CLASS_NAMES[::-1])},
            "name other classes",
        ),
    ],
    ids=["no labels", "no manifest", "no JSON", "no object", "other labels", "a label less"],
)
def test_a_sealed_file_with_the_wrong_content_is_refused(
    path: Path, files: dict[str, str], complaint: str
) -> None:
    write_zip(path, files)
    with pytest.raises(ModelFileError, match=complaint):
        read_model_file(path)


def test_what_is_no_model_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="not a TensorFlow Lite model"):
        write_model_file(tmp_path / "x.tflite", b"hello, world", MANIFEST)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_with_a_number_that_json_lacks_is_not_written(tmp_path: Path) -> None:
    wrong = dataclasses.replace(MANIFEST, accuracy={"balanced": math.nan})
    with pytest.raises(ValueError, match="JSON"):
        write_model_file(tmp_path / "x.tflite", FLATBUFFER, wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file_and_no_part(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ModelFileError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_keras_file_and_its_manifest_belong_together(tmp_path: Path) -> None:
    keras_path = tmp_path / "model.keras"
    keras_path.write_bytes(b"weights")
    write_keras_manifest(keras_path, MANIFEST)
    assert manifest_path(keras_path).name == "model.manifest.json"
    manifest = read_keras_manifest(keras_path)
    assert dataclasses.replace(manifest, training={"data": "drawn"}) == MANIFEST
    text = manifest_path(keras_path).read_text()
    for edited in (
        text.replace('"decline_below": ', '"decline_below": 0'),
        text.replace("drawn", "real"),
        "{}",
    ):
        assert edited != text
        manifest_path(keras_path).write_text(edited)
        with pytest.raises(ModelFileError, match=r"model\.manifest\.json"):
            read_keras_manifest(keras_path)
    manifest_path(keras_path).write_text(text)
    keras_path.write_bytes(b"other weights")
    with pytest.raises(ModelFileError, match="not the model that"):
        read_keras_manifest(keras_path)
    manifest_path(keras_path).unlink()
    with pytest.raises(ModelFileError, match="keep them together"):
        read_keras_manifest(keras_path)
