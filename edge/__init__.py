"""The device: camera to differential, command line."""

import os

# The device's matrices are small: helper threads of NumPy's library would mostly wait, at full speed,
# on the cores that capture and interpreter are to have. NumPy reads this when it is loaded, which is later.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
