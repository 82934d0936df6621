import copy
import sys

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.flatbuffer import (
    Tensor,
    as_input,
    count_operations,
    count_parameters,
    cut_out,
    read_network,
)
from benchmarks.variants import BuiltModel
from convert.recipes import RECIPES
from hematovision.classifier import default_model_path
from hematovision.errors import HematoVisionError, MissingPartError, ModelFileError
from hematovision.model_file import read_model_file
from tests.benchmarks.flatbuffer_edits import pack, unpack

# Of the tiny network: scaling to [-1, 1], two convolutions, one to 256 channels, mean, four logits.
TINY_OPERATIONS = (
    2 * 32 * 32 * 3
    + 2 * 16 * 16 * 8 * 27
    + 2 * 16 * 16 * 8 * 9
    + 2 * 16 * 16 * 256 * 8
    + 16 * 16 * 256
    + 2 * 256 * 4
)
TINY_PARAMETERS = (27 * 8 + 8) + (9 * 8 + 8) + (8 * 256 + 256) + (256 * 4 + 4)


def flatbuffer_of(model: BuiltModel, variant: str) -> bytes:
    return read_model_file(model.files[variant]).flatbuffer


def interpreter_of(flatbuffer: bytes) -> Interpreter:
    interpreter = Interpreter(
        model_content=flatbuffer,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return interpreter


def show(interpreter: Interpreter, values: dict[int, np.ndarray]) -> None:
    for index, value in values.items():
        interpreter.set_tensor(index, value)
    interpreter.invoke()


def test_mobilenet_v2_costs_what_was_published() -> None:
    # Sandler et al. 2018: 300 M multiply-adds at 224x224.
    multiply_adds = count_operations(read_model_file(default_model_path()).flatbuffer) / 2
    assert multiply_adds == pytest.approx(300e6 * (128 / 224) ** 2, rel=0.02)


@pytest.mark.parametrize("variant", RECIPES)
def test_every_variant_has_the_same_operations_and_weights(tiny_model: BuiltModel, variant: str) -> None:
    flatbuffer = flatbuffer_of(tiny_model, variant)
    assert count_operations(flatbuffer) == TINY_OPERATIONS
    assert count_parameters(flatbuffer) == TINY_PARAMETERS
    assert read_network(flatbuffer).uncounted == ()


@pytest.mark.parametrize("variant", RECIPES)
def test_a_prefix_computes_what_the_whole_network_holds_at_the_cut(
    tiny_model: BuiltModel, variant: str
) -> None:
    flatbuffer = flatbuffer_of(tiny_model, variant)
    network = read_network(flatbuffer)
    crop = {network.inputs[0].index: as_input(tiny_model.crops()[0], network.inputs[0])}
    whole = interpreter_of(flatbuffer)
    show(whole, crop)
    for operator in network.operators:
        part = interpreter_of(cut_out(flatbuffer, 0, operator.index))
        show(part, crop)
        (output,) = part.get_output_details()
        assert output["name"] == operator.output.name
        np.testing.assert_array_equal(
            part.get_tensor(output["index"]), whole.get_tensor(operator.output.index)
        )


@pytest.mark.parametrize("variant", RECIPES)
def test_one_operator_alone_computes_what_it_does_among_the_others(
    tiny_model: BuiltModel, variant: str
) -> None:
    flatbuffer = flatbuffer_of(tiny_model, variant)
    network = read_network(flatbuffer)
    whole = interpreter_of(flatbuffer)
    show(whole, {network.inputs[0].index: as_input(tiny_model.crops()[0], network.inputs[0])})
    for operator in network.operators:
        alone = interpreter_of(cut_out(flatbuffer, operator.index, operator.index))
        show(alone, {one.index: whole.get_tensor(one.index) for one in network.activations(operator)})
        np.testing.assert_array_equal(
            alone.get_tensor(operator.output.index), whole.get_tensor(operator.output.index)
        )


def test_a_skip_connection_is_an_input_of_what_follows_the_cut_and_no_output_of_what_precedes_it() -> None:
    flatbuffer = read_model_file(default_model_path()).flatbuffer
    network = read_network(flatbuffer)
    addition = next(one for one in network.operators if one.layer == "block_2_add/Add")
    before = read_network(cut_out(flatbuffer, 0, addition.index - 1))
    # Taken up within the part by the next block, so not what it ends in.
    assert [one.index for one in before.outputs] == [network.operators[addition.index - 1].output.index]
    behind = read_network(cut_out(flatbuffer, addition.index, len(network.operators) - 1))
    assert {one.index for one in behind.inputs} == {one.index for one in addition.inputs}
    assert [one.name for one in behind.outputs] == [one.name for one in network.outputs]


@pytest.mark.parametrize("variant", RECIPES)
def test_a_part_holds_only_the_weights_that_it_needs(tiny_model: BuiltModel, variant: str) -> None:
    flatbuffer = flatbuffer_of(tiny_model, variant)
    head, tail = (
        cut_out(flatbuffer, 0, 3),
        cut_out(flatbuffer, 4, len(read_network(flatbuffer).operators) - 1),
    )
    counts = [count_parameters(one) for one in (head, tail)]
    assert sum(counts) == TINY_PARAMETERS
    assert all(counts)
    stored = [
        sum(len(one.data) for one in unpack(part).buffers if one.data is not None) for part in (head, tail)
    ]
    assert all(size < 0.9 * len(flatbuffer) for size in stored)


def test_weights_lie_where_kernels_expect_them(tiny_model: BuiltModel) -> None:
    part = cut_out(flatbuffer_of(tiny_model, "float32"), 0, 4)
    model = schema.Model.GetRootAs(part)
    start = np.frombuffer(part, np.uint8).__array_interface__["data"][0]
    places = [
        model.Buffers(number).DataAsNumpy().__array_interface__["data"][0] - start
        for number in range(model.BuffersLength())
        if model.Buffers(number).DataLength()
    ]
    assert places
    assert all(place % 16 == 0 for place in places)


def test_a_part_keeps_the_note_that_float16_may_be_computed_in(tiny_model: BuiltModel) -> None:
    flatbuffer = flatbuffer_of(tiny_model, "float16")
    notes = {
        one.name: bytes(unpack(flatbuffer).buffers[one.buffer].data) for one in unpack(flatbuffer).metadata
    }
    part = unpack(cut_out(flatbuffer, 0, 2))
    assert b"reduced_precision_support" in notes
    assert {one.name: bytes(part.buffers[one.buffer].data) for one in part.metadata} == notes


def test_layers_have_short_names_of_their_own() -> None:
    layers = [one.layer for one in read_network(read_model_file(default_model_path()).flatbuffer).operators]
    assert layers[:5] == [
        "to_unit_range/mul",
        "to_unit_range/add",
        "Conv1",
        "expanded_conv_depthwise",
        "expanded_conv_project",
    ]
    assert layers[-3:] == ["Conv_1", "mean_of_field/Mean", "output"]
    assert len(set(layers)) == len(layers)


def test_layers_whose_short_names_are_the_same_keep_their_whole_names(tiny_model: BuiltModel) -> None:
    model = unpack(flatbuffer_of(tiny_model, "float32"))
    network = read_network(flatbuffer_of(tiny_model, "float32"))
    for number in (2, 3):
        output = model.subgraphs[0].tensors[network.operators[number].output.index]
        output.name = f"branch_{number}/block/convolution".encode()
    layers = [one.layer for one in read_network(pack(model)).operators]
    assert layers[2:4] == ["branch_2/block/convolution", "branch_3/block/convolution"]


def test_layers_that_share_even_their_whole_names_are_told_apart_by_their_numbers(
    tiny_model: BuiltModel,
) -> None:
    model = unpack(flatbuffer_of(tiny_model, "float32"))
    operators = read_network(flatbuffer_of(tiny_model, "float32")).operators[2:4]
    for operator in operators:
        model.subgraphs[0].tensors[operator.output.index].name = b"twin"
    layers = [one.layer for one in read_network(pack(model)).operators[2:4]]
    assert layers == [f"twin (tensor {operator.output.index})" for operator in operators]


def test_an_operator_of_unknown_cost_is_counted_as_nothing_and_named(tiny_model: BuiltModel) -> None:
    model = unpack(flatbuffer_of(tiny_model, "float32"))
    (mean,) = (one for one in model.operatorCodes if one.builtinCode == schema.BuiltinOperator.MEAN)
    mean.builtinCode = mean.deprecatedBuiltinCode = schema.BuiltinOperator.SUM
    network = read_network(pack(model))
    assert network.uncounted == ("SUM",)
    assert count_operations(pack(model)) == TINY_OPERATIONS - 16 * 16 * 256


def test_an_operator_of_somebodys_own_is_called_by_its_name(tiny_model: BuiltModel) -> None:
    model = unpack(flatbuffer_of(tiny_model, "float32"))
    (mean,) = (one for one in model.operatorCodes if one.builtinCode == schema.BuiltinOperator.MEAN)
    mean.builtinCode = mean.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    mean.customCode = b"MyMean"
    assert read_network(pack(model)).uncounted == ("MyMean",)


def test_only_what_has_one_scale_for_all_its_values_is_said_to_have_one(tiny_model: BuiltModel) -> None:
    convolution = read_network(flatbuffer_of(tiny_model, "int8")).operators[2]
    activation, weights = convolution.inputs[:2]
    assert activation.scale == pytest.approx(2 / 255, rel=0.01)
    assert weights.scale is None  # one for each channel


def test_an_int8_input_is_the_crop_with_its_top_bit_flipped() -> None:
    crop = np.arange(256, dtype=np.uint8).repeat(12).reshape(32, 32, 3)
    stored = as_input(crop, Tensor(0, "crop", (1, 32, 32, 3), "int8", False, 1.0, -128))
    assert stored.shape == (1, 32, 32, 3)
    np.testing.assert_array_equal(stored[0].astype(int) + 128, crop)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(0, "crop", (1, 64, 64, 3), "float32", False, None, 0),
        Tensor(0, "crop", (1, 32, 32, 3), "int8", False, 0.5, 0),
        Tensor(0, "crop", (1, 32, 32, 3), "uint8", False, None, 0),
    ],
)
def test_an_input_that_is_not_the_contracts_is_refused(tensor: Tensor) -> None:
    with pytest.raises(ModelFileError, match="input is"):
        as_input(np.zeros((32, 32, 3), np.uint8), tensor)


