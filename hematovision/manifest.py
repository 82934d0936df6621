"""The manifest of a model: what the model is and how it is to be used, as JSON that is checked key by key.

There are two kinds: a classifier's, which names cells, and a finder's, which says where they are.

What is accepted can be worked with: probabilities are finite and sum to 1 whatever the logits, and the
measured accuracy is in the form that reports and the page read.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize
from hematovision.errors import ModelFileError
from hematovision.heat_map import FINDER_UM_PER_PIXEL, SIDE_MULTIPLE

#: Raised when a reader of this version would misread a newer file. Unknown keys within a version are refused.
FORMAT_VERSION = 2
#: Those of real models have some tens of kilobytes.
MAX_MANIFEST_BYTES = 16 * 1024 * 1024

_MAX_DEPTH = 32
_MAX_WHOLE = 2**53  # beyond, JSON's readers disagree
_MAX_NAMES, _MAX_NAME = 32, 100
# hematovision train looks for a temperature from 0.05 to 20.
_RANGES = {
    "crop.side_um": (5, 100),
    "crop.side_px": (32, 1024),
    "temperature": (0.01, 1000),
    "decline_below": (0, 1),
    "width_px": (64, 1024),
    "height_px": (64, 1024),
    "threshold": (0.01, 0.99),
}
_RECORDS = ("training", "calibration", "parity", "accuracy", "tools")


@dataclass(frozen=True, kw_only=True)
class _Records:
    """What a manifest of either kind holds beside what steers the device.

    ``training``, ``calibration``, ``parity`` and ``accuracy`` are records for people and reports: JSON
    objects written by the stage of that name, empty where it has not run.
    """

    KIND: ClassVar[str]

    #: How the weights are stored (see ``convert.recipes``) and the runtimes that load such a file.
    recipe: str = "keras"
    runtimes: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return it as JSON text, indented: version and kind, what steers the device, then the records."""
        content = dataclasses.asdict(self)
        records = {one.name: content.pop(one.name) for one in dataclasses.fields(_Records)}
        whole = {"format_version": FORMAT_VERSION, "kind": self.KIND, **content, **records}
        return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True)
class Manifest(_Records):
    """What a classifier is and how it is to be used; its records are those of `_Records`."""

    KIND: ClassVar = "classifier"

    crop: CropSize
    #: Logits are divided by this before the softmax.
    temperature: float
    #: A cell whose largest calibrated probability is below this is left unclassified.
    decline_below: float
    classes: tuple[str, ...] = CLASS_NAMES

    @property
    def labels(self) -> tuple[str, ...]:
        """Return what each of the network's outputs stands for, in order."""
        return self.classes

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> "Manifest":
        """Read a manifest; ``name`` is what messages call its file.

        Raises:
            ModelFileError: it is no classifier's manifest, newer than this program, or says what cannot be.
        """
        content = _content(text, name, cls)
        try:
            _check_records(content, cls)
            manifest = cls(
                crop=_crop(content.pop("crop")),
                temperature=_number(content, "temperature"),
                decline_below=_number(content, "decline_below"),
                classes=_names(content, "classes"),
                runtimes=_names(content, "runtimes"),
                **content,
            )
        except (KeyError, TypeError) as error:
            raise _misstated(name, error) from error
        if manifest.classes != CLASS_NAMES:
            classes = ", ".join(_shown(one)[1:-1] for one in manifest.classes)
            raise ModelFileError(
                f"{name}: its classes are {classes}; this program's are {', '.join(CLASS_NAMES)}, in that "
                "order; use a model made for them"
            )
        _check_ranges(
            name,
            {
                "crop.side_um": manifest.crop.side_um,
                "crop.side_px": manifest.crop.side_px,
                "temperature": manifest.temperature,
                "decline_below": manifest.decline_below,
            },
        )
        return manifest


