"""Whatever a manifest or its zip says: it can be worked with, or it is refused with the reason."""

import copy
import dataclasses
import hashlib
import io
import json
import math
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.differential import classifier_error
from edge.misclassification import Misclassification
from hematovision.cell_classes import CLASS_NAMES
from hematovision.classifier import decide, probabilities
from hematovision.crops import CropSize
from hematovision.errors import ModelFileError
from hematovision.model_file import (
    Manifest,
    manifest_path,
    read_keras_manifest,
    read_model_file,
    write_keras_manifest,
    write_model_file,
)

NAMED = {truth: {"cells": 20, "originals": 20} | dict.fromkeys(CLASS_NAMES, 5) for truth in CLASS_NAMES}
MEASURED = {
    "name": "µ",
    "cells": 80,
    "originals": 80,
    "accuracy": 0.9,
    "low": 0.8,
    "high": 1.0,
    "named": NAMED,
}
MANIFEST = Manifest(
    crop=CropSize(20.0, 96),
    temperature=1.3,
    decline_below=0.55,
    recipe="int8",
    runtimes=("litert", "tflite-runtime"),
    training={"seed": 1, "data": [{"name": "a", "training": {"monocyte": 3}}]},
    accuracy={"sets": [MEASURED]},
    tools={"tensorflow": "2.19.1"},
)
TEXT = MANIFEST.to_json()
FLATBUFFER = b"\x1c\x00\x00\x00TFL3" + bytes(3000)
LABELS = "\n".join(CLASS_NAMES) + "\n"

WHOLE = st.integers() | st.sampled_from([2**53, -(2**63), 2**64, 10**400])
SCALARS = st.none() | st.booleans() | st.floats() | WHOLE | st.text() | st.just("0.5") | st.just("\ud800")
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)
LOGITS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4)


