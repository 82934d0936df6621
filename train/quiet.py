"""Keeping TensorFlow's chatter from the terminal without losing what matters."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from hematovision.errors import HematoVisionError


@contextmanager
def tensorflow_kept_quiet() -> Iterator[None]:
    """Keep back what is written to standard error, and show it only if something unexpected goes wrong.

    TensorFlow's libraries write dozens of lines about GPUs and dropped options straight to file descriptor 2,
    most of them before any log level applies.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except HematoVisionError:
            raise
        except Exception:
            kept.seek(0)
            os.write(shown, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)
