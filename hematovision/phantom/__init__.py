"""A drawn Romanowsky-stained smear whose every cell is known: class, place, nucleus area.

`Smear` says what there is, `Slide` lays it out, `Microscope` looks at it from one `Pose` of the stage after
another, and `stage` has paths of poses. It is what a demonstration and a self-test look at where there is no
camera. It says nothing about accuracy on real cells.
"""

from hematovision.phantom.layout import ADULT_PERCENT, SlideCell, Smear
from hematovision.phantom.microscope import CellInView, Microscope, PhantomFrame, Pose
from hematovision.phantom.slide import Slide
from hematovision.phantom.views import draw_field, draw_view

__all__ = [
    "ADULT_PERCENT",
    "CellInView",
    "Microscope",
    "PhantomFrame",
    "Pose",
    "Slide",
    "SlideCell",
    "Smear",
    "draw_field",
    "draw_view",
]
