"""Where a quantised network's error comes from: signal-to-quantisation-noise ratio, tensor by tensor.

The reference and the quantised network are shown the same crops, without delegates and with every tensor
kept. Of each tensor, over all values and crops, x being the reference's and y the quantised network's, as
numbers (Lin, Talathi and Annapureddy 2016, *Fixed Point Quantization of Deep Convolutional Networks*)::

    SQNR = 10 log10( sum x² / sum (x - y)² )   decibels

That tells how far the error has grown, not where it comes from: it is carried along, and a layer may lessen
it. So each step is also run by itself, in both networks with the same input: the reference's values, rounded
as the quantised network stores them. The noise that is then in its output is of its own making.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.flatbuffer import Network, Operator, Tensor, as_input, cut_out, read_network
from benchmarks.results import Estimate, QuantisationNoise, TensorNoise
from benchmarks.variants import BuiltModel
from hematovision.errors import ModelFileError, SettingError
from hematovision.model_file import read_model_file

_NAN = float("nan")
_RESAMPLES = 1000
_WORST = 5
# Of 200, every fourth gave the same figures: the intervals are narrower than what layers differ by.
_CROPS = 50
# They change how a tensor's values are stored, and so have no counterpart among the reference's operators.
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")

Say = Callable[[str], None]
Values = NDArray[np.float64]


def measure_noise(
    model: BuiltModel, reference: str = "float32", quantised: str = "int8", say: Say = lambda _: None
) -> QuantisationNoise:
    """Show the crops kept beside the variants to two of them, and compare all tensors.

    Args:
        model: the trained network.
        reference: the variant that is taken for right.
        quantised: the variant that is compared with it.
        say: told how far it is.

    Raises:
        SettingError: a variant is not among those built.
        MissingPartError: LiteRT is not installed.
        ModelFileError: a file is damaged, cannot be run, or the two have no tensor in common.
    """
    for name in (reference, quantised):
        if name not in model.files or model.files[name].suffix != ".tflite":
            raise SettingError(f"{model.name}: no variant {name} among those built; ask for it too")
    true_file, file = (read_model_file(model.files[name]).flatbuffer for name in (reference, quantised))
    crops = model.crops()
    # They lie in the order of their classes.
    crops = crops[np.unique(np.linspace(0, len(crops) - 1, _CROPS).round().astype(int))]
    try:
        tensors, unmatched = compare_tensors(true_file, file, crops, say)
    except ModelFileError as error:
        raise ModelFileError(
            f"{model.name}: {quantised} cannot be held against {reference}: {error}"
        ) from error
    return QuantisationNoise(
        model=model.name,
        variant=quantised,
        reference=reference,
        crops=len(crops),
        tensors=tensors,
        worst=worst_steps(tensors),
        unmatched=unmatched,
    )


def worst_steps(tensors: Sequence[TensorNoise]) -> tuple[str, ...]:
    """Outputs of the steps that bring most noise of their own, the worst first; five at most."""
    noisy = [tensor for tensor in tensors if np.isfinite(tensor.step_db.value)]
    return tuple(tensor.output for tensor in sorted(noisy, key=lambda one: one.step_db.value)[:_WORST])


def compare_tensors(
    true_file: bytes, file: bytes, crops: NDArray[np.uint8], say: Say = lambda _: None
) -> tuple[tuple[TensorNoise, ...], tuple[str, ...]]:
    """Compare what two networks compute from the same crops.

    Args:
        true_file: flatbuffer of the reference.
        file: flatbuffer of the same network, quantised.
        crops: (n, side, side, 3) uint8 RGB.
        say: told how far it is.

    Returns:
        The tensors of the quantised network that have a counterpart, in order of execution, and the outputs
        that have none.

    Raises:
        MissingPartError: LiteRT is not installed.
        ModelFileError: a network is damaged, cannot be run, takes other crops, or the two have no tensor in
            common.
    """
    true_network, network = read_network(true_file), read_network(file)
    partners = match_tensors(true_network, network)
    matched = [operator for operator in network.operators if operator.output.index in partners]
    unmatched = tuple(
        operator.layer for operator in network.operators if operator.output.index not in partners
    )
    if not matched:
        raise ModelFileError("the two variants have no layer in common; compare variants of one network")
    true_whole, whole = _Kept(true_file), _Kept(file)
    true_input, whole_input = true_network.input, network.input
    steps = _steps(true_file, file, true_network, network, partners)
    signal, noise, step_signal, step_noise = np.full((4, len(crops), len(matched)), _NAN)
    for row, crop in enumerate(crops):
        say(f"noise of each layer: crop {row + 1} of {len(crops)}")
        true_whole.run({true_input: as_input(crop, true_input)})
        whole.run({whole_input: as_input(crop, whole_input)})
        for column, operator in enumerate(matched):
            right = true_whole.values(partners[operator.output.index])
            signal[row, column] = np.sum(right**2)
            noise[row, column] = np.sum((right - whole.values(operator.output)) ** 2)
            if operator.index in steps:
                right, answer = steps[operator.index].outputs(true_whole)
                step_signal[row, column] = np.sum(right**2)
                step_noise[row, column] = np.sum((right - answer) ** 2)
    if not (np.isfinite(signal) & np.isfinite(noise)).all():
        raise ModelFileError("a tensor is not a finite number; train or convert the model again")
    whole_db, step_db = sqnr(signal, noise), sqnr(step_signal, step_noise)
    tensors = tuple(
        TensorNoise(operator.index, operator.kind, operator.layer, operator.output.shape, *decibels)
        for operator, *decibels in zip(matched, whole_db, step_db, strict=True)
    )
    return tensors, unmatched


def match_tensors(reference: Network, quantised: Network) -> dict[int, Tensor]:
    """The reference's counterparts of what a quantised network computes.

    By name where the names are the same; else by place, where both are the same sequence of operators. What
    they compute must be of the same kind and shape, with the same activation.

    Returns:
        Number of a tensor in the quantised network to the tensor of the reference.
    """
    by_name = {operator.output.name: operator for operator in reference.operators}
    true_steps = [operator for operator in reference.operators if operator.kind not in _CONVERSIONS]
    steps = [operator for operator in quantised.operators if operator.kind not in _CONVERSIONS]
    same_sequence = list(map(_looks, true_steps)) == list(map(_looks, steps))
    by_place = {
        operator.index: true_step
        for operator, true_step in zip(steps, true_steps, strict=False)
        if same_sequence
    }
    partners = {
        tensor.index: true_tensor
        for tensor, true_tensor in zip(quantised.inputs, reference.inputs, strict=False)
        if tensor.shape == true_tensor.shape
    }
    for operator in quantised.operators:
        if operator.kind in _CONVERSIONS:
            if operator.inputs[0].index in partners:
                partners[operator.output.index] = partners[operator.inputs[0].index]
            continue
        true_step = by_name.get(operator.output.name) or by_place.get(operator.index)
        if true_step is not None and _looks(true_step) == _looks(operator):
            partners[operator.output.index] = true_step.output
    return partners


def sqnr(signal: Values, noise: Values) -> list[Estimate]:
    """Signal-to-quantisation-noise ratio of some tensors, with 95 % intervals from resampling crops.

    Args:
        signal: (crops, tensors), each the sum of the squares of a tensor's values.
        noise: (crops, tensors), of their errors.

    Returns:
        For each tensor, in decibels. NaN where noise or signal is nothing; the limits also where that is so
        in a resample, and of a single crop.
    """
    values = _decibels(signal.sum(axis=0), noise.sum(axis=0))
    crops = len(signal)
    counts = np.random.default_rng(0).multinomial(crops, np.full(crops, 1 / crops), size=_RESAMPLES)
    resampled = _decibels(counts @ signal, counts @ noise)
    low, high = np.percentile(resampled, (2.5, 97.5), axis=0) if crops > 1 else (values * _NAN, values * _NAN)
    return [Estimate(*map(float, row)) for row in zip(values, low, high, strict=True)]


def _decibels(signal: Values, noise: Values) -> Values:
    defined = (signal > 0) & (noise > 0)
    ratio = np.divide(signal, noise, out=np.full(signal.shape, _NAN), where=defined)
    return 10 * np.log10(ratio)


def quantise(values: Values, tensor: Tensor) -> NDArray[Any]:
    """Numbers as a tensor stores them: rounded to its scale, cut off where its type ends."""
    dtype = np.dtype(tensor.dtype)
    if tensor.scale is None:
        return values.astype(dtype)
    ends = np.iinfo(dtype)
    return np.clip(np.rint(values / tensor.scale) + tensor.zero_point, ends.min, ends.max).astype(dtype)


def dequantise(stored: NDArray[Any], tensor: Tensor) -> Values:
    """The numbers that a tensor's stored values stand for."""
    values = stored.astype(np.float64)
    return values if tensor.scale is None else (values - tensor.zero_point) * tensor.scale


