"""Make the tiny network's files anew, with TensorFlow: python -m tests.tiny_models.make"""

from typing import Any

import numpy as np
import tensorflow as tf

from tests.tiny_models.network import FOLDER, SIDE, WEIGHTS

VARIANTS: dict[str, dict[str, Any]] = {
    "int8": {},
    "float32": {"numbers": np.float32},
    "uint8": {"numbers": np.uint8},
    # Calibrated on crops without black and white, the converter gives other numbers than 1 and -128.
    "int8-other-scale": {"darkest": 20, "brightest": 230},
    "int8-three-classes": {"classes": 3},
    "float32-nan": {"numbers": np.float32, "offset": np.nan},
    # A whole flatbuffer with an operation that no runtime without TensorFlow has.
    "float32-unrunnable": {"numbers": np.float32, "needs_tensorflow": True},
}


def convert(
    numbers: type = np.int8,
    classes: int = 4,
    darkest: int = 0,
    brightest: int = 255,
    offset: float = 0.0,
    needs_tensorflow: bool = False,
) -> bytes:
    """The network as a flatbuffer, its input and output of type ``numbers``."""

    def network(crop: tf.Tensor) -> tf.Tensor:
        color = tf.reduce_mean(crop / 127.5 - 1, axis=[1, 2])
        logits = tf.matmul(color, WEIGHTS[:, :classes]) + offset
        return tf.math.special.bessel_j0(logits) if needs_tensorflow else logits

    module = tf.Module()
    module.network = tf.function(network, input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.network.get_concrete_function()], module
    )
    if numbers is not np.float32:
        levels = np.linspace(darkest, brightest, 4)
        samples = [np.full((1, SIDE, SIDE, 3), level, np.float32) for level in levels]
        for channel in range(3):
            samples.append(np.full((1, SIDE, SIDE, 3), darkest, np.float32))
            samples[-1][..., channel] = brightest
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(numbers)
    converter.allow_custom_ops = needs_tensorflow
    return bytes(converter.convert())


if __name__ == "__main__":
    for name, arguments in VARIANTS.items():
        (FOLDER / f"{name}.tflite").write_bytes(convert(**arguments))
