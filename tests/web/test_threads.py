"""Threads of the server are waited for, but never longer than the given time."""

from __future__ import annotations

import threading
import time

from simsearch.web.threads import WorkerThreads


def test_running_calls_finish_and_waiting_ones_are_dropped():
    threads, is_open = WorkerThreads("test", 1), threading.Event()
    running, waiting = threads.submit(is_open.wait), threads.submit(is_open.wait)
    threading.Timer(0.1, is_open.set).start()
    assert threads.close(time.monotonic() + 20)
    assert running.result() is True
    assert waiting.cancelled()
    assert threads.n_unfinished == 0


def test_a_call_that_never_ends_is_not_waited_for():
    threads, is_open = WorkerThreads("test", 2), threading.Event()
    running = threads.submit(is_open.wait)
    try:
        assert not threads.close(time.monotonic() + 0.1)
        assert not running.done()
    finally:
        is_open.set()
    assert running.result() is True
