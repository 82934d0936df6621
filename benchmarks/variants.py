"""The variants of a trained network that every benchmark runs: built on demand, and kept.

Of each model its folder, as `benchmarks.cache` keeps it, holds::

    NAME-RECIPE.tflite   the variants, as hematovision convert writes them
    crops.npy            (n, side, side, 3) uint8 RGB: the crops that the quantiser was shown

Copied to a device without TensorFlow, together with the ``.keras`` file and its manifest, it is used there.
"""

import hashlib
import importlib.metadata
import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.cache import enter, keep_file, kept_files
from benchmarks.contenders import KERAS
from benchmarks.flatbuffer import count_operations, count_parameters
from benchmarks.results import Unmeasured, Variant
from convert.calibration import draw_calibration
from convert.parity import Limits
from convert.recipes import RECIPES, Recipe
from hematovision.classifier import Classifier
from hematovision.crops import CropSize, cut_crop
from hematovision.errors import (
    DataSetError,
    HematoVisionError,
    MissingPartError,
    ModelFileError,
    SettingError,
    reason_of,
)
from hematovision.finder import load_finder, most_prominent
from hematovision.model_file import (
    Manifest,
    ModelFile,
    file_hash,
    manifest_path,
    read_keras_manifest,
    read_model_file,
)
from hematovision.optics import measure_field
from hematovision.runtime import available_runtimes
from train.cells import load_training_cells
from train.console import say_unreadable, stderr
from train.drawn import DRAWN_UM_PER_PIXEL, draw, drawn_cells
from train.quiet import tensorflow_kept_quiet

#: What a network can be asked for as.
VARIANT_NAMES = (KERAS, *RECIPES)

_SECTION = "variants"
_CROPS = "crops.npy"
_KEY_DIGITS = 16
# What manifests call the SHA-256 of the trained network.
_NETWORK = "keras_sha256"
# Of each class, where there is no quantiser and so nothing that it was shown.
_DRAWN_PER_CLASS = 8
_NO_TENSORFLOW = (
    "TensorFlow, which builds it, is not installed; copy the folder from a machine where it is built, "
    "or pip install 'hematovision[train]'"
)
# What a manifest calls the collection of originals, and its folder.
_FOLDERS = {"kaggle-originals": "kaggle-blood-cells"}

# Of the trained network of this checkout, as timed for the README.
_BUILT_IN = "all five take some 3 minutes on two cores of a Xeon server"

Say = Callable[[str], None]


@dataclass(frozen=True)
class BuiltModel:
    """A trained network and the variants of it that are there to be measured.

    ``name``: that no other model of the run has. ``manifest``: of the ``.keras`` file, or of the ``.tflite``
    that was given instead of one. ``files``: the file of each of ``variants``, ``keras`` among them.
    ``folder``: where they, and what else is made of this network, are kept (see `kept_files`).
    """

    name: str
    manifest: Manifest
    files: dict[str, Path]
    variants: tuple[Variant, ...]
    folder: Path

    def crops(self) -> NDArray[np.uint8]:
        """Crops to run the variants on, (n, side, side, 3) uint8 RGB.

        Those that the quantiser was shown: training cells, so never to measure accuracy on. Of a ``.tflite``
        that was given without its network, drawn cells.

        Raises:
            ModelFileError: they are not there, or damaged.
        """
        path = self.folder / _CROPS
        try:
            crops: NDArray[np.uint8] = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise ModelFileError(
                f"{path}: cannot be read ({reason_of(error)}); copy its folder again, or remove it and have "
                "it built again"
            ) from error
        return crops


