import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import layers
from benchmarks.layers import divide, measure_layers
from benchmarks.variants import BuiltModel
from convert.recipes import RECIPES
from hematovision.errors import ModelFileError, SettingError
from hematovision.model_file import read_model_file, write_model_file
from tests.benchmarks.flatbuffer_edits import pack, unpack
from tests.tiny_network import SIDE, tiny_manifest

# Long enough for the fewest rounds only.
NO_TIME_S = 0.0


def no_say(_: str) -> None:
    pass


def prefix_times(layer_ms: np.ndarray, rounds: int, rng: np.random.Generator) -> np.ndarray:
    """Of every prefix, in rounds in which the machine is up to half slower, and disturbed now and then."""
    times = np.cumsum(layer_ms) * rng.uniform(1, 1.5, (rounds, 1))
    times *= 1 + 0.002 * rng.standard_normal(times.shape)
    return times + rng.exponential(1.0, times.shape) * (rng.random(times.shape) < 0.1)


@pytest.fixture(scope="module")
def lopsided_model(tiny_model: BuiltModel, tmp_path_factory: pytest.TempPathFactory) -> BuiltModel:
    """A network with a layer of more than 100 times the operations of any other."""
    folder = tmp_path_factory.mktemp("lopsided")
    crop = keras.Input((SIDE, SIDE, 3), name="crop")
    x = keras.layers.Conv2D(8, 1, name="before")(crop)
    x = keras.layers.Conv2D(32, 9, padding="same", name="heavy")(x)
    x = keras.layers.AveragePooling2D(4, name="pooled")(x)
    x = keras.layers.Conv2D(16, 3, name="after")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    network = keras.Model(crop, keras.layers.Dense(4, name="logits")(x))
    network.export(folder / "saved", verbose=False)
    flatbuffer = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved")).convert()
    path = folder / "lopsided-float32.tflite"
    write_model_file(path, flatbuffer, dataclasses.replace(tiny_manifest(), recipe="float32"))
    return dataclasses.replace(tiny_model, name="lopsided", files={"float32": path})


def test_times_are_found_again_although_rounds_differ_in_speed() -> None:
    layer_ms = np.array([0.05, 0.3, 0.02, 0.0, 0.4, 0.1])
    times = prefix_times(layer_ms, 400, np.random.default_rng(0))
    whole_ms, found, shares = divide([times])
    assert sum(shares) == pytest.approx(1)
    assert sum(one.value for one in found) == pytest.approx(whole_ms)
    np.testing.assert_allclose(shares, layer_ms / layer_ms.sum(), atol=0.002)
    assert whole_ms == np.median(times[:, -1])


def test_groups_at_different_speeds_are_brought_together_by_the_whole_network() -> None:
    layer_ms = np.array([0.05, 0.3, 0.02, 0.0, 0.4, 0.1])
    times, later = (prefix_times(layer_ms, 400, np.random.default_rng(seed)) for seed in (1, 2))
    first_group, last_group = times[:, [0, 1, 2, 5]], 1.7 * later[:, [3, 4, 5]]
    _, found, shares = divide([first_group, last_group])
    assert len(found) == len(shares) == 6
    assert sum(shares) == pytest.approx(1)
    np.testing.assert_allclose(shares, layer_ms / layer_ms.sum(), atol=0.004)


def test_most_intervals_hold_the_time_that_is_meant() -> None:
    rng = np.random.default_rng(3)
    layer_ms = rng.uniform(0.01, 0.1, 12)
    held = []
    for _ in range(10):
        # One speed throughout, so that the time that is meant is known.
        times = np.cumsum(layer_ms) * (1 + 0.01 * rng.standard_normal((50, 12)))
        _, found, _ = divide([times])
        held += [one.low <= ms <= one.high for one, ms in zip(found, layer_ms, strict=True)]
    assert 0.85 < np.mean(held) <= 1


def test_a_difference_that_noise_made_negative_stays_negative() -> None:
    times = np.tile([1.0, 1.2, 1.1, 2.0], (20, 1))
    whole_ms, found, shares = divide([times])
    assert whole_ms == 2.0
    assert [one.value for one in found] == pytest.approx([1.0, 0.2, -0.1, 0.9])
    assert shares == pytest.approx([0.5, 0.1, -0.05, 0.45])


