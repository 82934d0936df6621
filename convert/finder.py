"""The finder's Keras network to an int8 model file, checked against it on the fields that it learnt from."""

import dataclasses
import hashlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from convert.export import check_tensors, save_model, to_tflite
from convert.recipes import RECIPES
from hematovision import __version__
from hematovision.errors import ConversionError, HematoVisionError, MissingPartError
from hematovision.extras import install_command
from hematovision.finder import Finder
from hematovision.heat_map import FINDER_UM_PER_PIXEL, STRIDE, Peak
from hematovision.images import RGBImage
from hematovision.model_file import FinderFile, FinderManifest, read_finder_file, write_model_file
from hematovision.runtime import available_runtimes
from train.finder.boxed_fields import BoxedField
from train.finder.cross_validate import peaks_of
from train.finder.microscopes import vary_microscope
from train.finder.tiles import read_training_field

#: The quantiser sees so many fields, or half of those that there are; the int8 network is compared on as many
#: others.
FIELDS = 150

_RECIPE = RECIPES["int8"]
_SAME_CELL_UM = 2.0


@dataclass(frozen=True)
class FinderParity:
    """The int8 network on one runtime beside the Keras network, on fields at the finder's threshold.

    ``centers``: that the Keras network marks; ``agreement``: share of them that the int8 network marks within
    2 µm; ``more``: what it marks beside them, as a share of them.
    """

    runtime: str
    fields: int
    centers: int
    agreement: float
    more: float


def convert_finder(
    network: keras.Model,
    manifest: FinderManifest,
    fields: Sequence[BoxedField],
    path: Path,
    min_agreement: float,
) -> list[FinderParity]:
    """Convert, calibrate, check and write the finder's int8 model file.

    Args:
        network: as `train.finder.network.build_finder_network` makes it.
        manifest: the network's.
        fields: what it learnt from; some calibrate, others compare.
        path: of the model file; one that is there is replaced on success only.
        min_agreement: least agreement, and 100 less most of what may be marked more, in per cent.

    Returns:
        a `FinderParity` for each runtime that is installed.

    Raises:
        ConversionError: TensorFlow makes something else of it, or it strays too far.
        MissingPartError: no runtime is installed.
    """
    runtimes = [name for name in available_runtimes() if name in _RECIPE.runtimes]
    if not runtimes:
        raise MissingPartError(f"no runtime to check the finder on; {install_command('edge')} brings it")
    rng = np.random.default_rng(0)
    order = rng.permutation(len(fields))
    each = min(FIELDS, len(fields) // 2)
    calibrating = [read_training_field(fields[place]).image for place in order[:each]]
    comparing = [read_training_field(fields[place]).image for place in order[each : 2 * each]]
    pieces = draw_pieces(calibrating, manifest.width_px, manifest.height_px, rng)
    with tempfile.TemporaryDirectory() as folder:
        save_model(fixed_size(network, manifest), Path(folder))
        flatbuffer = to_tflite(Path(folder), _RECIPE, pieces)
    input_shape = [1, manifest.height_px, manifest.width_px, 3]
    output_shape = [1, manifest.height_px // STRIDE, manifest.width_px // STRIDE, 1]
    for runtime in runtimes:
        check_tensors(flatbuffer, _RECIPE, input_shape, output_shape, runtime)
    manifest = dataclasses.replace(
        manifest,
        recipe=_RECIPE.name,
        runtimes=_RECIPE.runtimes,
        calibration={"fields": len(calibrating), "varied": True},
        tools={
            **manifest.tools,
            "hematovision": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    )
    model = FinderFile(path, flatbuffer, manifest, hashlib.sha256(flatbuffer).hexdigest())
    parities = [_compare(network, Finder(model, runtime), comparing) for runtime in runtimes]
    for parity in parities:
        if 100 * parity.agreement < min_agreement or 100 * parity.more > 100 - min_agreement:
            raise ConversionError(
                f"on {parity.runtime} the int8 finder marks {100 * parity.agreement:.1f} % of what Keras "
                f"does and {100 * parity.more:.1f} % more; train it again, or give another limit"
            )
    manifest = dataclasses.replace(
        manifest, parity={"runtimes": [dataclasses.asdict(parity) for parity in parities]}
    )
    write_model_file(path, flatbuffer, manifest)
    try:
        if read_finder_file(path).manifest.to_json() != manifest.to_json():
            raise ConversionError(f"{path}: reads back as something else than was written; convert again")
    except HematoVisionError:
        path.unlink(missing_ok=True)  # or it would lie there as if it were good
        raise
    return parities


def fixed_size(network: keras.Model, manifest: FinderManifest) -> keras.Model:
    """Give a fully convolutional network the fixed input size of its manifest; weights are shared."""
    piece = keras.Input((manifest.height_px, manifest.width_px, 3), name="field")
    return keras.Model(piece, network(piece), name=network.name)


def draw_pieces(
    fields: Sequence[RGBImage], width: int, height: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Cut pieces of fields as the finder sees them, half of them through other microscopes.

    Returns:
        (n, height, width, 3) uint8 RGB, with a 0 and a 255 among the values: the input's range is theirs.
    """
    pieces = np.empty((len(fields), height, width, 3), np.uint8)
    for place, field in enumerate(fields):
        rows = np.resize(np.r_[: field.shape[0], field.shape[0] - 1 : -1 : -1], height)
        columns = np.resize(np.r_[: field.shape[1], field.shape[1] - 1 : -1 : -1], width)
        piece = field[rows[:, None], columns[None, :]]
        pieces[place] = vary_microscope(piece, rng) if place % 2 else piece
    values = pieces.reshape(-1)
    values[values.argmin()] = 0
    values[values.argmax()] = 255
    return pieces


def _compare(network: keras.Model, finder: Finder, fields: Sequence[RGBImage]) -> FinderParity:
    agreed = wanted = more = 0
    for field in fields:
        expected = peaks_of(network, field, finder.model.manifest.threshold)
        found = finder.peaks(field)
        matched = sum(_has_near(found, peak) for peak in expected)
        wanted, agreed = wanted + len(expected), agreed + matched
        more += sum(not _has_near(expected, peak) for peak in found)
    runtime = f"{finder.loaded.runtime} {finder.loaded.version}"
    return FinderParity(runtime, len(fields), wanted, agreed / max(wanted, 1), more / max(wanted, 1))


def _has_near(peaks: Sequence[Peak], peak: Peak) -> bool:
    limit = _SAME_CELL_UM / FINDER_UM_PER_PIXEL
    return any(math.hypot(other.x - peak.x, other.y - peak.y) <= limit for other in peaks)
