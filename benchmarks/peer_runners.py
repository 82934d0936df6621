"""How others would run the same network. Called in the process that is measured and nowhere else.

Each function opens a `Contender` and gives what runs it: one crop, (side, side, 3) uint8 RGB, to its logits,
(4,) float32. The ONNX files take what the network takes: (1, side, side, 3) float32, 0 to 255.
"""

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import Contender
from benchmarks.runners import Run
from hematovision.classifier import Classifier
from hematovision.model_file import read_model_file


def open_onnxruntime(contender: Contender) -> Run:
    """An ONNX file on ONNX Runtime's own kernels, its default optimisations on."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = contender.threads
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    session = onnxruntime.InferenceSession(contender.path, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    return lambda crop: session.run(None, {source.name: crop[None].astype(np.float32)})[0][0]


def open_opencv_dnn(contender: Contender) -> Run:
    """An ONNX file on OpenCV's dnn module."""
    import cv2

    cv2.setNumThreads(contender.threads)
    network = cv2.dnn.readNetFromONNX(contender.path)

    def run(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        network.setInput(crop[None].astype(np.float32))
        return network.forward()[0]

    return run


def open_keras_predict(contender: Contender) -> Run:
    """The Keras network by ``predict``, called for each image as most demonstrations on the web do.

    Raises:
        ModelFileError: the file is not a network of ours.
    """
    import tensorflow as tf

    from train.network import load_network

    tf.config.threading.set_intra_op_parallelism_threads(contender.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    network = load_network(contender.path)
    return lambda crop: network.predict(crop[None].astype(np.float32), verbose=0)[0]


def open_rebuilt(contender: Contender) -> Run:
    """The device's own file, with an interpreter built anew for every crop; the file is read once.

    Raises:
        ModelFileError: the file is not whole, or LiteRT cannot load it.
    """
    model = read_model_file(contender.path)
    return lambda crop: Classifier(model, "litert", contender.threads).logits(crop[None])[0]
