"""Training tiles: the heat lies on the cells wherever they come to lie, and unknown places do not count."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from train.finder import tiles
from train.finder.boxed_fields import BoxedCell, BoxedField, read_boxed_fields
from train.finder.microscopes import vary_microscope
from train.finder.overlays import draw_overlay
from train.finder.tiles import TILE_PX, make_tile, read_training_field


@pytest.fixture
def boxed(laboratories: list[str]) -> BoxedField:
    return read_boxed_fields(laboratories[0])[0]


def test_a_field_at_another_scale_has_its_centers_at_the_finders(boxed: BoxedField) -> None:
    field = read_training_field(dataclasses.replace(boxed, um_per_pixel=0.25))
    assert field.image.shape == (80, 80, 3)
    expected = [(cell.center[0] / 2, cell.center[1] / 2) for cell in boxed.cells]
    assert np.allclose(field.centers, expected)


def test_heat_lies_on_the_cells_however_the_tile_is_turned(
    boxed: BoxedField, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the smear is: without another stain, lamp or overlay the cells are the dark places.
    monkeypatch.setattr(tiles, "vary_microscope", lambda tile, rng: tile)
    monkeypatch.setattr(tiles, "_OVERLAY_CHANCE", 0.0)
    field = read_training_field(boxed)
    seen = 0
    for seed in range(20):
        tile, target = make_tile(field, np.random.default_rng(seed))
        hot = np.argwhere((target[..., 0] > 0.9) & (target[..., 1] > 0))
        for row, column in hot:
            assert tile[4 * row + 1, 4 * column + 1].max() < 180
        seen += len(hot)
    assert seen > 20


def test_beyond_a_partly_boxed_cell_nothing_counts(boxed: BoxedField) -> None:
    lone = dataclasses.replace(boxed, cells=boxed.cells[:1], complete=False)
    known = read_training_field(lone).known > 0
    cell = boxed.cells[0]
    assert known[round(cell.center[1]), round(cell.center[0])]
    assert known.sum() <= (cell.width + 10) * (cell.height + 10)
    others = [known[round(cell.center[1]), round(cell.center[0])] for cell in boxed.cells[1:]]
    assert not any(others)


def test_what_only_an_eye_saw_is_neither_a_cell_nor_background(boxed: BoxedField) -> None:
    field = read_training_field(dataclasses.replace(boxed, cells=(), decoys=(), others=((80.0, 60.0),)))
    assert len(field.centers) == 0
    assert not field.known[60, 80] and not field.known[60, 94]
    assert field.known[60, 98]


def test_at_the_border_only_boxed_cells_count(boxed: BoxedField) -> None:
    cut = BoxedCell(0, 70, 8, 20, "leukocyte")
    known = read_training_field(dataclasses.replace(boxed, cells=(cut,), decoys=())).known > 0
    assert known[80, 3] and known[80, 80]
    assert not known[20, 3] and not known[3, 80]


def test_a_decoy_is_known_to_be_background(boxed: BoxedField) -> None:
    field = dataclasses.replace(
        boxed, cells=(), decoys=(BoxedCell(60, 60, 20, 20, "platelet"),), complete=False
    )
    read = read_training_field(field)
    assert read.known[70, 70] and not read.known[20, 20]
    assert len(read.centers) == 0


def test_a_tile_depends_on_its_generator_alone(boxed: BoxedField) -> None:
    field = read_training_field(boxed)
    (a, heat_a), (b, heat_b) = (make_tile(field, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(a, b) and np.array_equal(heat_a, heat_b)
    assert a.shape == (TILE_PX, TILE_PX, 3) and a.dtype == np.uint8
    assert heat_a.shape == (TILE_PX // 4, TILE_PX // 4, 2) and heat_a.dtype == np.float32


def test_every_overlay_says_where_it_hides_the_smear() -> None:
    rng = np.random.default_rng(0)
    smear = rng.integers(0, 256, (TILE_PX, TILE_PX, 3)).astype(np.uint8)
    shares = []
    for seed in range(40):
        drawn, hidden = draw_overlay(smear, np.random.default_rng(seed))
        other, _ = draw_overlay(np.invert(smear), np.random.default_rng(seed))
        # What is hidden looks nearly alike whatever lies below; what is untouched is as it was.
        assert (np.abs(drawn[hidden].astype(int) - other[hidden]).mean() if hidden.any() else 0) < 0.35 * 128
        shares.append(hidden.mean())
    assert max(shares) > 0.05 and min(shares) < 0.05


def test_another_microscope_changes_colours_and_keeps_shapes(tmp_path: Path) -> None:
    tile = np.full((TILE_PX, TILE_PX, 3), (225, 215, 220), np.uint8)
    tile[60:100, 60:100] = (90, 50, 130)
    glass = set()
    for seed in range(30):
        varied = vary_microscope(tile, np.random.default_rng(seed))
        assert varied.dtype == np.uint8 and varied.shape == tile.shape
        glass.add(tuple(np.median(varied[5:40, 5:40], axis=(0, 1)).astype(int) // 16))
    assert len(glass) > 15
