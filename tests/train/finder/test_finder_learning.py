"""Learning to find: a run resumes where it stopped, counts what it finds, and leaves laboratories out."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hematovision.cli import root
from hematovision.errors import DataSetError, ModelFileError, SettingError
from train.finder.boxed_fields import BoxedField, read_boxed_fields
from train.finder.cross_validate import network_finder
from train.finder.fit import FinderData, FinderSettings, choose_training_fields, fit_finder, read_finder_data
from train.finder.network import build_finder_network, heat_loss
from train.finder.score import FinderScore, score_finder

SETTINGS = FinderSettings(epochs=2, tiles_per_epoch=4, batch=2)


@pytest.fixture
def fields(laboratories: list[str]) -> list[BoxedField]:
    return [field for source in laboratories for field in read_boxed_fields(source)]


@pytest.fixture
def data(fields: list[BoxedField]) -> FinderData:
    return read_finder_data(fields, lambda done, total: None)


def ignore(done: int, total: int, loss: float) -> None:
    pass


def test_the_network_has_the_contract_and_the_size() -> None:
    network = build_finder_network()
    assert network.count_params() < 60_000
    assert network(np.zeros((1, 64, 96, 3), np.float32)).shape == (1, 16, 24, 1)


def test_the_loss_leaves_unknown_places_out() -> None:
    heat = np.zeros((1, 4, 4, 1), np.float32)
    wrong = np.full((1, 4, 4, 1), 8.0, np.float32)
    counted = np.concatenate([heat, np.ones_like(heat)], axis=-1)
    unknown = np.concatenate([heat, np.zeros_like(heat)], axis=-1)
    assert float(heat_loss(counted, wrong)) > 1
    assert float(heat_loss(unknown, wrong)) == 0
    assert float(heat_loss(counted, -wrong)) < 1e-3


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(data: FinderData, tmp_path: Path) -> None:
    whole = fit_finder(data, SETTINGS, {}, tmp_path / "whole", ignore)

    class CutError(Exception):
        pass

    def cut(done: int, total: int, loss: float) -> None:
        if done == 3:  # in the second epoch
            raise CutError

    with pytest.raises(CutError):
        fit_finder(data, SETTINGS, {}, tmp_path / "cut", cut)
    resumed = fit_finder(data, SETTINGS, {}, tmp_path / "cut", ignore)
    field = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    assert np.allclose(whole(field), resumed(field), atol=1e-4)


def test_a_folder_holds_one_run(data: FinderData, tmp_path: Path) -> None:
    fit_finder(data, dataclasses.replace(SETTINGS, epochs=1), {}, tmp_path, ignore)
    with pytest.raises(SettingError, match="another epochs"):
        fit_finder(data, SETTINGS, {}, tmp_path, ignore)


def test_a_loss_that_is_no_number_ends_the_run(
    data: FinderData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "train.finder.fit.heat_loss", lambda target, logits: heat_loss(target, logits) * np.nan
    )
    with pytest.raises(ModelFileError, match="diverged"):
        fit_finder(data, SETTINGS, {}, tmp_path, ignore)


def test_laboratories_are_left_out_whole_and_small_ones_raised(data: FinderData) -> None:
    rest = data.without("north")
    assert set(rest.laboratories) == {"south", "phantom"}
    uneven = FinderData(data.fields[:5], data.laboratories[:5])  # four of the north, one of the south
    assert uneven.weights.sum() == pytest.approx(1)
    assert uneven.weights[4] == pytest.approx(uneven.weights[0] * 4**0.8)


def test_what_is_set_aside_is_not_learnt_from(fields: list[BoxedField]) -> None:
    aside = [dataclasses.replace(field, aside=field.laboratory == "north") for field in fields]
    assert {field.laboratory for field in choose_training_fields(aside, 1)} == {"south"}
    with pytest.raises(DataSetError, match="set aside"):
        choose_training_fields([dataclasses.replace(field, aside=True) for field in fields], 1)


def test_cells_are_counted_once_and_other_regions_are_false(fields: list[BoxedField]) -> None:
    field = fields[0]
    first, second, _ = (cell.center for cell in field.cells)
    score = FinderScore()
    twice = (second[0] + 3, second[1])
    score.add(field, [first, second, twice, (80.0, 150.0), (2.0, 80.0)], (160, 160))
    assert (score.cells["neutrophil"], score.found["neutrophil"]) == (3, 2)
    # The second look at one cell; what lies at the border counts neither way.
    assert score.false_regions == 1 + (150 < 160 - 10)
    assert len(score.missed) == 1 and score.missed[0].endswith(
        f"{field.cells[2].x:.0f}, {field.cells[2].y:.0f}"
    )
    assert score.false_per_1000_red_cells == 1000 * score.false_regions


def test_in_a_partly_boxed_field_nothing_is_false(fields: list[BoxedField]) -> None:
    score = FinderScore()
    score.add(dataclasses.replace(fields[0], complete=False), [(80.0, 80.0)], (160, 160))
    assert score.false_regions == 0 and score.counted_fields == 0
    assert np.isnan(score.false_per_field)


@pytest.mark.slow
def test_a_finder_learns_what_is_drawn(data: FinderData, fields: list[BoxedField], tmp_path: Path) -> None:
    settings = FinderSettings(epochs=6, tiles_per_epoch=320, batch=8)
    network = fit_finder(data.without("south"), settings, {}, tmp_path, ignore)
    south = [field for field in fields if field.laboratory == "south"]
    score = score_finder(network_finder(network, 0.4), south, (0.4,))[0.4]
    assert score.recall > 0.9
    assert score.false_per_field < 1


def test_the_command_leaves_each_laboratory_out(laboratories: list[str], tmp_path: Path) -> None:
    arguments = ["train", "cross-validate", "--finder", *laboratories, "--out", str(tmp_path / "runs")]
    small = ["--epochs", "1", "--tiles-per-epoch", "4", "--batch", "2"]
    result = CliRunner().invoke(root, arguments + small)
    assert result.exit_code == 0, result.output
    for name in ("north", "south"):
        score = json.loads((tmp_path / "runs" / f"{name}.json").read_text())["scores"]["0.5"]
        assert score["cells"] == {"neutrophil": 12}
        assert name in result.output


@pytest.mark.parametrize(
    ("options", "status", "complaint"),
    [
        (["--leave-out", "east"], 2, "no such laboratory; there are north, south"),
        (["--epochs", "0"], 2, "epochs: cannot be"),
    ],
)
def test_a_mistake_is_one_line(
    laboratories: list[str], tmp_path: Path, options: list[str], status: int, complaint: str
) -> None:
    arguments = ["train", "cross-validate", "--finder", *laboratories, "--out", str(tmp_path), *options]
    result = CliRunner().invoke(root, arguments)
    assert result.exit_code == status
    assert complaint in result.output
