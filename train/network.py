"""The network: Keras MobileNetV2 with a head of four logits, taking crops as they are."""

import zipfile
from pathlib import Path

import keras

from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import ModelFileError, reason_of

#: Drops features at random while training, against learning a laboratory by heart.
DROPOUT = 0.3


def build_network(side_px: int, weights: str | Path) -> keras.Model:
    """Build the network for fine-tuning.

    Input: (batch, side_px, side_px, 3), RGB crops from 0 to 255; scaling to [-1, 1] is inside, so that the
    int8 model's input has scale 1. Output: logits (batch, 4) in the order of `CLASS_NAMES`.

    Batch normalisation is frozen: with the few cells there are, its statistics are better left as they came,
    and a local file may have them folded into its convolutions.

    Args:
        side_px: a multiple of 32.
        weights: "imagenet" (fetched by Keras), a file of weights for ``MobileNetV2(include_top=False)``, or a
            ``.keras`` file made by `train fit`, to go on from.

    Raises:
        ModelFileError: the weights cannot be had or are of another network.
    """
    shape = (side_px, side_px, 3)
    if Path(weights).suffix == ".keras":
        network = load_network(weights)
        if network.input_shape != (None, *shape):
            raise ModelFileError(
                f"{weights}: takes crops of {network.input_shape[1:]}, not {shape}; give the same --crop-px"
            )
        return network
    if str(weights) == "imagenet":
        try:
            backbone = keras.applications.MobileNetV2(
                input_shape=shape, include_top=False, weights="imagenet"
            )
        except Exception as error:
            raise ModelFileError(
                f"imagenet: the weights cannot be fetched ({reason_of(error)}); "
                "give a local file with --weights"
            ) from error
    else:
        backbone = keras.applications.MobileNetV2(input_shape=shape, include_top=False, weights=None)
        try:
            backbone.load_weights(str(weights))
        except (OSError, ValueError) as error:
            raise ModelFileError(
                f"{weights}: these weights cannot be loaded ({reason_of(error)}); they must be for "
                "MobileNetV2 1.0 without top"
            ) from error
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    crop = keras.Input((side_px, side_px, 3), name="crop")
    features = keras.layers.Rescaling(1 / 127.5, offset=-1, name="to_unit_range")(crop)
    features = backbone(features, training=False)
    features = keras.layers.GlobalAveragePooling2D(name="mean_of_field")(features)
    features = keras.layers.Dropout(DROPOUT, name="dropout")(features)
    logits = keras.layers.Dense(len(CLASS_NAMES), name="logits")(features)
    return keras.Model(crop, logits, name="hematovision")


def load_network(path: Path | str, with_optimizer: bool = False) -> keras.Model:
    """Load a ``.keras`` file that `train fit` wrote; with its optimiser's state to go on training.

    Raises:
        ModelFileError: it is missing, damaged, or not such a network.
    """
    try:
        network = keras.models.load_model(path, compile=with_optimizer)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ModelFileError(
            f"{path}: not a Keras model that can be loaded ({reason_of(error)}); copy it again"
        ) from error
    if network.output_shape != (None, len(CLASS_NAMES)) or len(network.input_shape) != 4:
        raise ModelFileError(
            f"{path}: maps {network.input_shape} to {network.output_shape}, not crops to {len(CLASS_NAMES)} "
            "logits; give a model made by hematovision train fit"
        )
    return network