def test_what_is_no_flatbuffer_is_refused() -> None:
    with pytest.raises(ModelFileError, match="not a TensorFlow Lite flatbuffer"):
        read_network(b"PK\x03\x04 and so on")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_a_flatbuffer_that_was_cut_short_is_refused(tiny_model: BuiltModel, share: float) -> None:
    flatbuffer = flatbuffer_of(tiny_model, "int8")
    with pytest.raises(ModelFileError):
        read_network(flatbuffer[: int(share * len(flatbuffer))])


def test_a_file_with_several_networks_is_refused(tiny_model: BuiltModel) -> None:
    model = unpack(flatbuffer_of(tiny_model, "float32"))
    model.subgraphs = [model.subgraphs[0], copy.copy(model.subgraphs[0])]
    with pytest.raises(ModelFileError, match="2 networks with 1 signatures"):
        read_network(pack(model))


def test_a_file_with_several_signatures_is_refused(tiny_model: BuiltModel) -> None:
    model = unpack(flatbuffer_of(tiny_model, "float32"))
    model.signatureDefs = [model.signatureDefs[0]] * 2
    with pytest.raises(ModelFileError, match="1 networks with 2 signatures"):
        read_network(pack(model))


def test_a_network_without_operators_is_refused(tiny_model: BuiltModel) -> None:
    model = unpack(flatbuffer_of(tiny_model, "float32"))
    model.subgraphs[0].operators = []
    with pytest.raises(ModelFileError, match="no operators"):
        read_network(pack(model))


