"""Two laboratories of drawn fields: dark discs on a light ground, boxed."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

#: A drawn field's side in pixels, at 0.5 µm per pixel.
SIDE = 160


def draw_laboratory(folder: Path, seed: int, fields: int = 4) -> Path:
    """Write fields with three boxed cells and a boxed red cell each; the first slide has two fields."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    with (folder / "boxes.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "slide", "x", "y", "width", "height"])
        for number in range(fields):
            image = np.full((SIDE, SIDE, 3), (225, 215, 220), np.uint8)
            name, slide = f"{number}.png", f"S-{max(0, number - 1)}"
            for place in range(3):
                x, y = 30 + 45 * place + int(rng.integers(0, 10)), int(rng.integers(25, SIDE - 25))
                cv2.circle(image, (x, y), 10, (90, 50, 130), -1, cv2.LINE_AA)
                table.writerow([name, "Neutrophil", slide, x - 12, y - 12, 24, 24])
            table.writerow([name, "RBC", slide, 4, 4, 15, 15])
            cv2.imwrite(str(folder / "images" / name), image[:, :, ::-1])
    return folder


@pytest.fixture
def laboratories(tmp_path: Path) -> list[str]:
    return [f"{draw_laboratory(tmp_path / name, seed)}@0.5" for seed, name in enumerate(("north", "south"))]
