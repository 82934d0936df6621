"""What quantisation costs: figures against SciPy, one vote for an original, and data sets that do not do."""

import dataclasses
import importlib.metadata
import shutil
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import bootstrap

from benchmarks import accuracy
from benchmarks.accuracy import DEFAULT_DATA, compare, mcnemar, measure_accuracy
from benchmarks.results import Accuracy, Unmeasured
from benchmarks.variants import VARIANT_NAMES, BuiltModel, open_models
from convert.recipes import RECIPES
from hematovision.cell_classes import CLASS_NAMES
from hematovision.classifier import Classifier, default_model_path, probabilities
from hematovision.cli import root
from hematovision.errors import DataSetError, StoreError
from hematovision.model_file import manifest_path, read_model_file, write_model_file
from tests.benchmarks.impostor import install_impostor
from train.cells import OTHER, CellSet, read_cells
from train.datasets import LabelledImage
from train.drawn import DRAWN_UM_PER_PIXEL, draw, drawn_cells
from train.evaluate import evaluate

PER_CLASS = 6


def measure(models: Sequence[BuiltModel], *data: str) -> tuple[list[Accuracy], list[Unmeasured]]:
    return measure_accuracy(models, data, lambda _: None)


def only(model: BuiltModel, *names: str) -> BuiltModel:
    """The model with so many of its variants."""
    return dataclasses.replace(
        model,
        files={name: model.files[name] for name in names},
        variants=tuple(variant for variant in model.variants if variant.name in names),
    )


def cell_set(labels: Sequence[int] | np.ndarray, originals: Sequence[str] | None = None) -> CellSet:
    names = originals or [f"{n:04}" for n in range(len(labels))]
    images = tuple(
        LabelledImage(
            Path(f"{n}.png"), CLASS_NAMES[label] if label != OTHER else "basophil", f"lab/{name}", None
        )
        for n, (label, name) in enumerate(zip(labels, names, strict=True))
    )
    crops = np.zeros((len(labels), 1, 1, 3), np.uint8)
    return CellSet(images, crops, np.array(labels), np.ones(len(labels), bool))


def sure_of(answers: Sequence[int] | np.ndarray, probability: float = 0.7) -> np.ndarray:
    sure = np.full((len(answers), len(CLASS_NAMES)), (1 - probability) / 3)
    sure[np.arange(len(answers)), answers] = probability
    return sure


