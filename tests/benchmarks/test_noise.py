import dataclasses
import json
import math

import numpy as np
import pytest

from benchmarks.flatbuffer import Tensor, cut_out, read_network
from benchmarks.noise import compare_tensors, match_tensors, measure_noise, quantise, sqnr, worst_steps
from benchmarks.report import to_json
from benchmarks.results import QuantisationNoise, TensorNoise
from benchmarks.variants import BuiltModel
from hematovision.classifier import Classifier
from hematovision.errors import ModelFileError, SettingError
from hematovision.model_file import read_model_file
from hematovision.runtime import load_interpreter
from tests.benchmarks.flatbuffer_edits import pack, unpack
from tests.benchmarks.sample_report import sample_report


def flatbuffer_of(model: BuiltModel, variant: str) -> bytes:
    return read_model_file(model.files[variant]).flatbuffer


def step_db(tensors: tuple[TensorNoise, ...]) -> dict[str, float]:
    return {one.output: one.step_db.value for one in tensors}


@pytest.fixture(scope="module")
def int8_noise(tiny_model: BuiltModel) -> QuantisationNoise:
    return measure_noise(tiny_model)


def test_the_ratio_is_that_of_sums_of_squares_over_all_crops() -> None:
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(3, 2, (40, 500)), rng.normal(0, 0.1, (40, 500))
    (estimate,) = sqnr(np.sum(signal**2, axis=1)[:, None], np.sum(noise**2, axis=1)[:, None])
    assert estimate.value == pytest.approx(10 * np.log10(np.mean(signal**2) / np.mean(noise**2)))
    assert estimate.low < estimate.value < estimate.high


def test_each_bit_of_uniform_noise_is_six_decibels() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 200_000)
    ratios = []
    for bits in (4, 5, 6, 7, 8):
        tensor = Tensor(0, "uniform", values.shape, "int8", False, 2 / 2**bits, 0)
        error = values - quantise(values, tensor).astype(float) * 2 / 2**bits
        (estimate,) = sqnr(np.array([[np.sum(values**2)]]), np.array([[np.sum(error**2)]]))
        ratios.append(estimate.value)
    # Signal power 1/3, noise power step²/12: Bennett 1948.
    np.testing.assert_allclose(ratios, 20 * np.log10(2) * np.array([4, 5, 6, 7, 8]), atol=0.1)


def test_the_interval_is_the_range_of_crops_that_differ_and_a_point_for_crops_that_do_not() -> None:
    alike, unlike = np.ones(100), np.tile([0.5, 1.5], 50)
    same, different = sqnr(np.ones((100, 2)), np.stack([alike, unlike], axis=1) / 1000)
    assert same.low == pytest.approx(same.high)
    # The mean of 100 values of standard deviation 0.5 lies within 1 ± 1.96 · 0.05.
    assert different.low == pytest.approx(30 - 10 * np.log10(1.098), abs=0.06)
    assert different.high == pytest.approx(30 - 10 * np.log10(0.902), abs=0.06)


def test_a_single_crop_has_no_interval() -> None:
    (estimate,) = sqnr(np.array([[1.0]]), np.array([[0.1]]))
    assert estimate.value == pytest.approx(10)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_numbers_beyond_the_scale_are_cut_off() -> None:
    tensor = Tensor(0, "relu6", (4,), "int8", False, 6 / 255, -128)
    assert quantise(np.array([-1.0, 0.0, 6.0, 9.0]), tensor).tolist() == [-128, -128, 127, 127]


def test_the_output_is_as_noisy_as_the_device_code_finds_it(
    tiny_model: BuiltModel, int8_noise: QuantisationNoise
) -> None:
    logits = {}
    crops = tiny_model.crops()
    crops = crops[np.unique(np.linspace(0, len(crops) - 1, 50).round().astype(int))]
    for variant in ("float32", "int8"):
        file = read_model_file(tiny_model.files[variant])
        loaded = load_interpreter(file.flatbuffer, "litert", 1, xnnpack=False)
        logits[variant] = Classifier(file, loaded=loaded).logits(crops).astype(float)
    error = logits["float32"] - logits["int8"]
    expected = 10 * np.log10(np.sum(logits["float32"] ** 2) / np.sum(error**2))
    (output,) = (one for one in int8_noise.tensors if one.output == "output")
    assert int8_noise.crops == len(crops)
    assert output.sqnr_db.value == pytest.approx(expected, abs=0.01)


