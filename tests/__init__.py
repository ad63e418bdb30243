"""Tests of simsearch.

Each worker of pytest-xdist computes in one thread, and so do the processes that it starts: several workers already use
every core, and threads that wait for each other would only take time from them. This module is imported before NumPy,
FAISS and TensorFlow, which read these variables once; simsearch reads the first for OpenVINO. Values that the user has
set are kept.

Compiled modules are written, even where PYTHONDONTWRITEBYTECODE is set: the tests start hundreds of processes, and each
would compile the package again, which takes longer than what it is asked for.

OpenVINO, which some modules import before simsearch does, finds no package that reports each conversion to Google
Analytics: it would do so in forks of two seconds. That simsearch reports nothing is tested in a process of its own.
"""

import os
import sys

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # documented: its import then fails

if "PYTEST_XDIST_WORKER" in os.environ:
    for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(_variable, "1")
