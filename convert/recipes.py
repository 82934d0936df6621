"""The vocabulary of conversion: what each recipe's name means, and where its file loads.

A name says how numbers are stored, weights first where they differ from what is computed with::

    float32   weights float32, computed in float32: the Keras model as it is
    float16   weights float16, widened when the file is loaded, computed in float32
    dynamic   weights int8, activations quantised from layer to layer by the range they turn out to have
    int8      weights and activations int8, with ranges fixed by calibration; int8 in, int8 out
    int16x8   weights int8, activations int16, with ranges fixed by calibration; float32 in, float32 out

``int8`` is the device's: with XNNPACK's kernels it takes half the time of float32 at a third of the size.
Its input is a crop with the top bit flipped (scale 1, zero point -128). ``int16x8`` is for seeing what int8
loses: no runtime has fast kernels for it. It takes float32, because an int16 input is symmetric about 0 and
would have the device divide each crop by 255 / 32767.
"""

from dataclasses import dataclass

_BOTH = ("litert", "tflite-runtime")


@dataclass(frozen=True)
class Recipe:
    """One way of writing the network as a TensorFlow Lite file.

    ``runtimes``: names in `hematovision.runtime.PACKAGES` on which the file loads; tests load it on each.
    Types are NumPy's names. ``integer_only``: between input and output, nothing is left in floating point.
    """

    name: str
    what: str
    runtimes: tuple[str, ...]
    needs_calibration: bool
    input_dtype: str
    output_dtype: str
    weights_dtype: str
    integer_only: bool


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("float32", "as trained", _BOTH, False, "float32", "float32", "float32", False),
        Recipe("float16", "half the size", _BOTH, False, "float32", "float32", "float16", False),
        # TensorFlow 2.19.1 writes FULLY_CONNECTED version 12 (per-channel weights), which tflite-runtime
        # 2.14.0 lacks.
        Recipe("dynamic", "int8 weights", ("litert",), False, "float32", "float32", "int8", False),
        Recipe("int8", "full integer, for the device", _BOTH, True, "int8", "int8", "int8", True),
        Recipe("int16x8", "int16 activations, int8 weights", _BOTH, True, "float32", "float32", "int8", True),
    )
}
