"""A process that loads the classifier, looks at a field with one finder or none, and says its peak of memory.

Arguments: the name of the finder (none, finder, baseline), a finder's file or an empty string, and a field as
an array in a file. Writes the peak in MiB as one line.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from benchmarks.finder.finders import BASELINE, FINDER, open_finder
from benchmarks.finder.threshold_rule import find_by_threshold
from benchmarks.real_fields import FIELD_UM_PER_PIXEL
from hematovision.classifier import Classifier, default_model_path
from hematovision.model_file import read_model_file

_LOOKS = 5


def main(name: str, file: str, field: str) -> None:
    """Do what the device does with a field, with one finder or none."""
    cv2.setNumThreads(1)
    image = np.load(field)
    classifier = Classifier(read_model_file(default_model_path()), threads=1)
    side = classifier.model.manifest.crop.side_px
    classifier.predict(np.full((1, side, side, 3), 200, np.uint8))
    # What it took for a moment to load the classifier shall not hide what the finder adds.
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    if name == FINDER:
        find = open_finder(Path(file) if file else None)
    elif name == BASELINE:
        find = find_by_threshold
    else:
        find = None
    for _ in range(_LOOKS if find else 0):
        assert find is not None
        find(image, FIELD_UM_PER_PIXEL)
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM:"))
    sys.stdout.write(f"{int(peak.split()[1]) / 1024}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