@pytest.fixture(scope="session")
def drawn_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of drawn cells, a folder for each class."""
    folder = tmp_path_factory.mktemp("sets") / "smear"
    for image in drawn_cells(PER_CLASS):
        path = folder / image.label / f"{image.path.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.cvtColor(draw(image), cv2.COLOR_RGB2BGR))
    return folder


@pytest.fixture
def smear(drawn_set: Path, tmp_path: Path) -> Path:
    """A copy of that data set, to do harm to."""
    return Path(shutil.copytree(drawn_set, tmp_path / "smear"))


def at_scale(folder: Path) -> str:
    return f"{folder}@{DRAWN_UM_PER_PIXEL}"


# --- McNemar's test ---


@pytest.mark.parametrize(
    ("first", "second", "published"),
    [
        # Fagerland, Lydersen and Laake, The McNemar test for binary matched-pairs data, BMC Medical Research
        # Methodology 13:91 (2013), exact conditional: airway hyper-responsiveness, and complete response.
        (7, 1, 0.070),
        (16, 6, 0.052),
    ],
)
def test_mcnemar_s_exact_test_gives_what_is_published(first: int, second: int, published: float) -> None:
    assert mcnemar(first, second) == pytest.approx(published, abs=5e-4)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_mcnemar_s_test_by_hand() -> None:
    assert mcnemar(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar(1, 4) == pytest.approx(2 * (1 + 5) / 2**5)
    assert mcnemar(3, 3) == 1


def test_no_original_that_only_one_gets_right_is_no_difference() -> None:
    assert mcnemar(0, 0) == 1


# --- comparison ---


def test_what_is_compared_by_hand() -> None:
    cells = cell_set([0, 0, 1, 2, 3])
    found = compare(cells, sure_of([0, 1, 1, 2, 0]), sure_of([0, 0, 1, 3, 3], 0.9), "keras")
    assert found.agreement.value == pytest.approx(2 / 5)
    assert found.accuracy_difference.value == pytest.approx(3 / 5 - 4 / 5)
    assert (found.only_keras_right, found.only_variant_right) == (2, 1)
    assert found.mcnemar_p == mcnemar(2, 1)
    # Where they name different classes: 0.9 against 0.1.
    assert found.largest_probability_difference == pytest.approx(0.9 - 0.1)
    assert found.reference == "keras"


def test_a_network_against_itself_does_not_differ() -> None:
    cells, sure = cell_set([0, 1, 2, 3] * 10), sure_of([0, 1, 2, 0] * 10)
    same = compare(cells, sure, sure, "keras")
    assert (same.agreement.value, same.accuracy_difference.value) == (1, 0)
    assert (same.largest_probability_difference, same.mcnemar_p) == (0, 1)


def test_intervals_are_those_of_scipy_s_paired_bootstrap() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 4, 300)
    ours, reference = (np.where(rng.random(300) < right, labels, (labels + 1) % 4) for right in (0.8, 0.9))
    compared = compare(cell_set(labels), sure_of(ours), sure_of(reference), "keras")
    pairs = (ours == labels).astype(float), (reference == labels).astype(float)
    options = {"paired": True, "method": "percentile", "n_resamples": 4000, "rng": rng, "vectorized": False}
    expected = bootstrap(pairs, lambda a, b: a.mean() - b.mean(), **options).confidence_interval
    assert compared.accuracy_difference.low == pytest.approx(expected.low, abs=0.008)
    assert compared.accuracy_difference.high == pytest.approx(expected.high, abs=0.008)
    agreed = (ours == reference).astype(float)
    options["paired"] = False
    expected = bootstrap((agreed,), np.mean, **options).confidence_interval
    assert compared.agreement.low == pytest.approx(expected.low, abs=0.008)
    assert compared.agreement.high == pytest.approx(expected.high, abs=0.008)


def test_errors_in_common_do_not_widen_the_difference() -> None:
    labels = np.zeros(200, int)
    wrong = np.arange(200) % 3 == 0
    reference = np.where(wrong, 1, 0)
    ours = reference.copy()
    ours[1] = 1
    compared = compare(cell_set(labels), sure_of(ours), sure_of(reference), "keras").accuracy_difference
    assert compared.value == pytest.approx(-1 / 200)
    assert compared.high - compared.low < 0.03  # unpaired, it would be 0.18


def test_copies_of_an_original_have_one_vote() -> None:
    labels, ours, reference = [0] * 12, [0, 1, 1, 0] * 3, [0, 0, 1, 1] * 3
    once = compare(cell_set(labels), sure_of(ours), sure_of(reference), "keras")
    names = [f"{n:02}" for n in range(12) for _ in range(10)]
    copied = compare(
        cell_set(np.repeat(labels, 10), names),
        sure_of(np.repeat(ours, 10)),
        sure_of(np.repeat(reference, 10)),
        "keras",
    )
    assert copied == once


def test_copies_that_are_answered_differently_are_averaged() -> None:
    cells = cell_set([0, 0, 0], ["a", "a", "a"])
    sure = np.vstack([sure_of([0], 0.9), sure_of([1, 1], 0.5)])  # class 0 on average, though two say 1
    compared = compare(cells, sure, sure_of([1, 1, 1]), "keras")
    assert (compared.only_keras_right, compared.only_variant_right) == (0, 1)


def test_a_cell_that_was_not_found_is_wrong_for_both_and_agrees_with_nothing() -> None:
    cells = cell_set([0, 0, 0, 0])
    cells = dataclasses.replace(cells, found=np.array([False, True, True, True]))
    compared = compare(cells, sure_of([0, 0, 0, 0]), sure_of([1, 0, 0, 1]), "keras")
    assert compared.agreement.value == pytest.approx(2 / 3)
    assert compared.accuracy_difference.value == pytest.approx(1 / 4)
    assert compared.only_variant_right == 1


def test_where_nothing_was_found_there_is_nothing_to_compare() -> None:
    cells = dataclasses.replace(cell_set([0, 1]), found=np.zeros(2, bool))
    compared = compare(cells, sure_of([0, 1]), sure_of([0, 1]), "keras")
    assert np.isnan(compared.agreement.value)
    assert np.isnan(compared.largest_probability_difference)


def test_cells_of_no_class_are_not_compared() -> None:
    compared = compare(cell_set([0, OTHER]), sure_of([0, 1]), sure_of([0, 2]), "keras")
    assert compared.agreement.value == 1
    assert compared.largest_probability_difference == 0


def test_an_original_with_two_labels_is_refused() -> None:
    with pytest.raises(DataSetError, match="two labels"):
        compare(cell_set([0, 1], ["a", "a"]), sure_of([0, 1]), sure_of([0, 1]), "keras")


# --- every variant on a data set ---


@pytest.fixture(scope="module")
def hard_cells(development: CellSet) -> CellSet:
    """Cells of which many look half like another class."""
    rng = np.random.default_rng(3)
    share = rng.uniform(0.3, 1, (len(development), 1, 1, 1))
    others = development.crops[rng.permutation(len(development))]
    crops = (share * development.crops + (1 - share) * others).astype(np.uint8)
    return dataclasses.replace(development, crops=crops)


@pytest.fixture(scope="module")
def measured(tiny_model: BuiltModel, drawn_set: Path, hard_cells: CellSet) -> list[Accuracy]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy, "read_cells", lambda *_: hard_cells)
        rows, unmeasured = measure([tiny_model], at_scale(drawn_set))
    assert unmeasured == []
    return rows


def test_every_variant_is_measured_on_the_same_cells(measured: list[Accuracy], hard_cells: CellSet) -> None:
    assert tuple(row.variant for row in measured) == VARIANT_NAMES
    assert len({row.cells_sha256 for row in measured}) == 1
    assert {row.evaluation.files.count for row in measured} == {len(hard_cells)}
    assert {row.missing for row in measured} == {()}


@pytest.mark.parametrize("variant", RECIPES)
def test_a_variant_is_run_as_the_device_runs_it(
    variant: str, measured: list[Accuracy], tiny_model: BuiltModel, hard_cells: CellSet
) -> None:
    row = measured[VARIANT_NAMES.index(variant)]
    model = read_model_file(tiny_model.files[variant])
    classifier = Classifier(model)
    sure = probabilities(classifier.logits(hard_cells.crops), model.manifest.temperature)
    expected = evaluate("smear", hard_cells, sure, model.manifest.decline_below)
    assert row.evaluation.to_json() == expected.to_json()
    assert 0.5 < row.evaluation.files.accuracy.value < 1
    assert (row.runtime, row.version) == (classifier.loaded.runtime, classifier.loaded.version)


def test_the_keras_network_is_what_the_others_are_compared_with(measured: list[Accuracy]) -> None:
    first, second, *rest = measured
    assert (first.variant, first.runtime) == ("keras", "keras")
    assert first.version == importlib.metadata.version("keras")
    assert first.comparison is None
    assert second.variant == "float32"
    assert second.comparison is not None
    assert second.comparison.agreement.value == 1
    assert second.comparison.accuracy_difference.value == 0
    for row in rest:
        assert row.comparison is not None
        assert row.comparison.reference == "keras"
        difference = row.evaluation.files.accuracy.value - first.evaluation.files.accuracy.value
        assert row.comparison.accuracy_difference.value == pytest.approx(difference)


def test_reports_can_be_compared_original_by_original(measured: list[Accuracy]) -> None:
    for row in measured:
        right, files = np.array(row.right_per_original).T
        assert right.sum() / files.sum() == pytest.approx(row.evaluation.files.accuracy.value)
        assert len(files) == row.evaluation.originals.count


def test_what_pairs_two_reports_goes_by_original_and_label_alone() -> None:
    cells = cell_set([0, 1, 1, OTHER], ["b", "a", "a", "c"])
    key, pairs = accuracy._pairing(cells, sure_of([0, 1, 0, 0]))
    assert pairs == ((1, 2), (1, 1))
    turned = cells.select(np.array([True, True, True, False]))
    turned = dataclasses.replace(turned, images=turned.images[::-1], labels=turned.labels[::-1])
    assert accuracy._pairing(turned, sure_of([0, 1, 0])[::-1]) == (key, pairs)
    relabelled = cell_set([0, 2, 2, OTHER], ["b", "a", "a", "c"])
    assert accuracy._pairing(relabelled, sure_of([0, 1, 0, 0]))[0] != key


def test_each_variant_has_its_own_temperature_and_threshold(
    tiny_model: BuiltModel, drawn_set: Path, tmp_path: Path
) -> None:
    model = read_model_file(tiny_model.files["int8"])
    changed = only(tiny_model, "float32", "int8", "float16")
    for name, threshold in (("int8", 0.3), ("float16", 0.2)):
        unsure = dataclasses.replace(model.manifest, temperature=1000.0, decline_below=threshold)
        changed.files[name] = tmp_path / f"{name}.tflite"
        write_model_file(changed.files[name], model.flatbuffer, unsure)
    rows, _ = measure([changed], at_scale(drawn_set))
    # Every probability is near a quarter.
    assert [row.evaluation.files.coverage.value for row in rows[1:]] == [0, 1]


def test_cells_are_read_once_for_all_that_take_them(
    tiny_model: BuiltModel, drawn_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Mock(wraps=read_cells)
    monkeypatch.setattr(accuracy, "read_cells", read)
    other = dataclasses.replace(only(tiny_model, "int8"), name="other")
    rows, _ = measure([only(tiny_model, "float32", "int8"), other], at_scale(drawn_set))
    assert [(row.model, row.variant) for row in rows] == [
        ("tiny", "float32"),
        ("tiny", "int8"),
        ("other", "int8"),
    ]
    assert read.call_count == 1


def test_how_far_it_is_is_told(tiny_model: BuiltModel, drawn_set: Path) -> None:
    told: list[str] = []
    measure_accuracy([only(tiny_model, "int8")], [at_scale(drawn_set)], told.append)
    assert "smear: finding cells, image 24 of 24" in told
    assert "smear: tiny int8 names 24 cells" in told


@pytest.mark.data
def test_the_shipped_model_is_as_accurate_as_it_states(data_dir: Path, tmp_path: Path) -> None:
    (model,), _ = open_models([default_model_path()], VARIANT_NAMES, (), tmp_path, lambda _: None)
    (row,), _ = measure([model], str(data_dir / "kaggle-blood-cells"))
    stated = {entry["name"]: entry for entry in model.manifest.accuracy["sets"]}
    assert row.evaluation.summary() == stated["kaggle-originals"]


# --- what there is to compare with ---


def test_without_keras_the_float_variant_is_compared_with(tiny_model: BuiltModel, drawn_set: Path) -> None:
    rows, unmeasured = measure([only(tiny_model, "float32", "int8")], at_scale(drawn_set))
    assert unmeasured == []
    assert [row.comparison and row.comparison.reference for row in rows] == [None, "float32"]


def test_without_tensorflow_the_keras_network_is_listed_and_the_float_variant_stands_in(
    tiny_model: BuiltModel, drawn_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "tensorflow_version", lambda: None)
    rows, (left_out,) = measure([only(tiny_model, "keras", "float32", "int8")], at_scale(drawn_set))
    assert [row.variant for row in rows] == ["float32", "int8"]
    assert rows[1].comparison is not None
    assert (left_out.what, left_out.failed) == ("tiny keras", False)
    assert "TensorFlow is not installed" in left_out.why


def test_a_model_file_alone_has_no_comparison_and_it_is_said(tiny_model: BuiltModel, drawn_set: Path) -> None:
    (row,), (left_out,) = measure([only(tiny_model, "int8")], at_scale(drawn_set))
    assert row.comparison is None
    assert (left_out.what, left_out.failed) == ("tiny, comparison", False)


# --- what goes wrong for one does not hold up the others ---


def test_a_variant_that_does_not_load_is_a_row_that_says_so(
    tiny_model: BuiltModel, drawn_set: Path, tmp_path: Path
) -> None:
    changed = only(tiny_model, "float32", "int8")
    changed.files["int8"] = tmp_path / "gone.tflite"
    rows, (failed,) = measure([changed], at_scale(drawn_set))
    assert [row.variant for row in rows] == ["float32"]
    assert (failed.what, failed.failed) == ("tiny int8", True)
    assert "gone.tflite: cannot be read" in failed.why


def test_a_variant_that_no_installed_runtime_loads_is_left_out(
    tiny_model: BuiltModel, drawn_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.variants.available_runtimes", lambda: ("tflite-runtime",))
    rows, (left_out,) = measure([only(tiny_model, "float32", "dynamic")], at_scale(drawn_set))
    assert [(row.variant, row.runtime) for row in rows] == [("float32", "tflite-runtime")]
    assert (left_out.what, left_out.failed) == ("tiny dynamic", False)
    assert "runs on litert, which is not installed" in left_out.why


def test_a_runtime_that_crashes_half_way_is_a_row_that_says_so(
    tiny_model: BuiltModel, drawn_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_impostor(
        tmp_path, monkeypatch, invoking="if self.calls == 9: os.kill(os.getpid(), signal.SIGSEGV)"
    )
    monkeypatch.setattr("benchmarks.variants.available_runtimes", lambda: ("litert", "tflite-runtime"))
    shipped = read_model_file(default_model_path())
    only_there = dataclasses.replace(shipped.manifest, runtimes=("tflite-runtime",))
    write_model_file(tmp_path / "crashing.tflite", shipped.flatbuffer, only_there)
    changed = only(tiny_model, "float32", "float16", "int8")
    changed.files["float16"] = tmp_path / "crashing.tflite"
    rows, (failed,) = measure([changed], at_scale(drawn_set))
    assert sorted(row.variant for row in rows) == ["float32", "int8"]
    assert (failed.what, failed.failed) == ("tiny float16 on smear", True)
    assert failed.why == "its process was ended by SIGSEGV"


def test_a_disk_without_room_for_the_cells_of_a_set_is_a_row_that_says_so(
    tiny_model: BuiltModel, drawn_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "write_crops", Mock(side_effect=StoreError("planted")))
    rows, (failed,) = measure([only(tiny_model, "float32")], at_scale(drawn_set))
    assert rows == []
    assert failed == Unmeasured("accuracy", "smear", "planted", failed=True)


def test_a_data_set_that_is_not_there_does_not_hold_up_the_others(
    tiny_model: BuiltModel, drawn_set: Path
) -> None:
    rows, (failed,) = measure([only(tiny_model, "float32")], "/nowhere@0.1", at_scale(drawn_set))
    assert len(rows) == 1
    assert (failed.what, failed.failed) == ("/nowhere@0.1", True)


def test_a_class_that_is_missing_is_named(tiny_model: BuiltModel, smear: Path) -> None:
    shutil.rmtree(smear / "monocyte")
    (row,), (left_out,) = measure([only(tiny_model, "float32")], at_scale(smear))
    assert row.missing == ("monocyte",)
    scores = row.evaluation.files
    assert np.isnan(scores.recall["monocyte"].value)
    others = [scores.recall[name].value for name in CLASS_NAMES if name != "monocyte"]
    assert scores.balanced_accuracy.value == pytest.approx(np.mean(others))
    assert (left_out.what, left_out.failed) == ("smear, recall of monocyte", False)
    assert "no cell of it; the balanced accuracy is that of the other classes" in left_out.why


def test_a_data_set_without_a_cell_of_the_four_classes_is_a_failure(
    tiny_model: BuiltModel, smear: Path
) -> None:
    (smear / "monocyte").rename(smear / "basophil")
    for name in ("neutrophil", "eosinophil", "lymphocyte"):
        shutil.rmtree(smear / name)
    rows, (failed,) = measure([only(tiny_model, "float32")], at_scale(smear))
    assert rows == []
    assert (failed.what, failed.failed) == ("smear", True)
    assert failed.why.startswith("no readable cell of neutrophil")


def test_images_that_cannot_be_read_are_counted(tiny_model: BuiltModel, smear: Path) -> None:
    for name in ("monocyte", "lymphocyte"):
        (smear / name / "0.png").write_bytes(b"no picture")
    (row,), (failed,) = measure([only(tiny_model, "float32")], at_scale(smear))
    assert row.evaluation.unreadable == 2
    assert row.evaluation.files.count == PER_CLASS * len(CLASS_NAMES) - 2
    assert (failed.what, failed.failed) == ("images of smear", True)
    assert failed.why.startswith("2 left out: ")


def test_no_readable_image_at_all_is_a_failure(tiny_model: BuiltModel, smear: Path) -> None:
    for path in smear.glob("*/*.png"):
        path.write_bytes(b"no picture")
    rows, failed = measure([only(tiny_model, "float32")], at_scale(smear))
    assert rows == []
    assert [one.what for one in failed] == ["images of smear", "smear"]


def test_a_set_with_sides_is_measured_on_its_test_side(tiny_model: BuiltModel, smear: Path) -> None:
    lines = [
        f"{path.relative_to(smear)},{'test' if path.stem in '01' else 'train'}" for path in smear.glob("*/*")
    ]
    (smear / "split.csv").write_text("\n".join(["image,split", *lines]))
    (row,), _ = measure([only(tiny_model, "float32")], at_scale(smear))
    assert row.evaluation.files.count == 2 * len(CLASS_NAMES)


def test_a_set_without_a_test_side_among_its_sides_is_a_failure(tiny_model: BuiltModel, smear: Path) -> None:
    lines = [f"{path.relative_to(smear)},train" for path in smear.glob("*/*")]
    (smear / "split.csv").write_text("\n".join(["image,split", *lines]))
    rows, (failed,) = measure([only(tiny_model, "float32")], at_scale(smear))
    assert rows == []
    assert "no images on the test side" in failed.why


def test_a_set_that_the_model_learnt_from_is_refused(tiny_model: BuiltModel, smear: Path) -> None:
    smear = smear.rename(smear.parent / "drawn")  # as its manifest calls what it was trained on
    rows, (failed,) = measure([only(tiny_model, "float32")], at_scale(smear))
    assert rows == []
    assert (failed.what, failed.failed) == ("tiny on drawn", True)
    assert "the model was trained on it" in failed.why


def test_two_sets_of_one_name_are_refused(tiny_model: BuiltModel, drawn_set: Path, smear: Path) -> None:
    with pytest.raises(DataSetError, match="2 of the data sets are called smear"):
        measure([only(tiny_model, "float32")], at_scale(drawn_set), at_scale(smear))


def test_copies_of_unknown_originals_are_said_to_make_intervals_too_narrow(
    tiny_model: BuiltModel, smear: Path
) -> None:
    copies = smear.parent / "images" / "TEST"
    copies.parent.mkdir()
    smear.rename(copies)
    for folder in list(copies.iterdir()):
        folder.rename(copies / folder.name.upper())
    rows, (said,) = measure([only(tiny_model, "float32")], at_scale(copies))
    assert len(rows) == 1
    assert said.what == "kaggle-test, originals of 24 copies"
    assert "too narrow" in said.why


# --- default data sets ---


def test_default_sets_that_are_not_there_are_listed(
    tiny_model: BuiltModel, drawn_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(drawn_set, tmp_path / "tecom")
    monkeypatch.setenv("HEMATOVISION_DATA", str(tmp_path))
    (row,), left_out = measure([only(tiny_model, "float32")])
    assert row.evaluation.name == "tecom"
    assert [one.what for one in left_out] == list(DEFAULT_DATA[:-1])
    assert {one.why for one in left_out} == {f"not in {tmp_path}"}
    assert not any(one.failed for one in left_out)


def test_without_a_folder_of_data_sets_all_are_listed(
    tiny_model: BuiltModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEMATOVISION_DATA", raising=False)
    rows, left_out = measure([only(tiny_model, "float32")])
    assert rows == []
    assert [one.what for one in left_out] == list(DEFAULT_DATA)
    assert {one.why for one in left_out} == {"HEMATOVISION_DATA is not set"}


# --- the command ---


@pytest.fixture
def command(tiny_keras: Path, tiny_model: BuiltModel, drawn_set: Path) -> list[str]:
    assert manifest_path(tiny_keras).is_file()
    variants = str(tiny_model.folder.parent)
    return ["bench", "accuracy", "--model", str(tiny_keras), "--variants", variants, at_scale(drawn_set)]


def test_the_command_prints_every_variant(command: list[str]) -> None:
    result = CliRunner().invoke(root, command)
    assert result.exit_code == 0, result.output
    for name in VARIANT_NAMES:
        assert name in result.stdout
    assert "smear" in result.stdout


def test_the_command_ends_with_1_where_something_failed(command: list[str]) -> None:
    result = CliRunner().invoke(root, [*command, "--variant", "int8", "/nowhere"])
    assert result.exit_code == 1
    assert "/nowhere" in result.stdout
    assert isinstance(result.exception, SystemExit), "a traceback"


def test_without_data_the_command_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEMATOVISION_DATA", raising=False)
    result = CliRunner().invoke(root, ["bench", "accuracy"])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "HEMATOVISION_DATA is not set" in line
