"""Small drawn laboratories, as the finder's learning is tested with."""

from pathlib import Path

import pytest

from tests.train.finder.conftest import draw_laboratory


@pytest.fixture
def laboratories(tmp_path: Path) -> list[str]:
    return [f"{draw_laboratory(tmp_path / name, seed)}@0.5" for seed, name in enumerate(("north", "south"))]
