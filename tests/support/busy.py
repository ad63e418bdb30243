"""Functions that a process of decoding may be asked to run, and that do not end well."""

from __future__ import annotations

import os
import time

import numpy as np


def echo(data: bytes) -> np.ndarray:
    """An array of these bytes, with two axes."""
    return np.frombuffer(data, np.uint8).reshape(2, -1)


def get_process_id() -> np.ndarray:
    return np.frombuffer(os.getpid().to_bytes(8, "big"), np.uint8)


def get_niceness_and_memory_limit() -> np.ndarray:
    """The niceness plus 20, and whether the address space is limited."""
    import resource

    numbers = (os.nice(0) + 20, resource.getrlimit(resource.RLIMIT_AS)[0] > 0)
    return np.array(numbers, np.uint8)


def keep_a_core_busy() -> np.ndarray:
    while True:
        pass


def sleep_long() -> np.ndarray:
    time.sleep(600)
    raise AssertionError


def touch_and_sleep(path: str) -> np.ndarray:
    """Make a file, which says that the call runs, and sleep."""
    with open(path, "wb"):
        return sleep_long()


def crash() -> np.ndarray:
    os.abort()


def allocate_too_much() -> np.ndarray:
    return np.zeros(1 << 44, np.uint8)


def print_something() -> np.ndarray:
    os.write(1, b"a library prints")
    return np.zeros(1, np.uint8)
