"""Decoding in processes of their own: one that takes too long, or crashes, is ended, and the caller goes on.

A thread cannot be ended, and threads that decode compete with all others for the interpreter's lock. The processes run
at a low priority. What they return is read as plain bytes, never as pickles: a decoder that was taken over by a picture
has no way into the caller.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO

import numpy as np

from simsearch.errors import ImageError, NotAPicture, SimsearchError, UnreadableFile, UsageError
from simsearch.images.decode import Pixels
from simsearch.images.work import TooMuchWork
from simsearch.machine import count_cores, detect_memory_bytes

CPU_LIMIT_S = 10.0
"""Processor time for one picture. The slowest that are usual, JPEG 2000 of 50 megapixels, take half of it."""

WALL_LIMIT_S = 30.0
QUICK_LIMIT_S = 0.5
"""Estimated time of what counts as quick: a JPEG of 50 megapixels, a PNG of 20, a HEIC of 12."""

MAX_SLOW_CALLS = 2
_MIN_PROCESSES = 2
_MIN_MEMORY_BYTES = 1 << 30
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # others would only take address space
_LENGTH = struct.Struct(">Q")
_ADVICE = "open it in an image editor and save it again"
_ERRORS: dict[str, type[ImageError]] = {
    kind.__name__: kind for kind in (ImageError, NotAPicture, UnreadableFile, TooMuchWork)
}


class DecodingBusy(SimsearchError):
    """Too many pictures that take long are being decoded, or wait for it."""


class DecodingProcesses:
    """Processes that decode, started when they are needed. Safe for several threads.

    Half of them take quick pictures only, so that usual ones never wait for those that take seconds. At most
    `max_slow_calls` of the latter are decoded or wait; others fail at once. `cpu_limit_s` and `wall_limit_s` limit the
    time of one call. Each process may take its part of the memory.
    """

    def __init__(
        self,
        n_processes: int | None = None,
        *,
        max_slow_calls: int = MAX_SLOW_CALLS,
        cpu_limit_s: float = CPU_LIMIT_S,
        wall_limit_s: float = WALL_LIMIT_S,
    ) -> None:
        n_processes = max(_MIN_PROCESSES, n_processes or count_cores())
        memory_bytes = max(_MIN_MEMORY_BYTES, detect_memory_bytes() // n_processes)
        limits = (cpu_limit_s, wall_limit_s, memory_bytes)
        self._quick = _Lane(n_processes // 2, QUICK_LIMIT_S, limits)
        self._slow = _Lane(n_processes - n_processes // 2, None, limits)
        self._slow_calls = threading.BoundedSemaphore(max_slow_calls)

    def call(self, function: Callable[..., Pixels], /, *arguments: object, **options: object) -> Pixels:
        """Run a function of a module in a process, and return its array of bytes; wait for a process that is idle.

        Raises `ImageError` and `UsageError` as the function does, `ImageError` where it took too long or crashed, and
        `DecodingBusy`.
        """
        try:
            return self._quick.call(function, arguments, options)
        except TooMuchWork:
            if not self._slow_calls.acquire(blocking=False):
                raise DecodingBusy("other large pictures are being decoded", "try again, or send it smaller") from None
        try:
            return self._slow.call(function, arguments, options)
        finally:
            self._slow_calls.release()

    @property
    def is_busy(self) -> bool:
        """Whether a call runs or waits."""
        return self._quick.n_calls + self._slow.n_calls > 0

    def close(self) -> None:
        """End all processes; calls that run or wait fail."""
        self._quick.close()
        self._slow.close()


class _Lane:
    """Some processes that take any call, or only those of work up to a limit."""

    def __init__(self, n_processes: int, work_limit_s: float | None, limits: tuple[float, float, int]) -> None:
        self._work_limit_s, self._limits = work_limit_s, limits
        self._idle: queue.LifoQueue[_DecodingProcess | None] = queue.LifoQueue()  # the last used is the first again
        for _ in range(n_processes):
            self._idle.put(None)
        self._running: set[_DecodingProcess] = set()
        self.n_calls = 0
        self._lock = threading.Lock()
        self._is_closed = False

    def call(self, *request: object) -> Pixels:
        """Run a request `(function, arguments, options)` when a process is idle."""
        with self._lock:
            self.n_calls += 1
        process = self._idle.get()
        try:
            if process is None or not process.is_alive:
                process = self._start()
            return process.call((self._work_limit_s, *request))
        finally:
            with self._lock:
                self.n_calls -= 1
                if process is not None and not process.is_alive:
                    self._running.discard(process)
                    process = None
            self._idle.put(process)

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            self._is_closed = True
            running = list(self._running)
        for process in running:
            process.end()

    def _start(self) -> _DecodingProcess:
        with self._lock:
            if self._is_closed:
                raise DecodingBusy("decoding has been stopped", "try again when the server has started")
            process = _DecodingProcess(*self._limits)
            self._running.add(process)
            return process


class _DecodingProcess:
    """One process and its two pipes. For one thread at a time; `end` may be called by any."""

    def __init__(self, cpu_limit_s: float, wall_limit_s: float, memory_bytes: int) -> None:
        self._cpu_limit_s, self._wall_limit_s = cpu_limit_s, wall_limit_s
        command = [sys.executable, "-m", "simsearch.images.decoding_worker", str(cpu_limit_s), str(memory_bytes)]
        environment = os.environ | _ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._has_timed_out = False

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def call(self, request: tuple[object, ...]) -> Pixels:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # both are pipes
        assert stdout is not None
        timer = threading.Timer(self._wall_limit_s, self._time_out)
        timer.daemon = True
        timer.start()
        try:
            write_message(stdin, pickle.dumps(request))
            header = json.loads(read_message(stdout))
            content = read_message(stdout)
        except (OSError, EOFError, ValueError) as error:
            raise self._describe_end() from error
        finally:
            timer.cancel()
        if "shape" in header:
            return np.frombuffer(content, np.uint8).reshape(header["shape"])
        if header["kind"] == UsageError.__name__:
            raise UsageError(header["problem"], header["advice"])
        raise _ERRORS.get(header["kind"], ImageError)(header["path"], header["problem"], header["advice"])

    def end(self) -> None:
        """Kill the process and wait for it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, ValueError):  # another thread may be writing to it
                if pipe is not None:
                    pipe.close()

    def _time_out(self) -> None:
        self._has_timed_out = True
        self._process.kill()

    def _describe_end(self) -> ImageError:
        self._process.kill()
        status = self._process.wait()
        self.end()
        name = "the picture"
        if self._has_timed_out:
            return ImageError(name, f"decoding it takes more than {self._wall_limit_s:g} s", _ADVICE)
        if status == -getattr(signal, "SIGPROF", 0):
            return ImageError(name, f"decoding it takes more than {self._cpu_limit_s:g} s of processor time", _ADVICE)
        return ImageError(name, "the decoder was stopped or has crashed", _ADVICE)


def write_message(stream: IO[bytes], content: bytes | memoryview) -> None:
    """Write bytes with their length."""
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def read_message(stream: IO[bytes]) -> bytes:
    """Read what `write_message` wrote. Raises `EOFError` where the stream ends before."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    content = stream.read(length)
    if len(content) < length:
        raise EOFError
    return content
