"""What is inside a TensorFlow Lite file: its operators, what they cost, and parts of the network as files.

Read with the schema that comes with LiteRT, so without TensorFlow.
"""

import importlib
import math
import re
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hematovision.errors import MissingPartError, ModelFileError

# TensorFlow Lite reads weights where they lie in the file and promises its kernels this alignment.
_ALIGNMENT = 16
_IDENTIFIER = b"TFL3"

# What a name of several ends in where it is the convolution's; the rest was fused into it.
_MAIN_STEPS = ("convolution", "depthwise")
# Inputs 1 and 2 of these are weights and biases.
_WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file: its number there, its name, its shape, and its type by NumPy's name.

    ``constant``: its values are in the file, such as weights. A value stands for ``scale`` times itself less
    ``zero_point``; ``scale`` is None where that is not so, or not the same for the whole tensor.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    constant: bool
    scale: float | None
    zero_point: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Operator:
    """One operator: its place in the order of execution, what it is by the schema's name, and its tensors.

    ``layer``: what its output is called in the network that was converted, in short, and like no other's.
    ``activation``: what is fused into it, by the schema's name, such as RELU6 or NONE. ``operations``: two
    for each multiplication with its addition; None where it is not known here how to count this kind.
    ``place_in_file``: among all operators there.
    """

    index: int
    kind: str
    layer: str
    activation: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operations: int | None
    place_in_file: int

    @property
    def output(self) -> Tensor:
        """The tensor that it computes, the first where there are several."""
        return self.outputs[0]


@dataclass(frozen=True)
class Network:
    """The operators that compute something from each crop, in order of execution, and what goes in and out.

    ``weights``: those constants that are weights or biases, as often as an operator has them. Not among the
    operators are those that only widen constants (float16 weights), which a runtime does once, when it loads
    the file: ``widening`` has their places in the file.
    """

    operators: tuple[Operator, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    widening: frozenset[int]

    @property
    def input(self) -> Tensor:
        """What takes the crop. Raises `ModelFileError` where there is not one input."""
        if len(self.inputs) != 1:
            raise ModelFileError(
                f"the network has {len(self.inputs)} inputs, not one; give one made by hematovision convert"
            )
        return self.inputs[0]

    def activations(self, operator: Operator) -> tuple[Tensor, ...]:
        """What differs from crop to crop among an operator's inputs, each tensor once."""
        computed = {tensor for one in self.operators for tensor in one.outputs} | set(self.inputs)
        return tuple(dict.fromkeys(tensor for tensor in operator.inputs if tensor in computed))

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Kinds of operators whose operations are not known here, and counted as 0."""
        return tuple(sorted({operator.kind for operator in self.operators if operator.operations is None}))


def read_network(flatbuffer: bytes) -> Network:
    """Read the network in a TensorFlow Lite flatbuffer.

    Raises:
        MissingPartError: LiteRT is not installed.
        ModelFileError: damaged, without operators, or with more than one network or signature.
    """
    schema, _ = _schema()
    return _network(_unpack(flatbuffer), schema)


def count_operations(flatbuffer: bytes) -> int:
    """Operations of one inference: two for each multiplication with its addition.

    Additions, multiplications and pooling of activations are one for each value; changes of a value's type,
    padding and activation functions are not counted. So every variant of a network has the same count.
    Raises as `read_network` does.
    """
    return sum(operator.operations or 0 for operator in read_network(flatbuffer).operators)


def count_parameters(flatbuffer: bytes) -> int:
    """Number of weights and biases.

    Those of each operator: a converter stores equal ones once, and which are equal differs between variants.
    Raises as `read_network` does.
    """
    return sum(tensor.size for tensor in read_network(flatbuffer).weights)


def cut_out(flatbuffer: bytes, first: int, last: int) -> bytes:
    """Some of the network's operators, as a network of their own.

    Args:
        flatbuffer: the network.
        first: index of the first operator, by `read_network`; the part's inputs are what comes to it and to
            the others from before.
        last: index of the last; what none of the part takes up is its output, that of ``last`` first.

    Returns:
        A flatbuffer in which tensors have the same numbers, without signatures and without weights that are
        not needed.

    Raises:
        ModelFileError: there are no such operators; or as `read_network` does.
    """
    schema, flatbuffers = _schema()
    model = _unpack(flatbuffer)
    network = _network(model, schema)
    if not 0 <= first <= last < len(network.operators):
        raise ModelFileError(
            f"the network has {len(network.operators)} operators; {first} to {last} cannot be cut out of it"
        )
    part = network.operators[first : last + 1]
    places = {operator.place_in_file for operator in part}
    graph = model.subgraphs[0]
    kept: list[Any] = []
    taken: set[int] = set()
    for place in reversed(range(max(places) + 1)):
        operator = graph.operators[place]
        # Of those that widen constants, only what is taken up.
        if place in places or (place in network.widening and taken.intersection(operator.outputs)):
            kept.append(operator)
            taken.update(operator.inputs)
    computed = {int(number) for operator in kept for number in operator.outputs}
    graph.operators = kept[::-1]
    graph.inputs = list(
        dict.fromkeys(
            tensor.index
            for operator in part
            for tensor in operator.inputs
            if not tensor.constant and tensor.index not in computed
        )
    )
    graph.outputs = [
        tensor.index
        for operator in reversed(part)
        for tensor in operator.outputs
        if tensor.index not in taken or tensor in network.outputs
    ]
    model.signatureDefs = None
    # The file's own notes are kept: one of them lets a runtime compute float16 weights in float16.
    needed = {0, *(note.buffer for note in model.metadata or ())}
    for number, tensor in enumerate(graph.tensors):
        if number in taken or number in computed:
            needed.add(tensor.buffer)
        else:
            tensor.buffer, tensor.quantization = 0, None
    model.buffers = [
        _AlignedBuffer(buffer if number in needed else schema.BufferT())
        for number, buffer in enumerate(model.buffers)
    ]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def as_input(crop: NDArray[np.uint8], tensor: Tensor) -> NDArray[Any]:
    """A crop as a network takes it, by the network's contract.

    Args:
        crop: (side, side, 3) uint8 RGB.
        tensor: the network's input.

    Returns:
        (1, side, side, 3): float32 with the same values; or int8, the top bit flipped.

    Raises:
        ModelFileError: the input is of another shape or type.
    """
    if tensor.shape == (1, *crop.shape):
        if tensor.dtype == "float32":
            return crop[None].astype(np.float32)
        if tensor.dtype == "int8" and (tensor.scale, tensor.zero_point) == (1.0, -128):
            return (crop ^ np.uint8(0x80)).view(np.int8)[None]
    raise ModelFileError(
        f"the network's input is {tensor.shape} {tensor.dtype}, the crops are {crop.shape} {crop.dtype}; "
        "give a model made by hematovision convert"
    )


class _AlignedBuffer:
    """A buffer of the schema that is packed as the kernels want it; the schema's Python code does not."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def Pack(self, builder: Any) -> int:  # noqa: N802 (the schema's name)
        if self._buffer.data is not None:
            builder.Prep(_ALIGNMENT, len(self._buffer.data))
        return int(self._buffer.Pack(builder))