def test_every_layer_of_the_int8_variant_has_a_finite_ratio(int8_noise: QuantisationNoise) -> None:
    assert [one.operator for one in int8_noise.tensors] == [
        "MUL", "ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED",
    ]  # fmt: skip
    assert int8_noise.unmatched == ()
    assert all(0 < one.sqnr_db.low <= one.sqnr_db.value <= one.sqnr_db.high for one in int8_noise.tensors)
    # Until the first convolution there is nothing to carry along but the rounding to int8.
    assert int8_noise.tensors[0].step_db == int8_noise.tensors[0].sqnr_db


@pytest.mark.parametrize("place", [2, 3, 4])
def test_a_layer_whose_range_an_outlier_stretches_comes_first_among_the_worst(
    tiny_model: BuiltModel, place: int
) -> None:
    flatbuffer = flatbuffer_of(tiny_model, "int8")
    operator = read_network(flatbuffer).operators[place]
    assert operator.activation == "RELU6"
    model = unpack(flatbuffer)
    # As if one channel reached 192 and not 6: five of the eight bits are lost.
    quantization = model.subgraphs[0].tensors[operator.output.index].quantization
    quantization.scale = quantization.scale * np.float32(32)
    reference, crops = flatbuffer_of(tiny_model, "float32"), tiny_model.crops()[:8]
    tensors, _ = compare_tensors(reference, pack(model), crops)
    assert worst_steps(tensors)[0] == operator.layer
    as_converted, stretched = step_db(compare_tensors(reference, flatbuffer, crops)[0]), step_db(tensors)
    assert stretched[operator.layer] < as_converted[operator.layer] - 15
    for untouched in read_network(flatbuffer).operators[:place]:
        assert stretched[untouched.layer] == as_converted[untouched.layer]


def test_a_layer_with_coarse_weights_comes_first_among_the_worst(tiny_model: BuiltModel) -> None:
    flatbuffer = flatbuffer_of(tiny_model, "int8")
    operator = read_network(flatbuffer).operators[3]
    model = unpack(flatbuffer)
    weights = model.buffers[model.subgraphs[0].tensors[operator.inputs[1].index].buffer]
    # As if one weight of each channel were so large that the others get four values between them.
    coarse = np.clip(np.rint(weights.data.view(np.int8) / 64) * 64, -128, 127)
    weights.data = coarse.astype(np.int8).view(np.uint8)
    tensors, _ = compare_tensors(flatbuffer_of(tiny_model, "float32"), pack(model), tiny_model.crops()[:8])
    assert worst_steps(tensors)[0] == operator.layer


def test_networks_that_are_the_same_have_no_noise_and_the_report_no_infinity(tiny_model: BuiltModel) -> None:
    flatbuffer = flatbuffer_of(tiny_model, "float32")
    tensors, unmatched = compare_tensors(flatbuffer, flatbuffer, tiny_model.crops()[:2])
    assert len(tensors) == 7
    assert unmatched == worst_steps(tensors) == ()
    assert all(math.isnan(value) for one in tensors for value in dataclasses.astuple(one.sqnr_db))
    noise = QuantisationNoise("tiny", "float32", "float32", 2, tensors, ())
    written = to_json(dataclasses.replace(sample_report(), noise=(noise,)))
    assert written["noise"][0]["tensors"][0]["sqnr_db"] == {"value": None, "low": None, "high": None}
    json.dumps(written, allow_nan=False)


@pytest.mark.parametrize("variant", ["float16", "dynamic", "int16x8"])
def test_other_variants_are_compared_as_well(tiny_model: BuiltModel, variant: str) -> None:
    noise = measure_noise(tiny_model, quantised=variant)
    assert noise.unmatched == ()
    kinds = [one.operator for one in noise.tensors if one.operator not in ("QUANTIZE", "DEQUANTIZE")]
    assert len(kinds) == 7
    assert next(one for one in noise.tensors if one.output == "output").sqnr_db.value > 10


def test_tensors_of_other_names_are_matched_by_their_place(tiny_model: BuiltModel) -> None:
    model = unpack(flatbuffer_of(tiny_model, "int8"))
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.name = f"nameless {number}".encode()
    reference = flatbuffer_of(tiny_model, "float32")
    tensors, unmatched = compare_tensors(reference, pack(model), tiny_model.crops()[:4])
    assert unmatched == ()
    by_name, _ = compare_tensors(reference, flatbuffer_of(tiny_model, "int8"), tiny_model.crops()[:4])
    assert [one.sqnr_db for one in tensors] == [one.sqnr_db for one in by_name]