def test_a_layer_with_a_hundred_times_the_operations_takes_the_largest_share(
    lopsided_model: BuiltModel,
) -> None:
    result = measure_layers(lopsided_model, "float32", 1, no_say, NO_TIME_S)
    heaviest, second = sorted(result.layers, key=lambda one: -one.operations)[:2]
    assert heaviest.output == "heavy"
    assert heaviest.operations > 100 * second.operations
    assert max(result.layers, key=lambda one: one.share) is heaviest
    assert sum(one.share for one in result.layers) == pytest.approx(1)
    assert sum(one.ms.value for one in result.layers) == pytest.approx(result.whole_ms)


def test_a_turn_takes_the_fastest_of_its_invocations_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 0
    taken_ms = iter([1, 9, 7, 3, 8])

    def invoke() -> None:
        nonlocal now_ns
        now_ns += next(taken_ms) * 10**6

    monkeypatch.setattr("time.perf_counter_ns", lambda: now_ns)
    assert layers._fastest_ms(invoke) == 3
    assert not list(taken_ms)


def test_groups_that_fit_into_little_memory_find_the_same_layer(
    lopsided_model: BuiltModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "_MEMORY_SHARE", 0.0)
    said: list[str] = []
    result = measure_layers(lopsided_model, "float32", 1, said.append, NO_TIME_S)
    assert len(said) == len(result.layers) - 1 > 2
    assert max(result.layers, key=lambda one: one.share).output == "heavy"
    assert sum(one.share for one in result.layers) == pytest.approx(1)


@pytest.mark.parametrize("variant", RECIPES)
def test_every_variant_is_divided(tiny_model: BuiltModel, variant: str) -> None:
    result = measure_layers(tiny_model, variant, 1, no_say, NO_TIME_S)
    assert (result.model, result.variant, result.runtime, result.threads) == ("tiny", variant, "litert", 1)
    kinds = [one.operator for one in result.layers if one.operator not in ("QUANTIZE", "DEQUANTIZE")]
    assert kinds == ["MUL", "ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED"]
    assert [one.index for one in result.layers] == list(range(len(result.layers)))
    assert sum(one.share for one in result.layers) == pytest.approx(1)
    assert "5 rounds" in result.method


def test_the_method_names_operators_whose_cost_is_not_known(
    lopsided_model: BuiltModel, tmp_path: Path
) -> None:
    file = read_model_file(lopsided_model.files["float32"])
    model = unpack(file.flatbuffer)
    (pool,) = (one for one in model.operatorCodes if one.builtinCode == 1)  # AVERAGE_POOL_2D
    pool.builtinCode = pool.deprecatedBuiltinCode = 12  # L2_POOL_2D, with the same options
    path = tmp_path / "pooled-float32.tflite"
    write_model_file(path, pack(model), file.manifest)
    changed = dataclasses.replace(lopsided_model, files={"float32": path})
    result = measure_layers(changed, "float32", 1, no_say, NO_TIME_S)
    assert "Operations of L2_POOL_2D are not known" in result.method
    assert next(one for one in result.layers if one.operator == "L2_POOL_2D").operations == 0


@pytest.mark.parametrize("variant", ["int4", "keras"])
def test_a_variant_that_was_not_built_is_asked_for(tiny_model: BuiltModel, variant: str) -> None:
    with pytest.raises(SettingError, match=f"tiny: no variant {variant}"):
        measure_layers(tiny_model, variant)


def test_no_threads_are_refused(tiny_model: BuiltModel) -> None:
    with pytest.raises(SettingError, match="0 threads"):
        measure_layers(tiny_model, "int8", threads=0)


def test_an_operator_that_litert_lacks_is_an_error_that_names_the_file(
    tiny_model: BuiltModel, tmp_path: Path
) -> None:
    file = read_model_file(tiny_model.files["float32"])
    model = unpack(file.flatbuffer)
    (mean,) = (one for one in model.operatorCodes if one.builtinCode == 40)  # MEAN
    mean.builtinCode = mean.deprecatedBuiltinCode = 32  # CUSTOM
    mean.customCode = b"NobodysMean"
    path = tmp_path / "custom-float32.tflite"
    write_model_file(path, pack(model), file.manifest)
    with pytest.raises(ModelFileError, match=r"custom-float32\.tflite.*NobodysMean"):
        measure_layers(dataclasses.replace(tiny_model, files={"float32": path}), "float32")
