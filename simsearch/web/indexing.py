"""Indexing of uploaded pictures by a process of its own, so that the server decodes nothing that strangers sent."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsearch.errors import CollectionBusy, SimsearchError
from simsearch.web.settings import ServerSettings
from simsearch.web.upload_folder import UploadFolder

_BUSY_RETRY_S, _MAX_BUSY_S = 1.0, 60.0
_PRIORITY = 10

_log = logging.getLogger("simsearch.web")


class IndexingFailed(SimsearchError):
    """Stored pictures could not be indexed."""


@dataclass(frozen=True, slots=True)
class IndexedUploads:
    """The result of indexing the folder of uploads: the reasons of pictures that were left out, by file name."""

    skipped: dict[str, str]


class UploadIndexer:
    """Indexes the folder of uploads with `simsearch index`. One run at a time; `end` may be called by any thread."""

    def __init__(self, settings: ServerSettings, folder: UploadFolder) -> None:
        self._settings = settings
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._new_names = set[str]()
        self._lock = threading.Lock()
        self._has_ended = False

    def add(self, names: list[str]) -> None:
        """Note pictures that were stored, and are removed again if the next run leaves them out."""
        with self._lock:
            self._new_names |= set(names)

    def run(self) -> IndexedUploads:
        """Index the folder; wait while another run writes to the collection. Raises `IndexingFailed`."""
        with self._lock:
            names, self._new_names = self._new_names, set()
        end = time.monotonic() + _MAX_BUSY_S
        while (document := self._run_once())["type"] == CollectionBusy.__name__ and time.monotonic() < end:
            time.sleep(_BUSY_RETRY_S)
        if document["type"]:
            with self._lock:
                self._new_names |= names
            _log.error("indexing %s: %s; %s", self._folder.path, document.get("problem"), document.get("advice"))
            raise IndexingFailed("the pictures are stored, but are not indexed yet", "try again later")
        skipped = {Path(skip["path"]).name: str(skip["reason"]) for skip in document["skipped"]}
        left_out = {name: reason for name, reason in skipped.items() if name in names}
        self._folder.remove(list(left_out))
        return IndexedUploads(left_out)

    def end(self) -> None:
        """End a run. What it has not indexed is indexed by the next one."""
        with self._lock:
            self._has_ended = True
            if self._process is not None:
                self._process.kill()

    def _run_once(self) -> dict[str, Any]:
        """The JSON document of a run; its `type` is that of its error, or empty."""
        command = [sys.executable, "-m", "simsearch", "index", str(self._folder.path), "--json"]
        command += ["--into", os.path.abspath(self._settings.collection)]
        command += ["--offline"] if self._settings.offline else []
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with self._lock:
            if self._has_ended:
                raise IndexingFailed("the server is stopping", "try again in a moment")
            self._process = process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
            )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _PRIORITY)
        out, told = process.communicate()
        try:
            document: dict[str, Any] = json.loads(out)
        except ValueError:
            lines = told.decode(errors="replace").splitlines()
            return {"type": "ended", "problem": lines[-1] if lines else f"exit status {process.returncode}"}
        error = document.get("error")
        return {"type": ""} | document if error is None else error