def test_a_tensor_that_computes_something_else_is_listed_as_unmatched(tiny_model: BuiltModel) -> None:
    flatbuffer = flatbuffer_of(tiny_model, "int8")
    operator = read_network(flatbuffer).operators[3]
    model = unpack(flatbuffer)
    model.subgraphs[0].operators[operator.place_in_file].builtinOptions.fusedActivationFunction = 0
    reference = flatbuffer_of(tiny_model, "float32")
    tensors, unmatched = compare_tensors(reference, pack(model), tiny_model.crops()[:2])
    assert unmatched == (operator.layer,)
    assert operator.layer not in step_db(tensors)
    # What follows it cannot be given the reference's values, so its own noise is not known.
    following = tensors[3]
    assert math.isnan(following.step_db.value)
    assert following.sqnr_db.value > 0
    assert following.output not in worst_steps(tensors)


def test_a_step_that_takes_something_else_in_the_reference_has_no_noise_of_its_own(
    tiny_model: BuiltModel,
) -> None:
    flatbuffer = flatbuffer_of(tiny_model, "float32")
    scaling, shift = read_network(flatbuffer).operators[:2]
    model = unpack(flatbuffer)
    step = model.subgraphs[0].operators[shift.place_in_file]
    step.inputs = np.where(step.inputs == scaling.output.index, scaling.inputs[0].index, step.inputs)
    tensors, _ = compare_tensors(pack(model), flatbuffer_of(tiny_model, "int8"), tiny_model.crops()[:2])
    assert [math.isnan(one.step_db.value) for one in tensors] == [False, True] + 5 * [False]
    assert tensors[1].sqnr_db.value < 10


def test_a_tensor_of_the_same_name_and_another_shape_is_no_counterpart(tiny_model: BuiltModel) -> None:
    reference, quantised = (read_network(flatbuffer_of(tiny_model, one)) for one in ("float32", "int8"))
    output = dataclasses.replace(reference.operators[2].output, shape=(1, 8, 8, 8))
    changed = dataclasses.replace(reference.operators[2], outputs=(output,))
    operators = (*reference.operators[:2], changed, *reference.operators[3:])
    partners = match_tensors(dataclasses.replace(reference, operators=operators), quantised)
    assert quantised.operators[2].output.index not in partners
    assert quantised.operators[3].output.index in partners


def test_networks_without_a_common_layer_are_refused(tiny_model: BuiltModel) -> None:
    model = unpack(cut_out(flatbuffer_of(tiny_model, "int8"), 0, 2))
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.name = f"nameless {number}".encode()
    with pytest.raises(ModelFileError, match="no layer in common"):
        compare_tensors(flatbuffer_of(tiny_model, "float32"), pack(model), tiny_model.crops()[:2])


def test_crops_of_another_size_are_refused(tiny_model: BuiltModel) -> None:
    crops = np.zeros((2, 48, 48, 3), np.uint8)
    with pytest.raises(ModelFileError, match="input is"):
        compare_tensors(flatbuffer_of(tiny_model, "float32"), flatbuffer_of(tiny_model, "int8"), crops)


def test_a_network_that_computes_no_finite_number_is_refused(tiny_model: BuiltModel) -> None:
    flatbuffer = flatbuffer_of(tiny_model, "float32")
    bias = read_network(flatbuffer).operators[-1].inputs[2]
    model = unpack(flatbuffer)
    model.buffers[model.subgraphs[0].tensors[bias.index].buffer].data = np.full(4, np.nan, np.float32).view(
        np.uint8
    )
    with pytest.raises(ModelFileError, match="not a finite number"):
        compare_tensors(flatbuffer, pack(model), tiny_model.crops()[:2])


def test_a_quantised_network_can_be_the_reference_too(tiny_model: BuiltModel) -> None:
    noise = measure_noise(tiny_model, reference="int8", quantised="int16x8")
    assert next(one for one in noise.tensors if one.output == "output").step_db.value > 20


@pytest.mark.parametrize("missing", ["int8", "float32"])
def test_a_variant_that_was_not_built_is_asked_for(tiny_model: BuiltModel, missing: str) -> None:
    files = {name: path for name, path in tiny_model.files.items() if name != missing}
    with pytest.raises(SettingError, match=f"tiny: no variant {missing}"):
        measure_noise(dataclasses.replace(tiny_model, files=files))


def test_the_keras_network_is_not_looked_into(tiny_model: BuiltModel) -> None:
    with pytest.raises(SettingError, match="no variant keras"):
        measure_noise(tiny_model, reference="keras")