@dataclass(frozen=True)
class FinderManifest(_Records):
    """What a finder is and how it is to be used; its records are those of `_Records`."""

    KIND: ClassVar = "finder"

    #: Scale of the field that it sees, and the sides of the piece of it that it takes at once, in pixels.
    um_per_pixel: float
    width_px: int
    height_px: int
    #: A place of the heat map that is hotter is the centre of a cell.
    threshold: float

    @property
    def labels(self) -> tuple[str, ...]:
        """Return what each of the network's outputs stands for, in order."""
        return ("nucleated cell",)

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> "FinderManifest":
        """Read a manifest; ``name`` is what messages call its file.

        Raises:
            ModelFileError: it is no finder's manifest, newer than this program, or says what cannot be.
        """
        content = _content(text, name, cls)
        try:
            _check_records(content, cls)
            manifest = cls(
                um_per_pixel=_number(content, "um_per_pixel"),
                width_px=_whole(content, "width_px"),
                height_px=_whole(content, "height_px"),
                threshold=_number(content, "threshold"),
                runtimes=_names(content, "runtimes"),
                **content,
            )
        except (KeyError, TypeError) as error:
            raise _misstated(name, error) from error
        if manifest.um_per_pixel != FINDER_UM_PER_PIXEL:
            raise ModelFileError(
                f"{name}: this finder looks at fields of {manifest.um_per_pixel:g} µm per pixel, this "
                f"program at {FINDER_UM_PER_PIXEL:g}; use a finder made for it"
            )
        sides = {"width_px": manifest.width_px, "height_px": manifest.height_px}
        _check_ranges(name, {**sides, "threshold": manifest.threshold})
        for key, side in sides.items():
            if side % SIDE_MULTIPLE:
                raise ModelFileError(
                    f"{name}: the manifest's {key} is {side}, no multiple of {SIDE_MULTIPLE}; make the model "
                    "file again"
                )
        return manifest


def _content(text: str | bytes, name: str, wanted: type[Manifest | FinderManifest]) -> dict[str, Any]:
    """Return what a manifest of the wanted kind says beside its version and kind."""
    content = json_object(text, name)
    version = content.pop("format_version", None)
    if type(version) is not int or version < 1:
        raise ModelFileError(f"{name}: the manifest has no format version; make the model file again")
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{name}: its manifest is of format {version}, this program reads up to {FORMAT_VERSION}; "
            "update hematovision"
        )
    # The first format was written when there were only classifiers.
    kind = Manifest.KIND if version == 1 else content.pop("kind", None)
    if kind != wanted.KIND:
        raise ModelFileError(
            f"{name}: the model of a {kind}, not of a {wanted.KIND}; give each where it belongs"
            if kind in (Manifest.KIND, FinderManifest.KIND)
            else f"{name}: a model of the kind {_shown(kind)}, which this program does not know; update "
            "hematovision, or make the model file again"
        )
    unknown = sorted(content.keys() - {one.name for one in dataclasses.fields(wanted)})
    if unknown:
        raise _misstated(name, TypeError(f"there is no {_shown(unknown[0])}"))
    return content


def _misstated(name: str, error: Exception) -> ModelFileError:
    return ModelFileError(
        f"{name}: the manifest lacks or misstates a field ({error}); make the model file again"
    )


def _check_ranges(name: str, values: Mapping[str, float]) -> None:
    for key, value in values.items():
        least, most = _RANGES[key]
        if not least <= value <= most:
            raise ModelFileError(
                f"{name}: the manifest's {key} cannot be {value} (it is from {least} to {most}); "
                "make the model file again"
            )


