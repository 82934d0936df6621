"""How the variants of a trained network are run. Called in the process that is measured and nowhere else.

Each function opens a `Contender` and gives what runs it: one crop, (side, side, 3) uint8 RGB, to its logits,
(4,) float32. What a runtime needs is imported where it is used, so that no process holds two of them.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import Contender
from hematovision.classifier import Classifier
from hematovision.errors import MissingPartError
from hematovision.model_file import read_model_file
from hematovision.runtime import LoadedModel, allocate, load_interpreter

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def open_tflite(contender: Contender) -> Run:
    """A ``.tflite`` through the device's own code, on LiteRT, tflite-runtime or TensorFlow's interpreter.

    Raises:
        ModelFileError: the file is not whole, or the runtime cannot load it.
        MissingPartError: the runtime is not installed.
    """
    model = read_model_file(contender.path)
    xnnpack = contender.xnnpack is not False
    if contender.runtime == "tensorflow":
        loaded = _load_with_tensorflow(model.flatbuffer, contender.threads, xnnpack)
    else:
        loaded = load_interpreter(model.flatbuffer, contender.runtime, contender.threads, xnnpack)
    classifier = Classifier(model, loaded=loaded)
    return lambda crop: classifier.logits(crop[None])[0]


def _load_with_tensorflow(flatbuffer: bytes, threads: int, xnnpack: bool) -> LoadedModel:
    import tensorflow as tf

    try:
        from tensorflow.lite.python import interpreter
    except ImportError as error:
        raise MissingPartError(
            f"TensorFlow {tf.__version__} has no interpreter of its own any more; leave it out with --runtime"
        ) from error
    return allocate(interpreter, "tensorflow", tf.__version__, flatbuffer, threads, xnnpack)


def open_keras(contender: Contender) -> Run:
    """The network as a compiled function of one crop: Keras at its fastest in Python.

    Raises:
        ModelFileError: the file is not a network of ours.
    """
    import tensorflow as tf

    from train.network import load_network

    tf.config.threading.set_intra_op_parallelism_threads(contender.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    network = load_network(contender.path)
    crop_shape = tf.TensorSpec((1, *network.input_shape[1:]), tf.float32)
    call = tf.function(lambda crop: network(crop, training=False), input_signature=[crop_shape])
    graph = call.get_concrete_function()
    return lambda crop: graph(tf.constant(crop[None], tf.float32)).numpy()[0]