def open_models(
    paths: Sequence[Path], names: Sequence[str], data: Sequence[str], folder: Path, say: Say
) -> tuple[list[BuiltModel], list[Unmeasured]]:
    """Open trained networks, building of their variants what is not kept yet.

    Args:
        paths: ``.keras`` files, their manifests beside them, of which the variants are made; or ``.tflite``
            files, each the only variant of its model.
        names: of `VARIANT_NAMES`, the variants of each ``.keras`` file that are wanted.
        data: what the networks were trained on, as for ``hematovision train fit``; if none is given, what
            the manifest names, in the folder that HEMATOVISION_DATA names. Read only to build.
        folder: where variants are kept; see `cache_folder`.
        say: told what is being done.

    Returns:
        The models, and what could not be built or opened: variants, and models where there are others.

    Raises:
        SettingError: a file is given twice.
        ModelFileError: the only file cannot be read, or is not a model for this program.
        DataSetError: the data are not those that the only model was trained on.
        MissingPartError: its variants are not there, nor TensorFlow to build them.
    """
    models: list[BuiltModel] = []
    unmeasured: list[Unmeasured] = []
    for path, name in zip(paths, _distinct_names(paths), strict=True):
        try:
            if path.suffix == ".keras":
                model, left_out = _open_network(path, name, names, data, folder, say)
                unmeasured += left_out
            else:
                model = _open_variant(path, name, folder, say)
        except HematoVisionError as error:
            if len(paths) == 1:
                raise
            unmeasured.append(Unmeasured(_SECTION, name, str(error), failed=True))
        else:
            models.append(model)
    return models, unmeasured


def default_network() -> Path:
    """The trained network of the checkout.

    Raises:
        ModelFileError: it is not there, since what is installed is a wheel.
    """
    path = Path(str(files("train") / "models" / "hematovision.keras"))
    if not path.is_file():
        raise ModelFileError(
            f"{path}: not there, only a checkout has it; give a .keras or .tflite file with --model, such as "
            f"{files('edge') / 'models' / 'hematovision-int8.tflite'}"
        )
    return path


def data_folder() -> Path | None:
    """The folder of data sets that HEMATOVISION_DATA names, if it does."""
    folder = os.environ.get("HEMATOVISION_DATA")
    return Path(folder) if folder else None


def preferred_runtime(manifest: Manifest) -> str:
    """The runtime that a device with all that is installed here would run a model on.

    Raises:
        MissingPartError: none of those that load it is installed.
    """
    for runtime in available_runtimes():
        if runtime in manifest.runtimes:
            return runtime
    raise MissingPartError(f"runs on {' or '.join(manifest.runtimes)}, which is not installed")


def tensorflow_version() -> str | None:
    """Of the TensorFlow that is installed; it is not imported."""
    try:
        return importlib.metadata.version("tensorflow")
    except importlib.metadata.PackageNotFoundError:
        return None


# --- a trained network ---


def _open_network(
    path: Path, name: str, names: Sequence[str], data: Sequence[str], folder: Path, say: Say
) -> tuple[BuiltModel, list[Unmeasured]]:
    manifest = read_keras_manifest(path)
    entry = folder / f"{path.stem}-{_hash_of(path, manifest_path(path))}"
    # Where the Keras network alone is wanted, a variant is still: the operations are counted in it.
    wanted = [recipe for recipe in RECIPES.values() if recipe.name in names] or [RECIPES["float32"]]
    say(f"{name}: looking at the variants that are kept")
    kept = kept_files(entry)
    models = {recipe.name: _current(kept, path, manifest, recipe) for recipe in wanted}
    unmeasured: list[Unmeasured] = []
    to_build: list[Recipe] = []
    for recipe in wanted:
        if models[recipe.name] is not None:
            continue
        if tensorflow_version() is None:
            why = f"not in {entry}; {_NO_TENSORFLOW}"
            unmeasured.append(Unmeasured(_SECTION, f"{name} {recipe.name}", why, failed=False))
        elif not set(recipe.runtimes) & set(available_runtimes()):
            why = f"it runs on {' or '.join(recipe.runtimes)}, which is not installed"
            unmeasured.append(Unmeasured(_SECTION, f"{name} {recipe.name}", why, failed=False))
        else:
            to_build.append(recipe)
    if to_build or _CROPS not in kept:
        unmeasured += _build(path, name, manifest, entry, to_build, data, say)
        built = kept_files(entry)
        models |= {recipe.name: _current(built, path, manifest, recipe) for recipe in to_build}
    there = {recipe: model for recipe, model in models.items() if model is not None}
    places = {recipe: model.path for recipe, model in there.items() if recipe in names}
    if KERAS in names:
        places = {KERAS: path, **places}
    if not places:
        raise ModelFileError(f"{path}: none of its variants is there: {unmeasured[0].why}")
    any_variant = next(iter(there.values()), None)
    described = tuple(
        _describe(name, variant, place, manifest, there.get(variant, any_variant))
        for variant, place in places.items()
    )
    return BuiltModel(name, manifest, places, described, entry), unmeasured


