"""The optional parts of an installation: which package is of which, and the command that brings them."""

import os
import shlex
import sys
import sysconfig

from hematovision.errors import HematoVisionError, MissingPartError

# What a missing package means to the person who called a command.
_EXTRA_OF_PACKAGE = {
    **dict.fromkeys(("tensorflow", "keras", "sklearn", "matplotlib", "kagglehub"), "train"),
    **dict.fromkeys(
        ("scipy", "tflite_runtime", "ai_edge_litert", "flask", "waitress", "paho", "prometheus_client"),
        "edge",
    ),
    **dict.fromkeys(("jinja2", "jsonschema", "onnx", "onnxruntime", "tf2onnx"), "bench"),
}


def install_command(extra: str) -> str:
    """The command that adds an optional part to this installation.

    It is right wherever the installation came from, an index, a wheel or a checkout: pip finds that
    hematovision itself is there, and fetches only what the part needs.
    """
    packages = sysconfig.get_path("purelib")
    sudo = "" if os.access(packages, os.W_OK) else "sudo "
    return f"{sudo}{shlex.quote(sys.executable)} -m pip install 'hematovision[{extra}]'"


def missing_part(error: ModuleNotFoundError, extra: str | None = None) -> HematoVisionError:
    """What to say of a module that is missing; where it is one of ours, the error is raised again.

    ``extra``: what the command that was called needs, where that is more than the package tells.
    """
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRA_OF_PACKAGE:
        raise error  # a fault of ours, not of the installation: show where
    command = install_command(extra or _EXTRA_OF_PACKAGE[package])
    return MissingPartError(f"{package} is not installed; {command} brings it")