def json_object(text: str | bytes, name: str) -> dict[str, Any]:
    """Read a manifest's JSON: an object in UTF-8 with each key once, of numbers and text that can be used.

    Raises:
        ModelFileError: it is none, or nested too deeply.
    """
    try:
        if len(text) > MAX_MANIFEST_BYTES:
            raise ValueError(f"more than {MAX_MANIFEST_BYTES:,} bytes")
        content = json.loads(
            text.decode() if isinstance(text, bytes) else text,
            object_pairs_hook=_unrepeated,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
        _check_plain(content, _MAX_DEPTH)
    except RecursionError:
        raise ModelFileError(
            f"{name}: the manifest is not JSON that is meant: nested too deeply; make the model file again"
        ) from None
    except ValueError as error:  # UnicodeDecodeError is one too
        raise ModelFileError(
            f"{name}: the manifest is not JSON that can be used ({error}); make the model file again"
        ) from error
    if not isinstance(content, dict):
        raise ModelFileError(f"{name}: the manifest is not a JSON object; make the model file again")
    return content


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {_shown(twice)} stands there twice")
    return content


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:_MAX_NAME]} is beyond all numbers")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _check_plain(value: object, depth: int) -> None:
    """Raise `ValueError` for what cannot be written down again, and `RecursionError` where nested deeper."""
    if depth == 0:
        raise RecursionError
    if isinstance(value, str):
        value.encode()  # an escape may stand for half a character
    elif isinstance(value, int) and abs(value) > _MAX_WHOLE:
        raise ValueError("a whole number larger than any count")
    elif isinstance(value, dict):
        for key, inner in value.items():
            key.encode()
            _check_plain(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, depth - 1)


def _crop(content: object) -> CropSize:
    if not isinstance(content, dict) or content.keys() != {"side_um", "side_px"}:
        raise TypeError("crop is not side_um and side_px")
    return CropSize(_number(content, "side_um"), _whole(content, "side_px"))


def _whole(content: dict[str, Any], key: str) -> int:
    value = content.pop(key)
    if type(value) is not int:  # True is no number
        raise TypeError(f"{key}: {_shown(value)} is not a whole number")
    return value


def _number(content: dict[str, Any], key: str) -> float:
    value = content.pop(key)
    if type(value) not in (int, float):  # True is no number
        raise TypeError(f"{key}: {_shown(value)} is not a number")
    return float(value)


def _names(content: dict[str, Any], key: str) -> tuple[str, ...]:
    values = content.pop(key)
    if not isinstance(values, list) or len(values) > _MAX_NAMES or not all(map(_is_name, values)):
        raise TypeError(f"{key}: {_shown(values)} is not a list of names")
    return tuple(values)


def _check_records(content: Mapping[str, Any], kind: type[Manifest | FinderManifest]) -> None:
    if not _is_name(content.get("recipe", "keras")):
        raise TypeError(f"recipe: {_shown(content['recipe'])} is not a name")
    for key in _RECORDS:
        if not isinstance(content.get(key, {}), dict):
            raise TypeError(f"{key} cannot be {_shown(content[key])}")
    for tool, version in content.get("tools", {}).items():
        if not _is_name(tool) or not _is_name(version):
            raise TypeError(f"tools: {_shown(tool)} of version {_shown(version)}")
    sets = content.get("accuracy", {}).get("sets", [])
    if kind is Manifest and not (isinstance(sets, list) and all(map(_is_measured, sets))):
        raise TypeError("accuracy: its sets are not as hematovision train evaluate --write records them")


def _is_measured(entry: object) -> bool:
    """Whether this is what was measured on one data set, with numbers that can be."""
    if not isinstance(entry, dict) or not _is_name(entry.get("name")):
        return False
    shares = [entry.get(key) for key in ("accuracy", "low", "high")] + [entry.get("coverage", 1)]
    if not _are_counts(entry, ("cells", "originals")) or not all(map(_is_share, shares)):
        return False
    return "named" not in entry or _is_named(entry["named"])


def _is_named(rows: object) -> bool:
    """Whether these are the names given to the cells of each class, to no more cells than there were."""
    return isinstance(rows, dict) and all(
        isinstance(row := rows.get(truth), dict)
        and _are_counts(row, ("cells", "originals", *CLASS_NAMES))
        and sum(row[name] for name in CLASS_NAMES) <= row["cells"]
        for truth in CLASS_NAMES
    )


def _are_counts(content: Mapping[str, Any], keys: Sequence[str]) -> bool:
    return all(type(content.get(key)) is int and content[key] >= 0 for key in keys)


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= _MAX_NAME


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_NAME else f"{text[:_MAX_NAME]}…"