def _schema() -> tuple[Any, Any]:
    try:
        return importlib.import_module("ai_edge_litert.schema_py_generated"), importlib.import_module(
            "flatbuffers"
        )
    except ImportError as error:
        raise MissingPartError(
            f"the description of TensorFlow Lite's files does not load ({error}); pip install ai-edge-litert"
        ) from error


def _unpack(flatbuffer: bytes) -> Any:
    """The file as the schema's objects, found to hold one network."""
    schema, _ = _schema()
    if flatbuffer[4:8] != _IDENTIFIER:
        raise ModelFileError("not a TensorFlow Lite flatbuffer; give a .tflite made by hematovision convert")
    try:
        model = schema.ModelT.InitFromPackedBuf(flatbuffer)
    except (struct.error, IndexError, TypeError, ValueError, AttributeError, MemoryError) as error:
        raise ModelFileError(
            f"the flatbuffer is damaged ({error}); copy or convert the model again"
        ) from error
    graphs = model.subgraphs or []
    if len(graphs) != 1 or len(model.signatureDefs or ()) > 1:
        raise ModelFileError(
            f"the flatbuffer holds {len(graphs)} networks with {len(model.signatureDefs or ())} signatures; "
            "only a file with one of each can be looked into"
        )
    if not graphs[0].operators:
        raise ModelFileError("the flatbuffer's network has no operators; convert the model again")
    return model