def test_a_network_with_several_inputs_cannot_be_shown_a_crop(tiny_model: BuiltModel) -> None:
    model = unpack(flatbuffer_of(tiny_model, "float32"))
    model.subgraphs[0].inputs = [*model.subgraphs[0].inputs, 1]
    with pytest.raises(ModelFileError, match="2 inputs"):
        _ = read_network(pack(model)).input


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (3, 2), (0, 99)])
def test_a_part_that_is_not_there_is_refused(tiny_model: BuiltModel, first: int, last: int) -> None:
    with pytest.raises(ModelFileError, match="cannot be cut out"):
        cut_out(flatbuffer_of(tiny_model, "float32"), first, last)


@settings(max_examples=150, deadline=None)
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_ends_in_an_error_on_purpose_or_in_a_network(
    tiny_model: BuiltModel, edits: list[tuple[float, int]]
) -> None:
    # A prefix of two operators has hardly any weights: most bytes say how the file is to be read.
    damaged = bytearray(cut_out(flatbuffer_of(tiny_model, "int8"), 0, 1))
    for place, value in edits:
        damaged[int(place * (len(damaged) - 1))] = value
    try:
        network = read_network(bytes(damaged))
        cut_out(bytes(damaged), 0, len(network.operators) - 1)
    except HematoVisionError:
        pass


def test_without_litert_it_says_what_to_install(
    tiny_model: BuiltModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    with pytest.raises(MissingPartError, match="pip install ai-edge-litert"):
        read_network(flatbuffer_of(tiny_model, "int8"))
