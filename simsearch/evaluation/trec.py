"""Export of a task and of its rankings in the forms of TREC, which trec_eval, ranx and ir_measures read.

`qrels` has a line `query 0 document 1` for each relevant image, a run has `query Q0 document rank score tag` for each
ranked image. An id is the path below the source, percent-encoded, so that it has no space. The score falls by one with
each rank: these programs sort by the score, and similarities do not always follow a re-ranked order.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from urllib.parse import quote_from_bytes

from simsearch.evaluation.labels import find_root, make_relative
from simsearch.evaluation.protocol import RetrievalTask
from simsearch.evaluation.ranking import RankingBlock
from simsearch.files import make_output_folder, replace_output_file

DEFAULT_DEPTH = 1000
"""The number of ranks in a run, as is usual at TREC."""


class TrecExport:
    """A folder with `qrels.txt` and a run for each row of a benchmark.

    `depth` is the number of ranks in a run; 0: all. A metric over the whole ranking, as mAP, is reproduced by a run
    that has all ranks.
    """

    def __init__(self, folder: str, task: RetrievalTask, source: str, depth: int) -> None:
        self._folder, self._task, self._depth = Path(folder), task, depth
        root = find_root(source, [path for image in task.images for path in image.paths])
        self._documents = [encode_path(image.paths[0], root) for image in task.images]
        self._queries = _make_unique([encode_path(query.path, root) for query in task.queries])

    def write_qrels(self) -> None:
        """Write the relevant images of every query.

        Raises `SimsearchError` where the file cannot be written.
        """
        with _replace_text_file(self._folder / "qrels.txt") as lines:
            for query, relevant in zip(self._queries, self._task.main_truth.relevant, strict=True):
                lines.writelines(f"{query} 0 {self._documents[position]} 1\n" for position in relevant.tolist())

    @contextmanager
    def open_run(self, tag: str) -> Iterator[RunWriter]:
        """Open `<tag>.run`, with `_` for other than letters, digits and `.+-`; it is complete when the block ends.

        Raises `SimsearchError` where the file cannot be written.
        """
        tag = re.sub(r"[^A-Za-z0-9.+-]", "_", tag)
        with _replace_text_file(self._folder / f"{tag}.run") as lines:
            yield RunWriter(lines, tag, self._task, self._queries, self._documents, self._depth)


class RunWriter:
    """A run that is being written, block by block."""

    def __init__(
        self, lines: TextIO, tag: str, task: RetrievalTask, queries: Sequence[str], documents: Sequence[str], depth: int
    ) -> None:
        self._lines, self._tag, self._task = lines, tag, task
        self._queries, self._documents, self._depth = queries, documents, depth

    def write(self, block: RankingBlock) -> None:
        """Write the rankings of a block, without the images that its queries ignore."""
        ignored = self._task.main_truth.ignored[block.queries]
        for query, order, left_out in zip(self._queries[block.queries], block.order, ignored, strict=True):
            n_ranked = len(order) - len(left_out)  # ignored images are at the end
            n_written = min(n_ranked, self._depth or n_ranked)
            self._lines.writelines(
                f"{query} Q0 {self._documents[position]} {rank} {n_written - rank + 1} {self._tag}\n"
                for rank, position in enumerate(order[:n_written].tolist(), 1)
            )


def prepare_trec_folder(folder: str) -> None:
    """Create the folder, before anything is measured.

    Raises `UsageError` when a file has that name, `SimsearchError` when it cannot be created or written to.
    """
    make_output_folder(folder)


def encode_path(path: str, root: str) -> str:
    """The path of a file below a root as an id: percent-encoded, so that it has no space; any bytes are kept."""
    return quote_from_bytes(os.fsencode(make_relative(path, root)), safe="/")


def _make_unique(names: Sequence[str]) -> list[str]:
    """Number the names that occur several times: a, a%232, ..."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}%23{seen[name]}")
    return unique


@contextmanager
def _replace_text_file(file: Path) -> Iterator[TextIO]:
    with replace_output_file(file) as part, part.open("w", encoding="ascii", newline="\n") as lines:
        yield lines
