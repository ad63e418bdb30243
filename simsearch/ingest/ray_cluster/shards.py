"""Shards: the embedded files of one block as a Parquet file, one row for each file, in a folder beside the catalog.

Workers encode shards, and the driver writes them into the folder, so that no storage is shared with the cluster.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from simsearch.errors import ImageError, NotAPicture, UnreadableFile
from simsearch.files import replace_file
from simsearch.images.metadata import ExifMetadata
from simsearch.images.perceptual_hash import PictureHashes
from simsearch.images.statistics import PictureStatistics
from simsearch.ingest.embed import NewViews
from simsearch.ingest.prepare import PreparedFile
from simsearch.sources.scan import FoundFile
from simsearch.store.catalog import ImageProperties
from simsearch.store.connection import SHARDS_NAME

_FAILURE_KINDS: dict[str, type[ImageError]] = {
    "not a picture": NotAPicture,
    "unreadable": UnreadableFile,
    "broken": ImageError,
}
"""Names of error classes in a shard; subclasses come before their base class."""

_SCHEMA = pa.schema(
    [
        ("path", pa.binary()),  # a file name need not be UTF-8
        ("size_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("etag", pa.string()),
        ("digest", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("taken_at", pa.string()),
        ("camera", pa.string()),
        ("hashes", pa.list_(pa.int64())),  # upright, mirrored
        ("statistics", pa.list_(pa.float64())),  # brightness, contrast, sharpness
        ("numbers", pa.list_(pa.int32())),
        ("vectors", pa.list_(pa.float32())),  # of all numbers, concatenated
        ("failure", pa.string()),
        ("problem", pa.string()),
        ("advice", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class ShardContent:
    """Files without their pixels, in order, and the new views of each content by digest."""

    files: Sequence[PreparedFile]
    new_views: Mapping[str, NewViews]


def encode_shard(content: ShardContent) -> bytes:
    """Encode a shard as the bytes of a Parquet file."""
    left = dict(content.new_views)
    rows = [_encode_file(file, left.pop(file.digest, None)) for file in content.files]
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, _SCHEMA), sink, compression="zstd")
    return sink.getvalue()


def decode_shard(shard: Path) -> ShardContent:
    """Decode the file of a shard.

    Raises `ValueError` where the file is not a complete shard.
    """
    try:
        table = parquet.read_table(shard)
        if table.schema != _SCHEMA:
            raise ValueError(f"{shard} has unexpected columns")
        numbers, vectors = table["numbers"].to_pylist(), table["vectors"].combine_chunks()
        rows = table.drop_columns(["numbers", "vectors"]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{shard} is not a complete shard ({error})") from error
    new = {}
    for place, row in enumerate(rows):
        if numbers[place]:
            flat: Any = vectors[place].values.to_numpy(zero_copy_only=False)
            new[row["digest"]] = NewViews(numbers[place], flat.reshape(len(numbers[place]), -1))
    return ShardContent([_decode_file(row) for row in rows], new)


def _encode_file(file: PreparedFile, new: NewViews | None) -> dict[str, Any]:
    found, facts, failure = file.file, file.properties, file.failure
    noted = facts.metadata if facts else ExifMetadata()
    kind = next((kind for kind, error in _FAILURE_KINDS.items() if isinstance(failure, error)), None)
    return {
        "path": os.fsencode(found.path), "size_bytes": found.size_bytes, "mtime_ns": found.mtime_ns,
        "etag": found.etag, "digest": file.digest,
        "width": facts and facts.width, "height": facts and facts.height, "format": facts and facts.format,
        "taken_at": noted.taken_at, "camera": noted.camera,
        "hashes": facts and facts.hashes, "statistics": facts and facts.statistics and astuple(facts.statistics),
        "numbers": list(new.numbers) if new else [], "vectors": new.vectors.ravel() if new else [],
        "failure": kind, "problem": failure and failure.problem, "advice": failure and failure.advice,
    }  # fmt: skip


def _decode_file(row: Mapping[str, Any]) -> PreparedFile:
    file = FoundFile(os.fsdecode(row["path"]), row["size_bytes"], row["mtime_ns"], row["etag"])
    if row["failure"] is not None:
        failure = _FAILURE_KINDS[row["failure"]](file.path, row["problem"], row["advice"])
        return PreparedFile(file, failure=failure)
    metadata = ExifMetadata(row["taken_at"], row["camera"])
    if row["width"] is None:
        return PreparedFile(file, row["digest"])
    hashes = row["hashes"] and PictureHashes(*row["hashes"])
    statistics = row["statistics"] and PictureStatistics(*row["statistics"])
    facts = ImageProperties(row["width"], row["height"], row["format"], metadata, hashes, statistics)
    return PreparedFile(file, row["digest"], facts)


class ShardFolder:
    """The folder of the shards of one run key: one model, its views and limits."""

    def __init__(self, collection: Path, key: str) -> None:
        self._folder = collection / SHARDS_NAME / key

    def list_shards(self) -> Iterator[Path]:
        """List the shard files, sorted by name."""
        yield from sorted(self._folder.glob("block-*.parquet"))

    def write_shard(self, number: int, shard: bytes) -> Path:
        """Write the shard of a block atomically, under a new name so that shards of a killed run stay.

        Raises `OSError`.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._choose_free_path(number)
        with replace_file(place, prefix=".shard-") as temporary:
            temporary.write_bytes(shard)
        return place

    def _choose_free_path(self, number: int) -> Path:
        place, attempt = self._folder / f"block-{number:06}.parquet", 1
        while place.exists():
            place, attempt = self._folder / f"block-{number:06}-{attempt}.parquet", attempt + 1
        return place

    def clear(self) -> None:
        """Delete all shards, once they are merged or outdated."""
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._folder.parent.rmdir()
        except OSError:  # shards of another model remain, or the folder is missing
            return
