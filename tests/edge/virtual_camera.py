"""What is done with the virtual camera inside its root filesystem; prints what came of it as JSON.

Run by test_picamera2_real.py as ``python3 virtual_camera.py SCENARIO``, a function of this file.
"""

import json
import sys
import threading
from itertools import islice
from math import dist
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
from virtual_picamera2 import VirtualPicamera2

from edge.cameras import Frame
from edge.cameras.live import Limits
from edge.cameras.picamera2 import PiCamera
from hematovision.errors import HematoVisionError
from hematovision.finder import load_finder
from hematovision.images import read_image
from hematovision.optics import measure_field

UM_PER_PIXEL = 0.1


def camera(argument: str = "", limits: Limits | None = None) -> PiCamera:
    return PiCamera(argument, UM_PER_PIXEL, limits or Limits(frame_s=2.0), VirtualPicamera2)


def complaint(argument: str) -> str:
    try:
        with camera(argument):
            return "opened"
    except HematoVisionError as error:
        return f"{type(error).__name__}: {error}"


def threads_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]


def frames() -> dict[str, Any]:
    """Two openings of one camera object; of each, a few frames beside the file that they show."""
    files = [read_image(path) for path in sorted(Path("/opt/frames").iterdir())]
    one, openings, left_open = camera(), [], []
    for _ in range(2):
        with one:
            openings.append([_describe(frame, files) for frame in islice(one.frames(), 6)])
        left_open.append(len(list(Path("/proc/self/fd").iterdir())))
    return {"openings": openings, "left_open": left_open, "threads": threads_left()}


def _describe(frame: Any, files: list[Any]) -> dict[str, Any]:
    assert isinstance(frame, Frame), frame
    now = monotonic()
    off = [frame.image.astype(float) - file for file in files]
    shown = int(np.argmin([np.abs(one).mean() for one in off]))
    description = {
        "size": frame.image.shape[1::-1],
        "file": shown,
        "mean_error": float(np.abs(off[shown]).mean()),
        "color_error": off[shown].mean(axis=(0, 1)).tolist(),
        "age_s": now - frame.monotonic,
        "small": frame.small is not None and frame.small.shape[1::-1],
    }
    if frame.small is not None:
        field = measure_field(frame.image, UM_PER_PIXEL)
        other = measure_field(frame.image, UM_PER_PIXEL, small=frame.small)
        by_main, by_small = (
            sorted(region.center for region in load_finder().find(one)) for one in (field, other)
        )
        description |= {
            "cells": len(by_main),
            "cells_by_small": len(by_small),
            "farthest_px": max(map(dist, by_main, by_small)),
        }
    return description


def refusals() -> dict[str, Any]:
    """What is asked for and is not there."""
    asked = ("3", "exposure_us=8000", "focus=2", "lock_after=1", "width=1920,height=1080")
    complaints = {argument: complaint(argument) for argument in asked}
    with camera():
        complaints["busy"] = complaint("")
    complaints["after"] = complaint("")
    return {"complaints": complaints, "threads": threads_left()}


def no_camera() -> dict[str, Any]:
    """Nothing is attached."""
    return {"complaint": complaint(""), "threads": threads_left()}


def stops() -> dict[str, Any]:
    """libcamera's camera stops under picamera2 while frames are read; then it is opened again."""
    one, count, error, started = camera(), 0, "", monotonic()
    try:
        with one:
            for count, _ in enumerate(one.frames(), 1):
                if count == 2:
                    one._device.camera.stop()
                    started = monotonic()
    except HematoVisionError as caught:
        error = f"{type(caught).__name__}: {caught}"
    return {
        "frames": count,
        "error": error,
        "seconds": monotonic() - started,
        "threads": threads_left(),
        "again": complaint(""),
    }


def closed_while_waiting() -> dict[str, Any]:
    """Closed by another thread while a picture is waited for that never comes; each time opened again."""
    # A wait that is not interrupted outlasts the limit for closing.
    one, left_open, outcomes = camera(limits=Limits(frame_s=20, stop_s=5)), [], []
    for _ in range(3):
        one.open()
        waiting = one.frames()
        next(waiting)
        # Whoever does not give its requests back leaves the camera nothing to put a picture into.
        buffers = one._device.camera_config["buffer_count"]
        held = [one._device.capture_request(wait=False) for _ in range(buffers)]
        outcome: list[str] = []
        reader = threading.Thread(target=_exhaust, args=(waiting, outcome))
        reader.start()
        sleep(0.5)
        one.close()
        reader.join(5)
        held.clear()  # not before: libcamera's virtual camera goes on with requests that nobody has any more
        outcomes.append(outcome)
        left_open.append(len(list(Path("/proc/self/fd").iterdir())))
    return {"outcomes": outcomes, "left_open": left_open, "threads": threads_left(), "again": complaint("")}


def _exhaust(frames: Any, outcome: list[str]) -> None:
    try:
        for _ in frames:
            pass
        outcome.append("ended")
    except HematoVisionError as error:
        outcome.append(str(error))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(globals()[sys.argv[1]]()))
