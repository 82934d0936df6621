"""Learning, as classifier and finder do it: batches made ahead, a learning rate that rises and falls."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import keras

WARM_UP_EPOCHS = 1

_THREADS = 2
_AHEAD = 8  # batches

_Batch = TypeVar("_Batch")


def made_ahead(make_batch: Callable[[int], _Batch], steps: int) -> Iterator[_Batch]:
    """Make the batches of so many steps by threads, ahead of their use, and yield them in order.

    Keras's own loader for that, PyDataset, was seen to stall at the end of short epochs.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead = deque(pool.submit(make_batch, step) for step in range(min(_AHEAD, steps)))
        for step in range(steps):
            batch = ahead.popleft().result()
            if step + _AHEAD < steps:
                ahead.append(pool.submit(make_batch, step + _AHEAD))
            yield batch


def compile_network(
    network: keras.Model,
    loss: object,
    learning_rate: float,
    weight_decay: float,
    steps: int,
    epochs: int,
) -> None:
    """Compile a network for so many epochs of so many steps: the learning rate rises, then falls to 0."""
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=max(1, steps * (epochs - WARM_UP_EPOCHS)),
        warmup_target=learning_rate,
        warmup_steps=steps * WARM_UP_EPOCHS,
    )
    network.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=weight_decay),
        loss=loss,
        jit_compile=False,  # on a CPU compiling made training ten times slower
    )
