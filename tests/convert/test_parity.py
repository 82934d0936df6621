"""Parity measures what the device's own classifier says against the Keras model."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from convert.parity import Limits, Parity, Reference, measure_parity
from hematovision.classifier import probabilities
from hematovision.errors import ConversionError, SettingError
from hematovision.model_file import Manifest, ModelFile
from hematovision.runtime import available_runtimes
from train.confidence import fit_temperature


@pytest.fixture
def float_model(flatbuffers: dict[str, bytes], manifest: Manifest) -> ModelFile:
    flatbuffer = flatbuffers["float32"]
    return ModelFile(Path("float32"), flatbuffer, manifest, hashlib.sha256(flatbuffer).hexdigest())


def parity(agreement: float = 1.0, accuracy_lost: float = 0.0, runtime: str = "litert 1.4.0") -> Parity:
    return Parity(runtime, 100, agreement, 0.0, 0.9, 0.9 - accuracy_lost, accuracy_lost)


def test_the_float32_variant_says_what_keras_says_on_every_runtime(
    float_model: ModelFile, reference: Reference
) -> None:
    temperature = fit_temperature(reference.logits, reference.labels, reference.weights)
    reference = dataclasses.replace(reference, temperature=temperature)
    fitted, parities = measure_parity(float_model, available_runtimes(), reference)
    assert fitted == pytest.approx(temperature, rel=1e-3)
    assert [one.runtime.split()[0] for one in parities] == list(available_runtimes())
    for one in parities:
        assert one.agreement == 1
        assert one.largest_probability_difference < 1e-4
        assert one.accuracy_lost == 0
        assert one.cells == len(reference.labels)


def test_probabilities_are_compared_as_each_model_states_them(
    float_model: ModelFile, reference: Reference
) -> None:
    reference = dataclasses.replace(
        reference, temperature=20.0
    )  # Keras unsure, the variant fitted to be sure
    fitted, parities = measure_parity(float_model, available_runtimes()[:1], reference)
    expected = np.abs(probabilities(reference.logits, fitted) - probabilities(reference.logits, 20.0)).max()
    assert expected > 0.1
    assert parities[0].largest_probability_difference == pytest.approx(expected, abs=1e-3)


def test_disagreement_is_counted_by_cells(float_model: ModelFile, reference: Reference) -> None:
    logits = reference.logits.copy()
    logits[:10] = np.roll(logits[:10], 1, axis=1)  # Keras now names ten of the hundred otherwise
    _, parities = measure_parity(
        float_model, available_runtimes()[:1], dataclasses.replace(reference, logits=logits)
    )
    assert len(reference.labels) == 100
    assert parities[0].agreement == pytest.approx(0.90)
    assert parities[0].accuracy_lost == pytest.approx(-0.10)
    assert parities[0].largest_probability_difference > 0.5


def test_accuracy_lost_is_keras_less_variant(float_model: ModelFile, reference: Reference) -> None:
    wrong = np.roll(
        reference.labels, 1
    )  # labels that Keras is made to be right about, and the variant is not
    logits = np.full_like(reference.logits, -5)
    logits[np.arange(len(wrong)), wrong] = 5
    _, parities = measure_parity(
        float_model,
        available_runtimes()[:1],
        dataclasses.replace(reference, labels=wrong, logits=logits),
    )
    assert parities[0].keras_accuracy == 1
    assert parities[0].accuracy_lost == pytest.approx(1 - parities[0].variant_accuracy) == pytest.approx(0.04)


def test_a_limit_is_kept_by_what_reaches_it_exactly() -> None:
    Limits(98, 1).check([parity(agreement=98 / 100, accuracy_lost=0.95 - 0.94)])
    Limits(29, 100).check([parity(agreement=29 / 100)])  # 100 * 0.29 is 28.999999999999996


@pytest.mark.parametrize(
    ("beyond", "what"),
    [
        (parity(agreement=0.979), r"97\.90 % of cells as Keras does \(at least 98\)"),
        (parity(accuracy_lost=0.011), r"loses 1\.10 points of accuracy \(at most 1\)"),
    ],
)
def test_beyond_a_limit_on_one_runtime_is_beyond_it(beyond: Parity, what: str) -> None:
    with pytest.raises(ConversionError, match=what):
        Limits().check([parity(), beyond])


@pytest.mark.parametrize("value", [-0.1, 100.1, float("nan"), float("inf")])
def test_a_limit_that_cannot_be_is_refused(value: float) -> None:
    with pytest.raises(SettingError, match="agreement"):
        Limits(min_agreement=value)
    with pytest.raises(SettingError, match="accuracy lost"):
        Limits(max_accuracy_lost=value)