def _current(kept: dict[str, Path], network: Path, manifest: Manifest, recipe: Recipe) -> ModelFile | None:
    """A variant that is kept, unless it is another's or the TensorFlow installed here did not make it."""
    path = kept.get(_file_name(network, recipe))
    if path is None:
        return None
    model = read_model_file(path)
    made_by, installed = model.manifest.tools.get("tensorflow"), tensorflow_version()
    if model.manifest.recipe != recipe.name:
        why = f"its recipe is {model.manifest.recipe}"
    elif model.manifest.training.get(_NETWORK) != manifest.training[_NETWORK]:
        why = f"made from another network than {network.name}"
    elif installed is not None and made_by != installed:
        why = f"made by TensorFlow {made_by}, {installed} is installed"
    else:
        return model
    stderr.print(f"{path}: {why}; it does not count", soft_wrap=True, markup=False, highlight=False)
    return None


def _build(
    path: Path,
    name: str,
    manifest: Manifest,
    entry: Path,
    recipes: Sequence[Recipe],
    data: Sequence[str],
    say: Say,
) -> list[Unmeasured]:
    """Build variants of a network, and the crops, into its folder; those that fail come back."""
    if tensorflow_version() is None:
        raise MissingPartError(f"{entry / _CROPS}: not there, or damaged; {_NO_TENSORFLOW}")
    sources = _training_data(path, manifest, data)
    if recipes:
        stderr.print(
            f"{name}: before anything is measured, {', '.join(recipe.name for recipe in recipes)} must be "
            f"built: {_BUILT_IN}. Once: they are kept in {entry}",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
    training, development = load_training_cells(
        sources,
        manifest,
        lambda done, total: say(f"{name}: finding the training cells, image {done} of {total}"),
    )
    say_unreadable(training, development)
    buffer = io.BytesIO()
    np.save(buffer, draw_calibration(training).crops)
    keep_file(entry, _CROPS, buffer.getvalue())
    unmeasured: list[Unmeasured] = []
    say(f"{name}: loading TensorFlow and the network")
    with tensorflow_kept_quiet():
        from convert.export import convert_network
        from train.network import load_network

        network = load_network(path)
        side = manifest.crop.side_px
        if network.input_shape != (None, side, side, 3):
            raise ModelFileError(
                f"{path}: takes crops of {network.input_shape[1:]}, its manifest says {(side, side, 3)}; "
                "copy both again from one training run"
            )
        targets = {recipe: entry / _file_name(path, recipe) for recipe in recipes}
        # Whatever a variant loses is for the benchmarks to show: nothing is refused for it.
        outcomes = convert_network(network, manifest, training, development, targets, Limits(0, 100))
        for recipe in recipes:
            say(f"{name}: converting and checking {recipe.name}")
            outcome = next(outcomes)
            if outcome.failure is None:
                enter(entry, [targets[outcome.recipe].name])
            else:
                unmeasured.append(Unmeasured(_SECTION, f"{name} {recipe.name}", outcome.failure, failed=True))
    return unmeasured


def _training_data(path: Path, manifest: Manifest, data: Sequence[str]) -> Sequence[str]:
    if data:
        return data
    entries = manifest.training.get("data")
    if not isinstance(entries, list):
        raise DataSetError(f"{path}: its manifest does not say what it was trained on; train it again")
    names = [entry["name"] for entry in entries]
    folder = data_folder()
    places = [(folder or Path()) / _FOLDERS.get(name, name) for name in names]
    if folder is None or not all(place.exists() for place in places):
        where = f"not all of these are in {folder}" if folder else "HEMATOVISION_DATA is not set"
        raise DataSetError(
            f"{path}: its variants are made with cells of {', '.join(names)}, and {where}; "
            "give each with --data, or set HEMATOVISION_DATA to their folder"
        )
    return [str(place) for place in places]


def _file_name(network: Path, recipe: Recipe) -> str:
    return f"{network.stem}-{recipe.name}.tflite"


# --- a variant without its network ---


def _open_variant(path: Path, name: str, folder: Path, say: Say) -> BuiltModel:
    model = read_model_file(path)
    recipe = model.manifest.recipe
    if recipe not in RECIPES:
        raise ModelFileError(
            f"{path}: its recipe is '{recipe}', none of {', '.join(RECIPES)}; "
            "make it with hematovision convert"
        )
    if any(runtime in model.manifest.runtimes for runtime in available_runtimes()):
        Classifier(model, preferred_runtime(model.manifest), threads=1)  # raises where it is another network
    entry = folder / f"{path.stem}-{_hash_of(path)}"
    if _CROPS not in kept_files(entry):
        say(f"{name}: drawing cells")
        buffer = io.BytesIO()
        np.save(buffer, _drawn_crops(model.manifest.crop))
        keep_file(entry, _CROPS, buffer.getvalue())
    described = (_describe(name, recipe, path, model.manifest, model),)
    return BuiltModel(name, model.manifest, {recipe: path}, described, entry)


def _drawn_crops(size: CropSize) -> NDArray[np.uint8]:
    crops = []
    finder = load_finder()
    for image in drawn_cells(_DRAWN_PER_CLASS):
        field = measure_field(draw(image), DRAWN_UM_PER_PIXEL)
        region = most_prominent(finder.find(field), field)
        if region is not None:
            crops.append(cut_crop(field, region.center, size))
    return np.stack(crops)


# --- what both share ---


def _describe(model: str, variant: str, path: Path, manifest: Manifest, counted: ModelFile | None) -> Variant:
    """A variant for the report; the operations are those of ``counted``, which are every variant's."""
    parameters: int | None = None
    operations: int | None = None
    # A device without LiteRT lacks the description of the file that they are counted by.
    with suppress(MissingPartError):
        if counted is not None:
            parameters, operations = (
                count_parameters(counted.flatbuffer),
                count_operations(counted.flatbuffer),
            )
    return Variant(
        model,
        variant,
        path.name,
        file_hash(path),
        path.stat().st_size,
        manifest.crop.side_px,
        parameters,
        operations,
    )


def _hash_of(*paths: Path) -> str:
    """Of files, and of the code that converts: what another would make of them is made anew."""
    joined = hashlib.sha256()
    for path in (*paths, *_converting_code()):
        joined.update(bytes.fromhex(file_hash(path)))
    return joined.hexdigest()[:_KEY_DIGITS]


def _converting_code() -> list[Path]:
    return sorted(Path(str(files("convert"))).glob("*.py"))


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    """The stem of each path, with the folder's name before it where stems repeat, as those of runs do.

    Raises:
        SettingError: a file is given twice.
    """
    places = [path.resolve() for path in paths]
    for place, count in Counter(places).items():
        if count > 1:
            raise SettingError(f"--model {place}: given {count} times; give each model once")
    stems = Counter(place.stem for place in places)
    names = [
        place.stem if stems[place.stem] == 1 else f"{place.parent.name}-{place.stem}" for place in places
    ]
    repeated = Counter(names)
    return [
        name if repeated[name] == 1 else f"{name}-{file_hash(place)[:6]}"
        for name, place in zip(names, places, strict=True)
    ]
