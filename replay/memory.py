"""Python's cycle collector during a replay. It knows no replay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Without looking for garbage in cycles, which a replay does not make (a test holds it): what is over is freed at once.

    Looking through all that is alive again and again took a quarter of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