def places(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every key and index of a manifest."""
    inner: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [at, *(place for key, one in inner for place in places(one, (*at, key)))]


def replaced(at: tuple[str | int, ...], value: object) -> Any:
    """The manifest with another value at a place."""
    content = json.loads(TEXT)
    if not at:
        return value
    inner = content
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return content


def works(manifest: Manifest, logits: list[float]) -> None:
    """Assert that what the device does with an accepted manifest can be done."""
    table = probabilities(np.array([logits], np.float32), manifest.temperature)
    assert np.isfinite(table).all()
    assert math.isclose(table.sum(), 1, abs_tol=1e-9)
    assert math.isfinite(decide(table[0], manifest.decline_below).probability)
    assert Manifest.from_json(manifest.to_json(), "again") == manifest
    manifest.to_json().encode()
    classifier_error(manifest.accuracy)
    shares = Misclassification.of(manifest.accuracy).behind((1, 2, 3, 4))
    assert shares is None or np.isfinite(shares).all()


@settings(deadline=None, max_examples=600)
@given(at=st.sampled_from(places(json.loads(TEXT))), value=ANYTHING, logits=LOGITS)
def test_a_manifest_with_anything_anywhere_works_or_is_refused(
    at: tuple[str | int, ...], value: object, logits: list[float]
) -> None:
    text = json.dumps(replaced(at, value))
    try:
        manifest = Manifest.from_json(text, "model.tflite")
    except ModelFileError as error:
        assert str(error).startswith("model.tflite: ")
        assert "\n" not in str(error)
        assert len(str(error)) < 500
    else:
        works(manifest, logits)


@settings(deadline=None, max_examples=300)
@given(data=st.data(), logits=LOGITS)
def test_a_manifest_with_other_bytes_works_or_is_refused(data: st.DataObject, logits: list[float]) -> None:
    text = bytearray(TEXT.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        manifest = Manifest.from_json(bytes(text), "model.tflite")
    except ModelFileError as error:
        assert "\n" not in str(error)
    else:
        works(manifest, logits)


@settings(deadline=None)
@given(
    temperature=st.floats(0.01, 1000), decline_below=st.floats(0, 1), side_um=st.floats(5, 100), logits=LOGITS
)
def test_any_honest_numbers_are_accepted(
    temperature: float, decline_below: float, side_um: float, logits: list[float]
) -> None:
    manifest = dataclasses.replace(
        MANIFEST, temperature=temperature, decline_below=decline_below, crop=CropSize(side_um, 96)
    )
    works(Manifest.from_json(manifest.to_json(), "a"), logits)


@pytest.mark.parametrize(
    ("key", "number"),
    [
        *(("temperature", text) for text in ("1e-320", "1e-9", "1e9", "1e999", "-1", "NaN", "true", '"1"')),
        *(("temperature", text) for text in ("1" + 400 * "0", "1" + 5000 * "0", "[1]", "null", "{}")),
        *(("decline_below", text) for text in ("-0.1", "1.1", "NaN", "-Infinity", "false", '"0.5"')),
    ],
)
def test_absurd_numbers_are_refused_by_name(key: str, number: str) -> None:
    text = TEXT.replace(f'"{key}": {getattr(MANIFEST, key)}', f'"{key}": {number}')
    assert text != TEXT
    with pytest.raises(ModelFileError, match=f"{key}|beyond all numbers|larger than|NaN|Infinity|digits"):
        Manifest.from_json(text, "a")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"training": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}", "nested too deeply"),
        ('{"training": ' + '{"a":' * 40 + "1" + "}" * 40 + "}", "nested too deeply"),
        (TEXT.replace('"recipe"', '"temperature": 2.0, "recipe"'), "'temperature' stands there twice"),
        (TEXT.replace('"seed": 1', '"seed": 1, "seed": 2'), "'seed' stands there twice"),
        (TEXT.replace('"seed": 1', r'"seed": "\ud800"'), "surrogates not allowed"),
        (TEXT.replace('"format_version": 2', '"format_version": true'), "no format version"),
        (TEXT.encode("utf-16"), "codec can't decode"),
        (TEXT.encode("latin-1"), "codec can't decode"),
        (b" " * (17 * 1024 * 1024), "more than 16,777,216 bytes"),
    ],
    ids=[
        "lists",
        "objects",
        "a bit",
        "twice",
        "twice inside",
        "half",
        "version",
        "utf-16",
        "latin-1",
        "huge",
    ],
)
def test_what_is_no_plain_json_is_refused_with_the_reason(text: str | bytes, complaint: str) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        Manifest.from_json(text, "a")


def packed(change: Callable[[zipfile.ZipFile], None], after: Callable[[bytes], bytes] = bytes) -> bytes:
    """A sealed model file whose zip holds what ``change`` writes, its bytes changed ``after`` that."""
    buffer = io.BytesIO()
    buffer.write(FLATBUFFER)
    with zipfile.ZipFile(buffer, "w") as archive:
        change(archive)
        archive.comment = b"0" * 64
    body = after(buffer.getvalue()[:-64])
    return body + hashlib.sha256(body).hexdigest().encode()


def members(**how: Any) -> Callable[[zipfile.ZipFile], None]:
    def write(archive: zipfile.ZipFile) -> None:
        for name, text in (("manifest.json", TEXT), ("labels.txt", LABELS)):
            entry = zipfile.ZipInfo(name)
            for key, value in how.items():
                setattr(entry, key, value)
            archive.writestr(entry, text)

    return write


def with_one_more(name: str) -> Callable[[zipfile.ZipFile], None]:
    def write(archive: zipfile.ZipFile) -> None:
        members()(archive)
        with warnings.catch_warnings(action="ignore"):  # that it is there twice is meant
            archive.writestr(name, TEXT)

    return write


def of_files(files: dict[str, bytes]) -> Callable[[zipfile.ZipFile], None]:
    def write(archive: zipfile.ZipFile) -> None:
        for name, content in files.items():
            archive.writestr(name, content)

    return write


def bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr("manifest.json", TEXT + " " * 50_000_000, zipfile.ZIP_DEFLATED)
    archive.writestr("labels.txt", LABELS)


def in_directory(offset: int, form: str, value: int) -> Callable[[bytes], bytes]:
    """Another number in the zip's directory, at its first entry."""

    def change(body: bytes) -> bytes:
        changed = bytearray(body)
        struct.pack_into(form, changed, body.rindex(b"PK\1\2", 0, body.rindex(b"PK\1\2")) + offset, value)
        return bytes(changed)

    return change


SEALED = {
    "deflate": packed(members(compress_type=zipfile.ZIP_DEFLATED)),
    "bzip2": packed(members(compress_type=zipfile.ZIP_BZIP2)),
    "lzma": packed(members(compress_type=zipfile.ZIP_LZMA)),
    "bomb": packed(bomb),
    "unknown method": packed(members(), in_directory(10, "<H", 99)),
    "encrypted": packed(members(), in_directory(8, "<H", 1)),
    "strongly encrypted": packed(members(), in_directory(8, "<H", 65)),
    "patched": packed(members(), in_directory(8, "<H", 32)),
    "larger than it is": packed(members(), in_directory(24, "<L", 2**31)),
    "smaller than it is": packed(members(), in_directory(24, "<L", 2)),
    "beyond the file": packed(members(), in_directory(42, "<L", 2**31)),
    "before the model": packed(members(), in_directory(42, "<l", -3100)),
    "needs a later zip": packed(members(), in_directory(6, "<H", 990)),
    "link": packed(members(external_attr=(stat.S_IFLNK | 0o777) << 16)),
    "folder": packed(members(external_attr=(stat.S_IFDIR | 0o777) << 16)),
    "device": packed(members(external_attr=(stat.S_IFCHR | 0o777) << 16)),
    "one more": packed(with_one_more("more.txt")),
    "manifest twice": packed(with_one_more("manifest.json")),
    "folder more": packed(with_one_more("folder/")),
    "thousands more": packed(of_files(dict.fromkeys(map(str, range(3000)), b""))),
    "none": packed(of_files({})),
    "labels in another encoding": packed(
        of_files({"manifest.json": TEXT.encode(), "labels.txt": b"\xff\xfe"})
    ),
}


@pytest.mark.parametrize("kind", SEALED)
def test_a_sealed_file_with_another_zip_than_ours_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(SEALED[kind])
    with pytest.raises(ModelFileError, match=r"m\.tflite: ") as caught:
        read_model_file(path)
    assert "\n" not in str(caught.value)
    assert "damaged or edited" not in str(caught.value)


def test_a_sealed_file_with_our_zip_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(packed(members()))
    assert read_model_file(tmp_path / "m.tflite").manifest == MANIFEST


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 600), value=st.binary(min_size=1, max_size=4))
def test_a_sealed_file_with_other_bytes_in_its_zip_is_read_or_refused(
    place: int, value: bytes, tmp_path: Path
) -> None:
    body = bytearray(packed(members())[:-64])
    at = body.index(b"labels.txt") - 60 + place
    body[at : at + len(value)] = value
    path = tmp_path / "m.tflite"
    path.write_bytes(bytes(body) + hashlib.sha256(body).hexdigest().encode())
    try:
        model = read_model_file(path)
    except ModelFileError as error:
        assert "\n" not in str(error)
    else:
        assert model.manifest == MANIFEST


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.sampled_from(places(json.loads(TEXT))), value=ANYTHING)
def test_a_manifest_beside_a_keras_file_works_or_is_refused(
    at: tuple[str | int, ...], value: object, tmp_path: Path
) -> None:
    keras_path = tmp_path / "m.keras"
    keras_path.write_bytes(b"weights")
    write_keras_manifest(keras_path, MANIFEST)
    training = json.loads(manifest_path(keras_path).read_text())["training"]
    content = replaced(at, copy.deepcopy(value))
    if isinstance(content, dict) and isinstance(content.get("training"), dict):
        content["training"] |= {"keras_sha256": training["keras_sha256"]}
    if isinstance(content, dict):  # sealed with what it says
        content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    manifest_path(keras_path).write_text(json.dumps(content))
    try:
        manifest = read_keras_manifest(keras_path)
    except ModelFileError as error:
        assert "\n" not in str(error)
    else:
        works(manifest, [1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"sha256": NaN}', '{"a": 1, "a": 1, "sha256": ""}', "[]", "5"]
)
def test_a_manifest_beside_a_keras_file_that_is_no_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(b"weights")
    (tmp_path / "m.manifest.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"m\.manifest\.json: "):
        read_keras_manifest(tmp_path / "m.keras")


def test_the_written_file_is_the_zip_that_is_accepted(tmp_path: Path) -> None:
    write_model_file(tmp_path / "m.tflite", FLATBUFFER, MANIFEST)
    assert read_model_file(tmp_path / "m.tflite").manifest == MANIFEST
