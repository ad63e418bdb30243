"""A loaded model, made ready to be opened on another machine, which has neither its files nor a network."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from simsearch.errors import ModelError
from simsearch.models.embedder import Embedder, LoadOptions, open_embedder
from simsearch.models.model import GraphBytes, Model


@dataclass(frozen=True, slots=True)
class PortableModel:
    """A model with all that it takes to load it.

    `graph` is what OpenVINO runs; without it `files` hold what TensorFlow reads, by their paths below one folder, of
    which the first is the model's own. The histogram needs neither.
    """

    model: Model
    graph: GraphBytes | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


def pack_model(embedder: Embedder) -> PortableModel:
    """What another machine needs to embed as `embedder` does: the same engine, the same graph.

    Raises `ModelError` when a file of the model cannot be read.
    """
    if embedder.engine == "openvino":
        from simsearch.models.openvino_runtime import OpenVinoEmbedder

        assert isinstance(embedder, OpenVinoEmbedder)  # the only one of that engine
        return PortableModel(embedder.model, embedder.serialize_graph())
    if embedder.engine == "tensorflow" and embedder.model.file is not None:
        return PortableModel(embedder.model, files=_read_files(Path(embedder.model.file)))
    return PortableModel(embedder.model)


def unpack_model(shipment: PortableModel, n_threads: int) -> Embedder:
    """Load the model, to embed with that many threads.

    Raises a `ModelError`.
    """
    model = shipment.model
    if shipment.graph is not None or model.runtime == "histogram":
        return open_embedder(model, LoadOptions(for_throughput=True, graph=shipment.graph, n_threads=n_threads))
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(n_threads))
    with tempfile.TemporaryDirectory(prefix="simsearch-") as folder:
        for name, content in shipment.files.items():
            file = Path(folder) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        if shipment.files:
            own = Path(next(iter(shipment.files)))
            model = replace(model, file=str(Path(folder) / own.parts[0]))
        return open_embedder(model, LoadOptions(engine="tensorflow", for_throughput=True))


def _read_files(place: Path) -> dict[str, bytes]:
    """A model file, or all files of a folder that is a model, by their paths from its parent on."""
    files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
    try:
        return {str(file.relative_to(place.parent)): file.read_bytes() for file in files}
    except OSError as error:
        raise ModelError(f"cannot read {place} ({error.strerror})", "check the path and its rights") from error
