"""The model that comes with the device, on drawn cells: what a demonstration shows must be right."""

import numpy as np

from edge.cameras import Frame
from edge.stills import name_cells
from hematovision.cell_classes import CLASS_NAMES
from hematovision.classifier import Classifier, default_model_path
from hematovision.finder import Finder
from hematovision.model_file import read_model_file
from hematovision.phantom import draw_view

# Apart from the seeds of what was learnt from (see train.drawn).
SEED = 99
EACH = 25


def test_it_names_nearly_all_drawn_cells(finder: Finder) -> None:
    classifier = Classifier(read_model_file(default_model_path()))
    right = 0
    for label, name in enumerate(CLASS_NAMES):
        for number in range(EACH):
            view = draw_view(np.random.default_rng((SEED, label, number)), name)
            frame = Frame.now(view.image, number, view.um_per_pixel, "drawn")
            cell = name_cells(frame, finder, classifier, single=True).cells[0]
            right += cell.found and cell.prediction.class_name == name
    assert right >= 0.97 * EACH * len(CLASS_NAMES)