def _network(model: Any, schema: Any) -> Network:
    kinds = _names(schema.BuiltinOperator)
    activations = _names(schema.ActivationFunctionType)
    graph = model.subgraphs[0]
    try:
        tensors = _tensors(model, schema)
        operators: list[Operator] = []
        layers = _layers(tensors, {int(number) for number in graph.outputs})
        widening: set[int] = set()
        weights: list[Tensor] = []
        constants = {tensor.index: tensor for tensor in tensors if tensor.constant}
        for place, operator in enumerate(graph.operators):
            code = model.operatorCodes[operator.opcodeIndex]
            # Files older than the 128th operator have its number in the deprecated field alone.
            kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
            if kind == "CUSTOM":
                kind = code.customCode.decode()
            inputs = tuple(tensors[number] for number in operator.inputs if number >= 0)
            outputs = tuple(tensors[number] for number in operator.outputs)
            if all(tensor.index in constants for tensor in inputs):
                # What stands for a widened constant is that constant.
                constants |= dict.fromkeys((tensor.index for tensor in outputs), inputs[0])
                widening.add(place)
                continue
            if kind in _WITH_WEIGHTS:
                found = (constants.get(tensor.index) for tensor in inputs[1:])
                weights += [tensor for tensor in found if tensor]
            activation = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
            operations = _operations(kind, inputs, outputs[0], operator.builtinOptions)
            operators.append(
                Operator(
                    index=len(operators),
                    kind=kind,
                    layer=layers[outputs[0].index],
                    activation=activations[activation],
                    inputs=inputs,
                    outputs=outputs,
                    operations=operations,
                    place_in_file=place,
                )
            )
        return Network(
            operators=tuple(operators),
            inputs=tuple(tensors[number] for number in graph.inputs),
            outputs=tuple(tensors[number] for number in graph.outputs),
            weights=tuple(weights),
            widening=frozenset(widening),
        )
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"the flatbuffer's parts do not fit together ({error}); copy or convert the model again"
        ) from error


def _tensors(model: Any, schema: Any) -> list[Tensor]:
    dtypes = _names(schema.TensorType)
    tensors = []
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        quantization = tensor.quantization or schema.QuantizationParametersT()
        scales = [] if quantization.scale is None else quantization.scale.tolist()
        one_scale = len(scales) == 1
        tensors.append(
            Tensor(
                index=index,
                name=(tensor.name or b"").decode(),
                shape=() if tensor.shape is None else tuple(int(length) for length in tensor.shape),
                dtype=dtypes[tensor.type].lower(),
                constant=model.buffers[tensor.buffer].data is not None,
                scale=scales[0] if one_scale else None,
                zero_point=int(quantization.zeroPoint[0]) if one_scale else 0,
            )
        )
    return tensors


def _layers(tensors: list[Tensor], outputs: set[int]) -> list[str]:
    """Short names of tensors, each like no other's; the whole one where the short one would be, with the
    tensor's number where that would be too."""
    short = ["output" if tensor.index in outputs else _layer(tensor.name) for tensor in tensors]
    shorts, wholes = Counter(short), Counter(tensor.name for tensor in tensors)
    names = []
    for tensor, name in zip(tensors, short, strict=True):
        if not name or shorts[name] > 1:
            name = tensor.name
        names.append(name if name and wholes[name] <= 1 else f"{name or 'nameless'} (tensor {tensor.index})")
    return names


def _layer(name: str) -> str:
    """Of ``a_1/b_1/block_6_project_BN_1/add;a_1/b_1/block_6_project_1/convolution``, where two layers became
    one, ``block_6_project``: Keras puts the same number behind all names when it exports a network."""
    paths = [path.split("/") for path in name.split(";")]
    *scopes, step = next((path for path in paths if path[-1] in _MAIN_STEPS), paths[0])
    if not scopes:
        return step
    number = re.search(r"_\d+$", scopes[0])
    layer = scopes[-1].removesuffix(number.group() if number else "")
    return layer if step in _MAIN_STEPS else f"{layer}/{step}"


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _operations(kind: str, inputs: tuple[Tensor, ...], output: Tensor, options: Any) -> int | None:
    match kind:
        case "CONV_2D" | "FULLY_CONNECTED":  # weights are (out, height, width, in) and (out, in)
            return 2 * output.size * math.prod(inputs[1].shape[1:])
        case "DEPTHWISE_CONV_2D":  # weights are (1, height, width, out)
            return 2 * output.size * math.prod(inputs[1].shape[1:3])
        case "ADD" | "SUB" | "MUL":
            return output.size
        case "AVERAGE_POOL_2D" | "MAX_POOL_2D":
            return output.size * int(options.filterHeight * options.filterWidth)
        case "MEAN":
            return inputs[0].size
        # These move values or store them in another way. Activations are fused into other operators wherever
        # that can be done, and then not seen; so they are counted nowhere.
        case "QUANTIZE" | "DEQUANTIZE" | "RESHAPE" | "PAD" | "PADV2" | "CONCATENATION" | "RELU" | "RELU6":
            return 0
        case _:
            return None
