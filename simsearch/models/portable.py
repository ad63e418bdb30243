"""Serialize a loaded model, so that another machine can open it without the model's files and without a network."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from simsearch.errors import ModelError
from simsearch.models.embedder import Embedder
from simsearch.models.loader import LoadOptions, open_embedder
from simsearch.models.model import GraphBytes, Model


@dataclass(frozen=True, slots=True)
class PortableModel:
    """A model with everything that is needed to load it.

    `graph` is the OpenVINO graph. Without it, `files` are the files that TensorFlow reads, by their paths relative to
    one folder; the first path starts with the name of the model file or folder. The histogram needs neither.
    """

    model: Model
    graph: GraphBytes | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


def pack_model(embedder: Embedder) -> PortableModel:
    """Pack a model such that another machine embeds with the same engine and the same graph.

    Raises `ModelError` when a file of the model cannot be read.
    """
    if embedder.engine == "openvino":
        from simsearch.models.openvino_runtime import OpenVinoEmbedder

        assert isinstance(embedder, OpenVinoEmbedder)  # the only embedder with this engine
        return PortableModel(embedder.model, embedder.serialize_graph())
    if embedder.engine == "tensorflow" and embedder.model.file is not None:
        return PortableModel(embedder.model, files=_read_files(Path(embedder.model.file)))
    return PortableModel(embedder.model)


def unpack_model(portable: PortableModel, n_threads: int) -> Embedder:
    """Load a packed model for throughput, with the given number of threads.

    Raises `ModelError`.
    """
    model = portable.model
    if portable.graph is not None or model.runtime == "histogram":
        return open_embedder(model, LoadOptions(for_throughput=True, graph=portable.graph, n_threads=n_threads))
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(n_threads))
    with tempfile.TemporaryDirectory(prefix="simsearch-") as folder:
        for name, content in portable.files.items():
            file = Path(folder) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        if portable.files:
            own = Path(next(iter(portable.files)))
            model = replace(model, file=str(Path(folder) / own.parts[0]))
        return open_embedder(model, LoadOptions(engine="tensorflow", for_throughput=True))


def _read_files(path: Path) -> dict[str, bytes]:
    """Read a model file, or all files of a model folder; keys are paths relative to the parent folder."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    try:
        return {str(file.relative_to(path.parent)): file.read_bytes() for file in files}
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error.strerror})", "check the path and its permissions") from error
