"""A tflite-runtime that is none: what a test writes into it happens in the process that is measured.

It is found before an installed one through PYTHONPATH, which workers keep.
"""

import textwrap
from pathlib import Path

import pytest

from benchmarks.contenders import Contender
from hematovision.classifier import default_model_path

_INTERPRETER = """
import ctypes, enum, fcntl, os, signal, sys, time
import numpy as np

class OpResolverType(enum.Enum):
    AUTO = 0
    BUILTIN_WITHOUT_DEFAULT_DELEGATES = 3

class Interpreter:
    def __init__(self, model_content, num_threads, experimental_op_resolver_type):
        self.calls = 0
        self.tensors = [np.zeros((1, 128, 128, 3), np.int8), np.zeros((1, 4), np.int8)]
        {loading}

    def allocate_tensors(self):
        pass

    def get_input_details(self):
        return [dict(index=0, shape=(1, 128, 128, 3), dtype=np.int8, quantization=(1.0, -128))]

    def get_output_details(self):
        return [dict(index=1, shape=(1, 4), dtype=np.int8, quantization=(0.5, 0))]

    def tensor(self, index):
        return lambda: self.tensors[index]

    def invoke(self):
        self.calls += 1
        self.tensors[1][0] = 1, 2, 3, 4
        {invoking}
"""


def install_impostor(
    folder: Path, monkeypatch: pytest.MonkeyPatch, loading: str = "pass", invoking: str = "pass"
) -> Contender:
    """Put it where workers find it; what it does on loading and at each call, as Python text.

    Returns:
        a contender that runs on it: the shipped int8 model's contract, logits 0.5, 1, 1.5 and 2.
    """
    package = folder / "tflite_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "0.0"\n')
    (package / "interpreter.py").write_text(
        _INTERPRETER.format(
            loading=textwrap.indent(textwrap.dedent(loading), 8 * " ").lstrip(),
            invoking=textwrap.indent(textwrap.dedent(invoking), 8 * " ").lstrip(),
        )
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return Contender("hematovision", "int8", "tflite-runtime", True, 1, str(default_model_path()))