def _looks(operator: Operator) -> tuple[str, str, tuple[int, ...]]:
    return operator.kind, operator.activation, operator.output.shape


def _steps(
    true_file: bytes, file: bytes, true_network: Network, network: Network, partners: dict[int, Tensor]
) -> "dict[int, _Step]":
    """Those operators of the quantised network, by index, whose inputs and output have counterparts."""
    made_by = {operator.output: operator for operator in true_network.operators}
    steps = {}
    for operator in network.operators:
        inputs = {one: partners[one.index] for one in network.activations(operator) if one.index in partners}
        if operator.output.index not in partners or len(inputs) < len(network.activations(operator)):
            continue
        true_step = None
        if operator.kind not in _CONVERSIONS:
            true_operator = made_by[partners[operator.output.index]]
            if set(inputs.values()) != set(true_network.activations(true_operator)):
                continue
            true_step = _Kept(cut_out(true_file, true_operator.index, true_operator.index))
        step = _Kept(cut_out(file, operator.index, operator.index))
        steps[operator.index] = _Step(
            inputs, partners[operator.output.index], operator.output, true_step, step
        )
    return steps


class _Kept:
    """A network run without delegates, which would keep to themselves what they compute in between."""

    def __init__(self, flatbuffer: bytes) -> None:
        runtime = importlib.import_module("ai_edge_litert.interpreter")
        try:
            self._interpreter = runtime.Interpreter(
                model_content=flatbuffer,
                num_threads=1,
                experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=True,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ModelFileError(f"LiteRT cannot load the model without delegates ({reason})") from error

    def run(self, inputs: dict[Tensor, NDArray[Any]]) -> None:
        try:
            for tensor, values in inputs.items():
                self._interpreter.set_tensor(tensor.index, values)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ModelFileError(f"LiteRT cannot run the model without delegates ({reason})") from error

    def values(self, tensor: Tensor) -> Values:
        """What a tensor stands for, as numbers."""
        return dequantise(self._interpreter.get_tensor(tensor.index), tensor)


@dataclass(frozen=True)
class _Step:
    """An operator alone. ``inputs``: its own to the reference's; ``true_step``: None for the identity."""

    inputs: dict[Tensor, Tensor]
    true_output: Tensor
    output: Tensor
    true_step: _Kept | None
    step: _Kept

    def outputs(self, true_whole: _Kept) -> tuple[Values, Values]:
        """What the reference's operator and this one give for what the whole reference now holds."""
        stored = {tensor: quantise(true_whole.values(twin), tensor) for tensor, twin in self.inputs.items()}
        given = {tensor: dequantise(values, tensor) for tensor, values in stored.items()}
        self.step.run(stored)
        answer = self.step.values(self.output)
        if self.true_step is None:
            return next(iter(given.values())), answer
        self.true_step.run({twin: quantise(given[tensor], twin) for tensor, twin in self.inputs.items()})
        return self.true_step.values(self.true_output), answer
