"""From crops to calibrated predictions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED
from hematovision.classifier import Classifier, decide, default_model_path, probabilities
from hematovision.crops import CropSize
from hematovision.errors import ImageError, ModelFileError
from hematovision.model_file import read_model_file
from hematovision.runtime import available_runtimes, load_interpreter
from tests.tiny_models.network import SIDE, expected_logits, flatbuffer

ModelMaker = Callable[..., Path]

COLORS = {
    "neutrophil": (255, 255, 255),
    "eosinophil": (255, 0, 0),
    "monocyte": (0, 255, 0),
    "lymphocyte": (0, 0, 255),
}


def crops_of(*colors: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.broadcast_to(np.array(colors, np.uint8)[:, None, None], (len(colors), SIDE, SIDE, 3)).copy()


@pytest.mark.parametrize("runtime", available_runtimes())
def test_each_color_is_named_as_the_network_was_made_to(runtime: str, model_path: Path) -> None:
    classifier = Classifier(read_model_file(model_path), runtime)
    predictions = classifier.predict(crops_of(*COLORS.values()))
    assert [one.class_name for one in predictions] == list(COLORS) == list(CLASS_NAMES)
    assert all(one.declined_because is None for one in predictions)


@pytest.mark.parametrize("runtime", available_runtimes())
def test_int8_and_float32_files_get_the_same_logits_from_the_same_crops(
    runtime: str,
    make_model: ModelMaker,
    int8_flatbuffer: bytes,
    float32_flatbuffer: bytes,
) -> None:
    crops = np.random.default_rng(1).integers(0, 256, (20, SIDE, SIDE, 3), np.uint8)
    crops[:, :, :, 0] //= np.arange(1, 21, dtype=np.uint8)[:, None, None]
    for network, tolerance in ((float32_flatbuffer, 1e-4), (int8_flatbuffer, 0.15)):
        classifier = Classifier(read_model_file(make_model(network)), runtime)
        np.testing.assert_allclose(classifier.logits(crops), expected_logits(crops), atol=tolerance)


def test_grey_is_declined_with_the_reason(classifier: Classifier) -> None:
    (prediction,) = classifier.predict(crops_of((128, 128, 128)))
    assert prediction.class_name == UNCLASSIFIED
    assert prediction.probability == pytest.approx(0.25, abs=0.02)
    assert "below 0.60" in (prediction.declined_because or "")


def test_without_a_threshold_nothing_is_declined(make_model: ModelMaker, int8_flatbuffer: bytes) -> None:
    classifier = Classifier(read_model_file(make_model(int8_flatbuffer, decline_below=0.0)))
    assert classifier.predict(crops_of((128, 128, 128)))[0].class_name in CLASS_NAMES


def test_the_manifests_temperature_makes_predictions_milder(
    make_model: ModelMaker, int8_flatbuffer: bytes, classifier: Classifier
) -> None:
    crops = crops_of(COLORS["eosinophil"])
    mild = Classifier(read_model_file(make_model(int8_flatbuffer, temperature=8.0)))
    assert mild.predict(crops)[0].probability < classifier.predict(crops)[0].probability - 0.1
    np.testing.assert_array_equal(mild.logits(crops), classifier.logits(crops))


def test_no_crops_give_no_predictions(classifier: Classifier) -> None:
    assert classifier.predict(np.zeros((0, SIDE, SIDE, 3), np.uint8)) == []


def test_a_view_with_gaps_is_read_like_a_copy(classifier: Classifier) -> None:
    wide = np.random.default_rng(2).integers(0, 256, (3, SIDE, 2 * SIDE, 3), np.uint8)
    view = wide[:, :, ::2]
    np.testing.assert_array_equal(classifier.logits(view), classifier.logits(view.copy()))


def test_one_interpreter_serves_for_life_and_keeps_nothing_of_the_last_crop(
    monkeypatch: pytest.MonkeyPatch, model_path: Path
) -> None:
    loads = []
    load = load_interpreter

    def counted(*arguments: Any) -> Any:
        loads.append(arguments)
        return load(*arguments)

    monkeypatch.setattr("hematovision.first_load.load_interpreter", counted)
    classifier = Classifier(read_model_file(model_path))
    crops = crops_of(*COLORS.values())
    first = classifier.logits(crops)
    again = np.concatenate([classifier.logits(crops[[index]]) for index in (3, 1, 0, 2)])
    np.testing.assert_array_equal(again, first[[3, 1, 0, 2]])
    assert len(loads) == 1


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((1, SIDE, SIDE, 4), np.uint8),
        np.zeros((1, SIDE, SIDE, 1), np.uint8),
        np.zeros((1, SIDE, SIDE), np.uint8),
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.zeros((1, SIDE + 1, SIDE, 3), np.uint8),
        np.zeros((1, 3, SIDE, SIDE), np.uint8),
        np.zeros((1, SIDE, SIDE, 3), np.float32),
        np.zeros((1, SIDE, SIDE, 3), np.int8),
    ],
    ids=lambda crops: f"{crops.shape}-{crops.dtype}",
)
def test_another_shape_channel_count_or_type_is_an_error(classifier: Classifier, crops: Any) -> None:
    with pytest.raises(ImageError, match=r"\(n, 32, 32, 3\) uint8 RGB"):
        classifier.logits(crops)


def test_an_int8_input_of_another_scale_is_refused(make_model: ModelMaker) -> None:
    path = make_model(flatbuffer("int8-other-scale"))
    with pytest.raises(ModelFileError, match=r"int8 input has scale and zero point .* convert"):
        Classifier(read_model_file(path))


def test_a_uint8_input_is_refused(make_model: ModelMaker) -> None:
    with pytest.raises(ModelFileError, match=r"input is .* uint8"):
        Classifier(read_model_file(make_model(flatbuffer("uint8"))))


def test_another_number_of_outputs_is_refused(make_model: ModelMaker) -> None:
    with pytest.raises(ModelFileError, match=r"output is \(1, 3\) int8, not \(1, 4\)"):
        Classifier(read_model_file(make_model(flatbuffer("int8-three-classes"))))


def test_another_crop_size_than_the_manifests_is_refused(
    make_model: ModelMaker, int8_flatbuffer: bytes
) -> None:
    path = make_model(int8_flatbuffer, crop=CropSize(20.0, 48))
    with pytest.raises(ModelFileError, match=r"tiny\.tflite: its input is \(1, 32, 32, 3\) int8, not"):
        Classifier(read_model_file(path))


def test_a_model_that_the_runtime_cannot_load_names_the_file_and_its_runtimes(
    make_model: ModelMaker, unrunnable_flatbuffer: bytes
) -> None:
    path = make_model(unrunnable_flatbuffer, runtimes=("litert",))
    with pytest.raises(
        ModelFileError, match=r"tiny\.tflite: .* cannot load .* states that it runs on litert"
    ):
        Classifier(read_model_file(path))


def test_an_output_that_is_no_number_is_an_error_not_a_prediction(make_model: ModelMaker) -> None:
    classifier = Classifier(read_model_file(make_model(flatbuffer("float32-nan"))))
    with pytest.raises(ModelFileError, match="not a finite number"):
        classifier.predict(crops_of((10, 20, 30)))


def test_probabilities_are_a_softmax_that_no_logit_overflows() -> None:
    table = probabilities(np.array([[1000, 0, -1000, 0], [1, 1, 1, 1]], np.float32), temperature=2.0)
    np.testing.assert_allclose(table, np.array([[1, 0, 0, 0], [0.25] * 4]), atol=1e-12)


def test_a_probability_at_the_threshold_is_named() -> None:
    row = np.array([0.6, 0.2, 0.1, 0.1])
    assert decide(row, 0.6).class_name == "neutrophil"
    assert decide(row, 0.61).class_name == UNCLASSIFIED


def test_a_missing_default_model_says_what_to_give(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hematovision.model_file.files", lambda package: tmp_path)
    with pytest.raises(ModelFileError, match="give one with --model"):
        default_model_path()


def test_an_interpreter_made_elsewhere_is_run_by_the_same_code(
    model_path: Path, classifier: Classifier
) -> None:
    model = read_model_file(model_path)
    loaded = load_interpreter(model.flatbuffer, threads=1, xnnpack=False)
    given = Classifier(model, loaded=loaded)
    assert given.loaded is loaded
    crops = crops_of(*COLORS.values())
    np.testing.assert_allclose(given.logits(crops), classifier.logits(crops), atol=0.1)
