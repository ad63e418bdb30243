"""The process that `isolation.py` starts: it runs one function after another until its input ends.

python -m simsearch.images.decoding_worker CPU_LIMIT_S MEMORY_BYTES
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import BinaryIO

from simsearch.errors import ImageError, SimsearchError, UsageError

_NICENESS = 10
_OUT_OF_MEMORY_SCORE = "900"  # where memory runs out, the kernel ends this process and not the server
_STDERR = 2


def limit_process(memory_bytes: int) -> None:
    """Lower the priority of this process, limit its memory, and leave Ctrl-C to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_NICENESS)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(_OUT_OF_MEMORY_SCORE)
    if memory_bytes > 0:
        with contextlib.suppress(ImportError, ValueError, OSError):
            import resource

            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            if hard == resource.RLIM_INFINITY or memory_bytes < hard:
                resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, hard))


def serve(requests: BinaryIO, results: BinaryIO, cpu_limit_s: float) -> None:
    """Run the functions of the requests until the input ends. Imports what needs the limits of this process."""
    import json
    import pickle

    from simsearch.images.isolation import read_message, write_message
    from simsearch.images.work import limit_work

    while True:
        try:
            request = read_message(requests)
        except EOFError:
            return
        _set_cpu_timer(cpu_limit_s)
        header: dict[str, object]
        content: bytes | memoryview = b""
        try:
            work_limit_s, function, arguments, options = pickle.loads(request)  # written by our parent
            limit_work(work_limit_s)
            array = function(*arguments, **options)
            header, content = {"shape": list(array.shape)}, memoryview(array.tobytes())
        except MemoryError:
            header = _describe_error(ImageError("the picture", "not enough memory to decode it", "send a smaller one"))
        except (ImageError, UsageError) as error:
            header = _describe_error(error)
        _set_cpu_timer(0)
        write_message(results, json.dumps(header).encode())
        write_message(results, content)


def _describe_error(error: SimsearchError) -> dict[str, object]:
    path = getattr(error, "path", "")
    return {"kind": type(error).__name__, "path": path, "problem": error.problem, "advice": error.advice}


def _set_cpu_timer(seconds: float) -> None:
    """End this process by SIGPROF when it has used so much processor time from now on; 0 stops the timer."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    limit_process(int(sys.argv[2]))
    results_file = os.fdopen(os.dup(1), "wb")
    os.dup2(_STDERR, 1)  # what a library prints is no result
    serve(sys.stdin.buffer, results_file, float(sys.argv[1]))
